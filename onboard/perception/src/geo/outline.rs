//! The outline of a piece of a mask, and the centroid of its area on the ground.

use super::Unplaced;
use super::sight::Sight;
use crate::bitmap::Component;

/// Longest stretch of a row that is projected as one quadrilateral: a lens bends longer ones.
const STRETCH: usize = 64;

/// Smallest distance in pixels that simplifying may move the outline by.
const LEAST_TOLERANCE: f64 = 0.5;

/// The outer edge of a piece: corners between pixels where it turns, clockwise in the frame, not closed.
///
/// Follows the cracks between pixels with the piece on the right; pixels that touch by a corner belong together,
/// as in [`crate::Bitmap::components`].
pub(super) fn trace(piece: &Component) -> Vec<[f64; 2]> {
    let [left, top, width, height] = piece.bounding_box;
    let (width, height) = (i64::from(width), i64::from(height));
    let mut bits = vec![false; (width * height) as usize];
    for &(y, from, to) in &piece.runs {
        let row = i64::from(y - top) * width;
        let (from, to) = (row + i64::from(from - left), row + i64::from(to - left));
        bits[from as usize..to as usize].fill(true);
    }
    let inside = |x: i64, y: i64| (0..width).contains(&x) && (0..height).contains(&y) && bits[(y * width + x) as usize];
    let Some(&(first_row, first_column, _)) = piece.runs.first() else { return Vec::new() };
    let start = (i64::from(first_column - left), i64::from(first_row - top));
    let (mut at, mut heading) = (start, (1, 0));
    let mut corners = Vec::new();
    // Every crack is passed once at most, so this ends even if the start were never met again.
    for _ in 0..=4 * piece.area {
        let (dx, dy) = heading;
        at = (at.0 + dx, at.1 + dy);
        // The pixels ahead, left and right of the crack; `(dx, dy)` turned left is `(dy, -dx)`.
        let ahead = |side: (i64, i64)| {
            let twice = (2 * at.0 + dx + side.0, 2 * at.1 + dy + side.1);
            inside((twice.0 - 1) / 2, (twice.1 - 1) / 2)
        };
        let turned = if ahead((dy, -dx)) {
            (dy, -dx)
        } else if ahead((-dy, dx)) {
            heading
        } else {
            (-dy, dx)
        };
        if turned != heading {
            corners.push([(at.0 + i64::from(left)) as f64, (at.1 + i64::from(top)) as f64]);
        }
        heading = turned;
        if at == start && heading == (1, 0) {
            break;
        }
    }
    corners
}

/// At most `most` corners of a closed outline, at least 3 where it has as many.
///
/// Ramer–Douglas–Peucker with the tolerance doubled until the corners are few enough.
/// Source: D. Douglas, T. Peucker, The Canadian Cartographer 10(2), 1973.
pub(super) fn simplify(corners: &[[f64; 2]], most: usize) -> Vec<[f64; 2]> {
    let mut tolerance = LEAST_TOLERANCE;
    loop {
        let kept = reduce(corners, tolerance);
        if kept.len() <= most {
            return if kept.len() >= 3 { kept } else { around(corners) };
        }
        tolerance *= 2.0;
    }
}

/// The corners that lie farther than `tolerance` from the chords between their neighbours.
fn reduce(corners: &[[f64; 2]], tolerance: f64) -> Vec<[f64; 2]> {
    let Some(&first) = corners.first() else { return Vec::new() };
    let mut closed = corners.to_vec();
    closed.push(first);
    let last = closed.len() - 1;
    let mut keep = vec![false; closed.len()];
    keep[0] = true;
    // A closed line has no two ends: the corner farthest from the first makes it two lines.
    let far = (0..last).max_by(|&a, &b| apart(closed[a], first).total_cmp(&apart(closed[b], first))).unwrap_or(0);
    keep[far] = true;
    let mut spans = vec![(0, far), (far, last)];
    while let Some((from, to)) = spans.pop() {
        let chord = (closed[from], closed[to]);
        let farthest = (from + 1..to)
            .map(|index| (index, from_chord(closed[index], chord)))
            .max_by(|one, two| one.1.total_cmp(&two.1));
        if let Some((index, distance)) = farthest
            && distance > tolerance
        {
            keep[index] = true;
            spans.extend([(from, index), (index, to)]);
        }
    }
    closed.iter().zip(&keep).take(last).filter(|(_, keep)| **keep).map(|(corner, _)| *corner).collect()
}

