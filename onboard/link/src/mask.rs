//! Binary masks as COCO run lengths.

use crate::error::LinkError;
use crate::rle;
use serde::{Deserialize, Serialize};

/// Largest width and height of a mask in pixels.
pub const MAX_SIDE: u32 = 8192;

/// Longest `counts` accepted from the link, in bytes; leaves room for the rest of a [`crate::Reply`] under 64 KiB.
pub const MAX_COUNTS_BYTES: usize = 48 * 1024;

/// A binary mask in COCO's run-length form: column-major, runs alternate 0s and 1s and begin with 0s.
///
/// Source of the format: COCO API, `maskApi`. `counts` is COCO's compressed ASCII string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// COCO compressed run lengths.
    pub counts: String,
}

impl Mask {
    /// A mask of `bits`, row-major, `width * height` of them.
    ///
    /// # Errors
    /// When a side is 0 or above [`MAX_SIDE`], or the number of bits does not fit.
    pub fn from_bits(width: u32, height: u32, bits: &[bool]) -> Result<Self, LinkError> {
        Self::from_bits_with(width, height, bits, &mut MaskScratch::default(), String::new())
    }

    /// As [`Mask::from_bits`], in the memory of `scratch` and of `counts`, which is written over: allocates only where a
    /// mask is larger than any before.
    ///
    /// # Errors
    /// As [`Mask::from_bits`].
    pub fn from_bits_with(
        width: u32,
        height: u32,
        bits: &[bool],
        scratch: &mut MaskScratch,
        mut counts: String,
    ) -> Result<Self, LinkError> {
        let pixels = check_sides(width, height)?;
        if bits.len() as u64 != pixels {
            return Err(LinkError::field("mask.bits", format!("{pixels} bits"), bits.len()));
        }
        let (columns, rows) = (width as usize, height as usize);
        let MaskScratch { block, runs: done } = scratch;
        let mut runs = Runs::within(std::mem::take(done));
        // Rows are read whole and written to a few columns at a time: walking down single columns misses the cache at every step.
        block.resize(BLOCK.min(columns) * rows, false);
        for x0 in (0..columns).step_by(BLOCK) {
            let wide = BLOCK.min(columns - x0);
            let part = |y: usize| &bits[y * columns + x0..y * columns + x0 + wide];
            // Most of a frame is not target, and needs no turning.
            let Some(top) = (0..rows).find(|&y| any_set(part(y))) else {
                runs.push(false, (wide * rows) as u32);
                continue;
            };
            let bottom = (top..rows).rfind(|&y| any_set(part(y))).map_or(rows, |y| y + 1);
            let tall = bottom - top;
            for y in top..bottom {
                for (x, &bit) in part(y).iter().enumerate() {
                    block[x * tall + y - top] = bit;
                }
            }
            for column in block[..wide * tall].chunks_exact(tall) {
                runs.push(false, top as u32);
                column.iter().for_each(|&bit| runs.push(bit, 1));
                runs.push(false, (rows - bottom) as u32);
            }
        }
        *done = runs.finish();
        rle::write(done, &mut counts);
        Ok(Self { width, height, counts })
    }

    /// A mask of all pixels (x, y) for which `inside` holds.
    ///
    /// # Errors
    /// When a side is 0 or above [`MAX_SIDE`].
    pub fn from_fn(width: u32, height: u32, mut inside: impl FnMut(u32, u32) -> bool) -> Result<Self, LinkError> {
        check_sides(width, height)?;
        let mut runs = Runs::default();
        for x in 0..width {
            for y in 0..height {
                runs.push(inside(x, y), 1);
            }
        }
        Ok(Self { width, height, counts: rle::to_string(&runs.finish()) })
    }

    /// A mask with no pixel set.
    ///
    /// # Errors
    /// When a side is 0 or above [`MAX_SIDE`].
    pub fn empty(width: u32, height: u32) -> Result<Self, LinkError> {
        let pixels = check_sides(width, height)?;
        Ok(Self { width, height, counts: rle::to_string(&[pixels as u32]) })
    }

