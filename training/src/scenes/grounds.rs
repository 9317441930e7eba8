//! Flat things people play on, swim in and drive over.

use super::mesh::{Matter, World, skin};
use super::random::Dice;
use super::vector::{Frame, V3, v3};
use crate::sample::Category;
use std::f32::consts::{FRAC_PI_2, PI, TAU};

const LINE: V3 = v3(0.72, 0.72, 0.70);

fn acrylic(dice: &mut Dice) -> (V3, V3) {
    let (blue, green, red, teal) =
        (v3(0.035, 0.11, 0.27), v3(0.05, 0.16, 0.08), v3(0.32, 0.08, 0.055), v3(0.04, 0.19, 0.18));
    let k = libm::expf(dice.normal() * 0.12);
    let (a, b) =
        [(blue, green), (green, red), (blue, red), (green, green * 0.75), (teal, blue), (red, green)][dice.below(6)];
    (a * k, b * k)
}

/// A tennis court, 23.8 × 11 m with run-off.
pub(super) fn tennis(w: &mut World, dice: &mut Dice, f: &Frame) {
    let (inner, outer) = acrylic(dice);
    let thing = w.thing(Category::TennisCourt, None);
    w.rug(f, 17.5, 8.6, skin(Matter::Court, outer, thing));
    w.rug(f, 11.9, 5.5, skin(Matter::Court, inner, thing));
    let line = skin(Matter::Paint, LINE, thing);
    for y in [-5.48, -4.11, 4.11, 5.48] {
        w.stripe(f, (-11.9, y), (11.9, y), 0.10, line);
    }
    for x in [-11.88, 11.88] {
        w.stripe(f, (x, -5.5), (x, 5.5), 0.12, line);
    }
    for x in [-6.4, 6.4] {
        w.stripe(f, (x, -4.11), (x, 4.11), 0.10, line);
    }
    w.stripe(f, (-6.4, 0.0), (6.4, 0.0), 0.10, line);
    let net = skin(Matter::Plain, v3(0.05, 0.05, 0.05), thing);
    w.block(f, (0.04, 6.2), (0.0, 0.95), net, skin(Matter::Plain, LINE, thing));
}

/// A basketball court, 28 × 15 m.
pub(super) fn basketball(w: &mut World, dice: &mut Dice, f: &Frame) {
    let (inner, outer) = acrylic(dice);
    let thing = w.thing(Category::BasketballCourt, None);
    let plain = dice.chance(0.35);
    let (a, b) = if plain { (v3(0.16, 0.16, 0.16), v3(0.14, 0.14, 0.14)) } else { (inner, outer) };
    w.rug(f, 15.6, 8.9, skin(Matter::Court, b, thing));
    w.rug(f, 14.0, 7.5, skin(Matter::Court, a, thing));
    let line = skin(Matter::Paint, LINE, thing);
    let key = skin(Matter::Court, b * 0.8, thing);
    for y in [-7.5, 7.5] {
        w.stripe(f, (-14.0, y), (14.0, y), 0.10, line);
    }
    for x in [-14.0, 0.0, 14.0] {
        w.stripe(f, (x, -7.5), (x, 7.5), 0.10, line);
    }
    w.arc(f, 1.8, (0.0, TAU), 0.10, line);
    for end in [-1.0f32, 1.0] {
        let g = f.inner(end * 14.0, 0.0, if end > 0.0 { PI } else { 0.0 });
        w.ground(&g, &[(0.0, -2.45), (5.8, -2.45), (5.8, 2.45), (0.0, 2.45)], key);
        for y in [-2.45, 2.45] {
            w.stripe(&g, (0.0, y), (5.8, y), 0.10, line);
        }
        w.stripe(&g, (5.8, -2.45), (5.8, 2.45), 0.10, line);
        w.arc(&g.inner(5.8, 0.0, 0.0), 1.8, (-FRAC_PI_2, FRAC_PI_2), 0.10, line);
        w.arc(&g.inner(1.57, 0.0, 0.0), 6.75, (-1.33, 1.33), 0.10, line);
        let steel = skin(Matter::Plain, v3(0.2, 0.2, 0.2), thing);
        w.block(&g.inner(-0.4, 0.0, 0.0), (0.1, 0.1), (0.0, 3.0), steel, steel);
        w.block(&g.inner(0.9, 0.0, 0.0), (0.05, 0.9), (2.9, 3.9), line, line);
    }
}

