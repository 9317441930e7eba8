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
    let mut pixels = [[0_i16; SIDE]; SIDE];
    let place = |index: usize, count: usize, length: usize| (2 * index + 1) * length / (2 * count) - SIDE / 2;
    for row in 0..down {
        for column in 0..across {
            let (left, top) = (place(column, across, width), place(row, down, height));
            for (y, line) in pixels.iter_mut().enumerate() {
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

fn measure(pixels: &[[i16; SIDE]; SIDE]) -> Patch {
    let mut patch = Patch { noise: noise(pixels), ..Patch::default() };
    for (direction, &(dx, dy)) in DIRECTIONS.iter().enumerate() {
        // Neighbours along the diagonals are the one pair that no statistic asks for.
        let nearest = usize::from(direction >= 2);
        for (scale, lag) in [1, 2, 4, 8, 16].into_iter().enumerate().skip(nearest) {
            patch.energy[direction][scale] = energy(pixels, dx * lag, dy * lag);
        }
    }
    let equal: u32 =
        pixels.iter().map(|line| line.windows(2).map(|pair| u32::from(pair[0] == pair[1])).sum::<u32>()).sum();
    patch.repeated = equal as f32 / (SIDE * (SIDE - 1)) as f32;
    patch
}

/// Mean squared difference of pixels `(dx, dy)` apart; `dx` is not negative.
fn energy(pixels: &[[i16; SIDE]; SIDE], dx: isize, dy: isize) -> f32 {
    let (shift, step) = (dx.unsigned_abs(), dy.unsigned_abs());
    let width = SIDE - shift;
    // At most 1024 squares of at most 255²: nothing wraps, and nothing has to be looked after.
    let mut sum = 0_i32;
    for y in 0..SIDE - step {
        let (one, two) = if dy < 0 { (&pixels[y + step], &pixels[y]) } else { (&pixels[y], &pixels[y + step]) };
        for (a, b) in one[..width].iter().zip(&two[shift..]) {
            let difference = i32::from(b.wrapping_sub(*a));
            sum = sum.wrapping_add(difference * difference);
        }
    }
    sum as f32 / (width * (SIDE - step)) as f32
}

/// J. Immerkær, "Fast Noise Variance Estimation", 1996: the mean response to the difference of two Laplacians.
fn noise(pixels: &[[i16; SIDE]; SIDE]) -> f32 {
    let mut sum = 0_i32;
    for rows in pixels.windows(3) {
        let (above, here, below) = (&rows[0], &rows[1], &rows[2]);
        for x in 1..SIDE - 1 {
            let all = |values: [i16; 4]| values.into_iter().fold(0_i16, i16::wrapping_add);
            let edges = all([above[x], below[x], here[x - 1], here[x + 1]]);
            let corners = all([above[x - 1], above[x + 1], below[x - 1], below[x + 1]]);
            let response = corners.wrapping_sub(edges.wrapping_mul(2)).wrapping_add(here[x].wrapping_mul(4));
            sum = sum.wrapping_add(i32::from(response).abs());
        }
    }
    let count = ((SIDE - 2) * (SIDE - 2)) as f32;
    (std::f32::consts::FRAC_PI_2).sqrt() * sum as f32 / (6.0 * count)
}
