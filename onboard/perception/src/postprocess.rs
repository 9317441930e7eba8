//! From the model's mask logits to a mask of the frame.

use crate::bitmap::Bitmap;
use crate::error::Error;
use crate::preprocess::Letterbox;
use kestrel_link::{MaskScratch, Segment};

/// Most candidates named for an ambiguous query.
pub const MOST_CANDIDATES: usize = 8;

/// Where a pixel lies between two cells of the logits, along one axis.
#[derive(Debug, Clone, Copy)]
struct Between {
    cell: usize,
    next: usize,
    share: f32,
}

/// Neighbouring columns between the same two cells, from the first to before the last.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: usize,
    to: usize,
    cell: usize,
    next: usize,
}

/// Buffers of [`upsample_with`] that live from mask to mask.
#[derive(Debug, Default)]
pub struct UpsampleScratch {
    columns: Vec<Between>,
    stretches: Vec<Stretch>,
    line: Vec<f32>,
}

/// Sets in `out` (the frame's size) the pixels of the letterbox's view whose mask probability exceeds `threshold`.
///
/// `logits` are `side` × `side`, row-major, over the model's input; they are interpolated bilinearly.
/// Pixels outside the view are left as they are.
/// Logits that are not finite are an error: they come from an engine that cannot be trusted.
pub fn upsample(
    logits: &[f32],
    side: usize,
    letterbox: &Letterbox,
    threshold: f32,
    out: &mut Bitmap,
) -> Result<(), Error> {
    upsample_with((logits, side), letterbox, threshold, out, &mut UpsampleScratch::default())
}

/// As [`upsample`], in the memory of `scratch`: allocates only where a frame is wider than any before.
pub fn upsample_with(
    (logits, side): (&[f32], usize),
    letterbox: &Letterbox,
    threshold: f32,
    out: &mut Bitmap,
    scratch: &mut UpsampleScratch,
) -> Result<(), Error> {
    const OPERATION: &str = "upsample mask";
    if side == 0 || logits.len() != side * side {
        return Err(Error::Shape {
            operation: OPERATION,
            expected: format!("{side}×{side} logits"),
            got: format!("{}", logits.len()),
        });
    }
    // Written so that a NaN is refused.
    if !(threshold > 0.0 && threshold < 1.0) {
        return Err(Error::Range { operation: OPERATION, expected: "a probability between 0 and 1", got: threshold });
    }
    let count = logits.iter().filter(|value| !value.is_finite()).count();
    if count > 0 {
        return Err(Error::NotFinite { operation: OPERATION, count });
    }
    letterbox.view.check(OPERATION, out.width(), out.height())?;
    let level = (threshold / (1.0 - threshold)).ln();
    let [x0, y0, x1, y1] = out.pixels_of(&letterbox.view);
    let cells_per_pixel = side as f32 / letterbox.size as f32;
    scratch.lay((x0..x1).map(|x| between(letterbox.to_model(x as f32 + 0.5, 0.0).0 * cells_per_pixel, side)), side);
    let UpsampleScratch { columns, stretches, line } = scratch;
    let (columns, stretches) = (columns.as_slice(), stretches.as_slice());
    let width = out.width() as usize;
    let rows = out.bits_mut().chunks_exact_mut(width.max(1)).enumerate();
    for (y, row) in rows.take(y1 as usize).skip(y0 as usize) {
        let place = between(letterbox.to_model(0.0, y as f32 + 0.5).1 * cells_per_pixel, side);
        let (above, below) = (&logits[place.cell * side..][..side], &logits[place.next * side..][..side]);
        for ((value, &above), &below) in line.iter_mut().zip(above).zip(below) {
            *value = above + (below - above) * place.share;
        }
        threshold_row(line, (columns, stretches), level, &mut row[x0 as usize..x1 as usize]);
    }
    Ok(())
}

impl UpsampleScratch {
    /// Takes in the columns of a frame, and which of them lie between the same cells.
    fn lay(&mut self, columns: impl Iterator<Item = Between>, side: usize) {
        self.columns.clear();
        self.columns.extend(columns);
        self.stretches.clear();
        for (at, column) in self.columns.iter().enumerate() {
            match self.stretches.last_mut() {
                Some(stretch) if stretch.cell == column.cell => (stretch.to, stretch.next) = (at + 1, column.next),
                _ => {
                    let &Between { cell, next, .. } = column;
                    self.stretches.push(Stretch { from: at, to: at + 1, cell, next });
                }
            }
        }
        self.line.clear();
        self.line.resize(side, 0.0);
    }
}

/// Compares one interpolated row with `level`. Most rows, and most stretches between two cells, are on one side and need no
/// interpolation.
fn threshold_row(line: &[f32], (columns, stretches): (&[Between], &[Stretch]), level: f32, row: &mut [bool]) {
    row.fill(false);
    // Without a way out in the middle, so that many are compared at once.
    if line.iter().fold(true, |all, &value| all & (value <= level)) {
        return;
    }
    for &Stretch { from, to, cell, next } in stretches {
        let (left, right) = (line[cell], line[next]);
        if left > level && right > level {
            row[from..to].fill(true);
        } else if !(left <= level && right <= level) {
            for (pixel, column) in row[from..to].iter_mut().zip(&columns[from..to]) {
                *pixel = left + (line[column.next] - left) * column.share > level;
            }
        }
    }
}

/// The cells around a place given in cells, edges repeated; cell `i` has its centre at `i + 0.5`.
fn between(place: f32, side: usize) -> Between {
    let place = (place - 0.5).clamp(0.0, (side - 1) as f32);
    let cell = place as usize;
    Between { cell, next: (cell + 1).min(side - 1), share: place - cell as f32 }
}

