//! What a drone counts and measures, in Prometheus' text format.
//!
//! The list with meanings and units stands in docs/guides/run-in-the-air.md; a test holds the two together.

mod camera;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kestrel_link::{Health, Outcome, PushPhase, Readiness, Reply, Verdict};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::thermal::Heat;
use super::throttle::Level;
use crate::camera::Counts;
use crate::pipeline::Timings;
use camera::CameraMetrics;

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

type Label = (&'static str, &'static str);
type Seconds = Counter<f64, AtomicU64>;
type Number = Gauge<f64, AtomicU64>;

/// How things are at the moment of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What the drone says of itself.
    pub health: Health,
    /// Queries that are being answered or wait for a frame.
    pub active_queries: usize,
    /// Whether another engine than the one asked for flies.
    pub fallback: bool,
    /// What the heat does.
    pub heat: Heat,
    /// Frames left out because of the heat.
    pub frames_throttled: u64,
    /// What was counted of the camera.
    pub camera: Counts,
    /// Bytes of main memory that the process occupies, where the system says.
    pub memory_bytes: Option<u64>,
}

/// Counters, gauges and histograms.
pub struct Metrics {
    registry: Registry,
    outcomes: Family<[Label; 2], Counter>,
    latency: Histogram,
    age: Histogram,
    engine_seconds: Family<[Label; 1], Seconds>,
    engine_runs: Family<[Label; 1], Counter>,
    engine_failures: Counter,
    frames: Counter,
    frames_dropped: Counter,
    frames_throttled: Counter,
    camera: CameraMetrics,
    engine: Family<Vec<(String, String)>, Gauge>,
    push: Family<[Label; 1], Gauge>,
    ready: Gauge,
    active_queries: Gauge,
    fallback: Gauge,
    thermal_level: Gauge,
    temperature: Number,
    frame_rate: Number,
    uptime: Gauge,
    memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("kestrel");
        let metrics = &mut registry;
        let outcomes = "Outcomes by kind, refusals by reason";
        let latency = "Seconds from when frame and query were there to the outcome";
        let age = "Seconds from capture of the frame to the outcome, by the camera's and the drone's wall clocks";
        Self {
            outcomes: add(metrics, "outcomes", outcomes, Family::default()),
            latency: add(metrics, "outcome_latency_seconds", latency, Histogram::new(SECONDS)),
            age: add(metrics, "frame_age_seconds", age, Histogram::new(SECONDS)),
            engine_seconds: add(metrics, "engine_run_seconds", "Seconds inside the engine by graph", Family::default()),
            engine_runs: add(metrics, "engine_runs", "Runs of the engine by graph", Family::default()),
            engine_failures: add(metrics, "engine_failures", "Runs in which the engine failed", Counter::default()),
            frames: add(metrics, "frames", "Frames handed over by the camera", Counter::default()),
            frames_dropped: add(metrics, "frames_dropped", "Frames that nobody looked at", Counter::default()),
            frames_throttled: add(metrics, "frames_throttled", "Frames left out for heat", Counter::default()),
            camera: CameraMetrics::new(metrics),
            engine: add(metrics, "engine_info", "Engine and model that fly", Family::default()),
            push: add(metrics, "model_push_state", "1 at the last state of model pushes", Family::default()),
            ready: add(metrics, "ready", "1 when queries are answered", Gauge::default()),
            active_queries: add(metrics, "active_queries", "Queries that are answered or wait", Gauge::default()),
            fallback: add(metrics, "fallback_active", "1 when the fallback engine flies", Gauge::default()),
            thermal_level: add(metrics, "thermal_level", "0 cool, 1 warm, 2 hot", Gauge::default()),
            temperature: add(metrics, "temperature_celsius", "The hottest sensor", Number::default()),
            frame_rate: add(metrics, "frame_rate_limit", "Frames per second, 0 when not limited", Number::default()),
            uptime: add(metrics, "uptime_seconds", "Seconds since the start", Gauge::default()),
            memory: add(metrics, "memory_bytes", "Bytes of main memory of this process", Gauge::default()),
            registry,
        }
    }

    /// Counts an outcome; `now_unix_nanos` is the wall clock's time.
    pub fn outcome(&self, reply: &Reply, now_unix_nanos: u64) {
        let labels = match &reply.outcome {
            Outcome::Segmented { .. } => [("outcome", "segmented"), ("reason", "")],
            Outcome::Refused(refusal) => [("outcome", "refused"), ("reason", reason(&refusal.verdict))],
        };
        self.outcomes.get_or_create(&labels).inc();
        self.latency.observe(Duration::from_micros(reply.latency_micros).as_secs_f64());
        // A reply about no frame has no age, nor has one of a camera whose clock is ahead.
        if reply.capture_unix_nanos > 0
            && let Some(age) = now_unix_nanos.checked_sub(reply.capture_unix_nanos)
        {
            self.age.observe(Duration::from_nanos(age).as_secs_f64());
        }
    }

    /// Counts what the engine ran for one answer.
    pub fn runs(&self, timings: &Timings) {
        let times = [timings.vision, timings.language, timings.mask];
        for ((graph, time), runs) in ["vision", "language", "mask"].into_iter().zip(times).zip(timings.runs) {
            if runs > 0 {
                let labels = [("graph", graph)];
                self.engine_seconds.get_or_create(&labels).inc_by(time.as_secs_f64());
                self.engine_runs.get_or_create(&labels).inc_by(u64::from(runs));
            }
        }
    }

    /// Counts a run in which the engine failed.
    pub fn engine_failed(&self) {
        self.engine_failures.inc();
    }

    /// Keeps the last state of model pushes.
    pub fn push(&self, phase: &PushPhase) {
        let last = phase_name(phase);
        for name in PHASES {
            self.push.get_or_create(&[("state", name)]).set(i64::from(name == last));
        }
    }

    /// Everything as text, with `now` for what is not counted here.
    #[must_use]
    pub fn render(&self, now: &Snapshot) -> String {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.frames.inner().store(now.health.frames_in, Ordering::Relaxed);
        self.frames_dropped.inner().store(now.health.frames_dropped, Ordering::Relaxed);
        self.frames_throttled.inner().store(now.frames_throttled, Ordering::Relaxed);
        self.camera.set(&now.camera);
        self.engine.clear();
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let labels = vec![of("engine", &now.health.engine), of("model", &now.health.model)];
        self.engine.get_or_create(&labels).set(1);
        self.ready.set(i64::from(now.health.readiness == Readiness::Ready));
        self.active_queries.set(whole(now.active_queries as u64));
        self.fallback.set(i64::from(now.fallback));
        self.thermal_level.set(match now.heat.level {
            Level::Cool => 0,
            Level::Warm => 1,
            Level::Hot => 2,
        });
        self.temperature.set(now.heat.hottest.as_ref().map_or(f64::NAN, |(_, celsius)| *celsius));
        self.frame_rate.set(now.heat.frames_per_second.unwrap_or(0.0));
        self.uptime.set(whole(now.health.uptime_seconds));
        self.memory.set(whole(now.memory_bytes.unwrap_or(0)));
        let mut text = String::new();
        // Writing into a string does not fail; what there is is told in any case.
        if prometheus_text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics: encoding failed");
        }
        text
    }
}

