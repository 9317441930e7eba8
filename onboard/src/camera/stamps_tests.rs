//! Which stamps are believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const START: u64 = 1_790_000_000 * SECOND;

/// A camera of two frames a second whose clock, picture and delivery a test can disturb.
struct Rig {
    stamps: Stamps,
    start: Instant,
    /// Nanoseconds since the start.
    at: u64,
    picture: u64,
}

impl Rig {
    fn new() -> Self {
        Self { stamps: Stamps::new(StampLimits::default()), start: Instant::now(), at: 0, picture: 0 }
    }

    /// The next frame, stamped by `stamp` of the true time.
    fn frame(&mut self, stamp: impl Fn(u64) -> u64) -> Judgement {
        self.at += SECOND / 2;
        self.picture += 1;
        self.arrive(stamp(START + self.at))
    }

    fn arrive(&mut self, stamp_unix_nanos: u64) -> Judgement {
        self.stamps.judge(Arrival {
            stamp_unix_nanos,
            fingerprint: self.picture,
            now: self.start + Duration::from_nanos(self.at),
            wall_unix_nanos: START + self.at,
        })
    }

    /// Frames of a good camera.
    fn run(&mut self, frames: u32) {
        for _ in 0..frames {
            assert_eq!(self.frame(|now| now).doubt, None);
        }
    }
}

#[test]
fn an_ordinary_camera_is_believed() {
    Rig::new().run(100);
}

/// Promise: P14
#[test]
fn the_same_stamp_twice_is_a_duplicate_and_again_and_again_is_frozen() {
    let mut rig = Rig::new();
    rig.run(3);
    let stuck = START + rig.at;
    let doubts: Vec<_> = (0..6).map(|_| rig.frame(|_| stuck).doubt.unwrap()).collect();
    assert_eq!(doubts[..4], [CaptureDoubt::Duplicate; 4]);
    assert_eq!(doubts[4..], [CaptureDoubt::StampsFrozen; 2]);
}

#[test]
fn one_duplicate_is_forgiven_with_the_next_frame() {
    let mut rig = Rig::new();
    rig.run(3);
    let last = START + rig.at;
    assert_eq!(rig.frame(|_| last).doubt, Some(CaptureDoubt::Duplicate));
    rig.run(10);
}

/// What would break: a target placed where the drone was an hour ago.
///
/// Promise: P14
#[test]
fn a_clock_that_is_set_back_is_told_and_stays_behind() {
    let mut rig = Rig::new();
    rig.run(5);
    let judgement = rig.frame(|now| now - HOUR);
    assert_eq!(judgement.doubt, Some(CaptureDoubt::Backwards));
    assert!((judgement.off_seconds + 3599.5).abs() < 1e-6, "{judgement:?}");
    assert_eq!(judgement.to_string(), "a capture time is 3599.500 s before the one before it");
    for _ in 0..30 {
        assert_eq!(rig.frame(|now| now - HOUR).doubt, Some(CaptureDoubt::Stale));
    }
}

/// Promise: P14
#[test]
fn a_clock_that_is_set_forward_is_told_and_stays_ahead() {
    let mut rig = Rig::new();
    rig.run(5);
    let judgement = rig.frame(|now| now + HOUR);
    assert_eq!(judgement.doubt, Some(CaptureDoubt::Jumped));
    assert_eq!(judgement.to_string(), "capture times have jumped by +3600.000 s: a clock was set");
    for _ in 0..30 {
        assert_eq!(rig.frame(|now| now + HOUR).doubt, Some(CaptureDoubt::Ahead));
    }
    // It is set right again: that is a jump too, and must settle.
    assert_eq!(rig.frame(|now| now).doubt, Some(CaptureDoubt::Backwards));
    for _ in 0..10 {
        assert_eq!(rig.frame(|now| now).doubt, Some(CaptureDoubt::Unsettled));
    }
    rig.run(10);
}

/// Promise: P14
#[test]
fn pictures_that_stand_still_are_told_though_stamps_go_on() {
    let mut rig = Rig::new();
    rig.run(3);
    let mut doubts = Vec::new();
    for _ in 0..6 {
        rig.at += SECOND / 2;
        doubts.push(rig.arrive(START + rig.at).doubt);
    }
    assert_eq!(doubts[..4], [None; 4]);
    assert_eq!(doubts[4..], [Some(CaptureDoubt::PictureFrozen); 2]);
    rig.run(3);
}

/// What would break: a thing that is followed, lost for an hour that never was, or thrown ahead by a stamp that stands still.
#[test]
fn the_steady_time_goes_on_as_frames_arrive_whatever_stamps_say() {
    let mut rig = Rig::new();
    let stuck = START + 7 * SECOND;
    let ordinary = |now: u64| now;
    let stamps: [&dyn Fn(u64) -> u64; 4] = [&ordinary, &|now| now + HOUR, &|_| stuck, &ordinary];
    let mut last = None;
    for stamp in stamps.iter().flat_map(|stamp| std::iter::repeat_n(*stamp, 15)) {
        let Judgement { steady_nanos, .. } = rig.frame(stamp);
        assert_eq!(steady_nanos, last.map_or(START + SECOND / 2, |last| last + SECOND / 2));
        last = Some(steady_nanos);
    }
}

