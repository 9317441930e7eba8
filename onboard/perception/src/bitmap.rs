//! A binary mask as plain pixels, and the connected pieces of it.

use crate::error::Error;
use crate::preprocess::View;
use kestrel_link::{Mask, MaskScratch};

/// One truth value per pixel, row-major. The wire form is [`Mask`]; this is the form to compute on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bitmap {
    width: u32,
    height: u32,
    bits: Vec<bool>,
}

/// A piece of a mask whose pixels touch each other, corners included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its pixels as `(row, from, to)` with `to` excluded, top to bottom.
    pub runs: Vec<(u32, u32, u32)>,
    /// Number of its pixels.
    pub area: u64,
    /// `[x, y, width, height]` in pixels.
    pub bounding_box: [u32; 4],
}

impl Bitmap {
    /// An empty mask of `width` × `height` pixels.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, bits: vec![false; width as usize * height as usize] }
    }

    /// A mask that holds the pixels for which `inside(x, y)` is true.
    #[must_use]
    pub fn from_fn(width: u32, height: u32, mut inside: impl FnMut(u32, u32) -> bool) -> Self {
        let mut bits = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            bits.extend((0..width).map(|x| inside(x, y)));
        }
        Self { width, height, bits }
    }

    /// Decodes a mask of the wire.
    pub fn from_mask(mask: &Mask) -> Result<Self, Error> {
        let bits =
            mask.to_bits().map_err(|error| Error::Mask { operation: "decode mask", message: error.to_string() })?;
        Ok(Self { width: mask.width, height: mask.height, bits })
    }

    /// Encodes the mask for the wire.
    pub fn to_mask(&self) -> Result<Mask, Error> {
        self.to_mask_with(&mut MaskScratch::default(), String::new())
    }

    /// As [`Bitmap::to_mask`], in the memory of `scratch` and of `counts`, which becomes the mask's.
    pub fn to_mask_with(&self, scratch: &mut MaskScratch, counts: String) -> Result<Mask, Error> {
        Mask::from_bits_with(self.width, self.height, &self.bits, scratch, counts)
            .map_err(|error| Error::Mask { operation: "encode mask", message: error.to_string() })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All pixels, row-major.
    #[must_use]
    pub fn bits(&self) -> &[bool] {
        &self.bits
    }

    /// All pixels, row-major, to write.
    pub fn bits_mut(&mut self) -> &mut [bool] {
        &mut self.bits
    }

    /// Whether the pixel is set; false outside the mask.
    #[must_use]
    pub fn get(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height && self.bits[y as usize * self.width as usize + x as usize]
    }

    /// Makes the mask an empty one of this size, keeping its memory.
    pub fn reset(&mut self, width: u32, height: u32) {
        self.width = width;
        self.height = height;
        self.bits.clear();
        self.bits.resize(width as usize * height as usize, false);
    }

    /// Number of set pixels.
    #[must_use]
    pub fn area(&self) -> u64 {
        count(&self.bits)
    }

    /// `[x, y, width, height]` of the set pixels; `None` when there is none.
    #[must_use]
    pub fn bounding_box(&self) -> Option<[u32; 4]> {
        self.box_within([0, 0, self.width, self.height])
    }

    /// `[x, y, width, height]` of the set pixels that lie in `view`; `None` when there is none.
    #[must_use]
    pub fn box_in(&self, view: &View) -> Option<[u32; 4]> {
        self.box_within(self.pixels_of(view))
    }

    /// Number of set pixels that lie in `view`.
    #[must_use]
    pub fn area_in(&self, view: &View) -> u64 {
        let [x0, y0, x1, y1] = self.pixels_of(view).map(|edge| edge as usize);
        (y0..y1).map(|y| count(&self.row(y)[x0..x1])).sum()
    }

    /// Adds the pixels of another mask of the same size.
    pub fn unite(&mut self, other: &Self) -> Result<(), Error> {
        self.same_size("unite masks", other)?;
        for (bit, &more) in self.bits.iter_mut().zip(&other.bits) {
            *bit |= more;
        }
        Ok(())
    }

    /// Intersection over union with a mask of the same size, 0..=1; two empty masks are equal: 1.
    pub fn iou(&self, other: &Self) -> Result<f32, Error> {
        self.same_size("compare masks", other)?;
        let (mut both, mut either) = (0_u64, 0_u64);
        for (&one, &two) in self.bits.iter().zip(&other.bits) {
            both += u64::from(one & two);
            either += u64::from(one | two);
        }
        Ok(if either == 0 { 1.0 } else { both as f32 / either as f32 })
    }

    /// The connected pieces, largest first.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        let (mut runs, mut parents) = (Vec::new(), Vec::new());
        self.link_runs(&mut runs, &mut parents);
        let mut slot_of_root = vec![usize::MAX; runs.len()];
        let mut components: Vec<Component> = Vec::new();
        for (index, &(y, from, to)) in runs.iter().enumerate() {
            let root = root_of(&mut parents, index);
            if slot_of_root[root] == usize::MAX {
                slot_of_root[root] = components.len();
                components.push(Component { runs: Vec::new(), area: 0, bounding_box: [from, y, to, y + 1] });
            }
            let component = &mut components[slot_of_root[root]];
            component.runs.push((y, from, to));
            component.area += u64::from(to - from);
            let edges = &mut component.bounding_box;
            *edges = [edges[0].min(from), edges[1].min(y), edges[2].max(to), edges[3].max(y + 1)];
        }
        for component in &mut components {
            let [x0, y0, x1, y1] = component.bounding_box;
            component.bounding_box = [x0, y0, x1 - x0, y1 - y0];
        }
        // Stable: pieces of equal area stay in reading order, so that the answer does not depend on chance.
        components.sort_by_key(|component| std::cmp::Reverse(component.area));
        components
    }

    /// Clears connected pieces of fewer than `least_area` pixels; returns how many were cleared.
    pub fn remove_specks(&mut self, least_area: u64) -> usize {
        self.remove_specks_with(least_area, &mut SpeckScratch::default())
    }

    /// As [`Bitmap::remove_specks`], in the memory of `scratch`: allocates only where a mask has more runs than any before.
    pub fn remove_specks_with(&mut self, least_area: u64, scratch: &mut SpeckScratch) -> usize {
        if least_area <= 1 {
            return 0;
        }
        let SpeckScratch { runs, parents, areas } = scratch;
        self.link_runs(runs, parents);
        areas.clear();
        areas.resize(runs.len(), 0);
        for (index, &(_, from, to)) in runs.iter().enumerate() {
            areas[root_of(parents, index)] += u64::from(to - from);
        }
        let mut specks = 0;
        for (index, &(y, from, to)) in runs.iter().enumerate() {
            let root = root_of(parents, index);
            if areas[root] < least_area {
                specks += usize::from(root == index);
                let start = y as usize * self.width as usize;
                self.bits[start + from as usize..start + to as usize].fill(false);
            }
        }
        specks
    }

    /// A mask of the same size that holds one piece only.
    #[must_use]
    pub fn only(&self, component: &Component) -> Self {
        let mut single = Self::new(self.width, self.height);
        for &(y, from, to) in &component.runs {
            let start = y as usize * self.width as usize;
            if let Some(run) = single.bits.get_mut(start + from as usize..start + to as usize) {
                run.fill(true);
            }
        }
        single
    }

    /// The pixels whose centres lie in `view`, as edges `[x0, y0, x1, y1]` clipped to the mask.
    pub(crate) fn pixels_of(&self, view: &View) -> [u32; 4] {
        let edge = |value: f32, limit: u32| ((value + 0.5).floor().max(0.0) as u32).min(limit);
        let (x0, y0) = (edge(view.x, self.width), edge(view.y, self.height));
        let x1 = edge(view.x + view.width, self.width).max(x0);
        let y1 = edge(view.y + view.height, self.height).max(y0);
        [x0, y0, x1, y1]
    }

    fn row(&self, y: usize) -> &[bool] {
        let width = self.width as usize;
        &self.bits[y * width..(y + 1) * width]
    }

    fn box_within(&self, edges: [u32; 4]) -> Option<[u32; 4]> {
        let [x0, y0, x1, y1] = edges;
        let mut found: Option<[u32; 4]> = None;
        for y in y0..y1 {
            let row = &self.row(y as usize)[x0 as usize..x1 as usize];
            let Some(first) = first_set(row) else { continue };
            let last = last_set(row).unwrap_or(first);
            let (first, last) = (x0 + first as u32, x0 + last as u32 + 1);
            found = Some(match found {
                None => [first, y, last, y + 1],
                Some([left, top, right, _]) => [left.min(first), top, right.max(last), y + 1],
            });
        }
        found.map(|[left, top, right, bottom]| [left, top, right - left, bottom - top])
    }

    fn same_size(&self, operation: &'static str, other: &Self) -> Result<(), Error> {
        if (self.width, self.height) == (other.width, other.height) {
            return Ok(());
        }
        Err(Error::Shape {
            operation,
            expected: format!("{}×{} pixels", self.width, self.height),
            got: format!("{}×{}", other.width, other.height),
        })
    }

    /// All runs of set pixels, and for each the index of a run it is linked to (a union-find forest).
    fn link_runs(&self, runs: &mut Vec<(u32, u32, u32)>, parents: &mut Vec<usize>) {
        runs.clear();
        parents.clear();
        let mut above = 0..0;
        for y in 0..self.height {
            let start = runs.len();
            let row = self.row(y as usize);
            let mut x = 0;
            while let Some(offset) = first_set(&row[x..]) {
                let from = x + offset;
                let to = row[from..].iter().position(|&bit| !bit).map_or(row.len(), |length| from + length);
                runs.push((y, from as u32, to as u32));
                parents.push(parents.len());
                x = to;
            }
            let mut first = above.start;
            for index in start..runs.len() {
                let (_, from, to) = runs[index];
                // Corners touch: a run above links when it ends at `from` or begins at `to`.
                while first < above.end && runs[first].2 < from {
                    first += 1;
                }
                let mut other = first;
                while other < above.end && runs[other].1 <= to {
                    let (one, two) = (root_of(parents, index), root_of(parents, other));
                    parents[one.max(two)] = one.min(two);
                    other += 1;
                }
            }
            above = start..runs.len();
        }
    }
}

