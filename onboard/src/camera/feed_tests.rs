//! How a camera's thread meets what its source does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use image::RgbImage;
use kestrel_link::CaptureDoubt;

use super::super::Origin;
use super::*;

const SOON: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

/// What a scripted source does next.
enum Act {
    Show(u64),
    Lose,
    Fail,
    Panic,
    PanicAtOpening,
    End,
    Hang(Duration),
}

struct Scripted(Arc<Mutex<VecDeque<Act>>>);

impl Source for Scripted {
    fn next(&mut self, wait: Duration) -> Result<Next, CameraError> {
        let act = self.0.lock().unwrap().pop_front();
        let error = || CameraError::Stalled { source_name: "scripted".into(), patience: MILLI };
        match act {
            Some(Act::Show(stamp)) => {
                let image = RgbImage::from_pixel(2, 2, image::Rgb([stamp as u8; 3]));
                Ok(Next::Frame(Captured { image, capture_unix_nanos: stamp, pose: None }))
            }
            Some(Act::Lose) => Ok(Next::Lost(error())),
            Some(Act::Fail) => Err(error()),
            Some(Act::Panic | Act::PanicAtOpening) => panic!("told to panic"),
            Some(Act::End) => Ok(Next::Ended),
            Some(Act::Hang(time)) => {
                std::thread::sleep(time);
                Ok(Next::Nothing)
            }
            None => {
                std::thread::sleep(wait.min(MILLI));
                Ok(Next::Nothing)
            }
        }
    }
}

struct Run {
    feed: Feed,
    watch: Arc<Watch>,
    frames: Receiver<(u64, Option<CaptureDoubt>)>,
}

fn run(acts: Vec<Act>) -> Run {
    let acts = Arc::new(Mutex::new(VecDeque::from(acts)));
    let watch = Arc::new(Watch::default());
    let options = CameraOptions {
        restart_first: MILLI,
        restart_most: 2 * MILLI,
        ..CameraOptions::of(Origin::Folder("scripted".into()))
    };
    let (shown, frames) = sync_channel(64);
    let open = move |_: &CameraOptions| {
        let mut left = acts.lock().unwrap();
        let panics = matches!(left.front(), Some(Act::PanicAtOpening));
        if panics {
            left.pop_front();
        }
        drop(left);
        assert!(!panics, "told to panic at opening");
        Ok(Box::new(Scripted(Arc::clone(&acts))) as Box<dyn Source>)
    };
    let deliver = move |captured: Captured, judgement: &Judgement| {
        shown.send((captured.capture_unix_nanos, judgement.doubt)).is_ok()
    };
    let feed = Feed::start(options, Arc::clone(&watch), open, deliver).unwrap();
    Run { feed, watch, frames }
}

/// Setup: a source that shows a frame, fails, shows one, loses one, fails, shows one. Fault: both failures.
/// Expected: it is opened again each time. Invariant: every restart and every lost frame is counted.
#[test]
fn a_source_that_fails_is_opened_again_and_counted() {
    let now = unix_nanos();
    let acts = vec![Act::Show(now), Act::Fail, Act::Show(now + 1), Act::Lose, Act::Fail, Act::Show(now + 2)];
    let run = run(acts);
    for number in 0..3 {
        assert_eq!(run.frames.recv_timeout(SOON), Ok((now + number, None)));
    }
    let counts = run.watch.counts();
    assert_eq!((counts.frames, counts.failures, counts.restarts, counts.lost), (3, 2, 2, 1));
    assert!(run.watch.told(Instant::now())[0].starts_with("the camera was started again 2 times"));
}

/// Setup: a source that shows a frame. Fault: it panics when it is asked for the next one, and when it is opened again.
/// Expected: it is opened once more, its next frame is handed on, and what it said is told.
/// Invariant: the camera's thread goes on, and every restart is counted.
#[test]
fn a_source_that_panics_is_opened_again_and_told() {
    let now = unix_nanos();
    let run = run(vec![Act::Show(now), Act::Panic, Act::PanicAtOpening, Act::Show(now + 1)]);
    for number in 0..2 {
        assert_eq!(run.frames.recv_timeout(SOON), Ok((now + number, None)));
    }
    let counts = run.watch.counts();
    assert_eq!((counts.frames, counts.failures, counts.restarts), (2, 2, 2));
    let told = run.watch.told(Instant::now());
    assert!(told[0].ends_with("folder:scripted panicked: told to panic at opening"), "{told:?}");
}

#[test]
fn the_end_of_a_source_is_no_failure() {
    let run = run(vec![Act::Show(unix_nanos()), Act::End]);
    run.frames.recv_timeout(SOON).unwrap();
    // The sender is gone with the thread.
    assert!(run.frames.recv_timeout(SOON).is_err());
    assert_eq!(run.watch.told(Instant::now()), ["the camera has ended"]);
    assert_eq!(run.watch.counts().restarts, 0);
}

#[test]
fn doubts_go_with_the_frame() {
    let now = unix_nanos();
    let run = run(vec![Act::Show(now), Act::Show(now), Act::Show(now + 3_600_000_000_000), Act::Show(now)]);
    let doubts: Vec<_> = (0..4).map(|_| run.frames.recv_timeout(SOON).unwrap().1).collect();
    assert_eq!(
        doubts,
        [None, Some(CaptureDoubt::Duplicate), Some(CaptureDoubt::Jumped), Some(CaptureDoubt::Backwards)]
    );
    assert_eq!(run.watch.counts().doubted.len(), 3);
}

/// Setup: a source whose driver does not return. Fault: it hangs for a minute. Expected: the stop goes on without it.
/// Invariant: no source holds up the stop of a node for longer than stated.
#[test]
fn a_source_that_hangs_does_not_hold_up_the_stop() {
    let run = run(vec![Act::Show(unix_nanos()), Act::Hang(SOON)]);
    run.frames.recv_timeout(SOON).unwrap();
    let before = Instant::now();
    drop(run.feed);
    assert!(before.elapsed() < SOON / 2, "{:?}", before.elapsed());
}

#[test]
fn nobody_to_deliver_to_ends_the_thread() {
    let run = run(vec![Act::Show(1), Act::Show(2), Act::Show(3)]);
    drop(run.frames);
    drop(run.feed);
}

#[test]
fn pauses_grow_and_a_good_run_makes_them_short_again() {
    let mut pauses = Pauses::new(MILLI, 4 * MILLI);
    let grown: Vec<Duration> = (0..4).map(|_| pauses.after(Duration::ZERO)).collect();
    assert_eq!(grown, [MILLI, 2 * MILLI, 4 * MILLI, 4 * MILLI]);
    assert_eq!(pauses.after(5 * MILLI), MILLI);
}
