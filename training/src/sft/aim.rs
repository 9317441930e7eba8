//! Where a location is written, the thing is looked at whose box it is part of.
//!
//! The locations' own loss reaches a pointer only through the softmax of places that it mixes: as long as it looks at all
//! things alike, what it points at is no place, and nothing says which of them would be. Whose box is written is known here,
//! so the look itself is taught (as in pointer networks: Vinyals et al., arXiv 1506.03134, equation 3).

use candle_core::Tensor;
use kestrel_models::kestrel::Said;
use kestrel_models::tokenizer::{FIRST_LOCATION, LOCATIONS};
use kestrel_perception::answer;
use kestrel_perception::proposals::{THING, iou, told_edges};

use super::Result;
use super::chain::{Before, Laid};
use super::measured::Values;
use super::pass::{Setup, host};
use crate::losses::attach;
use crate::losses::token::cross_entropy;
use crate::reasoning::Bins;

/// A thing whose box overlaps the one that is written by less is another thing.
const SAME: f32 = 0.5;

/// Cross-entropy of where every open location looks, over all rows before it; `None` where the model is told of nothing, or
/// none of its boxes is one of the things.
///
/// # Errors
/// When candle fails.
pub(super) fn aims(
    setup: &Setup<'_>,
    laid: &Laid,
    said: &Said<Tensor>,
    before: &Before<'_>,
    values: &mut Values,
) -> Result<Option<Tensor>> {
    let (Some(looks), Some(things)) = (&said.looks, before.things) else { return Ok(None) };
    let told: Vec<[f32; 4]> = host(things)?.chunks_exact(THING).filter_map(told_edges).collect();
    let aimed: Vec<_> =
        laid.open.iter().filter_map(|open| Some((open, meant(&told, answer::edges(open.part_of?))?))).collect();
    if aimed.is_empty() || setup.weights.aim == 0.0 {
        return Ok(None);
    }
    let (rows, columns) = (host(looks)?, looks.dim(2)?);
    let pictures = before.tokens.dim(1)?;
    let mut gradient = vec![0.0; rows.len()];
    let weight = setup.weights.chain * setup.weights.aim / aimed.len() as f32;
    let mut right = vec![(0.0, 0.0); laid.open.iter().map(|open| open.chain + 1).max().unwrap_or_default()];
    for (open, thing) in aimed {
        let target = (pictures + thing) as u32;
        let slope = open.gradient(&mut gradient, columns);
        // What may not be seen is masked already.
        let learnt = cross_entropy(open.logits(&rows, columns), |_| true, target, weight, slope);
        values.chains.loss += learnt.loss;
        values.total += learnt.loss;
        let (hits, all) = right[open.chain];
        right[open.chain] = (hits + f32::from(learnt.likeliest == target), all + 1.0);
    }
    for (hits, all) in right.into_iter().filter(|(_, all)| *all > 0.0) {
        values.chains.aims += 1.0;
        values.chains.aimed += hits / all;
    }
    Ok(Some(attach(looks, gradient)?))
}

/// The box that the token at `at` is a location of: the four locations in a row that it is among.
pub(super) fn box_around(ids: &[u32], at: usize) -> Option<Bins> {
    let bin = |at: usize| ids.get(at)?.checked_sub(FIRST_LOCATION).filter(|bin| *bin < LOCATIONS);
    let first = (0..=at).rev().take_while(|&at| bin(at).is_some()).last()?;
    Some([bin(first)?, bin(first + 1)?, bin(first + 2)?, bin(first + 3)?])
}

/// The thing among those told whose box this is.
fn meant(told: &[[f32; 4]], edges: [f32; 4]) -> Option<usize> {
    let overlaps = told.iter().map(|thing| iou(thing, &edges)).enumerate();
    overlaps.filter(|(_, iou)| *iou >= SAME).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(thing, _)| thing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_the_thing_that_it_overlaps_most() {
        let told = [[0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.32, 0.3], [0.6, 0.6, 0.9, 0.9]];
        assert_eq!(meant(&told, [0.12, 0.1, 0.31, 0.3]), Some(1));
        assert_eq!(meant(&told, [0.6, 0.6, 0.9, 0.85]), Some(2));
        assert_eq!(meant(&told, [0.1, 0.6, 0.3, 0.9]), None);
        assert_eq!(meant(&[], [0.1, 0.1, 0.3, 0.3]), None);
    }

    #[test]
    fn a_location_is_part_of_the_box_that_it_stands_in() {
        let at = |bin: u32| FIRST_LOCATION + bin;
        // A box between other tokens, and one that is cut.
        let ids = [0, at(3), at(5), at(LOCATIONS - 1), at(8), at(LOCATIONS), at(2), at(4)];
        let found: Vec<Option<Bins>> = (0..ids.len()).map(|place| box_around(&ids, place)).collect();
        let whole = Some([3, 5, LOCATIONS - 1, 8]);
        assert_eq!(found, [None, whole, whole, whole, whole, None, None, None]);
    }
}
