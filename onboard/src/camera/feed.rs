//! The camera's thread: runs a source, opens it again when it fails, judges its stamps and hands its frames on.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::stamps::{Arrival, Judgement, Stamps};
use super::watch::Watch;
use super::{CameraError, CameraOptions, Captured, Next, Source, picture, unix_nanos};

/// The stop of a camera takes no longer than this; a thread that hangs in a driver is then left behind.
pub const STOP_WITHIN: Duration = Duration::from_secs(1);

/// How often the thread looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A running camera; it stops when this is dropped, within [`STOP_WITHIN`].
#[derive(Debug)]
pub struct Feed {
    /// Its thread ends when this end of the channel is gone.
    running: Option<SyncSender<()>>,
    /// Gone when the thread has ended.
    alive: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Runs the source that `open` gives on a thread of its own. `deliver` takes each frame with what is thought of its
    /// stamp, and says whether to go on; what happens is kept in `watch`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        options: CameraOptions,
        watch: Arc<Watch>,
        open: impl FnMut(&CameraOptions) -> Result<Box<dyn Source>, CameraError> + Send + 'static,
        deliver: impl FnMut(Captured, &Judgement) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (running, ended) = sync_channel(0);
        let (living, alive) = sync_channel(0);
        let camera = Camera { stamps: Stamps::new(options.stamps), options, watch, ended, open, deliver };
        let thread = std::thread::Builder::new().name("camera".into()).spawn(move || {
            // Held until the thread ends, however it ends.
            let _living: SyncSender<()> = living;
            camera.run();
        })?;
        Ok(Self { running: Some(running), alive, thread: Some(thread) })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        drop(self.running.take());
        match self.alive.recv_timeout(STOP_WITHIN) {
            Err(RecvTimeoutError::Timeout) => tracing::error!("the camera does not stop: its thread is left behind"),
            _ => {
                if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
                    tracing::error!("the camera's thread panicked");
                }
            }
        }
    }
}

struct Camera<O, D> {
    options: CameraOptions,
    stamps: Stamps,
    watch: Arc<Watch>,
    ended: Receiver<()>,
    open: O,
    deliver: D,
}

/// Why a source is no longer run.
enum End {
    Stopped,
    Ended,
    Failed(CameraError),
}

impl<O, D> Camera<O, D>
where
    O: FnMut(&CameraOptions) -> Result<Box<dyn Source>, CameraError>,
    D: FnMut(Captured, &Judgement) -> bool,
{
    fn run(mut self) {
        let mut pauses = Pauses::new(self.options.restart_first, self.options.restart_most);
        loop {
            let opened = Instant::now();
            // A panic would end the thread without a word in health. What it leaves half done is the source's, and goes with it.
            let ran = catch_unwind(AssertUnwindSafe(|| self.once(opened)));
            let error = match ran.unwrap_or_else(|panic| self.panicked(panic.as_ref())) {
                End::Stopped => return self.watch.stopped(),
                End::Ended => {
                    tracing::warn!("the camera has ended");
                    return self.watch.ended();
                }
                End::Failed(error) => error,
            };
            self.watch.failed(&error);
            let pause = pauses.after(opened.elapsed());
            tracing::error!("camera: {error}; it is started again in {:.1} s", pause.as_secs_f64());
            if self.ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return self.watch.stopped();
            }
            self.watch.restarted(Instant::now());
        }
    }

    /// What a panic is to whoever runs the source: a failure like any other.
    fn panicked(&self, panic: &(dyn Any + Send)) -> End {
        let text = panic.downcast_ref::<&str>().copied();
        let said = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let why = said.unwrap_or("without a word").to_owned();
        End::Failed(CameraError::Panicked { source_name: self.options.origin.to_string(), why })
    }

    /// Opens the source and runs it to its end.
    fn once(&mut self, opened: Instant) -> End {
        let mut source = match (self.open)(&self.options) {
            Ok(source) => source,
            Err(error) => return End::Failed(error),
        };
        tracing::info!("camera: {}", self.options.origin);
        self.watch.opened(opened, self.patience());
        let mut replaced = 0;
        loop {
            if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
                return End::Stopped;
            }
            let next = source.next(LOOK_EVERY);
            let by_now = source.replaced();
            self.watch.replaced(by_now.saturating_sub(replaced));
            replaced = by_now;
            match next {
                Ok(Next::Frame(captured)) => {
                    if !self.hand_on(captured) {
                        return End::Stopped;
                    }
                }
                Ok(Next::Nothing) => {}
                Ok(Next::Lost(error)) => self.lost(&error),
                Ok(Next::Ended) => return End::Ended,
                Err(error) => return End::Failed(error),
            }
        }
    }

    /// Silence for longer than this is told: a source that is slow by its configuration is not silent.
    fn patience(&self) -> Duration {
        let three_frames = Duration::try_from_secs_f64(3.0 / self.options.frames_per_second).unwrap_or(Duration::MAX);
        self.options.stall.max(three_frames)
    }

    /// Judges a frame and hands it on; says whether to go on.
    fn hand_on(&mut self, captured: Captured) -> bool {
        let now = Instant::now();
        let judgement = self.stamps.judge(Arrival {
            stamp_unix_nanos: captured.capture_unix_nanos,
            fingerprint: picture::fingerprint(&captured.image),
            now,
            wall_unix_nanos: unix_nanos(),
        });
        if self.watch.frame(now, &judgement) {
            match judgement.doubt {
                Some(_) => tracing::warn!("camera: {judgement}; capture times are not given"),
                None => tracing::info!("camera: {judgement} again"),
            }
        }
        if let Some(intervals) = judgement.gap_intervals {
            tracing::warn!("camera: a gap of {intervals:.1} intervals between two frames");
        }
        (self.deliver)(captured, &judgement)
    }

    /// Counts a frame that cannot be used, and logs it ever less often, so that a flood of them does not fill the log.
    fn lost(&mut self, error: &CameraError) {
        let count = self.watch.lost();
        if count.is_power_of_two() {
            tracing::warn!("camera: frame left out, {count} by now: {error}");
        }
    }
}

/// Pauses before a source is opened again: twice as long after each failure in a row.
#[derive(Debug, Clone)]
struct Pauses {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Pauses {
    fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The pause after a source that failed after it `ran` for so long; one that ran for longer than the longest pause was well.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran > self.most {
            self.next = self.first;
        }
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.most);
        pause
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
