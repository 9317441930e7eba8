//! Lorries, buses and trailers; local x points forward, z = 0 is the road.

use super::mesh::{Matter, World, skin};
use super::paint;
use super::random::Dice;
use super::solids::{ring_points, rounded};
use super::vector::{Frame, V3, v3};
use super::vehicles::{GLASS, wheels};
use crate::sample::Category;

/// A lorry: box, tipper or tanker, rigid or articulated.
pub(super) fn lorry(w: &mut World, dice: &mut Dice, frame: &Frame) -> f32 {
    let p = paint::goods(dice);
    let thing = w.thing(Category::Truck, p.0);
    let load = skin(Matter::Coat, p.1, thing);
    let same = dice.chance(0.5);
    let cab_paint = if same { p.1 } else { paint::goods(dice).1 };
    let coat = skin(Matter::Coat, cab_paint, thing);
    let glass = skin(Matter::Glass, GLASS, thing);
    let dark = skin(Matter::Rubber, v3(0.03, 0.03, 0.03), thing);
    let articulated = dice.chance(0.4);
    let box_length = if articulated { dice.range(9.5, 13.0) } else { dice.range(4.5, 7.5) };
    let (cab, gap) = (if articulated { 2.3 } else { 2.0 }, if articulated { 0.9 } else { 0.25 });
    let total = box_length + cab + gap;
    let (rear, hw, top) = (-total * 0.5, 1.24, dice.range(2.9, 3.9));
    let front = total * 0.5;
    w.block(&frame.inner(rear + (total - 0.6) * 0.5, 0.0, 0.0), ((total - 0.6) * 0.5, 0.45), (0.5, 1.0), dark, dark);
    let cab_at = |low: f32, z: f32, inset: f32| {
        rounded(frame, (front - cab, front - low), (hw * 0.97 - inset, hw * 0.95 - inset), 0.25, z)
    };
    let rings = [
        cab_at(0.05, 0.45, 0.05),
        cab_at(0.0, 1.0, 0.0),
        cab_at(0.06, 1.6, 0.0),
        cab_at(0.3, 2.45, 0.06),
        cab_at(0.55, 2.75, 0.14),
    ];
    w.loft(&rings, |band, i| if band == 2 && matches!(i, 2 | 5 | 11) { glass } else { coat });
    w.lid(&rings[4], 0.06, coat);
    let body = frame.inner(rear + box_length * 0.5, 0.0, 0.0);
    match dice.weighted(&[0.68, 0.20, 0.12]) {
        0 => {
            w.block(&body, (box_length * 0.5, hw), (1.0, top), load, load);
            let seam = skin(Matter::Coat, p.1 * 0.8, thing);
            let mut x = -box_length * 0.5 + 1.2;
            while x < box_length * 0.5 {
                let f = body.inner(x, 0.0, 0.0);
                w.quad(
                    [
                        f.at(-0.04, -hw, top + 0.01),
                        f.at(0.04, -hw, top + 0.01),
                        f.at(0.04, hw, top + 0.01),
                        f.at(-0.04, hw, top + 0.01),
                    ],
                    seam,
                );
                x += 1.2;
            }
        }
        1 => {
            // A tipper: walls around a load.
            let cargo = dice.pick(&[v3(0.25, 0.17, 0.1), v3(0.3, 0.29, 0.27), v3(0.42, 0.34, 0.22)], v3(0.3, 0.3, 0.3));
            w.block(&body, (box_length * 0.5, hw), (0.9, 2.0), load, skin(Matter::Soil, cargo, thing));
            for side in [-1.0, 1.0] {
                w.block(&body.inner(0.0, side * (hw - 0.08), 0.0), (box_length * 0.5, 0.09), (1.9, 2.25), load, load);
            }
            w.block(&body.inner(box_length * 0.5 - 0.15, 0.0, 0.0), (0.15, hw), (1.9, 2.4), load, load);
        }
        _ => {
            // A tanker: a lying barrel.
            let barrel: Vec<Vec<V3>> = [(-0.5, 0.75), (-0.48, 1.0), (0.48, 1.0), (0.5, 0.75)]
                .iter()
                .map(|&(x, k)| {
                    ring_points(14).map(|(c, s)| body.at(x * box_length, c * 1.15 * k, 2.0 + s * 0.98 * k)).collect()
                })
                .collect();
            w.loft(&barrel, |_, _| load);
        }
    }
    let axles = [rear + 1.0, rear + 2.2, front - 1.2];
    wheels(w, frame, &axles, hw, 0.48, thing);
    total
}

