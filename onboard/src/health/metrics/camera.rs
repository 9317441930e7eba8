//! What is counted of the camera, as metrics.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Label, add};
use crate::camera::Counts;

/// What is counted of the camera.
pub(super) struct CameraMetrics {
    restarts: Counter,
    failures: Counter,
    lost: Counter,
    replaced: Counter,
    gaps: Counter,
    doubted: Family<[Label; 1], Counter>,
}

impl CameraMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let doubted = "Frames whose capture time was not believed, by reason";
        Self {
            restarts: add(registry, "camera_restarts", "Times the camera was opened again", Counter::default()),
            failures: add(registry, "camera_failures", "Failures of the camera as a whole", Counter::default()),
            lost: add(registry, "camera_frames_lost", "Frames that could not be used", Counter::default()),
            replaced: add(registry, "camera_frames_replaced", "Frames replaced by newer ones", Counter::default()),
            gaps: add(registry, "camera_gaps", "Pauses that were longer than usual by far", Counter::default()),
            doubted: add(registry, "camera_capture_doubted", doubted, Family::default()),
        }
    }

    pub(super) fn set(&self, counts: &Counts) {
        let Counts { frames: _, replaced, lost, failures, restarts, gaps, doubted } = counts;
        for (counter, count) in [
            (&self.restarts, restarts),
            (&self.failures, failures),
            (&self.lost, lost),
            (&self.replaced, replaced),
            (&self.gaps, gaps),
        ] {
            counter.inner().store(*count, Ordering::Relaxed);
        }
        for (doubt, count) in doubted {
            self.doubted.get_or_create(&[("doubt", doubt.name())]).inner().store(*count, Ordering::Relaxed);
        }
    }
}
