//! What keeps a node flying, and says so when it cannot: recovery of the engine, a watchdog over it, heat, metrics.
//!
//! The rules stand in [`crate::health`]; here they meet the node's threads.

mod fault;
mod mender;
mod vitals;
mod warden;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::Readiness;
use tokio::sync::watch;

use super::twin::Twin;
use super::{Asker, Inner, NodeConfig, NodeError};
use crate::camera::Watch;
use crate::engine::{EngineChoice, Opener};
use crate::health::exposition::Exposition;
use crate::health::metrics::{Metrics, Snapshot, memory_bytes};
use crate::health::periodic::Periodic;
use crate::health::recovery::{RecoveryLimits, Which};
use crate::health::thermal::{Heat, Thermal, ThermalOptions};
use crate::health::throttle::Pace;
use crate::health::watchdog::{Pulse, WatchdogLimits};

pub use fault::Fault;
pub use vitals::Vitals;

pub(super) use fault::PanicGuard;
pub(super) use mender::Mender;
pub(super) use warden::{Running, Seen, late};

/// How often the sensors of heat are read.
const THERMAL_EVERY: Duration = Duration::from_secs(1);
/// How often the watchdog looks at the engine.
const WARDEN_EVERY: Duration = Duration::from_millis(50);
/// A warden that was not seen for this long is stuck, and with it the watchdog.
const WARDEN_PATIENCE: Duration = Duration::from_secs(2);

/// What a node does when things go wrong.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// How engines are opened.
    pub opener: Opener,
    /// The engine that may fly when the one asked for is lost in flight; `None` when none may. Never used at the start.
    pub fallback: Option<EngineChoice>,
    /// When a lost engine is opened again.
    pub recovery: RecoveryLimits,
    /// How long the engine may be silent.
    pub watchdog: WatchdogLimits,
    /// Sensors of heat and what to do about it; `None` throttles nothing.
    pub thermal: Option<ThermalOptions>,
    /// Where metrics are given over HTTP, port 0 for any; `None` gives none.
    pub metrics: Option<SocketAddr>,
}

impl UpkeepOptions {
    /// No fallback, no throttling, no metrics over HTTP; a watchdog at 2 and 6 times the deadline of an outcome.
    #[must_use]
    pub fn of(deadline: Duration) -> Self {
        Self {
            opener: Opener::default(),
            fallback: None,
            recovery: RecoveryLimits::default(),
            watchdog: WatchdogLimits::of(deadline, 2.0, 6.0),
            thermal: None,
            metrics: None,
        }
    }
}

/// What the node's threads share for its upkeep.
pub(super) struct Upkeep {
    pub(super) running: Running<Asker>,
    pub(super) mender: Mender,
    pub(super) metrics: Metrics,
    /// What is known of the camera, when the node runs one.
    pub(super) camera: Arc<Watch>,
    /// What is known of another drone of the same name.
    pub(super) twin: Arc<Twin>,
    heat: Mutex<(Heat, Pace)>,
    throttled: AtomicU64,
    faults: watch::Sender<Option<Fault>>,
    warden_seen: Mutex<Instant>,
}

impl Upkeep {
    pub(super) fn new(config: &NodeConfig) -> Self {
        let options = &config.upkeep;
        Self {
            running: Running::new(options.watchdog),
            mender: Mender::new(options.recovery, config.engine.choice, options.fallback),
            metrics: Metrics::new(),
            camera: Arc::default(),
            twin: Arc::default(),
            heat: Mutex::default(),
            throttled: AtomicU64::new(0),
            faults: watch::Sender::new(None),
            warden_seen: Mutex::new(Instant::now()),
        }
    }

