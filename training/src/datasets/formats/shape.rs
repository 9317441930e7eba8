//! Boxes, quads, polygons and run lengths of annotation files, checked. A broken one gives the reason why it is left out.

use kestrel_link::Mask;
use serde::Deserialize;

use crate::datasets::Outline;

/// A shape, or why there is none.
pub(super) type Checked<T> = std::result::Result<T, &'static str>;

/// Coordinates beyond this are no pixels of any picture.
const MAX_COORDINATE: f64 = 1e6;
/// Most points of one thing's outline.
const MAX_POINTS: usize = 100_000;
/// Largest side of a picture whose mask is read.
const MAX_SIDE: u32 = kestrel_link::mask::MAX_SIDE;

const NO_NUMBERS: &str = "coordinates that are no pixels";
const NO_AREA: &str = "box without area";
const FEW_POINTS: &str = "outline of fewer than three points";
const MANY_POINTS: &str = "outline of more than 100,000 points";
const WRONG_RUNS: &str = "run lengths that do not fit their size";
/// Nothing of it lies in the picture.
pub(super) const OUTSIDE: &str = "outside the picture";
/// An outline without a pixel.
pub(super) const EMPTY: &str = "outline without area";

/// Where a thing is, in pixels of the whole image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// `[x, y, width, height]`.
    pub(super) bounding_box: [f32; 4],
    /// What else is known.
    pub(super) outline: Outline,
}

impl Shape {
    /// An upright box.
    pub(super) fn boxed([x, y, w, h]: [f64; 4]) -> Checked<Self> {
        if ![x, y, w, h].iter().all(|v| is_coordinate(*v)) {
            return Err(NO_NUMBERS);
        }
        if w <= 0.0 || h <= 0.0 {
            return Err(NO_AREA);
        }
        Ok(Self { bounding_box: [x, y, w, h].map(|v| v as f32), outline: Outline::Box })
    }

    /// An upright box by two corners.
    pub(super) fn corners([x0, y0, x1, y1]: [f64; 4]) -> Checked<Self> {
        Self::boxed([x0, y0, x1 - x0, y1 - y0])
    }

    /// An oriented box by its corners.
    pub(super) fn quad(flat: &[f64; 8]) -> Checked<Self> {
        if !flat.iter().all(|v| is_coordinate(*v)) {
            return Err(NO_NUMBERS);
        }
        let mut quad = [[0.0f32; 2]; 4];
        for (corner, pair) in quad.iter_mut().zip(flat.chunks_exact(2)) {
            *corner = [pair[0] as f32, pair[1] as f32];
        }
        let bounding_box = around(&quad);
        if crate::datasets::raster::area(&quad) <= 0.0 || bounding_box[2] <= 0.0 || bounding_box[3] <= 0.0 {
            return Err(NO_AREA);
        }
        Ok(Self { bounding_box, outline: Outline::Oriented(quad) })
    }

