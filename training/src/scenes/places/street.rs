//! Suburb streets and highways.

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
use std::f32::consts::FRAC_PI_2;

/// Detached houses with gardens, drives, pools and trees along parallel streets.
pub(super) fn suburb(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 25.0;
    let town = Frame::new(dice.range(-12.0, 12.0), dice.range(-12.0, 12.0), dice.range(0.0, 6.2));
    let (pitch, plot) = (dice.range(58.0, 72.0), dice.range(19.0, 25.0));
    let rows = (reach / pitch).ceil() as i32;
    let pools = dice.range(0.15, 0.6);
    for row in -rows..=rows {
        let f = town.inner(0.0, row as f32 * pitch, 0.0);
        let half = grounds::road(w, &f, reach * 1.5, 1, true);
        stains(w, dice, &f, (reach, half), (reach * 0.3) as usize);
    }
    let cross = town.inner(dice.range(-0.4, 0.4) * reach, 0.0, FRAC_PI_2);
    let crossing = dice.chance(0.5);
    if crossing {
        grounds::road(w, &cross, reach * 1.5, 1, false);
        w.occupy_box(&cross, reach * 1.5, 6.0);
    }
    let plots = (reach / plot).ceil() as i32;
    for row in -rows..=rows {
        for col in -plots..=plots {
            for side in [-1.0f32, 1.0] {
                let mut dice = dice.fork();
                let f = town.inner(
                    col as f32 * plot,
                    row as f32 * pitch,
                    if side > 0.0 { 0.0 } else { std::f32::consts::PI },
                );
                let o = f.at(0.0, 16.0, 0.0);
                let near_cross = crossing && {
                    let d = o - cross.origin;
                    let n = cross.forward();
                    (d.x * n.y - d.y * n.x).abs() < 18.0
                };
                if !near_cross && w.camera.near_view(o, 18.0) {
                    garden(w, &mut dice, &f, plot, pitch, pools);
                }
            }
        }
    }
    for row in -rows..=rows {
        let f = town.inner(0.0, row as f32 * pitch, 0.0);
        traffic(w, dice, &f, reach, 1, 0.22);
        kerb(w, dice, &f, reach);
    }
    if dice.chance(0.4) {
        let f = town.inner(dice.range(-10.0, 10.0), 1.9, 0.0);
        nature::bicycle(w, dice, &f, true);
    }
    crowd(w, dice, (0.0, 0.0), reach * 0.5, 8);
}

/// Cars standing along the kerb.
fn kerb(w: &mut World, dice: &mut Dice, f: &Frame, reach: f32) {
    let mut x = -reach;
    while x < reach {
        let mut dice = dice.fork();
        if dice.chance(0.16) {
            let side = dice.sign();
            let at =
                f.inner(x, side * 4.45, if side > 0.0 { std::f32::consts::PI } else { 0.0 } + dice.normal() * 0.02);
            let kind = if dice.chance(0.9) { Category::Car } else { Category::Van };
            parked(w, &mut dice, &at, kind);
        }
        x += 6.6;
    }
}

