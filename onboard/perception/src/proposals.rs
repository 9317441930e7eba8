//! Proposals: the things that stand out in a view, found before any words are heard.
//!
//! The vision graph says of every stride-8 cell whether a thing has its centre there, how large it is and what it looks
//! like (centres as points: Zhou et al., Objects as Points, arXiv 1904.07850). [`pick`] takes the peaks; the mask graph
//! then compares them with each other and with the words, which a map of pixels is a poor place for (regions as tokens:
//! Ma et al., Groma, arXiv 2404.13013). The trainer and the drone call the same functions.

use crate::Error;

/// What a spot says before its names: the centre's logit, the offset from the cell's centre along x and y in cells, and
/// the natural logarithms of width and height in sixteenths of the view.
pub const GEOMETRY: usize = 5;
/// Logits of names behind the geometry: 20 categories, 9 colours.
pub const NAMES: usize = 29;
/// Numbers of one spot.
pub const SPOT: usize = GEOMETRY + NAMES;
/// Numbers that tell the graph where a proposal is and how large.
pub const CODE: usize = LENGTHS + 4 * WAVES;
/// The first of them: the centre's x and y, left, top, right, bottom, each in -1..=1, and half the logarithms of width
/// and height.
pub const LENGTHS: usize = 8;
/// Proposals that the graph takes.
pub const MOST: usize = 48;
/// Numbers that tell where the edges of a thing are: [`waves`] of left, top, right and bottom.
pub const EDGES: usize = 4 * WAVE;
/// Numbers of a thing as the language model reads it: see [`thing`].
pub const THING: usize = NAMES + CODE + EDGES;
/// Numbers of [`waves`].
pub const WAVE: usize = 2 * WAVES;

/// Waves of the place code along each axis, from half a wave a view upwards by octaves.
const WAVES: usize = 6;
/// Least probability of a centre: what is less sure is no proposal.
pub const LEAST_SCORE: f32 = 0.1;
/// Peaks that overlap so much, as IoU of their boxes, are one thing.
const SAME: f32 = 0.65;
/// Unit of widths and heights, as a share of the view.
const UNIT: f32 = 1.0 / 16.0;
/// Largest logarithm of a size: the whole view, and a sixteenth of a cell.
const SIZES: (f32, f32) = (-4.2, 2.8);
/// Additive attention value of a place that holds nothing to be seen: large, yet finite in half precision.
pub const HIDDEN: f32 = -1e4;

/// A thing that stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// Its cell, row-major.
    pub cell: usize,
    /// Probability that a thing has its centre there.
    pub score: f32,
    /// Left, top, right, bottom as fractions of the view.
    pub edges: [f32; 4],
}

/// The peaks of `spots` (`side²` × [`SPOT`]), strongest first, at most [`MOST`].
///
/// # Errors
/// When there are not `side²` spots or one is not finite.
pub fn pick(spots: &[f32], side: usize) -> Result<Vec<Proposal>, Error> {
    let mut scratch = PickScratch::default();
    pick_with(spots, side, &mut scratch)?;
    Ok(scratch.picked)
}

/// Buffers of [`pick_with`] that live from view to view.
#[derive(Debug, Default)]
pub struct PickScratch {
    /// Cells of the peaks.
    peaks: Vec<usize>,
    picked: Vec<Proposal>,
}

/// As [`pick`], in the memory of `scratch`: allocates only where a view has more peaks than any before.
///
/// # Errors
/// As [`pick`].
pub fn pick_with<'a>(spots: &[f32], side: usize, scratch: &'a mut PickScratch) -> Result<&'a [Proposal], Error> {
    const OPERATION: &str = "pick proposals";
    if side == 0 || spots.len() != side * side * SPOT {
        return Err(Error::Shape {
            operation: OPERATION,
            expected: format!("{side}×{side} spots of {SPOT} numbers"),
            got: spots.len().to_string(),
        });
    }
    let count = spots.iter().filter(|value| !value.is_finite()).count();
    if count > 0 {
        return Err(Error::NotFinite { operation: OPERATION, count });
    }
    let least = (LEAST_SCORE / (1.0 - LEAST_SCORE)).ln();
    let logit = |cell: usize| spots[cell * SPOT];
    let PickScratch { peaks, picked } = scratch;
    peaks.clear();
    peaks.extend((0..side * side).filter(|&cell| logit(cell) > least && is_peak(cell, side, logit)));
    // No two are equal, so that no order has to be kept, which would take memory.
    peaks.sort_unstable_by(|&a, &b| logit(b).total_cmp(&logit(a)).then(a.cmp(&b)));
    picked.clear();
    for &cell in &*peaks {
        let proposal = Proposal { cell, score: sigmoid(logit(cell)), edges: edges(spots, cell, side) };
        if picked.iter().all(|other| iou(&other.edges, &proposal.edges) < SAME) {
            picked.push(proposal);
            if picked.len() == MOST {
                break;
            }
        }
    }
    Ok(picked.as_slice())
}

