//! Small patches at full resolution: sharpness, noise and repeated pixels.

use super::samples::luma;
use image::RgbImage;

/// Side of a patch in pixels.
const SIDE: usize = 32;

/// Most patches along x and y.
const GRID: (usize, usize) = (12, 8);

/// Most patches of a frame.
pub(super) const MOST: usize = GRID.0 * GRID.1;

/// Directions in which differences are taken: along a row, along a column and both diagonals.
pub(super) const DIRECTIONS: [(isize, isize); 4] = [(1, 0), (0, 1), (1, 1), (1, -1)];

/// Farthest pixels that are compared.
const FARTHEST: usize = 16;

/// A patch row by row, and room behind it: a row that begins further right is read as long as any other.
type Pixels = [i16; SIDE * SIDE + FARTHEST];

/// What one patch tells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patch {
    /// Mean squared difference of pixels 1, 2, 4, 8 and 16 apart, by direction, in grey levels²; 1 along rows and columns only.
    pub(super) energy: [[f32; 5]; 4],
    /// Immerkær's estimate of the noise's deviation, in grey levels.
    pub(super) noise: f32,
    /// Share of pixels that equal their right neighbour.
    pub(super) repeated: f32,
}

impl Patch {
    /// Mean squared difference along rows and columns together; `lag` indexes 1, 2, 4, 8, 16 pixels.
    pub(super) fn axis_energy(&self, lag: usize) -> f32 {
        (self.energy[0][lag] + self.energy[1][lag]) / 2.0
    }
}

/// Reads patches spread evenly over the frame into `patches`; none when it is smaller than one.
pub(super) fn read(frame: &RgbImage, patches: &mut Vec<Patch>) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (across, down) = ((width / SIDE).min(GRID.0), (height / SIDE).min(GRID.1));
    patches.clear();
    let mut pixels: Pixels = [0; SIDE * SIDE + FARTHEST];
    let place = |index: usize, count: usize, length: usize| (2 * index + 1) * length / (2 * count) - SIDE / 2;
    for row in 0..down {
        for column in 0..across {
            let (left, top) = (place(column, across, width), place(row, down, height));
            for (y, line) in pixels.chunks_exact_mut(SIDE).enumerate().take(SIDE) {
                let start = ((top + y) * width + left) * 3;
                let source = frame.as_raw()[start..start + SIDE * 3].chunks_exact(3);
                for (value, pixel) in line.iter_mut().zip(source) {
                    *value = i16::from(luma(pixel[0], pixel[1], pixel[2]));
                }
            }
            patches.push(measure(&pixels));
        }
    }
}

fn measure(pixels: &Pixels) -> Patch {
    let mut patch = Patch { noise: noise(pixels), ..Patch::default() };
    for (direction, &(dx, dy)) in DIRECTIONS.iter().enumerate() {
        // Neighbours along the diagonals are the one pair that no statistic asks for.
        let nearest = usize::from(direction >= 2);
        for (scale, lag) in [1, 2, 4, 8, 16].into_iter().enumerate().skip(nearest) {
            patch.energy[direction][scale] = energy(pixels, dx * lag, dy * lag);
        }
    }
    let equal: u32 = (0..SIDE)
        .map(|y| row(pixels, y).windows(2).fold(0, |sum: u32, pair| sum.wrapping_add(u32::from(pair[0] == pair[1]))))
        .sum();
    patch.repeated = equal as f32 / (SIDE * (SIDE - 1)) as f32;
    patch
}

fn row(pixels: &Pixels, y: usize) -> &[i16] {
    &pixels[y * SIDE..][..SIDE]
}

/// Mean squared difference of pixels `(dx, dy)` apart; `dx` is not negative.
fn energy(pixels: &Pixels, dx: isize, dy: isize) -> f32 {
    let (shift, step) = (dx.unsigned_abs(), dy.unsigned_abs());
    let width = SIDE - shift;
    // Rows are compared at full length, and what lies behind them counts nothing: so all columns are taken at once.
    let mut inside = [0_i16; SIDE];
    inside[..width].fill(-1);
    let mut sums = [0_i32; SIDE];
    for y in 0..SIDE - step {
        let (one, two) = if dy < 0 { (y + step, y) } else { (y, y + step) };
        let (one, two) = (row(pixels, one), &pixels[two * SIDE + shift..][..SIDE]);
        for (((sum, a), b), inside) in sums.iter_mut().zip(one).zip(two).zip(&inside) {
            // At most 32 squares of at most 255²: nothing wraps, and nothing has to be looked after.
            let difference = i32::from(b.wrapping_sub(*a) & inside);
            *sum = sum.wrapping_add(difference * difference);
        }
    }
    let sum: i32 = sums.iter().sum();
    sum as f32 / (width * (SIDE - step)) as f32
}

/// J. Immerkær, "Fast Noise Variance Estimation", 1996: the mean response to the difference of two Laplacians.
fn noise(pixels: &Pixels) -> f32 {
    // The filter is [1, -2, 1] down the columns and then along the rows. Its response is at most 3060, so nothing wraps.
    let mut sum = 0_i32;
    for y in 1..SIDE - 1 {
        let (above, here, below) = (row(pixels, y - 1), row(pixels, y), row(pixels, y + 1));
        let mut down = [0_i16; SIDE];
        for (((down, above), here), below) in down.iter_mut().zip(above).zip(here).zip(below) {
            *down = above.wrapping_add(*below).wrapping_sub(here.wrapping_mul(2));
        }
        for three in down.windows(3) {
            let response = three[0].wrapping_add(three[2]).wrapping_sub(three[1].wrapping_mul(2));
            sum = sum.wrapping_add(i32::from(response.wrapping_abs()));
        }
    }
    let count = ((SIDE - 2) * (SIDE - 2)) as f32;
    (std::f32::consts::FRAC_PI_2).sqrt() * sum as f32 / (6.0 * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held against the sum as it is written, pixel by pixel.
    #[test]
    fn energies_are_mean_squared_differences() {
        let mut pixels: Pixels = [0; SIDE * SIDE + FARTHEST];
        for (y, line) in pixels.chunks_exact_mut(SIDE).enumerate().take(SIDE) {
            for (x, value) in line.iter_mut().enumerate() {
                *value = ((x * x * 3 + y * 29 + x * y * 7) % 256) as i16;
            }
        }
        let patch = measure(&pixels);
        for (direction, (dx, dy)) in DIRECTIONS.into_iter().enumerate() {
            for (scale, lag) in [1_isize, 2, 4, 8, 16].into_iter().enumerate().skip(usize::from(direction >= 2)) {
                let (mut sum, mut count) = (0_i64, 0_i64);
                for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
                    let (u, v) = (x.checked_add_signed(dx * lag), y.checked_add_signed(dy * lag));
                    let there = u.zip(v).filter(|&(u, v)| u < SIDE && v < SIDE);
                    if let Some((u, v)) = there {
                        sum += i64::from(pixels[v * SIDE + u] - pixels[y * SIDE + x]).pow(2);
                        count += 1;
                    }
                }
                assert_eq!(patch.energy[direction][scale], sum as f32 / count as f32, "{dx}, {dy} by {lag}");
            }
        }
    }
}
