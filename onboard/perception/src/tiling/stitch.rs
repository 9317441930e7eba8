//! How the masks of tiles become one mask of the frame.

use crate::bitmap::Bitmap;
use crate::preprocess::View;

/// What a tile says of the pixels that it sees, without the rest of the frame: many tiles of a large frame are kept at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it lies in the frame: left, top, right, bottom in pixels.
    edges: [u32; 4],
    mask: Bitmap,
}

impl Part {
    /// The pixels of a mask of the frame's size that `view` sees.
    #[must_use]
    pub fn of(mask: &Bitmap, view: &View) -> Self {
        let edges @ [x0, y0, x1, y1] = mask.pixels_of(view);
        Self { edges, mask: Bitmap::from_fn(x1 - x0, y1 - y0, |x, y| mask.get(x0 + x, y0 + y)) }
    }

    /// Adds the part's pixels to a mask of the frame; those outside of it are left out.
    pub fn lay(&self, onto: &mut Bitmap) {
        let [x0, y0, x1, _] = self.edges;
        let (width, height) = (onto.width(), onto.height());
        let shown = x1.min(width).saturating_sub(x0) as usize;
        if shown == 0 {
            return;
        }
        let rows = self.mask.bits().chunks_exact(self.mask.width() as usize);
        for (y, row) in (y0..height).zip(rows) {
            let start = y as usize * width as usize + x0 as usize;
            for (bit, &more) in onto.bits_mut()[start..start + shown].iter_mut().zip(row) {
                *bit |= more;
            }
        }
    }

    /// Whether two parts of one frame have a pixel in common.
    #[must_use]
    pub fn touches(&self, other: &Self) -> bool {
        let ([ax0, ay0, ax1, ay1], [bx0, by0, bx1, by1]) = (self.edges, other.edges);
        let (x0, y0, x1, y1) = (ax0.max(bx0), ay0.max(by0), ax1.min(bx1), ay1.min(by1));
        (y0..y1).any(|y| (x0..x1).any(|x| self.mask.get(x - ax0, y - ay0) && other.mask.get(x - bx0, y - by0)))
    }
}

/// A coarse mask with the regions of refined views replaced by what those views say; where two overlap, either may set a
/// pixel.
#[must_use]
pub fn refine(coarse: &Bitmap, refined: &[Part]) -> Bitmap {
    let mut result = coarse.clone();
    for part in refined {
        clear(&mut result, part.edges);
    }
    for part in refined {
        part.lay(&mut result);
    }
    result
}

/// Clears the pixels between these edges, which lie in the mask or end where it does.
pub(super) fn clear(mask: &mut Bitmap, edges: [u32; 4]) {
    let (width, height) = (mask.width(), mask.height());
    let [x0, y0, x1, y1] = edges;
    let [x0, x1] = [x0, x1].map(|x| x.min(width) as usize);
    let rows = mask.bits_mut().chunks_exact_mut(width.max(1) as usize);
    for row in rows.take(y1.min(height) as usize).skip(y0 as usize) {
        row[x0..x1].fill(false);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::grid::Grid;
    use super::*;
    use proptest::prelude::*;

    fn square(x: u32, y: u32, side: u32) -> Bitmap {
        Bitmap::from_fn(200, 100, |u, v| (x..x + side).contains(&u) && (y..y + side).contains(&v))
    }

    fn view(x: f32, y: f32, width: f32, height: f32) -> View {
        View { x, y, width, height }
    }

    #[test]
    fn refinement_replaces_its_view_and_nothing_else() {
        let mut coarse = square(10, 10, 20);
        coarse.unite(&square(150, 10, 20)).unwrap();
        // The refined mask also claims pixels outside its view; they must not count.
        let mut fine = square(12, 12, 10);
        fine.unite(&square(120, 50, 10)).unwrap();
        let mut expected = square(12, 12, 10);
        expected.unite(&square(150, 10, 20)).unwrap();
        assert_eq!(refine(&coarse, &[Part::of(&fine, &view(0.0, 0.0, 100.0, 100.0))]), expected);
        assert_eq!(refine(&coarse, &[]), coarse);
    }

    #[test]
    fn parts_touch_where_both_see_the_same_pixel() {
        let (left, right) = (view(0.0, 0.0, 120.0, 100.0), view(80.0, 0.0, 120.0, 100.0));
        let part = |mask: Bitmap, view: &View| Part::of(&mask, view);
        assert!(part(square(90, 10, 20), &left).touches(&part(square(100, 10, 20), &right)));
        assert!(!part(square(90, 10, 10), &left).touches(&part(square(100, 10, 20), &right)), "side by side");
        assert!(
            !part(square(10, 10, 10), &left).touches(&part(square(10, 10, 10), &right)),
            "one of them cannot see it"
        );
    }

    #[test]
    fn a_part_of_a_larger_frame_is_cut_at_the_edge() {
        let part = Part::of(&square(80, 40, 60), &view(60.0, 20.0, 100.0, 80.0));
        for (width, height) in [(100, 60), (100, 10), (50, 60), (0, 0)] {
            let mut mask = Bitmap::new(width, height);
            part.lay(&mut mask);
            let expected = Bitmap::from_fn(width, height, |x, y| x >= 80 && y >= 40);
            assert_eq!(mask, expected);
            clear(&mut mask, part.edges);
            assert_eq!(mask.area(), 0);
        }
    }

    proptest! {
        /// What would break: a seam, where pixels are lost or drawn twice in different places.
        #[test]
        fn a_mask_cut_into_tiles_and_stitched_is_the_mask(
            columns in 1_u32..6, rows in 1_u32..5, overlap in 0.0_f32..0.5, bits in prop::collection::vec(any::<bool>(), 61 * 47),
        ) {
            let whole = Bitmap::from_fn(61, 47, |x, y| bits[(y * 61 + x) as usize]);
            let views = Grid { columns, rows }.views([61, 47], overlap);
            let parts: Vec<Part> = views.iter().map(|view| Part::of(&whole, view)).collect();
            let mut laid = Bitmap::new(61, 47);
            parts.iter().for_each(|part| part.lay(&mut laid));
            prop_assert_eq!(&laid, &whole);
            // What the overview said is gone where tiles say otherwise.
            let full = Bitmap::from_fn(61, 47, |_, _| true);
            prop_assert_eq!(refine(&full, &parts), whole);
        }
    }
}
