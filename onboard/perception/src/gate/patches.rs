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
pub(super) const DIRECTIONS: usize = 4;

type Pixels = [[i16; SIDE]; SIDE];

/// [`energy`] by direction of pixels 1, 2, 4, 8 and 16 apart. Lengths that are known when this is compiled leave no odd
/// pixels to be taken one by one.
const ENERGIES: [[fn(&Pixels) -> f32; 5]; DIRECTIONS] = [
    [
        energy::<1, 0, false>,
        energy::<2, 0, false>,
        energy::<4, 0, false>,
        energy::<8, 0, false>,
        energy::<16, 0, false>,
    ],
    [
        energy::<0, 1, false>,
        energy::<0, 2, false>,
        energy::<0, 4, false>,
        energy::<0, 8, false>,
        energy::<0, 16, false>,
    ],
    [
        energy::<1, 1, false>,
        energy::<2, 2, false>,
        energy::<4, 4, false>,
        energy::<8, 8, false>,
        energy::<16, 16, false>,
    ],
    [energy::<1, 1, true>, energy::<2, 2, true>, energy::<4, 4, true>, energy::<8, 8, true>, energy::<16, 16, true>],
];

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
    let mut pixels: Pixels = [[0; SIDE]; SIDE];
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

fn measure(pixels: &Pixels) -> Patch {
    let mut patch = Patch { noise: noise(pixels), ..Patch::default() };
    for (direction, (values, energies)) in patch.energy.iter_mut().zip(&ENERGIES).enumerate() {
        // Neighbours along the diagonals are the one pair that no statistic asks for.
        let nearest = usize::from(direction >= 2);
        for (value, energy) in values.iter_mut().zip(energies).skip(nearest) {
            *value = energy(pixels);
        }
    }
    let equal: u32 =
        pixels.iter().map(|line| line.windows(2).map(|pair| u32::from(pair[0] == pair[1])).sum::<u32>()).sum();
    patch.repeated = equal as f32 / (SIDE * (SIDE - 1)) as f32;
    patch
}

/// Mean squared difference of pixels that lie `RIGHT` columns and `DOWN` rows apart, or up as many rows.
fn energy<const RIGHT: usize, const DOWN: usize, const UP: bool>(pixels: &Pixels) -> f32 {
    let width = SIDE - RIGHT;
    // At most 1024 squares of at most 255²: nothing wraps, and nothing has to be looked after.
    let mut sum = 0_i32;
    for y in 0..SIDE - DOWN {
        let (one, two) = if UP { (&pixels[y + DOWN], &pixels[y]) } else { (&pixels[y], &pixels[y + DOWN]) };
        for (a, b) in one[..width].iter().zip(&two[RIGHT..]) {
            let difference = i32::from(b.wrapping_sub(*a));
            sum = sum.wrapping_add(difference * difference);
        }
    }
    sum as f32 / (width * (SIDE - DOWN)) as f32
}

/// J. Immerkær, "Fast Noise Variance Estimation", 1996: the mean response to the difference of two Laplacians.
fn noise(pixels: &Pixels) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Held against the sum as it is written, pixel by pixel.
    #[test]
    fn energies_are_mean_squared_differences() {
        let mut pixels: Pixels = [[0; SIDE]; SIDE];
        for (y, line) in pixels.iter_mut().enumerate() {
            for (x, value) in line.iter_mut().enumerate() {
                *value = ((x * x * 3 + y * 29 + x * y * 7) % 256) as i16;
            }
        }
        let patch = measure(&pixels);
        for (direction, (dx, dy)) in [(1, 0), (0, 1), (1, 1), (1, -1)].into_iter().enumerate() {
            for (scale, lag) in [1_isize, 2, 4, 8, 16].into_iter().enumerate().skip(usize::from(direction >= 2)) {
                let (mut sum, mut count) = (0_i64, 0_i64);
                for (y, line) in pixels.iter().enumerate() {
                    for (x, here) in line.iter().enumerate() {
                        let (u, v) = (x.checked_add_signed(dx * lag), y.checked_add_signed(dy * lag));
                        let there = u.zip(v).and_then(|(u, v)| pixels.get(v)?.get(u));
                        if let Some(there) = there {
                            sum += i64::from(there - here).pow(2);
                            count += 1;
                        }
                    }
                }
                assert_eq!(patch.energy[direction][scale], sum as f32 / count as f32, "{dx}, {dy} by {lag}");
            }
        }
    }
}
