//! Where frames come in, and a node with a camera of its own.

use std::sync::Arc;
use std::time::Instant;

use image::RgbImage;
use kestrel_perception::Pose;

use super::{Inner, Node, NodeError};
use crate::camera::stamps::Judgement;
use crate::camera::{CameraOptions, Captured, Counts, Feed, Network};

impl Node {
    /// Runs a camera whose frames this node looks at, until what is given is dropped.
    ///
    /// A source that fails is opened again and again; health, metrics and the log say so.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn feed(&self, options: CameraOptions) -> Result<Feed, NodeError> {
        let publisher = &self.inner.publisher;
        let network = Network { session: publisher.session.clone(), drone: publisher.drone.clone() };
        let frames = self.frames();
        let mut last = None;
        let deliver = move |captured, judgement: &Judgement| {
            let number = frames.put_judged(captured, judgement);
            if judgement.doubt != std::mem::replace(&mut last, judgement.doubt) {
                frames.0.health_changed();
            }
            number.is_some()
        };
        let watch = Arc::clone(&self.inner.upkeep.camera);
        Feed::start(options, watch, move |options| options.open(&network), deliver)
            .map_err(|source| NodeError::Thread { name: "camera", source })
    }

    /// What was counted of the camera that [`Node::feed`] runs.
    #[must_use]
    pub fn camera_counts(&self) -> Counts {
        self.inner.upkeep.camera.counts()
    }
}

/// Where frames are handed to a node; can be cloned and moved to the camera's thread.
#[derive(Clone)]
pub struct Frames(pub(super) Arc<Inner>);

impl Frames {
    /// Hands over a frame with the camera's capture time (nanoseconds since the Unix epoch); it replaces one that nobody looked at yet.
    ///
    /// Gives the frame's number, or `None` when the node has stopped. While the drone is hot, frames beyond the rate that is
    /// left are counted as dropped.
    pub fn put(&self, image: RgbImage, capture_unix_nanos: u64) -> Option<u64> {
        self.put_posed(image, capture_unix_nanos, None)
    }

    /// As [`Frames::put`], with the camera's pose at that moment, so that masks can be placed on the earth.
    pub fn put_posed(&self, image: RgbImage, capture_unix_nanos: u64, pose: Option<Pose>) -> Option<u64> {
        if !self.0.upkeep.admits(Instant::now()) {
            return self.0.mailbox.skip();
        }
        self.0.mailbox.put(image, capture_unix_nanos, pose)
    }

    /// As [`Frames::put_posed`], with what is thought of the capture time: one that is doubted is given to nobody.
    pub fn put_judged(&self, captured: Captured, judgement: &Judgement) -> Option<u64> {
        if !self.0.upkeep.admits(Instant::now()) {
            return self.0.mailbox.skip();
        }
        self.0.mailbox.put_judged(captured, judgement)
    }
}
