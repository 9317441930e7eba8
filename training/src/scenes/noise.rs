//! Tileable value noise: the texture of everything.

use std::sync::OnceLock;

const SIDE: usize = 256;

/// Integer hash (xorshift-multiply), uniform over `u32`.
pub(super) fn hash(a: u32, b: u32, c: u32) -> u32 {
    let mut h = a.wrapping_mul(0x9E37_79B1) ^ b.wrapping_mul(0x85EB_CA77) ^ c.wrapping_mul(0xC2B2_AE3D);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// Hash as a float in `[0, 1)`.
pub(super) fn hash01(a: u32, b: u32, c: u32) -> f32 {
    (hash(a, b, c) >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The cell of a coordinate, as hash input.
pub(super) fn cell(x: f32) -> u32 {
    floor(x) as i32 as u32
}

/// `f32::floor` for what fits an `i32`, without the library call that plain x86-64 makes of it.
#[inline]
fn floor(x: f32) -> f32 {
    let whole = x as i32 as f32;
    if whole > x { whole - 1.0 } else { whole }
}

fn table() -> &'static [f32] {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        (0..SIDE * SIDE).map(|i| hash01((i % SIDE) as u32, (i / SIDE) as u32, 0x5EED) * 2.0 - 1.0).collect()
    })
}

/// Smooth noise in `[-1, 1]`, features one unit wide.
#[inline]
pub(super) fn noise(x: f32, y: f32) -> f32 {
    let t = table();
    let (fx, fy) = (floor(x), floor(y));
    let (u, v) = (x - fx, y - fy);
    let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
    let (ix, iy) = (fx as i32 as usize & (SIDE - 1), fy as i32 as usize & (SIDE - 1));
    let (jx, jy) = ((ix + 1) & (SIDE - 1), (iy + 1) & (SIDE - 1));
    let (a, b) = (t[iy * SIDE + ix], t[iy * SIDE + jx]);
    let (c, d) = (t[jy * SIDE + ix], t[jy * SIDE + jx]);
    let (p, q) = (a + (b - a) * u, c + (d - c) * u);
    p + (q - p) * v
}

/// Octaves from wavelength `longest` metres downwards, fading out those a pixel of `footprint` metres cannot show.
///
/// Amplitudes fall by `gain` per octave; the result is roughly within `[-1, 1]`.
#[inline]
pub(super) fn octaves(x: f32, y: f32, longest: f32, count: u32, gain: f32, footprint: f32) -> f32 {
    let (mut wave, mut amplitude, mut sum) = (longest, 1.0, 0.0);
    let (mut px, mut py) = (x, y);
    for _ in 0..count {
        let seen = ((wave / footprint) - 1.0) * 0.7;
        if seen <= 0.0 {
            break;
        }
        let f = 1.0 / wave;
        sum += amplitude * seen.min(1.0) * noise(px * f, py * f);
        amplitude *= gain;
        wave *= 0.47;
        // Turning each octave hides the lattice.
        (px, py) = (px * 0.8 - py * 0.6 + 17.3, px * 0.6 + py * 0.8 + 5.1);
    }
    sum
}
