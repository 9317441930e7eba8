//! Which candidates come first when not all can be listed.

use kestrel_link::Hint;

use crate::expressions::meaning::{Expression, Extreme, Facts};
use crate::expressions::space::{Position, Side, centre};

/// The smaller, the earlier: along the count, by size, by distance to the anchor, to the place pointed at or to the
/// region, else from left to right. In shares of the picture, or pixels of area.
pub(super) fn key(facts: &Facts<'_>, expression: &Expression, anchor: Option<usize>, thing: usize) -> f32 {
    let edges = &facts.things[thing].edges;
    let [x, y] = centre(edges).map(|v| v / facts.side);
    let to = |[px, py]: [f32; 2]| (x - px).hypot(y - py);
    if let Some((_, side)) = expression.ordinal {
        return match side {
            Side::Left => x,
            Side::Right => 1.0 - x,
            Side::Top => y,
            Side::Bottom => 1.0 - y,
        };
    }
    match (expression.size, anchor, expression.hint, expression.position) {
        (Some(Extreme::Largest), ..) => -facts.things[thing].area,
        (Some(Extreme::Smallest), ..) => facts.things[thing].area,
        (None, Some(anchor), ..) => to(centre(&facts.things[anchor].edges).map(|v| v / facts.side)),
        (None, None, Some(hint), _) => to(match hint {
            Hint::Point { x, y } => [x, y],
            Hint::Box { x0, y0, x1, y1 } => centre(&[x0, y0, x1, y1]),
        }),
        (None, None, None, Some(position)) => match position {
            Position::Left => x,
            Position::Right => 1.0 - x,
            Position::Top => y,
            Position::Bottom => 1.0 - y,
            Position::Centre => to([0.5, 0.5]),
            Position::TopLeft => to([0.0, 0.0]),
            Position::TopRight => to([1.0, 0.0]),
            Position::BottomLeft => to([0.0, 1.0]),
            Position::BottomRight => to([1.0, 1.0]),
        },
        (None, None, None, None) => x,
    }
}
