//! Parking lots and city blocks.

use super::super::{
    grounds,
    mesh::{Matter, World, skin},
    nature,
    random::Dice,
    structures,
    vector::{Frame, v3},
};
use super::{crowd, grove, meadow, parked, stains, traffic};
use crate::sample::Category;
use std::f32::consts::{FRAC_PI_2, PI};

/// A large parking lot with aisles, islands and a shop.
pub(super) fn parking(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 20.0;
    let f = Frame::new(dice.range(-6.0, 6.0), dice.range(-6.0, 6.0), dice.range(0.0, 6.2));
    let k = dice.range(0.075, 0.14);
    let half = (reach.min(75.0), reach.min(60.0));
    w.rug(&f, half.0 + 0.4, half.1 + 0.4, skin(Matter::Concrete, v3(0.4, 0.39, 0.37), 0));
    w.rug(&f, half.0, half.1, skin(Matter::Asphalt, v3(k, k, k * 1.03), 0));
    let street = f.inner(0.0, half.1 + 8.0, 0.0);
    grounds::road(w, &street, reach * 1.6, 1, true);
    traffic(w, dice, &street, reach, 1, 0.3);
    if dice.chance(0.75) {
        let shop = f.inner(0.0, -half.1 - 16.0, 0.0);
        structures::block(w, dice, &shop, (half.0 * 0.8, 15.0), 8.0);
        w.occupy_box(&shop, half.0 * 0.8, 16.0);
    }
    stains(w, dice, &f, half, (half.0 * half.1 * 0.02) as usize);
    lot(w, dice, &f, half);
    crowd(w, dice, (f.origin.x, f.origin.y), reach * 0.45, 14);
    grove(w, dice, (f.origin.x, f.origin.y), reach, 0, (1.0, 2.0));
}

/// Rows of bays inside the rectangle `half` around the frame.
pub(super) fn lot(w: &mut World, dice: &mut Dice, f: &Frame, half: (f32, f32)) {
    let (bay, deep, aisle) = (2.7, 5.2, 6.6);
    let white = skin(Matter::Paint, if dice.chance(0.8) { v3(0.58, 0.58, 0.56) } else { v3(0.55, 0.4, 0.06) }, 0);
    let full = dice.range(0.25, 0.85);
    let module = 2.0 * deep + aisle;
    let rows = ((2.0 * half.1 + 1.5) / module).floor() as i32;
    let bays = ((2.0 * half.0 - 10.0) / bay).floor() as i32;
    for row in 0..rows {
        let y = (row as f32 - (rows - 1) as f32 * 0.5) * module;
        let line = f.inner(0.0, y, 0.0);
        let x0 = -(bays as f32) * bay * 0.5;
        w.stripe(&line, (x0, 0.0), (-x0, 0.0), 0.12, white);
        for i in 0..=bays {
            let x = x0 + i as f32 * bay;
            w.stripe(&line, (x, -deep), (x, deep), 0.11, white);
        }
        for i in 0..bays {
            for side in [-1.0f32, 1.0] {
                let mut dice = dice.fork();
                let at = line.inner(x0 + (i as f32 + 0.5) * bay, side * deep * 0.5, 0.0);
                let o = at.origin;
                let island = (i % 11 == 5) && row % 2 == 0;
                if island {
                    if side > 0.0 && w.camera.near_view(o, 9.0) {
                        planter(w, &mut dice, &line.inner(x0 + (i as f32 + 0.5) * bay, 0.0, 0.0), deep);
                    }
                    continue;
                }
                if dice.chance(full) {
                    let turn = if dice.chance(0.7) { side * FRAC_PI_2 } else { -side * FRAC_PI_2 };
                    let stand = at.inner(dice.normal() * 0.12, dice.normal() * 0.25, turn + dice.normal() * 0.025);
                    let kind = if dice.chance(0.91) { Category::Car } else { Category::Van };
                    parked(w, &mut dice, &stand, kind);
                }
            }
        }
        let drive =
            f.inner(dice.range(-0.6, 0.6) * half.0, y + deep + aisle * 0.5, if dice.chance(0.5) { 0.0 } else { PI });
        if dice.chance(0.5) {
            let kind =
                [Category::Car, Category::Van, Category::Truck, Category::Bus][dice.weighted(&[0.6, 0.15, 0.18, 0.07])];
            parked(w, dice, &drive, kind);
        }
    }
}

fn planter(w: &mut World, dice: &mut Dice, f: &Frame, deep: f32) {
    w.rug(f, 1.3, deep, skin(Matter::Concrete, v3(0.42, 0.41, 0.4), 0));
    w.rug(f, 1.1, deep - 0.25, skin(Matter::Grass, v3(0.07, 0.1, 0.03), 0));
    for y in [-0.5, 0.5] {
        let p = f.at(0.0, y * deep, 0.0);
        let r = dice.range(1.2, 2.4);
        if dice.chance(0.8) && w.claim(p.x, p.y, 0.8) {
            nature::tree(w, dice, p.x, p.y, r);
        }
    }
}