/// Buffers of [`Bitmap::remove_specks_with`] that live from mask to mask.
#[derive(Debug, Default)]
pub struct SpeckScratch {
    /// `(row, from, to)`, see [`Component::runs`].
    runs: Vec<(u32, u32, u32)>,
    parents: Vec<usize>,
    /// Pixels of each piece, at its root.
    areas: Vec<u64>,
}

/// Pixels that are read at once where most are not set. A sum of so many fits a byte.
const STRETCH: usize = 64;

/// Without a way out in the middle, so that many are read at once.
fn any_set(bits: &[bool]) -> bool {
    bits.iter().fold(false, |any, &bit| any | bit)
}

fn count(bits: &[bool]) -> u64 {
    let stretch = |bits: &[bool]| bits.iter().fold(0_u8, |sum, &bit| sum.wrapping_add(u8::from(bit)));
    bits.chunks(STRETCH).map(|bits| u64::from(stretch(bits))).sum()
}

fn first_set(bits: &[bool]) -> Option<usize> {
    let clear = bits.chunks(STRETCH).take_while(|bits| !any_set(bits)).count() * STRETCH;
    let at = bits.get(clear..)?.iter().position(|&bit| bit)?;
    Some(clear + at)
}

fn last_set(bits: &[bool]) -> Option<usize> {
    let clear = bits.rchunks(STRETCH).take_while(|bits| !any_set(bits)).count() * STRETCH;
    bits[..bits.len().checked_sub(clear)?].iter().rposition(|&bit| bit)
}

