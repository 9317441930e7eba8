//! What stands out, and which of it is meant.

use kestrel_perception::proposals::{GEOMETRY, NAMES, Proposal, SPOT, geometry, iou};
use serde::{Deserialize, Serialize};

use super::binary;
use super::dense::focal;
use crate::sample::{Category, Colour};

/// Deviation of a centre's heat, as a share of the thing's shorter side, and its bounds in cells.
const SPREAD: f32 = 0.12;
const SPREADS: (f32, f32) = (0.5, 2.0);
/// Heat from which a cell's names and geometry are taught.
const NEAR_CENTRE: f32 = 0.4;
/// Share of names that a thing does not have: most are such.
const UNNAMED: f32 = 0.25;
/// Least IoU of a proposal with the thing that it stands for …
const OVERLAP: f32 = 0.3;
/// … or largest distance of their centres, in shares of the thing's size.
const OFFSET: f32 = 0.25;

/// A labelled thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    /// What it is.
    pub category: Category,
    /// Its colour, where the rule is sure.
    pub colour: Option<Colour>,
    /// Left, top, right, bottom as fractions of the picture.
    pub edges: [f32; 4],
}

/// What is known of every spot.
#[derive(Debug, Clone, Serialize)]
pub struct Spots {
    side: usize,
    things: Vec<Thing>,
    heat: Vec<f32>,
    /// The thing whose heat it is.
    owner: Vec<Option<usize>>,
    /// How sure it is that nothing unlabelled is there.
    sure: Vec<f32>,
}

impl Spots {
    /// Labels of `side²` spots for `things`, in a picture where this share of all categories is fully labelled.
    pub fn new(side: usize, things: Vec<Thing>, known: f32) -> Self {
        let cells = side * side;
        let mut spots = Self {
            side,
            things: Vec::new(),
            heat: vec![0.0; cells],
            owner: vec![None; cells],
            sure: vec![known; cells],
        };
        for (index, thing) in things.iter().enumerate() {
            spots.warm(index, &thing.edges.map(|edge| edge * side as f32));
        }
        Self { things, ..spots }
    }

    /// Heat around the centre of a box given in cells, which is 1 in the centre's own cell.
    fn warm(&mut self, index: usize, [x0, y0, x1, y1]: &[f32; 4]) {
        let (x, y) = (0.5 * (x0 + x1), 0.5 * (y0 + y1));
        let spread = ((x1 - x0).min(y1 - y0) * SPREAD).clamp(SPREADS.0, SPREADS.1);
        let own = |v: f32| (v as usize).min(self.side - 1);
        let (cx, cy) = (own(x), own(y));
        let reach = (3.0 * spread).ceil() as usize;
        for row in cy.saturating_sub(reach)..(cy + reach + 1).min(self.side) {
            for column in cx.saturating_sub(reach)..(cx + reach + 1).min(self.side) {
                let (dx, dy) = (column as f32 - cx as f32, row as f32 - cy as f32);
                let heat = (-(dx * dx + dy * dy) / (2.0 * spread * spread)).exp();
                let at = row * self.side + column;
                if heat > self.heat[at].max(0.05) {
                    self.heat[at] = heat;
                    self.owner[at] = Some(index);
                }
            }
        }
        for row in own(*y0)..=own(*y1) {
            for column in own(*x0)..=own(*x1) {
                self.sure[row * self.side + column] = 1.0;
            }
        }
    }

    /// Loss of `spots [side², SPOT]`.
    pub fn loss(&self, spots: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
        let scale = weight / (self.things.len() as f32 + 1.0);
        let near: f32 = self.heat.iter().filter(|h| **h >= NEAR_CENTRE).sum::<f32>() + 1.0;
        let mut sum = 0.0;
        for (at, &heat) in self.heat.iter().enumerate() {
            let row = at * SPOT..(at + 1) * SPOT;
            let (z, g) = (&spots[row.clone()], &mut gradient[row]);
            let share = if heat > 0.0 { 1.0 } else { self.sure[at] };
            sum += focal(z[0], heat, scale * share, &mut g[0]);
            if let Some(thing) = self.owner[at].filter(|_| heat >= NEAR_CENTRE).and_then(|of| self.things.get(of)) {
                let each = weight * heat / near;
                let wanted = geometry(&thing.edges, at, self.side);
                for ((z, wanted), g) in z[1..GEOMETRY].iter().zip(wanted).zip(&mut g[1..GEOMETRY]) {
                    sum += distance(z - wanted, 0.5 * each, g);
                }
                sum += names(thing, &z[GEOMETRY..], each, &mut g[GEOMETRY..]);
            }
        }
        sum
    }
}

/// `weight · (√(1 + d²) − 1)`: near zero the square, far away the distance.
fn distance(d: f32, weight: f32, gradient: &mut f32) -> f32 {
    let root = (1.0 + d * d).sqrt();
    *gradient += weight * d / root;
    weight * (root - 1.0)
}

/// Whether a category is taught as absent where a thing is `is`: NWPU's "vehicle" may be any of four.
fn excluded(is: Category, other: Category) -> bool {
    use Category as C;
    let road = |c| matches!(c, C::Car | C::Van | C::Truck | C::Bus);
    is != other && !(is == C::Vehicle && road(other)) && !(other == C::Vehicle && road(is))
}

/// Independent names: several may fit a thing.
fn names(thing: &Thing, z: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let mut sum = 0.0;
    let mut teach = |at: usize, holds: bool| {
        let (loss, slope) = binary(z[at], f32::from(holds));
        let share = weight * if holds { 1.0 } else { UNNAMED };
        gradient[at] += share * slope;
        sum += share * loss;
    };
    for (at, &category) in Category::ALL.iter().enumerate() {
        if category == thing.category || excluded(thing.category, category) {
            teach(at, category == thing.category);
        }
    }
    if let Some(colour) = thing.colour {
        Colour::ALL.iter().enumerate().for_each(|(at, c)| teach(Category::ALL.len() + at, *c == colour));
    }
    sum
}

