//! How many views fit into a time: a moving estimate of what one view costs.

/// Weight of the newest measurement in the moving mean.
const NEWEST: f32 = 0.125;

/// How much more time than is measured a further view must find before it is added: costs that waver must not make the
/// plan waver with them.
const SLACK: f32 = 1.15;

/// What views have cost. A function of what it is told; it reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Preparing a view and the vision graph, milliseconds a view.
    seeing: Option<f32>,
    /// Language, mask and what is made of them, milliseconds a view.
    saying: Option<f32>,
}

impl Pace {
    /// Takes in that `views` views were seen in so many milliseconds together.
    pub fn saw(&mut self, views: u32, millis: f32) {
        self.seeing = moved(self.seeing, views, millis);
    }

    /// Takes in that words were put to `views` views in so many milliseconds together.
    pub fn said(&mut self, views: u32, millis: f32) {
        self.saying = moved(self.saying, views, millis);
    }

    /// What a view costs that is seen and asked, in milliseconds; `None` before both were measured.
    #[must_use]
    pub fn view_millis(&self) -> Option<f32> {
        Some(self.seeing? + self.saying?)
    }
}

fn moved(mean: Option<f32>, views: u32, millis: f32) -> Option<f32> {
    let each = millis / views as f32;
    if views == 0 || !each.is_finite() || each < 0.0 {
        return mean;
    }
    Some(mean.map_or(each, |mean| mean + (each - mean) * NEWEST))
}

/// How many views fit into `budget_millis` when each costs `view_millis`, at least one: the overview is always looked at.
///
/// `held` is how many fitted before: fewer are told at once, more only when there is some time to spare. 0 milliseconds of
/// budget set no bound, nor does a cost that is not known.
#[must_use]
pub fn affordable(budget_millis: u32, view_millis: Option<f32>, held: u32) -> u32 {
    let (Some(cost), 1..) = (view_millis, budget_millis) else { return u32::MAX };
    // A conversion that is too large, or no number, ends at the largest or at 0.
    let fit = |cost: f32| (f64::from(budget_millis) / f64::from(cost)).floor() as u32;
    let now = fit(cost);
    let views = if now <= held { now } else { fit(cost * SLACK).max(held) };
    views.max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_estimate_follows_what_is_measured() {
        let mut pace = Pace::default();
        assert_eq!(pace.view_millis(), None);
        pace.saw(1, 60.0);
        assert_eq!(pace.view_millis(), None, "a view that is not asked is half a view");
        pace.said(2, 80.0);
        assert_eq!(pace.view_millis(), Some(100.0));
        for _ in 0..100 {
            pace.saw(4, 400.0);
        }
        let cost = pace.view_millis().unwrap();
        assert!((139.0..140.1).contains(&cost), "{cost}");
        let before = pace;
        pace.saw(0, 5.0);
        pace.said(1, f32::NAN);
        assert_eq!(pace, before, "what is no measurement changes nothing");
    }

    #[test]
    fn costs_that_waver_leave_the_plan_alone() {
        assert_eq!(affordable(1000, Some(100.0), 0), 8);
        assert_eq!(affordable(1000, Some(96.0), 9), 9, "a tenth view fits, but hardly");
        assert_eq!(affordable(1000, Some(80.0), 9), 10);
        assert_eq!(affordable(1000, Some(125.0), 9), 8, "dearer views are fewer at once");
        assert_eq!(affordable(10, Some(125.0), 9), 1, "the overview is always looked at");
    }

    #[test]
    fn no_budget_and_no_measurement_set_no_bound() {
        assert_eq!(affordable(0, Some(100.0), 3), u32::MAX);
        assert_eq!(affordable(1000, None, 3), u32::MAX);
    }

    proptest! {
        #[test]
        fn never_over_budget_and_never_fewer_for_more(budget in 1_u32..100_000, cost in 0.01_f32..10_000.0, held in 0_u32..60) {
            let views = affordable(budget, Some(cost), held);
            prop_assert!(views == 1 || f64::from(views) * f64::from(cost) <= f64::from(budget) * (1.0 + 1e-6));
            prop_assert!(affordable(budget + budget / 2, Some(cost), held) >= views);
            prop_assert!(affordable(budget, Some(cost * 2.0), held) <= views);
        }
    }
}
