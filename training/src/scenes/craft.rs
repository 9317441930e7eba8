//! Boats and airplanes; local x points to the bow or nose.

use super::mesh::{Matter, World, skin};
use super::paint;
use super::random::Dice;
use super::solids::ring_points;
use super::vector::{Frame, V3, v3};
use crate::sample::{Category, Colour};

/// A hull outline at height `z`: square stern, pointed bow.
fn hull(frame: &Frame, length: f32, width: f32, z: f32, k: f32) -> Vec<V3> {
    let (h, b) = (length * 0.5, width * 0.5 * k);
    [
        (0.5f32, 0.0f32),
        (0.40, 0.42),
        (0.25, 0.75),
        (0.05, 0.97),
        (-0.2, 1.0),
        (-0.5, 0.86),
        (-0.5, -0.86),
        (-0.2, -1.0),
        (0.05, -0.97),
        (0.25, -0.75),
        (0.40, -0.42),
    ]
    .iter()
    .map(|&(x, y)| frame.at(x * 2.0 * h * if x > 0.3 { 0.9 + 0.1 * k } else { 1.0 }, y * b, z))
    .collect()
}

/// A motor boat; under way it draws a wake.
pub(super) fn boat(w: &mut World, dice: &mut Dice, frame: &Frame, length: f32, speed: f32) {
    let mut dice = dice.fork();
    let f = frame.inner(speed * w.seconds, 0.0, 0.0);
    let p = paint::boat(&mut dice);
    let width = (length * dice.range(0.28, 0.36)).clamp(1.5, 7.0);
    if speed > 0.5 {
        wake(w, &f, length, width, speed);
    }
    let thing = w.thing(Category::Boat, p.0);
    let side = skin(Matter::Coat, p.1, thing);
    let high = (length * 0.10).clamp(0.5, 2.2);
    let rings = [
        hull(&f, length * 0.94, width, 0.0, 0.86),
        hull(&f, length, width, high, 1.0),
        hull(&f, length * 0.985, width, high + 0.05, 0.95),
    ];
    w.loft(&rings, |_, _| side);
    let white = p.0 == Some(Colour::White);
    let deck_albedo = if dice.chance(0.3) {
        v3(0.33, 0.22, 0.13)
    } else if white {
        p.1 * 0.95
    } else {
        p.1 * 0.85 + v3(0.05, 0.05, 0.05)
    };
    let deck = skin(if dice.chance(0.5) { Matter::Plain } else { Matter::Coat }, deck_albedo, thing);
    w.lid(&rings[2], 0.08, deck);
    let well = skin(Matter::Plain, v3(0.16, 0.15, 0.14), thing);
    let glass = skin(Matter::Glass, v3(0.02, 0.024, 0.03), thing);
    let top = skin(Matter::Coat, p.1, thing);
    let cockpit = f.inner(-length * 0.30, 0.0, 0.0);
    w.block(&cockpit, (length * 0.13, width * 0.33), (high, high + 0.13), well, well);
    if length > 5.5 {
        let cabin = f.inner(length * 0.05, 0.0, 0.0);
        let (cx, cy) = (length * dice.range(0.14, 0.20), width * 0.32);
        w.block(&cabin, (cx, cy), (high, high + 0.9), glass, glass);
        let roof = super::solids::rounded(&cabin, (-cx * 1.05, cx * 0.8), (cy * 1.0, cy * 0.85), cy * 0.4, high + 0.95);
        w.lid(&roof, 0.12, top);
        if dice.chance(0.3) {
            // A mast with its boom.
            let rod = skin(Matter::Plain, v3(0.6, 0.6, 0.6), thing);
            w.block(&f.inner(length * 0.08, 0.0, 0.0), (0.07, 0.07), (high, high + length * 0.9), rod, rod);
            w.block(
                &f.inner(-length * 0.12, 0.0, 0.0),
                (length * 0.2, 0.12),
                (high + 1.3, high + 1.5),
                skin(Matter::Plain, v3(0.05, 0.1, 0.3), thing),
                skin(Matter::Plain, v3(0.05, 0.1, 0.3), thing),
            );
        }
    } else {
        w.block(&f.inner(length * 0.06, 0.0, 0.0), (0.12, width * 0.34), (high, high + 0.45), glass, glass);
        let motor = skin(Matter::Plain, v3(0.02, 0.02, 0.02), thing);
        w.block(&f.inner(-length * 0.53, 0.0, 0.0), (0.3, 0.22), (0.2, high + 0.35), motor, motor);
    }
}

fn wake(w: &mut World, f: &Frame, length: f32, width: f32, speed: f32) {
    let foam = skin(Matter::Foam, v3(0.62, 0.66, 0.68), 0);
    let reach = (speed * 2.2).min(28.0);
    for i in 0..14 {
        let t = i as f32 / 14.0;
        let x = -length * 0.5 - t * reach;
        let fade = foam.albedo * (1.0 - 0.75 * t);
        let s = skin(Matter::Foam, fade, 0);
        w.patch(&f.inner(x, 0.0, 0.0), reach * 0.07 * (1.0 - 0.4 * t), width * (0.32 + 0.15 * t), s);
        for side in [-1.0, 1.0] {
            w.patch(
                &f.inner(x + length * 0.75, side * (width * 0.55 + t * reach * 0.3), side * 0.3),
                reach * 0.06,
                0.3 * (1.2 - t),
                s,
            );
        }
    }
}