    /// The uncompressed run lengths: zeros, ones, zeros, …; their sum is `width * height`.
    ///
    /// # Errors
    /// When a side is out of range or `counts` is not a run-length string of this size.
    pub fn runs(&self) -> Result<Vec<u32>, LinkError> {
        let pixels = check_sides(self.width, self.height)?;
        rle::from_string(&self.counts, pixels)
    }

    /// All bits, row-major, `width * height` of them.
    ///
    /// # Errors
    /// As [`Mask::runs`].
    pub fn to_bits(&self) -> Result<Vec<bool>, LinkError> {
        let runs = self.runs()?;
        let (columns, rows) = (self.width as usize, self.height as usize);
        let mut bits = vec![false; columns * rows];
        for (start, end) in ones(&runs) {
            for i in start..end {
                bits[(i % rows) * columns + i / rows] = true;
            }
        }
        Ok(bits)
    }

    /// Number of set pixels.
    ///
    /// # Errors
    /// As [`Mask::runs`].
    pub fn area(&self) -> Result<u64, LinkError> {
        Ok(self.runs()?.iter().skip(1).step_by(2).map(|&run| u64::from(run)).sum())
    }

    /// `[x, y, width, height]` of the set pixels, `None` when there are none.
    ///
    /// # Errors
    /// As [`Mask::runs`].
    pub fn bounding_box(&self) -> Result<Option<[u32; 4]>, LinkError> {
        let runs = self.runs()?;
        let rows = self.height as usize;
        let mut found: Option<[usize; 4]> = None;
        for (start, end) in ones(&runs) {
            let last = end - 1;
            let (x0, x1) = (start / rows, last / rows);
            // A run that turns the corner of a column holds that column's last row and the next one's first.
            let (y0, y1) = if x0 == x1 { (start % rows, last % rows) } else { (0, rows - 1) };
            found = Some(match found {
                None => [x0, y0, x1, y1],
                Some([a, b, c, d]) => [a.min(x0), b.min(y0), c.max(x1), d.max(y1)],
            });
        }
        Ok(found.map(|[x0, y0, x1, y1]| [x0 as u32, y0 as u32, (x1 - x0 + 1) as u32, (y1 - y0 + 1) as u32]))
    }

    /// Intersection over union with a mask of the same size; 1 when both are empty.
    ///
    /// # Errors
    /// As [`Mask::runs`], and when the sizes differ.
    pub fn iou(&self, other: &Self) -> Result<f32, LinkError> {
        let (mut both, mut either) = (0u64, 0u64);
        self.walk(other, |a, b, pixels| {
            both += u64::from(a && b) * u64::from(pixels);
            either += u64::from(a || b) * u64::from(pixels);
        })?;
        Ok(if either == 0 { 1.0 } else { (both as f64 / either as f64) as f32 })
    }

    /// All pixels set in either of two masks of the same size.
    ///
    /// # Errors
    /// As [`Mask::runs`], and when the sizes differ.
    pub fn union(&self, other: &Self) -> Result<Self, LinkError> {
        let mut runs = Runs::default();
        self.walk(other, |a, b, pixels| runs.push(a || b, pixels))?;
        Ok(Self { width: self.width, height: self.height, counts: rle::to_string(&runs.finish()) })
    }

    /// The mask with its finest detail dropped until `counts` has at most `bytes` bytes.
    ///
    /// Runs shorter than 2, 4, 8, … pixels are given to the run before them; a mask that fits already is returned as it is.
    ///
    /// # Errors
    /// As [`Mask::runs`].
    pub fn simplify(&self, bytes: usize) -> Result<Self, LinkError> {
        let runs = self.runs()?;
        let mut counts = self.counts.clone();
        let mut shortest = 1u32;
        while counts.len() > bytes && shortest < MAX_SIDE * MAX_SIDE {
            shortest *= 2;
            let mut coarse = Runs::default();
            let mut previous = false;
            for (i, &run) in runs.iter().enumerate() {
                if run >= shortest {
                    previous = i % 2 == 1;
                }
                coarse.push(previous, run);
            }
            counts = rle::to_string(&coarse.finish());
        }
        Ok(Self { width: self.width, height: self.height, counts })
    }

