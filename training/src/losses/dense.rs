//! The auxiliary dense heads: what stands in every cell, in which colour, and where things' centres are.
//!
//! Words reach the trunk only through a few masks a picture; these labels teach every cell at once.

use serde::Serialize;

use super::sigmoid;
use crate::sample::{Category, Colour};

const BACKGROUND: usize = Category::ALL.len();
pub(super) const COLOUR_FROM: usize = BACKGROUND + 1;
const CENTRE: usize = COLOUR_FROM + Colour::ALL.len() + 1;

/// Outputs of the head: categories, background, colours, "no clear colour", centre.
pub const OUTPUTS: usize = CENTRE + 1;

/// Share of a cell above which it belongs to a thing.
const OWNED: f32 = 0.35;
/// Share below which it is background; between the two it teaches nothing.
const TOUCHED: f32 = 0.03;
/// Deviation of the centre heat in cells.
const CENTRE_SPREAD: f32 = 0.6;
/// Background is most of any picture and easy.
const BACKGROUND_WEIGHT: f32 = 0.15;
/// A token holds few of all names.
const PRESENT_WEIGHT: f32 = 4.0;

/// What is known about one cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
enum Cell {
    Unknown,
    /// Nothing of the exhaustively labelled categories.
    Background,
    /// A thing, with its colour where that is sure.
    Thing(Category, Option<Colour>),
}

/// Labels of a grid of `side²` cells.
#[derive(Debug, Clone, Serialize)]
pub struct Grid {
    side: usize,
    cells: Vec<Cell>,
    owner: Vec<f32>,
    /// Centres of things; all zero where they are not asked for.
    heat: Vec<f32>,
    centres: bool,
    exhaustive: [bool; Category::ALL.len()],
}

impl Grid {
    /// A grid without things in a picture where `exhaustive` categories are fully labelled; `centres` says whether the
    /// centre output is taught too. Where nothing is, what no thing covers is not known, and no colour is denied there.
    pub fn new(side: usize, exhaustive: &[Category], centres: bool) -> Self {
        let known = Category::ALL.map(|c| exhaustive.contains(&c));
        let empty = if exhaustive.is_empty() { Cell::Unknown } else { Cell::Background };
        let (cells, zeros) = (vec![empty; side * side], vec![0.0; side * side]);
        Self { side, cells, owner: zeros.clone(), heat: zeros, centres, exhaustive: known }
    }

    /// Adds a thing by the share of each cell it covers (`[side²]`). `outline` is false for a filled box, whose cells
    /// near its edge may show something else.
    pub fn add(&mut self, category: Category, colour: Option<Colour>, coverage: &[f32], outline: bool) {
        let Some((x, y)) = self.centre(coverage) else { return };
        let nearest = (y as usize).min(self.side - 1) * self.side + (x as usize).min(self.side - 1);
        if self.centres {
            self.warm(x, y);
        }
        for (at, &share) in coverage.iter().enumerate() {
            // The centre cell of a thing smaller than a cell still names it.
            let share = if at == nearest { share.max(OWNED) } else { share };
            let sure = share >= OWNED && (outline || share > 0.9 || at == nearest);
            if sure && share > self.owner[at] {
                self.owner[at] = share;
                self.cells[at] = Cell::Thing(category, colour);
            } else if share > TOUCHED && self.cells[at] == Cell::Background {
                self.cells[at] = Cell::Unknown;
            }
        }
    }

    /// Heat around a centre at `(x, y)` cells.
    fn warm(&mut self, x: f32, y: f32) {
        for (at, held) in self.heat.iter_mut().enumerate() {
            let (dx, dy) = ((at % self.side) as f32 + 0.5 - x, (at / self.side) as f32 + 0.5 - y);
            let heat = (-(dx * dx + dy * dy) / (2.0 * CENTRE_SPREAD * CENTRE_SPREAD)).exp();
            *held = held.max(if heat > 0.05 { heat } else { 0.0 });
        }
    }

