//! Referring expressions: questions about a picture whose right answer is computed, not guessed.
//!
//! [`generate`] proposes an expression for a wanted stratum, [`meaning::evaluate`] executes it against the annotation,
//! and only what is certainly unique, plural, ambiguous or absent is put into words.
//! [`surface`] reads the sentences of other people.
//! [`imagine`] makes requests without a picture, to learn reading from.

mod chatter;
mod imagined;
pub mod meaning;
mod nonsense;
pub mod phrase;
mod propose;
pub mod slips;
pub mod space;
pub mod surface;
pub mod tint;
pub mod words;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub use chatter::chat;
pub use imagined::{Imagined, corpus, imagine};
use meaning::{Expression, Facts, Meaning, evaluate, target};
pub use phrase::Phrasing;

use crate::sample::{Ask, Picture, Stratum, Target};

/// How to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Questions at most.
    pub count: usize,
    /// Share of questions in held-out phrasings: 0 in training.
    pub held_out_share: f32,
    /// Share of questions with slips.
    pub slip_share: f32,
    /// How often each stratum is tried, relative to the others.
    pub weights: Vec<(Stratum, f32)>,
}

impl Default for Options {
    fn default() -> Self {
        use Stratum as S;
        let weights = vec![
            (S::Category, 1.6),
            (S::Colour, 2.0),
            (S::Size, 1.1),
            (S::Position, 2.2),
            (S::Relation, 2.0),
            (S::Ordinal, 1.1),
            (S::Plural, 2.4),
            (S::Hint, 1.5),
            (S::Ambiguous, 1.0),
            (S::AbsentCategory, 1.8),
            (S::AbsentColour, 1.1),
            (S::WrongRelation, 0.9),
            (S::Nonsense, 0.7),
        ];
        Self { count: 16, held_out_share: 0.0, slip_share: 0.15, weights }
    }
}

/// A question with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposed {
    /// The question.
    pub ask: Ask,
    /// What it means; `None` for nonsense.
    pub expression: Option<Expression>,
    /// Instances that must be seen to answer it: targets, rivals and anchors.
    pub needs: Vec<usize>,
    /// The instance that the target is related to.
    pub anchor: Option<usize>,
    /// The instances of the kind and colour that the words name; `None` where they name none.
    pub alike: Option<Vec<usize>>,
}

/// Asks up to `options.count` questions about a picture; the same picture, options and generator state give the same.
///
/// Never two different answers to one text and hint.
pub fn generate(picture: &Picture, options: &Options, rng: &mut ChaCha8Rng) -> Vec<Proposed> {
    generate_about(&Facts::of(picture), options, rng)
}

/// [`generate`] with a picture's facts at hand.
pub fn generate_about(facts: &Facts<'_>, options: &Options, rng: &mut ChaCha8Rng) -> Vec<Proposed> {
    let anchors = propose::anchors(facts);
    let mut asked: HashMap<String, Target> = HashMap::new();
    let mut found: Vec<Proposed> = Vec::new();
    let mut weights = options.weights.clone();
    for _ in 0..options.count * 12 {
        if found.len() >= options.count {
            break;
        }
        let Some(at) = draw(&weights, rng) else { break };
        let phrasing = if rng.random::<f32>() < options.held_out_share { Phrasing::HeldOut } else { Phrasing::Train };
        // Cues seldom single one thing out at the first try; proposing is cheap.
        let made = (0..24).find_map(|_| one(facts, &anchors, weights[at].0, phrasing, options.slip_share, rng));
        let Some(proposed) = made else {
            // This picture offers little of the stratum; the others take its place.
            weights[at].1 *= 0.3;
            continue;
        };
        let hint = proposed.ask.hint.map(|h| format!("{h:?}")).unwrap_or_default();
        let key = format!("{}|{hint}", proposed.ask.text.to_lowercase());
        if let std::collections::hash_map::Entry::Vacant(entry) = asked.entry(key) {
            entry.insert(proposed.ask.target.clone());
            found.push(proposed);
        }
    }
    found
}

fn draw(weights: &[(Stratum, f32)], rng: &mut ChaCha8Rng) -> Option<usize> {
    let total: f32 = weights.iter().map(|(_, w)| w).sum();
    let mut at = rng.random::<f32>() * total;
    for (index, (_, weight)) in weights.iter().enumerate() {
        at -= weight;
        if at < 0.0 {
            return Some(index);
        }
    }
    weights.len().checked_sub(1)
}