    /// Whether a frame that arrives now is looked at, or left out because of heat.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut guard = self.heat.lock().unwrap_or_else(PoisonError::into_inner);
        let (heat, pace) = &mut *guard;
        let admitted = pace.admits(now, heat.frames_per_second);
        if !admitted {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Whether queries are answered now.
    pub(super) fn readiness(&self, now: Instant) -> Readiness {
        let fault = self.fault().map(|fault| fault.to_string());
        let silent = || match self.running.pulse(now) {
            Pulse::Well => None,
            Pulse::Late(silent) | Pulse::Hung(silent) => {
                Some(format!("the engine has not answered for {:.1} s", silent.as_secs_f64()))
            }
        };
        match fault.or_else(silent).or_else(|| self.mender.trouble(now)) {
            Some(why) => Readiness::NotReady { why },
            None => Readiness::Ready,
        }
    }

    /// What is worse than it should be though queries are answered, one line each.
    pub(super) fn degraded(&self) -> Vec<String> {
        let now = Instant::now();
        let camera = self.camera.told(now);
        let twin = self.twin.told(now);
        self.mender.replaced_by().into_iter().chain(twin).chain(self.heat().told()).chain(camera).collect()
    }

    fn heat(&self) -> Heat {
        self.heat.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The fault that the node ended with, if there is one.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.faults.borrow().clone()
    }

    pub(super) fn faults(&self) -> watch::Receiver<Option<Fault>> {
        self.faults.subscribe()
    }

    /// Says that the node cannot go on. The first reason stays.
    pub(super) fn fail(&self, fault: Fault) {
        self.faults.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!("{fault}");
                *first = Some(fault);
            }
            is_first
        });
    }

    fn warden_was_here(&self, now: Instant) {
        *self.warden_seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Whether the node watches itself and has no fault; a service manager gets signs of life as long as this holds.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        let seen = *self.warden_seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.fault().is_none() && now.saturating_duration_since(seen) < WARDEN_PATIENCE
    }
}

impl Inner {
    /// The metrics as they are now.
    fn metrics(&self) -> String {
        self.upkeep.metrics.render(&Snapshot {
            health: self.health(),
            active_queries: self.mailbox.active(),
            fallback: self.upkeep.mender.flies() == Some(Which::Fallback),
            heat: self.upkeep.heat(),
            frames_throttled: self.upkeep.throttled.load(Ordering::Relaxed),
            camera: self.upkeep.camera.counts(),
            memory_bytes: memory_bytes(),
        })
    }
}

/// The threads of a node's upkeep; they end when this is dropped.
pub(super) struct Threads {
    inner: Arc<Inner>,
    exposition: Option<Exposition>,
    _periodic: Vec<Periodic>,
}

impl Threads {
    pub(super) fn start(inner: &Arc<Inner>, config: &Arc<NodeConfig>) -> Result<Self, NodeError> {
        let failed = |name| move |source| NodeError::Thread { name, source };
        let exposition = config.upkeep.metrics.map(|address| {
            let scraped = Arc::clone(inner);
            Exposition::start(address, move || scraped.metrics())
                .map_err(|source| NodeError::Metrics { address, source })
        });
        let exposition = exposition.transpose()?;
        let (mending, plan) = (Arc::clone(inner), Arc::clone(config));
        std::thread::Builder::new()
            .name("mender".into())
            .spawn(move || {
                let _guard = PanicGuard::new(&mending, "mender");
                mender::mend(&mending, &plan);
            })
            .map_err(failed("mender"))?;
        let warden =
            Periodic::start("warden", WARDEN_EVERY, warden::watch(Arc::clone(inner))).map_err(failed("warden"))?;
        let mut periodic = vec![warden];
        if let Some(options) = &config.upkeep.thermal {
            let mut measure = measure(Arc::clone(inner), options.clone());
            measure();
            periodic.push(Periodic::start("thermal", THERMAL_EVERY, measure).map_err(failed("thermal"))?);
        }
        Ok(Self { inner: Arc::clone(inner), exposition, _periodic: periodic })
    }

    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        self.exposition.as_ref().map(Exposition::address)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.inner.upkeep.mender.stop();
    }
}

/// Reads the sensors and sets the frame rate.
fn measure(inner: Arc<Inner>, options: ThermalOptions) -> impl FnMut() + Send + 'static {
    let mut thermal = Thermal::new(options);
    move || {
        let heat = thermal.tick(Instant::now());
        let before = {
            let mut guard = inner.upkeep.heat.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut guard.0, heat.clone())
        };
        if (before.level, before.over_current) != (heat.level, heat.over_current) {
            inner.health_changed();
        }
    }
}
