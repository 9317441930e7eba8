//! A recorded flight: what was looked at, what was asked and what was answered, in one MCAP file that can be replayed.
//!
//! The way of the data: the perception thread hands every look and every outcome to a [`Recorder`], whose own thread
//! writes them. [`Records`] reads them back, whatever the bytes; [`survey()`] says what a file holds; [`replay()`] looks at
//! the same frames again, asks the same questions in the same order, and [`exact()`] or [`loose()`] says where an outcome is
//! another.
//!
//! Format: MCAP (<https://mcap.dev/spec>) with JSON messages. Pictures and drawings follow Foxglove's well-known schemas,
//! so that its app shows a flight as it is.

mod compare;
mod drawing;
mod error;
mod foxglove;
mod framing;
mod messages;
mod outline;
mod picture;
mod read;
#[cfg(test)]
mod read_tests;
mod recorder;
mod replay;
mod state;
mod survey;
mod topics;
mod write;
mod writing;

pub use compare::{Difference, MaskDifference, exact, loose};
pub use error::{ReadError, RecordError, ReplayError};
pub use messages::{
    Answered, Asked, End, Flight, Georeferencing, History, Losses, Model, Seen, Time, Totals, Unperceived, processor,
};
pub use picture::Picture;
pub use read::{Damage, Item, Look, Records};
pub(crate) use recorder::Told;
pub use recorder::{RecordOptions, Recorder};
pub use replay::{Agreement, Found, Report, Terms, engine_fits, model_fits, replay};
pub(crate) use state::RecordState;
pub use survey::{Flown, Survey, survey};