/// Whether no neighbour is stronger; of equals the first counts.
fn is_peak(cell: usize, side: usize, logit: impl Fn(usize) -> f32) -> bool {
    let (x, y) = (cell % side, cell / side);
    for ny in y.saturating_sub(1)..(y + 2).min(side) {
        for nx in x.saturating_sub(1)..(x + 2).min(side) {
            let neighbour = ny * side + nx;
            let (own, other) = (logit(cell), logit(neighbour));
            if neighbour != cell && (other > own || (other == own && neighbour < cell)) {
                return false;
            }
        }
    }
    true
}

fn edges(spots: &[f32], cell: usize, side: usize) -> [f32; 4] {
    let spot = &spots[cell * SPOT..][..GEOMETRY];
    let centre = |at: usize, offset: f32| (at as f32 + 0.5 + offset.clamp(-2.0, 2.0)) / side as f32;
    let (x, y) = (centre(cell % side, spot[1]), centre(cell / side, spot[2]));
    let half = |size: f32| 0.5 * UNIT * size.clamp(SIZES.0, SIZES.1).exp();
    let (w, h) = (half(spot[3]), half(spot[4]));
    [x - w, y - h, x + w, y + h].map(|edge| edge.clamp(0.0, 1.0))
}

/// What the spot of a thing with these `edges` should say of its geometry at `cell`: offsets and sizes as in [`GEOMETRY`].
#[must_use]
pub fn geometry(edges: &[f32; 4], cell: usize, side: usize) -> [f32; 4] {
    let centre = |low: f32, high: f32, at: usize| 0.5 * (low + high) * side as f32 - at as f32 - 0.5;
    let size = |low: f32, high: f32| ((high - low).max(1e-4) / UNIT).ln().clamp(SIZES.0, SIZES.1);
    let [x0, y0, x1, y1] = *edges;
    [centre(x0, x1, cell % side), centre(y0, y1, cell / side), size(x0, x1), size(y0, y1)]
}

/// Where a thing is, as the graph takes it: centre and edges in -1..=1, logarithms of its size, and waves of its centre.
#[must_use]
pub fn code(edges: &[f32; 4]) -> [f32; CODE] {
    let [x0, y0, x1, y1] = *edges;
    let centre = [0.5 * (x0 + x1), 0.5 * (y0 + y1)];
    let size = |low: f32, high: f32| 0.5 * ((high - low).max(1e-4) / UNIT).ln();
    let mut code = [0.0; CODE];
    let plain = [centre[0], centre[1], x0, y0, x1, y1].map(|v| 2.0 * v - 1.0);
    code[..6].copy_from_slice(&plain);
    (code[LENGTHS - 2], code[LENGTHS - 1]) = (size(x0, x1), size(y0, y1));
    for (place, at) in code[LENGTHS..].chunks_exact_mut(WAVE).zip(centre) {
        place.copy_from_slice(&waves(at));
    }
    code
}

/// A place along one axis, in fractions of the view, as sines and cosines from half a wave a view upwards by octaves.
///
/// The product of two is greatest where they are the same place, and falls from there within a sixty-fourth of the view.
#[must_use]
pub fn waves(at: f32) -> [f32; WAVE] {
    let mut waves = [0.0; WAVE];
    for (octave, pair) in waves.chunks_exact_mut(2).enumerate() {
        let (sin, cos) = (std::f32::consts::PI * (1 << octave) as f32 * at).sin_cos();
        pair.copy_from_slice(&[sin, cos]);
    }
    waves
}

/// A thing as the language model reads it: the probabilities of its names, its [`code`], and the [`waves`] of its edges.
/// `names` are logits; those beyond [`NAMES`] do not count.
#[must_use]
pub fn thing(names: &[f32], edges: &[f32; 4]) -> [f32; THING] {
    let mut thing = [0.0; THING];
    for (to, logit) in thing[..NAMES].iter_mut().zip(names) {
        *to = sigmoid(*logit);
    }
    thing[NAMES..NAMES + CODE].copy_from_slice(&code(edges));
    for (place, edge) in thing[NAMES + CODE..].chunks_exact_mut(WAVE).zip(edges) {
        place.copy_from_slice(&waves(*edge));
    }
    thing
}

/// The edges that a [`thing`] tells: left, top, right, bottom as fractions of the view; `None` for a row that is too short.
#[must_use]
pub fn told_edges(thing: &[f32]) -> Option<[f32; 4]> {
    let plain: &[f32; 4] = thing.get(NAMES + 2..NAMES + 6)?.try_into().ok()?;
    Some(plain.map(|v| f32::midpoint(v, 1.0)))
}

