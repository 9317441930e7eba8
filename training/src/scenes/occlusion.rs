//! Contact shadows: how much sky a point sees past what stands around it.

use super::mesh::World;
use super::vector::V3;

const SIDE: usize = 320;

/// Blurred heights of the solids over the ground.
#[derive(Debug)]
pub(super) struct Occlusion {
    height: Vec<f32>,
    origin: (f32, f32),
    per_metre: f32,
}

impl Occlusion {
    pub(super) fn new(world: &World) -> Occlusion {
        let reach = world.camera.reach() * 1.05;
        let origin = (world.camera.target.x - reach, world.camera.target.y - reach);
        let mut map = Occlusion { height: vec![0.0; SIDE * SIDE], origin, per_metre: SIDE as f32 / (2.0 * reach) };
        for t in &world.solids {
            // Corners, edge middles and the centre are enough for a map this coarse.
            let centre = (t.at[0] + t.at[1] + t.at[2]) * (1.0 / 3.0);
            for p in [
                t.at[0],
                t.at[1],
                t.at[2],
                centre,
                (t.at[0] + t.at[1]) * 0.5,
                (t.at[1] + t.at[2]) * 0.5,
                (t.at[2] + t.at[0]) * 0.5,
            ] {
                if let Some(i) = map.index(p) {
                    map.height[i] = map.height[i].max(p.z.min(5.0));
                }
            }
        }
        let radius = ((1.1 * map.per_metre) as usize).clamp(1, 24);
        map.height = blur(&blur(&map.height, radius, true), radius, false);
        map
    }

    fn index(&self, p: V3) -> Option<usize> {
        let (x, y) = ((p.x - self.origin.0) * self.per_metre, (p.y - self.origin.1) * self.per_metre);
        let side = SIDE as f32;
        (x >= 0.0 && y >= 0.0 && x < side && y < side).then(|| y as usize * SIDE + x as usize)
    }

    /// Share of the sky that is open at `p`, 0.45..=1.
    pub(super) fn open(&self, p: V3) -> f32 {
        let (x, y) = ((p.x - self.origin.0) * self.per_metre - 0.5, (p.y - self.origin.1) * self.per_metre - 0.5);
        let last = (SIDE - 2) as f32;
        if !(x >= 0.0 && y >= 0.0 && x <= last && y <= last) {
            return 1.0;
        }
        let (i, j) = (x as usize, y as usize);
        let (u, v) = (x - i as f32, y - j as f32);
        let at = |i: usize, j: usize| self.height[j * SIDE + i];
        let top = at(i, j) * (1.0 - u) + at(i + 1, j) * u;
        let low = at(i, j + 1) * (1.0 - u) + at(i + 1, j + 1) * u;
        let above = (top * (1.0 - v) + low * v - p.z).max(0.0);
        1.0 - 0.55 * (above / (above + 0.8))
    }
}

fn blur(from: &[f32], radius: usize, along_x: bool) -> Vec<f32> {
    let (step, jump) = if along_x { (1, SIDE) } else { (SIDE, 1) };
    let mut out = vec![0.0; SIDE * SIDE];
    let share = 1.0 / (2 * radius + 1) as f32;
    for line in 0..SIDE {
        let at = |i: isize| from[line * jump + (i.clamp(0, SIDE as isize - 1) as usize) * step];
        let r = radius as isize;
        let mut sum: f32 = (-r..=r).map(at).sum();
        for i in 0..SIDE as isize {
            out[line * jump + i as usize * step] = sum * share;
            sum += at(i + r + 1) - at(i - r);
        }
    }
    out
}
