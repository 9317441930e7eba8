//! Houses, blocks, halls, tanks, piers and bridges.

use super::mesh::{Matter, Skin, World, skin};
use super::paint;
use super::random::Dice;
use super::solids::ring_points;
use super::vector::{Frame, V3, v3};
use crate::sample::{Category, Colour};

/// A house with a pitched roof, `2·half` metres in plan.
pub(super) fn house(w: &mut World, dice: &mut Dice, frame: &Frame, half: (f32, f32)) {
    let mut dice = dice.fork();
    if !w.camera.near_view(frame.origin, half.0 + half.1 + 8.0) {
        return;
    }
    let p = paint::tiles(&mut dice);
    let thing = w.thing(Category::Building, p.0);
    let roof = skin(Matter::Tiles, p.1, thing);
    let wall = skin(Matter::Windows, paint::wall(&mut dice), thing);
    let eaves = dice.range(2.8, 5.6).min(w.camera.altitude * 0.25);
    gable(w, &mut dice, frame, half, eaves, roof, wall);
    if dice.chance(0.5) {
        // A wing at a right angle makes an L or a T.
        let wing = frame.inner(half.0 * dice.range(-0.5, 0.5), half.1 * dice.sign(), std::f32::consts::FRAC_PI_2);
        let narrow = half.0 * dice.range(0.35, 0.5);
        gable(w, &mut dice, &wing, (half.1 * 0.85, narrow), eaves * 0.96, roof, wall);
    }
    if dice.chance(0.6) {
        let brick = skin(Matter::Wall, v3(0.26, 0.13, 0.09), thing);
        let chimney = frame.inner(half.0 * dice.range(-0.7, 0.7), half.1 * dice.range(-0.3, 0.3), 0.0);
        let top = eaves + half.1 * 0.75;
        w.block(&chimney, (0.4, 0.35), (eaves, top), brick, skin(Matter::Plain, v3(0.03, 0.03, 0.03), thing));
    }
    if dice.chance(0.25) {
        solar(w, frame, half, eaves, thing);
    }
}

/// Walls and a ridge along x; hipped now and then.
fn gable(w: &mut World, dice: &mut Dice, f: &Frame, half: (f32, f32), eaves: f32, roof: Skin, wall: Skin) {
    let (a, b) = half;
    let over = 0.45;
    let ridge = eaves + b * dice.range(0.45, 0.7);
    let hip = if dice.chance(0.4) { b * 0.9 } else { -over };
    w.block(f, (a, b), (0.0, eaves), wall, roof);
    let (r0, r1) = (f.at(-a + hip, 0.0, ridge), f.at(a - hip, 0.0, ridge));
    let low = eaves - 0.12;
    for side in [-1.0, 1.0] {
        let (e0, e1) = (f.at(-a - over, side * (b + over), low), f.at(a + over, side * (b + over), low));
        w.quad([e0, e1, r1, r0], roof);
    }
    for (end, r) in [(-1.0, r0), (1.0, r1)] {
        let (c0, c1) = (f.at(end * (a + over), -b - over, low), f.at(end * (a + over), b + over, low));
        let span = 2.0 * (b + over);
        let rise = (r - (c0 + c1) * 0.5).dot(r - (c0 + c1) * 0.5).sqrt();
        let s = if hip > 0.0 { roof } else { skin(Matter::Wall, wall.albedo, wall.thing) };
        w.facet([c0, c1, r], [[0.0, 0.0], [span, 0.0], [span * 0.5, rise]], s);
    }
    let cap = skin(Matter::Plain, roof.albedo * 0.8, roof.thing);
    let up = v3(0.0, 0.0, 0.06);
    let across = f.at(0.0, 0.12, 0.0) - f.at(0.0, 0.0, 0.0);
    w.quad([r0 + up - across, r1 + up - across, r1 + up + across, r0 + up + across], cap);
}

fn solar(w: &mut World, f: &Frame, half: (f32, f32), eaves: f32, thing: u16) {
    // On the southern slope, lying at its (average) pitch.
    let panel = skin(Matter::Glass, v3(0.012, 0.018, 0.04), thing);
    let (z0, z1) = (eaves + half.1 * 0.22, eaves + half.1 * 0.56);
    for i in 0..3 {
        let x = (i as f32 - 1.0) * half.0 * 0.42;
        let k = half.0 * 0.19;
        w.quad(
            [
                f.at(x - k, -half.1 * 0.72, z0),
                f.at(x + k, -half.1 * 0.72, z0),
                f.at(x + k, -half.1 * 0.25, z1),
                f.at(x - k, -half.1 * 0.25, z1),
            ],
            panel,
        );
    }
}

