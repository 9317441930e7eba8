//! Which part of its box a piece fills: a mask of few cells, which is moved and stretched with the box.

use crate::bitmap::Component;

/// Cells along each side of a box.
const CELLS: usize = 16;
/// Edges between the cells of two boxes along one axis.
const EDGES: usize = 2 * (CELLS + 1);

/// What a piece covers of each of 16 × 16 cells of its box, in steps of 1/255. The steps are rounded up, so that a piece as
/// thin as a wire is not nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// From the top left, row by row.
    cells: [[u8; CELLS]; CELLS],
}

impl Default for Shape {
    /// The whole box.
    fn default() -> Self {
        Self { cells: [[u8::MAX; CELLS]; CELLS] }
    }
}

impl Shape {
    /// The shape of a piece in its own box.
    #[must_use]
    pub fn of(piece: &Component) -> Self {
        let [left, top, width, height] = piece.bounding_box.map(f64::from);
        let mut shares = [[0.0_f64; CELLS]; CELLS];
        for &(y, from, to) in &piece.runs {
            let [y, from, to] = [y, from, to].map(f64::from);
            let across = covered([from - left, to - left], width);
            let down = covered([y - top, y + 1.0 - top], height);
            for (row, down) in shares.iter_mut().zip(down).filter(|(_, down)| *down > 0.0) {
                for (share, across) in row.iter_mut().zip(across) {
                    *share += across * down;
                }
            }
        }
        let most = f64::from(u8::MAX);
        Self { cells: shares.map(|row| row.map(|share| (share * most).ceil().min(most) as u8)) }
    }

    /// Intersection over union of two shapes in their boxes `[x, y, width, height]`, 0..=1.
    ///
    /// Each cell counts as covered evenly, and as much of a place as both cover, or either covers, is the lesser or the larger
    /// of their shares (Ruzicka's similarity): where all cells are whole or empty that is the IoU of masks, and of two whole
    /// boxes that of the boxes. 0 where nothing is covered. No allocation; at most 33 × 33 stretches of cells are summed.
    #[must_use]
    pub fn iou((one, one_box): (&Self, &[f32; 4]), (two, two_box): (&Self, &[f32; 4])) -> f32 {
        let side = |of: &[f32; 4], axis: usize| [f64::from(of[axis]), f64::from(of[axis + 2])];
        let along = |axis: usize| stretches(side(one_box, axis), side(two_box, axis));
        let (across, down) = (along(0), along(1));
        let (mut both, mut either) = (0.0, 0.0);
        for row in &down {
            for column in &across {
                let shares = [one.share(row.one, column.one), two.share(row.two, column.two)];
                let area = row.length * column.length;
                both += area * f64::from(shares[0].min(shares[1]));
                either += area * f64::from(shares[0].max(shares[1]));
            }
        }
        if either > 0.0 { (both / either) as f32 } else { 0.0 }
    }

    fn share(&self, row: Option<usize>, column: Option<usize>) -> u8 {
        match (row, column) {
            (Some(row), Some(column)) => self.cells[row][column],
            _ => 0,
        }
    }
}

/// How much of each cell of a side lies between two places, measured from the side's start.
fn covered([from, to]: [f64; 2], side: f64) -> [f64; CELLS] {
    let cell = side / CELLS as f64;
    std::array::from_fn(|at| {
        let [start, end] = [at, at + 1].map(|edge| edge as f64 * cell);
        ((to.min(end) - from.max(start)) / cell).max(0.0)
    })
}

/// A stretch of one axis that lies in one cell of each box, or beside them.
#[derive(Clone, Copy)]
struct Stretch {
    length: f64,
    one: Option<usize>,
    two: Option<usize>,
}

/// All stretches that the sides `[start, length]` of two boxes are cut into by the edges of their cells.
fn stretches(one: [f64; 2], two: [f64; 2]) -> [Stretch; EDGES - 1] {
    let mut edges: [f64; EDGES] = std::array::from_fn(|at| {
        let [start, length] = if at <= CELLS { one } else { two };
        start + length * (at % (CELLS + 1)) as f64 / CELLS as f64
    });
    edges.sort_unstable_by(f64::total_cmp);
    std::array::from_fn(|at| {
        let (from, to) = (edges[at], edges[at + 1]);
        let middle = f64::midpoint(from, to);
        Stretch { length: to - from, one: cell(one, middle), two: cell(two, middle) }
    })
}

