//! Trees, people and bicycles.

use super::mesh::{Matter, World, skin};
use super::paint;
use super::random::Dice;
use super::vector::{Frame, V3, sin_cos, v3};
use crate::sample::Category;

/// A tree with a crown of roughly `radius` metres at `(x, y)`.
pub(super) fn tree(w: &mut World, dice: &mut Dice, x: f32, y: f32, radius: f32) {
    let mut dice = dice.fork();
    if !w.camera.near_view(v3(x, y, radius), radius * 3.0) {
        return;
    }
    let thing = w.thing(Category::Tree, None);
    let tall = (radius * dice.range(2.0, 3.0)).min(w.camera.altitude * 0.42).max(radius * 1.2);
    let species = dice.pick(
        &[
            v3(0.045, 0.085, 0.022),
            v3(0.060, 0.10, 0.025),
            v3(0.035, 0.065, 0.024),
            v3(0.085, 0.115, 0.030),
            v3(0.11, 0.10, 0.03),
            v3(0.05, 0.075, 0.035),
        ],
        v3(0.05, 0.09, 0.03),
    );
    let green = species * libm::expf(dice.normal() * 0.16);
    let conifer = dice.chance(0.15);
    let half = if conifer { tall * 0.46 } else { (radius * dice.range(0.75, 1.0)).min(tall * 0.46) };
    let centre = v3(x, y, tall - half);
    trunk(w, x, y, radius, tall, thing);
    // Boughs: the crown is a few overlapping balls, not one.
    let boughs: Vec<(V3, f32)> = (0..if conifer { 1 } else { 4 + dice.below(4) })
        .map(|i| {
            let (dx, dy) = dice.direction();
            let out = if i == 0 { 0.0 } else { radius * dice.range(0.35, 0.6) };
            let size = if i == 0 { radius * 0.75 } else { radius * dice.range(0.38, 0.55) };
            (v3(dx * out, dy * out, if i == 0 { 0.0 } else { half * dice.range(-0.3, 0.45) }), size)
        })
        .collect();
    let depth = (centre - w.camera.position).dot(w.camera.forward).max(5.0);
    let pixels = radius * w.camera.focal * 512.0 / depth;
    let clumps = ((pixels * pixels * 0.22) as usize).clamp(26, 320);
    for i in 0..clumps {
        let (offset, size) = boughs.get(i % boughs.len()).copied().unwrap_or((V3::default(), radius));
        let z = dice.range(-0.55, 1.0);
        let (dx, dy) = dice.direction();
        let rim = (1.0 - z * z).max(0.0).sqrt();
        let narrow = if conifer { 0.55 * (1.0 - z) + 0.08 } else { 1.0 };
        let deep = if dice.chance(0.3) { dice.range(0.4, 0.9) } else { 1.0 };
        let out = v3(dx * rim * narrow, dy * rim * narrow, z);
        let vertical = if conifer { half } else { size * half / radius };
        let at = centre + offset + v3(out.x * size, out.y * size, out.z * vertical) * deep;
        let k = (0.62 + 0.38 * deep) * (0.82 + 0.22 * z) * libm::expf(dice.normal() * 0.13);
        let leaf = size * dice.range(0.26, 0.46) * if clumps < 60 { 1.6 } else { 1.0 };
        clump(w, &mut dice, at, out, leaf, skin(Matter::Leaf, green * k, thing));
    }
}

fn trunk(w: &mut World, x: f32, y: f32, radius: f32, tall: f32, thing: u16) {
    let bark = skin(Matter::Wood, v3(0.11, 0.08, 0.055), thing);
    let f = Frame::new(x, y, 0.4);
    let r = (radius * 0.07).max(0.08);
    w.block(&f, (r, r), (0.0, tall * 0.7), bark, bark);
}

