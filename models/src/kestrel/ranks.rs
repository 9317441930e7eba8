//! Where a thing stands among those like it, and how it stands to what the words relate it to.
//!
//! "The second truck from the left" counts trucks, "the house nearest to the bus" measures from a bus. Attention over
//! codes of places can learn to count and to measure, but needs far more questions for it than are ever asked; so both
//! are done here, by pairs (pairwise geometry between objects: Hu et al., Relation Networks, arXiv 1711.11575), over
//! things of which the model itself says how far they are alike and which is the anchor.

use kestrel_perception::proposals::{HIDDEN, LENGTHS};

use super::Config;
use super::compare::Proposals;
use crate::error::Result;
use crate::ops::{Act, Ops};

const EPS: f32 = 1e-5;
/// How far apart two places must be along x and y, two things in half the logarithm of their areas, and two in their
/// squared distances from the anchor, to be told apart for certain: about what questions ask for at least.
const APART: [f32; 4] = [0.06, 0.06, 0.15, 0.01];
/// Counts are brought to the scale of the other numbers.
const COUNTED: f32 = 0.25;

/// What was judged of every proposal on the way.
#[derive(Clone)]
pub(super) struct Ranked<T> {
    /// What the proposal's token learns, `[N·Q, K, mask_width]`.
    pub(super) learnt: T,
    /// Logit that it is a thing of the kind that the words compare, `[N·Q, 1, K]`.
    pub(super) alike: T,
    /// Logits that the words relate their target to it, the first of them to nothing, `[N·Q, 1, K + 1]`.
    pub(super) anchor: T,
}

/// Ranks the proposals for the tokens `own [N·Q, 1, mask_width]` and `things [N·Q, K, mask_width]`, given the `[SEG]`
/// states and the additive attention of places that hold nothing, `hidden [N·Q, 1, K]`.
pub(super) fn ranks<O: Ops>(
    ops: &mut O,
    config: &Config,
    proposals: &Proposals<O::T>,
    [own, things, seg, hidden]: [&O::T; 4],
    queries: usize,
) -> Result<Ranked<O::T>> {
    let Judged { alike, anchor, counted, shares } = judge(ops, config, own, things, hidden)?;
    let (count, most) = (ops.shape(things)[0], ops.shape(things)[1]);
    let lengths = ops.narrow(&proposals.codes, 2, 0, LENGTHS)?;
    let from = Anchor::of(ops, &lengths, &shares, queries)?;
    let mut numbers = orders(ops, &lengths, &counted, queries)?;
    numbers.push(nearer(ops, &from.distance, &counted)?);
    numbers.push(from.distance);
    for row in [&counted, &shares] {
        numbers.push(ops.reshape(row, &[count, most, 1])?);
    }
    let numbers = ops.concat(&numbers, 2)?;
    let all = total(ops, &counted, COUNTED)?;
    let related = total(ops, &shares, 1.0)?;
    let whole = ops.concat(&[from.lengths, all, related], 2)?;

    let width = config.mask_width;
    let mut sum = ops.linear(&numbers, "compare.ranks.numbers", width, true, Act::None)?;
    let own_lengths = ops.linear(&lengths, "compare.ranks.own", width, false, Act::None)?;
    let own_lengths = ops.repeat_batch(&own_lengths, queries)?;
    let whole = ops.linear(&whole, "compare.ranks.whole", width, false, Act::None)?;
    let words = ops.linear(seg, "compare.ranks.words", width, false, Act::None)?;
    for part in [own_lengths, whole, words] {
        sum = ops.add(&sum, &part)?;
    }
    let sum = ops.activate(&sum, Act::Relu)?;
    let learnt = ops.linear(&sum, "compare.ranks.learnt", width, true, Act::None)?;
    Ok(Ranked { learnt, alike, anchor })
}

/// What is counted and what is measured from.
struct Judged<T> {
    /// Logit that a proposal is of the kind that the words compare, `[N·Q, 1, K]`.
    alike: T,
    /// Logits that it is the anchor, the first that nothing is, `[N·Q, 1, K + 1]`.
    anchor: T,
    /// `alike` as probability, exactly 0 where there is no proposal.
    counted: T,
    /// `anchor` as shares of the proposals, which sum to less than 1 by that of nothing.
    shares: T,
}