/// A flat-roofed building with parapet and plant on top.
pub(super) fn block(w: &mut World, dice: &mut Dice, frame: &Frame, half: (f32, f32), height: f32) {
    let mut dice = dice.fork();
    if !w.camera.near_view(frame.origin, half.0 + half.1 + height) {
        return;
    }
    let height = height.min(w.camera.altitude * 0.36).max(2.6);
    let p = paint::flat_roof(&mut dice);
    let thing = w.thing(Category::Building, p.0);
    let roof = skin(Matter::FlatRoof, p.1, thing);
    let wall = skin(Matter::Windows, paint::wall(&mut dice), thing);
    w.block(frame, half, (0.0, height), wall, roof);
    let rim = skin(Matter::Wall, wall.albedo * 0.9, thing);
    for (x, y, a, b) in [
        (half.0, 0.0, 0.16, half.1),
        (-half.0, 0.0, 0.16, half.1),
        (0.0, half.1, half.0, 0.16),
        (0.0, -half.1, half.0, 0.16),
    ] {
        w.block(&frame.inner(x, y, 0.0), (a + 0.02, b + 0.02), (height, height + 0.55), rim, rim);
    }
    let units = (half.0 * half.1 * 0.03) as usize + dice.below(4);
    let metal = skin(Matter::Plain, v3(0.45, 0.46, 0.47), thing);
    let dark = skin(Matter::Plain, v3(0.06, 0.06, 0.06), thing);
    for _ in 0..units.min(18) {
        let at = frame.inner(half.0 * dice.range(-0.8, 0.8), half.1 * dice.range(-0.8, 0.8), 0.0);
        let (a, b) = (dice.range(0.5, 1.3), dice.range(0.4, 1.0));
        w.block(&at, (a, b), (height, height + dice.range(0.6, 1.5)), metal, metal);
        w.block(&at, (a * 0.55, b * 0.55), (height + 0.6, height + 1.52), metal, dark);
    }
    if dice.chance(0.45) {
        let core = frame.inner(half.0 * dice.range(-0.5, 0.5), half.1 * dice.range(-0.5, 0.5), 0.0);
        let house = (half.0.min(5.0) * 0.4, half.1.min(5.0) * 0.4);
        w.block(&core, house, (height, height + 2.6), rim, skin(Matter::FlatRoof, p.1 * 0.9, thing));
    }
}

/// A hall with a shallow sheet-metal roof: hangar, warehouse, shed.
pub(super) fn hall(w: &mut World, dice: &mut Dice, frame: &Frame, half: (f32, f32), eaves: f32) {
    let mut dice = dice.fork();
    if !w.camera.near_view(frame.origin, half.0 + half.1 + eaves) {
        return;
    }
    let eaves = eaves.min(w.camera.altitude * 0.3).max(2.2);
    let p = paint::flat_roof(&mut dice);
    let thing = w.thing(Category::Building, p.0);
    let sheet = skin(Matter::SheetMetal, p.1, thing);
    let wall = skin(Matter::SheetMetal, paint::wall(&mut dice), thing);
    w.block(frame, half, (0.0, eaves), wall, sheet);
    let rise = eaves + half.1 * 0.16;
    let (r0, r1) = (frame.at(-half.0 - 0.3, 0.0, rise), frame.at(half.0 + 0.3, 0.0, rise));
    for side in [-1.0, 1.0] {
        let edge = |x: f32| frame.at(x, side * (half.1 + 0.3), eaves - 0.03);
        w.quad([edge(-half.0 - 0.3), edge(half.0 + 0.3), r1, r0], sheet);
        let light = skin(Matter::Plain, p.1 * 0.6 + v3(0.2, 0.21, 0.2), thing);
        let mut x = -half.0 + 3.0;
        while x < half.0 - 2.0 {
            let strip = |x: f32, k: f32| frame.at(x, side * half.1 * k, eaves + (rise - eaves) * (1.0 - k) + 0.06);
            w.quad([strip(x, 0.75), strip(x + 0.9, 0.75), strip(x + 0.9, 0.3), strip(x, 0.3)], light);
            x += 7.0;
        }
    }
    for end in [-1.0, 1.0] {
        let c = [
            frame.at(end * half.0, -half.1, eaves),
            frame.at(end * half.0, half.1, eaves),
            frame.at(end * half.0, 0.0, rise),
        ];
        w.facet(c, [[0.0, 0.0], [half.1 * 2.0, 0.0], [half.1, 2.0]], wall);
    }
}

