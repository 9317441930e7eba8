//! The drone from outside: engines, pipeline, node, records, model pushes and the command line, flying a small model that really segments.
//!
//! One binary, because every one of them links two inference engines and zenoh.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command_line;
mod conformance;
mod degraded;
mod engines;
mod explain;
mod faulty;
mod graphs;
mod heat;
mod network;
mod peer;
mod pipeline;
#[cfg(unix)]
mod played;
mod push;
mod record;
mod red;
mod scrape;
#[cfg(unix)]
mod service;
mod sources;
mod standing;
