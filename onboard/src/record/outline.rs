//! Outlines of masks: closed lines along the edges of pixels.

use std::collections::BTreeMap;

use kestrel_link::{LinkError, Mask};

/// A corner between pixels: (x, y), the origin at the top-left corner of the top-left pixel.
pub(super) type Corner = (u32, u32);

/// Set pixels `top..bottom` of a column.
type Stretch = (u32, u32);

/// Edges by the corner that they start from, each with the set pixels on its right-hand side as seen on the screen.
type Edges = BTreeMap<Corner, Vec<Corner>>;

/// The closed lines around a mask and around its holes, without corners on straight lines.
///
/// `None` when it has more than `most` edges: such a mask is noise, and nobody would see its outline.
///
/// # Errors
/// When the mask is not whole.
pub(super) fn outline(mask: &Mask, most: usize) -> Result<Option<Vec<Vec<Corner>>>, LinkError> {
    let mut edges = Edges::new();
    let mut count = 0;
    let (mut before, mut reached) = (Vec::new(), 0);
    for (x, column) in columns(mask)? {
        if x > reached {
            // Columns without pixels lie between.
            upright(&mut edges, reached, &before, &[]);
            before.clear();
        }
        for &(top, bottom) in &column {
            edges.entry((x, top)).or_default().push((x + 1, top));
            edges.entry((x + 1, bottom)).or_default().push((x, bottom));
        }
        upright(&mut edges, x, &before, &column);
        count += 4 * column.len() + 2 * before.len();
        if count > most {
            return Ok(None);
        }
        (before, reached) = (column, x + 1);
    }
    upright(&mut edges, reached, &before, &[]);
    Ok(Some(trace(edges)))
}

/// Stretches `top..bottom` of set pixels, column by column; columns without any are left out.
fn columns(mask: &Mask) -> Result<Vec<(u32, Vec<Stretch>)>, LinkError> {
    let runs = mask.runs()?;
    let height = u64::from(mask.height);
    let mut columns: Vec<(u32, Vec<Stretch>)> = Vec::new();
    let mut at = 0u64;
    for (index, &run) in runs.iter().enumerate() {
        let end = at + u64::from(run);
        // Runs go on over the ends of columns.
        while index % 2 == 1 && at < end {
            let (x, top) = ((at / height) as u32, (at % height) as u32);
            let stop = end.min((u64::from(x) + 1) * height);
            let stretch = (top, top + (stop - at) as u32);
            match columns.last_mut() {
                Some((last, stretches)) if *last == x => stretches.push(stretch),
                _ => columns.push((x, vec![stretch])),
            }
            at = stop;
        }
        at = end;
    }
    Ok(columns)
}

/// Adds the edges along the upright line `x`, between the stretches on its left and those on its right.
fn upright(edges: &mut Edges, x: u32, left: &[Stretch], right: &[Stretch]) {
    for (top, bottom) in without(left, right) {
        edges.entry((x, top)).or_default().push((x, bottom));
    }
    for (top, bottom) in without(right, left) {
        edges.entry((x, bottom)).or_default().push((x, top));
    }
}

/// What the stretches `all` cover and `holes` do not; both ascend and touch nowhere.
fn without(all: &[Stretch], holes: &[Stretch]) -> Vec<Stretch> {
    let mut left = Vec::new();
    for &(top, bottom) in all {
        let mut from = top;
        for &(hole_top, hole_bottom) in holes.iter().filter(|hole| hole.1 > top && hole.0 < bottom) {
            if hole_top > from {
                left.push((from, hole_top));
            }
            from = from.max(hole_bottom);
        }
        if from < bottom {
            left.push((from, bottom));
        }
    }
    left
}

/// Joins edges to closed lines. As many edges end in a corner as start there, so every walk comes back.
fn trace(mut edges: Edges) -> Vec<Vec<Corner>> {
    let mut lines = Vec::new();
    while let Some(&start) = edges.keys().next() {
        let mut line = vec![start];
        let mut at = start;
        while let Some(next) = leave(&mut edges, at) {
            if next == start {
                break;
            }
            line.push(next);
            at = next;
        }
        lines.push(straightened(&line));
    }
    lines
}

/// Takes one edge that starts in a corner.
fn leave(edges: &mut Edges, from: Corner) -> Option<Corner> {
    let ends = edges.get_mut(&from)?;
    let next = ends.pop();
    if ends.is_empty() {
        edges.remove(&from);
    }
    next
}

/// A closed line without the corners in which it goes straight on.
fn straightened(line: &[Corner]) -> Vec<Corner> {
    let count = line.len();
    let turns = |index: usize| {
        let (before, at, after) = (line[(index + count - 1) % count], line[index], line[(index + 1) % count]);
        !((before.0 == at.0 && at.0 == after.0) || (before.1 == at.1 && at.1 == after.1))
    };
    (0..count).filter(|&index| turns(index)).map(|index| line[index]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn of(width: u32, height: u32, inside: impl FnMut(u32, u32) -> bool) -> Vec<Vec<Corner>> {
        outline(&Mask::from_fn(width, height, inside).unwrap(), usize::MAX).unwrap().unwrap()
    }

    /// Twice the area that a line goes around; holes count against it.
    fn doubled_area(line: &[Corner]) -> i64 {
        let next = line.iter().cycle().skip(1);
        line.iter().zip(next).map(|(a, b)| i64::from(a.0) * i64::from(b.1) - i64::from(b.0) * i64::from(a.1)).sum()
    }

    #[test]
    fn a_rectangle_has_four_corners() {
        let lines = of(20, 10, |x, y| (3..8).contains(&x) && (2..6).contains(&y));
        assert_eq!(lines.len(), 1);
        let mut corners = lines[0].clone();
        corners.sort_unstable();
        assert_eq!(corners, [(3, 2), (3, 6), (8, 2), (8, 6)]);
    }

    #[test]
    fn pieces_and_holes_have_lines_of_their_own() {
        let hole = of(12, 12, |x, y| (1..8).contains(&x) && (1..8).contains(&y) && (x, y) != (4, 4));
        assert_eq!(hole.len(), 2, "{hole:?}");
        let two = of(12, 12, |x, y| y < 2 && !(2..=8).contains(&x));
        assert_eq!(two.len(), 2, "{two:?}");
        assert!(of(12, 12, |_, _| false).is_empty());
        assert_eq!(of(4, 3, |_, _| true).len(), 1, "a run that goes over every column");
    }

    #[test]
    fn noise_has_no_outline() {
        let mask = Mask::from_fn(100, 100, |x, y| (x + y) % 2 == 0).unwrap();
        assert_eq!(outline(&mask, 4096).unwrap(), None);
    }

    proptest! {
        /// What would break: an edge left out, doubled or turned round.
        #[test]
        fn lines_go_around_exactly_the_set_pixels(bits in proptest::collection::vec(any::<bool>(), 48)) {
            let mask = Mask::from_bits(8, 6, &bits).unwrap();
            let lines = outline(&mask, usize::MAX).unwrap().unwrap();
            let around: i64 = lines.iter().map(|line| doubled_area(line)).sum();
            prop_assert_eq!(around, 2 * mask.area().unwrap() as i64);
        }
    }
}
