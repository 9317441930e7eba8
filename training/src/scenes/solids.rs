//! The solids that things are built from.

use super::mesh::{Skin, World};
use super::vector::{Frame, V3, sin_cos, v3};

impl World {
    /// An upright box around the frame's origin, from its height `z0` to `z1` (local), sides and top apart.
    pub(super) fn block(&mut self, frame: &Frame, half: (f32, f32), z: (f32, f32), side: Skin, top: Skin) {
        let c = [(-half.0, -half.1), (half.0, -half.1), (half.0, half.1), (-half.0, half.1)];
        for i in 0..4 {
            let (a, b) = (c[i], c[(i + 1) % 4]);
            let low = [frame.at(a.0, a.1, z.0), frame.at(b.0, b.1, z.0)];
            self.quad([low[0], low[1], frame.at(b.0, b.1, z.1), frame.at(a.0, a.1, z.1)], side);
        }
        self.quad(c.map(|(x, y)| frame.at(x, y, z.1)), top);
    }

    /// An upright cylinder with smooth walls.
    pub(super) fn cylinder(&mut self, frame: &Frame, radius: f32, z: (f32, f32), side: Skin, top: Skin) {
        let n = if radius > 2.0 { 36 } else { 10 };
        let rim: Vec<(f32, f32)> = ring_points(n).collect();
        for i in 0..n {
            let (a, b) = (rim[i], rim[(i + 1) % n]);
            let (na, nb) =
                (frame.at(a.0, a.1, 0.0) - frame.at(0.0, 0.0, 0.0), frame.at(b.0, b.1, 0.0) - frame.at(0.0, 0.0, 0.0));
            let p = |q: (f32, f32), h: f32| frame.at(q.0 * radius, q.1 * radius, h);
            let (u0, u1) = (i as f32 * radius * 0.17, (i + 1) as f32 * radius * 0.17);
            let (a0, b0, b1, a1) = (p(a, z.0), p(b, z.0), p(b, z.1), p(a, z.1));
            self.smooth([a0, b0, b1], [na, nb, nb], [[u0, z.0], [u1, z.0], [u1, z.1]], side);
            self.smooth([a0, b1, a1], [na, nb, na], [[u0, z.0], [u1, z.1], [u0, z.1]], side);
            let centre = frame.at(0.0, 0.0, z.1);
            let ring = |q: (f32, f32)| [q.0 * radius, q.1 * radius];
            self.facet([centre, a1, b1], [[0.0, 0.0], ring(a), ring(b)], top);
        }
    }

    /// A skin stretched over closed rings of equal length; `pick` gives the skin of segment `i` in band `band`.
    pub(super) fn loft(&mut self, rings: &[Vec<V3>], pick: impl Fn(usize, usize) -> Skin) {
        for (band, pair) in rings.windows(2).enumerate() {
            let n = pair[0].len().min(pair[1].len());
            let middle =
                |ring: &[V3]| ring.iter().fold(V3::default(), |a, b| a + *b) * (1.0 / ring.len().max(1) as f32);
            let axis = (middle(&pair[0]) + middle(&pair[1])) * 0.5;
            for i in 0..n {
                let j = (i + 1) % n;
                let (a, b, c, d) = (pair[0][i], pair[0][j], pair[1][j], pair[1][i]);
                let mut flat = (b - a).cross(d - a);
                if flat.dot(flat) < 1e-10 {
                    flat = (c - b).cross(d - c);
                }
                let mut flat = flat.unit();
                if flat.dot((a + c) * 0.5 - axis) < 0.0 {
                    flat = -flat;
                }
                // Corner normals lean towards the corner, so that the body looks rounded.
                let lean = |p: V3| (flat * 1.5 + (p - axis).unit()).unit();
                let s = pick(band, i);
                let uv = |p: V3| [p.x + p.y, p.z];
                self.smooth([a, b, c], [lean(a), lean(b), lean(c)], [uv(a), uv(b), uv(c)], s);
                self.smooth([a, c, d], [lean(a), lean(c), lean(d)], [uv(a), uv(c), uv(d)], s);
            }
        }
    }

    /// Closes a ring with a slightly domed lid.
    pub(super) fn lid(&mut self, ring: &[V3], rise: f32, s: Skin) {
        let n = ring.len();
        let centre = ring.iter().fold(V3::default(), |a, b| a + *b) * (1.0 / n.max(1) as f32);
        let up = v3(0.0, 0.0, 1.0);
        let top = centre + up * rise;
        for i in 0..n {
            let (a, b) = (ring[i], ring[(i + 1) % n]);
            let lean = |p: V3| (up + (p - centre).unit() * 0.22).unit();
            let uv = |p: V3| [p.x - centre.x, p.y - centre.y];
            self.smooth([top, a, b], [up, lean(a), lean(b)], [[0.0, 0.0], uv(a), uv(b)], s);
        }
    }
}

/// Points `(cos, sin)` around a circle.
pub(super) fn ring_points(n: usize) -> impl Iterator<Item = (f32, f32)> {
    (0..n).map(move |i| {
        let (s, c) = sin_cos(std::f32::consts::TAU * i as f32 / n.max(1) as f32);
        (c, s)
    })
}

/// A rectangle with rounded corners at height `z` in the frame, from `x.0` (rear) to `x.1` (front); three points a corner.
pub(super) fn rounded(frame: &Frame, x: (f32, f32), half: (f32, f32), r: f32, z: f32) -> Vec<V3> {
    let k = r * 0.293;
    let (w0, w1) = half;
    [
        (x.1 - r, w1),
        (x.1 - k, w1 - k),
        (x.1, w1 - r),
        (x.1, r - w1),
        (x.1 - k, k - w1),
        (x.1 - r, -w1),
        (x.0 + r, -w0),
        (x.0 + k, k - w0),
        (x.0, r - w0),
        (x.0, w0 - r),
        (x.0 + k, w0 - k),
        (x.0 + r, w0),
    ]
    .iter()
    .map(|&(px, py)| frame.at(px, py, z))
    .collect()
}
