//! Which triangle every sample sees, what the sun does not reach, and how much of each thing is in view.

use super::camera::{Camera, Light};
use super::mesh::{Matter, Triangle, World};
use super::noise::{cell, hash01};
use super::vector::{V3, v3};

/// Samples along one side of a pixel.
pub(super) const OVERSAMPLING: usize = 2;
/// Samples of a pixel.
pub(super) const SAMPLES: usize = OVERSAMPLING * OVERSAMPLING;
/// The sun's map reaches this share of the picture's side beyond each edge.
const MARGIN: f32 = 0.25;
const NEAR: f32 = 1.0;
/// Marks a sample that sees the base ground.
pub(super) const BASE: u32 = u32::MAX;

/// What the camera sees, sample by sample.
#[derive(Debug)]
pub(super) struct Seen {
    /// Samples along one side.
    pub(super) side: usize,
    /// Index into `decals` then `solids`, or [`BASE`].
    pub(super) triangle: Vec<u32>,
    /// Reciprocal depth along the optical axis; 0 where only the base is seen.
    pub(super) near: Vec<f32>,
    /// Samples each thing would cover without occluders and frame (index: thing − 1).
    pub(super) whole: Vec<u32>,
}

/// Heights of the highest occluders along the sun's rays, in the camera's own perspective of the ground.
#[derive(Debug)]
pub(super) struct SunMap {
    side: usize,
    height: Vec<f32>,
    slope: (f32, f32),
    scale: f32,
}

#[derive(Clone, Copy, Default)]
struct Corner {
    x: f32,
    y: f32,
    w: f32,
    u: f32,
    v: f32,
    h: f32,
}

/// An affine function over the picture plane.
#[derive(Clone, Copy)]
struct Plane {
    a: f32,
    b: f32,
    c: f32,
}

impl Plane {
    fn at(&self, x: f32, y: f32) -> f32 {
        self.a * x + self.b * y + self.c
    }
}

fn plane(p: &[Corner; 3], area: f32, f: [f32; 3]) -> Plane {
    let a = ((f[1] - f[0]) * (p[2].y - p[0].y) - (f[2] - f[0]) * (p[1].y - p[0].y)) / area;
    let b = ((f[2] - f[0]) * (p[1].x - p[0].x) - (f[1] - f[0]) * (p[2].x - p[0].x)) / area;
    Plane { a, b, c: f[0] - a * p[0].x - b * p[0].y }
}

struct Projector<'a> {
    camera: &'a Camera,
    /// Samples per unit of picture plane, and the offset of its centre.
    scale: f32,
    centre: f32,
}

impl Projector<'_> {
    fn corner(&self, p: V3, uv: [f32; 2], h: f32) -> Corner {
        let d = p - self.camera.position;
        let w = d.dot(self.camera.forward);
        Corner { x: d.dot(self.camera.right), y: d.dot(self.camera.down), w, u: uv[0], v: uv[1], h }
    }

    /// Clips against the near plane and hands on the projected pieces.
    fn pieces(&self, corners: [Corner; 3], mut each: impl FnMut([Corner; 3])) {
        let project = |c: Corner| {
            let i = 1.0 / c.w;
            let k = self.scale * i;
            Corner { x: c.x * k + self.centre, y: c.y * k + self.centre, w: i, u: c.u * i, v: c.v * i, h: c.h * i }
        };
        if corners.iter().all(|c| c.w >= NEAR) {
            each(corners.map(project));
            return;
        }
        let mut kept = Vec::with_capacity(4);
        for i in 0..3 {
            let (p, q) = (corners[i], corners[(i + 1) % 3]);
            if p.w >= NEAR {
                kept.push(p);
            }
            if (p.w >= NEAR) != (q.w >= NEAR) {
                let t = (NEAR - p.w) / (q.w - p.w);
                let l = |a: f32, b: f32| a + (b - a) * t;
                kept.push(Corner {
                    x: l(p.x, q.x),
                    y: l(p.y, q.y),
                    w: NEAR,
                    u: l(p.u, q.u),
                    v: l(p.v, q.v),
                    h: l(p.h, q.h),
                });
            }
        }
        for pair in kept.windows(2).skip(1) {
            each([kept[0], pair[0], pair[1]].map(project));
        }
    }
}