/// The four corners of the box around an outline.
fn around(corners: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let Some(&first) = corners.first() else { return Vec::new() };
    let [x0, y0, x1, y1] = corners.iter().fold([first[0], first[1], first[0], first[1]], |[a, b, c, d], &[x, y]| {
        [a.min(x), b.min(y), c.max(x), d.max(y)]
    });
    vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
}

fn apart(one: [f64; 2], two: [f64; 2]) -> f64 {
    (one[0] - two[0]).hypot(one[1] - two[1])
}

/// Distance of a point from a segment.
fn from_chord(point: [f64; 2], (from, to): ([f64; 2], [f64; 2])) -> f64 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let length = along[0].powi(2) + along[1].powi(2);
    if length == 0.0 {
        return apart(point, from);
    }
    let share = ((point[0] - from[0]) * along[0] + (point[1] - from[1]) * along[1]) / length;
    let share = share.clamp(0.0, 1.0);
    apart(point, [from[0] + share * along[0], from[1] + share * along[1]])
}

/// Centroid of the area that a piece covers on the ground, `[north, east]` in metres from the camera.
///
/// Not the ground below the centroid of the pixels: far pixels are larger, and those of a slanting view would pull it near.
/// Straight lines stay straight through a perfect lens, so the quadrilaterals of all stretches tile the area exactly.
///
/// # Errors
/// When a corner of a pixel meets no ground or lies beyond the range.
pub(super) fn centroid(sight: &Sight, piece: &Component) -> Result<[f64; 2], Unplaced> {
    let mut origin: Option<[f64; 2]> = None;
    let (mut area, mut moment) = (0.0, [0.0; 2]);
    for &(y, from, to) in &piece.runs {
        for x0 in (from..to).step_by(STRETCH) {
            let x1 = to.min(x0 + STRETCH as u32);
            let [x0, x1, y0, y1] = [x0, x1, y, y + 1].map(f64::from);
            let mut corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
            for corner in &mut corners {
                *corner = sight.ground(*corner)?;
            }
            // Measured from a corner of the piece: differences of far coordinates lose digits.
            let [north, east] = *origin.get_or_insert(corners[0]);
            let corners = corners.map(|corner| [corner[0] - north, corner[1] - east]);
            let (part, centre) = polygon(&corners);
            area += part;
            moment = [moment[0] + centre[0], moment[1] + centre[1]];
        }
    }
    // A piece seen edge-on covers no area that a double can hold.
    let origin = origin.filter(|_| area.abs() > f64::MIN_POSITIVE).ok_or(Unplaced::ErrorUnknown)?;
    Ok([origin[0] + moment[0] / area, origin[1] + moment[1] / area])
}

/// Signed area of a quadrilateral, and the area times its centroid (Gauss's area formula).
fn polygon(corners: &[[f64; 2]; 4]) -> (f64, [f64; 2]) {
    let (mut area, mut moment) = (0.0, [0.0; 2]);
    for (index, from) in corners.iter().enumerate() {
        let to = &corners[(index + 1) % corners.len()];
        let cross = (from[0] * to[1] - to[0] * from[1]) / 2.0;
        area += cross;
        moment = [moment[0] + cross * (from[0] + to[0]) / 3.0, moment[1] + cross * (from[1] + to[1]) / 3.0];
    }
    (area, moment)
}
