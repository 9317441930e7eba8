//! What flies: engines, pipeline, zenoh node, model slots.
//!
//! The way of a frame: a [`node`] takes it from the [`camera`], the [`pipeline`] looks at it and answers what was asked
//! with an [`engine`], and the node publishes the outcome, with its [`position`] on the earth where camera and pose are known.
//! A [`bundle`] holds the model, [`slots`] hold bundles. A [`record`] keeps a flight so that it can be flown again, bit for bit.
//! [`gate_table`] is where the gate's bounds come from if not from the program.
//! [`health`] is how a drone watches itself, [`flight`] the whole of it as a process, and a [`soak`] finds out whether it
//! holds; a [`conformance`] suite is how an engine is held against the one that trained.
#![deny(unsafe_code)]

pub mod bundle;
pub mod camera;
pub mod config;
pub mod conformance;
pub mod engine;
pub mod flight;
pub mod gate_table;
pub mod health;
pub mod loopback;
pub mod node;
pub mod pipeline;
pub mod position;
mod queue;
pub mod record;
pub mod registry;
pub mod released;
pub mod slots;
pub mod soak;
