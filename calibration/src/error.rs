//! What can go wrong in calibration.

use thiserror::Error;

/// Scenes that a stratum lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The stratum.
    pub stratum: String,
    /// Scenes that bound its risk.
    pub got: usize,
    /// Fewest that could, if no mask answered in any of them.
    pub needed: usize,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let missing = self.needed.saturating_sub(self.got);
        write!(f, "{}: {} scenes of at least {}, {missing} missing", self.stratum, self.got, self.needed)
    }
}

fn listed(missing: &[Missing]) -> String {
    missing.iter().map(|one| format!("\n  {one}")).collect()
}

/// Errors of calibration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Too few records to say anything.
    #[error(
        "fitting {what}: expected at least {expected} {kind} records, got {got}; evaluate a larger tuning set with --records"
    )]
    TooFew {
        /// What was to be fitted.
        what: &'static str,
        /// Which records are missing.
        kind: &'static str,
        /// How many are needed.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A set that must stay unseen was given.
    #[error("records of the set `{set}` test the model and may not set its thresholds; use a tuning set")]
    TestSet {
        /// Its name.
        set: String,
    },
    /// A share that must lie between 0 and 1.
    #[error("{name}: expected a share between 0 and 1, got {got}")]
    Share {
        /// Which.
        name: &'static str,
        /// What was given.
        got: f64,
    },
    /// A stratum was to be bounded more tightly than the mixture that it is part of.
    #[error(
        "the risk of each stratum: expected at least that of their mixture, {alpha}, got {stratum}\n\
         hint: --alpha bounds every stratum unless --stratum-alpha allows each of them more"
    )]
    StratumBelowMixture {
        /// The risk of the mixture.
        alpha: f64,
        /// That of each stratum.
        stratum: f64,
    },
    /// Too few scenes for the risk and the confidence asked for.
    #[error(
        "bounding the risk by {alpha} with confidence {confidence}: too few scenes bound it, nothing is promised{list}\n\
         hint: evaluate more scenes (`ground eval --limit`, another --seed), ask for less, or name what is left out of the promise",
        confidence = 1.0 - delta,
        list = listed(missing)
    )]
    TooFewScenes {
        /// The risk.
        alpha: f64,
        /// One less the confidence.
        delta: f64,
        /// What is missing, by stratum.
        missing: Vec<Missing>,
    },
    /// No question for what is absent or unseeable is left to bound.
    #[error(
        "bounding the risk: expected questions for absent or unseeable targets, got none that are promised (left out: {left_out:?})"
    )]
    NothingToBound {
        /// Strata left out.
        left_out: Vec<String>,
    },
    /// What fits the presence must not bound the risk.
    #[error("fitting the presence: expected scenes of their own, got {scene}, which bounds the risk too")]
    SharedScene {
        /// Set and scene.
        scene: String,
    },
    /// Even the strictest threshold shows too much.
    #[error(
        "bounding the risk by {alpha}: no threshold keeps it; at the strictest one {stratum} is bounded by {bound:.3} only\n\
         hint: the model is sure of what is not there; train it further, ask for less, or evaluate more scenes"
    )]
    NoThreshold {
        /// The risk.
        alpha: f64,
        /// Where it is greatest.
        stratum: String,
        /// Its bound there.
        bound: f64,
    },
    /// Even the loosest gate refuses too many clean frames.
    #[error(
        "bounding the clean frames refused by {alpha}: no gate keeps it; the loosest one is bounded by {bound:.3} on {camera}\n\
         hint: ask for less (--alpha), or add folders with more scenes; look at the frames that are refused"
    )]
    NoGate {
        /// The share.
        alpha: f64,
        /// The camera where most are refused, or all together.
        camera: String,
        /// The bound there.
        bound: f64,
    },
    /// A table of thresholds that cannot be what it says.
    #[error("table of thresholds: {field}: expected {expected}, got {got}")]
    Table {
        /// What is wrong.
        field: String,
        /// What would be right.
        expected: String,
        /// What it says.
        got: String,
    },
    /// A table of another model.
    #[error("table of thresholds: expected one of the model {expected}, got one of {got}\nhint: calibrate this model")]
    OtherModel {
        /// Hash of the graphs at hand.
        expected: String,
        /// Hash that the table names.
        got: String,
    },
    /// The fit did not settle on finite numbers.
    #[error("fitting the presence logistic: expected finite weights, got {got:?}")]
    Diverged {
        /// The weights and the bias.
        got: [f64; 4],
    },
    /// The thresholds do not pass the drone's own checks.
    #[error("fitted thresholds: {0}")]
    Refused(#[from] kestrel_link::LinkError),
}
