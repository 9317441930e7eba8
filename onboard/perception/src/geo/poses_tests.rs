#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::geo::{GimbalReference, Ground};
use proptest::prelude::*;

const MILLI: u64 = 1_000_000;

fn pose(north: f64, yaw: f64) -> Pose {
    Pose {
        latitude_degrees: 56.2 + north * 1e-5,
        longitude_degrees: 10.19,
        height_above_ground_metres: 30.0 + north,
        vehicle: Attitude::new(yaw, 0.0, 0.0),
        gimbal: Attitude::new(0.0, -90.0, 0.0),
        gimbal_reference: GimbalReference::Horizon,
        sigma: PoseSigma {
            position_metres: 1.0,
            height_metres: 1.0,
            vehicle: Attitude::default(),
            gimbal: Attitude::default(),
        },
        ground: Ground::default(),
    }
}

fn poses(choice: Choice, samples: &[(u64, Pose)]) -> Poses {
    let mut poses = Poses::new(PosesOptions { choice, ..PosesOptions::default() });
    for (millis, pose) in samples {
        poses.add(1000 * MILLI + millis * MILLI, *pose);
    }
    poses
}

fn at(poses: &Poses, millis: i64) -> Result<Pose, Unplaced> {
    poses.at((1000 * MILLI).saturating_add_signed(millis * MILLI as i64))
}

fn close(one: f64, two: f64) -> bool {
    (one - two).abs() < 1e-9
}

#[test]
fn between_two_poses_lies_what_held_between() {
    let poses = poses(Choice::Interpolate, &[(0, pose(0.0, 350.0)), (100, pose(10.0, 10.0))]);
    let found = at(&poses, 75).unwrap();
    assert!(close(found.height_above_ground_metres, 37.5) && close(found.latitude_degrees, 56.2 + 7.5e-5));
    assert!(close(found.vehicle.yaw_degrees, 5.0), "the short way over north: {found:?}");
    assert_eq!(at(&poses, 0).unwrap(), pose(0.0, 350.0), "exactly one of them is that one");
}

/// What would break: a mask that is placed by where the vehicle might have flown on to.
#[test]
fn nothing_is_carried_on_beyond_the_last_pose() {
    let poses = poses(Choice::Interpolate, &[(0, pose(0.0, 0.0)), (100, pose(10.0, 0.0))]);
    assert_eq!(at(&poses, 101), Err(Unplaced::PoseAwaited));
    let stale = |age_seconds| Err(Unplaced::PoseStale { age_seconds, most_seconds: 0.2 });
    assert_eq!(at(&poses, 301), stale(0.201));
    assert_eq!(at(&poses, -50), stale(0.05));
    assert_eq!(Poses::default().at(5), Err(Unplaced::PoseUnknown));
}

#[test]
fn a_gap_between_poses_is_not_bridged() {
    let poses = poses(Choice::Interpolate, &[(0, pose(0.0, 0.0)), (1000, pose(10.0, 0.0))]);
    assert!(matches!(at(&poses, 10), Err(Unplaced::PoseStale { .. })), "one is near, the other is not");
    assert!(matches!(at(&poses, 500), Err(Unplaced::PoseStale { .. })));
    assert!(at(&poses, 1000).is_ok());
}

#[test]
fn the_nearest_is_taken_as_it_is_when_it_is_near_enough() {
    let poses = poses(Choice::Nearest, &[(0, pose(0.0, 0.0)), (1000, pose(10.0, 0.0))]);
    for (millis, expected) in [(-200, 0.0), (150, 0.0), (850, 10.0), (1200, 10.0)] {
        assert_eq!(at(&poses, millis).unwrap(), pose(expected, 0.0), "{millis}");
    }
    for millis in [-201, 500, 1201] {
        assert!(matches!(at(&poses, millis), Err(Unplaced::PoseStale { .. })), "{millis}");
    }
}