/// A thin swept surface from root to tip, with a little thickness to catch light and cast shadow.
fn wing(w: &mut World, f: &Frame, root: (f32, f32, f32), tip: (f32, f32, f32), z: (f32, f32), s: super::mesh::Skin) {
    let (r0, r1, ry) = root;
    let (t0, t1, ty) = tip;
    w.quad([f.at(r0, ry, z.0), f.at(r1, ry, z.0), f.at(t1, ty, z.1), f.at(t0, ty, z.1)], s);
    let low = 0.25;
    w.quad([f.at(r1, ry, z.0), f.at(t1, ty, z.1), f.at(t1 - 0.1, ty, z.1 - low), f.at(r1 - 0.1, ry, z.0 - low)], s);
    w.quad([f.at(r0, ry, z.0), f.at(t0, ty, z.1), f.at(t0, ty, z.1 - low), f.at(r0, ry, z.0 - low)], s);
}

/// A parked airplane: an airliner when longer than 18 m, else a light aircraft.
pub(super) fn airplane(w: &mut World, dice: &mut Dice, frame: &Frame, length: f32) {
    let mut dice = dice.fork();
    let thing = w.thing(Category::Airplane, Some(Colour::White));
    let white = v3(0.72, 0.73, 0.74) * dice.range(0.85, 1.05);
    let accent = paint::bus(&mut dice).1;
    let liner = length > 18.0;
    let body = skin(Matter::Coat, white, thing);
    let silver = skin(Matter::Coat, white * 0.72, thing);
    let tail = skin(Matter::Coat, accent, thing);
    let radius = if liner { length * 0.052 } else { 0.62 };
    let axis = radius * if liner { 1.9 } else { 1.7 };
    let profile = [
        (0.5f32, 0.04f32, -0.25f32),
        (0.485, 0.4, -0.15),
        (0.45, 0.75, -0.05),
        (0.40, 1.0, 0.0),
        (-0.2, 1.0, 0.0),
        (-0.36, 0.68, 0.22),
        (-0.47, 0.28, 0.45),
        (-0.5, 0.06, 0.5),
    ];
    let rings: Vec<Vec<V3>> = profile
        .iter()
        .map(|&(x, k, up)| {
            ring_points(16).map(|(c, s)| frame.at(x * length, c * radius * k, axis + (s * k + up) * radius)).collect()
        })
        .collect();
    let cockpit = skin(Matter::Glass, v3(0.02, 0.02, 0.025), thing);
    w.loft(&rings, |band, i| if band == 1 && (2..6).contains(&i) { cockpit } else { body });
    let span = if liner { length * dice.range(0.46, 0.52) } else { length * dice.range(0.58, 0.68) };
    let sweep = if liner { length * 0.20 } else { 0.0 };
    let chord = if liner { length * 0.17 } else { length * 0.19 };
    let (lead, z) = (
        if liner { length * 0.13 } else { length * 0.2 },
        if liner { axis - radius * 0.5 } else { axis + radius * 0.8 },
    );
    for side in [-1.0f32, 1.0] {
        wing(
            w,
            frame,
            (lead - chord, lead, side * radius * 0.5),
            (lead - sweep - chord * 0.35, lead - sweep, side * span),
            (z, z + 0.6),
            silver,
        );
        let (t, tc) = (-0.39 * length, length * 0.085);
        wing(
            w,
            frame,
            (t - tc, t, 0.0),
            (t - tc * 1.1 - sweep * 0.35, t - tc * 0.4 - sweep * 0.35, side * span * 0.38),
            (axis + radius * 0.5, axis + radius * 0.8),
            silver,
        );
        if liner {
            let pod = frame.inner(lead - sweep * 0.32 + chord * 0.3, side * span * 0.36, 0.0);
            let pod_rings: Vec<Vec<V3>> = [(-0.09f32, 0.6f32), (-0.02, 1.0), (0.03, 1.0), (0.045, 0.8)]
                .iter()
                .map(|&(x, k)| {
                    ring_points(12)
                        .map(|(c, s)| {
                            pod.at(x * length, c * radius * 0.52 * k, z - radius * 0.45 + s * radius * 0.52 * k)
                        })
                        .collect()
                })
                .collect();
            w.loft(&pod_rings, |band, _| if band == 2 { cockpit } else { body });
        }
    }
    let (fin, top) = (-0.36 * length, axis + radius + length * 0.12);
    w.quad(
        [
            frame.at(fin, 0.0, axis + radius * 0.7),
            frame.at(fin - length * 0.12, 0.0, axis + radius * 0.6),
            frame.at(fin - length * 0.15, 0.0, top),
            frame.at(fin - length * 0.10, 0.0, top),
        ],
        tail,
    );
    w.block(
        &frame.inner(fin - length * 0.09, 0.0, 0.0),
        (length * 0.05, 0.12),
        (axis + radius * 0.6, top - length * 0.04),
        tail,
        tail,
    );
}
