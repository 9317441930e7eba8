//! From an expression to words.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::meaning::{Expression, Extreme, ROAD};
use super::space::{Position, Relation, Side};
use super::words::{self, Word};
use crate::sample::Category;

/// Whether a phrasing may be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phrasing {
    /// From the trained lists.
    Train,
    /// With a way of asking (and sometimes a noun) from the held-out lists.
    HeldOut,
}

/// Puts an expression into words. With [`Phrasing::HeldOut`] at least the way of asking is a held-out one.
pub fn sentence(expression: &Expression, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> String {
    let template = match phrasing {
        Phrasing::Train => pick(words::TEMPLATES, rng),
        Phrasing::HeldOut => pick(words::HELD_OUT_TEMPLATES, rng),
    };
    let phrase = noun_phrase(expression, phrasing, true, rng);
    let verb = if expression.plural { "are" } else { "is" };
    let mut text = template.replace("{}", &phrase).replace("[is]", verb);
    if rng.random_bool(0.15) {
        text = capitalised(&text);
        if !text.ends_with('?') && rng.random_bool(0.5) {
            text.push('.');
        }
    }
    text
}

fn pick<'a>(list: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    list.choose(rng).copied().unwrap_or("{}")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The noun phrase alone; `outer` ones may drop their article.
pub fn noun_phrase(expression: &Expression, phrasing: Phrasing, outer: bool, rng: &mut ChaCha8Rng) -> String {
    if expression.categories.is_empty() && expression.foreign.is_none() {
        return pick(&["this", "this one", "this here", "that", "the thing here"], rng).to_owned();
    }
    let mut parts: Vec<String> = vec![article(expression, outer, rng).to_owned()];
    let mut tail: Vec<String> = Vec::new();
    if let Some(size) = expression.size {
        parts.push(
            match size {
                Extreme::Largest => pick(&["largest", "biggest"], rng),
                Extreme::Smallest => pick(&["smallest", "tiniest"], rng),
            }
            .to_owned(),
        );
    }
    if let Some((number, side)) = expression.ordinal {
        let (before, after) = ordinal(number, side, rng);
        parts.push(before);
        tail.push(after);
    }
    let mut position = expression.position.map(|p| place(p, expression.regional, rng));
    if let Some((before, true)) = position {
        parts.push(before.to_owned());
        position = None;
    }
    if let Some(colour) = expression.colour {
        parts.push(pick(words::colour_words(colour), rng).to_owned());
    }
    parts.push(noun(expression, phrasing, rng).to_owned());
    parts.extend(tail);
    if let Some((after, _)) = position {
        parts.push(after.to_owned());
    }
    if let Some((relation, anchor)) = &expression.relation {
        parts.push(link(*relation, rng).to_owned());
        parts.push(noun_phrase(anchor, phrasing, false, rng));
    }
    if expression.hint.is_some() && rng.random_bool(0.3) {
        parts.push("here".to_owned());
    }
    parts.retain(|p| !p.is_empty());
    parts.join(" ")
}

fn article(expression: &Expression, outer: bool, rng: &mut ChaCha8Rng) -> &'static str {
    if expression.plural {
        return pick(&["all", "all", "all the", "the", "every one of the", ""], rng);
    }
    if expression.hint.is_some() {
        return pick(&["this", "the", "that", ""], rng);
    }
    if outer && rng.random_bool(0.25) { "" } else { "the" }
}

fn noun(expression: &Expression, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> &'static str {
    let list = if let Some(foreign) = expression.foreign {
        &words::FOREIGN[foreign..=foreign]
    } else {
        word_list(&expression.categories)
    };
    let allowed: Vec<&Word> = list.iter().filter(|w| !w.held_out || phrasing == Phrasing::HeldOut).collect();
    // The first noun is the commonest; a held-out phrasing takes a held-out noun in a third of the cases.
    let kept = allowed.iter().find(|w| w.held_out).filter(|_| rng.random_bool(0.33));
    let word = match (kept, allowed.first()) {
        (Some(word), _) => word,
        (None, Some(first)) if rng.random_bool(0.55) => first,
        _ => match allowed.choose(rng) {
            Some(word) => word,
            None => return "thing",
        },
    };
    if expression.plural { word.plural } else { word.singular }
}

/// Nouns that mean exactly these categories.
pub fn word_list(categories: &[Category]) -> &'static [Word] {
    match categories {
        [one] => words::nouns(*one),
        many if many.len() == ROAD.len() => words::VEHICLE,
        _ => words::COURT,
    }
}

fn ordinal(number: usize, side: Side, rng: &mut ChaCha8Rng) -> (String, String) {
    let counted = ["first", "second", "third", "fourth", "fifth", "sixth"];
    let from = match side {
        Side::Left => pick(&["from the left", "from left", "counting from the left"], rng),
        Side::Right => pick(&["from the right", "from right", "counting from the right"], rng),
        Side::Top => pick(&["from the top", "from top", "counting from the top"], rng),
        Side::Bottom => pick(&["from the bottom", "from bottom", "counting from the bottom"], rng),
    };
    if number == 1 && rng.random_bool(0.6) {
        let before = match side {
            Side::Left => "leftmost",
            Side::Right => "rightmost",
            Side::Top => "topmost",
            Side::Bottom => "bottommost",
        };
        return (before.to_owned(), String::new());
    }
    (counted.get(number - 1).copied().unwrap_or("last").to_owned(), from.to_owned())
}

/// Words of a position and whether they stand before the noun.
fn place(position: Position, regional: bool, rng: &mut ChaCha8Rng) -> (&'static str, bool) {
    if !regional && rng.random_bool(0.2) {
        let before = match position {
            Position::Left => "left",
            Position::Right => "right",
            Position::Top => "top",
            Position::Bottom => "bottom",
            Position::Centre => "central",
            Position::TopLeft => "top left",
            Position::TopRight => "top right",
            Position::BottomLeft => "bottom left",
            Position::BottomRight => "bottom right",
        };
        return (before, true);
    }
    let after: &[&'static str] = match position {
        Position::Left => &["on the left", "at the left", "on the left side", "to the left", "on the left hand side"],
        Position::Right => {
            &["on the right", "at the right", "on the right side", "to the right", "on the right hand side"]
        }
        Position::Top => &["at the top", "in the upper part", "on the top side", "at the top of the image"],
        Position::Bottom => &["at the bottom", "in the lower part", "on the bottom side", "at the bottom of the image"],
        Position::Centre => {
            &["in the middle", "in the centre", "in the center", "at the centre", "in the middle of the image"]
        }
        Position::TopLeft => &["at the top left", "in the top left corner", "in the upper left", "top left"],
        Position::TopRight => &["at the top right", "in the top right corner", "in the upper right", "top right"],
        Position::BottomLeft => {
            &["at the bottom left", "in the bottom left corner", "in the lower left", "bottom left"]
        }
        Position::BottomRight => {
            &["at the bottom right", "in the bottom right corner", "in the lower right", "bottom right"]
        }
    };
    (pick(after, rng), false)
}

fn link(relation: Relation, rng: &mut ChaCha8Rng) -> &'static str {
    let list: &[&'static str] = match relation {
        Relation::NextTo => &["next to", "beside", "by", "near", "right next to"],
        Relation::LeftOf => &["left of", "to the left of", "on the left of"],
        Relation::RightOf => &["right of", "to the right of", "on the right of"],
        Relation::Above => &["above"],
        Relation::Below => &["below", "beneath"],
        Relation::Closest => &["closest to", "nearest to"],
    };
    pick(list, rng)
}
