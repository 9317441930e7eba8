//! Expressions of a wanted stratum, proposed from what is in the picture; the evaluator decides which hold.

use kestrel_link::Hint;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::meaning::{Expression, Extreme, Facts, Fit, ROAD, evaluate};
use super::phrase::Phrasing;
use super::space::{self, POSITIONS, RELATIONS, Side};
use super::words;
use crate::datasets::raster;
use crate::sample::{Category, Colour, Stratum};

/// What can be named without further cues: anchors of relations.
pub(super) fn anchors(facts: &Facts<'_>) -> Vec<(usize, Expression)> {
    let mut found = Vec::new();
    for (index, thing) in facts.things.iter().enumerate().filter(|(_, t)| t.sure) {
        let plain = Expression { categories: vec![thing.category], ..Expression::default() };
        let coloured = Expression { colour: thing.colour, ..plain.clone() };
        for expression in [plain, coloured] {
            let meaning = evaluate(facts, &expression);
            let unique = meaning.yes == [index] && meaning.unsure.is_empty();
            if unique && facts.exhaustive(&expression.categories) {
                found.push((index, expression));
                break;
            }
        }
    }
    found
}

/// Proposes an expression, or `None` when the picture offers nothing for this stratum.
pub(super) fn propose(
    facts: &Facts<'_>,
    anchors: &[(usize, Expression)],
    stratum: Stratum,
    phrasing: Phrasing,
    rng: &mut ChaCha8Rng,
) -> Option<Expression> {
    let sure: Vec<usize> = (0..facts.things.len()).filter(|i| facts.things[*i].sure).collect();
    let some = |rng: &mut ChaCha8Rng| balanced(facts, &sure, rng);
    match stratum {
        Stratum::Category => some(rng).map(|t| named(facts, t, rng)),
        Stratum::Colour => {
            let coloured: Vec<_> = sure.iter().copied().filter(|i| facts.things[*i].colour.is_some()).collect();
            balanced(facts, &coloured, rng).map(|t| coloured_noun(facts, t, rng))
        }
        Stratum::Size => {
            let expression = maybe_coloured(facts, some(rng)?, 0.2, rng);
            let size = if rng.random_bool(0.6) { Extreme::Largest } else { Extreme::Smallest };
            Some(Expression { size: Some(size), ..expression })
        }
        Stratum::Position => {
            let target = some(rng)?;
            let fits = |p: &&space::Position| space::at(**p, &facts.things[target].edges, facts.side) == Fit::Yes;
            let here: Vec<_> = POSITIONS.iter().filter(fits).collect();
            let position = Some(**here.choose(rng)?);
            Some(Expression { position, ..maybe_coloured(facts, target, 0.3, rng) })
        }
        Stratum::Relation => relation(facts, anchors, &sure, Fit::Yes, rng),
        Stratum::Ordinal => {
            let expression = maybe_coloured(facts, some(rng)?, 0.2, rng);
            let side = *[Side::Left, Side::Right, Side::Top, Side::Bottom].choose(rng)?;
            Some(Expression { ordinal: Some((rng.random_range(1..=5), side)), ..expression })
        }
        Stratum::Plural => {
            let target = some(rng)?;
            let mut expression = maybe_coloured(facts, target, 0.25, rng);
            expression.plural = true;
            if rng.random_bool(0.2) {
                expression.position = POSITIONS.choose(rng).copied();
                expression.regional = true;
            }
            Some(expression)
        }
        Stratum::Hint => hint(facts, some(rng)?, rng),
        Stratum::Ambiguous => {
            let mut expression = maybe_coloured(facts, some(rng)?, 0.3, rng);
            if rng.random_bool(0.15) {
                expression.position = POSITIONS.choose(rng).copied();
                expression.regional = true;
            }
            Some(expression)
        }
        Stratum::AbsentCategory => absent_category(facts, phrasing, rng),
        Stratum::AbsentColour => {
            let target = some(rng)?;
            let colour = Colour::ALL.choose(rng).copied();
            Some(Expression { colour, plural: rng.random_bool(0.25), ..named(facts, target, rng) })
        }
        Stratum::WrongRelation => {
            if rng.random_bool(0.3) {
                let position = POSITIONS.choose(rng).copied();
                return Some(Expression { position, regional: true, ..named(facts, some(rng)?, rng) });
            }
            relation(facts, anchors, &sure, Fit::No, rng)
        }
        Stratum::Nonsense | Stratum::Unseeable => None,
    }
}

/// A category first, then one of its instances: a car park must not drown the one boat.
fn balanced(facts: &Facts<'_>, among: &[usize], rng: &mut ChaCha8Rng) -> Option<usize> {
    let mut categories: Vec<Category> = among.iter().map(|i| facts.things[*i].category).collect();
    categories.sort_unstable();
    categories.dedup();
    if rng.random_bool(0.4) {
        return among.choose(rng).copied();
    }
    let category = *categories.choose(rng)?;
    let of: Vec<usize> = among.iter().copied().filter(|i| facts.things[*i].category == category).collect();
    of.choose(rng).copied()
}