/// A baseball diamond with its outfield fan as one thing.
pub(super) fn baseball(w: &mut World, f: &Frame, size: f32) {
    let thing = w.thing(Category::BaseballDiamond, None);
    let clay = skin(Matter::Soil, v3(0.36, 0.19, 0.105), thing);
    let turf = skin(Matter::Turf, v3(0.055, 0.125, 0.03), thing);
    let fan = |r: f32, a: f32| -> Vec<(f32, f32)> {
        let mut p = vec![(-r * 0.06, 0.0)];
        p.extend((0..=16).map(|i| {
            let (s, c) = super::vector::sin_cos(-a + 2.0 * a * i as f32 / 16.0);
            (c * r, s * r)
        }));
        p
    };
    w.ground(f, &fan(size * 2.3, 0.80), turf);
    w.ground(f, &fan(size * 1.12, 0.86), clay);
    let k = size * 0.5;
    let g = f.inner(size * 0.56, 0.0, PI * 0.25);
    w.rug(&g, k * 0.68, k * 0.68, turf);
    w.disc(&f.inner(size * 0.55, 0.0, 0.0), size * 0.075, size * 0.075, clay);
    w.disc(f, size * 0.16, size * 0.16, clay);
    let line = skin(Matter::Paint, LINE, thing);
    for side in [-1.0f32, 1.0] {
        w.stripe(f, (0.0, 0.0), (size * 1.6, side * size * 1.6), 0.16, line);
    }
    let base = skin(Matter::Plain, LINE, thing);
    for (x, y) in [(0.0, 0.0), (size * 0.5, size * 0.5), (size * 0.5, -size * 0.5), (size, 0.0)] {
        w.rug(&f.inner(x, y, PI * 0.25), 0.4, 0.4, base);
    }
}

/// A running track around a football field.
pub(super) fn track(w: &mut World, dice: &mut Dice, f: &Frame, scale: f32) {
    let thing = w.thing(Category::GroundTrackField, None);
    let rubber = dice.pick(&[v3(0.33, 0.085, 0.05), v3(0.28, 0.07, 0.05), v3(0.05, 0.12, 0.26)], v3(0.3, 0.08, 0.05));
    let lane = skin(Matter::Court, rubber, thing);
    let turf = skin(Matter::Turf, v3(0.05, 0.12, 0.028), thing);
    let line = skin(Matter::Paint, LINE, thing);
    let (straight, inner, wide) = (42.0 * scale, 32.0 * scale, 9.8 * scale);
    let oval = |r: f32| -> Vec<(f32, f32)> {
        (0..=24)
            .map(|i| (straight, -FRAC_PI_2 + PI * i as f32 / 24.0))
            .chain((0..=24).map(|i| (-straight, FRAC_PI_2 + PI * i as f32 / 24.0)))
            .map(|(x, a)| {
                let (s, c) = super::vector::sin_cos(a);
                (x + c * r, s * r)
            })
            .collect()
    };
    w.ground(f, &oval(inner + wide), lane);
    w.ground(f, &oval(inner), turf);
    for i in 0..=8 {
        let r = inner + wide * i as f32 / 8.0;
        for side in [-1.0f32, 1.0] {
            w.stripe(f, (-straight, side * r), (straight, side * r), 0.09, line);
            let end = f.inner(side * straight, 0.0, if side > 0.0 { 0.0 } else { PI });
            w.arc(&end, r, (-FRAC_PI_2, FRAC_PI_2), 0.09, line);
        }
    }
    pitch_lines(w, f, (straight + inner * 0.28, inner * 0.82), thing);
}

