//! Several queries behind one shared image prefix.
//!
//! Image tokens come first and are causal among themselves; each query's tokens see all image tokens and their own
//! past, never another query. Where a query stands in the pack therefore changes nothing: its rotary positions count
//! from 1, and all image tokens share position 0 — *where* an image token is, is said by its two-dimensional code.

use super::PackedTensors;
use crate::error::Result;
use candle_core::{Device, Tensor};

/// Base of the rotary frequencies (Su et al., RoFormer, arXiv 2104.09864).
const ROPE_BASE: f32 = 10_000.0;
/// Additive mask value of a forbidden pair: large, yet finite in half precision.
const FORBIDDEN: f32 = -1e4;

/// Queries of a batch of pictures, padded to rectangles, ready to become tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// Pictures B.
    pub batch: usize,
    /// Text tokens P of each picture, padding included.
    pub text: usize,
    /// Queries Q of each picture, padding included.
    pub queries: usize,
    /// Image tokens I.
    pub images: usize,
    /// `[B, P]`.
    pub ids: Vec<u32>,
    /// `[B, Q]`: position of `<answer>` among the P; 0 where a picture has fewer queries.
    pub index: Vec<u32>,
    /// `[B, Q]`: start of each query's tokens among the P.
    pub start: Vec<u32>,
    /// `[B, I+P, I+P]`, additive.
    pub mask: Vec<f32>,
    /// `[B, I+P]`: rotary positions.
    pub positions: Vec<u32>,
}

/// Packs the queries of each picture. A query is its token ids, ending in `<answer>`, `[SEG]`.
/// `text` fixes P (queries must fit), or `None` takes the longest picture.
pub fn pack(pictures: &[Vec<Vec<u32>>], images: usize, pad: u32, text: Option<usize>) -> Packed {
    let longest = pictures.iter().map(|q| q.iter().map(Vec::len).sum()).max().unwrap_or(0);
    let text = text.unwrap_or(longest).max(longest).max(2);
    let queries = pictures.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let (batch, all) = (pictures.len(), images + text);
    let mut packed = Packed {
        batch,
        text,
        queries,
        images,
        ids: vec![pad; batch * text],
        index: vec![0; batch * queries],
        start: vec![0; batch * queries],
        mask: vec![FORBIDDEN; batch * all * all],
        positions: vec![0; batch * all],
    };
    for (b, picture) in pictures.iter().enumerate() {
        let mask = &mut packed.mask[b * all * all..(b + 1) * all * all];
        for i in 0..all {
            mask[i * all + i] = 0.0;
        }
        for i in 0..images {
            mask[i * all..i * all + i].fill(0.0);
        }
        let mut at = 0;
        for (q, ids) in picture.iter().enumerate() {
            packed.ids[b * text + at..b * text + at + ids.len()].copy_from_slice(ids);
            packed.start[b * queries + q] = at as u32;
            packed.index[b * queries + q] = (at + ids.len()).saturating_sub(2) as u32;
            for i in 0..ids.len() {
                let row = images + at + i;
                mask[row * all..row * all + images].fill(0.0);
                mask[row * all + images + at..=row * all + row].fill(0.0);
                packed.positions[b * all + row] = i as u32 + 1;
            }
            at += ids.len();
        }
    }
    packed
}

/// Rotary tables `(cos, sin)` of these positions, each `[positions, head/2]` row by row, for heads of `head` channels.
pub fn rotary(positions: &[u32], head: usize) -> (Vec<f32>, Vec<f32>) {
    let half = head / 2;
    let angle = |position: u32, i: usize| position as f32 * ROPE_BASE.powf(-(i as f32) / half as f32);
    let table = |f: fn(f32) -> f32| -> Vec<f32> {
        positions.iter().flat_map(|&p| (0..half).map(move |i| f(angle(p, i)))).collect()
    };
    (table(f32::cos), table(f32::sin))
}

impl Packed {
    /// Rotary tables `(cos, sin)`, each `[B, I+P, head/2]`, for heads of `head` channels.
    pub fn rotary(&self, head: usize) -> (Vec<f32>, Vec<f32>) {
        rotary(&self.positions, head)
    }

    /// The pack as candle tensors on `device`, for heads of `head` channels.
    pub fn tensors(&self, head: usize, device: &Device) -> Result<PackedTensors<Tensor>> {
        let (batch, all) = (self.batch, self.images + self.text);
        let (cos, sin) = self.rotary(head);
        Ok(PackedTensors {
            ids: Tensor::from_slice(&self.ids, (batch, self.text), device)?,
            index: Tensor::from_slice(&self.index, (batch, self.queries), device)?,
            mask: Tensor::from_slice(&self.mask, (batch, all, all), device)?,
            cos: Tensor::from_slice(&cos, (batch, all, head / 2), device)?,
            sin: Tensor::from_slice(&sin, (batch, all, head / 2), device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(packed: &Packed, row: usize, column: usize) -> bool {
        let all = packed.images + packed.text;
        packed.mask[row * all + column] == 0.0
    }

    #[test]
    fn queries_see_the_picture_and_themselves_only() {
        let packed = pack(&[vec![vec![9, 1, 2], vec![8, 7, 1, 2]]], 4, 0, Some(10));
        assert_eq!((packed.text, packed.queries), (10, 2));
        assert_eq!(packed.index, [1, 5]);
        assert_eq!(&packed.ids, &[9, 1, 2, 8, 7, 1, 2, 0, 0, 0]);
        for row in 0..4 {
            for column in 0..14 {
                assert_eq!(allowed(&packed, row, column), column <= row, "image tokens are causal");
            }
        }
        // The second query's second token: the picture, its own start and itself.
        let row = 4 + 4;
        let seen: Vec<usize> = (0..14).filter(|&c| allowed(&packed, row, c)).collect();
        assert_eq!(seen, [0, 1, 2, 3, 7, 8]);
        assert_eq!(packed.positions[row], 2);
        // Padding sees itself, so that its softmax is defined.
        assert!((0..14).filter(|&c| allowed(&packed, 13, c)).eq([13]));
    }

    #[test]
    fn image_tokens_share_one_rotary_position() {
        let packed = pack(&[vec![vec![5, 1, 2]]], 3, 0, None);
        assert_eq!(packed.positions, [0, 0, 0, 1, 2, 3]);
        let (cos, sin) = packed.rotary(4);
        assert_eq!(&cos[..6], &[1.0; 6]);
        assert!(sin[3 * 2] > 0.8, "position 1 turns the fastest pair by one radian");
    }
}
