//! Thresholds fitted on data disjoint from training and test, with what they promise.
//!
//! [`calibrate`] takes the records of an evaluation and a [`Promise`] and gives the lowest presence threshold that keeps
//! it, bounded with confidence ([`confidence`]) for every stratum of [`questions`]; [`resplits`] checks that on halves of the
//! records, [`Table`] is what ships. [`gate()`] does the same for the gate's bounds.
//! [`fit`] sets thresholds by rules ([`rules`]) that promise nothing: the presence logistic ([`logistic`]) is its.
#![forbid(unsafe_code)]

pub mod bounds;
pub mod confidence;
mod error;
pub mod gate;
pub mod logistic;
pub mod measure;
pub mod promise;
pub mod questions;
pub mod ranges;
pub mod resplit;
pub mod rules;
pub mod table;

pub use bounds::{Share, wilson};
pub use error::{CalibrationError, Missing};
pub use gate::{GateTable, Seen, gate};
pub use promise::{Batch, Calibrated, Claim, Cost, Promise, calibrate};
pub use questions::{Source, Unit, refuse_test, stratum};
pub use resplit::{Kept, Resplits, resplits};
pub use rules::{Fitted, Rules, fit, fit_with};
pub use table::Table;
