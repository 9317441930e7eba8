//! What an expression means: executed against the annotation, in three values.
//!
//! Every instance fits, does not fit, or may fit.
//! "May" comes from margins (a car a little left of the middle), from unclear colours, from labels that do not tell the
//! kind, and from things that are hardly visible; an expression that depends on a "may" is never asked.

use kestrel_link::Hint;

use super::space::{self, Position, Relation, Side};
use super::tint::Tint;
use crate::datasets::{labels, raster};
use crate::sample::{Category, Colour, Picture, Target};

/// Instances below this share of visibility are neither targets nor proof of anything.
pub const MIN_VISIBLE: f32 = 0.3;
/// Nor are those below this area, in pixels of a 512-pixel picture.
pub const MIN_AREA_PIXELS: f32 = 12.0;
/// "The largest" must be this many times the second.
pub const SIZE_RATIO: f32 = 1.4;

/// Whether an instance fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Fit {
    No,
    Unsure,
    Yes,
}

/// Largest or smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Extreme {
    Largest,
    Smallest,
}

/// A referring expression before it is put into words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expression {
    /// What the noun may mean; empty with `foreign` for a thing no picture holds, empty without it for "this".
    pub categories: Vec<Category>,
    /// Index into [`super::words::FOREIGN`].
    pub foreign: Option<usize>,
    /// "red".
    pub colour: Option<Colour>,
    /// "largest".
    pub size: Option<Extreme>,
    /// "at the top left".
    pub position: Option<Position>,
    /// Whether the position is said after the noun, as a region: "the bottom car" is the lowest wherever it is.
    pub regional: bool,
    /// "next to the white truck".
    pub relation: Option<(Relation, Box<Expression>)>,
    /// "second from the left": 1-based.
    pub ordinal: Option<(usize, Side)>,
    /// "all".
    pub plural: bool,
    /// A place pointed at.
    pub hint: Option<Hint>,
}

/// One instance as the evaluator sees it; pixels of the picture.
#[derive(Debug, Clone)]
pub struct Thing {
    /// What it is.
    pub category: Category,
    /// Its colour, where sure.
    pub colour: Option<Colour>,
    /// The colours that it might be called by when `colour` is not sure.
    pub tint: Tint,
    /// Left, top, right, bottom.
    pub edges: [f32; 4],
    /// Mask pixels, or box area.
    pub area: f32,
    /// Seen well enough to be asked about.
    pub sure: bool,
    /// Share visible.
    pub visible: f32,
    /// Has no outline.
    pub weak: bool,
}

/// A picture's labels, prepared once for many evaluations.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The picture.
    pub picture: &'a Picture,
    /// Side in pixels.
    pub side: f32,
    /// Its instances.
    pub things: Vec<Thing>,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// What fits.
    pub yes: Vec<usize>,
    /// What may fit.
    pub unsure: Vec<usize>,
    /// Everything that must be seen to answer: candidates and anchors.
    pub needs: Vec<usize>,
    /// What the target is related to, where that is clear.
    pub anchor: Option<usize>,
    /// An anchor is missing or not unique, or a superlative has no clear winner.
    pub undefined: bool,
}

impl<'a> Facts<'a> {
    /// Prepares a picture.
    pub fn of(picture: &'a Picture) -> Self {
        let side = picture.image.width() as f32;
        let scale = (512.0 / side).powi(2);
        let things = picture.instances.iter().enumerate().map(|(index, instance)| {
            let [x, y, w, h] = instance.bounding_box;
            let area = instance.mask.as_ref().and_then(|m| m.area().ok()).map_or(w * h, |a| a as f32);
            Thing {
                category: instance.category,
                colour: instance.colour,
                tint: if instance.colour.is_none() { tint(picture, index) } else { Tint::ANY },
                edges: [x, y, x + w, y + h],
                area,
                sure: instance.visible >= MIN_VISIBLE && area * scale >= MIN_AREA_PIXELS,
                visible: instance.visible,
                weak: instance.mask.is_none(),
            }
        });
        Self { picture, side, things: things.collect() }
    }

    /// Whether one may say that nothing else of these categories is in the picture.
    pub fn exhaustive(&self, categories: &[Category]) -> bool {
        let labelled = &self.picture.exhaustive;
        let all = |c: &[Category]| c.iter().all(|c| labelled.contains(c));
        // A picture whose road vehicles are labelled without their kind knows all vehicles, but no cars.
        let road = is_road(categories) && labelled.contains(&Category::Vehicle);
        let kinds: Vec<_> = categories.iter().copied().filter(|c| *c != Category::Vehicle).collect();
        road || (!kinds.is_empty() && all(&kinds)) || (kinds.is_empty() && !categories.is_empty() && all(categories))
    }
}