    fn centre(&self, coverage: &[f32]) -> Option<(f32, f32)> {
        let (mut sum, mut x, mut y) = (0.0, 0.0, 0.0);
        for (at, &share) in coverage.iter().enumerate() {
            sum += share;
            x += share * ((at % self.side) as f32 + 0.5);
            y += share * ((at / self.side) as f32 + 0.5);
        }
        (sum > 0.0).then(|| (x / sum, y / sum))
    }

    /// Loss of the head's `logits [side², outputs]` (`outputs ≥` [`OUTPUTS`]), a weighted mean over cells.
    pub fn loss(&self, logits: &[f32], outputs: usize, weight: f32, gradient: &mut [f32]) -> f32 {
        let things = self.cells.iter().filter(|c| matches!(c, Cell::Thing(..))).count() as f32;
        let scale = weight / (things + BACKGROUND_WEIGHT * self.cells.len() as f32);
        let centre_scale = weight / (self.heat.iter().sum::<f32>() + 0.02 * self.cells.len() as f32);
        let all_known = self.exhaustive.iter().filter(|k| **k).count() as f32 / Category::ALL.len() as f32;
        let mut sum = 0.0;
        for (at, cell) in self.cells.iter().enumerate() {
            let row = at * outputs..(at + 1) * outputs;
            let (z, g) = (&logits[row.clone()], &mut gradient[row]);
            match *cell {
                Cell::Unknown => {}
                Cell::Background => {
                    // Something that nobody labelled here may well stand on it.
                    let allowed = |k: usize| k == BACKGROUND || !self.exhaustive.get(k).copied().unwrap_or(true);
                    sum += one_of(&z[..=BACKGROUND], allowed, scale * BACKGROUND_WEIGHT, &mut g[..=BACKGROUND]);
                }
                Cell::Thing(category, colour) => {
                    let is = |k: usize| Category::ALL.get(k) == Some(&category);
                    sum += one_of(&z[..=BACKGROUND], is, scale, &mut g[..=BACKGROUND]);
                    let named = |k: usize| Colour::ALL.get(k).copied() == colour;
                    sum += one_of(&z[COLOUR_FROM..CENTRE], named, 0.5 * scale, &mut g[COLOUR_FROM..CENTRE]);
                }
            }
            let heat = self.heat[at];
            let share = if heat > 0.0 || matches!(cell, Cell::Thing(..)) { 1.0 } else { all_known };
            if self.centres && (*cell != Cell::Unknown || heat > 0.0) {
                sum += focal(z[CENTRE], heat, centre_scale * share, &mut g[CENTRE]);
            }
        }
        sum
    }

    /// Loss of image tokens' `logits [(side/2)², outputs]`, each over a block of 2×2 cells: which categories and colours
    /// are in it, yes or no.
    pub fn token_loss(&self, logits: &[f32], outputs: usize, weight: f32, gradient: &mut [f32]) -> f32 {
        let tokens = self.side / 2;
        let scale = weight / (tokens * tokens) as f32;
        let mut sum = 0.0;
        for token in 0..tokens * tokens {
            let first = token / tokens * 2 * self.side + token % tokens * 2;
            let block = [first, first + 1, first + self.side, first + self.side + 1].map(|at| self.cells[at]);
            let row = token * outputs;
            let mut teach = |output: usize, holds: bool| {
                let (loss, slope) = super::binary(logits[row + output], f32::from(holds));
                let share = scale * if holds { PRESENT_WEIGHT } else { 1.0 };
                gradient[row + output] += share * slope;
                sum += share * loss;
            };
            let sure = !block.contains(&Cell::Unknown);
            for (output, category) in Category::ALL.iter().enumerate() {
                let holds = block.iter().any(|c| matches!(c, Cell::Thing(k, _) if k == category));
                if holds || (sure && self.exhaustive[output]) {
                    teach(output, holds);
                }
            }
            for (output, colour) in Colour::ALL.iter().enumerate() {
                let holds = block.iter().any(|c| matches!(c, Cell::Thing(_, Some(k)) if k == colour));
                let unclear = block.iter().any(|c| matches!(c, Cell::Thing(_, None)));
                if holds || (sure && !unclear) {
                    teach(COLOUR_FROM + output, holds);
                }
            }
        }
        sum
    }
}