/// The root of a run's tree, shortening the way for the next search.
fn root_of(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn drawn(rows: &[&str]) -> Bitmap {
        Bitmap::from_fn(rows[0].len() as u32, rows.len() as u32, |x, y| rows[y as usize].as_bytes()[x as usize] == b'#')
    }

    #[test]
    fn pieces_join_over_corners_and_around_bends() {
        let mask = drawn(&["#.#..#", "#.#.#.", "###...", "......", ".#...."]);
        let pieces = mask.components();
        assert_eq!(pieces.iter().map(|piece| piece.area).collect::<Vec<_>>(), [7, 2, 1]);
        assert_eq!(pieces[0].bounding_box, [0, 0, 3, 3]);
        assert_eq!(pieces[1].bounding_box, [4, 0, 2, 2]);
        assert_eq!(mask.only(&pieces[2]).bounding_box(), Some([1, 4, 1, 1]));
    }

    #[test]
    fn specks_go_and_the_rest_stays() {
        let mut mask = drawn(&["##..#", "##...", "....."]);
        assert_eq!(mask.remove_specks(2), 1);
        assert_eq!(mask, drawn(&["##...", "##...", "....."]));
    }

    #[test]
    fn boxes_and_areas_of_a_view() {
        let mask = drawn(&["......", ".##.#.", ".##...", "......"]);
        assert_eq!(mask.bounding_box(), Some([1, 1, 4, 2]));
        let left = View { x: 0.0, y: 0.0, width: 2.0, height: 4.0 };
        assert_eq!((mask.area_in(&left), mask.box_in(&left)), (2, Some([1, 1, 1, 2])));
        let corner = View { x: 0.0, y: 3.0, width: 6.0, height: 1.0 };
        assert_eq!((mask.area_in(&corner), mask.box_in(&corner)), (0, None));
    }

    #[test]
    fn masks_of_different_sizes_do_not_mix() {
        let error = Bitmap::new(3, 3).unite(&Bitmap::new(3, 4)).unwrap_err();
        assert_eq!(error.to_string(), "unite masks: expected 3×3 pixels, got 3×4");
    }

    proptest! {
        /// Held against plain searches, around the length that is read at once.
        #[test]
        fn set_pixels_are_found_and_counted(length in 0_usize..200, set in prop::collection::vec(0_usize..200, 0..4)) {
            let bits: Vec<bool> = (0..length).map(|at| set.contains(&at)).collect();
            prop_assert_eq!(first_set(&bits), bits.iter().position(|&bit| bit));
            prop_assert_eq!(last_set(&bits), bits.iter().rposition(|&bit| bit));
            prop_assert_eq!(count(&bits), bits.iter().filter(|&&bit| bit).count() as u64);
        }

        #[test]
        fn specks_are_the_small_components(bits in prop::collection::vec(any::<bool>(), 12 * 9), least in 0_u64..12) {
            let mask = Bitmap::from_fn(12, 9, |x, y| bits[(y * 12 + x) as usize]);
            let mut expected = Bitmap::new(12, 9);
            let (large, small): (Vec<_>, Vec<_>) =
                mask.components().into_iter().partition(|component| component.area >= least);
            for component in &large {
                expected.unite(&mask.only(component)).unwrap();
            }
            let (mut left, mut scratch) = (mask.clone(), SpeckScratch::default());
            Bitmap::from_fn(40, 40, |x, y| (x + y) % 3 == 0).remove_specks_with(5, &mut scratch);
            prop_assert_eq!(left.remove_specks_with(least, &mut scratch), small.len());
            prop_assert_eq!(left, expected);
        }

        /// Held against a flood fill, which is slow and plain.
        #[test]
        fn components_are_those_of_a_flood_fill(bits in prop::collection::vec(any::<bool>(), 12 * 9)) {
            let mask = Bitmap::from_fn(12, 9, |x, y| bits[(y * 12 + x) as usize]);
            let mut left = mask.clone();
            let mut areas = Vec::new();
            for start in 0..12 * 9 {
                let mut stack = vec![(start % 12, start / 12)];
                let mut area = 0;
                while let Some((x, y)) = stack.pop() {
                    if !(0..12).contains(&x) || !(0..9).contains(&y) || !left.bits[(y * 12 + x) as usize] {
                        continue;
                    }
                    left.bits[(y * 12 + x) as usize] = false;
                    area += 1;
                    stack.extend((-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy))));
                }
                if area > 0 {
                    areas.push(area);
                }
            }
            areas.sort_unstable_by(|a: &u64, b| b.cmp(a));
            let components = mask.components();
            prop_assert_eq!(components.iter().map(|piece| piece.area).collect::<Vec<_>>(), areas);
            let mut together = Bitmap::new(12, 9);
            for piece in &components {
                let single = mask.only(piece);
                prop_assert_eq!(single.bounding_box(), Some(piece.bounding_box));
                together.unite(&single).unwrap();
            }
            prop_assert_eq!(together, mask);
        }
    }
}