/// Colours that an instance without a sure one might have: from its mask, or from the middle of its box.
fn tint(picture: &Picture, index: usize) -> Tint {
    if !labels::coloured(picture.instances[index].category) {
        return Tint::ANY;
    }
    if let Ok(Some(bits)) = raster::bits(picture, index) {
        return Tint::under(&picture.image, &bits);
    }
    let [x, y, w, h] = picture.instances[index].bounding_box;
    let (x0, y0) = ((x + 0.3 * w) as u32, (y + 0.3 * h) as u32);
    let (x1, y1) = ((x + 0.7 * w).ceil() as u32, (y + 0.7 * h).ceil() as u32);
    let (x1, y1) = (x1.min(picture.image.width()), y1.min(picture.image.height()));
    Tint::of((y0..y1).flat_map(|py| (x0..x1).map(move |px| (px, py))).map(|(px, py)| picture.image.get_pixel(px, py).0))
}

/// The categories that "vehicle" means.
pub const ROAD: [Category; 5] = [Category::Car, Category::Van, Category::Truck, Category::Bus, Category::Vehicle];

fn is_road(categories: &[Category]) -> bool {
    categories.len() == ROAD.len() && ROAD.iter().all(|c| categories.contains(c))
}

/// Kinds that people, and other data sets, call by each other's names.
fn confusable(a: Category, b: Category) -> bool {
    use Category as C;
    let group = |c| match c {
        C::Car | C::Van | C::Truck | C::Bus | C::Trailer => 1,
        C::Person | C::Bicycle => 2,
        _ => 0,
    };
    group(a) != 0 && group(a) == group(b)
}

/// Executes an expression.
pub fn evaluate(facts: &Facts<'_>, expression: &Expression) -> Meaning {
    let mut meaning = Meaning { yes: vec![], unsure: vec![], needs: vec![], anchor: None, undefined: false };
    let mut anchor = None;
    if let Some((_, of)) = &expression.relation {
        let found = evaluate(facts, of);
        match (&found.yes[..], found.unsure.is_empty() && !found.undefined) {
            ([one], true) if facts.exhaustive(&of.categories) => anchor = Some(*one),
            _ => meaning.undefined = true,
        }
        meaning.needs.extend(found.needs);
    }
    for index in 0..facts.things.len() {
        match fit(facts, expression, anchor, index) {
            Fit::Yes => meaning.yes.push(index),
            Fit::Unsure => meaning.unsure.push(index),
            Fit::No => {}
        }
    }
    meaning.anchor = anchor;
    meaning.needs.extend(&meaning.yes);
    superlative(facts, expression, anchor, &mut meaning);
    meaning.needs.sort_unstable();
    meaning.needs.dedup();
    meaning
}

fn fit(facts: &Facts<'_>, expression: &Expression, anchor: Option<usize>, index: usize) -> Fit {
    let thing = &facts.things[index];
    // In a sequence's other frames there are things that this one does not show at all.
    if thing.area <= 0.0 {
        return Fit::No;
    }
    let mut fit = noun(expression, thing.category);
    if fit == Fit::Yes && !thing.sure {
        fit = Fit::Unsure;
    }
    if let Some(colour) = expression.colour {
        fit = fit.min(match thing.colour {
            Some(own) if own == colour => Fit::Yes,
            Some(_) => Fit::No,
            None if thing.tint.allows(colour) => Fit::Unsure,
            None => Fit::No,
        });
    }
    if let Some(position) = expression.position {
        fit = fit.min(space::at(position, &thing.edges, facts.side));
    }
    if let (Some((relation, _)), Some(anchor)) = (&expression.relation, anchor) {
        let related = || space::related(*relation, &thing.edges, &facts.things[anchor].edges);
        fit = fit.min(if index == anchor { Fit::No } else { related() });
    }
    if let Some(hint) = &expression.hint
        && fit != Fit::No
    {
        fit = fit.min(hinted(facts, hint, index));
    }
    fit
}

fn noun(expression: &Expression, category: Category) -> Fit {
    if expression.foreign.is_some() {
        return Fit::No;
    }
    let named = &expression.categories;
    if named.is_empty() || named.contains(&category) {
        return Fit::Yes;
    }
    let kind_unknown =
        category == Category::Vehicle && named.iter().any(|c| ROAD.contains(c) || *c == Category::Trailer);
    let loosely = is_road(named) && matches!(category, Category::Trailer | Category::Bicycle);
    if kind_unknown || loosely { Fit::Unsure } else { Fit::No }
}

