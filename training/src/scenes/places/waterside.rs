//! Harbours and rivers.

use super::super::{
    craft, grounds,
    mesh::{Matter, World, skin},
    random::Dice,
    structures,
    vector::{Frame, V3, v3},
};
use super::{crowd, ground, grove, meadow, parked, stains, traffic};
use crate::sample::Category;
use std::f32::consts::{FRAC_PI_2, PI};

fn water(dice: &mut Dice) -> V3 {
    dice.pick(
        &[
            v3(0.012, 0.040, 0.050),
            v3(0.02, 0.055, 0.050),
            v3(0.045, 0.055, 0.035),
            v3(0.012, 0.05, 0.085),
            v3(0.02, 0.03, 0.035),
        ],
        v3(0.02, 0.05, 0.05),
    ) * dice.range(0.8, 1.3)
}

/// A quay with piers and moored boats, boats under way outside.
pub(super) fn harbour(w: &mut World, dice: &mut Dice) {
    let sea = skin(Matter::Water, water(dice), 0);
    w.base = sea;
    let reach = w.camera.reach() + 25.0;
    let f = Frame::new(0.0, 0.0, dice.range(0.0, 6.2));
    let shore = dice.range(-0.25, 0.12) * reach;
    let beach = dice.chance(0.3);
    if beach {
        for i in 0..40 {
            let x = (i as f32 / 20.0 - 1.0) * reach * 1.3;
            let s = dice.range(0.7, 1.3);
            w.patch(&f.inner(x, shore - 1.0, 0.0), reach * 0.09, 5.0 * s, skin(Matter::Foam, v3(0.24, 0.25, 0.22), 0));
        }
        for i in 0..40 {
            let x = (i as f32 / 20.0 - 1.0) * reach * 1.3;
            w.disc(
                &f.inner(x, shore - 6.0, 0.0),
                reach * 0.11,
                dice.range(6.0, 10.0),
                skin(Matter::Sand, v3(0.40, 0.32, 0.21), 0),
            );
        }
        w.rug(
            &f.inner(0.0, shore - reach * 1.5 - 5.0, 0.0),
            reach * 1.6,
            reach * 1.5,
            skin(Matter::Sand, v3(0.47, 0.39, 0.27), 0),
        );
        for _ in 0..9 {
            let c = f.at(dice.range(-0.7, 0.7) * reach, shore - 16.0, 0.0);
            crowd(w, dice, (c.x, c.y), 3.2, 2);
        }
    } else {
        let (m, c) = ground(dice);
        w.rug(&f.inner(0.0, shore - reach * 1.5, 0.0), reach * 1.6, reach * 1.5, skin(m, c, 0));
        let stone = skin(Matter::Concrete, v3(0.38, 0.37, 0.35), 0);
        w.block(&f.inner(0.0, shore, 0.0), (reach * 1.6, 0.6), (0.0, 0.25), stone, stone);
    }
    let road = f.inner(0.0, shore - dice.range(18.0, 30.0), 0.0);
    grounds::road(w, &road, reach * 1.6, 1, true);
    w.occupy_box(&road, reach * 1.6, 6.5);
    traffic(w, dice, &road, reach, 1, 0.25);
    quay(w, dice, &f, shore, reach, beach);
    marina(w, dice, &f, shore, reach);
    for _ in 0..2 + dice.below(5) {
        let at =
            f.inner(dice.range(-0.6, 0.6) * reach, shore + 15.0 + dice.range(0.1, 0.7) * reach, dice.range(0.0, 6.2));
        let length = dice.log_range(4.0, 22.0);
        let speed = if dice.chance(0.65) { dice.range(2.0, 10.0) } else { 0.0 };
        if w.claim(at.origin.x, at.origin.y, length) {
            craft::boat(w, dice, &at, length, speed);
        }
    }
}

/// Sheds, parked vehicles and trees behind the shore.
fn quay(w: &mut World, dice: &mut Dice, f: &Frame, shore: f32, reach: f32, beach: bool) {
    let n = (reach / 11.0) as i32;
    for i in -n..=n {
        let at = f.inner(
            i as f32 * 13.0 + dice.range(-3.0, 3.0),
            shore - dice.range(38.0, 60.0),
            dice.pick(&[0.0, FRAC_PI_2], 0.0),
        );
        if dice.chance(0.5) && w.claim(at.origin.x, at.origin.y, 9.0) {
            if dice.chance(0.5) {
                structures::hall(w, dice, &at, (9.0, 5.5), 5.0);
            } else {
                structures::house(w, dice, &at, (6.5, 4.5));
            }
        }
        let stand = f.inner(
            i as f32 * 9.0 + dice.range(-2.0, 2.0),
            shore - dice.range(6.0, 11.0),
            dice.pick(&[0.0, FRAC_PI_2, PI], 0.0),
        );
        if !beach && dice.chance(0.35) && w.claim(stand.origin.x, stand.origin.y, 3.4) {
            let kind = [Category::Car, Category::Van, Category::Trailer][dice.weighted(&[0.66, 0.18, 0.16])];
            parked(w, dice, &stand, kind);
        }
    }
    for _ in 0..4 {
        let c = f.at(dice.range(-0.8, 0.8) * reach, shore - 48.0, 0.0);
        grove(w, dice, (c.x, c.y), 14.0, 6, (1.8, 4.0));
    }
    let q = f.at(dice.range(-0.3, 0.3) * reach, shore - 7.0, 0.0);
    if !beach {
        stains(w, dice, &f.inner(0.0, shore - 9.0, 0.0), (reach, 6.0), 12);
    }
    crowd(w, dice, (q.x, q.y), 4.0, 4);
}

