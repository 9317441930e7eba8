//! Road vehicles, and the body of cars and vans; local x points forward, z = 0 is the road.

use super::haulage;
use super::mesh::{Matter, Skin, World, skin};
use super::paint;
use super::random::Dice;
use super::solids::rounded;
use super::vector::{Frame, V3, v3};
use crate::sample::Category;

pub(super) const GLASS: V3 = v3(0.018, 0.021, 0.024);
const RUBBER: V3 = v3(0.012, 0.012, 0.012);

/// Outline and greenhouse of a passenger car.
#[derive(Clone, Copy)]
struct Shape {
    length: f32,
    width: f32,
    shoulder: f32,
    roof: f32,
    /// Where the glass begins and ends at the shoulder, fractions of the half length (rear, front).
    base: (f32, f32),
    /// The same at the roof.
    top: (f32, f32),
}

const SEDAN: Shape =
    Shape { length: 4.7, width: 1.84, shoulder: 0.92, roof: 1.45, base: (-0.72, 0.42), top: (-0.42, 0.08) };
const HATCH: Shape =
    Shape { length: 4.1, width: 1.78, shoulder: 0.95, roof: 1.50, base: (-0.95, 0.45), top: (-0.72, 0.08) };
const ESTATE: Shape =
    Shape { length: 4.8, width: 1.88, shoulder: 1.02, roof: 1.66, base: (-0.96, 0.42), top: (-0.82, 0.10) };
const PICKUP: Shape =
    Shape { length: 5.4, width: 1.95, shoulder: 1.08, roof: 1.80, base: (-0.12, 0.46), top: (-0.06, 0.20) };
const VAN: Shape =
    Shape { length: 5.3, width: 2.0, shoulder: 1.2, roof: 2.05, base: (-0.985, 0.72), top: (-0.96, 0.46) };

/// Wheels on both sides at the local positions `at`.
pub(super) fn wheels(w: &mut World, frame: &Frame, at: &[f32], half_width: f32, radius: f32, thing: u16) {
    let s = skin(Matter::Rubber, RUBBER, thing);
    for &x in at {
        for side in [-1.0, 1.0] {
            let y = side * half_width;
            let corner = |c: f32, h: f32| frame.at(x + c * radius, y, h);
            w.quad([corner(-0.75, 0.0), corner(0.75, 0.0), corner(1.0, radius), corner(-1.0, radius)], s);
            w.quad(
                [corner(-1.0, radius), corner(1.0, radius), corner(0.6, radius * 1.75), corner(-0.6, radius * 1.75)],
                s,
            );
        }
    }
}

/// Any road vehicle of `category` with its nose along the frame's x axis. Returns its length.
pub(super) fn drive(w: &mut World, dice: &mut Dice, frame: &Frame, category: Category) -> f32 {
    let mut dice = dice.fork();
    match category {
        Category::Van => {
            let p = paint::goods(&mut dice);
            let k = dice.range(0.92, 1.15);
            let shape = Shape { length: VAN.length * k, roof: VAN.roof * dice.range(0.95, 1.2), ..VAN };
            passenger(w, &mut dice, frame, shape, Category::Van, p)
        }
        Category::Truck => haulage::lorry(w, &mut dice, frame),
        Category::Bus => haulage::bus(w, &mut dice, frame),
        Category::Trailer => haulage::trailer(w, &mut dice, frame),
        _ => {
            let p = paint::car(&mut dice);
            let mut shape = [SEDAN, HATCH, ESTATE, PICKUP][dice.weighted(&[0.38, 0.25, 0.27, 0.10])];
            shape.length *= dice.range(0.93, 1.06);
            shape.width *= dice.range(0.96, 1.04);
            passenger(w, &mut dice, frame, shape, Category::Car, p)
        }
    }
}