fn hinted(facts: &Facts<'_>, hint: &Hint, index: usize) -> Fit {
    let thing = &facts.things[index];
    match *hint {
        Hint::Point { x, y } => {
            let (px, py) = (x * facts.side, y * facts.side);
            let [x0, y0, x1, y1] = thing.edges;
            if px < x0 || py < y0 || px >= x1 || py >= y1 {
                return Fit::No;
            }
            if thing.weak {
                let inner = |v: f32, a: f32, b: f32| (v - (a + b) / 2.0).abs() < (b - a) * 0.25;
                return if inner(px, x0, x1) && inner(py, y0, y1) { Fit::Yes } else { Fit::Unsure };
            }
            match raster::bits(facts.picture, index) {
                Ok(Some(bits)) if bits[py as usize * facts.side as usize + px as usize] => Fit::Yes,
                Ok(_) => Fit::No,
                Err(_) => Fit::Unsure,
            }
        }
        Hint::Box { x0, y0, x1, y1 } => {
            let hint = [x0, y0, x1, y1].map(|v| v * facts.side);
            let (iou, inside) = space::overlap(&hint, &thing.edges);
            if iou >= 0.45 {
                Fit::Yes
            } else if iou >= 0.2 || inside >= 0.5 {
                Fit::Unsure
            } else {
                Fit::No
            }
        }
    }
}

/// Keeps the winner of "largest", "second from the left" and "closest to", where there is a clear one.
///
/// What may fit takes part as a rival that must not matter: it may neither win nor be counted.
fn superlative(facts: &Facts<'_>, expression: &Expression, anchor: Option<usize>, meaning: &mut Meaning) {
    let things = &facts.things;
    let rivals: Vec<usize> = meaning.yes.iter().chain(&meaning.unsure).copied().collect();
    let mut keep: Option<Option<usize>> = None;
    if let Some(extreme) = expression.size {
        keep = Some(extreme_of(things, meaning, extreme));
    }
    if let Some((number, side)) = expression.ordinal {
        let first = space::first(things, &rivals, number, side, facts.side);
        let counted = first.filter(|f| f.iter().all(|i| meaning.yes.contains(i)));
        keep = Some(counted.and_then(|f| f.last().copied()));
    }
    if let (Some((Relation::Closest, _)), Some(anchor)) = (&expression.relation, anchor) {
        keep = Some(space::closest(things, &rivals, anchor).filter(|w| meaning.yes.contains(w)));
    }
    if let Some(winner) = keep {
        meaning.undefined |= winner.is_none();
        meaning.yes = winner.into_iter().collect();
        meaning.unsure.clear();
    }
}

fn extreme_of(things: &[Thing], meaning: &Meaning, extreme: Extreme) -> Option<usize> {
    let mut order = meaning.yes.clone();
    order.sort_by(|a, b| things[*b].area.total_cmp(&things[*a].area));
    if extreme == Extreme::Smallest {
        order.reverse();
    }
    let [first, second, ..] = order[..] else { return None };
    let (a, b) = (things[first].area, things[second].area);
    let whole = meaning.yes.iter().all(|i| things[*i].visible > 0.7);
    // A cut thing counts with the size that it would have whole; it may rival the largest, and always the smallest.
    let small = |i: &usize| things[*i].area / things[*i].visible.max(0.02) * SIZE_RATIO < a;
    let unrivalled = match extreme {
        Extreme::Largest => meaning.unsure.iter().all(small),
        Extreme::Smallest => meaning.unsure.is_empty(),
    };
    (whole && unrivalled && a.max(b) >= SIZE_RATIO * a.min(b)).then_some(first)
}

/// The right answer to an expression, or `None` when the annotation cannot tell.
pub fn target(facts: &Facts<'_>, expression: &Expression, meaning: &Meaning) -> Option<Target> {
    if meaning.undefined {
        return None;
    }
    let known = expression.hint.is_some() || expression.foreign.is_some() || facts.exhaustive(&expression.categories);
    let (yes, unsure) = (&meaning.yes, &meaning.unsure);
    let area = |list: &[usize]| list.iter().map(|i| facts.things[*i].area).sum::<f32>();
    match (yes.len(), expression.plural) {
        (0, _) => (known && unsure.is_empty() && deniable(facts, expression)).then_some(Target::Absent),
        // A sliver at the edge that may or may not be one of "all cars" does not change their union.
        (_, true) => (known && area(unsure) <= 0.02 * area(yes)).then(|| answer(facts, yes)),
        (1, false) => (known && unsure.is_empty()).then(|| answer(facts, yes)),
        (_, false) => Some(Target::Ambiguous(yes.clone())),
    }
}

fn answer(facts: &Facts<'_>, yes: &[usize]) -> Target {
    if yes.iter().any(|i| facts.things[*i].weak) { Target::Boxes(yes.to_vec()) } else { Target::Masks(yes.to_vec()) }
}

/// Hand-labelled kinds are not told apart well enough to deny one beside another.
fn deniable(facts: &Facts<'_>, expression: &Expression) -> bool {
    let rendered = facts.picture.origin.dataset == "scenes";
    let confused = |c: &Category| facts.things.iter().any(|t| t.category != *c && confusable(*c, t.category));
    let anything = expression.foreign.is_none() && expression.categories.is_empty();
    !anything && (rendered || is_road(&expression.categories) || !expression.categories.iter().any(confused))
}