/// Registers a metric and gives it back.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// The name of a refusal's reason, as in messages.
fn reason(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::TooDark => "too_dark",
        Verdict::Overexposed => "overexposed",
        Verdict::Blurred => "blurred",
        Verdict::Noisy => "noisy",
        Verdict::Hazy => "hazy",
        Verdict::Frozen => "frozen",
        Verdict::Truncated => "truncated",
        Verdict::WrongModality => "wrong_modality",
        Verdict::TargetAbsent => "target_absent",
        Verdict::TargetAmbiguous { .. } => "target_ambiguous",
        Verdict::TargetTooSmall => "target_too_small",
        Verdict::TargetUnseeable => "target_unseeable",
        Verdict::QueryNotUnderstood { .. } => "query_not_understood",
        Verdict::LowConfidence => "low_confidence",
        Verdict::DeadlineMissed => "deadline_missed",
        Verdict::EngineDegraded => "engine_degraded",
        Verdict::ModelSwitching => "model_switching",
        _ => "other",
    }
}

const PHASES: [&str; 9] =
    ["idle", "downloading", "verified", "staged", "trial", "committed", "rolled_back", "refused", "other"];

fn phase_name(phase: &PushPhase) -> &'static str {
    match phase {
        PushPhase::Idle => "idle",
        PushPhase::Downloading { .. } => "downloading",
        PushPhase::Verified => "verified",
        PushPhase::Staged => "staged",
        PushPhase::Trial => "trial",
        PushPhase::Committed => "committed",
        PushPhase::RolledBack { .. } => "rolled_back",
        PushPhase::Refused { .. } => "refused",
        // The contract may know more phases than this program.
        _ => "other",
    }
}

