//! Chains as token ids and back.

use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::tokens::LOCATIONS;
use kestrel_perception::{ReasonedIds, SpecialIds};

use super::chain::{Bins, Piece};

/// The special ids as the grammar of reasoned answers takes them.
pub fn reasoned_ids(tokenizer: &QueryTokenizer) -> ReasonedIds {
    let special = tokenizer.special();
    ReasonedIds {
        special: SpecialIds {
            pad: special.pad,
            answer: special.answer,
            seg: special.seg,
            point: special.point,
            bounding_box: special.bounding_box,
            first_location: special.first_location,
        },
        none: special.none,
        think: special.think,
        think_end: special.think_end,
        answer_end: special.answer_end,
    }
}

/// Token ids of words and boxes.
pub(super) fn ids(pieces: &[Piece], tokenizer: &QueryTokenizer) -> kestrel_models::error::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => ids.extend(tokenizer.encode(text)?.into_iter().map(|(id, _)| id)),
            Piece::Box(bins) => ids.extend(boxed(*bins, tokenizer)),
        }
    }
    Ok(ids)
}

fn boxed(bins: Bins, tokenizer: &QueryTokenizer) -> [u32; 5] {
    let special = tokenizer.special();
    let [x0, y0, x1, y1] = bins.map(|bin| special.first_location + bin);
    [special.bounding_box, x0, y0, x1, y1]
}

/// What a thought's tokens say: words as the tokenizer spells them, and boxes; a box that is not whole is left out.
///
/// # Errors
/// When the tokenizer fails.
pub fn pieces(thought: &[u32], tokenizer: &QueryTokenizer) -> kestrel_models::error::Result<Vec<Piece>> {
    let special = tokenizer.special();
    let bin = |id: u32| id.checked_sub(special.first_location).filter(|bin| *bin < LOCATIONS);
    let mut pieces = Vec::new();
    let mut words: Vec<u32> = Vec::new();
    let mut rest = thought;
    while let Some((&id, others)) = rest.split_first() {
        rest = others;
        if id != special.bounding_box {
            words.push(id);
            continue;
        }
        if !words.is_empty() {
            pieces.push(Piece::Text(tokenizer.decode(&std::mem::take(&mut words))?));
        }
        if let [a, b, c, d, behind @ ..] = others
            && let (Some(x0), Some(y0), Some(x1), Some(y1)) = (bin(*a), bin(*b), bin(*c), bin(*d))
        {
            pieces.push(Piece::Box([x0, y0, x1, y1]));
            rest = behind;
        }
    }
    if !words.is_empty() {
        pieces.push(Piece::Text(tokenizer.decode(&words)?));
    }
    Ok(pieces)
}

/// A whole answer behind `<think>`: the thought, then a refusal or the boxes of the targets.
pub(super) fn answer(thought: &[u32], boxes: &[Bins], refusal: Option<usize>, tokenizer: &QueryTokenizer) -> Vec<u32> {
    let special = tokenizer.special();
    let mut written = thought.to_vec();
    written.extend([special.think_end, special.answer]);
    match refusal {
        Some(reason) => written.extend(special.none.get(reason)),
        None => {
            for bins in boxes {
                written.extend(boxed(*bins, tokenizer));
                written.push(special.seg);
            }
        }
    }
    written.push(special.answer_end);
    written
}
