//! The scene as triangles: matters, things, facets and what lies flat on the ground.

use super::camera::Camera;
use super::solids::ring_points;
use super::vector::{Frame, V3, sin_cos, v3};
use crate::sample::{Category, Colour};

/// What a surface is made of: selects its texture and gloss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matter {
    Asphalt,
    Lane,
    Concrete,
    Grass,
    Turf,
    Soil,
    Sand,
    Gravel,
    Crop,
    Water,
    PoolWater,
    Foam,
    Paint,
    Court,
    Tiles,
    FlatRoof,
    SheetMetal,
    Wall,
    Windows,
    Coat,
    Glass,
    Rubber,
    Leaf,
    Plain,
    Wood,
    Stain,
}

/// A triangle. Seen from both sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Triangle {
    pub(super) at: [V3; 3],
    pub(super) normal: [V3; 3],
    /// Metres along and across the surface (for leaves and stains: see the matter).
    pub(super) uv: [[f32; 2]; 3],
    pub(super) matter: Matter,
    /// Linear albedo.
    pub(super) albedo: V3,
    /// Index into [`World::things`] plus one; 0 is scenery.
    pub(super) thing: u16,
}

/// One thing that gets a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thing {
    pub(super) category: Category,
    pub(super) painted: Option<Colour>,
}

/// Surface under construction: matter, albedo and the thing it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skin {
    pub(super) matter: Matter,
    pub(super) albedo: V3,
    pub(super) thing: u16,
}

/// Shorthand for [`Skin`].
pub(super) fn skin(matter: Matter, albedo: V3, thing: u16) -> Skin {
    Skin { matter, albedo, thing }
}

/// Everything in a scene.
#[derive(Debug)]
pub(super) struct World {
    pub(super) camera: Camera,
    /// Flat things on the ground, in painting order.
    pub(super) decals: Vec<Triangle>,
    pub(super) solids: Vec<Triangle>,
    pub(super) things: Vec<Thing>,
    /// What lies below everything.
    pub(super) base: Skin,
    /// Seconds since the first frame.
    pub(super) seconds: f32,
    taken: Vec<(f32, f32, f32)>,
}

impl World {
    pub(super) fn new(camera: Camera, seconds: f32) -> Self {
        World {
            camera,
            decals: Vec::new(),
            solids: Vec::new(),
            things: Vec::new(),
            base: skin(Matter::Grass, v3(0.08, 0.12, 0.04), 0),
            seconds,
            taken: Vec::new(),
        }
    }

    /// Registers a thing and returns its number for [`Skin::thing`].
    pub(super) fn thing(&mut self, category: Category, painted: Option<Colour>) -> u16 {
        self.things.push(Thing { category, painted });
        self.things.len().min(usize::from(u16::MAX)) as u16
    }

    /// Claims a disc of ground; false (and nothing claimed) when something stands there.
    pub(super) fn claim(&mut self, x: f32, y: f32, radius: f32) -> bool {
        let free = self.taken.iter().all(|&(a, b, r)| {
            let (dx, dy, d) = (a - x, b - y, r + radius);
            dx * dx + dy * dy >= d * d
        });
        if free {
            self.occupy(x, y, radius);
        }
        free
    }

    /// Marks a disc as taken whatever is there.
    pub(super) fn occupy(&mut self, x: f32, y: f32, radius: f32) {
        self.taken.push((x, y, radius));
    }

    /// Marks a rectangle as taken (by discs along its longer axis).
    pub(super) fn occupy_box(&mut self, frame: &Frame, half_x: f32, half_y: f32) {
        let r = half_x.min(half_y).max(0.5);
        let (nx, ny) = ((half_x / r).ceil().max(1.0) as i32, (half_y / r).ceil().max(1.0) as i32);
        for i in 0..nx {
            for j in 0..ny {
                let u = ((i as f32 + 0.5) / nx as f32 * 2.0 - 1.0) * (half_x - r * 0.3);
                let v = ((j as f32 + 0.5) / ny as f32 * 2.0 - 1.0) * (half_y - r * 0.3);
                let p = frame.at(u, v, 0.0);
                self.taken.push((p.x, p.y, r * 1.15));
            }
        }
    }