/// Calls `run(y, x0, x1)` for every row of samples whose centres the triangle covers.
fn spans(p: &[Corner; 3], side: usize, mut run: impl FnMut(usize, usize, usize)) {
    let limit = side as f32;
    let (mut low, mut high) = (f32::MAX, f32::MIN);
    for c in p {
        low = low.min(c.y);
        high = high.max(c.y);
    }
    let y0 = (low - 0.5).ceil().max(0.0);
    let y1 = (high - 0.5).floor().min(limit - 1.0);
    if y0 > y1 {
        return;
    }
    for y in y0 as usize..=y1 as usize {
        let yc = y as f32 + 0.5;
        let (mut left, mut right) = (f32::MAX, f32::MIN);
        for i in 0..3 {
            let (a, b) = (p[i], p[(i + 1) % 3]);
            if (a.y <= yc) != (b.y <= yc) {
                let x = a.x + (yc - a.y) * (b.x - a.x) / (b.y - a.y);
                left = left.min(x);
                right = right.max(x);
            }
        }
        let x0 = (left - 0.5).ceil().max(0.0);
        let x1 = (right - 0.5).ceil().min(limit);
        if x0 < x1 {
            run(y, x0 as usize, x1 as usize);
        }
    }
}

fn area(p: &[Corner; 3]) -> f32 {
    (p[1].x - p[0].x) * (p[2].y - p[0].y) - (p[2].x - p[0].x) * (p[1].y - p[0].y)
}

/// Ragged matters leave holes: leaves between leaves, stains and foam at their rims (where u falls to 0).
fn hole(matter: Matter, u: f32, v: f32) -> bool {
    match matter {
        Matter::Leaf => {
            // u, v run over the clump in units of its radius.
            let r2 = u * u + v * v;
            let grain = hash01(cell(u * 4.0), cell(v * 4.0), 7);
            r2 + grain * 0.55 > 1.0
        }
        Matter::Stain | Matter::Foam => {
            let grain = super::noise::noise(u * 3.1, v * 3.1) * 0.35 + super::noise::noise(u * 11.0, v * 11.0) * 0.15;
            u * u + v * v + grain > 0.75
        }
        _ => false,
    }
}

fn ragged(matter: Matter) -> bool {
    matches!(matter, Matter::Leaf | Matter::Stain | Matter::Foam)
}

/// Looks at the world through its camera.
pub(super) fn look(world: &World, size: usize) -> Seen {
    let side = size * OVERSAMPLING;
    let projector =
        Projector { camera: &world.camera, scale: world.camera.focal * side as f32, centre: side as f32 * 0.5 };
    let mut seen = Seen {
        side,
        triangle: vec![BASE; side * side],
        near: vec![0.0; side * side],
        whole: vec![0; world.things.len()],
    };
    let decals = world.decals.len();
    for (index, t) in world.decals.iter().chain(&world.solids).enumerate() {
        let flat = index < decals;
        let corners = [0, 1, 2].map(|i| projector.corner(t.at[i], t.uv[i], 0.0));
        projector.pieces(corners, |p| {
            let size = area(&p);
            if size.abs() < 1e-6 {
                return;
            }
            let near = plane(&p, size, p.map(|c| c.w));
            let (u, v) = (plane(&p, size, p.map(|c| c.u)), plane(&p, size, p.map(|c| c.v)));
            let cut = ragged(t.matter);
            spans(&p, side, |y, x0, x1| {
                let yc = y as f32 + 0.5;
                for x in x0..x1 {
                    let at = y * side + x;
                    let xc = x as f32 + 0.5;
                    let n = near.at(xc, yc);
                    if !flat && n <= seen.near[at] {
                        continue;
                    }
                    if cut && hole(t.matter, u.at(xc, yc) / n, v.at(xc, yc) / n) {
                        continue;
                    }
                    // Painted decals lie on the ground: a hair nearer than it.
                    seen.near[at] = n;
                    seen.triangle[at] = index as u32;
                }
            });
        });
    }
    seen.whole = whole(world, side);
    seen
}

