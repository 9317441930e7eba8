//! Whether the capture times that a camera gives can be believed (promise P14).
//!
//! A stamp is what the camera says, by a wall clock that anybody may set. The drone's monotonic clock cannot be set: as much
//! time as it counts between two frames must lie between their stamps. Nothing that must happen in time depends on a
//! stamp; deadlines are the monotonic clock's. A stamp that is doubted is not given to anybody as a time of capture, and
//! nothing is followed by it from frame to frame: there the monotonic clock takes its place.
//!
//! [`Stamps::judge`] is pure: stamps and clocks come in, a [`Judgement`] goes out.

use std::fmt;
use std::time::{Duration, Instant};

use kestrel_link::CaptureDoubt;

/// Bounds of what is believed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StampLimits {
    /// How much more or less time may lie between two stamps than between the arrivals of their frames, and how far a stamp
    /// may lie ahead of the drone's wall clock. It must exceed what delivery is late by at times.
    pub tolerance: Duration,
    /// How far a stamp may lie behind the drone's wall clock; `None` sets no bound.
    pub most_age: Option<Duration>,
    /// After a clock was set, this many frames in a row must agree before stamps are believed again.
    pub steady_frames: u32,
    /// A stamp or a picture that repeats the one before this many times in a row is frozen.
    pub most_repeats: u32,
    /// A pause of more than this many ordinary intervals between two frames is a gap.
    pub gap_intervals: f64,
}

impl Default for StampLimits {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_secs(2),
            most_age: Some(Duration::from_secs(10)),
            steady_frames: 10,
            most_repeats: 5,
            gap_intervals: 5.0,
        }
    }
}

/// A frame that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The camera's capture time, nanoseconds since the Unix epoch.
    pub stamp_unix_nanos: u64,
    /// A hash of the picture.
    pub fingerprint: u64,
    /// The monotonic clock.
    pub now: Instant,
    /// The drone's wall clock, nanoseconds since the Unix epoch.
    pub wall_unix_nanos: u64,
}

/// What is to be thought of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// Why it is not believed; `None` when it is.
    pub doubt: Option<CaptureDoubt>,
    /// By how many seconds it is off, where the doubt is about an amount of time: positive is too late a stamp.
    pub off_seconds: f64,
    /// The pause before this frame in ordinary intervals, when it was a gap. A gap alone is no reason for doubt.
    pub gap_intervals: Option<f64>,
    /// The frame's time by a clock that nobody sets, in nanoseconds: it goes on as the stamps of two frames that are believed
    /// both, else as the monotonic clock. It begins as the first stamp that is believed, or as the drone's wall clock; only
    /// differences mean something, and it is nobody's time of capture.
    pub steady_nanos: u64,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.off_seconds.abs();
        match self.doubt {
            None => f.write_str("capture times are believed"),
            Some(CaptureDoubt::Duplicate) => f.write_str("a capture time repeats the one before"),
            Some(CaptureDoubt::StampsFrozen) => f.write_str("capture times stand still while pictures change"),
            Some(CaptureDoubt::PictureFrozen) => f.write_str("the picture stands still while capture times go on"),
            Some(CaptureDoubt::Backwards) => write!(f, "a capture time is {seconds:.3} s before the one before it"),
            Some(CaptureDoubt::Jumped) => {
                write!(f, "capture times have jumped by {:+.3} s: a clock was set", self.off_seconds)
            }
            Some(CaptureDoubt::Unsettled) => f.write_str("a clock was set a short while ago"),
            Some(CaptureDoubt::Ahead) => write!(f, "capture times are {seconds:.3} s ahead of the drone's clock"),
            Some(CaptureDoubt::Stale) => write!(f, "capture times are {seconds:.3} s behind the drone's clock"),
            // The contract may come to know more reasons than are found here.
            Some(other) => write!(f, "capture times are doubted: {other:?}"),
        }
    }
}

/// Remembers what is needed of the frames before.
#[derive(Debug, Clone)]
pub struct Stamps {
    limits: StampLimits,
    last: Option<Arrival>,
    /// Running mean of the time between arrivals, in seconds.
    interval: Option<f64>,
    /// Frames that must still agree after a clock was set.
    unsettled: u32,
    repeated_stamps: u32,
    repeated_pictures: u32,
    /// [`Judgement::steady_nanos`] of the last frame, and whether its stamp was believed.
    steady: Option<(u64, bool)>,
}

impl Stamps {
    /// No frame has arrived yet.
    #[must_use]
    pub fn new(limits: StampLimits) -> Self {
        Self {
            limits,
            last: None,
            interval: None,
            unsettled: 0,
            repeated_stamps: 0,
            repeated_pictures: 0,
            steady: None,
        }
    }

