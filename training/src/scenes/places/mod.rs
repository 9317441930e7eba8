//! The kinds of place a drone looks at.

mod city;
mod country;
mod industry;
mod kind;
mod sport;
mod street;
mod waterside;

pub use kind::PlaceKind;

use super::camera::{Camera, Framing};
use super::mesh::{Matter, World, skin};
use super::nature;
use super::random::Dice;
use super::vector::{Frame, V3, v3};
use super::vehicles;

/// A way to build a kind of place: how often, how to look at it, how to build it.
struct Place {
    kind: PlaceKind,
    weight: f32,
    framing: Framing,
    build: fn(&mut World, &mut Dice),
}

/// Framing by car length in 512-pixel pictures.
const fn framing(low: f32, high: f32, nadir: f32) -> Framing {
    Framing { car: (low / 512.0, high / 512.0), nadir }
}

static PLACES: [Place; 13] = [
    Place { kind: PlaceKind::Suburb, weight: 1.3, framing: framing(30.0, 95.0, 0.4), build: street::suburb },
    Place { kind: PlaceKind::Suburb, weight: 1.0, framing: framing(12.0, 34.0, 0.5), build: street::suburb },
    Place { kind: PlaceKind::ParkingLot, weight: 1.3, framing: framing(26.0, 110.0, 0.5), build: city::parking },
    Place { kind: PlaceKind::CityBlocks, weight: 1.1, framing: framing(14.0, 60.0, 0.4), build: city::blocks },
    Place { kind: PlaceKind::Highway, weight: 1.3, framing: framing(22.0, 100.0, 0.4), build: street::highway },
    Place { kind: PlaceKind::Fields, weight: 0.7, framing: framing(12.0, 45.0, 0.4), build: country::fields },
    Place { kind: PlaceKind::Harbour, weight: 1.1, framing: framing(16.0, 70.0, 0.5), build: waterside::harbour },
    Place { kind: PlaceKind::River, weight: 1.2, framing: framing(14.0, 60.0, 0.4), build: waterside::river },
    Place { kind: PlaceKind::Airfield, weight: 1.2, framing: framing(9.0, 40.0, 0.5), build: industry::airfield },
    Place { kind: PlaceKind::TankFarm, weight: 0.75, framing: framing(12.0, 45.0, 0.5), build: industry::tank_farm },
    Place { kind: PlaceKind::SportsCourts, weight: 1.1, framing: framing(13.0, 42.0, 0.5), build: sport::courts },
    Place { kind: PlaceKind::Stadium, weight: 0.9, framing: framing(9.0, 24.0, 0.5), build: sport::stadium },
    Place { kind: PlaceKind::Park, weight: 0.9, framing: framing(40.0, 115.0, 0.35), build: country::park },
];

/// The first draw of a scene: what it shows.
fn draw(dice: &mut Dice) -> &'static Place {
    let weights: Vec<f32> = PLACES.iter().map(|p| p.weight).collect();
    &PLACES[dice.weighted(&weights)]
}

/// The kind of place that [`build`] makes of the same generator.
pub(super) fn kind(dice: &mut Dice) -> PlaceKind {
    draw(dice).kind
}

/// Draws and builds a scene as it is `seconds` after its first frame.
pub(super) fn build(dice: &mut Dice, seconds: f32) -> World {
    let place = draw(dice);
    // Only what could ever be seen from the first camera is built, so that things keep their numbers in later frames.
    let mut eye = dice.fork();
    let first = Camera::draw(&mut eye.clone(), place.framing, 0.0);
    let mut world = World::new(first, seconds);
    (place.build)(&mut world, dice);
    world.camera = Camera::draw(&mut eye, place.framing, seconds);
    world
}

/// Cover of open ground.
fn meadow(w: &mut World, dice: &mut Dice) {
    let green = dice.pick(
        &[
            v3(0.070, 0.110, 0.030),
            v3(0.095, 0.125, 0.040),
            v3(0.055, 0.090, 0.028),
            v3(0.13, 0.13, 0.06),
            v3(0.16, 0.145, 0.085),
        ],
        v3(0.08, 0.11, 0.03),
    );
    w.base = skin(Matter::Grass, green * dice.range(0.85, 1.15), 0);
}