/// City blocks between streets.
pub(super) fn blocks(w: &mut World, dice: &mut Dice) {
    w.base = skin(Matter::Concrete, v3(0.30, 0.29, 0.275) * dice.range(0.85, 1.15), 0);
    let reach = w.camera.reach() + 25.0;
    let city = Frame::new(dice.range(-15.0, 15.0), dice.range(-15.0, 15.0), dice.range(0.0, 6.2));
    let lanes = 1 + dice.below(2);
    let street = lanes as f32 * 6.8 + 6.0;
    let (px, py) = (dice.range(46.0, 70.0) + street, dice.range(38.0, 60.0) + street);
    let (nx, ny) = ((reach / px).ceil() as i32 + 1, (reach / py).ceil() as i32 + 1);
    for j in -ny..=ny {
        grounds::road(w, &city.inner(0.0, j as f32 * py, 0.0), reach * 1.6, lanes, true);
    }
    for i in -nx..=nx {
        let f = city.inner(i as f32 * px, 0.0, FRAC_PI_2);
        grounds::road(w, &f, reach * 1.6, 1, true);
    }
    for i in -nx..=nx {
        for j in -ny..=ny {
            let cross = city.inner(i as f32 * px, j as f32 * py, 0.0);
            if !w.camera.near_view(cross.origin, 90.0) {
                continue;
            }
            let hx = lanes as f32 * 3.4;
            w.rug(&cross, 3.4, hx, skin(Matter::Asphalt, v3(0.095, 0.095, 0.098), 0));
            for s in [-1.0f32, 1.0] {
                grounds::zebra(w, &cross.inner(s * 6.4, 0.0, 0.0), hx);
                grounds::zebra(w, &cross.inner(0.0, s * (hx + 3.0), FRAC_PI_2), 3.4);
            }
            let centre = city.inner((i as f32 + 0.5) * px, (j as f32 + 0.5) * py, 0.0);
            let inside = ((px - 6.8 - 6.0) * 0.5 - 1.0, (py - street) * 0.5 - 1.0);
            let mut dice = dice.fork();
            quarter(w, &mut dice, &centre, inside);
        }
    }
    for j in -ny..=ny {
        let f = city.inner(0.0, j as f32 * py, 0.0);
        let density = dice.range(0.15, 0.6);
        traffic(w, dice, &f, reach, lanes, density);
    }
    let near = reach.min(50.0);
    crowd(w, dice, (city.origin.x, city.origin.y), near, 22);
}

/// What stands inside one block.
fn quarter(w: &mut World, dice: &mut Dice, f: &Frame, half: (f32, f32)) {
    match dice.weighted(&[0.62, 0.2, 0.18]) {
        0 => {
            let n = if half.0 > 24.0 { 2 } else { 1 };
            for i in 0..n {
                for j in 0..2 {
                    let (cw, ch) = (half.0 / n as f32, half.1 / 2.0);
                    let at = f.inner((i as f32 * 2.0 + 1.0 - n as f32) * cw, (j as f32 * 2.0 - 1.0) * ch, 0.0);
                    let size = ((cw - 1.2) * dice.range(0.6, 0.97), (ch - 1.0) * dice.range(0.65, 0.95));
                    w.rug(
                        &at,
                        cw - 0.5,
                        ch - 0.5,
                        skin(
                            if dice.chance(0.3) { Matter::Grass } else { Matter::Asphalt },
                            if dice.chance(0.5) { v3(0.08, 0.11, 0.035) } else { v3(0.13, 0.13, 0.13) },
                            0,
                        ),
                    );
                    let height = dice.log_range(4.0, 26.0);
                    if dice.chance(0.2) {
                        structures::house(w, dice, &at, (size.0.min(14.0), size.1.min(8.0)));
                    } else {
                        structures::block(w, dice, &at, size, height);
                    }
                    w.occupy_box(&at, size.0, size.1);
                }
            }
            grove(w, dice, (f.origin.x, f.origin.y), half.0, 7, (1.5, 3.5));
        }
        1 => {
            w.rug(f, half.0, half.1, skin(Matter::Asphalt, v3(0.11, 0.11, 0.113), 0));
            lot(w, dice, f, half);
        }
        _ => {
            w.rug(f, half.0, half.1, skin(Matter::Grass, v3(0.065, 0.11, 0.03), 0));
            let path = skin(Matter::Gravel, v3(0.36, 0.31, 0.24), 0);
            w.stripe(f, (-half.0, -half.1), (half.0, half.1), 2.0, path);
            w.stripe(f, (-half.0, half.1), (half.0, -half.1), 2.0, path);
            grove(w, dice, (f.origin.x, f.origin.y), half.0, 26, (2.0, 4.5));
            crowd(w, dice, (f.origin.x, f.origin.y), half.0 * 0.7, 10);
        }
    }
}