/// The first [`MOST`] proposals as [`thing`]s, row-major, from left to right by their centres: in the order in which a
/// reasoned answer names them, where no cue asks for another one. Their names are those of their `spots`.
///
/// # Errors
/// When a proposal has a cell that the spots do not have.
pub fn things(spots: &[f32], proposals: &[Proposal]) -> Result<Vec<f32>, Error> {
    let mut ordered: Vec<&Proposal> = proposals.iter().take(MOST).collect();
    let across = |proposal: &Proposal| proposal.edges[0] + proposal.edges[2];
    ordered.sort_by(|a, b| across(a).total_cmp(&across(b)).then(a.cell.cmp(&b.cell)));
    let mut rows = Vec::with_capacity(ordered.len() * THING);
    for proposal in ordered {
        let from = proposal.cell.saturating_mul(SPOT).saturating_add(GEOMETRY);
        let names = spots.get(from..from.saturating_add(NAMES)).ok_or_else(|| Error::Shape {
            operation: "tell what stands out",
            expected: format!("cells among {} spots", spots.len() / SPOT),
            got: format!("cell {}", proposal.cell),
        })?;
        rows.extend(thing(names, &proposal.edges));
    }
    Ok(rows)
}

/// IoU of two boxes given by their edges.
#[must_use]
pub fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |e: &[f32; 4]| (e[2] - e[0]).max(0.0) * (e[3] - e[1]).max(0.0);
    let both = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// Proposals as inputs of the mask graph, padded to [`MOST`]; row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProposalInputs {
    /// Codes `[MOST, CODE]`.
    pub codes: Vec<f32>,
    /// Shares of the rows, then of the columns, of the grids of `sides` that each box covers: `[2·Σ sides, MOST]`.
    pub extents: Vec<f32>,
    /// Additive attention `[MOST + 1, MOST + 1]`; the first place is the query's own.
    pub attention: Vec<f32>,
}

