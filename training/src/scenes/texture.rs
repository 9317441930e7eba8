//! Albedo of every matter, point by point.

use super::mesh::{Matter, Triangle};
use super::noise::{cell, hash01, noise, octaves};
use super::vector::{V3, v3};

/// Where a texture is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// World position, metres.
    pub(super) at: V3,
    /// Metres along and across the surface.
    pub(super) uv: [f32; 2],
    /// Width of a pixel on the surface, metres.
    pub(super) footprint: f32,
}

/// 1 while a detail of `width` metres can be seen, 0 where it drowns in a pixel.
fn sight(width: f32, footprint: f32) -> f32 {
    ((width / footprint - 0.6) * 1.2).clamp(0.0, 1.0)
}

/// A soft line of `width` around `distance == 0`, no thinner than a pixel and then paler.
fn line(distance: f32, width: f32, footprint: f32) -> f32 {
    let half = width * 0.5;
    let soft = footprint * 0.6;
    let cover = ((half + soft - distance.abs()) / (2.0 * soft).max(1e-4)).clamp(0.0, 1.0);
    cover * (width / (2.0 * soft).max(1e-4)).min(1.0)
}

fn smoothstep(a: f32, b: f32, x: f32) -> f32 {
    let t = ((x - a) / (b - a)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Distance to the nearest multiple of `step`.
fn grid(x: f32, step: f32) -> f32 {
    let f = x / step;
    (f - f.round()) * step
}

/// The albedo of `t` at `spot`.
pub(super) fn albedo(matter: Matter, base: V3, t: Option<&Triangle>, spot: &Spot) -> V3 {
    let (x, y, f) = (spot.at.x, spot.at.y, spot.footprint);
    let [u, v] = spot.uv;
    let seed = t.map_or(0.0, |t| f32::from(t.thing) * 13.7);
    match matter {
        Matter::Asphalt => asphalt(base, x, y, f),
        Matter::Lane => {
            // Tyres polish two tracks per lane and oil darkens the middle.
            let lane = grid(v, 3.4).abs() / 1.7;
            let wear = 1.0 + 0.10 * smoothstep(0.35, 0.55, lane) * smoothstep(0.85, 0.6, lane)
                - 0.08 * smoothstep(0.2, 0.0, lane);
            asphalt(base, x, y, f) * (wear + 0.03 * noise(u * 0.05, v * 0.6))
        }
        Matter::Concrete => {
            let slab = hash01(cell(u / 4.5), cell(v / 4.5), 3) - 0.5;
            let joint = line(grid(u, 4.5), 0.04, f).max(line(grid(v, 4.5), 0.04, f));
            let stain = octaves(x, y, 6.0, 5, 0.6, f);
            base * (1.0 + 0.10 * slab + 0.10 * stain - 0.35 * joint)
        }
        Matter::Grass => grass(base, x, y, f, 1.0),
        Matter::Turf => {
            let mown = if (v / 5.5).floor() as i32 & 1 == 0 { 0.09 } else { -0.07 };
            grass(base, x, y, f, 0.45) * (1.0 + mown * sight(5.0, f))
        }
        Matter::Soil => {
            let broad = octaves(x, y, 14.0, 4, 0.6, f);
            let fine = octaves(x, y, 1.1, 4, 0.8, f);
            base.mix(base.times(v3(0.62, 0.6, 0.58)), smoothstep(-0.2, 0.7, broad)) * (1.0 + 0.22 * fine)
        }
        Matter::Sand => {
            let ripple = libm::sinf((u * 0.9 + v * 0.3 + 0.8 * noise(x * 0.3, y * 0.3)) * 7.0) * sight(0.5, f);
            base * (1.0 + 0.12 * octaves(x, y, 9.0, 5, 0.62, f) + 0.03 * ripple)
        }
        Matter::Gravel => base * (1.0 + 0.11 * octaves(x, y, 5.0, 3, 0.6, f) + 0.17 * octaves(x, y, 0.3, 2, 0.8, f)),
        Matter::Crop => crop(base, x, y, u, v, f),
        Matter::Water => base * (1.0 + 0.3 * octaves(x, y, 40.0, 4, 0.6, f)),
        Matter::PoolWater => {
            let net = (1.0 - octaves(x, y, 1.3, 2, 0.7, f).abs() * 2.2).max(0.0);
            base * (0.92 + 0.3 * net * net)
        }
        Matter::Foam => base * (0.8 + 0.3 * noise(x * 2.0, y * 2.0)),
        Matter::Stain => base * (0.9 + 0.2 * noise(x * 3.0, y * 3.0)),
        Matter::Paint => {
            let worn = octaves(x, y, 1.6, 4, 0.75, f);
            base.mix(v3(0.1, 0.1, 0.1), (0.22 + 0.4 * worn).clamp(0.0, 0.75))
        }
        Matter::Court => base * (1.0 + 0.07 * octaves(x, y, 7.0, 5, 0.6, f)),
        Matter::Tiles => tiles(base, u, v, x, y, f),
        Matter::FlatRoof => {
            let patch = octaves(x + seed, y, 7.0, 5, 0.65, f);
            let seam = line(grid(u, 2.4), 0.06, f) * 0.16;
            base * (1.0 + 0.17 * patch - seam)
        }
        Matter::SheetMetal => {
            let rib = libm::sinf(u * 9.0) * 0.10 * sight(0.7, f);
            let rust = smoothstep(0.35, 0.9, octaves(x + seed, y, 5.0, 5, 0.7, f));
            (base * (1.0 + rib)).mix(v3(0.22, 0.10, 0.05), rust * 0.35)
        }
        Matter::Wall => base * (1.0 + 0.10 * octaves(u + seed, v * 0.6, 3.0, 5, 0.65, f)),
        Matter::Windows => windows(base, u, v, seed, f),
        Matter::Coat => base * (1.0 + 0.03 * octaves(x, y, 0.8, 2, 0.6, f)),
        Matter::Glass | Matter::Rubber | Matter::Plain => base * (1.0 + 0.06 * octaves(x, y, 1.2, 3, 0.7, f)),
        Matter::Leaf => {
            let tone = octaves(x + spot.at.z * 0.7, y - spot.at.z * 0.4, 1.5, 4, 0.8, f);
            let k = 1.0 + 0.42 * tone;
            v3(base.x * (k + 0.08 * tone), base.y * k, base.z * (k - 0.1 * tone))
        }
        Matter::Wood => {
            let plank = hash01(cell(v / 0.22), 5, 1) - 0.5;
            base * (1.0 + 0.3 * plank * sight(0.22, f) + 0.18 * octaves(u, v * 4.0, 3.0, 4, 0.7, f)
                - 0.3 * line(grid(v, 0.22), 0.02, f))
        }
    }
}

fn asphalt(base: V3, x: f32, y: f32, f: f32) -> V3 {
    let broad = octaves(x, y, 22.0, 4, 0.62, f);
    let grain = octaves(x + 9.0, y, 0.55, 3, 0.85, f);
    let patch = smoothstep(0.42, 0.47, noise(x * 0.11 + 3.0, y * 0.09)) * -0.2;
    let vein = octaves(x, y, 4.6, 3, 0.55, f.max(0.02));
    let crack = line(vein * 1.6, 0.05, f) * smoothstep(-0.1, 0.4, noise(x * 0.06, y * 0.06)) * 0.4;
    base * (1.0 + 0.15 * broad + 0.14 * grain + patch - crack)
}

fn grass(base: V3, x: f32, y: f32, f: f32, wild: f32) -> V3 {
    let broad = octaves(x, y, 26.0, 4, 0.62, f);
    let clump = octaves(x, y, 2.2, 3, 0.75, f);
    let blade = octaves(x, y, 0.35, 2, 0.8, f);
    let dry = smoothstep(0.05, 0.9, broad + 0.35 * clump) * wild;
    let bare = smoothstep(0.62, 0.95, octaves(x + 70.0, y, 11.0, 4, 0.6, f)) * wild;
    let straw = v3(base.y * 1.35, base.y * 1.12, base.y * 0.5);
    let green = base * (1.0 + 0.16 * broad + 0.24 * clump * wild.max(0.5) + 0.26 * blade);
    green.mix(straw, dry * 0.55).mix(v3(0.17, 0.125, 0.08), bare * 0.7)
}

fn crop(base: V3, x: f32, y: f32, u: f32, v: f32, f: f32) -> V3 {
    let spacing = 1.2;
    let wobble = 0.15 * noise(u * 0.12, v * 0.12);
    let wave = libm::cosf((v + wobble) * std::f32::consts::TAU / spacing);
    let seen = sight(spacing * 0.6, f);
    let row = smoothstep(-0.5, 0.6, wave + 0.9 * octaves(x, y, 0.9, 3, 0.8, f)) * seen + 0.62 * (1.0 - seen);
    let vigour = octaves(x, y, 34.0, 4, 0.6, f);
    let soil = v3(0.19, 0.13, 0.085) * (1.0 + 0.2 * octaves(x, y, 3.0, 3, 0.7, f));
    let tramline = line(grid(v, 18.0).abs() - 0.9, 0.45, f);
    let plant = base * (1.0 + 0.25 * vigour + 0.18 * octaves(x, y, 1.4, 3, 0.8, f));
    soil.mix(plant, (row * (0.9 + 0.25 * vigour)).clamp(0.0, 1.0) * (1.0 - 0.75 * tramline))
}

fn tiles(base: V3, u: f32, v: f32, x: f32, y: f32, f: f32) -> V3 {
    let row = v / 0.34;
    let shade = (row - row.floor() - 0.5) * -0.3 * sight(0.34, f);
    let tile =
        (hash01(cell(u / 0.3 + 0.5 * (row.floor() as i32 & 1) as f32), cell(row), 11) - 0.5) * 0.3 * sight(0.3, f);
    let weather = octaves(x, y, 3.5, 4, 0.7, f);
    let moss = smoothstep(0.4, 1.0, octaves(x + 31.0, y, 6.0, 4, 0.65, f)) * 0.35;
    (base * (1.0 + shade + tile + 0.13 * weather)).mix(v3(0.09, 0.095, 0.06), moss)
}

fn windows(base: V3, u: f32, v: f32, seed: f32, f: f32) -> V3 {
    let (wu, wv) = (grid(u - 1.4, 2.8), grid(v - 1.7, 3.1));
    let pane = line(wu, 1.3, f.max(0.05)) * line(wv, 1.4, f.max(0.05));
    let tint = hash01(cell(u / 2.8), cell(v / 3.1), seed as u32);
    let glass = v3(0.03, 0.04, 0.05).mix(v3(0.25, 0.24, 0.2), smoothstep(0.75, 1.0, tint) * 0.7);
    (base * (1.0 + 0.08 * octaves(u + seed, v, 4.0, 4, 0.6, f))).mix(glass, pane)
}
