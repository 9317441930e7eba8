//! One pass over sparse columns of every row: light, colour, repetition and broken rows.

use super::histogram::Histogram;
use image::RgbImage;

/// Columns that are read of each row.
const COLUMNS: usize = 96;

/// Most rows that are read; a taller frame is read in every n-th row.
const ROWS: usize = 2160;

/// Difference of neighbouring rows, in grey levels, that a tear must reach in a column.
const TEAR_STEP: i32 = 8;

/// Share of the columns that must differ so.
const TEAR_WIDTH: f32 = 0.65;

/// How one-sided the differences may be: a shore or a field's edge along the rows makes all columns lighter, or all darker.
const TEAR_BIAS: f32 = 0.7;

/// By how many grey levels green exceeds blue in a warm pixel.
const WARM_STEP: i32 = 12;

/// How much constant rows may vary, in grey levels: a decoder's fill is exact, while still water is not.
const CONSTANT_SPAN: u8 = 1;

/// What one pass over the frame tells.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Luma, 0..=255.
    pub(super) luma: Histogram,
    /// Least channel of each pixel (the dark channel of haze removal), 0..=255.
    pub(super) darkest: Histogram,
    /// Greatest less least channel of each pixel: 0 is grey.
    pub(super) chroma: Histogram,
    /// Mean of (red + blue) / 2 − green, in 0..=1: plants and soil are magenta in false-colour infrared only.
    pub(super) magenta: f32,
    /// Share of pixels whose green clearly exceeds blue: plants, earth, brick.
    pub(super) warm_share: f32,
    /// Share of the rows, counted from the bottom, that are one constant colour.
    pub(super) constant_bottom: f32,
    /// The same counted from the top.
    pub(super) constant_top: f32,
    /// Strongest jump between neighbouring rows over the whole width, relative to the rows around it; 0 when there is none.
    pub(super) tear: f32,
    /// Hash of all that was read.
    pub(super) fingerprint: u64,
}

/// Reads the frame, which has at least one pixel; `rows` is memory to work in.
pub(super) fn read(frame: &RgbImage, rows: &mut Vec<Row>) -> Samples {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let count = width.min(COLUMNS);
    let mut offsets = [0; COLUMNS];
    for (index, offset) in offsets.iter_mut().enumerate().take(count) {
        *offset = (2 * index + 1) * width / (2 * count) * 3;
    }
    let stride = height.div_ceil(ROWS);
    let mut samples = Samples { fingerprint: 0xcbf2_9ce4_8422_2325, ..Samples::default() };
    let (mut magenta, mut warm, mut total) = (0_i64, 0_u32, 0_u32);
    let (mut line, mut before) = (Line::default(), [0_u8; COLUMNS]);
    rows.clear();
    for (index, row) in frame.as_raw().chunks_exact(width * 3).step_by(stride).enumerate() {
        line.gather(row, &offsets[..count]);
        line.derive();
        samples.luma.add_all(&line.luma[..count]);
        samples.darkest.add_all(&line.darkest[..count]);
        samples.chroma.add_all(&line.chroma[..count]);
        magenta += i64::from(line.magenta(count));
        warm += line.warm(count);
        samples.fingerprint = line.fingerprint(count, samples.fingerprint);
        total += count as u32;
        rows.push(Row::new(&line.luma[..count], (index > 0).then_some(&before[..count])));
        before = line.luma;
    }
    samples.magenta = magenta as f32 / (2.0 * 255.0 * total.max(1) as f32);
    samples.warm_share = warm as f32 / total.max(1) as f32;
    let (top, bottom) = (constant(rows.iter()), constant(rows.iter().rev()));
    let share = |count: usize| count as f32 / rows.len().max(1) as f32;
    (samples.constant_top, samples.constant_bottom) = (share(top), share(bottom));
    // Rows that are not neighbours tell nothing of a tear, and where a letterbox's bars end the picture begins.
    let pictured = rows.get(top..rows.len().saturating_sub(bottom)).unwrap_or_default();
    samples.tear = if stride == 1 { tear(pictured) } else { 0.0 };
    samples
}

/// Luma of ITU-R BT.601 in fixed point.
pub(super) fn luma(red: u8, green: u8, blue: u8) -> u8 {
    ((77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue) + 128) >> 8) as u8
}

/// The pixels that are read of one row, a value at a time so that many are computed at once; those behind the last are 0.
struct Line {
    red: [u8; COLUMNS],
    green: [u8; COLUMNS],
    blue: [u8; COLUMNS],
    luma: [u8; COLUMNS],
    /// Least channel.
    darkest: [u8; COLUMNS],
    /// Greatest less least channel.
    chroma: [u8; COLUMNS],
}

impl Default for Line {
    fn default() -> Self {
        let none = [0; COLUMNS];
        Self { red: none, green: none, blue: none, luma: none, darkest: none, chroma: none }
    }
}