fn pitch_lines(w: &mut World, f: &Frame, half: (f32, f32), thing: u16) {
    let line = skin(Matter::Paint, LINE, thing);
    let (a, b) = half;
    for y in [-b, b] {
        w.stripe(f, (-a, y), (a, y), 0.13, line);
    }
    for x in [-a, 0.0, a] {
        w.stripe(f, (x, -b), (x, b), 0.13, line);
    }
    w.arc(f, b * 0.27, (0.0, TAU), 0.13, line);
    for end in [-1.0f32, 1.0] {
        let (x, d, y) = (end * a, end * (a - a * 0.31), b * 0.59);
        w.stripe(f, (d, -y), (d, y), 0.13, line);
        for s in [-1.0f32, 1.0] {
            w.stripe(f, (x, s * y), (d, s * y), 0.13, line);
        }
        let post = skin(Matter::Plain, LINE, thing);
        w.block(&f.inner(end * a, 0.0, 0.0), (0.08, 3.6), (2.3, 2.45), post, post);
    }
}

/// A garden pool with a paved rim; the rim is scenery.
pub(super) fn pool(w: &mut World, dice: &mut Dice, f: &Frame) {
    let mut dice = dice.fork();
    let (a, b) = (dice.range(3.0, 5.5), dice.range(1.7, 2.8));
    let stone = skin(
        Matter::Concrete,
        dice.pick(&[v3(0.5, 0.46, 0.4), v3(0.4, 0.38, 0.36), v3(0.36, 0.22, 0.15)], v3(0.4, 0.4, 0.4)),
        0,
    );
    w.rug(f, a + 1.3, b + 1.3, stone);
    let thing = w.thing(Category::Pool, Some(crate::sample::Colour::Blue));
    let rim = skin(Matter::Plain, v3(0.62, 0.6, 0.56), thing);
    let water = skin(Matter::PoolWater, v3(0.055, 0.32, 0.42) * dice.range(0.8, 1.2), thing);
    let oval = dice.chance(0.4);
    for (k, s) in [(0.22, rim), (0.0, water)] {
        if oval {
            w.disc(f, a + k, b + k, s);
        } else {
            w.rug(f, a + k, b + k, s);
        }
    }
}

/// A road along the frame's x axis with kerbs, pavement and markings. `lanes` per direction.
pub(super) fn road(w: &mut World, f: &Frame, half_length: f32, lanes: usize, pavement: bool) -> f32 {
    let half = lanes as f32 * 3.4;
    if pavement {
        w.rug(f, half_length, half + 2.3, skin(Matter::Concrete, v3(0.33, 0.32, 0.30), 0));
        w.rug(f, half_length, half + 0.18, skin(Matter::Concrete, v3(0.42, 0.41, 0.40), 0));
    } else {
        w.rug(f, half_length, half + 1.4, skin(Matter::Gravel, v3(0.26, 0.235, 0.20), 0));
    }
    w.rug(f, half_length, half, skin(Matter::Lane, v3(0.095, 0.095, 0.098), 0));
    let white = skin(Matter::Paint, v3(0.60, 0.60, 0.57), 0);
    let middle = if pavement { white } else { skin(Matter::Paint, v3(0.58, 0.40, 0.06), 0) };
    let mut x = -half_length;
    while x < half_length {
        if lanes == 1 {
            w.stripe(f, (x, 0.0), (x + 3.0, 0.0), 0.13, white);
        }
        for lane in 1..lanes {
            for side in [-1.0, 1.0] {
                let y = side * lane as f32 * 3.4;
                w.stripe(f, (x, y), (x + 3.0, y), 0.14, white);
            }
        }
        x += 9.0;
    }
    if lanes > 1 {
        for y in [-0.14, 0.14] {
            w.stripe(f, (-half_length, y), (half_length, y), 0.12, middle);
        }
    }
    if lanes > 1 || !pavement {
        for y in [-half + 0.25, half - 0.25] {
            w.stripe(f, (-half_length, y), (half_length, y), 0.14, white);
        }
    }
    half
}

/// Zebra bars across a road that runs along x.
pub(super) fn zebra(w: &mut World, f: &Frame, half_width: f32) {
    let white = skin(Matter::Paint, v3(0.62, 0.62, 0.60), 0);
    let mut y = -half_width + 0.5;
    while y < half_width - 0.2 {
        w.rug(&f.inner(0.0, y, 0.0), 1.6, 0.25, white);
        y += 1.0;
    }
}
