//! How far a position may be wrong: a covariance in the plane, and what to call one sigma of it.

use kestrel_link::Ellipse;

/// What one standard deviation holds of a normal variable: `erf(1/√2)`.
pub(super) const TWO_THIRDS: f64 = 0.682_689_492_137_085_9;

/// Directions at which the share inside a circle is summed over a quarter turn.
const DIRECTIONS: usize = 64;

/// Halvings of the interval that holds the radius: to a billionth of it.
const HALVINGS: usize = 30;

/// Covariance of a position along north and east, in square metres.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Variance along north.
    pub north: f64,
    /// Variance along east.
    pub east: f64,
    /// Covariance of both.
    pub both: f64,
}

impl Spread {
    /// Adds an independent error that moves the position by `[north, east]` metres at one sigma.
    pub(super) fn add(&mut self, [north, east]: [f64; 2]) {
        self.north += north * north;
        self.east += east * east;
        self.both += north * east;
    }

    /// Standard deviations along the principal axes: the roots of the eigenvalues.
    #[must_use]
    pub fn ellipse(&self) -> Ellipse {
        let mean = f64::midpoint(self.north, self.east);
        let apart = ((self.north - self.east) / 2.0).hypot(self.both);
        let turn = (2.0 * self.both).atan2(self.north - self.east) / 2.0;
        Ellipse {
            major_metres: (mean + apart).max(0.0).sqrt(),
            minor_metres: (mean - apart).max(0.0).sqrt(),
            bearing_degrees: turn.to_degrees().rem_euclid(180.0),
        }
    }

    /// Radius of the circle that holds 68.27 % of a normal distribution with this covariance.
    ///
    /// From one standard deviation where all error is along one line to 1.515 of them where it is alike in all directions.
    #[must_use]
    pub fn radius_metres(&self) -> f64 {
        let Ellipse { major_metres: major, minor_metres: minor, .. } = self.ellipse();
        if major <= 0.0 {
            return 0.0;
        }
        let squares: [f64; DIRECTIONS] = std::array::from_fn(|step| {
            let angle = (step as f64 + 0.5) / DIRECTIONS as f64 * std::f64::consts::FRAC_PI_2;
            let (sin, cos) = angle.sin_cos();
            (major * cos).powi(2) + (minor * sin).powi(2)
        });
        let (mut low, mut high) = (major * 0.99, major * 1.52);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if share_inside(middle, &squares) < TWO_THIRDS { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    }
}

/// Share of a normal distribution inside a circle of `radius`.
///
/// A point is `ρ·(a·cos θ, b·sin θ)` with θ even over the turn and `P(ρ ≤ t) = 1 − exp(−t²/2)`, so the share is the mean over θ of
/// `1 − exp(−radius² / (2·(a²·cos²θ + b²·sin²θ)))`; `squares` are the brackets at even steps of a quarter turn.
fn share_inside(radius: f64, squares: &[f64; DIRECTIONS]) -> f64 {
    let outside: f64 = squares.iter().map(|square| (-radius * radius / (2.0 * square)).exp()).sum();
    1.0 - outside / DIRECTIONS as f64
}
