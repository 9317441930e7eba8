//! Poses that come apart from the frames: which one held at a capture time.
//!
//! Nothing is extrapolated, and nothing is made of poses that are too old, too far apart or too unlike: then there is no
//! pose, with the reason, rather than a wrong one.

use heapless::Deque;
use kestrel_link::Unplaced;
use kestrel_link::position::MAX_SECONDS;
use serde::{Deserialize, Serialize};

use super::pose::{Attitude, Pose, PoseSigma};

/// Poses that are kept: five seconds of them at 50 a second.
const MOST_POSES: usize = 256;
/// Angles that differ by more than this are not gone between: either the vehicle tumbles, or the same attitude is written
/// in two ways (yaw and roll at a pitch of 90 degrees).
const MOST_TURN_DEGREES: f64 = 45.0;
/// Latitudes or longitudes that differ by more than this are not gone between: about a kilometre.
const MOST_STEP_DEGREES: f64 = 0.01;

/// How the pose of a capture time is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Between the last pose before the capture time and the first one behind it, linearly.
    #[default]
    Interpolate,
    /// The pose that is nearest in time, as it is.
    Nearest,
}

/// When a pose is taken for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PosesOptions {
    /// How it is chosen.
    pub choice: Choice,
    /// Longest time between the capture and a pose that is used, in nanoseconds.
    pub most_age_nanos: u64,
}

/// To interpolate between poses that are each at most 0.2 s away (assumed, not measured: at 10 m/s that is 2 m).
impl Default for PosesOptions {
    fn default() -> Self {
        Self { choice: Choice::Interpolate, most_age_nanos: 200_000_000 }
    }
}

/// What became of a pose that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Newest,
    /// It is not later than one that is kept, and is left out.
    Late,
    /// It is earlier by so much that a clock must have been set: all others were forgotten, and it is kept.
    Restarted,
}

/// The last poses with their times; bounded, the oldest goes first.
#[derive(Debug, Default)]
pub struct Poses {
    options: PosesOptions,
    /// In order of their times, which are all different.
    all: Deque<(u64, Pose), MOST_POSES>,
}