fn one(
    facts: &Facts<'_>,
    anchors: &[(usize, Expression)],
    stratum: Stratum,
    phrasing: Phrasing,
    slip_share: f32,
    rng: &mut ChaCha8Rng,
) -> Option<Proposed> {
    if stratum == Stratum::Nonsense {
        return Some(senseless(facts, phrasing, rng));
    }
    let expression = propose::propose(facts, anchors, stratum, phrasing, rng)?;
    let meaning = evaluate(facts, &expression);
    let target = target(facts, &expression, &meaning)?;
    if !belongs(facts, stratum, &expression, &meaning, &target, rng) {
        return None;
    }
    let bare_hint = expression.categories.is_empty() && expression.hint.is_some() && rng.random_bool(0.4);
    let (mut text, mut slipped, mut phrasing) = (String::new(), false, phrasing);
    if bare_hint {
        phrasing = Phrasing::Train;
    } else {
        text = phrase::sentence(&expression, phrasing, rng);
        if rng.random::<f32>() < slip_share
            && let Some(wrong) = slips::slip(&text, phrasing, rng)
        {
            (text, slipped) = (wrong, true);
        }
    }
    let ask = Ask {
        text,
        hint: expression.hint,
        stratum,
        target,
        nonsense: vec![],
        held_out_phrasing: phrasing == Phrasing::HeldOut,
        slipped,
        written: false,
    };
    let alike = alike(facts, &expression);
    Some(Proposed { ask, expression: Some(expression), needs: meaning.needs, anchor: meaning.anchor, alike })
}

/// What is told apart by place, size or count once the noun is read.
fn alike(facts: &Facts<'_>, expression: &Expression) -> Option<Vec<usize>> {
    let Expression { categories, colour, foreign, .. } = expression;
    let kind =
        Expression { categories: categories.clone(), colour: *colour, foreign: *foreign, ..Expression::default() };
    (!categories.is_empty() || foreign.is_some()).then(|| evaluate(facts, &kind).yes)
}

fn senseless(facts: &Facts<'_>, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> Proposed {
    let base = Expression::default();
    let sensible = propose::propose(facts, &[], Stratum::Category, phrasing, rng)
        .unwrap_or(Expression { categories: vec![crate::sample::Category::Car], ..base });
    let (text, nonsense) = nonsense::nonsense(&sensible, phrasing, rng);
    let ask = Ask {
        text,
        hint: None,
        stratum: Stratum::Nonsense,
        target: Target::NotUnderstood,
        nonsense,
        held_out_phrasing: phrasing == Phrasing::HeldOut,
        slipped: false,
        written: false,
    };
    Proposed { ask, expression: None, needs: vec![], anchor: None, alike: None }
}

/// Whether the answer is of the kind that the stratum asks for, and its cue does some work.
fn belongs(
    facts: &Facts<'_>,
    stratum: Stratum,
    expression: &Expression,
    meaning: &Meaning,
    target: &Target,
    rng: &mut ChaCha8Rng,
) -> bool {
    let present = matches!(target, Target::Masks(_) | Target::Boxes(_));
    let without_cue = || {
        let plain = Expression { categories: expression.categories.clone(), ..Expression::default() };
        evaluate(facts, &plain).yes.len()
    };
    match stratum {
        Stratum::Category | Stratum::Hint | Stratum::Plural => present,
        Stratum::Colour | Stratum::Position | Stratum::Relation => {
            present && !expression.plural && (without_cue() > 1 || rng.random_bool(0.35))
        }
        Stratum::Size | Stratum::Ordinal => present,
        Stratum::Ambiguous => matches!(target, Target::Ambiguous(_)),
        Stratum::AbsentCategory => *target == Target::Absent && (expression.foreign.is_some() || without_cue() == 0),
        Stratum::AbsentColour | Stratum::WrongRelation => {
            *target == Target::Absent && without_cue() > 0 && meaning.yes.is_empty()
        }
        Stratum::Nonsense => *target == Target::NotUnderstood,
        Stratum::Unseeable => false,
    }
}
