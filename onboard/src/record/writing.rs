//! The thread that writes a record.

use std::fs::File;
use std::io::BufWriter;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::RecordError;
use super::messages::Losses;
use super::recorder::{MOST_QUEUED, Waiting};
use super::state::RecordState;
use super::write::FlightFile;
use crate::camera::unix_nanos;
use crate::queue::{Received, Receiver};

/// A chunk ends at this size, or after [`CHUNK_EVERY`].
const CHUNK_BYTES: u64 = 1024 * 1024;
/// A killed program loses at most what it saw in this time.
const CHUNK_EVERY: Duration = Duration::from_secs(1);
/// Refusals wait in a place of their own, which must not run full while nothing is looked at: without an engine every query is
/// refused about every frame.
const REFUSALS_EVERY: Duration = Duration::from_millis(100);

/// How a record ended.
pub(super) enum Ended {
    WithFlight,
    AtSize,
}

/// Writes what comes until the flight ends or the record is large enough.
pub(super) fn write(
    events: &Receiver<Waiting, MOST_QUEUED>,
    mut file: FlightFile<BufWriter<File>>,
    shared: &RecordState,
    most_bytes: u64,
) -> Result<Ended, RecordError> {
    let mut flushed = Instant::now();
    let ended = loop {
        match events.receive_within(REFUSALS_EVERY) {
            Received::Item(Waiting { event, weight }) => {
                let written = file.take(&event);
                drop(event);
                shared.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
                written?;
            }
            Received::Nothing => {}
            Received::Ended => break Ended::WithFlight,
        }
        take_refusals(&mut file, shared)?;
        if file.pending() >= CHUNK_BYTES || flushed.elapsed() >= CHUNK_EVERY {
            tell_losses(&mut file, shared)?;
            file.flush()?;
            flushed = Instant::now();
        }
        if most_bytes > 0 && file.bytes() >= most_bytes {
            break Ended::AtSize;
        }
    };
    take_refusals(&mut file, shared)?;
    tell_losses(&mut file, shared)?;
    file.conclude(shared.totals());
    let why = match ended {
        Ended::WithFlight => "the flight ended",
        Ended::AtSize => "it reached its largest size",
    };
    let file = file.end(why)?.into_inner().map_err(|error| RecordError::write(error.into_error()))?;
    file.sync_all().map_err(RecordError::write)?;
    Ok(ended)
}

fn take_refusals(file: &mut FlightFile<BufWriter<File>>, shared: &RecordState) -> Result<(), RecordError> {
    shared.take_refusals().iter().try_for_each(|refusal| file.take(refusal))
}

fn tell_losses(file: &mut FlightFile<BufWriter<File>>, shared: &RecordState) -> Result<(), RecordError> {
    let losses = shared.losses();
    if file.losses(losses, unix_nanos())? {
        let Losses { frames, outcomes } = losses;
        tracing::warn!("the record lacks {frames} frames and {outcomes} outcomes: writing is slower than looking");
    }
    Ok(())
}
