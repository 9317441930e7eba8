//! Airfields and tank farms.

use super::super::{
    craft, grounds,
    mesh::{Matter, World, skin},
    random::Dice,
    structures,
    vector::{Frame, v3},
};
use super::{crowd, grove, meadow, parked, stains, traffic};
use crate::sample::Category;
use std::f32::consts::{FRAC_PI_2, PI};

/// Apron with parked airplanes, hangars, a taxiway and service vehicles.
pub(super) fn airfield(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 30.0;
    let f = Frame::new(dice.range(-10.0, 10.0), dice.range(-10.0, 10.0), dice.range(0.0, 6.2));
    let small = w.camera.span() < 95.0 || dice.chance(0.35);
    let concrete = skin(Matter::Concrete, v3(0.37, 0.36, 0.34) * dice.range(0.75, 1.1), 0);
    let depth = if small { 30.0 } else { 52.0 };
    w.rug(&f, reach * 1.4, depth, concrete);
    stains(w, dice, &f, (reach, depth), (reach * 0.25) as usize);
    let yellow = skin(Matter::Paint, v3(0.62, 0.42, 0.04), 0);
    let taxi = f.inner(0.0, depth + if small { 16.0 } else { 30.0 }, 0.0);
    w.rug(&taxi, reach * 1.4, if small { 7.0 } else { 14.0 }, skin(Matter::Asphalt, v3(0.10, 0.10, 0.10), 0));
    w.stripe(&taxi, (-reach * 1.4, 0.0), (reach * 1.4, 0.0), 0.3, yellow);
    w.stripe(&f, (-reach * 1.4, depth * 0.75), (reach * 1.4, depth * 0.75), 0.3, yellow);
    let step = if small { dice.range(14.0, 17.0) } else { dice.range(44.0, 52.0) };
    let n = (reach / step).ceil() as i32;
    let full = dice.range(0.45, 0.9);
    let rows: &[f32] = if small { &[-14.0, 8.0] } else { &[-8.0] };
    for i in -n..=n {
        for &y in rows {
            let mut dice = dice.fork();
            let at = f.inner(
                i as f32 * step,
                y,
                if dice.chance(0.8) { FRAC_PI_2 } else { -FRAC_PI_2 } + dice.normal() * 0.04,
            );
            w.stripe(&at, (-step * 0.4, 0.0), (step * 0.5, 0.0), 0.22, yellow);
            let length = if small { dice.range(7.5, 10.5) } else { dice.range(27.0, 42.0) };
            if dice.chance(full) && w.camera.near_view(at.origin, length) {
                craft::airplane(w, &mut dice, &at, length);
                w.occupy(at.origin.x, at.origin.y, length * 0.5);
                service(w, &mut dice, &at, length);
            }
        }
    }
    for i in -n..=n {
        let at = f.inner(i as f32 * 36.0 + dice.range(-3.0, 3.0), -depth - 15.0, 0.0);
        if dice.chance(0.65) {
            let deep = dice.range(9.0, 13.0);
            structures::hall(w, dice, &at, (dice.clone().range(11.0, 15.0), deep), 8.0);
            w.occupy_box(&at, 15.0, 13.0);
        }
    }
    let trees = dice.below(25);
    grove(w, dice, (f.at(0.0, -depth - 50.0, 0.0).x, f.at(0.0, -depth - 50.0, 0.0).y), 35.0, trees, (2.0, 4.5));
    crowd(w, dice, (f.origin.x, f.origin.y), depth.min(reach * 0.5), 7);
}

fn service(w: &mut World, dice: &mut Dice, at: &Frame, length: f32) {
    for _ in 0..if length > 18.0 { 3 } else { 1 } {
        let spot = at.inner(
            dice.range(-0.1, 0.45) * length,
            dice.sign() * length * dice.range(0.16, 0.3),
            dice.range(0.0, 6.2),
        );
        if dice.chance(0.55) {
            let kind =
                [Category::Truck, Category::Van, Category::Car, Category::Bus][dice.weighted(&[0.38, 0.3, 0.22, 0.1])];
            // Parked clear of the wings: beyond the nose.
            let clear =
                at.inner(length * 0.5 + dice.range(5.0, 12.0), spot.origin.x.fract() * 4.0, dice.range(0.0, 6.2));
            if length > 18.0 && w.claim(clear.origin.x, clear.origin.y, 5.0) {
                parked(w, dice, &clear, kind);
            }
        }
    }
}