impl Line {
    /// Reads the pixels at `offsets`. Nothing else is done here: every one is a place of its own in memory, and many are
    /// to be fetched at once.
    fn gather(&mut self, row: &[u8], offsets: &[usize]) {
        let places = self.red.iter_mut().zip(&mut self.green).zip(&mut self.blue);
        for (((red, green), blue), &offset) in places.zip(offsets) {
            if let Some(&[r, g, b]) = row.get(offset..offset + 3) {
                (*red, *green, *blue) = (r, g, b);
            }
        }
    }

    fn derive(&mut self) {
        for index in 0..COLUMNS {
            let (red, green, blue) = (self.red[index], self.green[index], self.blue[index]);
            let (least, greatest) = (red.min(green).min(blue), red.max(green).max(blue));
            self.luma[index] = luma(red, green, blue);
            self.darkest[index] = least;
            self.chroma[index] = greatest - least;
        }
    }

    /// Sum of red + blue − 2 · green over the first `count` pixels.
    fn magenta(&self, count: usize) -> i32 {
        let sum = |values: &[u8; COLUMNS]| values[..count].iter().fold(0_i32, |sum, &v| sum.wrapping_add(i32::from(v)));
        sum(&self.red) + sum(&self.blue) - 2 * sum(&self.green)
    }

    fn warm(&self, count: usize) -> u32 {
        let pixels = self.green[..count].iter().zip(&self.blue[..count]);
        pixels.fold(0, |sum: u32, (&green, &blue)| {
            sum.wrapping_add(u32::from(i32::from(green) > i32::from(blue) + WARM_STEP))
        })
    }

    fn fingerprint(&self, count: usize, mut hash: u64) -> u64 {
        let pixels = self.red[..count].iter().zip(&self.green[..count]).zip(&self.blue[..count]);
        for ((&red, &green), &blue) in pixels {
            let word = u64::from(red) | u64::from(green) << 8 | u64::from(blue) << 16;
            hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
        hash
    }
}

/// What is kept of a row.
#[derive(Debug)]
pub(super) struct Row {
    least: u8,
    greatest: u8,
    /// Mean absolute difference from the row above, in grey levels.
    jump: f32,
    /// Whether most columns differ from the row above, some lighter and some darker.
    broken: bool,
}

impl Row {
    fn new(line: &[u8], above: Option<&[u8]>) -> Self {
        let (mut sum, mut signed, mut broken) = (0_i32, 0_i32, 0_i32);
        // At most 96 differences of at most 255: nothing wraps, and nothing has to be looked after.
        for (&value, &other) in line.iter().zip(above.unwrap_or_default()) {
            let difference = i32::from(value) - i32::from(other);
            sum = sum.wrapping_add(difference.abs());
            signed = signed.wrapping_add(difference);
            broken = broken.wrapping_add(i32::from(difference.abs() >= TEAR_STEP));
        }
        let count = line.len().max(1) as f32;
        Self {
            least: line.iter().copied().min().unwrap_or(0),
            greatest: line.iter().copied().max().unwrap_or(0),
            jump: sum as f32 / count,
            broken: broken as f32 >= TEAR_WIDTH * count && signed.abs() as f32 <= TEAR_BIAS * sum as f32,
        }
    }
}

/// Rows before the first that varies or leaves the first one's level.
fn constant<'a>(rows: impl Iterator<Item = &'a Row>) -> usize {
    let (mut least, mut greatest) = (u8::MAX, 0);
    rows.take_while(|row| {
        least = least.min(row.least);
        greatest = greatest.max(row.greatest);
        greatest - least <= CONSTANT_SPAN
    })
    .count()
}

/// The strongest row-to-row jump over most of the width, relative to the strongest of the eight around it.
fn tear(rows: &[Row]) -> f32 {
    const AROUND: usize = 4;
    let mut strongest = 0.0_f32;
    for (index, row) in rows.iter().enumerate().skip(AROUND + 1).take(rows.len().saturating_sub(2 * AROUND + 1)) {
        if !row.broken {
            continue;
        }
        let around = rows[index - AROUND..index].iter().chain(&rows[index + 1..=index + AROUND]);
        let usual = around.fold(1.0_f32, |most, other| most.max(other.jump));
        strongest = strongest.max(row.jump / usual);
    }
    strongest
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// What would break: recorded flights, whose frames are known by their fingerprints, and thresholds that were fitted.
    #[test]
    fn what_is_read_of_a_frame_stays_the_same() {
        let pixel = |x: u32, y: u32| Rgb([x * 7 + y * 13, x * 3 + y, y * 5 + x * x].map(|value| (value % 256) as u8));
        let frame = RgbImage::from_fn(131, 40, pixel);
        let samples = read(&frame, &mut Vec::new());
        assert_eq!(samples.fingerprint, 0x3801_3884_0859_b8da);
        let pixels = 96.0 * 40.0;
        assert_eq!(samples.magenta, 100_560.0 / (2.0 * 255.0 * pixels));
        assert_eq!(samples.warm_share, 1531.0 / pixels);
        let means = [&samples.luma, &samples.darkest, &samples.chroma].map(Histogram::mean);
        assert_eq!(means, [456_021.0, 231_110.0, 477_258.0].map(|sum: f32| sum / (255.0 * pixels)));
    }
}
