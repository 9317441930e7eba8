//! How a drone watches itself.
//!
//! Rules are pure and take instants and readings as arguments: [`recovery`] says when a lost engine is opened again,
//! [`watchdog`] when a running one is silent for too long, [`throttle`] how many frames a hot drone looks at.
//! Thin shells stand around them: [`thermal`] reads sensors, [`notify`] talks to systemd, [`metrics`] and [`exposition`] to
//! Prometheus, [`periodic`] runs a thread. What the process ends with stands in [`exit`].

pub mod exit;
pub mod exposition;
pub mod metrics;
pub mod notify;
pub mod periodic;
pub mod recovery;
pub mod thermal;
pub mod throttle;
pub mod watchdog;
