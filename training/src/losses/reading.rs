//! What words say, without any picture: the labels that teach the language model to read.

use kestrel_link::Hint;

use super::dense::{COLOUR_FROM, one_of};
use super::{binary, sigmoid};
use crate::expressions::meaning::{Expression, Extreme, Fit};
use crate::expressions::space::{self, POSITIONS, Position, RELATIONS, Side};
use crate::sample::{Category, Colour};

const SIDES: [Side; 4] = [Side::Left, Side::Right, Side::Top, Side::Bottom];
/// Highest number counted to; further ones share the last output.
const COUNTED: usize = 6;

const PLURAL: usize = 0;
const SIZE: usize = PLURAL + 2;
const NUMBER: usize = SIZE + 3;
const SIDE: usize = NUMBER + COUNTED + 1;
const RELATION: usize = SIDE + SIDES.len() + 1;
const POSITION: usize = RELATION + RELATIONS.len() + 1;
const ANCHOR_COLOUR: usize = POSITION + POSITIONS.len() + 1;
const ANCHOR: usize = ANCHOR_COLOUR + Colour::ALL.len() + 1;
/// Outputs of the reading head: plural, size, count and side, relation, position, the anchor's colour and category;
/// the first output of each group but the last means "not said".
pub const OUTPUTS: usize = ANCHOR + Category::ALL.len();

/// Share of a colour or category that is not named: most are not.
const UNNAMED: f32 = 0.3;
/// How far from a point, in shares of the picture, its target may begin, and where it certainly is not.
const NEAR: f32 = 0.05;
const FAR: f32 = 0.12;

/// Whether an outcome was judged right, beside the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Read {
    /// The loss.
    pub loss: f32,
    /// Whether the named category and colour score highest.
    pub right: bool,
}

/// Loss of the shared names that a wish scores (`names`, in the order of [`super::dense`]) for what `expression` names.
pub fn names(expression: &Expression, names: &[f32], weight: f32, gradient: &mut [f32]) -> Read {
    let mut read = Read { loss: 0.0, right: true };
    // "This" may be anything.
    if !expression.categories.is_empty() || expression.foreign.is_some() {
        let wanted = Category::ALL.map(|c| expression.categories.contains(&c));
        read.right &= all_of(&names[..wanted.len()], &wanted, weight, gradient, &mut read.loss);
    }
    let wanted = Colour::ALL.map(|c| Some(c) == expression.colour);
    let range = COLOUR_FROM..COLOUR_FROM + Colour::ALL.len();
    read.right &= all_of(&names[range.clone()], &wanted, weight, &mut gradient[range], &mut read.loss);
    read
}

/// Independent yes or no; true when every sign is right.
fn all_of(z: &[f32], wanted: &[bool], weight: f32, gradient: &mut [f32], loss: &mut f32) -> bool {
    let mut right = true;
    for ((z, wanted), g) in z.iter().zip(wanted).zip(gradient) {
        let (cost, slope) = binary(*z, f32::from(*wanted));
        let share = weight * if *wanted { 1.0 } else { UNNAMED };
        *loss += share * cost;
        *g += share * slope;
        right &= (*z > 0.0) == *wanted;
    }
    right
}

/// Loss of the reading head's `outputs` ([`OUTPUTS`]).
pub fn parts(expression: &Expression, outputs: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let side_of = |side: Side| SIDES.iter().position(|s| *s == side);
    let size = expression.size.map(|s| usize::from(s == Extreme::Smallest));
    let number = expression.ordinal.map(|(n, _)| n.clamp(1, COUNTED) - 1);
    let side = expression.ordinal.and_then(|(_, side)| side_of(side));
    let relation = expression.relation.as_ref().and_then(|(r, _)| index(&RELATIONS, *r));
    let position = expression.position.and_then(|p| index::<Position>(&POSITIONS, p));
    let said = |choice: Option<usize>| choice.map_or(0, |c| c + 1);
    let mut groups = vec![
        (PLURAL..SIZE, usize::from(expression.plural)),
        (SIZE..NUMBER, said(size)),
        (NUMBER..SIDE, said(number)),
        (SIDE..RELATION, said(side)),
        (RELATION..POSITION, said(relation)),
        (POSITION..ANCHOR_COLOUR, said(position)),
    ];
    let mut loss = 0.0;
    if let Some((_, anchor)) = &expression.relation {
        groups.push((ANCHOR_COLOUR..ANCHOR, said(anchor.colour.and_then(|c| index::<Colour>(&Colour::ALL, c)))));
        let named = |k: usize| anchor.categories.contains(&Category::ALL[k]);
        loss += one_of(&outputs[ANCHOR..OUTPUTS], named, weight, &mut gradient[ANCHOR..OUTPUTS]);
    }
    for (range, choice) in groups {
        loss += one_of(&outputs[range.clone()], |k| k == choice, weight, &mut gradient[range]);
    }
    loss
}

fn index<T: PartialEq>(list: &[T], item: T) -> Option<usize> {
    list.iter().position(|i| *i == item)
}