/// Storage tanks inside bunds, pipes, lorries.
pub(super) fn tank_farm(w: &mut World, dice: &mut Dice) {
    let k = dice.range(0.8, 1.15);
    w.base = skin(Matter::Gravel, v3(0.30, 0.27, 0.23) * k, 0);
    let reach = w.camera.reach() + 25.0;
    let f = Frame::new(dice.range(-10.0, 10.0), dice.range(-10.0, 10.0), dice.range(0.0, 6.2));
    let radius = dice.range(5.0, 15.0);
    let step = radius * 2.0 + dice.range(7.0, 14.0);
    let lane = step * 2.0 + 12.0;
    let (nx, ny) = ((reach / step).ceil() as i32, (reach / lane).ceil() as i32 + 1);
    for j in -ny..=ny {
        let row = f.inner(0.0, (j as f32 + 0.5) * lane, 0.0);
        grounds::road(w, &f.inner(0.0, j as f32 * lane, 0.0), reach * 1.5, 1, false);
        let floor = if dice.chance(0.5) {
            (Matter::Concrete, v3(0.36, 0.35, 0.33))
        } else {
            (Matter::Grass, v3(0.10, 0.11, 0.045))
        };
        for i in -nx..=nx {
            for side in [-1.0f32, 1.0] {
                let mut dice = dice.fork();
                let at = row.inner(i as f32 * step, side * step * 0.5, 0.0);
                if !w.camera.near_view(at.origin, radius * 2.5) {
                    continue;
                }
                w.rug(&at, step * 0.5 - 0.8, step * 0.5 - 0.8, skin(floor.0, floor.1, 0));
                let bund = skin(Matter::Concrete, v3(0.40, 0.39, 0.36), 0);
                w.block(&at.inner(0.0, side * (step * 0.5 - 0.6), 0.0), (step * 0.5, 0.18), (0.0, 1.0), bund, bund);
                w.block(&at.inner(step * 0.5, 0.0, 0.0), (0.18, step * 0.5), (0.0, 1.0), bund, bund);
                stains(w, &mut dice, &at, (step * 0.45, step * 0.45), 3);
                if dice.chance(0.82) {
                    let r = radius * dice.range(0.72, 1.0);
                    structures::tank(w, &mut dice, at.origin.x, at.origin.y, r);
                    w.occupy(at.origin.x, at.origin.y, r);
                } else if dice.chance(0.5) {
                    structures::hall(w, &mut dice, &at, (radius * 0.8, radius * 0.5), 4.5);
                    w.occupy(at.origin.x, at.origin.y, radius);
                }
                let pipe = skin(Matter::Plain, v3(0.42, 0.42, 0.41), 0);
                for p in 0..3 {
                    w.block(
                        &at.inner(0.0, -side * (step * 0.5 + 1.6 + p as f32 * 0.6), 0.0),
                        (step * 0.5, 0.14),
                        (0.4, 0.68),
                        pipe,
                        pipe,
                    );
                }
            }
        }
        traffic(w, dice, &f.inner(0.0, j as f32 * lane, 0.0), reach, 1, 0.14);
        let stand =
            f.inner(dice.range(-0.3, 0.3) * reach, j as f32 * lane + 4.9, if dice.chance(0.5) { 0.0 } else { PI });
        if dice.chance(0.5) && w.claim(stand.origin.x, stand.origin.y, 5.0) {
            let kind = [Category::Truck, Category::Trailer, Category::Car][dice.weighted(&[0.5, 0.25, 0.25])];
            parked(w, dice, &stand, kind);
        }
    }
    crowd(w, dice, (f.origin.x, f.origin.y), reach * 0.4, 5);
    grove(w, dice, (f.origin.x, f.origin.y), reach, 6, (1.5, 3.0));
}
