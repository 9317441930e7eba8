//! Where the overview looks: which tiles are worth a closer look when not all of them can have one.
//!
//! The mask graph gives every cell of the overview a logit that it belongs to what the words mean, also where the answer is
//! that nothing does; the vision graph, a probability that a thing stands there. A target too small for the overview may
//! leave a trace in both. Their odds are multiplied, as those of two witnesses who have not spoken with each other.

use crate::error::Error;
use crate::preprocess::{Letterbox, View};
use crate::proposals::LEAST_SCORE;

/// What the overview says of its cells.
#[derive(Debug, Clone, Copy)]
pub struct Heat<'a> {
    /// Where the overview lies.
    pub letterbox: &'a Letterbox,
    /// Mask logits, `side` × `side` over the model's input, row-major.
    pub logits: &'a [f32],
    /// Cells along one side.
    pub side: usize,
    /// Things that stand out: left, top, right, bottom as fractions of the model's input, each with its probability.
    pub things: &'a [([f32; 4], f32)],
}

impl Heat<'_> {
    /// The hottest `tiles`, at most `most`, hottest first.
    ///
    /// Again and again the hottest cell that no chosen tile sees is given the tile in whose middle it lies best, so that a
    /// target is not cut by the tile's edge; of equal cells the first counts.
    ///
    /// # Errors
    /// When there are not `side²` logits, or one is not finite.
    pub fn hottest(&self, tiles: &[View], most: usize) -> Result<Vec<usize>, Error> {
        let mut left = self.cells()?;
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < most.min(tiles.len()) {
            let hottest = left.iter().reduce(|best, cell| if cell.heat > best.heat { cell } else { best });
            let Some(&Cell { x, y, .. }) = hottest else { break };
            let off_centre = |tile: &View| {
                let across = (x - tile.x) / tile.width - 0.5;
                let down = (y - tile.y) / tile.height - 0.5;
                across.abs().max(down.abs())
            };
            let best = (0..tiles.len())
                .filter(|index| sees(&tiles[*index], x, y))
                .min_by(|&one, &two| off_centre(&tiles[one]).total_cmp(&off_centre(&tiles[two])));
            match best {
                Some(index) => {
                    left.retain(|cell| !sees(&tiles[index], cell.x, cell.y));
                    chosen.push(index);
                }
                // Only where the tiles leave a hole.
                None => left.retain(|cell| (cell.x, cell.y) != (x, y)),
            }
        }
        Ok(chosen)
    }

    /// The cells that show the frame, in reading order.
    fn cells(&self) -> Result<Vec<Cell>, Error> {
        const OPERATION: &str = "rank tiles";
        let (logits, side) = (self.logits, self.side);
        if side == 0 || logits.len() != side * side {
            let expected = format!("{side}×{side} logits");
            return Err(Error::Shape { operation: OPERATION, expected, got: logits.len().to_string() });
        }
        let count = logits.iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            return Err(Error::NotFinite { operation: OPERATION, count });
        }
        let nothing = logit(LEAST_SCORE);
        let view = self.letterbox.view;
        let mut cells = Vec::with_capacity(logits.len());
        for (at, &meant) in logits.iter().enumerate() {
            let centre = |cell: usize| (cell as f32 + 0.5) / side as f32;
            let (across, down) = (centre(at % side), centre(at / side));
            let size = self.letterbox.size as f32;
            let (x, y) = self.letterbox.to_frame(across * size, down * size);
            if !sees(&view, x, y) {
                continue;
            }
            let inside = |[x0, y0, x1, y1]: [f32; 4]| (x0..=x1).contains(&across) && (y0..=y1).contains(&down);
            let stands = self.things.iter().filter(|(edges, _)| inside(*edges)).map(|&(_, score)| logit(score));
            cells.push(Cell { x, y, heat: meant + stands.fold(nothing, f32::max) });
        }
        Ok(cells)
    }
}

/// A cell by its centre in frame pixels.
#[derive(Debug, Clone, Copy)]
struct Cell {
    x: f32,
    y: f32,
    heat: f32,
}

fn sees(view: &View, x: f32, y: f32) -> bool {
    (view.x..view.x + view.width).contains(&x) && (view.y..view.y + view.height).contains(&y)
}

