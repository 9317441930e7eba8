//! Thresholds fitted on data disjoint from training and test.
//!
//! [`fit`] takes the records of an evaluation and gives a [`Fitted`]: the presence logistic ([`logistic`]), the
//! thresholds chosen by stated rules ([`rules`]), and what they promise on the records, with bounds ([`bounds`]).
#![forbid(unsafe_code)]

pub mod bounds;
mod error;
pub mod logistic;
pub mod ranges;
pub mod rules;

pub use bounds::{Share, wilson};
pub use error::CalibrationError;
pub use rules::{Fitted, Rules, fit, fit_with};