/// The cell of a side that holds a place.
fn cell([start, length]: [f64; 2], at: f64) -> Option<usize> {
    let cell = ((at - start) / length * CELLS as f64).floor();
    (0.0..CELLS as f64).contains(&cell).then_some(cell as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::bitmap::Bitmap;
    use proptest::prelude::*;

    fn boxed(piece: &Component) -> [f32; 4] {
        piece.bounding_box.map(|pixels| pixels as f32)
    }

    /// The largest piece of what is drawn.
    fn drawn(width: u32, height: u32, inside: impl FnMut(u32, u32) -> bool) -> Component {
        Bitmap::from_fn(width, height, inside).components().swap_remove(0)
    }

    #[test]
    fn a_piece_is_what_it_covers_of_its_box() {
        let rectangle = drawn(50, 40, |x, y| (10..33).contains(&x) && (5..36).contains(&y));
        assert_eq!(Shape::of(&rectangle), Shape::default(), "whatever its sides");
        let left = Shape::of(&drawn(64, 64, |x, y| x < 16 || y == 63));
        assert_eq!(left.cells[0], std::array::from_fn(|column| if column < 4 { u8::MAX } else { 0 }));
        assert_eq!(left.cells[15][15], 64, "a quarter of a cell of four rows, rounded up");
        let wire = Shape::of(&drawn(4000, 4000, |x, y| x == y));
        assert_eq!((wire.cells[3][3], wire.cells[3][4]), (2, 0), "no wire is too thin");
        let pixel = Shape::of(&drawn(3, 3, |x, y| (x, y) == (1, 1)));
        assert_eq!(pixel, Shape::default());
    }

    /// What would break: masks that are held against each other as if they were their boxes.
    #[test]
    fn shapes_overlap_as_masks_do() {
        let corner = |x: u32, y: u32| x < 10 || y >= 30;
        let one = drawn(40, 40, corner);
        let other = drawn(40, 40, |x, y| corner(39 - x, 39 - y));
        assert_eq!(boxed(&one), boxed(&other));
        let iou = Shape::iou((&Shape::of(&one), &boxed(&one)), (&Shape::of(&other), &boxed(&other)));
        assert!((iou - 200.0 / 1200.0).abs() < 1e-6, "two squares of 10 are shared: {iou}");
    }

    fn any_box() -> impl Strategy<Value = [f32; 4]> {
        (-50.0_f32..50.0, -50.0_f32..50.0, 0.5_f32..60.0, 0.5_f32..60.0)
            .prop_map(|(x, y, width, height)| [x, y, width, height])
    }

    /// A piece of up to 16 × 16 pixels that fills its box from side to side.
    fn any_piece() -> impl Strategy<Value = Component> {
        prop::collection::vec(any::<bool>(), 16 * 16).prop_map(|bits| {
            drawn(16, 16, |x, y| x == 0 || y == 0 || x == 15 || y == 15 || bits[(y * 16 + x) as usize])
        })
    }

    fn of_boxes(one: &[f32; 4], two: &[f32; 4]) -> f32 {
        let shared = |axis: usize| {
            let low = one[axis].max(two[axis]);
            let high = (one[axis] + one[axis + 2]).min(two[axis] + two[axis + 2]);
            (high - low).max(0.0)
        };
        let both = shared(0) * shared(1);
        both / (one[2] * one[3] + two[2] * two[3] - both)
    }

    proptest! {
        #[test]
        fn an_overlap_is_a_share_alike_from_both_sides_and_whole_with_itself(
            one in any_piece(), two in any_piece(), one_box in any_box(), two_box in any_box(),
        ) {
            let (one, two) = (Shape::of(&one), Shape::of(&two));
            let iou = Shape::iou((&one, &one_box), (&two, &two_box));
            prop_assert!((0.0..=1.0).contains(&iou), "{}", iou);
            prop_assert_eq!(iou, Shape::iou((&two, &two_box), (&one, &one_box)));
            prop_assert_eq!(Shape::iou((&one, &one_box), (&one, &one_box)), 1.0);
        }

        #[test]
        fn whole_boxes_overlap_as_boxes(one in any_box(), two in any_box()) {
            let iou = Shape::iou((&Shape::default(), &one), (&Shape::default(), &two));
            prop_assert!((iou - of_boxes(&one, &two)).abs() < 1e-3, "{} for {}", iou, of_boxes(&one, &two));
        }

        /// Where a cell is a pixel, the IoU is that of the masks, to the last pixel.
        #[test]
        fn pieces_of_16_pixels_overlap_as_their_pixels(one in any_piece(), two in any_piece(), x in 0_u32..20, y in 0_u32..20) {
            let pixels = |piece: &Component, [left, top]: [u32; 2]| {
                let mut mask = Bitmap::new(40, 40);
                for &(row, from, to) in &piece.runs {
                    let start = ((row + top) * 40 + left) as usize;
                    mask.bits_mut()[start + from as usize..start + to as usize].fill(true);
                }
                mask
            };
            let expected = pixels(&one, [4, 6]).iou(&pixels(&two, [x, y])).unwrap();
            let at = |left: u32, top: u32| [left as f32, top as f32, 16.0, 16.0];
            let iou = Shape::iou((&Shape::of(&one), &at(4, 6)), (&Shape::of(&two), &at(x, y)));
            prop_assert!((iou - expected).abs() < 1e-6, "{} for {}", iou, expected);
        }
    }
}