/// The thing that each proposal stands for.
pub fn owners(proposals: &[Proposal], things: &[Thing]) -> Vec<Option<usize>> {
    let centre = |e: &[f32; 4]| [0.5 * (e[0] + e[2]), 0.5 * (e[1] + e[3])];
    let owner = |proposal: &Proposal| {
        let [x, y] = centre(&proposal.edges);
        let fits = things.iter().enumerate().filter_map(|(index, thing)| {
            let overlap = iou(&proposal.edges, &thing.edges);
            let [tx, ty] = centre(&thing.edges);
            let [x0, y0, x1, y1] = thing.edges;
            let near = (x - tx).abs() <= OFFSET * (x1 - x0) && (y - ty).abs() <= OFFSET * (y1 - y0);
            (overlap >= OVERLAP || (near && overlap > 0.1)).then_some((index, overlap))
        });
        fits.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
    };
    proposals.iter().map(owner).collect()
}

/// Loss of pointer logits `z`, the first of them of the proposals: those that stand for a target should be meant, the
/// others not.
pub fn pointing(z: &[f32], owners: &[Option<usize>], targets: &[usize], weight: f32, gradient: &mut [f32]) -> f32 {
    let meant = |owner: &Option<usize>| owner.is_some_and(|of| targets.contains(&of));
    let positives = owners.iter().filter(|o| meant(o)).count() as f32;
    let each = weight / (positives + 2.0);
    let mut sum = 0.0;
    for ((&z, owner), g) in z.iter().zip(owners).zip(gradient) {
        let (loss, slope) = binary(z, f32::from(meant(owner)));
        *g += each * slope;
        sum += each * loss;
    }
    sum
}

/// Names as a detector would give them for a thing that nobody saw: right as a rule, and not always sure. `normal` draws
/// numbers of mean 0 and deviation 1, `uniform` from 0..1.
pub fn imagined_names(
    thing: &Thing,
    mut normal: impl FnMut() -> f32,
    mut uniform: impl FnMut() -> f32,
) -> [f32; NAMES] {
    let mut names = [0.0; NAMES];
    // Now and then the wrong name.
    let mistaken = uniform() < 0.04;
    for (name, category) in names.iter_mut().zip(Category::ALL) {
        let mean = match (category == thing.category, excluded(thing.category, category)) {
            (true, _) if !mistaken => 2.5,
            (_, false) => 0.0,
            _ => -3.5,
        };
        *name = mean + 1.3 * normal();
    }
    for (name, colour) in names[Category::ALL.len()..].iter_mut().zip(Colour::ALL) {
        let mean = match thing.colour {
            Some(own) if own == colour => 2.2,
            Some(_) => -3.2,
            None => -1.8,
        };
        *name = mean + 1.3 * normal();
    }
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::check;
    use super::*;
    use kestrel_perception::proposals::pick;

    fn things() -> Vec<Thing> {
        let car = Thing { category: Category::Car, colour: Some(Colour::Red), edges: [0.1, 0.1, 0.25, 0.2] };
        let field = Thing { category: Category::Vehicle, colour: None, edges: [0.4, 0.3, 0.9, 0.95] };
        vec![car, field]
    }

    #[test]
    fn gradients_are_the_derivatives() {
        let spots = Spots::new(6, things(), 0.5);
        let z: Vec<f32> = (0..36 * SPOT).map(|i| ((i * 31) % 17) as f32 * 0.2 - 1.6).collect();
        let mut gradient = vec![0.0; z.len()];
        spots.loss(&z, 5.0, &mut gradient);
        check::differences(&z, &gradient, |x| spots.loss(x, 5.0, &mut vec![0.0; x.len()]));
        let z = [0.3, -0.7, 1.1];
        let owners = [Some(1), None, Some(0)];
        let mut gradient = [0.0; 3];
        pointing(&z, &owners, &[0], 3.0, &mut gradient);
        check::differences(&z, &gradient, |x| pointing(x, &owners, &[0], 3.0, &mut [0.0; 3]));
    }

    #[test]
    fn descending_the_loss_finds_the_things() {
        let (side, things) = (16, things());
        let labels = Spots::new(side, things.clone(), 1.0);
        let mut z = vec![0.0; side * side * SPOT];
        for _ in 0..400 {
            let mut gradient = vec![0.0; z.len()];
            labels.loss(&z, 20.0, &mut gradient);
            z.iter_mut().zip(gradient).for_each(|(z, g)| *z -= g);
        }
        let picked = pick(&z, side).unwrap();
        assert_eq!(picked.len(), 2);
        let owners = owners(&picked, &things);
        assert!(owners.contains(&Some(0)) && owners.contains(&Some(1)));
        for (proposal, owner) in picked.iter().zip(owners) {
            assert!(iou(&proposal.edges, &things[owner.unwrap()].edges) > 0.9, "{proposal:?}");
        }
    }

    #[test]
    fn a_vehicle_of_unknown_kind_is_no_proof_against_any() {
        let is_taught = |at: usize, thing: &Thing| {
            let mut gradient = [0.0; NAMES];
            names(thing, &[0.0; NAMES], 1.0, &mut gradient);
            gradient[at] != 0.0
        };
        let vehicle = things()[1];
        assert!(!is_taught(0, &vehicle) && is_taught(4, &vehicle) && is_taught(8, &vehicle));
        assert!(!is_taught(Category::ALL.len(), &vehicle), "its colour is not known");
    }
}
