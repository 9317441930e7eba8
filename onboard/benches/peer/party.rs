//! One of the two programs, from outside: a process that takes frames over zenoh and publishes outcomes.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use image::RgbImage;
use kestrel_link::query::MAX_TIME_TO_LIVE_MILLIS;
use kestrel_link::{DroneId, Query, Reply, decode, encode};
use kestrel_onboard::camera::{Captured, Network, unix_nanos};
use kestrel_onboard::loopback::free_address;
use kestrel_onboard::node::LinkOptions;
use zenoh::Wait;
use zenoh::bytes::Encoding;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use super::figures::{Round, most_bytes_of, ticks_of};

/// How long a program may take to start, and to answer about one frame.
const START: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing more comes after this much silence.
const SILENCE: Duration = Duration::from_secs(1);
const QUERY_ID: &str = "bench";

/// A process that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to be done about one that cannot be ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running program and the session with it.
pub(crate) struct Party {
    pub(crate) name: &'static str,
    running: Running,
    network: Network,
    outcomes: Subscriber<FifoChannelHandler<Sample>>,
}

/// An address on which nobody listens now.
pub(crate) fn free_endpoint() -> anyhow::Result<(String, SocketAddr)> {
    let address = free_address().context("looking for a free port")?;
    Ok((format!("tcp/{address}"), address))
}

