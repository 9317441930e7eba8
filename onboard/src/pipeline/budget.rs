//! How many views an answer may use where a budget bounds them.

use std::time::Duration;

use kestrel_perception::Tiling;
use kestrel_perception::tiling::{MOST_TILES, Pace, TileOptions, affordable};

use super::timings::Timings;
use super::{Look, Segmenter};

/// The budget of a segmenter. What views have cost is measured, so the number that it comes to belongs to the record of a
/// flight and is taken from there in a replay.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pace: Pace,
    /// Views of one answer about the last frame.
    held: u32,
    /// Views of one answer about the next frames, whatever the measurements say.
    given: Option<u32>,
}

impl Budget {
    /// Views of one answer about the next frame, the overview among them; `None` where the tiling has no budget.
    pub(super) fn views(&mut self, tiling: Tiling, options: &TileOptions) -> Option<u32> {
        if !tiling.is_budgeted() {
            return None;
        }
        if let Some(given) = self.given {
            return Some(given.clamp(1, MOST_TILES + 1));
        }
        let cost = self.pace.view_millis();
        let fit = affordable(options.budget_millis, cost, self.held);
        let views = fit.min(options.most_views).clamp(1, MOST_TILES + 1);
        if views != self.held {
            let (cost, budget) = (cost.unwrap_or_default(), options.budget_millis);
            tracing::info!("{views} views an answer: {cost:.1} ms each, budget {budget} ms (0: none)");
            self.held = views;
        }
        Some(views)
    }

    /// Fixes the number of views; `None` goes back to what is measured.
    pub(super) fn give(&mut self, views: Option<u32>) {
        self.given = views;
    }

    /// Takes in that so many views were seen together.
    pub(super) fn saw(&mut self, views: u32, before: &Timings, after: &Timings) {
        self.pace.saw(views, millis(seeing(after), seeing(before)));
    }

    /// Takes in that a view was asked about, and seen if it was not seen before.
    pub(super) fn asked(&mut self, before: &Timings, after: &Timings) {
        self.saw(after.runs[0] - before.runs[0], before, after);
        self.pace.said(1, millis(saying(after), saying(before)));
    }
}

impl Segmenter {
    /// Fixes how many views an answer may use, as [`Look::most_views`] gave it in another flight; `None` lets the measured
    /// cost of views and the budget decide again.
    pub fn set_most_views(&mut self, views: Option<u32>) {
        self.budget.give(views);
    }

    /// How many views the engine sees in one run at most.
    #[must_use]
    pub fn views_per_run(&self) -> usize {
        self.engine.views_per_run()
    }
}

impl Look<'_> {
    /// How many views one answer about the frame may use, the overview among them; `None` where the tiling has no budget.
    ///
    /// It follows from how long views took before, so outcomes depend on it.
    #[must_use]
    pub fn most_views(&self) -> Option<u32> {
        self.most_views
    }
}

fn seeing(timings: &Timings) -> Duration {
    timings.preprocess + timings.vision
}

fn saying(timings: &Timings) -> Duration {
    timings.language + timings.mask + timings.postprocess
}

fn millis(after: Duration, before: Duration) -> f32 {
    after.saturating_sub(before).as_secs_f32() * 1e3
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(budget: &mut Budget, millis: u64) {
        let half = Duration::from_millis(millis) / 2;
        let after = Timings { vision: half, language: half, runs: [1, 1, 1], ..Timings::default() };
        budget.asked(&Timings::default(), &after);
    }

    #[test]
    fn views_follow_their_measured_cost_within_the_bounds() {
        let options = TileOptions { budget_millis: 1000, most_views: 12, ..TileOptions::default() };
        let mut budget = Budget::default();
        assert_eq!(budget.views(Tiling::Auto, &options), None);
        assert_eq!(budget.views(Tiling::Grid, &options), Some(12), "nothing was measured");
        for _ in 0..100 {
            asked(&mut budget, 200);
        }
        assert_eq!(budget.views(Tiling::Grid, &options), Some(5));
        for _ in 0..100 {
            asked(&mut budget, 5000);
        }
        assert_eq!(budget.views(Tiling::CoarseToFine, &options), Some(1), "the overview is always looked at");
    }

    /// What would break: a replay that looks at other tiles than the flight did, because its processor was busier.
    #[test]
    fn a_number_that_is_given_is_not_measured() {
        let mut budget = Budget::default();
        asked(&mut budget, 900);
        budget.give(Some(7));
        assert_eq!(budget.views(Tiling::Grid, &TileOptions::default()), Some(7));
        assert_eq!(budget.views(Tiling::Never, &TileOptions::default()), None);
        budget.give(None);
        assert_eq!(budget.views(Tiling::Grid, &TileOptions::default()), Some(1));
    }
}
