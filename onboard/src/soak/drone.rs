//! The drone of a soak: the one that flies by default, with the deadlines of the soak and an engine that can be told to fail.

use std::sync::Arc;
use std::time::Duration;

use super::sabotage::Sabotage;
use super::schedule::LONGEST_STALL;
use super::{SoakError, SoakOptions};
use crate::config::Config;
use crate::health::recovery::RecoveryLimits;
use crate::health::watchdog::WatchdogLimits;
use crate::node::{Limits, LinkOptions, ModelSource, NodeConfig, UpkeepOptions};

/// A stall that lasts for so many times the longest one counts as hung.
const HUNG_STALLS: u32 = 6;

/// The node as it flies by default, listening on an endpoint.
pub(super) fn config(options: &SoakOptions, endpoint: &str, sabotage: &Arc<Sabotage>) -> Result<Config, SoakError> {
    let text = "[model]\nbundle = \".\"\n[engine]\nname = \"tract\"\n[camera]\nsource = \"zenoh:\"\n";
    let config = Config::parse(text, "soak", |_| None, &[])?;
    let deadline = options.deadline;
    let mut segmenter = config.node.segmenter.clone();
    if !options.gate {
        segmenter.gate = None;
    }
    let upkeep = UpkeepOptions {
        opener: sabotage.opener(),
        recovery: RecoveryLimits {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(1),
            give_up_after: 0,
            ..config.node.upkeep.recovery
        },
        watchdog: WatchdogLimits { late: deadline * 2, hung: deadline * LONGEST_STALL * HUNG_STALLS },
        ..UpkeepOptions::of(deadline)
    };
    let node = NodeConfig {
        model: ModelSource::Folder(options.bundle.clone()),
        engine: options.engine.clone(),
        segmenter,
        link: LinkOptions { listen: vec![endpoint.to_owned()], ..LinkOptions::default() },
        // A camera that stops is noticed within a deadline, as an engine that stalls is.
        limits: Limits { deadline, frame_timeout: deadline, standing: Duration::MAX, ..config.node.limits },
        upkeep,
        ..config.node
    };
    let mut camera = config.camera;
    camera.frames_per_second = options.frames_per_second;
    Ok(Config { node, camera })
}