impl Party {
    /// Starts a program that listens on `address` as `drone`, and asks it about every frame from now on.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        (endpoint, address): &(String, SocketAddr),
        text: &str,
        frame: &RgbImage,
    ) -> anyhow::Result<Self> {
        let drone = DroneId::new(name)?;
        let child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let mut running = Running(child);
        listens(&mut running.0, *address).with_context(|| format!("waiting for {name}"))?;
        let options = LinkOptions { connect: vec![endpoint.clone()], ..LinkOptions::default() };
        let session = zenoh::open(options.config()?).wait().map_err(|error| anyhow!("joining {name}: {error}"))?;
        let outcomes = session
            .declare_subscriber(drone.outcome(QUERY_ID)?)
            .wait()
            .map_err(|error| anyhow!("listening to {name}: {error}"))?;
        let mut party = Self { name, running, network: Network { session, drone }, outcomes };
        party.ask(text, frame)?;
        Ok(party)
    }

    /// Asks until the program takes the question and has answered once; frames come all the while.
    fn ask(&mut self, text: &str, frame: &RgbImage) -> anyhow::Result<()> {
        let query =
            Query { frames: 0, time_to_live_millis: Some(MAX_TIME_TO_LIVE_MILLIS), ..Query::new(QUERY_ID, text) };
        let give_up = Instant::now() + START;
        while Instant::now() < give_up {
            if let Some(status) = self.running.0.try_wait()? {
                bail!("{} ended by itself: {status}", self.name);
            }
            let replies = self
                .network
                .session
                .get(self.network.drone.query())
                .payload(encode(&query)?)
                .encoding(Encoding::APPLICATION_CBOR)
                .timeout(START)
                .wait()
                .map_err(|error| anyhow!("asking {}: {error}", self.name))?;
            // The channel closes at once while nobody is known who takes the question.
            while Instant::now() < give_up {
                self.publish(frame)?;
                match replies.recv_timeout(SILENCE) {
                    Ok(Some(reply)) => match reply.into_result() {
                        Ok(_) => return self.drain(),
                        Err(error) => {
                            let why = String::from_utf8_lossy(&error.payload().to_bytes()).into_owned();
                            bail!("{} does not take the question: {why}", self.name);
                        }
                    },
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("{} did not answer within {START:?}", self.name)
    }

    fn publish(&self, frame: &RgbImage) -> anyhow::Result<()> {
        let captured = Captured { image: frame.clone(), capture_unix_nanos: unix_nanos(), pose: None };
        self.network.publish(None, &captured, false).with_context(|| format!("publishing to {}", self.name))
    }

    fn outcome(&self, patience: Duration) -> anyhow::Result<Option<Reply>> {
        let sample =
            self.outcomes.recv_timeout(patience).map_err(|error| anyhow!("the link to {}: {error}", self.name))?;
        let Some(sample) = sample else { return Ok(None) };
        let reply = decode(&sample.payload().to_bytes()).with_context(|| format!("an outcome of {}", self.name))?;
        Ok(Some(reply))
    }

    /// Takes what is still on its way.
    fn drain(&self) -> anyhow::Result<()> {
        while self.outcome(SILENCE)?.is_some() {}
        Ok(())
    }

    fn expected(&self) -> anyhow::Result<Reply> {
        self.outcome(PATIENCE)?.ok_or_else(|| anyhow!("{} gave no outcome within {PATIENCE:?}", self.name))
    }

    /// The outcome about one frame, and how long it took from here and back.
    pub(crate) fn one(&self, frame: &RgbImage) -> anyhow::Result<(Reply, Duration)> {
        let start = Instant::now();
        self.publish(frame)?;
        let reply = self.expected()?;
        Ok((reply, start.elapsed()))
    }

    /// One round: `count` frames one by one, then as many with two in flight.
    pub(crate) fn round(&self, frames: &[RgbImage], count: usize) -> anyhow::Result<Round> {
        let before = self.ticks()?;
        let mut latency_millis = Vec::with_capacity(count);
        let mut last = 0;
        for frame in frames.iter().cycle().take(count) {
            let (reply, time) = self.one(frame)?;
            latency_millis.push(time.as_secs_f64() * 1e3);
            last = reply.frame;
        }
        let frames_per_second = self.two_in_flight(frames, count, last)?;
        let cpu_millis = (self.ticks()? - before) as f64 * 10.0 / (2 * count) as f64;
        Ok(Round { latency_millis, frames_per_second, cpu_millis })
    }

    /// Frames a second with two in flight; `last` is the number of the frame before, as the program counts.
    fn two_in_flight(&self, frames: &[RgbImage], count: usize, last: u64) -> anyhow::Result<f64> {
        let mut ahead = frames.iter().cycle().take(count);
        let (mut published, mut answered) = (0_u64, 0_u64);
        let start = Instant::now();
        while answered < count as u64 {
            while published - answered < 2 {
                let Some(frame) = ahead.next() else { break };
                self.publish(frame)?;
                published += 1;
            }
            // A frame that a newer one replaced has no outcome, and its number is passed over.
            answered = self.expected()?.frame.saturating_sub(last).min(published).max(answered);
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }

    fn ticks(&self) -> anyhow::Result<u64> {
        self.proc("stat", ticks_of)
    }

    /// The most memory that the process ever held, in bytes.
    pub(crate) fn most_bytes(&self) -> anyhow::Result<u64> {
        self.proc("status", most_bytes_of)
    }

    fn proc(&self, file: &str, read: fn(&str) -> Option<u64>) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/{file}", self.running.0.id());
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {path}: processor time and memory are read from Linux' /proc"))?;
        read(&text).ok_or_else(|| anyhow!("{path}: expected the figures of proc(5)"))
    }
}

fn listens(child: &mut Child, address: SocketAddr) -> anyhow::Result<()> {
    let give_up = Instant::now() + START;
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("it ended by itself: {status}");
        }
        ensure!(Instant::now() < give_up, "it does not listen on {address} after {START:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The library of ONNX Runtime inside a Python's package, so that both programs compute with the same one.
pub(crate) fn library_of(python: &Path) -> anyhow::Result<String> {
    const FIND: &str = "import onnxruntime, pathlib; \
         print(next((pathlib.Path(onnxruntime.__file__).parent / 'capi').glob('libonnxruntime.so*')))";
    let output = Command::new(python).args(["-c", FIND]).output().with_context(|| format!("running {python:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{python:?} has no onnxruntime: {}\nhint: onboard/benches/peer/README.md says how to make one that has",
        said.lines().last().unwrap_or_default()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
