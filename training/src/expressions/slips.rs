//! Typing and speech-recognition slips that leave the meaning alone.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::phrase::Phrasing;
use super::words;
use crate::sample::{Category, Colour};

/// Puts one or two slips into a text, or `None` when no word offers itself.
///
/// A slip never turns one known word into another (a "van" must not become a "fan" by typing, which only a recogniser
/// hears). Held out of training: two words run together, and the spellings of
/// [`words::HELD_OUT_MISHEARD`].
pub fn slip(text: &str, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> Option<String> {
    let mut parts: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let mut kinds: Vec<u8> = match phrasing {
        Phrasing::Train => vec![0, 0, 1, 2],
        Phrasing::HeldOut => vec![0, 3, 4],
    };
    kinds.shuffle(rng);
    let before = parts.clone();
    for kind in kinds {
        match kind {
            0 => mistype(&mut parts, rng),
            1 => mishear(&mut parts, words::MISHEARD, rng),
            2 => hesitate(&mut parts, rng),
            3 => mishear(&mut parts, words::HELD_OUT_MISHEARD, rng),
            _ => run_together(&mut parts, rng),
        }
        if parts != before {
            if parts.len() > 4 && rng.random_bool(0.25) {
                mistype(&mut parts, rng);
            }
            return Some(parts.join(" "));
        }
    }
    None
}

fn known() -> &'static BTreeSet<&'static str> {
    static KNOWN: OnceLock<BTreeSet<&'static str>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let nouns = Category::ALL.iter().flat_map(|c| words::nouns(*c));
        let nouns = nouns.chain(words::VEHICLE).chain(words::COURT).chain(words::FOREIGN);
        let mut all: BTreeSet<&str> = nouns.flat_map(|w| w.singular.split(' ').chain(w.plural.split(' '))).collect();
        all.extend(Colour::ALL.iter().flat_map(|c| words::colour_words(*c)));
        all.extend(words::TEMPLATES.iter().chain(words::HELD_OUT_TEMPLATES).flat_map(|t| t.split(' ')));
        all.extend([
            "left",
            "right",
            "top",
            "bottom",
            "upper",
            "lower",
            "middle",
            "centre",
            "center",
            "central",
            "corner",
            "next",
            "near",
            "nearest",
            "closest",
            "beside",
            "above",
            "below",
            "beneath",
            "largest",
            "biggest",
            "smallest",
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "from",
            "side",
            "hand",
            "part",
            "every",
            "leftmost",
            "rightmost",
            "topmost",
            "bottommost",
            "here",
            "this",
            "that",
        ]);
        all
    })
}

/// Whether a word is one of the language's own.
pub(super) fn is_known(word: &str) -> bool {
    known().contains(word)
}

fn mistype(parts: &mut [String], rng: &mut ChaCha8Rng) {
    let long: Vec<usize> = (0..parts.len()).filter(|i| parts[*i].len() >= 3 && parts[*i].is_ascii()).collect();
    let Some(&at) = long.choose(rng) else { return };
    for _ in 0..4 {
        let wrong = mistyped(&parts[at], rng);
        if wrong != parts[at] && !known().contains(wrong.as_str()) {
            parts[at] = wrong;
            return;
        }
    }
}

fn mistyped(word: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<u8> = word.bytes().collect();
    let at = rng.random_range(0..letters.len());
    // Short words keep their letters: "van" without one is no longer a van.
    let kind = if letters.len() < 4 { rng.random_range(2..4) } else { rng.random_range(0..4) };
    match kind {
        0 => {
            let first = at.min(letters.len() - 2);
            letters.swap(first, first + 1);
        }
        1 => {
            letters.remove(at);
        }
        2 => {
            let twice = letters[at];
            letters.insert(at, twice);
        }
        _ => letters[at] = neighbour(letters[at], rng),
    }
    String::from_utf8(letters).unwrap_or_else(|_| word.to_owned())
}

/// A key beside this one on a QWERTY keyboard.
fn neighbour(letter: u8, rng: &mut ChaCha8Rng) -> u8 {
    for row in [&b"qwertyuiop"[..], b"asdfghjkl", b"zxcvbnm"] {
        if let Some(at) = row.iter().position(|l| *l == letter.to_ascii_lowercase()) {
            let beside = if at == 0 || (at + 1 < row.len() && rng.random_bool(0.5)) { at + 1 } else { at - 1 };
            return row[beside];
        }
    }
    letter
}

fn mishear(parts: &mut [String], list: &[(&str, &str)], rng: &mut ChaCha8Rng) {
    let sounds = |part: &String| list.iter().find(|(said, _)| *said == part.to_ascii_lowercase());
    let heard: Vec<_> = parts.iter().enumerate().filter_map(|(i, p)| sounds(p).map(|(_, h)| (i, *h))).collect();
    if let Some((at, wrong)) = heard.choose(rng) {
        parts[*at] = (*wrong).to_owned();
    }
}

fn hesitate(parts: &mut Vec<String>, rng: &mut ChaCha8Rng) {
    let article = parts.iter().position(|p| p == "the");
    match article {
        Some(at) if parts.len() > 2 && rng.random_bool(0.5) => {
            parts.remove(at);
        }
        Some(at) if rng.random_bool(0.3) => parts.insert(at, "the".to_owned()),
        _ => {
            let at = rng.random_range(0..=parts.len() - 1);
            let filler = words::FILLERS.choose(rng).copied().unwrap_or("uh");
            parts.insert(at, filler.to_owned());
        }
    }
}

fn run_together(parts: &mut Vec<String>, rng: &mut ChaCha8Rng) {
    let pairs: Vec<usize> = (1..parts.len()).filter(|i| parts[*i].len() > 2 && parts[*i - 1].len() > 2).collect();
    if let Some(&at) = pairs.choose(rng) {
        let second = parts.remove(at);
        parts[at - 1].push_str(&second);
    }
}