/// An upright storage tank.
pub(super) fn tank(w: &mut World, dice: &mut Dice, x: f32, y: f32, radius: f32) {
    let mut dice = dice.fork();
    let albedo = dice.pick(
        &[v3(0.70, 0.70, 0.68), v3(0.62, 0.63, 0.62), v3(0.50, 0.47, 0.40), v3(0.36, 0.37, 0.38)],
        v3(0.6, 0.6, 0.6),
    );
    let named = (albedo.x > 0.6).then_some(Colour::White);
    let thing = w.thing(Category::StorageTank, named);
    let f = Frame::new(x, y, dice.range(0.0, 6.2));
    let height = (radius * dice.range(0.7, 1.5)).clamp(4.0, 15.0).min(w.camera.altitude * 0.3);
    let side = skin(Matter::SheetMetal, albedo, thing);
    let floating = dice.chance(0.35);
    let top = skin(Matter::FlatRoof, if floating { albedo * 0.6 } else { albedo }, thing);
    w.cylinder(&f, radius, (0.0, height), side, top);
    if floating {
        let rim = ring_points(36).map(|(c, s)| f.at(c * radius, s * radius, height + 0.9)).collect::<Vec<V3>>();
        let low = ring_points(36).map(|(c, s)| f.at(c * radius, s * radius, height)).collect::<Vec<V3>>();
        w.loft(&[low, rim], |_, _| side);
    } else {
        let n = 36;
        let rings: Vec<Vec<V3>> = [(1.0f32, 0.0f32), (0.66, 0.55), (0.33, 0.88)]
            .iter()
            .map(|&(k, up)| {
                ring_points(n).map(|(c, s)| f.at(c * radius * k, s * radius * k, height + up * radius * 0.16)).collect()
            })
            .collect();
        w.loft(&rings, |_, _| skin(Matter::FlatRoof, albedo, thing));
        w.lid(&rings[2], radius * 0.02, skin(Matter::FlatRoof, albedo, thing));
        w.cylinder(&f.inner(radius * 0.5, 0.0, 0.0), 0.5, (height, height + radius * 0.14 + 0.5), side, side);
    }
    // Stairs curl around the shell.
    let steel = skin(Matter::Plain, albedo * 0.55, thing);
    for i in 0..18 {
        let (s, c) = super::vector::sin_cos(i as f32 * 0.055);
        let z = height * i as f32 / 18.0;
        w.block(&f.inner(c * (radius + 0.4), s * (radius + 0.4), 0.0), (0.45, 0.45), (z, z + 0.25), steel, steel);
    }
}

/// A pier with finger jetties: one thing of category harbor.
pub(super) fn pier(w: &mut World, dice: &mut Dice, frame: &Frame, length: f32, fingers: bool) {
    let mut dice = dice.fork();
    let thing = w.thing(Category::Harbor, None);
    let wood = dice.chance(0.55);
    let deck = skin(
        if wood { Matter::Wood } else { Matter::Concrete },
        if wood { v3(0.27, 0.21, 0.15) } else { v3(0.36, 0.35, 0.33) },
        thing,
    );
    let edge = skin(Matter::Plain, deck.albedo * 0.5, thing);
    w.block(&frame.inner(length * 0.5, 0.0, 0.0), (length * 0.5, 1.4), (0.0, 0.9), edge, deck);
    if fingers {
        let mut x = 5.0;
        while x < length - 1.0 {
            for side in [-1.0, 1.0] {
                w.block(&frame.inner(x, side * 5.4, 0.0), (0.5, 4.2), (0.0, 0.75), edge, deck);
            }
            x += 7.2;
        }
    }
}

/// A bridge deck carrying a road along x, `length` metres, over water or another road.
pub(super) fn bridge(w: &mut World, frame: &Frame, length: f32, width: f32) -> u16 {
    let thing = w.thing(Category::Bridge, None);
    let deck = skin(Matter::Lane, v3(0.115, 0.115, 0.118), thing);
    let concrete = skin(Matter::Concrete, v3(0.42, 0.41, 0.39), thing);
    // The deck lies low so that traffic may drive on it at ground level; rails and kerbs stand on it.
    w.rug(frame, length * 0.5, width * 0.5 + 1.2, concrete);
    w.rug(frame, length * 0.5, width * 0.5, deck);
    let paint = skin(Matter::Paint, v3(0.62, 0.62, 0.58), thing);
    let mut x = -length * 0.5;
    while x < length * 0.5 {
        w.stripe(frame, (x, 0.0), (x + 3.0, 0.0), 0.15, paint);
        x += 8.0;
    }
    for side in [-1.0, 1.0] {
        w.stripe(
            frame,
            (-length * 0.5, side * (width * 0.5 - 0.3)),
            (length * 0.5, side * (width * 0.5 - 0.3)),
            0.15,
            paint,
        );
        w.block(
            &frame.inner(0.0, side * (width * 0.5 + 1.1), 0.0),
            (length * 0.5, 0.16),
            (0.0, 1.0),
            concrete,
            concrete,
        );
    }
    thing
}