fn judge<O: Ops>(ops: &mut O, config: &Config, own: &O::T, things: &O::T, hidden: &O::T) -> Result<Judged<O::T>> {
    let (count, most) = (ops.shape(things)[0], ops.shape(things)[1]);
    let normed = ops.layer_norm(things, "compare.ranks.norm", EPS)?;
    let judged = ops.linear(&normed, "compare.ranks.judge", config.mask_width / 2, true, Act::Relu)?;
    let logit = |ops: &mut O, name: &str| -> Result<O::T> {
        let z = ops.linear(&judged, name, 1, true, Act::None)?;
        ops.reshape(&z, &[count, 1, most])
    };
    let alike = logit(ops, "compare.ranks.alike")?;
    let related = logit(ops, "compare.ranks.anchor")?;
    let related = ops.add(&related, hidden)?;
    let nothing = ops.linear(own, "compare.ranks.no_anchor", 1, true, Act::None)?;
    let anchor = ops.concat(&[nothing, related], 2)?;
    let likely = ops.activate(&alike, Act::Sigmoid)?;
    let one = ops.constant(&[1.0], &[1, 1, 1])?;
    let there = ops.scale(hidden, -1.0 / HIDDEN)?;
    let there = ops.add(&there, &one)?;
    let counted = ops.mul(&likely, &there)?;
    let shares = ops.softmax(&anchor)?;
    let shares = ops.narrow(&shares, 2, 1, most)?;
    Ok(Judged { alike, anchor, counted, shares })
}

/// The sum of a row, times `factor`: `[N, 1, K]` to `[N, 1, 1]`.
fn total<O: Ops>(ops: &mut O, row: &O::T, factor: f32) -> Result<O::T> {
    let shape = ops.shape(row);
    let ones = ops.constant(&vec![factor; shape[2]], &[1, 1, shape[2]])?;
    let ones = ops.repeat_batch(&ones, shape[0])?;
    ops.matmul_t(row, &ones)
}

/// What the words relate their target to, as a mean over proposals by their shares.
struct Anchor<T> {
    /// Its lengths, `[N·Q, 1, LENGTHS]`.
    lengths: T,
    /// Squared distance of every proposal's centre from it, `[N·Q, K, 1]`, in half views.
    distance: T,
}

impl<T: Clone> Anchor<T> {
    fn of<O: Ops<T = T>>(ops: &mut O, lengths: &T, shares: &T, queries: usize) -> Result<Self> {
        let (views, most) = (ops.shape(lengths)[0], ops.shape(lengths)[1]);
        // `lengths` turned, by a product with the identity.
        let turned = {
            let one = |i: usize| if i % LENGTHS == i / LENGTHS { 1.0 } else { 0.0 };
            let identity: Vec<f32> = (0..LENGTHS * LENGTHS).map(one).collect();
            let identity = ops.constant(&identity, &[1, LENGTHS, LENGTHS])?;
            let identity = ops.repeat_batch(&identity, views)?;
            let turned = ops.matmul_t(&identity, lengths)?;
            ops.repeat_batch(&turned, queries)?
        };
        let mean = ops.matmul_t(shares, &turned)?;
        // |a − b|² = a·a − 2 a·b + b·b, for all pairs.
        let centres = ops.narrow(lengths, 2, 0, 2)?;
        let squares = ops.mul(&centres, &centres)?;
        let (twice, ones) = (ops.scale(&centres, -2.0)?, ones(ops, views, most, 2)?);
        let left = ops.concat(&[squares.clone(), ones.clone(), twice], 2)?;
        let right = ops.concat(&[ones, squares, centres], 2)?;
        let squared = ops.matmul_t(&left, &right)?;
        let squared = ops.repeat_batch(&squared, queries)?;
        let distance = ops.matmul_t(&squared, shares)?;
        Ok(Self { lengths: mean, distance })
    }
}

fn ones<O: Ops>(ops: &mut O, count: usize, rows: usize, columns: usize) -> Result<O::T> {
    let ones = ops.constant(&vec![1.0; rows * columns], &[1, rows, columns])?;
    ops.repeat_batch(&ones, count)
}

/// How many of the `counted [N·Q, 1, K]` are right of, below, and larger than each proposal; itself counts half.
fn orders<O: Ops>(ops: &mut O, lengths: &O::T, counted: &O::T, queries: usize) -> Result<Vec<O::T>> {
    let x = ops.narrow(lengths, 2, 0, 1)?;
    let y = ops.narrow(lengths, 2, 1, 1)?;
    let (w, h) = (ops.narrow(lengths, 2, LENGTHS - 2, 1)?, ops.narrow(lengths, 2, LENGTHS - 1, 1)?);
    let size = ops.add(&w, &h)?;
    let mut counts = Vec::new();
    for (place, apart) in [x, y, size].iter().zip(APART) {
        let greater = greater(ops, place, apart)?;
        let greater = ops.repeat_batch(&greater, queries)?;
        counts.push(count(ops, &greater, counted)?);
    }
    Ok(counts)
}

/// How many of the counted are farther from the anchor than each proposal, whose squared distances are given.
fn nearer<O: Ops>(ops: &mut O, distance: &O::T, counted: &O::T) -> Result<O::T> {
    let farther = greater(ops, distance, APART[3])?;
    count(ops, &farther, counted)
}

