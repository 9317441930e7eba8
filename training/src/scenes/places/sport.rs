//! Courts, diamonds and running tracks.

use super::super::{
    grounds,
    mesh::{Matter, World, skin},
    random::Dice,
    structures,
    vector::{Frame, v3},
};
use super::{grove, meadow, stains, traffic};
use std::f32::consts::{FRAC_PI_2, PI};

/// Tennis and basketball courts side by side, a car park and a club house.
pub(super) fn courts(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 15.0;
    let f = Frame::new(dice.range(-8.0, 8.0), dice.range(-8.0, 8.0), dice.range(0.0, 6.2));
    let mixed = dice.range(0.2, 0.8);
    let columns = 1 + dice.below(3) as i32;
    let rows = 1 + dice.below(2) as i32;
    w.rug(&f, columns as f32 * 10.5 + 2.0, rows as f32 * 19.5 + 2.0, skin(Matter::Concrete, v3(0.30, 0.29, 0.27), 0));
    for i in 0..columns {
        for j in 0..rows {
            let mut dice = dice.fork();
            let at = f.inner((2 * i + 1 - columns) as f32 * 10.2, (2 * j + 1 - rows) as f32 * 19.2, FRAC_PI_2);
            w.occupy_box(&at, 18.0, 9.5);
            if dice.chance(mixed) {
                grounds::tennis(w, &mut dice, &at);
            } else {
                grounds::basketball(w, &mut dice, &at);
            }
            for _ in 0..dice.below(6) {
                let q = at.at(dice.range(-12.0, 12.0), dice.range(-5.0, 5.0), 0.0);
                super::super::nature::person(w, &mut dice, q.x, q.y);
            }
            stains(w, &mut dice, &at, (14.0, 7.0), 3);
        }
    }
    let edge = rows as f32 * 19.5;
    if dice.chance(0.6) {
        let lot = f.inner(0.0, -edge - 14.0, 0.0);
        w.rug(&lot, 26.0, 9.5, skin(Matter::Asphalt, v3(0.105, 0.105, 0.108), 0));
        w.occupy_box(&lot, 27.0, 10.0);
        super::city::lot(w, dice, &lot, (26.0, 9.5));
    }
    if dice.chance(0.5) {
        let size = dice.range(24.0, 28.0);
        let home = f.inner(columns as f32 * 11.0 + 10.0, 0.0, dice.range(-0.4, 0.4));
        let middle = home.inner(size * 1.1, 0.0, 0.0);
        w.occupy(middle.origin.x, middle.origin.y, size * 1.2);
        grounds::baseball(w, &home, size);
        let c = home.at(size * 0.6, 0.0, 0.0);
        crowd_on(w, dice, (c.x, c.y), size * 0.8, 9);
    }
    if dice.chance(0.6) {
        let club = f.inner(-columns as f32 * 10.5 - 14.0, dice.range(-10.0, 10.0), FRAC_PI_2);
        structures::house(w, dice, &club, (8.0, 4.8));
        w.occupy_box(&club, 9.0, 6.0);
    }
    let road = f.inner(0.0, edge + 12.0, 0.0);
    grounds::road(w, &road, reach * 1.5, 1, true);
    w.occupy_box(&road, reach * 1.5, 6.0);
    traffic(w, dice, &road, reach, 1, 0.25);
    let trees = 15 + dice.below(40);
    grove(w, dice, (f.origin.x, f.origin.y), reach, trees, (1.6, 4.2));
}

/// Players stand where the ground is taken.
fn crowd_on(w: &mut World, dice: &mut Dice, centre: (f32, f32), reach: f32, count: usize) {
    for _ in 0..count {
        let (x, y) = (centre.0 + dice.range(-reach, reach), centre.1 + dice.range(-reach, reach));
        super::super::nature::person(w, dice, x, y);
    }
}

/// A running track with stands, and a diamond beside it.
pub(super) fn stadium(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 20.0;
    let f = Frame::new(dice.range(-0.2, 0.2) * reach, dice.range(-0.2, 0.2) * reach, dice.range(0.0, 6.2));
    let scale = dice.range(0.55, 1.0);
    let ellipse = (86.0 * scale, 44.0 * scale);
    grounds::track(w, dice, &f, scale);
    w.occupy_box(&f, ellipse.0, ellipse.1);
    crowd_on(w, dice, (f.origin.x, f.origin.y), 25.0 * scale, 22);
    if dice.chance(0.6) {
        let stand = f.inner(0.0, -ellipse.1 - 9.0, 0.0);
        structures::block(w, dice, &stand, (32.0 * scale, 6.0), 7.0);
        w.occupy_box(&stand, 33.0 * scale, 7.0);
    }
    if dice.chance(0.65) {
        let size = dice.range(24.0, 28.0);
        let home = f.inner(dice.range(-30.0, 30.0), ellipse.1 + 8.0, FRAC_PI_2);
        w.occupy(home.at(size, 0.0, 0.0).x, home.at(size, 0.0, 0.0).y, size * 1.2);
        grounds::baseball(w, &home, size);
    }
    let lot = f.inner(-ellipse.0 - 24.0, 0.0, FRAC_PI_2);
    w.rug(&lot, 34.0, 17.0, skin(Matter::Asphalt, v3(0.105, 0.105, 0.11), 0));
    w.occupy_box(&lot, 35.0, 18.0);
    super::city::lot(w, dice, &lot, (34.0, 17.0));
    let road = f.inner(0.0, -ellipse.1 - 26.0, if dice.chance(0.5) { 0.0 } else { PI });
    grounds::road(w, &road, reach * 1.5, 1, true);
    w.occupy_box(&road, reach * 1.5, 6.0);
    traffic(w, dice, &road, reach, 1, 0.3);
    let side = f.inner(ellipse.0 + 16.0, 0.0, FRAC_PI_2);
    for i in -2..=2 {
        if dice.chance(0.5) {
            let at = side.inner(i as f32 * 22.0, -6.0, 0.0);
            grounds::tennis(w, dice, &at);
            w.occupy_box(&at, 18.0, 9.0);
        }
    }
    let trees = 20 + dice.below(50);
    grove(w, dice, (f.origin.x, f.origin.y), reach, trees, (2.0, 4.6));
}