    /// An oriented box by centre, width, height and the angle of its width, clockwise in the picture.
    pub(super) fn turned([x, y, w, h, radians]: [f64; 5]) -> Checked<Self> {
        if w <= 0.0 || h <= 0.0 {
            return Err(NO_AREA);
        }
        let (sin, cos) = radians.sin_cos();
        let mut flat = [0.0; 8];
        for (pair, (u, v)) in flat.chunks_exact_mut(2).zip([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) {
            pair[0] = x + u * w * cos - v * h * sin;
            pair[1] = y + u * w * sin + v * h * cos;
        }
        Self::quad(&flat)
    }

    /// A union of polygons, each a flat list of coordinates. Four corners of an upright rectangle are a box: so the tools
    /// that know no outline write one.
    pub(super) fn polygons(flat: &[Vec<f64>]) -> Checked<Self> {
        if flat.iter().map(Vec::len).sum::<usize>() > 2 * MAX_POINTS {
            return Err(MANY_POINTS);
        }
        let mut rings = Vec::with_capacity(flat.len());
        for ring in flat {
            if ring.len() < 6 || ring.len() % 2 != 0 {
                return Err(FEW_POINTS);
            }
            if !ring.iter().all(|v| is_coordinate(*v)) {
                return Err(NO_NUMBERS);
            }
            rings.push(ring.chunks_exact(2).map(|p| [p[0] as f32, p[1] as f32]).collect::<Vec<_>>());
        }
        let bounding_box = around(&rings.concat());
        if rings.is_empty() || rings.iter().all(|ring| crate::datasets::raster::area(ring) <= 0.0) {
            return Err(EMPTY);
        }
        let outline = match &rings[..] {
            [one] if is_upright_rectangle(one, &bounding_box) => Outline::Box,
            _ => Outline::Polygons(rings),
        };
        Ok(Self { bounding_box, outline })
    }

    /// A mask by run lengths, column by column; `None` when no pixel is set. `picture` is the width and height that it must
    /// have, 0×0 where that is not known.
    pub(super) fn runs(rle: &Rle, picture: [u32; 2]) -> Checked<Option<Self>> {
        let [height, width] = rle.size;
        let expected = picture == [0; 2] || picture == [width, height];
        if width == 0 || height == 0 || width.max(height) > MAX_SIDE || !expected {
            return Err(WRONG_RUNS);
        }
        let runs = match &rle.counts {
            Counts::Text(counts) => &Mask { width, height, counts: counts.clone() }.runs().map_err(|_| WRONG_RUNS)?,
            Counts::Runs(runs) => runs,
        };
        if runs.iter().map(|run| u64::from(*run)).sum::<u64>() != u64::from(width) * u64::from(height) {
            return Err(WRONG_RUNS);
        }
        let mut set = Vec::new();
        let mut at = 0;
        for (index, run) in runs.iter().enumerate() {
            let next = at + *run as usize;
            if index % 2 == 1 && next > at {
                set.push((at, next));
            }
            at = next;
        }
        let rows = height as usize;
        let (mut x0, mut y0, mut x1, mut y1) = (usize::MAX, usize::MAX, 0, 0);
        for &(start, end) in &set {
            let (first, last) = (start / rows, (end - 1) / rows);
            // A run that turns the corner of a column holds that column's last row and the next one's first.
            let (top, bottom) = if first == last { (start % rows, (end - 1) % rows) } else { (0, rows - 1) };
            (x0, x1) = (x0.min(first), x1.max(last + 1));
            (y0, y1) = (y0.min(top), y1.max(bottom + 1));
        }
        if set.is_empty() {
            return Ok(None);
        }
        let mut bits = vec![false; (x1 - x0) * (y1 - y0)];
        for i in set.into_iter().flat_map(|(start, end)| start..end) {
            bits[(i % rows - y0) * (x1 - x0) + i / rows - x0] = true;
        }
        Self::part([x0, y0, x1 - x0, y1 - y0].map(|v| v as u32), &bits).map(Some)
    }

    /// A mask by its pixels, row by row, within the box `[x, y, width, height]` around them.
    pub(super) fn part(bounding_box: [u32; 4], bits: &[bool]) -> Checked<Self> {
        let [left, top, width, height] = bounding_box;
        let mask = Mask::from_bits(width, height, bits).map_err(|_| WRONG_RUNS)?;
        let bounding_box = bounding_box.map(|v| v as f32);
        Ok(Self { bounding_box, outline: Outline::Pixels { left, top, mask } })
    }

    /// The box alone, for sets whose outlines are boxes in truth.
    pub(super) fn weak(self) -> Self {
        match self.outline {
            Outline::Box | Outline::Oriented(_) => self,
            Outline::Polygons(_) | Outline::Pixels { .. } => Self { outline: Outline::Box, ..self },
        }
    }

    /// The same with its box clipped to a picture, of which 0×0 stands for an unknown size.
    pub(super) fn inside(self, width: u32, height: u32) -> Checked<Self> {
        if width == 0 || height == 0 {
            return Ok(self);
        }
        let [x, y, w, h] = self.bounding_box;
        let (x1, y1) = ((x + w).min(width as f32), (y + h).min(height as f32));
        let (x, y) = (x.max(0.0), y.max(0.0));
        if x1 <= x || y1 <= y {
            return Err(OUTSIDE);
        }
        if let Outline::Pixels { left, top, mask } = &self.outline
            && (left + mask.width > width || top + mask.height > height)
        {
            return Err(WRONG_RUNS);
        }
        Ok(Self { bounding_box: [x, y, x1 - x, y1 - y], ..self })
    }
}

/// COCO's run lengths: `[height, width]`, and either its compressed string or the plain runs.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Rle {
    pub(super) size: [u32; 2],
    pub(super) counts: Counts,
}

