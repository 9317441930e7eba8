//! From visible triangles to light on the sensor.

use super::camera::Light;
use super::mesh::{Matter, Triangle, World};
use super::noise::{hash01, octaves};
use super::occlusion::Occlusion;
use super::raster::{BASE, OVERSAMPLING, SAMPLES, Seen, SunMap};
use super::texture::{Spot, albedo};
use super::vector::{V3, v3};
use rayon::prelude::*;
use std::ops::Range;

/// Everything shading reads.
pub(super) struct Shader<'a> {
    pub(super) world: &'a World,
    pub(super) light: &'a Light,
    pub(super) seen: &'a Seen,
    pub(super) sun: &'a SunMap,
    pub(super) occlusion: &'a Occlusion,
}

impl Shader<'_> {
    /// Radiance of every pixel in these rows, row-major.
    ///
    /// Coverage is resolved at every sample, shading once for each triangle a pixel shows.
    pub(super) fn develop(&self, size: usize, rows: Range<usize>) -> Vec<V3> {
        let mut out = Vec::with_capacity(size * rows.len());
        for y in rows {
            for x in 0..size {
                out.push(self.pixel(x, y, size));
            }
        }
        out
    }

    /// [`Shader::develop`] on all processor cores, for pictures that are large.
    pub(super) fn develop_together(&self, size: usize, rows: Range<usize>) -> Vec<V3> {
        rows.into_par_iter().flat_map_iter(|y| (0..size).map(move |x| self.pixel(x, y, size))).collect()
    }

    fn pixel(&self, px: usize, py: usize, size: usize) -> V3 {
        let side = self.seen.side;
        let mut ids = [0u32; SAMPLES];
        let mut where_ = [(0.0f32, 0.0f32, 0.0f32); SAMPLES];
        for k in 0..SAMPLES {
            let (sx, sy) = (px * OVERSAMPLING + k % OVERSAMPLING, py * OVERSAMPLING + k / OVERSAMPLING);
            ids[k] = self.seen.triangle[sy * side + sx];
            where_[k] = (sx as f32 + 0.5, sy as f32 + 0.5, self.seen.near[sy * side + sx]);
        }
        let mut sum = V3::default();
        let mut done = [false; SAMPLES];
        for k in 0..SAMPLES {
            if done[k] {
                continue;
            }
            let (mut x, mut y, mut near, mut n) = (0.0, 0.0, 0.0, 0.0);
            for j in k..SAMPLES {
                if ids[j] == ids[k] {
                    done[j] = true;
                    x += where_[j].0;
                    y += where_[j].1;
                    near += where_[j].2;
                    n += 1.0;
                }
            }
            let turn = hash01(px as u32, py as u32, k as u32) * 2.0 - 1.0;
            sum = sum + self.sample(ids[k], x / n, y / n, near / n, size, turn) * n;
        }
        sum * (1.0 / SAMPLES as f32)
    }

    fn sample(&self, id: u32, sx: f32, sy: f32, near: f32, size: usize, turn: f32) -> V3 {
        let camera = &self.world.camera;
        let side = self.seen.side as f32;
        let ray = camera.ray(sx / side - 0.5, sy / side - 0.5);
        let (triangle, depth) = if id == BASE {
            (None, -camera.position.z / ray.z.min(-1e-3))
        } else {
            let decals = &self.world.decals;
            let i = id as usize;
            let t = if i < decals.len() { decals.get(i) } else { self.world.solids.get(i - decals.len()) };
            (t, 1.0 / near.max(1e-6))
        };
        let at = camera.position + ray * depth;
        let view = -ray.unit();
        let (mut normal, uv, matter, base) = match triangle {
            Some(t) => {
                let (n, uv) = interpolate(t, at);
                (n, uv, t.matter, t.albedo)
            }
            None => (v3(0.0, 0.0, 1.0), [at.x, at.y], self.world.base.matter, self.world.base.albedo),
        };
        if normal.dot(view) < 0.0 {
            normal = -normal;
        }
        let footprint = depth / (camera.focal * size as f32) / normal.dot(view).max(0.35).sqrt();
        let spot = Spot { at, uv, footprint };
        let colour = albedo(matter, base, triangle, &spot);
        let spread = 0.8 + self.light.softness * 5.0;
        let facing = normal.dot(self.light.sun);
        let lit = if facing > 0.0 || matter == Matter::Leaf {
            self.sun.lit(camera, at + normal * 0.05, spread, turn)
        } else {
            0.0
        };
        let radiance = if matter == Matter::Water {
            self.water(at, view, colour, lit, footprint)
        } else {
            self.surface(matter, colour, normal, view, at, lit)
        };
        let fog = 1.0 - libm::expf(-self.light.haze * depth);
        radiance.mix(self.light.haze_colour, fog)
    }

    fn surface(&self, matter: Matter, colour: V3, normal: V3, view: V3, at: V3, lit: f32) -> V3 {
        let l = self.light;
        let facing = normal.dot(l.sun);
        let sun = l.sun_colour * (l.direct * lit);
        let diffuse = match matter {
            // Leaves scatter and let light through.
            Matter::Leaf => 0.25 + 0.75 * facing.max(0.0),
            _ => facing.max(0.0),
        };
        let open = self.occlusion.open(at);
        let up = 0.5 + 0.5 * normal.z;
        let bounce = v3(0.10, 0.095, 0.08) * ((1.0 - up) * (0.3 + l.direct));
        let sky = l.sky_colour * (up * open * (1.0 - 0.12 * l.direct)) + bounce * open;
        let mut out = colour.times(sun * diffuse + sky);
        let gloss = match matter {
            Matter::Coat => 0.7,
            Matter::Glass => 1.4,
            Matter::PoolWater => 1.0,
            Matter::SheetMetal => 0.25,
            _ => 0.0,
        };
        if gloss > 0.0 {
            let mirror = normal * (2.0 * normal.dot(view)) - view;
            let graze = (1.0 - normal.dot(view).max(0.0)).max(0.0);
            let fresnel = 0.045 + 0.7 * graze * graze * graze * graze;
            let sky = l.sky_colour * (0.9 + 0.6 * mirror.z.max(0.0));
            let s = mirror.dot(l.sun).max(0.0);
            let s4 = s * s * s * s;
            let s16 = s4 * s4 * s4 * s4;
            let glint = s16 * s16 * s16 * if matter == Matter::SheetMetal { 0.3 } else { 1.3 } + s16 * 0.06;
            out = out + sky * (fresnel * gloss * open) + sun * (glint * gloss * 0.6);
        }
        out
    }

    fn water(&self, at: V3, view: V3, colour: V3, lit: f32, f: f32) -> V3 {
        let l = self.light;
        let e = 0.25f32.max(f * 0.7);
        let wave = |x: f32, y: f32| octaves(x + 0.3 * y, y * 1.6, 4.2, 4, 0.55, f * 0.7) * 0.16;
        let h = wave(at.x, at.y);
        let n = v3(h - wave(at.x + e, at.y), h - wave(at.x, at.y + e), e).unit();
        let mirror = n * (2.0 * n.dot(view)) - view;
        let graze = 1.0 - n.dot(view).max(0.0);
        let fresnel = 0.02 + 0.9 * graze * graze * graze * graze * graze;
        let s = mirror.dot(l.sun).max(0.0);
        let s8 = s * s * s * s * s * s * s * s;
        let glint = s8 * s8 * s8 * s8 * s8 * s8 * s8 * s8 * s8 * s8 * 1.3;
        let body = colour.times(l.sky_colour * 0.75 + l.sun_colour * (l.direct * (0.25 + 0.75 * lit) * l.sun.z));
        body + l.sky_colour * (fresnel * (0.8 + 0.5 * mirror.z.max(0.0)) * 1.3)
            + l.sun_colour * (l.direct * lit * glint)
    }
}

/// Normal and uv of a triangle at a point on it, by barycentric weights.
fn interpolate(t: &Triangle, at: V3) -> (V3, [f32; 2]) {
    let (e1, e2, d) = (t.at[1] - t.at[0], t.at[2] - t.at[0], at - t.at[0]);
    let (a, b, c) = (e1.dot(e1), e1.dot(e2), e2.dot(e2));
    let (p, q) = (d.dot(e1), d.dot(e2));
    let det = a * c - b * b;
    if det.abs() < 1e-12 {
        return (t.normal[0], t.uv[0]);
    }
    let (w1, w2) = ((c * p - b * q) / det, (a * q - b * p) / det);
    let w0 = 1.0 - w1 - w2;
    let mix = |i: usize| t.uv[0][i] * w0 + t.uv[1][i] * w1 + t.uv[2][i] * w2;
    ((t.normal[0] * w0 + t.normal[1] * w1 + t.normal[2] * w2).unit(), [mix(0), mix(1)])
}
