//! What the operator and the trainer run: one module a command, see `main`.
//!
//! The operator's way: [`demo`], [`ask`], [`push`], [`simulate`], [`doctor`].
//! The trainer's: [`data`], [`train`], [`distil`], [`grpo`], [`ablate`], [`export`], [`eval`], [`follow`], [`score`], [`quantise`],
//! [`calibrate`], [`bundle`], [`reproduce`], [`estimate`]. [`records`] go from evaluation to calibration, [`steps`] from every
//! command into the bundle.
#![forbid(unsafe_code)]

pub mod ablate;
pub mod ask;
pub mod bundle;
pub mod calibrate;
pub mod data;
pub mod demo;
mod device;
pub mod distil;
pub mod doctor;
pub mod draft;
pub mod engine;
pub mod estimate;
pub mod eval;
pub mod export;
pub mod follow;
pub mod grpo;
mod html;
pub mod keys;
pub mod push;
pub mod quantise;
pub mod records;
pub mod reproduce;
mod salient;

pub mod score;
pub mod session;
pub mod simulate;
pub mod steps;
mod teller;
pub mod train;