impl ProposalInputs {
    /// Fills the inputs for boxes given by their `edges`; those beyond [`MOST`] are left out. `sides` are the cells a side
    /// of the grids that the boxes are laid over.
    pub fn fill(&mut self, boxes: &[[f32; 4]], sides: &[usize]) {
        let boxes = &boxes[..boxes.len().min(MOST)];
        self.codes.clear();
        self.codes.resize(MOST * CODE, 0.0);
        for (row, edges) in self.codes.chunks_exact_mut(CODE).zip(boxes) {
            row.copy_from_slice(&code(edges));
        }
        self.extents.clear();
        for &side in sides {
            for (low, high) in [(1, 3), (0, 2)] {
                for cell in 0..side {
                    let share = |edges: &[f32; 4]| {
                        let (from, to) = (edges[low] * side as f32, edges[high] * side as f32);
                        (to.min(cell as f32 + 1.0) - from.max(cell as f32)).clamp(0.0, 1.0)
                    };
                    self.extents.extend(boxes.iter().map(share));
                    self.extents.resize(self.extents.len() + MOST - boxes.len(), 0.0);
                }
            }
        }
        self.attention.clear();
        for _ in 0..=MOST {
            self.attention.extend((0..=MOST).map(|at| if at <= boxes.len() { 0.0 } else { HIDDEN }));
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Spots with these things, each with a logit.
    fn spots(side: usize, things: &[([f32; 4], f32)]) -> Vec<f32> {
        let mut spots = vec![0.0; side * side * SPOT];
        spots.iter_mut().step_by(SPOT).for_each(|logit| *logit = -5.0);
        for (edges, logit) in things {
            let at = |low: f32, high: f32| ((0.5 * (low + high) * side as f32) as usize).min(side - 1);
            let cell = at(edges[1], edges[3]) * side + at(edges[0], edges[2]);
            spots[cell * SPOT] = *logit;
            spots[cell * SPOT + 1..][..4].copy_from_slice(&geometry(edges, cell, side));
        }
        spots
    }

    #[test]
    fn peaks_are_found_strongest_first_and_weak_ones_are_left_out() {
        let (a, b, c) = ([0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.9, 0.8], [0.7, 0.05, 0.8, 0.1]);
        let picked = pick(&spots(16, &[(a, 1.0), (b, 3.0), (c, -4.0)]), 16).unwrap();
        assert_eq!(picked.len(), 2);
        for (proposal, edges) in picked.iter().zip([b, a]) {
            assert!(proposal.edges.iter().zip(edges).all(|(x, y)| (x - y).abs() < 1e-5), "{proposal:?}");
        }
    }

    #[test]
    fn one_thing_with_two_peaks_is_one_proposal() {
        let side = 32;
        let mut twice = spots(side, &[([0.2, 0.2, 0.8, 0.8], 2.0)]);
        let beside = (side / 2) * side + side / 2 + 3;
        twice[beside * SPOT] = 1.5;
        let geometry = geometry(&[0.21, 0.2, 0.8, 0.8], beside, side);
        // Three cells off is beyond what an offset may say, so the box is a little elsewhere, and yet the same thing.
        twice[beside * SPOT + 1..][..4].copy_from_slice(&geometry);
        assert_eq!(pick(&twice, side).unwrap().len(), 1);
    }

    #[test]
    fn broken_spots_are_errors() {
        assert!(pick(&[0.0; SPOT], 2).is_err());
        assert!(pick(&[], 0).is_err());
        let mut spots = vec![0.0; 4 * SPOT];
        spots[7] = f32::NAN;
        let error = pick(&spots, 2).unwrap_err().to_string();
        assert_eq!(error, "pick proposals: expected finite numbers, got 1 that are not");
    }

    #[test]
    fn inputs_lay_boxes_over_grids_and_hide_what_is_not_there() {
        let mut inputs = ProposalInputs::default();
        inputs.fill(&[[0.25, 0.0, 0.5, 0.625]], &[4, 8]);
        assert_eq!((inputs.codes.len(), inputs.extents.len()), (MOST * CODE, 24 * MOST));
        let first: Vec<f32> = inputs.extents.iter().step_by(MOST).copied().collect();
        assert_eq!(first[..8], [1.0, 1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(inputs.attention[..3], [0.0, 0.0, HIDDEN]);
        inputs.fill(&[], &[4]);
        assert!(inputs.extents.iter().all(|share| *share == 0.0));
    }

    #[test]
    fn things_are_told_from_left_to_right_with_their_own_names() {
        let (left, right) = ([0.1, 0.6, 0.2, 0.9], [0.5, 0.1, 0.9, 0.3]);
        let mut seen = spots(16, &[(left, 1.0), (right, 3.0)]);
        let picked = pick(&seen, 16).unwrap();
        for (proposal, name) in picked.iter().zip([3, 5]) {
            seen[proposal.cell * SPOT + GEOMETRY..][..NAMES].fill(-60.0);
            seen[proposal.cell * SPOT + GEOMETRY + name] = 60.0;
        }
        let told = things(&seen, &picked).unwrap();
        assert_eq!(told.len(), 2 * THING);
        // The strongest was picked first and stands on the right.
        for (row, (name, edges)) in told.chunks(THING).zip([(5, picked[1].edges), (3, picked[0].edges)]) {
            assert_eq!((row[name], row[..NAMES].iter().sum::<f32>()), (1.0, 1.0));
            assert_eq!(row[NAMES..][..CODE], code(&edges));
            assert_eq!(row[NAMES + CODE + 2 * WAVE..][..WAVE], waves(edges[2]));
        }
        let lost = Proposal { cell: 256, ..picked[0] };
        let error = things(&seen, &[lost]).unwrap_err().to_string();
        assert_eq!(error, "tell what stands out: expected cells among 256 spots, got cell 256");
    }

    proptest! {
        #[test]
        fn waves_know_a_place_from_its_neighbours(bin in 0_u16..64, within in 0.02_f32..0.98) {
            let alike = |a: f32, b: f32| waves(a).iter().zip(waves(b)).map(|(x, y)| x * y).sum::<f32>();
            let middle = |bin: u16| (f32::from(bin) + 0.5) / 64.0;
            let at = (f32::from(bin) + within) / 64.0;
            for other in (0..64).filter(|other| *other != bin) {
                prop_assert!(alike(at, middle(bin)) > alike(at, middle(other)), "{bin} {other}");
            }
        }

        #[test]
        fn any_spots_give_boxes_inside_the_view(values in prop::collection::vec(-9.0_f32..9.0, 9 * SPOT)) {
            for Proposal { score, edges: [x0, y0, x1, y1], cell } in pick(&values, 3).unwrap() {
                prop_assert!(score > LEAST_SCORE && cell < 9);
                prop_assert!(0.0 <= x0 && x0 <= x1 && x1 <= 1.0 && 0.0 <= y0 && y0 <= y1 && y1 <= 1.0);
            }
        }

        #[test]
        fn geometry_is_read_back(x in 0.1_f32..0.9, y in 0.1_f32..0.9, w in 0.01_f32..0.19, h in 0.01_f32..0.19) {
            let wanted = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
            let picked = pick(&spots(64, &[(wanted, 2.0)]), 64).unwrap();
            prop_assert_eq!(picked.len(), 1);
            prop_assert!(picked[0].edges.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}
