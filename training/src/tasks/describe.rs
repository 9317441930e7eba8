//! A picture in words with boxes: how many there are of which kind, and where.
//!
//! ```text
//! description := part ( ";" part )*
//! part        := count noun box* | "some" nouns | "many" nouns
//! ```
//!
//! The kind with the largest thing comes first. "Some" are at least two of which it is not sure that they are all,
//! "many" are more than are ever listed. A kind's things have all their boxes or none.

use kestrel_perception::answer::{bins, edges};

use super::seen::{Kind, kinds};
use crate::expressions::meaning::Facts;
use crate::expressions::words::nouns;
use crate::reasoning::{LISTED, Piece};
use crate::rewards::Truth;
use crate::rewards::boxes::{Edges, iou};

/// Kinds that a description names at most.
const NAMED: usize = 4;
/// Overlap with its own locations from which a thing is large enough to be said by a box.
const SAYABLE: f64 = 0.5;

/// The description of a picture in which everything is labelled; `None` where no thing of it can be said by a box.
pub(super) fn describe(facts: &Facts<'_>) -> Option<(Vec<Piece>, Truth)> {
    let area = |kind: &Kind| kind.sure.first().map_or(0.0, |largest| facts.things[*largest].area);
    let mut kinds = kinds(facts)?;
    kinds.sort_by(|a, b| area(b).total_cmp(&area(a)));
    let (mut pieces, mut words, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
    for kind in kinds {
        let Some(said) = said(&kind) else { continue };
        let places = if counted(&kind) { places(facts, &kind.sure) } else { None };
        let places = places.filter(|places| boxes.len() + places.len() <= LISTED).unwrap_or_default();
        say(&mut pieces, &said);
        pieces.extend(places.iter().map(|place| Piece::Box(bins(*place))));
        boxes.extend(places);
        words.push(said);
        if words.len() == NAMED {
            break;
        }
    }
    if boxes.is_empty() {
        return None;
    }
    Some((pieces, Truth { texts: vec![words.join("; ")], boxes: Some(boxes), ..Truth::default() }))
}

/// Whether all of a kind are known, and few.
fn counted(kind: &Kind) -> bool {
    !kind.doubtful && (1..=LISTED).contains(&kind.sure.len())
}

/// A kind in words, without boxes; `None` where nothing certain can be said.
fn said(kind: &Kind) -> Option<String> {
    let noun = &nouns(kind.category)[0];
    Some(match kind.sure.len() {
        count if count > LISTED => format!("many {}", noun.plural),
        count if counted(kind) && count == 1 => format!("1 {}", noun.singular),
        count if counted(kind) => format!("{count} {}", noun.plural),
        0 | 1 => return None,
        _ => format!("some {}", noun.plural),
    })
}

/// Where things are, in fractions of the picture; `None` where one is too small for locations.
fn places(facts: &Facts<'_>, things: &[usize]) -> Option<Vec<Edges>> {
    let place = |thing: &usize| {
        let place = facts.things[*thing].edges.map(|edge| edge / facts.side);
        iou(&edges(bins(place)), &place).is_ok_and(|iou| iou >= SAYABLE).then_some(place)
    };
    things.iter().map(place).collect()
}

/// Adds words behind what was said.
fn say(pieces: &mut Vec<Piece>, said: &str) {
    match pieces.last_mut() {
        None => pieces.push(Piece::Text(said.to_owned())),
        Some(Piece::Text(before)) => before.push_str(&format!("; {said}")),
        Some(Piece::Box(_)) => pieces.push(Piece::Text(format!("; {said}"))),
    }
}