fn passenger(w: &mut World, dice: &mut Dice, frame: &Frame, s: Shape, category: Category, p: paint::Paint) -> f32 {
    let thing = w.thing(category, p.0);
    let coat = skin(Matter::Coat, p.1, thing);
    let dark = skin(Matter::Rubber, RUBBER, thing);
    let glass = skin(Matter::Glass, GLASS, thing);
    let (h, hw) = (s.length * 0.5, s.width * 0.5);
    let r = hw * 0.42;
    let ring = |k: f32, wide: f32, z: f32| rounded(frame, (-h * k, h * k), (hw * wide, hw * wide * 0.97), r, z);
    let hull = [
        ring(0.95, 0.92, 0.12),
        ring(0.99, 0.99, 0.34),
        ring(1.0, 1.0, s.shoulder * 0.62),
        ring(0.985, 0.97, s.shoulder * 0.86),
        ring(0.945, 0.90, s.shoulder * 0.97),
    ];
    w.loft(&hull, |band, _| if band == 0 { dark } else { coat });
    w.lid(&hull[4], 0.05, coat);
    // Rings run front (0..6) then rear (6..12): segment 2 is the nose, 8 the tail, 5 and 11 the flanks.
    let cabin = [
        rounded(frame, (h * s.base.0, h * s.base.1), (hw * 0.90, hw * 0.88), r * 0.8, s.shoulder * 0.97),
        rounded(frame, (h * s.top.0, h * s.top.1), (hw * 0.74, hw * 0.70), r * 0.8, s.roof - 0.06),
        rounded(frame, (h * s.top.0 + 0.1, h * s.top.1 - 0.1), (hw * 0.66, hw * 0.62), r * 0.7, s.roof),
    ];
    let closed = category == Category::Van && dice.chance(0.7);
    w.loft(&cabin, |band, i| {
        let pane = matches!(i, 2 | 5 | 8 | 11) && !(closed && matches!(i, 8));
        if band == 0 && pane { glass } else { coat }
    });
    let black_roof = category == Category::Car && dice.chance(0.06);
    w.lid(&cabin[2], 0.03, if black_roof { glass } else { coat });
    trim(w, dice, frame, &s, thing, coat);
    wheels(w, frame, &[-h * 0.6, h * 0.62], hw * 1.0 + 0.01, 0.33, thing);
    s.length
}

/// Lamps, bonnet seams, a load bed, now and then a sunroof or rails.
fn trim(w: &mut World, dice: &mut Dice, frame: &Frame, s: &Shape, thing: u16, coat: Skin) {
    let (h, hw) = (s.length * 0.5, s.width * 0.5);
    let flat = |w: &mut World, x: (f32, f32), y: (f32, f32), z: f32, k: Skin| {
        w.quad([frame.at(x.0, y.0, z), frame.at(x.1, y.0, z), frame.at(x.1, y.1, z), frame.at(x.0, y.1, z)], k);
    };
    for side in [-1.0, 1.0] {
        let y = (side * hw * 0.84, side * hw * 0.50);
        flat(w, (h * 0.90, h * 0.955), y, s.shoulder * 0.975, skin(Matter::Glass, v3(0.5, 0.5, 0.5), thing));
        flat(w, (-h * 0.955, -h * 0.915), y, s.shoulder * 0.98, skin(Matter::Glass, v3(0.20, 0.008, 0.008), thing));
        let seam = skin(coat.matter, coat.albedo * 0.45, thing);
        flat(w, (h * (s.base.1 + 0.04), h * 0.88), (side * hw * 0.66, side * hw * 0.63), s.shoulder * 1.005, seam);
        // Mirrors.
        let m = frame.inner(h * (s.base.1 - 0.1), side * hw * 1.06, 0.0);
        w.block(&m, (0.09, 0.12), (s.shoulder * 0.95, s.shoulder * 1.12), coat, coat);
    }
    if s.base.0 > -0.2 {
        flat(
            w,
            (-h * 0.92, h * s.base.0 - 0.05),
            (-hw * 0.76, hw * 0.76),
            s.shoulder * 1.03,
            skin(Matter::Rubber, v3(0.035, 0.035, 0.037), thing),
        );
    } else if dice.chance(0.16) {
        let middle = h * (s.top.0 + s.top.1) * 0.5;
        flat(
            w,
            (middle - 0.1, middle + 0.55),
            (-hw * 0.45, hw * 0.45),
            s.roof + 0.045,
            skin(Matter::Glass, GLASS, thing),
        );
    }
}

/// The share of vehicle kinds in ordinary traffic.
pub(super) fn traffic(dice: &mut Dice) -> Category {
    [Category::Car, Category::Van, Category::Truck, Category::Bus, Category::Trailer]
        [dice.weighted(&[0.72, 0.12, 0.10, 0.05, 0.01])]
}

/// Room a vehicle of this kind needs along the road, metres.
pub(super) fn room(category: Category) -> f32 {
    match category {
        Category::Truck => 17.0,
        Category::Trailer | Category::Bus => 14.5,
        Category::Van => 6.5,
        _ => 5.6,
    }
}

/// The category of a vehicle, under the name places use.
pub(super) type Kind = Category;