/// Bytes of main memory of this process; `None` where `/proc` does not say.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS` of `/proc/self/status` (proc_pid_status(5)), in bytes. Its sibling `statm` counts in pages, whose size varies.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{CaptureDoubt, Refusal};

    fn snapshot() -> Snapshot {
        let health = Health {
            drone: "d".into(),
            readiness: Readiness::Ready,
            model: "m\"1".into(),
            model_hash: String::new(),
            slot: String::new(),
            engine: "tract".into(),
            uptime_seconds: 5,
            frames_in: 9,
            frames_dropped: 2,
            segmented: 0,
            refused: 0,
            degraded: Vec::new(),
            recording: None,
        };
        let heat = Heat { hottest: Some(("cpu".into(), 45.5)), ..Heat::default() };
        let camera = Counts { restarts: 2, lost: 3, doubted: vec![(CaptureDoubt::Jumped, 4)], ..Counts::default() };
        let memory_bytes = Some(4096);
        Snapshot { health, active_queries: 3, fallback: true, heat, frames_throttled: 1, camera, memory_bytes }
    }

    fn refused(verdict: Verdict) -> Reply {
        Reply {
            drone: "d".into(),
            query_id: "q".into(),
            query_text: "car".into(),
            frame: 0,
            frame_width: 1,
            frame_height: 1,
            capture_unix_nanos: 1_000_000_000,
            capture_doubt: None,
            latency_micros: 30_000,
            frame_age_micros: None,
            model: "m".into(),
            engine: "tract".into(),
            outcome: Outcome::Refused(Refusal { verdict, evidence: Vec::new(), advice: String::new() }),
            standing: None,
        }
    }

    fn full() -> String {
        let metrics = Metrics::new();
        metrics.outcome(&refused(Verdict::TooDark), 3_000_000_000);
        // A camera's clock that is ahead gives no age.
        metrics.outcome(&refused(Verdict::TooDark), 0);
        let timings = Timings { vision: Duration::from_millis(500), runs: [2, 0, 0], ..Timings::default() };
        metrics.runs(&timings);
        metrics.engine_failed();
        metrics.push(&PushPhase::Trial);
        metrics.render(&snapshot())
    }

    #[test]
    fn what_was_counted_is_told() {
        let text = full();
        for line in [
            "kestrel_outcomes_total{outcome=\"refused\",reason=\"too_dark\"} 2",
            "kestrel_outcome_latency_seconds_bucket{le=\"0.025\"} 0",
            "kestrel_outcome_latency_seconds_bucket{le=\"0.05\"} 2",
            "kestrel_outcome_latency_seconds_count 2",
            "kestrel_frame_age_seconds_count 1",
            "kestrel_engine_run_seconds_total{graph=\"vision\"} 0.5",
            "kestrel_engine_runs_total{graph=\"vision\"} 2",
            "kestrel_engine_failures_total 1",
            "kestrel_frames_total 9",
            "kestrel_frames_dropped_total 2",
            "kestrel_frames_throttled_total 1",
            "kestrel_camera_restarts_total 2",
            "kestrel_camera_frames_lost_total 3",
            "kestrel_camera_capture_doubted_total{doubt=\"jumped\"} 4",
            "kestrel_engine_info{engine=\"tract\",model=\"m\\\"1\"} 1",
            "kestrel_model_push_state{state=\"trial\"} 1",
            "kestrel_model_push_state{state=\"idle\"} 0",
            "kestrel_ready 1",
            "kestrel_active_queries 3",
            "kestrel_fallback_active 1",
            "kestrel_temperature_celsius 45.5",
            "kestrel_uptime_seconds 5",
            "kestrel_memory_bytes 4096",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("language"), "what did not run is not told");
    }

    /// What would break: a dashboard built from a guide that names other metrics.
    #[test]
    fn the_guide_names_every_metric() {
        let guide = include_str!("../../../docs/guides/run-in-the-air.md");
        let text = full();
        let named: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(named.len() >= 19, "{named:?}");
        for name in named {
            assert!(guide.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn memory_is_read_in_bytes_or_not_at_all() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        for garbage in ["", "VmRSS:", "VmRSS: -1 kB", "VmRSS: 12 MB", "VmRSS: 99999999999999999999 kB"] {
            assert_eq!(resident_bytes(garbage), None, "{garbage}");
        }
        if cfg!(target_os = "linux") {
            assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