#[test]
fn poses_that_are_too_unlike_are_not_gone_between() {
    let straight = pose(0.0, 0.0);
    let other = [
        Pose { latitude_degrees: 56.3, ..straight },
        Pose { gimbal_reference: GimbalReference::Vehicle, ..straight },
        Pose { vehicle: Attitude::new(90.0, 0.0, 0.0), ..straight },
        // The same attitude, written in another way.
        Pose { gimbal: Attitude::new(180.0, -90.0, 180.0), ..straight },
    ];
    for other in other {
        let poses = poses(Choice::Interpolate, &[(0, straight), (100, other)]);
        assert_eq!(at(&poses, 50), Err(Unplaced::PoseUnsteady), "{other:?}");
    }
    let across =
        [(0, Pose { longitude_degrees: 179.999, ..straight }), (100, Pose { longitude_degrees: -179.999, ..straight })];
    let found = at(&poses(Choice::Interpolate, &across), 75).unwrap();
    assert!(close(found.longitude_degrees, -179.9995), "{found:?}");
}

#[test]
fn an_interpolated_pose_is_as_unsure_as_the_worse_of_both() {
    let unsure = PoseSigma { position_metres: 5.0, ..pose(0.0, 0.0).sigma };
    let poses = poses(Choice::Interpolate, &[(0, pose(0.0, 0.0)), (100, Pose { sigma: unsure, ..pose(0.0, 0.0) })]);
    assert_eq!(at(&poses, 1).unwrap().sigma.position_metres, 5.0);
}

/// What would break: a drone that takes no pose any more after an autopilot's clock was set back.
#[test]
fn late_samples_are_left_out_and_a_clock_that_was_set_begins_anew() {
    let mut poses = poses(Choice::Interpolate, &[(0, pose(0.0, 0.0)), (100, pose(10.0, 0.0))]);
    assert_eq!(poses.add(1050 * MILLI, pose(99.0, 0.0)), Kept::Late);
    assert_eq!(poses.add(1100 * MILLI, pose(99.0, 0.0)), Kept::Late, "the same time again");
    assert!(close(at(&poses, 50).unwrap().height_above_ground_metres, 35.0));
    assert_eq!(poses.add(5 * MILLI, pose(0.0, 0.0)), Kept::Restarted);
    assert_eq!(poses.len(), 1);
    assert_eq!(poses.add(6 * MILLI, pose(0.0, 0.0)), Kept::Newest);
}

proptest! {
    /// Memory is bounded and times stay in order, whatever comes.
    #[test]
    fn any_samples_are_kept_in_order_and_bounded(times in prop::collection::vec(any::<u64>(), 0..600)) {
        let mut poses = Poses::default();
        for time in times {
            poses.add(time, pose(0.0, 0.0));
        }
        prop_assert!(poses.len() <= MOST_POSES);
        let kept: Vec<u64> = poses.all.iter().map(|(time, _)| *time).collect();
        prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
    }

    /// A pose that is given rests on poses that are near enough, lies between them, and passes its own checks.
    #[test]
    fn what_is_given_lies_between_what_came(
        gaps in prop::collection::vec((1u64..400, -5.0f64..5.0, -180.0f64..180.0), 1..20),
        time in 0u64..8000, nearest: bool
    ) {
        let choice = if nearest { Choice::Nearest } else { Choice::Interpolate };
        let mut millis = 0;
        let samples: Vec<(u64, Pose)> = gaps.iter().map(|(gap, north, yaw)| {
            millis += gap;
            (millis, pose(*north, *yaw))
        }).collect();
        let poses = poses(choice, &samples);
        match at(&poses, time as i64) {
            Ok(found) => {
                found.check().unwrap();
                let near = samples.iter().filter(|(millis, _)| millis.abs_diff(time) <= 200);
                let heights: Vec<f64> = near.map(|(_, pose)| pose.height_above_ground_metres).collect();
                let (low, high) = heights.iter().fold((f64::MAX, f64::MIN), |(low, high), height| (low.min(*height), high.max(*height)));
                let height = found.height_above_ground_metres;
                prop_assert!(low - 1e-9 <= height && height <= high + 1e-9, "{low} {height} {high}");
            }
            Err(Unplaced::PoseAwaited) => prop_assert!(samples.iter().all(|(millis, _)| *millis < time)),
            Err(Unplaced::PoseStale { age_seconds, most_seconds }) => {
                let outside = samples[0].0 > time;
                prop_assert!(age_seconds > most_seconds || outside);
            }
            Err(why) => prop_assert_eq!(why, Unplaced::PoseUnsteady),
        }
    }
}
