//! Poses that come over the link, for cameras whose frames bring none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kestrel_link::{LinkError, PoseSample, Unplaced, decode};
use kestrel_perception::Pose;
use kestrel_perception::geo::{Kept, Poses, PosesOptions};
use zenoh::Session;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;

use super::NodeError;
use super::mailbox::Frame;
use crate::position::parse_pose;

/// The poses that came last.
pub(super) struct PoseKeeper {
    poses: Mutex<Poses>,
    /// Samples that could not be used.
    lost: AtomicU64,
    /// How often their clock was set back.
    restarts: AtomicU64,
}

/// A sample that cannot be used.
#[derive(Debug, thiserror::Error)]
enum SampleError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("pose: {0}")]
    Pose(String),
    #[error("pose of a time before the last one")]
    Late,
}

impl PoseKeeper {
    pub(super) fn new(options: PosesOptions) -> Self {
        Self { poses: Mutex::new(Poses::new(options)), lost: AtomicU64::new(0), restarts: AtomicU64::new(0) }
    }

    /// Takes poses in from a key, for as long as what is given is held.
    pub(super) async fn listen(self: &Arc<Self>, session: &Session, key: String) -> Result<Subscriber<()>, NodeError> {
        let keeper = Arc::clone(self);
        session
            .declare_subscriber(key)
            .callback(move |sample| {
                if sample.kind() == SampleKind::Put {
                    keeper.take(&sample.payload().to_bytes());
                }
            })
            .await
            .map_err(NodeError::link("listen to poses"))
    }

    /// Takes in the bytes of a sample; what cannot be used is counted, and logged ever less often.
    fn take(&self, bytes: &[u8]) {
        if let Err(error) = self.add(bytes) {
            let count = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!("pose left out, {count} by now: {error}");
            }
        }
    }

    fn add(&self, bytes: &[u8]) -> Result<(), SampleError> {
        let PoseSample { time_unix_nanos, pose } = decode(bytes)?;
        let pose = parse_pose(&pose).map_err(SampleError::Pose)?;
        match self.lock().add(time_unix_nanos, pose) {
            Kept::Newest => Ok(()),
            Kept::Late => Err(SampleError::Late),
            Kept::Restarted => {
                // Whoever publishes poses may set their clock as often as it likes, and must not fill the log.
                let count = self.restarts.fetch_add(1, Ordering::Relaxed) + 1;
                if count.is_power_of_two() {
                    tracing::warn!(
                        "the clock of the poses was set back, {count} times by now: those before are forgotten"
                    );
                }
                Ok(())
            }
        }
    }

    /// The pose of a frame: its own where it has one, else the one that held at its capture time.
    pub(super) fn of(&self, frame: &Frame) -> Result<Pose, Unplaced> {
        if let Some(pose) = frame.pose {
            return Ok(pose);
        }
        let poses = self.lock();
        if poses.is_empty() {
            return Err(Unplaced::PoseUnknown);
        }
        if frame.doubt.is_some() {
            return Err(Unplaced::CaptureDoubted);
        }
        poses.at(frame.capture_unix_nanos)
    }

    fn lock(&self) -> MutexGuard<'_, Poses> {
        self.poses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use image::RgbImage;
    use kestrel_link::{CaptureDoubt, encode};
    use proptest::prelude::*;
    use std::time::Instant;

    const POSE: &str = include_str!("../../../docs/concepts/pose.json");
    const SECOND: u64 = 1_000_000_000;

    fn sample(time_unix_nanos: u64) -> Vec<u8> {
        encode(&PoseSample { time_unix_nanos, pose: POSE.into() }).unwrap()
    }

    fn frame(capture_unix_nanos: u64) -> Frame {
        let (image, admitted) = (RgbImage::new(4, 3), Instant::now());
        let steady_nanos = capture_unix_nanos;
        Frame { number: 0, image, capture_unix_nanos, doubt: None, steady_nanos, pose: None, admitted }
    }

    fn keeper() -> PoseKeeper {
        PoseKeeper::new(PosesOptions::default())
    }

    #[test]
    fn a_frame_has_its_own_pose_or_that_of_its_capture_time() {
        let (keeper, pose) = (keeper(), parse_pose(POSE).unwrap());
        assert_eq!(keeper.of(&frame(SECOND)), Err(Unplaced::PoseUnknown));
        keeper.take(&sample(SECOND));
        keeper.take(&sample(SECOND + SECOND / 10));
        assert_eq!(keeper.of(&frame(SECOND + SECOND / 20)).unwrap(), pose);
        assert_eq!(keeper.of(&frame(SECOND + SECOND / 5)), Err(Unplaced::PoseAwaited));
        let own = Pose { height_above_ground_metres: 9.0, ..pose };
        assert_eq!(keeper.of(&Frame { pose: Some(own), ..frame(7 * SECOND) }).unwrap(), own);
        let doubted = Frame { doubt: Some(CaptureDoubt::Jumped), ..frame(SECOND) };
        assert_eq!(keeper.of(&doubted), Err(Unplaced::CaptureDoubted), "that time is not its own");
    }

    #[test]
    fn what_cannot_be_used_is_counted_and_changes_nothing() {
        let keeper = keeper();
        keeper.take(&sample(SECOND));
        let of = |pose: &str| encode(&PoseSample { time_unix_nanos: 2 * SECOND, pose: pose.into() }).unwrap();
        let wrong = [
            Vec::new(),
            of("{}"),
            of(&POSE.replace("56.2", "156.2")),
            of(&"[".repeat(4000)),
            sample(SECOND),
            sample(2 * SECOND)[..40].to_vec(),
        ];
        for bytes in &wrong {
            keeper.take(bytes);
        }
        assert_eq!(keeper.lost.load(Ordering::Relaxed), wrong.len() as u64);
        assert!(keeper.of(&frame(SECOND)).is_ok());
        assert_eq!(keeper.lock().len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_and_damaged_samples_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at: usize, value: u8) {
            let keeper = keeper();
            keeper.take(&bytes);
            let mut damaged = sample(SECOND);
            let at = at % damaged.len();
            damaged[at] = value;
            keeper.take(&damaged);
            if let Ok(pose) = keeper.of(&frame(SECOND)) {
                prop_assert!(pose.check().is_ok());
            }
        }
    }
}
