//! What is known of the camera: counted by its thread, read by health and metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::CaptureDoubt;

use super::CameraError;
use super::stamps::Judgement;

/// A restart is told for this long.
const RESTART_TOLD: Duration = Duration::from_secs(60);
/// Most characters of what is told of an error: health is a small message.
const MOST_TOLD: usize = 200;

/// How often what has happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames that the source gave.
    pub frames: u64,
    /// Frames that were replaced by newer ones before the camera's thread took them.
    pub replaced: u64,
    /// Frames that could not be used.
    pub lost: u64,
    /// Failures of the source as a whole.
    pub failures: u64,
    /// How often the source was opened again after a failure.
    pub restarts: u64,
    /// Pauses between frames that were longer than usual by far.
    pub gaps: u64,
    /// Frames whose capture time was not believed, by reason.
    pub doubted: Vec<(CaptureDoubt, u64)>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// Since when a source runs, and how long it may be silent.
    running: Option<(Instant, Duration)>,
    last_frame: Option<Instant>,
    doubt: Option<String>,
    failure: Option<String>,
    last_restart: Option<Instant>,
    ended: bool,
}

/// Counts and states of the camera.
#[derive(Debug, Default)]
pub struct Watch {
    state: Mutex<State>,
}

impl Watch {
    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// What is wrong with the camera at this time, a line each; nothing when all is well or no source is run.
    #[must_use]
    pub fn told(&self, now: Instant) -> Vec<String> {
        let state = self.lock();
        let since = |then: Instant| now.saturating_duration_since(then);
        let silent = state.running.and_then(|(opened, patience)| {
            let silent = since(state.last_frame.map_or(opened, |last| last.max(opened)));
            (silent > patience).then_some(silent)
        });
        let restarted = state.last_restart.map(since).filter(|ago| *ago < RESTART_TOLD);
        let failure = state.failure.as_deref().unwrap_or_default();
        let source = match (state.ended, state.running, restarted) {
            (true, ..) => Some("the camera has ended".to_owned()),
            (_, None, _) if !failure.is_empty() => Some(format!("the camera is started again: {failure}")),
            (.., Some(ago)) => Some(format!(
                "the camera was started again {} times, last {:.0} s ago: {failure}",
                state.counts.restarts,
                ago.as_secs_f64()
            )),
            _ => None,
        };
        let silent = silent.map(|silent| format!("the camera has given no frame for {:.1} s", silent.as_secs_f64()));
        source.into_iter().chain(silent).chain(state.doubt.clone()).collect()
    }

    /// A source was opened; silence of more than `patience` is told from now on.
    pub(super) fn opened(&self, now: Instant, patience: Duration) {
        let mut state = self.lock();
        state.running = Some((now, patience));
        state.ended = false;
    }

    /// A frame arrived. Says whether what is thought of capture times has changed.
    pub(super) fn frame(&self, now: Instant, judgement: &Judgement) -> bool {
        let mut state = self.lock();
        state.counts.frames += 1;
        state.counts.gaps += u64::from(judgement.gap_intervals.is_some());
        state.last_frame = Some(now);
        if let Some(doubt) = judgement.doubt {
            match state.counts.doubted.iter_mut().find(|(kind, _)| *kind == doubt) {
                Some((_, count)) => *count += 1,
                None => state.counts.doubted.push((doubt, 1)),
            }
        }
        let told = judgement.doubt.map(|_| format!("capture times are not given: {judgement}"));
        let has_changed = state.doubt.is_some() != told.is_some();
        state.doubt = told;
        has_changed
    }

    /// Frames were replaced before they were taken.
    pub(super) fn replaced(&self, frames: u64) {
        self.lock().counts.replaced += frames;
    }

    /// A frame could not be used. Gives how many that are by now.
    pub(super) fn lost(&self) -> u64 {
        let mut state = self.lock();
        state.counts.lost += 1;
        state.counts.lost
    }

    /// The source failed as a whole.
    pub(super) fn failed(&self, error: &CameraError) {
        let mut state = self.lock();
        state.counts.failures += 1;
        state.running = None;
        state.failure = Some(error.to_string().chars().take(MOST_TOLD).collect());
    }

    /// The source is opened again.
    pub(super) fn restarted(&self, now: Instant) {
        let mut state = self.lock();
        state.counts.restarts += 1;
        state.last_restart = Some(now);
    }

    /// The source has no more frames.
    pub(super) fn ended(&self) {
        let mut state = self.lock();
        state.running = None;
        state.ended = true;
    }

    /// Nobody runs a source any more.
    pub(super) fn stopped(&self) {
        self.lock().running = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stalled() -> CameraError {
        CameraError::Stalled { source_name: "rtsp://camera/".into(), patience: SECOND }
    }

    #[test]
    fn a_good_camera_has_nothing_to_tell() {
        let (watch, now) = (Watch::default(), Instant::now());
        assert!(watch.told(now).is_empty(), "nobody runs one");
        watch.opened(now, 2 * SECOND);
        watch.frame(now + SECOND, &Judgement::default());
        assert!(watch.told(now + 2 * SECOND).is_empty());
        assert_eq!(watch.counts(), Counts { frames: 1, ..Counts::default() });
    }

    #[test]
    fn silence_restarts_and_the_end_are_told() {
        let (watch, now) = (Watch::default(), Instant::now());
        watch.opened(now, 2 * SECOND);
        assert_eq!(watch.told(now + 3 * SECOND), ["the camera has given no frame for 3.0 s"]);
        watch.failed(&stalled());
        let told = watch.told(now + 3 * SECOND);
        assert!(told[0].starts_with("the camera is started again: rtsp://camera/: expected a frame"), "{told:?}");
        watch.restarted(now + 4 * SECOND);
        watch.opened(now + 4 * SECOND, 2 * SECOND);
        let told = watch.told(now + 5 * SECOND);
        assert!(told[0].starts_with("the camera was started again 1 times, last 1 s ago: rtsp"), "{told:?}");
        watch.frame(now + 90 * SECOND, &Judgement::default());
        assert!(watch.told(now + 91 * SECOND).is_empty(), "an old restart is only counted");
        watch.ended();
        assert_eq!(watch.told(now + 99 * SECOND), ["the camera has ended"]);
    }

    #[test]
    fn doubts_are_counted_by_reason_and_told_while_they_last() {
        let (watch, now) = (Watch::default(), Instant::now());
        watch.opened(now, 2 * SECOND);
        let doubted = |doubt| Judgement { doubt: Some(doubt), ..Judgement::default() };
        assert!(watch.frame(now, &doubted(CaptureDoubt::Duplicate)), "news");
        assert!(!watch.frame(now, &doubted(CaptureDoubt::Duplicate)));
        assert!(!watch.frame(now, &doubted(CaptureDoubt::StampsFrozen)));
        assert!(watch.told(now)[0].starts_with("capture times are not given: capture times stand still"));
        let doubted = watch.counts().doubted;
        assert_eq!(doubted, [(CaptureDoubt::Duplicate, 2), (CaptureDoubt::StampsFrozen, 1)]);
        assert!(watch.frame(now, &Judgement::default()));
        assert!(watch.told(now).is_empty());
    }
}