/// Run lengths in both of COCO's forms.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Counts {
    Text(String),
    Runs(Vec<u32>),
}

fn is_coordinate(value: f64) -> bool {
    value.is_finite() && value.abs() <= MAX_COORDINATE
}

/// `[x, y, width, height]` around points.
fn around(points: &[[f32; 2]]) -> [f32; 4] {
    let least = |axis: usize| points.iter().map(|p| p[axis]).fold(f32::INFINITY, f32::min);
    let most = |axis: usize| points.iter().map(|p| p[axis]).fold(f32::NEG_INFINITY, f32::max);
    let (x, y) = (least(0), least(1));
    [x, y, most(0) - x, most(1) - y]
}

fn is_upright_rectangle(ring: &[[f32; 2]], [x, y, w, h]: &[f32; 4]) -> bool {
    let open = match ring {
        [first, .., last] if first == last => &ring[..ring.len() - 1],
        _ => ring,
    };
    let corner = |p: &[f32; 2]| (p[0] == *x || p[0] == x + w) && (p[1] == *y || p[1] == y + h);
    // A polygon of four of the box's corners covers all of it only if none comes twice.
    open.len() == 4 && open.iter().all(corner) && (0..4).all(|i| !open[..i].contains(&open[i]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_shapes_say_why() {
        assert_eq!(Shape::boxed([0.0, f64::NAN, 1.0, 1.0]), Err(NO_NUMBERS));
        assert_eq!(Shape::boxed([0.0, 0.0, 1e9, 1.0]), Err(NO_NUMBERS));
        assert_eq!(Shape::boxed([0.0, 0.0, -3.0, 1.0]), Err(NO_AREA));
        assert_eq!(Shape::corners([5.0, 5.0, 5.0, 9.0]), Err(NO_AREA));
        assert_eq!(Shape::quad(&[1.0, 187.0, 1.0, 187.0, 1.0, 219.0, 1.0, 219.0]), Err(NO_AREA));
        assert_eq!(Shape::polygons(&[vec![1.0, 2.0, 3.0, 4.0]]), Err(FEW_POINTS));
        assert_eq!(Shape::polygons(&[]), Err(EMPTY));
        assert_eq!(Shape::polygons(&[vec![1.0; 2 * MAX_POINTS + 2]]), Err(MANY_POINTS));
        assert_eq!(Shape::boxed([700.0, 0.0, 5.0, 5.0]).unwrap().inside(640, 480), Err(OUTSIDE));
        let clipped = Shape::boxed([-5.0, -5.0, 10.0, 10.0]).unwrap().inside(640, 480).unwrap();
        assert_eq!(clipped.bounding_box, [0.0, 0.0, 5.0, 5.0]);
    }

    #[test]
    fn run_lengths_that_claim_too_much_are_refused_before_any_memory_is_asked_for() {
        let rle = |size, counts| Shape::runs(&Rle { size, counts }, [0; 2]);
        assert_eq!(rle([100_000, 100_000], Counts::Runs(vec![0, u32::MAX])), Err(WRONG_RUNS));
        assert_eq!(rle([2, 2], Counts::Runs(vec![0, u32::MAX, u32::MAX])), Err(WRONG_RUNS));
        assert_eq!(rle([2, 2], Counts::Text("zzz".into())), Err(WRONG_RUNS));
        assert_eq!(rle([0, 2], Counts::Runs(vec![])), Err(WRONG_RUNS));
        assert_eq!(rle([2, 2], Counts::Runs(vec![4])), Ok(None));
        assert_eq!(Shape::runs(&Rle { size: [2, 2], counts: Counts::Runs(vec![4]) }, [3, 2]), Err(WRONG_RUNS));
    }

    #[test]
    fn both_forms_of_run_lengths_give_the_same_pixels() {
        // Four rows and three columns: column 1 from row 1 on, and the first two rows of column 2.
        let plain = Shape::runs(&Rle { size: [4, 3], counts: Counts::Runs(vec![5, 5, 2]) }, [3, 4]).unwrap().unwrap();
        assert_eq!(plain.bounding_box, [1.0, 0.0, 2.0, 4.0]);
        let Outline::Pixels { left: 1, top: 0, mask } = &plain.outline else { panic!("{plain:?}") };
        assert_eq!(mask.area().unwrap(), 5);
        let whole = Mask::from_fn(3, 4, |x, y| (x == 1 && y > 0) || (x == 2 && y < 2)).unwrap();
        let text = Shape::runs(&Rle { size: [4, 3], counts: Counts::Text(whole.counts) }, [3, 4]).unwrap().unwrap();
        assert_eq!(text, plain);
    }

    #[test]
    fn a_polygon_that_is_its_own_box_is_a_box() {
        let outline = |ring: &[f64]| Shape::polygons(&[ring.to_vec()]).unwrap().outline;
        assert_eq!(outline(&[164.0, 10.0, 205.0, 10.0, 205.0, 50.0, 164.0, 50.0]), Outline::Box);
        assert_eq!(outline(&[164.0, 10.0, 205.0, 10.0, 205.0, 50.0, 164.0, 50.0, 164.0, 10.0]), Outline::Box);
        assert!(!outline(&[164.0, 12.0, 205.0, 10.0, 205.0, 50.0, 164.0, 50.0]).is_weak());
        assert!(!outline(&[0.0, 0.0, 9.0, 0.0, 9.0, 9.0]).is_weak());
    }

    proptest! {
        #[test]
        fn a_turned_box_keeps_its_centre_sides_and_area(
            x in 100.0..500.0, y in 100.0..500.0, w in 1.0..90.0, h in 1.0..90.0, radians in -7.0..7.0,
        ) {
            let shape = Shape::turned([x, y, w, h, radians]).unwrap();
            let Outline::Oriented(quad) = shape.outline else { return Err(TestCaseError::fail("no quad")) };
            let mean = |axis: usize| quad.iter().map(|p| f64::from(p[axis])).sum::<f64>() / 4.0;
            prop_assert!((mean(0) - x).abs() < 1e-2 && (mean(1) - y).abs() < 1e-2);
            let side = |i: usize, j: usize| f64::from((quad[i][0] - quad[j][0]).hypot(quad[i][1] - quad[j][1]));
            prop_assert!((side(0, 1) - w).abs() < 1e-2 && (side(1, 2) - h).abs() < 1e-2);
            prop_assert!((f64::from(crate::datasets::raster::area(&quad)) / (w * h) - 1.0).abs() < 1e-2);
        }

        #[test]
        fn any_numbers_give_a_shape_or_a_reason(flat in prop::collection::vec(prop::num::f64::ANY, 0..20)) {
            let _ = Shape::polygons(std::slice::from_ref(&flat));
            if let Some(eight) = flat.first_chunk::<8>() {
                let quad = Shape::quad(eight);
                if let Ok(shape) = quad.and_then(|s| s.inside(640, 480)) {
                    let [x, y, w, h] = shape.bounding_box;
                    prop_assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0 && x + w <= 640.1 && y + h <= 480.1);
                }
            }
            if let Some(five) = flat.first_chunk::<5>() {
                let _ = Shape::turned(*five);
            }
        }

        #[test]
        fn any_runs_give_pixels_or_a_reason(size in any::<[u8; 2]>(), runs in prop::collection::vec(0u32..3000, 0..9)) {
            let rle = Rle { size: size.map(u32::from), counts: Counts::Runs(runs.clone()) };
            if let Ok(Some(shape)) = Shape::runs(&rle, [0; 2]) {
                let Outline::Pixels { mask, .. } = shape.outline else { return Err(TestCaseError::fail("no pixels")) };
                let area: u64 = runs.iter().skip(1).step_by(2).map(|run| u64::from(*run)).sum();
                prop_assert_eq!(mask.area().unwrap(), area);
            }
        }
    }
}