fn garden(w: &mut World, dice: &mut Dice, f: &Frame, plot: f32, pitch: f32, pools: f32) {
    let depth = dice.range(15.0, 17.5);
    let (a, b) = (dice.range(5.2, (plot * 0.36).max(5.4)), dice.range(3.8, 5.2));
    let drive_x = dice.sign() * (plot * 0.5 - 2.6);
    let paved = if dice.chance(0.5) {
        (Matter::Concrete, v3(0.36, 0.34, 0.31))
    } else {
        (Matter::Asphalt, v3(0.12, 0.118, 0.115))
    };
    let drive = f.inner(drive_x, 11.0, FRAC_PI_2);
    w.rug(&drive, 5.6, 1.8, skin(paved.0, paved.1, 0));
    let lawn = v3(0.066, 0.102, 0.036) * dice.range(0.75, 1.25);
    if dice.chance(0.6) {
        w.rug(
            &f.inner(0.0, (pitch * 0.5 + 6.0) * 0.5, 0.0),
            plot * 0.5 - 0.3,
            pitch * 0.25 - 3.2,
            skin(if dice.chance(0.3) { Matter::Turf } else { Matter::Grass }, lawn, 0),
        );
        w.rug(&drive, 5.6, 1.8, skin(paved.0, paved.1, 0));
    }
    let house = f.inner(dice.range(-1.0, 1.0), depth, dice.normal() * 0.03);
    structures::house(w, dice, &house, (a, b));
    w.occupy_box(&house, a + 1.0, b + 1.5);
    if dice.chance(0.65) {
        let at = drive.inner(
            dice.range(-2.0, 1.6),
            dice.range(-0.2, 0.2),
            if dice.chance(0.5) { std::f32::consts::PI } else { 0.0 },
        );
        let kind = [Category::Car, Category::Van, Category::Trailer][dice.weighted(&[0.86, 0.09, 0.05])];
        parked(w, dice, &at, kind);
    }
    let back = pitch * 0.5;
    if dice.chance(pools) {
        let at = f.inner(dice.range(-3.0, 3.0), depth + b + (back - depth - b) * 0.52, dice.normal() * 0.1);
        grounds::pool(w, dice, &at);
        w.occupy(at.origin.x, at.origin.y, 5.5);
    } else if dice.chance(0.3) {
        let shed = f.inner(dice.sign() * (plot * 0.5 - 2.5), back - 2.6, 0.0);
        structures::hall(w, dice, &shed, (1.8, 1.4), 2.2);
        w.occupy(shed.origin.x, shed.origin.y, 2.4);
    }
    let fence = skin(Matter::Wood, v3(0.23, 0.17, 0.12), 0);
    if dice.chance(0.6) {
        w.block(&f.inner(plot * 0.5, back * 0.5 + 6.0, 0.0), (0.04, back * 0.5 - 6.0), (0.0, 1.5), fence, fence);
        w.block(&f.inner(0.0, back - 0.05, 0.0), (plot * 0.5, 0.04), (0.0, 1.6), fence, fence);
    }
    let c = f.at(0.0, back * 0.6, 0.0);
    grove(w, dice, (c.x, c.y), plot * 0.5, 4, (1.2, 3.6));
    if dice.chance(0.35) {
        let p = f.at(dice.range(-0.4, 0.4) * plot, 7.6, 0.0);
        if w.claim(p.x, p.y, 1.5) {
            let r = dice.range(1.6, 3.2);
            nature::tree(w, dice, p.x, p.y, r);
        }
    }
}

/// A wide road through open land, sometimes with a bridge over it.
pub(super) fn highway(w: &mut World, dice: &mut Dice) {
    meadow(w, dice);
    let reach = w.camera.reach() + 30.0;
    let f = Frame::new(dice.range(-6.0, 6.0), dice.range(-6.0, 6.0), dice.range(0.0, 6.2));
    let lanes = 1 + dice.weighted(&[0.25, 0.45, 0.3]);
    let half = grounds::road(w, &f, reach * 1.3, lanes, false);
    stains(w, dice, &f, (reach, half), (reach * 0.4) as usize);
    w.occupy_box(&f, reach * 1.3, half + 3.0);
    if lanes > 1 && dice.chance(0.6) {
        let steel = skin(Matter::Plain, v3(0.36, 0.37, 0.38), 0);
        w.block(&f, (reach * 1.2, 0.12), (0.0, 0.8), steel, steel);
    }
    if dice.chance(0.5) {
        let side = f.inner(0.0, -half - dice.range(14.0, 26.0), 0.0);
        grounds::road(w, &side, reach * 1.3, 1, false);
        w.occupy_box(&side, reach * 1.3, 6.0);
        traffic(w, dice, &side, reach, 1, 0.2);
    }
    let density = dice.range(0.15, 0.8);
    traffic(w, dice, &f, reach * 1.1, lanes, density);
    let trees = (reach * dice.range(0.2, 1.3)) as usize;
    grove(w, dice, (0.0, 0.0), reach, trees.min(150), (1.5, 4.5));
    for _ in 0..3 {
        let at = f.inner(
            dice.range(-reach, reach) * 0.7,
            dice.sign() * (half + dice.range(15.0, 40.0)),
            dice.normal() * 0.2,
        );
        if dice.chance(0.4) && w.claim(at.origin.x, at.origin.y, 9.0) {
            structures::hall(w, dice, &at, (8.0, 5.0), 4.5);
        }
    }
}