impl Poses {
    /// None yet.
    #[must_use]
    pub fn new(options: PosesOptions) -> Self {
        Self { options, all: Deque::new() }
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes in a checked pose that held at a time.
    pub fn add(&mut self, time_unix_nanos: u64, pose: Pose) -> Kept {
        let mut kept = Kept::Newest;
        if let Some((newest, _)) = self.all.back()
            && time_unix_nanos <= *newest
        {
            // The network may bring two samples in the wrong order, but not ones that lie seconds apart.
            if newest - time_unix_nanos <= self.options.most_age_nanos {
                return Kept::Late;
            }
            self.all.clear();
            kept = Kept::Restarted;
        }
        if self.all.is_full() {
            self.all.pop_front();
        }
        // There is room: one was taken out where there was none.
        let _ = self.all.push_back((time_unix_nanos, pose));
        kept
    }

    /// The pose at a capture time, or why none is known.
    ///
    /// # Errors
    /// [`Unplaced::PoseUnknown`] where none ever came, [`Unplaced::PoseAwaited`] where none of the time or later has come
    /// and the one before is not too old, [`Unplaced::PoseStale`] where one that is needed is too far away, and
    /// [`Unplaced::PoseUnsteady`] where two are too unlike to go between.
    pub fn at(&self, time_unix_nanos: u64) -> Result<Pose, Unplaced> {
        let before = self.all.iter().rev().find(|(time, _)| *time <= time_unix_nanos);
        let after = self.all.iter().find(|(time, _)| *time >= time_unix_nanos);
        let away = |time: u64| time.abs_diff(time_unix_nanos);
        let fresh = |time: u64| match away(time) {
            nanos if nanos <= self.options.most_age_nanos => Ok(()),
            nanos => Err(self.stale(nanos)),
        };
        match (self.options.choice, before, after) {
            (_, None, None) => Err(Unplaced::PoseUnknown),
            (Choice::Nearest, before, after) => {
                // Of two that are as near, the earlier.
                let nearest = before.into_iter().chain(after).min_by_key(|(time, _)| away(*time));
                let (time, pose) = nearest.ok_or(Unplaced::PoseUnknown)?;
                fresh(*time).map(|()| *pose)
            }
            (Choice::Interpolate, Some((time, _)), None) => Err(fresh(*time).err().unwrap_or(Unplaced::PoseAwaited)),
            (Choice::Interpolate, None, Some((time, _))) => Err(self.stale(away(*time))),
            (Choice::Interpolate, Some((from, one)), Some((to, two))) => {
                fresh(if away(*from) > away(*to) { *from } else { *to })?;
                match to - from {
                    0 => Ok(*one),
                    span => between(one, two, (time_unix_nanos - from) as f64 / span as f64),
                }
            }
        }
    }

    fn stale(&self, nanos: u64) -> Unplaced {
        let seconds = |nanos: u64| (nanos as f64 / 1e9).min(MAX_SECONDS);
        Unplaced::PoseStale { age_seconds: seconds(nanos), most_seconds: seconds(self.options.most_age_nanos) }
    }
}

/// The pose at a share of the way from `one` to `two`; its errors are the larger ones of both, because those of two poses
/// that follow each other are seldom independent.
fn between(one: &Pose, two: &Pose, share: f64) -> Result<Pose, Unplaced> {
    let step = [two.latitude_degrees - one.latitude_degrees, turn(one.longitude_degrees, two.longitude_degrees)];
    let is_step = step.iter().all(|degrees| degrees.abs() <= MOST_STEP_DEGREES);
    if !is_step || one.gimbal_reference != two.gimbal_reference {
        return Err(Unplaced::PoseUnsteady);
    }
    let nearer = if share < 0.5 { one } else { two };
    Ok(Pose {
        latitude_degrees: one.latitude_degrees + share * step[0],
        longitude_degrees: wrapped(one.longitude_degrees + share * step[1]),
        height_above_ground_metres: one.height_above_ground_metres
            + share * (two.height_above_ground_metres - one.height_above_ground_metres),
        vehicle: turned(&one.vehicle, &two.vehicle, share)?,
        gimbal: turned(&one.gimbal, &two.gimbal, share)?,
        sigma: worse(&one.sigma, &two.sigma),
        // What the ground is does not move with the vehicle.
        ..*nearer
    })
}

/// The shorter way from one angle to another, in degrees: -180..=180.
fn turn(from: f64, to: f64) -> f64 {
    wrapped(to - from)
}

/// The same angle in -180..=180.
fn wrapped(degrees: f64) -> f64 {
    if (-180.0..=180.0).contains(&degrees) { degrees } else { (degrees + 180.0).rem_euclid(360.0) - 180.0 }
}

fn turned(one: &Attitude, two: &Attitude, share: f64) -> Result<Attitude, Unplaced> {
    let angle = |from: f64, to: f64| {
        let degrees = turn(from, to);
        if degrees.abs() > MOST_TURN_DEGREES {
            Err(Unplaced::PoseUnsteady)
        } else {
            Ok(wrapped(from + share * degrees))
        }
    };
    Ok(Attitude {
        yaw_degrees: angle(one.yaw_degrees, two.yaw_degrees)?,
        pitch_degrees: angle(one.pitch_degrees, two.pitch_degrees)?,
        roll_degrees: angle(one.roll_degrees, two.roll_degrees)?,
    })
}

fn worse(one: &PoseSigma, two: &PoseSigma) -> PoseSigma {
    let angles = |one: &Attitude, two: &Attitude| Attitude {
        yaw_degrees: one.yaw_degrees.max(two.yaw_degrees),
        pitch_degrees: one.pitch_degrees.max(two.pitch_degrees),
        roll_degrees: one.roll_degrees.max(two.roll_degrees),
    };
    PoseSigma {
        position_metres: one.position_metres.max(two.position_metres),
        height_metres: one.height_metres.max(two.height_metres),
        vehicle: angles(&one.vehicle, &two.vehicle),
        gimbal: angles(&one.gimbal, &two.gimbal),
    }
}

#[cfg(test)]
#[path = "poses_tests.rs"]
mod tests;