/// `−weight · ln Σ_{k allowed} softmax(z)_k`.
pub(super) fn one_of(z: &[f32], allowed: impl Fn(usize) -> bool, weight: f32, gradient: &mut [f32]) -> f32 {
    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = z.iter().map(|x| (x - top).exp()).collect();
    let all: f32 = powers.iter().sum();
    let right: f32 = powers.iter().enumerate().filter(|(k, _)| allowed(*k)).map(|(_, p)| p).sum::<f32>().max(1e-30);
    for (k, p) in powers.iter().enumerate() {
        gradient[k] += weight * (p / all - if allowed(k) { p / right } else { 0.0 });
    }
    weight * (all.ln() - right.ln())
}

pub(super) fn focal(z: f32, target: f32, weight: f32, gradient: &mut f32) -> f32 {
    let (entropy, miss) = super::binary(z, target);
    let p = sigmoid(z);
    *gradient += weight * (2.0 * miss * p * (1.0 - p) * entropy + miss * miss * miss);
    weight * miss * miss * entropy
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(4, &[Category::Car, Category::Building], true);
        let mut car = vec![0.0; 16];
        (car[5], car[6]) = (0.9, 0.2);
        grid.add(Category::Car, Some(Colour::Red), &car, true);
        let mut tiny = vec![0.0; 16];
        tiny[15] = 0.05;
        grid.add(Category::Building, None, &tiny, true);
        grid
    }

    #[test]
    fn cells_belong_to_things_by_their_share() {
        let grid = grid();
        assert_eq!(grid.cells[5], Cell::Thing(Category::Car, Some(Colour::Red)));
        assert_eq!(grid.cells[6], Cell::Unknown);
        assert_eq!(grid.cells[15], Cell::Thing(Category::Building, None), "a thing smaller than a cell has one");
        assert_eq!(grid.cells[0], Cell::Background);
    }

    #[test]
    fn gradient_is_the_derivative() {
        let grid = grid();
        let logits: Vec<f32> = (0..16 * OUTPUTS).map(|i| ((i * 31) % 17) as f32 * 0.2 - 1.6).collect();
        let mut gradient = vec![0.0; logits.len()];
        grid.loss(&logits, OUTPUTS, 10.0, &mut gradient);
        check::differences(&logits, &gradient, |x| grid.loss(x, OUTPUTS, 10.0, &mut vec![0.0; x.len()]));
        let logits = &logits[..4 * OUTPUTS];
        let mut gradient = vec![0.0; logits.len()];
        grid.token_loss(logits, OUTPUTS, 10.0, &mut gradient);
        check::differences(logits, &gradient, |x| grid.token_loss(x, OUTPUTS, 10.0, &mut vec![0.0; x.len()]));
    }

    #[test]
    fn a_picture_of_which_nothing_is_labelled_teaches_no_dense_head() {
        let grid = Grid::new(4, &[], true);
        let logits: Vec<f32> = (0..16 * OUTPUTS).map(|i| ((i * 31) % 17) as f32 * 0.2 - 1.6).collect();
        let mut gradient = vec![0.0; logits.len()];
        let losses = [
            grid.loss(&logits, OUTPUTS, 1.0, &mut gradient),
            grid.token_loss(&logits[..4 * OUTPUTS], OUTPUTS, 1.0, &mut gradient[..4 * OUTPUTS]),
        ];
        assert!(losses == [0.0; 2] && gradient.iter().all(|slope| *slope == 0.0), "{losses:?}");
    }

    #[test]
    fn an_unlabelled_category_is_no_error_on_background() {
        let grid = Grid::new(1, &[Category::Car], true);
        let cost = |k: usize| {
            let mut z = vec![-10.0; OUTPUTS];
            z[k] = 10.0;
            grid.loss(&z, OUTPUTS, 1.0, &mut [0.0; OUTPUTS])
        };
        let (car, tree) = (cost(0), cost(9));
        assert!(car > 100.0 * tree.max(1e-6), "car is labelled here ({car}), tree is not ({tree})");
    }
}
