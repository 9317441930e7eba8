//! Requests that no picture was seen for: what the words mean is known all the same.

use kestrel_link::Hint;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::chatter::chat;
use super::meaning::{Expression, Extreme, ROAD};
use super::phrase::{self, Phrasing};
use super::space::{POSITIONS, RELATIONS, Side};
use super::{nonsense, slips, words};
use crate::sample::{Category, Colour};

/// Share of requests with chatter.
const CHATTER_SHARE: f64 = 0.35;

/// A request with its meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Imagined {
    /// The words; empty where only a place is pointed at.
    pub text: String,
    /// The place pointed at.
    pub hint: Option<Hint>,
    /// What it means; `None` for nonsense.
    pub expression: Option<Expression>,
    /// Byte ranges of `text` that make no sense.
    pub nonsense: Vec<(usize, usize)>,
}

/// Training phrasings without pictures, for the tokenizer: `n` texts, the same for the same seed.
pub fn corpus(seed: u64, n: usize) -> impl Iterator<Item = String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(move |_| imagine(&mut rng).text)
}

/// Draws a request in a training phrasing, now and then with chatter around it.
pub fn imagine(rng: &mut ChaCha8Rng) -> Imagined {
    let mut imagined = request(rng);
    if !imagined.text.is_empty() && rng.random_bool(CHATTER_SHARE) {
        (imagined.text, imagined.nonsense) = chat(&imagined.text, &imagined.nonsense, rng);
    }
    imagined
}

fn request(rng: &mut ChaCha8Rng) -> Imagined {
    let mut expression = noun(rng);
    let cue = rng.random_range(0..12);
    match cue {
        0 => {}
        1 | 2 => {
            expression.plural = true;
            if rng.random_bool(0.25) {
                (expression.position, expression.regional) = (POSITIONS.choose(rng).copied(), true);
            }
        }
        3..=5 => {
            expression.position = POSITIONS.choose(rng).copied();
            expression.regional = rng.random_bool(0.3);
        }
        6 | 7 => {
            let relation = RELATIONS[rng.random_range(0..RELATIONS.len())];
            expression.relation = Some((relation, Box::new(noun(rng))));
        }
        8 => expression.size = Some(if rng.random() { Extreme::Largest } else { Extreme::Smallest }),
        9 => {
            let side = [Side::Left, Side::Right, Side::Top, Side::Bottom][rng.random_range(0..4)];
            expression.ordinal = Some((rng.random_range(1..=5), side));
        }
        10 => return pointed(expression, rng),
        _ => return strange(expression, rng),
    }
    said(expression, rng)
}

fn noun(rng: &mut ChaCha8Rng) -> Expression {
    let category = Category::ALL[rng.random_range(0..Category::ALL.len())];
    let categories = match category {
        Category::Vehicle => ROAD.to_vec(),
        Category::TennisCourt | Category::BasketballCourt if rng.random_bool(0.2) => {
            vec![Category::TennisCourt, Category::BasketballCourt]
        }
        one => vec![one],
    };
    let colour = rng.random_bool(0.35).then(|| Colour::ALL[rng.random_range(0..Colour::ALL.len())]);
    Expression { categories, colour, ..Expression::default() }
}

fn said(expression: Expression, rng: &mut ChaCha8Rng) -> Imagined {
    let text = phrase::sentence(&expression, Phrasing::Train, rng);
    let text = if rng.random_bool(0.15) { slips::slip(&text, Phrasing::Train, rng).unwrap_or(text) } else { text };
    Imagined { text, hint: expression.hint, expression: Some(expression), nonsense: vec![] }
}

/// A place, with a noun, with "this", or alone.
fn pointed(expression: Expression, rng: &mut ChaCha8Rng) -> Imagined {
    let (x, y) = (rng.random_range(0.02..0.98f32), rng.random_range(0.02..0.98f32));
    let hint = if rng.random_bool(0.5) {
        let (w, h) = (rng.random_range(0.03..0.4f32), rng.random_range(0.03..0.4f32));
        let edge = |v: f32| v.clamp(0.0, 1.0);
        Hint::Box { x0: edge(x - w / 2.0), y0: edge(y - h / 2.0), x1: edge(x + w / 2.0), y1: edge(y + h / 2.0) }
    } else {
        Hint::Point { x, y }
    };
    let named = if rng.random_bool(0.5) { expression } else { Expression::default() };
    let bare = named.categories.is_empty() && rng.random_bool(0.4);
    let pointed = said(Expression { hint: Some(hint), colour: None, ..named }, rng);
    if bare { Imagined { text: String::new(), ..pointed } } else { pointed }
}

/// What no picture holds, or what makes no sense at all.
fn strange(expression: Expression, rng: &mut ChaCha8Rng) -> Imagined {
    if rng.random_bool(0.4) {
        let trained = words::FOREIGN.iter().filter(|w| !w.held_out).count();
        let foreign = Some(rng.random_range(0..trained));
        return said(Expression { foreign, plural: rng.random_bool(0.2), ..Expression::default() }, rng);
    }
    let (text, nonsense) = nonsense::nonsense(&expression, Phrasing::Train, rng);
    Imagined { text, hint: None, expression: None, nonsense }
}
