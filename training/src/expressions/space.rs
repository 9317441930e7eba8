//! Places and relations in the picture, each with a margin in which it is neither so nor not so.

use super::meaning::{Fit, Thing};

/// A region of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Position {
    Left,
    Right,
    Top,
    Bottom,
    Centre,
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

/// All positions.
pub const POSITIONS: [Position; 9] = [
    Position::Left,
    Position::Right,
    Position::Top,
    Position::Bottom,
    Position::Centre,
    Position::TopLeft,
    Position::TopRight,
    Position::BottomLeft,
    Position::BottomRight,
];

/// Where the target is, seen from the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Relation {
    NextTo,
    LeftOf,
    RightOf,
    Above,
    Below,
    /// A superlative: the one of the candidates with the smallest gap.
    Closest,
}

/// All relations.
pub const RELATIONS: [Relation; 6] =
    [Relation::NextTo, Relation::LeftOf, Relation::RightOf, Relation::Above, Relation::Below, Relation::Closest];

/// Where counting starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

/// Centre of left, top, right, bottom.
pub fn centre(edges: &[f32; 4]) -> [f32; 2] {
    [(edges[0] + edges[2]) / 2.0, (edges[1] + edges[3]) / 2.0]
}

/// Whether something lies in a region: a side ends at 0.4 of the picture and may reach to 0.5; the centre is the middle
/// 0.3 and may reach to 0.46; a corner is two sides.
pub fn at(position: Position, edges: &[f32; 4], side: f32) -> Fit {
    let [x, y] = centre(edges).map(|v| v / side);
    let low = |v: f32| {
        if v < 0.4 {
            Fit::Yes
        } else if v < 0.5 {
            Fit::Unsure
        } else {
            Fit::No
        }
    };
    let middle = |v: f32| {
        let off = (v - 0.5).abs();
        if off < 0.15 {
            Fit::Yes
        } else if off < 0.23 {
            Fit::Unsure
        } else {
            Fit::No
        }
    };
    match position {
        Position::Left => low(x),
        Position::Right => low(1.0 - x),
        Position::Top => low(y),
        Position::Bottom => low(1.0 - y),
        Position::Centre => middle(x).min(middle(y)),
        Position::TopLeft => low(x).min(low(y)),
        Position::TopRight => low(1.0 - x).min(low(y)),
        Position::BottomLeft => low(x).min(low(1.0 - y)),
        Position::BottomRight => low(1.0 - x).min(low(1.0 - y)),
    }
}

/// Distance between two boxes' edges; 0 when they touch or overlap.
pub fn gap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let dx = (b[0] - a[2]).max(a[0] - b[2]).max(0.0);
    let dy = (b[1] - a[3]).max(a[1] - b[3]).max(0.0);
    dx.hypot(dy)
}

fn long_side(edges: &[f32; 4]) -> f32 {
    (edges[2] - edges[0]).max(edges[3] - edges[1])
}

/// Whether `thing` stands in the relation to `anchor`.
///
/// Next to: the gap is under 0.6 of the smaller one's long side; beyond 1.5 of the larger one's it is not (and it is
/// never sure in between). Left of: the centre is left of the anchor's near edge and the direction is within 45°; on
/// the other side of the anchor's centre it is not.
pub fn related(relation: Relation, thing: &[f32; 4], anchor: &[f32; 4]) -> Fit {
    let (t, a) = (centre(thing), centre(anchor));
    let toward = |along: f32, across: f32, clear: bool| {
        if clear && along > across.abs() {
            Fit::Yes
        } else if along < 0.0 {
            Fit::No
        } else {
            Fit::Unsure
        }
    };
    match relation {
        Relation::NextTo => {
            let gap = gap(thing, anchor);
            let (small, large) = {
                let (p, q) = (long_side(thing), long_side(anchor));
                (p.min(q), p.max(q))
            };
            let contained = overlap(thing, anchor).1.max(overlap(anchor, thing).1) > 0.3;
            if contained {
                Fit::Unsure
            } else if gap < 0.6 * small {
                Fit::Yes
            } else if gap > 1.5 * large {
                Fit::No
            } else {
                Fit::Unsure
            }
        }
        Relation::LeftOf => toward(a[0] - t[0], a[1] - t[1], t[0] < anchor[0]),
        Relation::RightOf => toward(t[0] - a[0], a[1] - t[1], t[0] > anchor[2]),
        Relation::Above => toward(a[1] - t[1], a[0] - t[0], t[1] < anchor[1]),
        Relation::Below => toward(t[1] - a[1], a[0] - t[0], t[1] > anchor[3]),
        Relation::Closest => Fit::Yes,
    }
}

/// The candidate whose centre is nearest to the anchor's, if the next one is 1.4 times as far and 8 px farther.
pub fn closest(things: &[Thing], candidates: &[usize], anchor: usize) -> Option<usize> {
    let from = centre(&things[anchor].edges);
    let distance = |i: &usize| {
        let [x, y] = centre(&things[*i].edges);
        (x - from[0]).hypot(y - from[1])
    };
    let mut order: Vec<usize> = candidates.iter().copied().filter(|i| *i != anchor).collect();
    order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    match order[..] {
        [first, second, ..] => {
            let (near, far) = (distance(&first), distance(&second));
            (far > 1.4 * near && far > near + 8.0).then_some(first)
        }
        _ => None,
    }
}

/// The first `number` candidates from a side, if they and the next one keep 3 % of the picture between each other.
pub fn first(things: &[Thing], candidates: &[usize], number: usize, from: Side, side: f32) -> Option<Vec<usize>> {
    let place = |i: &usize| {
        let [x, y] = centre(&things[*i].edges);
        match from {
            Side::Left => x,
            Side::Right => side - x,
            Side::Top => y,
            Side::Bottom => side - y,
        }
    };
    if candidates.len() < 2 || number == 0 || number > candidates.len() {
        return None;
    }
    let mut order = candidates.to_vec();
    order.sort_by(|a, b| place(a).total_cmp(&place(b)));
    let until = (number + 1).min(order.len());
    let clear = order[..until].windows(2).all(|w| place(&w[1]) - place(&w[0]) > 0.03 * side);
    order.truncate(number);
    clear.then_some(order)
}

/// Intersection over union of two boxes, and the share of the second inside the first.
pub fn overlap(a: &[f32; 4], b: &[f32; 4]) -> (f32, f32) {
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |e: &[f32; 4]| ((e[2] - e[0]) * (e[3] - e[1])).max(1e-6);
    let shared = w * h;
    (shared / (area(a) + area(b) - shared), shared / area(b))
}