fn count<O: Ops>(ops: &mut O, pairs: &O::T, counted: &O::T) -> Result<O::T> {
    let counted = ops.matmul_t(pairs, counted)?;
    ops.scale(&counted, COUNTED)
}

/// Whether the second of a pair is greater, at `[i, j]` of `v [N, K, 1]`: 0 and 1 from `certain` on, straight between.
/// A logistic would be a denormal number for most pairs, on which products run ten times slower.
fn greater<O: Ops>(ops: &mut O, v: &O::T, certain: f32) -> Result<O::T> {
    let (count, most) = (ops.shape(v)[0], ops.shape(v)[1]);
    let slope = 3.0 / certain;
    let ones = ones(ops, count, most, 1)?;
    let minus = ops.scale(v, -slope)?;
    let left = ops.concat(&[minus, ones.clone(), ones.clone()], 2)?;
    let middle = ops.scale(&ones, 3.0)?;
    let plus = ops.scale(v, slope)?;
    let right = ops.concat(&[ones, plus, middle], 2)?;
    let apart = ops.matmul_t(&left, &right)?;
    let apart = ops.activate(&apart, Act::Relu6)?;
    ops.scale(&apart, 1.0 / 6.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::candle::{Candle, Params};
    use candle_core::{Device, Tensor};
    use kestrel_perception::proposals::{CODE, code};
    use proptest::prelude::*;

    /// Lengths of square things with these centres and sides.
    fn lengths(things: &[(f32, f32, f32)]) -> Tensor {
        let codes: Vec<f32> =
            things.iter().flat_map(|(x, y, s)| code(&[x - 0.5 * s, y - 0.5 * s, x + 0.5 * s, y + 0.5 * s])).collect();
        let codes = Tensor::from_vec(codes, (1, things.len(), CODE), &Device::Cpu).unwrap();
        codes.narrow(2, 0, LENGTHS).unwrap()
    }

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap()
    }

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    proptest! {
        #[test]
        fn counts_are_those_of_sorting(
            order in Just([0.1_f32, 0.25, 0.4, 0.55, 0.7, 0.85]).prop_shuffle(),
            sides in Just([0.02_f32, 0.04, 0.07, 0.11, 0.16, 0.22]).prop_shuffle(),
            counted in prop::collection::vec(any::<bool>(), 6),
        ) {
            let things: Vec<_> = (0..6).map(|i| (order[i], order[(i + 2) % 6], sides[i])).collect();
            let counted: Vec<f32> = counted.into_iter().map(|c| f32::from(u8::from(c))).collect();
            let params = Params::new(&Device::Cpu, 1);
            let mut ops = Candle::evaluating(&params);
            let counts = orders(&mut ops, &lengths(&things), &row(&counted), 1).unwrap();
            for (at, count) in counts.iter().enumerate() {
                let measure = |&(x, y, size): &(f32, f32, f32)| [x, y, size][at];
                for (i, got) in numbers(count).into_iter().enumerate() {
                    let beyond = |j: &usize| measure(&things[*j]) > measure(&things[i]);
                    let wanted: f32 = (0..6).filter(beyond).map(|j| counted[j]).sum::<f32>() + 0.5 * counted[i];
                    prop_assert!((got / COUNTED - wanted).abs() < 0.05, "{got} {wanted}");
                }
            }
        }

        #[test]
        fn the_anchor_is_where_its_thing_is_and_distances_rank_by_it(
            anchor in 0usize..4,
            places in prop::collection::vec((0.05_f32..0.95, 0.05_f32..0.95), 4),
        ) {
            let things: Vec<_> = places.iter().map(|&(x, y)| (x, y, 0.05)).collect();
            let lengths = lengths(&things);
            let mut shares = [0.0; 4];
            shares[anchor] = 1.0;
            let params = Params::new(&Device::Cpu, 1);
            let mut ops = Candle::evaluating(&params);
            let found = Anchor::of(&mut ops, &lengths, &row(&shares), 1).unwrap();
            let own = numbers(&lengths.narrow(1, anchor, 1).unwrap());
            prop_assert!(numbers(&found.lengths).iter().zip(own).all(|(a, b)| (a - b).abs() < 1e-5));
            let squared = |i: usize| {
                let (dx, dy) = (places[i].0 - places[anchor].0, places[i].1 - places[anchor].1);
                4.0 * (dx * dx + dy * dy)
            };
            let distances = numbers(&found.distance);
            prop_assert!((0..4).all(|i| (distances[i] - squared(i)).abs() < 1e-4), "{distances:?}");
            let farther = numbers(&nearer(&mut ops, &found.distance, &row(&[1.0; 4])).unwrap());
            for i in 0..4 {
                for j in 0..4 {
                    if squared(i) + 0.03 < squared(j) {
                        prop_assert!(farther[i] > farther[j], "{farther:?}");
                    }
                }
            }
        }
    }
}