fn named(facts: &Facts<'_>, target: usize, rng: &mut ChaCha8Rng) -> Expression {
    let category = facts.things[target].category;
    let court = matches!(category, Category::TennisCourt | Category::BasketballCourt);
    let categories = if category == Category::Vehicle || (ROAD.contains(&category) && rng.random_bool(0.2)) {
        ROAD.to_vec()
    } else if court && rng.random_bool(0.15) {
        vec![Category::TennisCourt, Category::BasketballCourt]
    } else {
        vec![category]
    };
    Expression { categories, ..Expression::default() }
}

fn coloured_noun(facts: &Facts<'_>, target: usize, rng: &mut ChaCha8Rng) -> Expression {
    Expression { colour: facts.things[target].colour, ..named(facts, target, rng) }
}

fn maybe_coloured(facts: &Facts<'_>, target: usize, share: f64, rng: &mut ChaCha8Rng) -> Expression {
    if rng.random_bool(share) { coloured_noun(facts, target, rng) } else { named(facts, target, rng) }
}

/// A relation between a nameable anchor and a thing near it (when it shall hold) or any thing (when it shall not).
fn relation(
    facts: &Facts<'_>,
    anchors: &[(usize, Expression)],
    sure: &[usize],
    wanted: Fit,
    rng: &mut ChaCha8Rng,
) -> Option<Expression> {
    let (anchor, of) = anchors.choose(rng)?;
    let place = &facts.things[*anchor].edges;
    let mut others: Vec<usize> = sure.iter().copied().filter(|i| i != anchor).collect();
    if wanted == Fit::Yes && rng.random_bool(0.7) {
        others.sort_by(|a, b| {
            let gap = |i: &usize| space::gap(place, &facts.things[*i].edges);
            gap(a).total_cmp(&gap(b))
        });
        others.truncate(6);
    }
    let target = balanced(facts, &others, rng)?;
    let edges = &facts.things[target].edges;
    let relation = if wanted == Fit::Yes && rng.random_bool(0.25) {
        space::Relation::Closest
    } else {
        let fits = |r: &&space::Relation| space::related(**r, edges, place) == wanted;
        **RELATIONS.iter().filter(fits).collect::<Vec<_>>().choose(rng)?
    };
    let expression = maybe_coloured(facts, target, 0.15, rng);
    Some(Expression { relation: Some((relation, Box::new(of.clone()))), ..expression })
}

fn hint(facts: &Facts<'_>, target: usize, rng: &mut ChaCha8Rng) -> Option<Expression> {
    let expression = if rng.random_bool(0.5) { Expression::default() } else { named(facts, target, rng) };
    let [x0, y0, x1, y1] = facts.things[target].edges;
    let hint = if rng.random_bool(0.5) {
        let (w, h) = (x1 - x0, y1 - y0);
        let reach = *[0.04f32, 0.12, 0.2].choose(rng)?;
        let mut moved = |v: f32, length: f32| {
            ((v + rng.random_range(-reach..reach) * length.max(6.0)) / facts.side).clamp(0.0, 1.0)
        };
        Hint::Box { x0: moved(x0, w), y0: moved(y0, h), x1: moved(x1, w), y1: moved(y1, h) }
    } else {
        let [x, y] = point(facts, target, rng)?;
        Hint::Point { x: x / facts.side, y: y / facts.side }
    };
    Some(Expression { hint: Some(hint), ..expression })
}

/// A point well inside the instance: a pixel whose neighbours two steps away all belong to it, else any of its pixels.
fn point(facts: &Facts<'_>, target: usize, rng: &mut ChaCha8Rng) -> Option<[f32; 2]> {
    let thing = &facts.things[target];
    if thing.weak {
        let [x, y] = space::centre(&thing.edges);
        return Some([x, y]);
    }
    let bits = raster::bits(facts.picture, target).ok()??;
    let side = facts.side as usize;
    let pixels: Vec<usize> = bits.iter().enumerate().filter_map(|(i, b)| b.then_some(i)).collect();
    let mut found = *pixels.choose(rng)?;
    for _ in 0..20 {
        let (x, y) = (found % side, found / side);
        let inside = x >= 2 && y >= 2 && x + 2 < side && y + 2 < side;
        if inside && [found - 2, found + 2, found - 2 * side, found + 2 * side].iter().all(|i| bits[*i]) {
            break;
        }
        found = *pixels.choose(rng)?;
    }
    Some([(found % side) as f32 + 0.5, (found / side) as f32 + 0.5])
}

fn absent_category(facts: &Facts<'_>, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> Option<Expression> {
    let mut expression = Expression { plural: rng.random_bool(0.2), ..Expression::default() };
    if rng.random_bool(0.12) {
        let kept = phrasing == Phrasing::HeldOut;
        let allowed: Vec<usize> = (0..words::FOREIGN.len()).filter(|i| words::FOREIGN[*i].held_out == kept).collect();
        expression.foreign = allowed.choose(rng).copied();
    } else {
        let here = |c: &&Category| facts.things.iter().any(|t| t.category == **c);
        let missing: Vec<_> = facts.picture.exhaustive.iter().filter(|c| !here(c)).collect();
        let category = **missing.choose(rng)?;
        let road = ROAD.contains(&category) && (category == Category::Vehicle || rng.random_bool(0.1));
        expression.categories = if road { ROAD.to_vec() } else { vec![category] };
    }
    if rng.random_bool(0.2) {
        expression.colour = Colour::ALL.choose(rng).copied();
    }
    if rng.random_bool(0.15) {
        expression.position = POSITIONS.choose(rng).copied();
    }
    Some(expression)
}