/// Whether a target may have its centre at fractions `(x, y)`, as far as the words or the hint tell; `None` where both
/// are possible, or where nothing is said of places.
pub fn possible(expression: &Expression, x: f32, y: f32) -> Option<bool> {
    let mut possible = None;
    if let Some(position) = expression.position {
        match space::at(position, &[x, y, x, y], 1.0) {
            Fit::Yes => possible = Some(true),
            Fit::No => return Some(false),
            Fit::Unsure => return None,
        }
    }
    let away = match expression.hint {
        None => return possible,
        Some(Hint::Point { x: px, y: py }) => (px - x).hypot(py - y),
        Some(Hint::Box { x0, y0, x1, y1 }) => {
            let (dx, dy) = ((x0 - x).max(x - x1).max(0.0), (y0 - y).max(y - y1).max(0.0));
            // Inside counts as near.
            dx.hypot(dy) * 2.0
        }
    };
    if away < NEAR {
        possible.or(Some(true))
    } else if away > FAR {
        Some(false)
    } else {
        None
    }
}

/// Loss of a wish's likeness with the `side²` places of a blank picture (`scores`), where the words tell of places.
pub fn places(expression: &Expression, side: usize, scores: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    if expression.position.is_none() && expression.hint.is_none() {
        return 0.0;
    }
    let at = |i: usize| (i as f32 + 0.5) / side as f32;
    let known: Vec<(usize, bool)> = (0..side * side)
        .filter_map(|cell| possible(expression, at(cell % side), at(cell / side)).map(|p| (cell, p)))
        .collect();
    // Both kinds of place weigh the same, however small the region.
    let inside = known.iter().filter(|(_, p)| *p).count().max(1) as f32;
    let outside = known.iter().filter(|(_, p)| !*p).count().max(1) as f32;
    let mut loss = 0.0;
    for (cell, wanted) in known {
        let share = 0.5 * weight / if wanted { inside } else { outside };
        let (cost, _) = binary(scores[cell], f32::from(wanted));
        loss += share * cost;
        gradient[cell] += share * (sigmoid(scores[cell]) - f32::from(wanted));
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::expressions::space::Relation;

    fn expression() -> Expression {
        let anchor = Expression { categories: vec![Category::Bus], colour: Some(Colour::Red), ..Expression::default() };
        Expression {
            categories: vec![Category::Car],
            colour: Some(Colour::Blue),
            position: Some(Position::TopLeft),
            relation: Some((Relation::LeftOf, Box::new(anchor))),
            ordinal: Some((2, Side::Right)),
            size: Some(Extreme::Smallest),
            ..Expression::default()
        }
    }

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 29) % 19) as f32 * 0.2 - 1.8).collect()
    }

    #[test]
    fn gradients_are_the_derivatives() {
        let e = expression();
        let z = numbers(super::super::dense::OUTPUTS);
        let mut gradient = vec![0.0; z.len()];
        names(&e, &z, 2.0, &mut gradient);
        check::differences(&z, &gradient, |x| names(&e, x, 2.0, &mut vec![0.0; x.len()]).loss);
        let z = numbers(OUTPUTS);
        let mut gradient = vec![0.0; z.len()];
        parts(&e, &z, 2.0, &mut gradient);
        check::differences(&z, &gradient, |x| parts(&e, x, 2.0, &mut vec![0.0; x.len()]));
        let z = numbers(64);
        let mut gradient = vec![0.0; z.len()];
        places(&e, 8, &z, 2.0, &mut gradient);
        check::differences(&z, &gradient, |x| places(&e, 8, x, 2.0, &mut vec![0.0; x.len()]));
    }

    #[test]
    fn places_follow_words_and_hints() {
        let corner = Expression { position: Some(Position::TopLeft), ..Expression::default() };
        assert_eq!((possible(&corner, 0.1, 0.1), possible(&corner, 0.9, 0.1)), (Some(true), Some(false)));
        assert_eq!(possible(&corner, 0.45, 0.1), None);
        let point = Expression { hint: Some(Hint::Point { x: 0.5, y: 0.5 }), ..Expression::default() };
        assert_eq!((possible(&point, 0.52, 0.5), possible(&point, 0.9, 0.5)), (Some(true), Some(false)));
        let nothing = Expression::default();
        assert_eq!(possible(&nothing, 0.5, 0.5), None);
        assert_eq!(places(&nothing, 4, &[0.3; 16], 1.0, &mut [0.0; 16]), 0.0);
    }

    #[test]
    fn a_named_thing_is_read_right_when_its_signs_are() {
        let e = Expression { categories: vec![Category::Car], ..Expression::default() };
        let mut z = vec![-5.0; super::super::dense::OUTPUTS];
        z[0] = 5.0;
        assert!(names(&e, &z, 1.0, &mut vec![0.0; z.len()]).right);
        z[COLOUR_FROM] = 5.0;
        assert!(!names(&e, &z, 1.0, &mut vec![0.0; z.len()]).right, "a colour that nobody named");
    }
}