/// Logarithm of the odds; finite for every probability.
fn logit(probability: f32) -> f32 {
    let probability = probability.clamp(1e-6, 1.0 - 1e-6);
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::grid::Grid;
    use super::*;
    use proptest::prelude::*;

    const SIDE: usize = 32;
    const FRAME: [u32; 2] = [1600, 900];
    const GRID: Grid = Grid { columns: 4, rows: 2 };

    fn overview() -> Letterbox {
        Letterbox::new(View::whole(FRAME[0], FRAME[1]), 512)
    }

    /// Logits that are low but for these places of the frame.
    fn logits(warm: &[(f32, f32, f32)]) -> Vec<f32> {
        let mut logits = vec![-8.0; SIDE * SIDE];
        for &(x, y, logit) in warm {
            let (x, y) = overview().to_model(x, y);
            let cell = |value: f32| (value * SIDE as f32 / 512.0) as usize;
            logits[cell(y) * SIDE + cell(x)] = logit;
        }
        logits
    }

    fn hottest(logits: &[f32], things: &[([f32; 4], f32)], most: usize) -> Vec<usize> {
        let heat = Heat { letterbox: &overview(), logits, side: SIDE, things };
        heat.hottest(&GRID.views(FRAME, 0.125), most).unwrap()
    }

    #[test]
    fn tiles_go_where_the_mask_is_warm() {
        let warm = logits(&[(1500.0, 800.0, -2.0), (100.0, 100.0, -3.0)]);
        assert_eq!(hottest(&warm, &[], 2), [7, 0]);
        assert_eq!(hottest(&warm, &[], 1), [7]);
        assert_eq!(hottest(&warm, &[], 0), Vec::<usize>::new());
    }

    #[test]
    fn a_place_that_two_tiles_see_has_the_one_that_does_not_cut_it() {
        let views = GRID.views(FRAME, 0.5);
        let overlap = (views[1].x + views[0].x + views[0].width) / 2.0;
        let warm = logits(&[(overlap + 60.0, 200.0, 0.0)]);
        let heat = Heat { letterbox: &overview(), logits: &warm, side: SIDE, things: &[] };
        assert_eq!(heat.hottest(&views, 1).unwrap(), [1]);
    }

    #[test]
    fn what_stands_out_draws_tiles_where_words_say_nothing() {
        let flat = vec![-8.0; SIDE * SIDE];
        let (x, y) = overview().to_model(1000.0, 100.0);
        let (x, y) = (x / 512.0, y / 512.0);
        assert_eq!(hottest(&flat, &[([x - 0.02, y - 0.02, x + 0.02, y + 0.02], 0.6)], 1), [2]);
    }

    #[test]
    fn broken_logits_are_errors() {
        let tiles = GRID.views(FRAME, 0.0);
        let letterbox = overview();
        let heat = |logits: &[f32]| Heat { letterbox: &letterbox, logits, side: SIDE, things: &[] }.hottest(&tiles, 3);
        assert!(heat(&[0.0; 3]).is_err());
        let mut broken = vec![0.0; SIDE * SIDE];
        broken[5] = f32::NAN;
        assert!(heat(&broken).is_err());
    }

    proptest! {
        /// What would break: a budget that is not kept, or spent on the same place twice.
        #[test]
        fn tiles_are_chosen_once_and_more_tiles_only_add(
            logits in prop::collection::vec(-9.0_f32..5.0, SIDE * SIDE), most in 0_usize..12,
        ) {
            let (some, more) = (hottest(&logits, &[], most), hottest(&logits, &[], most + 1));
            prop_assert!(some.len() <= most);
            prop_assert_eq!(&some[..], &more[..some.len()]);
            let mut apart = more.clone();
            apart.sort_unstable();
            apart.dedup();
            prop_assert_eq!(apart.len(), more.len());
            if most > 0 {
                let warmest = (0..SIDE * SIDE)
                    .map(|at| {
                        let centre = |cell: usize| (cell as f32 + 0.5) * 512.0 / SIDE as f32;
                        (overview().to_frame(centre(at % SIDE), centre(at / SIDE)), logits[at])
                    })
                    .filter(|&((x, y), _)| sees(&View::whole(FRAME[0], FRAME[1]), x, y))
                    .max_by(|one, two| one.1.total_cmp(&two.1));
                let ((x, y), _) = warmest.unwrap();
                prop_assert!(sees(&GRID.views(FRAME, 0.125)[some[0]], x, y));
            }
        }
    }
}
