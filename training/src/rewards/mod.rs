//! Rewards: pure functions from an answer and the truth to numbers.

pub mod views;
