//! Sections on what is done when things go wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Engine};
use crate::engine::EngineChoice;
use crate::health::recovery::RecoveryLimits;
use crate::health::thermal::ThermalOptions;
use crate::health::throttle::ThrottleLimits;
use crate::health::watchdog::WatchdogLimits;

/// Most multiples of a deadline, most degrees, and the longest pause that make sense.
const MOST_DEADLINES: f64 = 1000.0;
const MOST_CELSIUS: f64 = 200.0;
const MOST_PAUSE_MILLIS: u64 = 3_600_000;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watchdog {
    late_deadlines: f64,
    hung_deadlines: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThermalSection {
    throttle: bool,
    warm_celsius: f64,
    hot_celsius: f64,
    hysteresis_celsius: f64,
    least_frames_per_second: f64,
    ignored_zones: Vec<String>,
    sysfs: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsSection {
    listen: String,
}

fn wrong(key: &'static str, expected: impl Into<String>, got: impl ToString) -> ConfigError {
    ConfigError::Value { key, expected: expected.into(), got: got.to_string() }
}

/// Refuses what lies outside of a range, NaN among it.
fn between(key: &'static str, value: f64, least: f64, most: f64) -> Result<f64, ConfigError> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(wrong(key, format!("{least} to {most}"), value)),
    }
}

impl Engine {
    /// The engine that may fly in place of `first`, when one may.
    pub(super) fn fallback(&self, first: EngineChoice) -> Result<Option<EngineChoice>, ConfigError> {
        if self.fallback.is_empty() {
            return Ok(None);
        }
        let refused = || {
            let expected = "another engine than engine.name, by name: ort/cpu, ort/cuda, ort/tensorrt or tract";
            wrong("engine.fallback", expected, format!("{:?}", self.fallback))
        };
        let choice: EngineChoice = self.fallback.parse().map_err(|_| refused())?;
        if choice == EngineChoice::Auto || choice == first { Err(refused()) } else { Ok(Some(choice)) }
    }

    /// When a lost engine is opened again.
    pub(super) fn recovery(&self) -> Result<RecoveryLimits, ConfigError> {
        let (first, most) = (self.rebuild_first_millis, self.rebuild_most_millis);
        if !(1..=MOST_PAUSE_MILLIS).contains(&first) {
            return Err(wrong("engine.rebuild_first_millis", format!("1 to {MOST_PAUSE_MILLIS}"), first));
        }
        if !(first..=MOST_PAUSE_MILLIS).contains(&most) {
            let expected = format!("engine.rebuild_first_millis ({first}) to {MOST_PAUSE_MILLIS}");
            return Err(wrong("engine.rebuild_most_millis", expected, most));
        }
        Ok(RecoveryLimits {
            first_pause: Duration::from_millis(first),
            longest_pause: Duration::from_millis(most),
            good_answers: self.rebuild_good_answers,
            fallback_after: self.fallback_after_failures,
            give_up_after: self.give_up_after_failures,
        })
    }
}

impl Watchdog {
    /// How long the engine may be silent.
    pub(super) fn limits(&self, deadline: Duration) -> Result<WatchdogLimits, ConfigError> {
        let late = between("watchdog.late_deadlines", self.late_deadlines, 1.0, MOST_DEADLINES)?;
        let hung = between("watchdog.hung_deadlines", self.hung_deadlines, late, MOST_DEADLINES)?;
        Ok(WatchdogLimits::of(deadline, late, hung))
    }
}

impl ThermalSection {
    /// Sensors and limits for a camera of `full` frames per second; `None` when nothing is throttled.
    pub(super) fn options(&self, full: f64) -> Result<Option<ThermalOptions>, ConfigError> {
        let warm = between("thermal.warm_celsius", self.warm_celsius, 0.0, MOST_CELSIUS)?;
        let hot = between("thermal.hot_celsius", self.hot_celsius, warm + 1.0, MOST_CELSIUS)?;
        let hysteresis = between("thermal.hysteresis_celsius", self.hysteresis_celsius, 0.0, 50.0)?;
        let least = between("thermal.least_frames_per_second", self.least_frames_per_second, 0.01, 1000.0)?;
        Ok(self.throttle.then(|| ThermalOptions {
            sysfs: self.sysfs.clone(),
            ignored_zones: self.ignored_zones.clone(),
            limits: ThrottleLimits {
                warm_celsius: warm,
                hot_celsius: hot,
                hysteresis_celsius: hysteresis,
                full_frames_per_second: full,
                least_frames_per_second: least,
            },
        }))
    }
}

impl MetricsSection {
    /// Where metrics are given; only this machine may ask for them.
    pub(super) fn address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        match self.listen.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
            _ => Err(wrong("metrics.listen", "a loopback address with a port, e.g. 127.0.0.1:9464", &self.listen)),
        }
    }
}