/// Piers with boats in their berths.
fn marina(w: &mut World, dice: &mut Dice, f: &Frame, shore: f32, reach: f32) {
    let fingers = dice.chance(0.7);
    let step = if fingers { dice.range(25.0, 32.0) } else { dice.range(30.0, 60.0) };
    let n = (reach / step).ceil() as i32;
    let offset = dice.range(-8.0, 8.0);
    let full = dice.range(0.35, 0.9);
    for i in -n..=n {
        let mut dice = dice.fork();
        let length = dice.range(22.0, 60.0);
        let pier = f.inner(i as f32 * step + offset, shore, FRAC_PI_2);
        if !dice.chance(0.8) || !w.camera.near_view(pier.at(length * 0.5, 0.0, 0.0), length) {
            continue;
        }
        structures::pier(w, &mut dice, &pier, length, fingers);
        w.occupy_box(&pier.inner(length * 0.5, 0.0, 0.0), length * 0.5, 11.0);
        let berth = if fingers { 3.6 } else { 9.0 };
        let mut x = 5.0 + berth * 0.5;
        while x < length - 2.0 {
            for side in [-1.0f32, 1.0] {
                if dice.chance(full) {
                    let long = if fingers { dice.range(5.2, 8.8) } else { dice.range(5.0, 8.0) };
                    let turn = if dice.chance(0.5) { PI } else { 0.0 };
                    let at = if fingers {
                        pier.inner(x, side * (1.9 + long * 0.5), side * FRAC_PI_2 + turn + dice.normal() * 0.03)
                    } else {
                        pier.inner(x, side * 3.1, turn + dice.normal() * 0.03)
                    };
                    craft::boat(w, &mut dice, &at, long.min(9.0), 0.0);
                }
            }
            x += berth;
        }
    }
}

/// A river between meadows, a bridge over it, boats on it.
pub(super) fn river(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 25.0;
    let f = Frame::new(dice.range(-10.0, 10.0), dice.range(-10.0, 10.0), dice.range(0.0, 6.2));
    let half = dice.range(11.0, 34.0).min(reach * 0.5);
    let mut x = -reach * 1.4;
    while x < reach * 1.4 {
        for side in [-1.0f32, 1.0] {
            let bank = f.inner(x, side * (half + dice.range(-0.5, 1.5)), 0.0);
            w.disc(&bank, 8.0, dice.range(3.0, 5.5), skin(Matter::Soil, v3(0.22, 0.17, 0.11), 0));
        }
        x += 5.0;
    }
    w.rug(&f, reach * 1.5, half, skin(Matter::Water, water(dice), 0));
    w.occupy_box(&f, reach * 1.5, half + 2.0);
    let road = f.inner(dice.range(-0.25, 0.25) * reach, 0.0, FRAC_PI_2 + dice.normal() * 0.12);
    let lanes = 1 + dice.below(2);
    let carriage = grounds::road(w, &road, reach * 1.5, lanes, false);
    structures::bridge(w, &road, 2.0 * half + 8.0, carriage * 2.0);
    w.occupy_box(&road, reach * 1.5, carriage + 3.0);
    let density = dice.range(0.2, 0.6);
    traffic(w, dice, &road, reach, lanes, density);
    for _ in 0..2 + dice.below(4) {
        let x = dice.sign() * dice.range(16.0, reach.max(30.0));
        let turn = if dice.chance(0.5) { PI } else { 0.0 };
        let at = f.inner(x, dice.range(-0.65, 0.65) * half, turn + dice.normal() * 0.1);
        let length = dice.range(4.5, 13.0).min(half * 0.8);
        let speed = if dice.chance(0.6) { dice.range(1.5, 5.0) } else { 0.0 };
        craft::boat(w, dice, &at, length, speed);
    }
    if dice.chance(0.4) {
        let at = f.inner(dice.range(-0.6, 0.6) * reach, half + 0.5, -FRAC_PI_2);
        structures::pier(w, dice, &at, 9.0, false);
    }
    for _ in 0..5 {
        let at =
            f.inner(dice.range(-0.8, 0.8) * reach, dice.sign() * (half + dice.range(16.0, 40.0)), dice.range(0.0, 0.3));
        if dice.chance(0.6) && w.claim(at.origin.x, at.origin.y, 10.0) {
            structures::house(w, dice, &at, (6.0, 4.3));
        }
    }
    let trees = (reach * 0.9) as usize;
    grove(w, dice, (0.0, 0.0), reach, trees.min(110), (1.6, 4.8));
    crowd(w, dice, (0.0, 0.0), reach * 0.5, 8);
}
