//! What people paint things with.

use super::random::Dice;
use super::vector::{V3, v3};
use crate::sample::Colour;

/// A named colour (or none where words would disagree) and its linear albedo.
pub(super) type Paint = (Option<Colour>, V3);

const WHITE: Paint = (Some(Colour::White), v3(0.74, 0.75, 0.75));
const BLACK: Paint = (Some(Colour::Black), v3(0.010, 0.010, 0.012));
const GREY: Paint = (Some(Colour::Grey), v3(0.155, 0.158, 0.165));
const SILVER: Paint = (None, v3(0.42, 0.43, 0.44));
const RED: Paint = (Some(Colour::Red), v3(0.38, 0.012, 0.014));
const ORANGE: Paint = (Some(Colour::Orange), v3(0.66, 0.15, 0.012));
const YELLOW: Paint = (Some(Colour::Yellow), v3(0.70, 0.46, 0.02));
const GREEN: Paint = (Some(Colour::Green), v3(0.025, 0.16, 0.045));
const BLUE: Paint = (Some(Colour::Blue), v3(0.018, 0.065, 0.32));
const BROWN: Paint = (Some(Colour::Brown), v3(0.13, 0.055, 0.024));
const BEIGE: Paint = (None, v3(0.42, 0.34, 0.24));

/// A little off the chart, as real paint is.
fn vary(dice: &mut Dice, paint: Paint) -> Paint {
    let k = libm::expf(dice.normal() * 0.10);
    let n = v3(1.0 + dice.normal() * 0.04, 1.0 + dice.normal() * 0.04, 1.0 + dice.normal() * 0.04);
    let c = paint.1.times(n) * k;
    (paint.0, v3(c.x.min(0.85), c.y.min(0.85), c.z.min(0.85)))
}

fn draw(dice: &mut Dice, chart: &[(Paint, f32)]) -> Paint {
    let weights: Vec<f32> = chart.iter().map(|c| c.1).collect();
    let paint = chart.get(dice.weighted(&weights)).map_or(WHITE, |c| c.0);
    vary(dice, paint)
}

/// Cars, roughly by the share on the road with the bright colours lifted so that they can be learned.
pub(super) fn car(dice: &mut Dice) -> Paint {
    draw(
        dice,
        &[
            (WHITE, 22.0),
            (BLACK, 15.0),
            (GREY, 12.0),
            (SILVER, 9.0),
            (RED, 12.0),
            (BLUE, 11.0),
            (ORANGE, 3.0),
            (YELLOW, 5.0),
            (GREEN, 5.0),
            (BROWN, 4.0),
            (BEIGE, 2.0),
        ],
    )
}

/// Vans, lorries and trailers.
pub(super) fn goods(dice: &mut Dice) -> Paint {
    draw(
        dice,
        &[
            (WHITE, 45.0),
            (GREY, 8.0),
            (BLUE, 12.0),
            (RED, 11.0),
            (YELLOW, 8.0),
            (GREEN, 6.0),
            (ORANGE, 5.0),
            (SILVER, 5.0),
            (BLACK, 4.0),
        ],
    )
}

pub(super) fn bus(dice: &mut Dice) -> Paint {
    draw(dice, &[(WHITE, 30.0), (RED, 20.0), (YELLOW, 18.0), (BLUE, 14.0), (GREEN, 10.0), (ORANGE, 8.0)])
}

pub(super) fn boat(dice: &mut Dice) -> Paint {
    draw(
        dice,
        &[
            (WHITE, 60.0),
            (BLUE, 10.0),
            (RED, 7.0),
            (BEIGE, 8.0),
            (GREY, 6.0),
            (GREEN, 3.0),
            (YELLOW, 3.0),
            (ORANGE, 3.0),
        ],
    )
}

/// Pitched roofs.
pub(super) fn tiles(dice: &mut Dice) -> Paint {
    let terracotta: Paint = (None, v3(0.30, 0.135, 0.08));
    let brick: Paint = (Some(Colour::Red), v3(0.24, 0.06, 0.045));
    let slate: Paint = (Some(Colour::Grey), v3(0.115, 0.118, 0.13));
    let dark: Paint = (Some(Colour::Black), v3(0.03, 0.03, 0.033));
    draw(dice, &[(terracotta, 30.0), (brick, 10.0), (slate, 24.0), (dark, 8.0), (BROWN, 20.0), (BEIGE, 8.0)])
}

/// Flat and sheet roofs.
pub(super) fn flat_roof(dice: &mut Dice) -> Paint {
    let gravel: Paint = (Some(Colour::Grey), v3(0.24, 0.235, 0.225));
    let tar: Paint = (Some(Colour::Grey), v3(0.085, 0.085, 0.09));
    let blue: Paint = (Some(Colour::Blue), v3(0.05, 0.14, 0.36));
    let green: Paint = (Some(Colour::Green), v3(0.07, 0.2, 0.1));
    draw(
        dice,
        &[
            (gravel, 34.0),
            (tar, 20.0),
            (WHITE, 22.0),
            (BEIGE, 8.0),
            (blue, 6.0),
            (green, 4.0),
            (RED, 3.0),
            (SILVER, 6.0),
        ],
    )
}

pub(super) fn wall(dice: &mut Dice) -> V3 {
    let c = dice.pick(
        &[
            v3(0.55, 0.52, 0.46),
            v3(0.40, 0.36, 0.30),
            v3(0.30, 0.13, 0.085),
            v3(0.62, 0.60, 0.57),
            v3(0.30, 0.30, 0.31),
            v3(0.46, 0.36, 0.22),
        ],
        v3(0.5, 0.5, 0.5),
    );
    vary(dice, (None, c)).1
}

pub(super) fn clothes(dice: &mut Dice) -> Paint {
    draw(
        dice,
        &[
            (WHITE, 20.0),
            (BLACK, 18.0),
            (BLUE, 18.0),
            (RED, 16.0),
            (GREY, 12.0),
            (YELLOW, 6.0),
            (GREEN, 6.0),
            (ORANGE, 4.0),
        ],
    )
}