    /// Judges the stamp of a frame.
    pub fn judge(&mut self, arrival: Arrival) -> Judgement {
        let before = self.last.replace(arrival);
        let gap_intervals = before.and_then(|before| self.gap(&before, &arrival));
        let sequence = before.and_then(|before| self.sequence(&before, &arrival));
        let (doubt, off_seconds) = match sequence.or_else(|| self.against_wall(&arrival)) {
            Some((doubt, off_seconds)) => (Some(doubt), off_seconds),
            None => (self.settle(), 0.0),
        };
        let steady_nanos = self.steady(before.as_ref(), &arrival, doubt.is_none());
        Judgement { doubt, off_seconds, gap_intervals, steady_nanos }
    }

    /// Goes on by a clock that nobody sets.
    fn steady(&mut self, before: Option<&Arrival>, arrival: &Arrival, is_believed: bool) -> u64 {
        let nanos = match (self.steady, before) {
            (Some((nanos, true)), Some(before)) if is_believed => {
                nanos.saturating_add(arrival.stamp_unix_nanos.saturating_sub(before.stamp_unix_nanos))
            }
            (Some((nanos, _)), Some(before)) => {
                let counted = arrival.now.saturating_duration_since(before.now).as_nanos();
                nanos.saturating_add(u64::try_from(counted).unwrap_or(u64::MAX))
            }
            _ if is_believed => arrival.stamp_unix_nanos,
            _ => arrival.wall_unix_nanos,
        };
        self.steady = Some((nanos, is_believed));
        nanos
    }

    /// What the frame before says against this one.
    fn sequence(&mut self, before: &Arrival, arrival: &Arrival) -> Option<(CaptureDoubt, f64)> {
        let (stamp, last) = (arrival.stamp_unix_nanos, before.stamp_unix_nanos);
        let is_same_stamp = stamp == last;
        let is_same_picture = arrival.fingerprint == before.fingerprint;
        self.repeated_stamps = if is_same_stamp { self.repeated_stamps.saturating_add(1) } else { 0 };
        self.repeated_pictures = if is_same_picture { self.repeated_pictures.saturating_add(1) } else { 0 };
        if is_same_stamp {
            let is_frozen = self.repeated_stamps >= self.limits.most_repeats && !is_same_picture;
            return Some((if is_frozen { CaptureDoubt::StampsFrozen } else { CaptureDoubt::Duplicate }, 0.0));
        }
        let told = seconds_between(last, stamp);
        let off = told - arrival.now.saturating_duration_since(before.now).as_secs_f64();
        if told < 0.0 || off.abs() > self.limits.tolerance.as_secs_f64() {
            self.unsettled = self.limits.steady_frames;
            return Some(if told < 0.0 { (CaptureDoubt::Backwards, told) } else { (CaptureDoubt::Jumped, off) });
        }
        (self.repeated_pictures >= self.limits.most_repeats).then_some((CaptureDoubt::PictureFrozen, 0.0))
    }

    /// What the drone's wall clock says against a stamp.
    fn against_wall(&self, arrival: &Arrival) -> Option<(CaptureDoubt, f64)> {
        let ahead = seconds_between(arrival.wall_unix_nanos, arrival.stamp_unix_nanos);
        if ahead > self.limits.tolerance.as_secs_f64() {
            return Some((CaptureDoubt::Ahead, ahead));
        }
        let is_stale = self.limits.most_age.is_some_and(|most| -ahead > most.as_secs_f64());
        is_stale.then_some((CaptureDoubt::Stale, ahead))
    }

    /// A frame that agrees with the one before and with the wall clock.
    fn settle(&mut self) -> Option<CaptureDoubt> {
        let doubt = (self.unsettled > 0).then_some(CaptureDoubt::Unsettled);
        self.unsettled = self.unsettled.saturating_sub(1);
        doubt
    }

    /// The pause before a frame in ordinary intervals, when it is a gap.
    fn gap(&mut self, before: &Arrival, arrival: &Arrival) -> Option<f64> {
        let pause = arrival.now.saturating_duration_since(before.now).as_secs_f64();
        let Some(interval) = self.interval else {
            self.interval = Some(pause);
            return None;
        };
        let most = interval * self.limits.gap_intervals;
        // A gap counts for no more than its bound, so that it hides no later one; a camera that is slower for good is learned.
        self.interval = Some(interval + (pause.min(most) - interval) / 8.0);
        (interval > 0.0 && pause > most).then(|| pause / interval)
    }
}

/// Seconds from one time to another, negative when it is before; exact to less than a microsecond for spans of a year.
fn seconds_between(from_nanos: u64, to_nanos: u64) -> f64 {
    (i128::from(to_nanos) - i128::from(from_nanos)) as f64 * 1e-9
}

#[cfg(test)]
#[path = "stamps_tests.rs"]
mod tests;