    /// A solid triangle with a flat normal.
    pub(super) fn facet(&mut self, at: [V3; 3], uv: [[f32; 2]; 3], s: Skin) {
        let n = (at[1] - at[0]).cross(at[2] - at[0]).unit();
        self.smooth(at, [n; 3], uv, s);
    }

    /// A solid triangle with a normal at each corner.
    pub(super) fn smooth(&mut self, at: [V3; 3], normal: [V3; 3], uv: [[f32; 2]; 3], s: Skin) {
        self.solids.push(Triangle { at, normal, uv, matter: s.matter, albedo: s.albedo, thing: s.thing });
    }

    /// A solid quad, corners in order; uv in metres from the first corner.
    pub(super) fn quad(&mut self, p: [V3; 4], s: Skin) {
        let (a, b) = (p[1] - p[0], p[3] - p[0]);
        let (u, v) = (a.dot(a).sqrt(), b.dot(b).sqrt());
        let uv = [[0.0, 0.0], [u, 0.0], [u, v], [0.0, v]];
        self.facet([p[0], p[1], p[2]], [uv[0], uv[1], uv[2]], s);
        self.facet([p[0], p[2], p[3]], [uv[0], uv[2], uv[3]], s);
    }

    /// A convex polygon (as a fan) lying on the ground, uv from the frame's axes.
    pub(super) fn ground(&mut self, frame: &Frame, outline: &[(f32, f32)], s: Skin) {
        let n = v3(0.0, 0.0, 1.0);
        for pair in outline.windows(2).skip(1) {
            let corners = [outline[0], pair[0], pair[1]];
            self.decals.push(Triangle {
                at: corners.map(|(x, y)| frame.at(x, y, 0.0)),
                normal: [n; 3],
                uv: corners.map(|(x, y)| [x, y]),
                matter: s.matter,
                albedo: s.albedo,
                thing: s.thing,
            });
        }
    }

    /// A rectangle on the ground around the frame's origin.
    pub(super) fn rug(&mut self, frame: &Frame, half_x: f32, half_y: f32, s: Skin) {
        self.ground(frame, &[(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)], s);
    }

    /// A stripe on the ground from `a` to `b` in the frame.
    pub(super) fn stripe(&mut self, frame: &Frame, a: (f32, f32), b: (f32, f32), width: f32, s: Skin) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let l = (dx * dx + dy * dy).sqrt().max(1e-4);
        let (nx, ny) = (-dy / l * width * 0.5, dx / l * width * 0.5);
        let outline = [(a.0 + nx, a.1 + ny), (a.0 - nx, a.1 - ny), (b.0 - nx, b.1 - ny), (b.0 + nx, b.1 + ny)];
        self.ground(frame, &outline, s);
    }

    /// An ellipse on the ground.
    pub(super) fn disc(&mut self, frame: &Frame, rx: f32, ry: f32, s: Skin) {
        let outline: Vec<(f32, f32)> = ring_points(28).map(|(c, s)| (c * rx, s * ry)).collect();
        self.ground(frame, &outline, s);
    }

    /// A ragged spot (see [`Matter::Stain`]); uv runs to 1 at its rim.
    pub(super) fn patch(&mut self, frame: &Frame, rx: f32, ry: f32, s: Skin) {
        let c = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)];
        for i in [[0, 1, 2], [0, 2, 3]] {
            self.decals.push(Triangle {
                at: i.map(|k: usize| frame.at(c[k].0 * rx, c[k].1 * ry, 0.0)),
                normal: [v3(0.0, 0.0, 1.0); 3],
                uv: i.map(|k: usize| [c[k].0, c[k].1]),
                matter: s.matter,
                albedo: s.albedo,
                thing: s.thing,
            });
        }
    }

    /// An arc-shaped stripe on the ground, angles in radians.
    pub(super) fn arc(&mut self, frame: &Frame, radius: f32, angles: (f32, f32), width: f32, s: Skin) {
        let n = 20;
        let point = |i: i32, r: f32| {
            let (sin, cos) = sin_cos(angles.0 + (angles.1 - angles.0) * i as f32 / n as f32);
            (cos * r, sin * r)
        };
        for i in 0..n {
            let (i0, o0) = (point(i, radius - width * 0.5), point(i, radius + width * 0.5));
            let (i1, o1) = (point(i + 1, radius - width * 0.5), point(i + 1, radius + width * 0.5));
            self.ground(frame, &[i0, o0, o1, i1], s);
        }
    }
}