/// A ragged tuft facing roughly `out`.
fn clump(w: &mut World, dice: &mut Dice, at: V3, out: V3, radius: f32, s: super::mesh::Skin) {
    let jitter = v3(dice.normal(), dice.normal(), dice.normal().abs()) * 0.45;
    let face = (out.unit() + jitter).unit();
    let side = if face.z.abs() > 0.9 { v3(1.0, 0.0, 0.0) } else { v3(0.0, 0.0, 1.0) };
    let a = face.cross(side).unit();
    let b = face.cross(a);
    let (sin, cos) = sin_cos(dice.range(0.0, 3.1));
    let (a, b) = (a * cos + b * sin, b * cos - a * sin);
    let normal = (out.unit() * 1.2 + jitter * 0.7 + v3(0.0, 0.0, 0.25)).unit();
    let c = [(-1.0f32, -1.0f32), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)];
    let p = c.map(|(u, v)| at + a * (u * radius) + b * (v * radius));
    let uv = c.map(|(u, v)| [u, v]);
    w.smooth([p[0], p[1], p[2]], [normal; 3], [uv[0], uv[1], uv[2]], s);
    w.smooth([p[0], p[2], p[3]], [normal; 3], [uv[0], uv[2], uv[3]], s);
}

/// A person standing or walking.
pub(super) fn person(w: &mut World, dice: &mut Dice, x: f32, y: f32) {
    let mut dice = dice.fork();
    let shirt = paint::clothes(&mut dice);
    let trousers = paint::clothes(&mut dice).1 * 0.6;
    let thing = w.thing(Category::Person, shirt.0);
    let (dx, dy) = dice.direction();
    let pace = if dice.chance(0.6) { dice.range(0.7, 1.4) } else { 0.0 };
    let (x, y) = (x + dx * pace * w.seconds, y + dy * pace * w.seconds);
    let f = Frame::new(x, y, libm::atan2f(dy, dx));
    body(w, &mut dice, &f, shirt.1, trousers, thing, 0.0);
}

fn body(w: &mut World, dice: &mut Dice, f: &Frame, shirt: V3, trousers: V3, thing: u16, lift: f32) {
    let cloth = skin(Matter::Plain, shirt, thing);
    let legs = skin(Matter::Plain, trousers, thing);
    let tone = dice.pick(&[v3(0.42, 0.26, 0.18), v3(0.25, 0.14, 0.09), v3(0.10, 0.06, 0.04)], v3(0.3, 0.2, 0.15));
    let hair = dice.pick(
        &[v3(0.02, 0.015, 0.01), v3(0.09, 0.05, 0.03), v3(0.3, 0.2, 0.09), v3(0.25, 0.25, 0.25)],
        v3(0.05, 0.03, 0.02),
    );
    for (side, step) in [(-1.0, 0.14), (1.0, -0.14)] {
        w.block(&f.inner(step, side * 0.09, 0.0), (0.09, 0.08), (lift, lift + 0.85), legs, legs);
        w.block(&f.inner(-step, side * 0.27, 0.0), (0.08, 0.06), (lift + 0.85, lift + 1.4), cloth, cloth);
    }
    w.block(f, (0.14, 0.23), (lift + 0.82, lift + 1.48), cloth, cloth);
    w.cylinder(
        &f.lifted(lift + 1.48),
        0.115,
        (0.0, 0.24),
        skin(Matter::Plain, tone, thing),
        skin(Matter::Plain, hair, thing),
    );
}

/// A bicycle, sometimes ridden (the rider is a person of their own).
pub(super) fn bicycle(w: &mut World, dice: &mut Dice, frame: &Frame, ridden: bool) {
    let mut dice = dice.fork();
    let speed = if ridden { dice.range(2.5, 5.0) } else { 0.0 };
    let f = frame.inner(speed * w.seconds, 0.0, 0.0);
    let p = paint::car(&mut dice);
    let thing = w.thing(Category::Bicycle, None);
    let tube = skin(Matter::Coat, p.1, thing);
    let tyre = skin(Matter::Rubber, v3(0.015, 0.015, 0.015), thing);
    for x in [-0.52f32, 0.52] {
        let wheel = f.inner(x, 0.0, 0.0);
        w.block(&wheel, (0.33, 0.035), (0.06, 0.62), tyre, tyre);
    }
    w.block(&f, (0.5, 0.04), (0.5, 0.85), tube, tube);
    w.block(&f.inner(0.42, 0.0, 0.0), (0.05, 0.28), (0.95, 1.02), tyre, tyre);
    w.block(&f.inner(-0.3, 0.0, 0.0), (0.13, 0.08), (0.9, 0.97), tyre, tyre);
    if ridden {
        let shirt = paint::clothes(&mut dice);
        let rider = w.thing(Category::Person, shirt.0);
        body(w, &mut dice, &f.inner(-0.1, 0.0, 0.0), shirt.1, v3(0.02, 0.02, 0.03), rider, 0.35);
    }
}
