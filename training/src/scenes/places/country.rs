//! Fields and parks.

use super::super::{
    craft, grounds,
    mesh::{Matter, World, skin},
    nature,
    random::Dice,
    structures,
    vector::{Frame, v3},
};
use super::{crowd, grove, meadow, parked, stains, traffic};
use crate::sample::Category;

/// Fields with rows, a lane, a farm and hedgerow trees.
pub(super) fn fields(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 25.0;
    let land = Frame::new(dice.range(-9.0, 9.0), dice.range(-9.0, 9.0), dice.range(0.0, 6.2));
    let (px, py) = (dice.range(45.0, 110.0), dice.range(35.0, 90.0));
    let (nx, ny) = ((reach / px).ceil() as i32 + 1, (reach / py).ceil() as i32 + 1);
    for i in -nx..=nx {
        for j in -ny..=ny {
            let f = land.inner(
                i as f32 * px,
                (j as f32 + 0.5) * py + 4.0,
                if dice.chance(0.5) { 0.0 } else { std::f32::consts::PI },
            );
            let k = dice.range(0.8, 1.2);
            let s = match dice.weighted(&[0.42, 0.2, 0.18, 0.2]) {
                0 => (
                    Matter::Crop,
                    dice.pick(
                        &[v3(0.06, 0.12, 0.03), v3(0.10, 0.15, 0.035), v3(0.30, 0.25, 0.10)],
                        v3(0.1, 0.12, 0.04),
                    ),
                ),
                1 => (Matter::Soil, v3(0.20, 0.135, 0.085)),
                2 => (Matter::Grass, v3(0.08, 0.125, 0.035)),
                _ => (Matter::Crop, v3(0.34, 0.27, 0.11)),
            };
            w.rug(&f, px * 0.5 - 0.8, py * 0.5 - 1.5, skin(s.0, s.1 * k, 0));
        }
    }
    let lane = land.inner(0.0, 0.0, 0.0);
    if dice.chance(0.6) {
        grounds::road(w, &lane, reach * 1.6, 1, false);
    } else {
        w.rug(&lane, reach * 1.6, 2.1, skin(Matter::Gravel, v3(0.33, 0.27, 0.19), 0));
        w.rug(&lane, reach * 1.6, 0.4, skin(Matter::Grass, v3(0.09, 0.11, 0.04), 0));
    }
    w.occupy_box(&lane, reach * 1.6, 4.5);
    traffic(w, dice, &lane, reach, 1, 0.3);
    let farm = land.inner(dice.range(-12.0, 12.0), dice.sign() * dice.range(16.0, 24.0), dice.normal() * 0.15);
    if dice.chance(0.75) {
        w.disc(&farm, 27.0, 20.0, skin(Matter::Gravel, v3(0.30, 0.25, 0.19), 0));
        w.occupy_box(&farm, 15.0, 10.0);
        structures::house(w, dice, &farm.inner(-9.0, 2.0, 0.1), (6.5, 4.4));
        let long = dice.range(8.0, 15.0);
        structures::hall(w, dice, &farm.inner(9.0, 3.0, 1.57), (long, 5.5), 4.5);
        for _ in 0..4 {
            let at = farm.inner(dice.range(-6.0, 3.0), dice.range(-12.0, -5.0), dice.range(0.0, 6.2));
            if w.claim(at.origin.x, at.origin.y, 3.8) {
                let kind = [Category::Car, Category::Van, Category::Trailer, Category::Truck]
                    [dice.weighted(&[0.5, 0.15, 0.25, 0.1])];
                parked(w, dice, &at, kind);
            }
        }
        crowd(w, dice, (farm.origin.x, farm.origin.y), 12.0, 3);
        grove(w, dice, (farm.origin.x, farm.origin.y), 24.0, 10, (2.0, 5.0));
    }
    for _ in 0..(reach * 0.5) as usize {
        let p = land.at(dice.range(-reach, reach), (dice.below(7) as f32 - 3.0) * py + 4.0 + dice.normal(), 0.0);
        let r = dice.range(1.5, 4.5);
        if dice.chance(0.5) && w.claim(p.x, p.y, r * 0.7) {
            nature::tree(w, dice, p.x, p.y, r);
        }
    }
}

/// A park: paths, people, bicycles, a pond, a car park at its edge.
pub(super) fn park(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 12.0;
    let f = Frame::new(0.0, 0.0, dice.range(0.0, 6.2));
    let pave = skin(if dice.chance(0.5) { Matter::Gravel } else { Matter::Concrete }, v3(0.38, 0.34, 0.28), 0);
    for _ in 0..3 {
        let (a, b) = (dice.range(-0.6, 0.6) * reach, dice.range(-0.6, 0.6) * reach);
        let width = dice.range(1.8, 3.4);
        w.stripe(&f, (-reach * 1.4, a), (reach * 1.4, b), width, pave);
        w.stripe(&f, (b, -reach * 1.4), (a, reach * 1.4), width, pave);
    }
    w.disc(&f, reach * 0.16, reach * 0.16, pave);
    if dice.chance(0.4) {
        let pond = f.inner(dice.range(0.3, 0.7) * reach, dice.range(-0.6, 0.6) * reach, 0.0);
        let (a, b) = (dice.range(6.0, 13.0), dice.range(4.0, 8.0));
        w.disc(&pond, a + 1.2, b + 1.2, skin(Matter::Sand, v3(0.36, 0.3, 0.2), 0));
        w.disc(&pond, a, b, skin(Matter::Water, v3(0.03, 0.06, 0.045), 0));
        w.occupy_box(&pond, a, b);
        if dice.chance(0.5) {
            craft::boat(w, dice, &pond, 3.8, 0.0);
        }
    }
    if dice.chance(0.6) {
        let lot = f.inner(dice.range(-0.7, -0.4) * reach, dice.range(-0.5, 0.5) * reach, dice.pick(&[0.0, 1.57], 0.0));
        w.rug(&lot, 14.0, 8.5, skin(Matter::Asphalt, v3(0.11, 0.11, 0.113), 0));
        w.occupy_box(&lot, 15.0, 9.5);
        stains(w, dice, &lot, (14.0, 8.5), 20);
        super::city::lot(w, dice, &lot, (14.0, 8.5));
    }
    if dice.chance(0.3) {
        let at = f.inner(dice.range(-0.5, 0.5) * reach, dice.range(-0.5, 0.5) * reach, 0.3);
        if w.claim(at.origin.x, at.origin.y, 6.0) {
            structures::house(w, dice, &at, (4.0, 3.0));
        }
    }
    for _ in 0..3 + dice.below(5) {
        let at = f.inner(dice.range(-0.45, 0.45) * reach, dice.range(-0.45, 0.45) * reach, dice.range(0.0, 6.2));
        let ridden = dice.chance(0.6);
        if w.claim(at.origin.x, at.origin.y, 1.2) {
            nature::bicycle(w, dice, &at, ridden);
        }
    }
    crowd(w, dice, (0.0, 0.0), reach * 0.5, 26);
    let trees = 22 + dice.below(40);
    grove(w, dice, (0.0, 0.0), reach, trees, (1.6, 4.6));
}