/// A city bus.
pub(super) fn bus(w: &mut World, dice: &mut Dice, frame: &Frame) -> f32 {
    let p = paint::bus(dice);
    let thing = w.thing(Category::Bus, p.0);
    let coat = skin(Matter::Coat, p.1, thing);
    let glass = skin(Matter::Glass, GLASS, thing);
    let length = dice.range(10.5, 13.2);
    let h = length * 0.5;
    let ring = |k: f32, wide: f32, z: f32| rounded(frame, (-h * k, h * k), (1.27 * wide, 1.27 * wide), 0.3, z);
    let rings = [
        ring(0.99, 0.98, 0.3),
        ring(1.0, 1.0, 0.6),
        ring(1.0, 1.0, 1.35),
        ring(0.995, 0.98, 2.45),
        ring(0.985, 0.96, 2.85),
        ring(0.97, 0.88, 3.05),
    ];
    w.loft(&rings, |band, i| if band == 2 && matches!(i, 2 | 5 | 8 | 11) { glass } else { coat });
    let roof = if dice.chance(0.3) { skin(Matter::Coat, v3(0.7, 0.7, 0.7), thing) } else { coat };
    w.lid(&rings[5], 0.05, roof);
    for x in [-0.55f32, 0.35] {
        let unit = frame.inner(x * h + dice.range(-0.4, 0.4), 0.0, 0.0);
        let box_skin = skin(Matter::Coat, roof.albedo * 0.8 + v3(0.02, 0.02, 0.02), thing);
        w.block(&unit, (1.1, 0.75), (3.0, 3.25), box_skin, box_skin);
    }
    for x in [-0.15f32, 0.05, 0.65] {
        let hatch = frame.inner(x * h, 0.0, 0.0);
        let dark = skin(Matter::Coat, roof.albedo * 0.45, thing);
        w.block(&hatch, (0.35, 0.35), (3.05, 3.13), dark, dark);
    }
    wheels(w, frame, &[-h * 0.55, h * 0.62], 1.28, 0.5, thing);
    length
}

/// A caravan or a box trailer left standing.
pub(super) fn trailer(w: &mut World, dice: &mut Dice, frame: &Frame) -> f32 {
    let p =
        if dice.chance(0.5) { paint::goods(dice) } else { (Some(crate::sample::Colour::White), v3(0.72, 0.71, 0.69)) };
    let thing = w.thing(Category::Trailer, p.0);
    let coat = skin(Matter::Coat, p.1, thing);
    let dark = skin(Matter::Rubber, v3(0.03, 0.03, 0.03), thing);
    let caravan = dice.chance(0.45);
    let length = if caravan { dice.range(5.0, 7.0) } else { dice.range(7.0, 13.0) };
    let (h, hw) = (length * 0.5, if caravan { 1.12 } else { 1.24 });
    if caravan {
        let ring = |k: f32, wide: f32, z: f32| rounded(frame, (-h * k, h * k), (hw * wide, hw * wide * 0.96), 0.4, z);
        let rings = [
            ring(0.97, 0.97, 0.4),
            ring(1.0, 1.0, 1.0),
            ring(1.0, 1.0, 1.4),
            ring(0.98, 0.97, 2.1),
            ring(0.9, 0.86, 2.5),
        ];
        let glass = skin(Matter::Glass, GLASS, thing);
        w.loft(&rings, |band, i| if band == 2 && matches!(i, 2 | 5 | 8 | 11) { glass } else { coat });
        w.lid(&rings[4], 0.06, coat);
        w.block(&frame.inner(-h * 0.2, 0.2, 0.0), (0.4, 0.35), (2.5, 2.68), dark, coat);
    } else {
        let top = dice.range(3.3, 3.9);
        w.block(frame, (h, hw), (1.0, top), coat, coat);
        w.block(&frame.inner(-h * 0.6, 0.0, 0.0), (1.4, 1.0), (0.3, 1.0), dark, dark);
    }
    // The drawbar.
    w.block(&frame.inner(h + 0.6, 0.0, 0.0), (0.65, 0.07), (0.4, 0.55), dark, dark);
    wheels(w, frame, &[-h * 0.15 - 0.5, -h * 0.15 + 0.5], hw, 0.4, thing);
    length
}