#[test]
fn the_steady_time_is_the_cameras_as_long_as_that_is_believed() {
    let mut rig = Rig::new();
    for late in [0, 300_000_000, 0, 400_000_000] {
        // Taken a while before it arrives.
        let judgement = rig.frame(|now| now - late);
        assert_eq!((judgement.doubt, judgement.steady_nanos), (None, START + rig.at - late));
    }
    assert_eq!(Rig::new().arrive(0).steady_nanos, START, "a first stamp that is doubted says nothing");
}

#[test]
fn a_gap_is_told_and_believed() {
    let mut rig = Rig::new();
    rig.run(10);
    rig.at += 10 * SECOND;
    let judgement = rig.frame(|now| now);
    assert_eq!(judgement.doubt, None);
    assert!((judgement.gap_intervals.unwrap() - 21.0).abs() < 0.1, "{judgement:?}");
    assert_eq!(rig.frame(|now| now).gap_intervals, None);
}

/// Promise: P14
#[test]
fn the_first_frame_is_held_against_the_wall_clock() {
    for (stamp, doubt) in [
        (START + HOUR, Some(CaptureDoubt::Ahead)),
        (START - HOUR, Some(CaptureDoubt::Stale)),
        (0, Some(CaptureDoubt::Stale)),
        (START - SECOND, None),
        (START + SECOND, None),
    ] {
        assert_eq!(Rig::new().arrive(stamp).doubt, doubt, "{stamp}");
    }
    let mut ageless = Stamps::new(StampLimits { most_age: None, ..StampLimits::default() });
    let arrival = Arrival { stamp_unix_nanos: 5, fingerprint: 0, now: Instant::now(), wall_unix_nanos: START };
    assert_eq!(ageless.judge(arrival).doubt, None);
}

proptest! {
    /// Delivery that is late by less than the tolerance is no reason for doubt, whatever its pattern.
    #[test]
    fn late_delivery_is_believed(delays in proptest::collection::vec(0_u64..1_900_000_000, 2..60)) {
        let mut stamps = Stamps::new(StampLimits::default());
        let (start, mut arrived) = (Instant::now(), 0);
        for (number, delay) in delays.into_iter().enumerate() {
            let taken = number as u64 * SECOND;
            // Frames do not overtake each other.
            arrived = (taken + delay).max(arrived);
            let judgement = stamps.judge(Arrival {
                stamp_unix_nanos: START + taken,
                fingerprint: number as u64,
                now: start + Duration::from_nanos(arrived),
                wall_unix_nanos: START + arrived,
            });
            prop_assert_eq!(judgement.doubt, None, "frame {}", number);
        }
    }

    /// A clock that is set by more than the tolerance is doubted with the first frame after it.
    ///
    /// Promise: P14
    #[test]
    fn a_set_clock_is_never_believed(before in 1_u32..20, by in 2_001_i64..10_000_000, back: bool) {
        let mut rig = Rig::new();
        rig.run(before);
        let nanos = by.unsigned_abs() * 1_000_000;
        let judgement = rig.frame(|now| if back { now - nanos } else { now + nanos });
        prop_assert!(matches!(judgement.doubt, Some(CaptureDoubt::Backwards | CaptureDoubt::Jumped)), "{:?}", judgement);
    }

    /// What is believed never goes backwards, and lies within the bounds of the drone's clock.
    ///
    /// Promise: P14
    #[test]
    fn what_is_believed_is_honest(frames in proptest::collection::vec((any::<u64>(), 0_u64..4, 0_u64..3_000_000_000, any::<u64>()), 0..60)) {
        let mut stamps = Stamps::new(StampLimits::default());
        let (start, mut at) = (Instant::now(), 0_u64);
        let (mut last, mut steady): (Option<u64>, Option<u64>) = (None, None);
        for (stamp, fingerprint, pause, wall) in frames {
            at += pause;
            let now = start + Duration::from_nanos(at);
            let arrival = Arrival { stamp_unix_nanos: stamp, fingerprint, now, wall_unix_nanos: wall };
            let judgement = stamps.judge(arrival);
            prop_assert!(!judgement.to_string().is_empty() && judgement.off_seconds.is_finite());
            if let Some(before) = steady.replace(judgement.steady_nanos)
                && judgement.steady_nanos < u64::MAX
            {
                let went = judgement.steady_nanos.checked_sub(before).expect("it never goes backwards");
                prop_assert!(went.abs_diff(pause) <= 2 * SECOND + 1000, "{} went on as {}", pause, went);
            }
            if judgement.doubt.is_none() {
                prop_assert!(last.is_none_or(|last| stamp > last));
                prop_assert!(seconds_between(wall, stamp) <= 2.0 && seconds_between(wall, stamp) >= -10.0);
            }
            last = Some(stamp);
        }
    }
}