/// Counts what each thing covers alone, on a canvas half a side larger at each edge.
fn whole(world: &World, side: usize) -> Vec<u32> {
    let canvas = side * 2;
    let projector =
        Projector { camera: &world.camera, scale: world.camera.focal * side as f32, centre: canvas as f32 * 0.5 };
    let mut stamp = vec![0u16; canvas * canvas];
    let mut counts = vec![0u32; world.things.len()];
    for t in world.decals.iter().chain(&world.solids).filter(|t| t.thing > 0) {
        let corners = [0, 1, 2].map(|i| projector.corner(t.at[i], t.uv[i], 0.0));
        projector.pieces(corners, |p| {
            let size = area(&p);
            if size.abs() < 1e-6 {
                return;
            }
            let near = plane(&p, size, p.map(|c| c.w));
            let (u, v) = (plane(&p, size, p.map(|c| c.u)), plane(&p, size, p.map(|c| c.v)));
            let cut = ragged(t.matter);
            let mut fresh = 0;
            spans(&p, canvas, |y, x0, x1| {
                for x in x0..x1 {
                    let cell = &mut stamp[y * canvas + x];
                    if *cell == t.thing {
                        continue;
                    }
                    if cut {
                        let (xc, yc) = (x as f32 + 0.5, y as f32 + 0.5);
                        let n = near.at(xc, yc);
                        if hole(t.matter, u.at(xc, yc) / n, v.at(xc, yc) / n) {
                            continue;
                        }
                    }
                    *cell = t.thing;
                    fresh += 1;
                }
            });
            if let Some(count) = counts.get_mut(usize::from(t.thing) - 1) {
                *count += fresh;
            }
        });
    }
    counts
}

impl SunMap {
    /// Casts every solid along the sun's rays onto the ground.
    pub(super) fn cast(world: &World, light: &Light, size: usize) -> SunMap {
        let pixels = size as f32 * OVERSAMPLING as f32;
        let side = (pixels * (1.0 + 2.0 * MARGIN)) as usize;
        let projector =
            Projector { camera: &world.camera, scale: world.camera.focal * pixels, centre: side as f32 * 0.5 };
        let mut map = SunMap {
            side,
            height: vec![0.0; side * side],
            slope: (light.sun.x / light.sun.z, light.sun.y / light.sun.z),
            scale: pixels,
        };
        for t in &world.solids {
            map.drop_shadow(t, &projector);
        }
        map
    }

    fn foot(&self, p: V3) -> V3 {
        v3(p.x - self.slope.0 * p.z, p.y - self.slope.1 * p.z, 0.0)
    }

    fn drop_shadow(&mut self, t: &Triangle, projector: &Projector<'_>) {
        let corners = [0, 1, 2].map(|i| projector.corner(self.foot(t.at[i]), t.uv[i], t.at[i].z));
        let (side, height) = (self.side, &mut self.height);
        projector.pieces(corners, |p| {
            let size = area(&p);
            if size.abs() < 1e-3 {
                return;
            }
            let near = plane(&p, size, p.map(|c| c.w));
            let h = plane(&p, size, p.map(|c| c.h));
            let (u, v) = (plane(&p, size, p.map(|c| c.u)), plane(&p, size, p.map(|c| c.v)));
            let cut = ragged(t.matter);
            spans(&p, side, |y, x0, x1| {
                let yc = y as f32 + 0.5;
                for x in x0..x1 {
                    let xc = x as f32 + 0.5;
                    let n = near.at(xc, yc);
                    let z = h.at(xc, yc) / n;
                    let cell = &mut height[y * side + x];
                    if z > *cell && !(cut && hole(t.matter, u.at(xc, yc) / n, v.at(xc, yc) / n)) {
                        *cell = z;
                    }
                }
            });
        });
    }

    /// Share of the sun that reaches `p`: four taps around its ray, `spread` samples wide.
    pub(super) fn lit(&self, camera: &Camera, p: V3, spread: f32, turn: f32) -> f32 {
        let d = self.foot(p) - camera.position;
        let w = d.dot(camera.forward);
        if w < NEAR {
            return 1.0;
        }
        let k = self.scale * camera.focal / w;
        let centre = self.side as f32 * 0.5;
        let (x, y) = (d.dot(camera.right) * k + centre, d.dot(camera.down) * k + centre);
        let (s, c) = (turn * spread, (1.0 - turn * turn).max(0.0).sqrt() * spread);
        let mut sum = 0.0;
        for (dx, dy) in [(c, s), (-s, c), (-c, -s), (s, -c)] {
            let (ix, iy) = (x + dx, y + dy);
            let inside = ix >= 0.0 && iy >= 0.0 && ix < self.side as f32 && iy < self.side as f32;
            let occluded = inside && self.height[iy as usize * self.side + ix as usize] > p.z + 0.07;
            sum += if occluded { 0.0 } else { 0.25 };
        }
        sum
    }
}