fn ground(dice: &mut Dice) -> (Matter, V3) {
    let k = dice.range(0.85, 1.15);
    match dice.weighted(&[0.45, 0.35, 0.2]) {
        0 => (Matter::Asphalt, v3(0.10, 0.10, 0.104) * k),
        1 => (Matter::Concrete, v3(0.34, 0.33, 0.31) * k),
        _ => (Matter::Gravel, v3(0.27, 0.245, 0.21) * k),
    }
}

/// Trees scattered within `reach` of the frame wherever nothing stands.
fn grove(w: &mut World, dice: &mut Dice, centre: (f32, f32), reach: f32, count: usize, size: (f32, f32)) {
    for _ in 0..count {
        let (x, y) = (centre.0 + dice.range(-reach, reach), centre.1 + dice.range(-reach, reach));
        let r = dice.range(size.0, size.1);
        if w.claim(x, y, r * 0.8) {
            nature::tree(w, dice, x, y, r);
        }
    }
}

/// People wandering around a point.
fn crowd(w: &mut World, dice: &mut Dice, centre: (f32, f32), reach: f32, count: usize) {
    for _ in 0..count {
        let (x, y) = (centre.0 + dice.range(-reach, reach), centre.1 + dice.range(-reach, reach));
        if w.claim(x, y, 0.35) {
            nature::person(w, dice, x, y);
        }
    }
}

/// A row of traffic in both directions of a road along the frame's x axis; `density` 0..=1.
fn traffic(w: &mut World, dice: &mut Dice, f: &Frame, half_length: f32, lanes: usize, density: f32) {
    for side in [-1.0f32, 1.0] {
        for lane in 0..lanes {
            let mut dice = dice.fork();
            let speed = dice.range(5.0, 11.0) + lanes as f32 * 1.5;
            let y = -side * (lane as f32 + 0.5) * 3.4;
            let mut x = -half_length + dice.range(0.0, 20.0);
            while x < half_length {
                let kind = vehicles::traffic(&mut dice);
                let room = vehicles::room(kind);
                x += room * 0.5;
                let mut one = dice.fork();
                let at = f.inner(
                    side * (x + speed * w.seconds),
                    y + one.normal() * 0.2,
                    if side > 0.0 { 0.0 } else { std::f32::consts::PI },
                );
                // Culled by where it starts: later frames must number things alike.
                let start = f.at(side * x, y, 0.0);
                if w.camera.near_view(start, 24.0) {
                    vehicles::drive(w, &mut one, &at, kind);
                }
                x += room * 0.5
                    + dice.range(1.5, 6.0)
                    + dice.range(0.0, 1.0) * 22.0 * (1.0 - density) / density.max(0.05);
            }
        }
    }
}

/// A vehicle standing where the frame is, if there is room.
fn parked(w: &mut World, dice: &mut Dice, f: &Frame, kind: super::vehicles::Kind) -> bool {
    let room = vehicles::room(kind) * 0.5;
    let o = f.origin;
    if !w.camera.near_view(o, room + 4.0) {
        return false;
    }
    vehicles::drive(w, dice, f, kind);
    w.occupy(o.x, o.y, 1.2);
    true
}

/// Oil, patches and dirt on paved ground.
fn stains(w: &mut World, dice: &mut Dice, f: &Frame, half: (f32, f32), count: usize) {
    for _ in 0..count {
        let at = f.inner(dice.range(-half.0, half.0), dice.range(-half.1, half.1), dice.range(0.0, 3.1));
        let k = dice.range(0.045, 0.08);
        let r = dice.range(0.2, 0.9);
        w.patch(&at, r, r * dice.range(0.5, 1.0), skin(Matter::Stain, v3(k, k, k), 0));
    }
}