    /// Checks a mask that came over the link.
    ///
    /// # Errors
    /// As [`Mask::runs`], and when `counts` is longer than [`MAX_COUNTS_BYTES`].
    pub fn validate(&self) -> Result<(), LinkError> {
        if self.counts.len() > MAX_COUNTS_BYTES {
            return Err(LinkError::TooLarge {
                operation: "read mask counts",
                limit: MAX_COUNTS_BYTES,
                got: self.counts.len(),
            });
        }
        self.runs().map(drop)
    }

    /// Calls `visit(bit of self, bit of other, pixels)` for each stretch over which neither changes.
    fn walk(&self, other: &Self, mut visit: impl FnMut(bool, bool, u32)) -> Result<(), LinkError> {
        if (self.width, self.height) != (other.width, other.height) {
            return Err(LinkError::field(
                "mask.size",
                format!("{}x{}", self.width, self.height),
                (other.width, other.height),
            ));
        }
        let (a, b) = (self.runs()?, other.runs()?);
        let (mut i, mut j) = (0, 0);
        let (mut left_a, mut left_b) = (a.first().copied(), b.first().copied());
        while let (Some(in_a), Some(in_b)) = (left_a, left_b) {
            let step = in_a.min(in_b);
            if step > 0 {
                visit(i % 2 == 1, j % 2 == 1, step);
            }
            left_a = if in_a > step {
                Some(in_a - step)
            } else {
                i += 1;
                a.get(i).copied()
            };
            left_b = if in_b > step {
                Some(in_b - step)
            } else {
                j += 1;
                b.get(j).copied()
            };
        }
        Ok(())
    }
}

/// Buffers of [`Mask::from_bits_with`] that live from mask to mask.
#[derive(Debug, Default)]
pub struct MaskScratch {
    /// A few columns of the mask, one after the other.
    block: Vec<bool>,
    runs: Vec<u32>,
}

/// Whether a bit is set; without a way out in the middle, so that many are read at once.
fn any_set(bits: &[bool]) -> bool {
    bits.iter().fold(false, |any, &bit| any | bit)
}

/// Columns turned at a time in [`Mask::from_bits`]: one cache line of bits.
const BLOCK: usize = 64;

/// Run lengths in the making.
#[derive(Default)]
struct Runs {
    done: Vec<u32>,
    value: bool,
    length: u32,
}

impl Runs {
    /// No run yet, in memory that was used before.
    fn within(mut done: Vec<u32>) -> Self {
        done.clear();
        Self { done, value: false, length: 0 }
    }

    fn push(&mut self, bit: bool, pixels: u32) {
        if pixels > 0 && bit != self.value {
            self.done.push(self.length);
            self.value = bit;
            self.length = 0;
        }
        self.length += pixels;
    }

    fn finish(mut self) -> Vec<u32> {
        self.done.push(self.length);
        self.done
    }
}

/// Half-open ranges of set pixels, column-major.
fn ones(runs: &[u32]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0usize;
    runs.iter().enumerate().filter_map(move |(i, &run)| {
        let start = at;
        at += run as usize;
        (i % 2 == 1 && run > 0).then_some((start, at))
    })
}

fn check_sides(width: u32, height: u32) -> Result<u64, LinkError> {
    for (field, side) in [("mask.width", width), ("mask.height", height)] {
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(LinkError::field(field, format!("1..={MAX_SIDE} pixels"), side));
        }
    }
    Ok(u64::from(width) * u64::from(height))
}
