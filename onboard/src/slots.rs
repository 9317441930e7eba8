//! Two model slots: a pushed model replaces the flying one whole, or not at all.
//!
//! [`state`] says which step may follow which, purely; [`receiver`] asks for chunks and checks them, purely;
//! [`store`] makes both durable on a [`disk`].

pub mod disk;
pub mod error;
pub mod receiver;
pub mod state;
pub mod store;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use disk::{Disk, FolderDisk};
pub use error::SlotError;
pub use receiver::{ReceiveError, Receiver};
pub use state::{Event, Phase, Record, Release, Slot, TransitionError};
pub use store::{Recovery, SlotStore, TrialError, TrialReport, Trialled};