/// A mask with what is known of it, ready to send; `None` when it is empty.
///
/// `presence` and `predicted_iou` are probabilities in 0..=1.
pub fn segment(bitmap: &Bitmap, presence: f32, predicted_iou: f32) -> Result<Option<Segment>, Error> {
    segment_with(bitmap, presence, predicted_iou, &mut MaskScratch::default(), &mut String::new())
}

/// As [`segment`], in the memory of `scratch` and of `counts`, which is taken where there is a mask.
pub fn segment_with(
    bitmap: &Bitmap,
    presence: f32,
    predicted_iou: f32,
    scratch: &mut MaskScratch,
    counts: &mut String,
) -> Result<Option<Segment>, Error> {
    let Some(bounding_box) = bitmap.bounding_box() else { return Ok(None) };
    let mask = bitmap.to_mask_with(scratch, std::mem::take(counts))?;
    let area_pixels = bitmap.area();
    Ok(Some(Segment { mask, presence, predicted_iou, bounding_box, area_pixels, positions: Vec::new(), track: None }))
}

/// The pieces of a mask as candidates of an ambiguous query: the largest, at most [`MOST_CANDIDATES`], none under `least_area` pixels.
pub fn candidates(bitmap: &Bitmap, presence: f32, predicted_iou: f32, least_area: u64) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for piece in bitmap.components().iter().take(MOST_CANDIDATES) {
        if piece.area >= least_area
            && let Some(segment) = segment(&bitmap.only(piece), presence, predicted_iou)?
        {
            segments.push(segment);
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::preprocess::View;
    use proptest::prelude::*;

    #[test]
    fn the_mask_lies_where_the_logits_are() {
        // The left half of a wide frame, seen through a letterbox with bars above and below.
        let letterbox = Letterbox::new(View::whole(1920, 1080), 512);
        let logits: Vec<f32> = (0..128 * 128).map(|index| if index % 128 < 64 { 8.0 } else { -8.0 }).collect();
        let mut out = Bitmap::new(1920, 1080);
        upsample(&logits, 128, &letterbox, 0.5, &mut out).unwrap();
        let half = Bitmap::from_fn(1920, 1080, |x, _| x < 960);
        assert!(out.iou(&half).unwrap() > 0.999);
    }

    #[test]
    fn only_the_view_is_written() {
        let view = View { x: 100.0, y: 0.0, width: 100.0, height: 100.0 };
        let mut out = Bitmap::new(300, 100);
        upsample(&vec![5.0; 64], 8, &Letterbox::new(view, 512), 0.5, &mut out).unwrap();
        assert_eq!(out.bounding_box(), Some([100, 0, 100, 100]));
    }

    #[test]
    fn broken_logits_are_errors() {
        let letterbox = Letterbox::new(View::whole(64, 64), 512);
        let mut out = Bitmap::new(64, 64);
        let error = upsample(&[f32::NAN; 16], 4, &letterbox, 0.5, &mut out).unwrap_err();
        assert_eq!(error.to_string(), "upsample mask: expected finite numbers, got 16 that are not");
        assert!(upsample(&[0.0; 15], 4, &letterbox, 0.5, &mut out).is_err());
        assert!(upsample(&[0.0; 16], 4, &letterbox, 1.0, &mut out).is_err());
        let mut other = Bitmap::new(32, 64);
        assert!(upsample(&[0.0; 16], 4, &letterbox, 0.5, &mut other).is_err());
    }

    #[test]
    fn candidates_are_the_large_pieces() {
        let mask = Bitmap::from_fn(100, 10, |x, y| x % 10 < 4 && y < 2 + x / 10);
        let found = candidates(&mask, 0.9, 0.8, 20).unwrap();
        assert_eq!(found.iter().map(|segment| segment.area_pixels).collect::<Vec<_>>(), [40, 40, 36, 32, 28, 24, 20]);
        assert_eq!(segment(&Bitmap::new(4, 4), 0.9, 0.9).unwrap(), None);
    }

    proptest! {
        /// Held against the formula pixel by pixel.
        #[test]
        fn upsampling_is_bilinear(logits in prop::collection::vec(-4.0_f32..4.0, 36), threshold in 0.1_f32..0.9, width in 1_u32..90, height in 1_u32..90) {
            let letterbox = Letterbox::new(View::whole(width, height), 48);
            let mut out = Bitmap::new(width, height);
            upsample(&logits, 6, &letterbox, threshold, &mut out).unwrap();
            for y in 0..height {
                for x in 0..width {
                    let (u, v) = letterbox.to_model(x as f32 + 0.5, y as f32 + 0.5);
                    let (u, v) = ((u / 8.0 - 0.5).clamp(0.0, 5.0), (v / 8.0 - 0.5).clamp(0.0, 5.0));
                    let (i, j) = (u as usize, v as usize);
                    let at = |j: usize, i: usize| logits[j.min(5) * 6 + i.min(5)];
                    let (s, t) = (u - i as f32, v - j as f32);
                    let value = (1.0 - t) * ((1.0 - s) * at(j, i) + s * at(j, i + 1))
                        + t * ((1.0 - s) * at(j + 1, i) + s * at(j + 1, i + 1));
                    let probability = 1.0 / (1.0 + (-value).exp());
                    if (probability - threshold).abs() > 1e-3 {
                        prop_assert_eq!(out.get(x, y), probability > threshold, "at ({}, {})", x, y);
                    }
                }
            }
        }
    }
}
