//! The drone from outside: engines, pipeline, node, records, model pushes and the command line, flying a small model that really segments.
//!
//! One binary, because every one of them links two inference engines and zenoh.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod ahead;
mod authority;
mod cameras;
mod command_line;
mod conformance;
#[path = "../../perception/tests/counting/mod.rs"]
mod counting;
mod degraded;
mod engines;
#[cfg(unix)]
mod exits;
mod explain;
mod faulty;
mod garbage;
mod graphs;
mod heat;
#[cfg(unix)]
mod killed;
mod ledger;
mod lives;
mod lossy;
mod lost_link;
mod network;
mod peer;
mod pipeline;
#[cfg(unix)]
mod played;
mod posed;
mod promises;
mod push;
mod reasons;
mod record;
mod red;
#[cfg(target_os = "linux")]
mod rtsp;
mod scrape;
#[cfg(unix)]
mod service;
mod soaked;
mod sources;
mod stalls;
mod standing;
mod tiles;
mod twins;
mod weighed;
