//! What a flight ends with when it cannot go on, as a process of its own: 70, 71 and 72 (docs/reference/exit-codes.md).
//!
//! The process is this test's own program, told to run one test that flies as `onboard run` does, with an engine that
//! fails when the parent says so. What it ends with is decided by the library, as in `onboard run`; nothing in the drone
//! knows of this.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kestrel_link::{DroneId, Health, Outcome, Query, Readiness, decode, encode};
use kestrel_onboard::config::Config;
use kestrel_onboard::flight::fly;
use kestrel_onboard::health::recovery::RecoveryLimits;
use kestrel_onboard::health::watchdog::WatchdogLimits;
use kestrel_onboard::loopback::free_address;
use kestrel_onboard::node::{LinkOptions, UpkeepOptions};
use zenoh::sample::SampleKind;

use crate::faulty::{self, Faults};
use crate::network::{PATIENCE, first};
use crate::red::{self, RED, picture, query};
use crate::service::Ended;
use crate::sources::until;

/// Names the folder in which the process finds its configuration.
const FOLDER: &str = "KESTREL_TEST_FLIGHT";

/// The process: flies until it cannot go on. Each line on its standard input is a fault.
#[test]
#[ignore = "flies as a process of its own, which the other tests here start"]
fn a_flight_that_fails_when_it_is_told_to() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let faults = Arc::new(Faults::default());
    let told = Arc::clone(&faults);
    let listening = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "panic" => told.panic(),
                "hang" => told.stall(true),
                "break" => told.break_down(true),
                other => panic!("no such fault: {other}"),
            }
        }
    };
    std::thread::Builder::new().name("faults".into()).spawn(listening).unwrap();
    let mut config = Config::load(&Path::new(&folder).join("drone.toml"), |_| None, &[]).unwrap();
    config.node.engine = faulty::options();
    config.node.upkeep = UpkeepOptions {
        opener: faulty::opener(&faults),
        recovery: RecoveryLimits {
            first_pause: Duration::from_millis(10),
            give_up_after: 3,
            ..RecoveryLimits::default()
        },
        // A real configuration has at least ten seconds.
        watchdog: WatchdogLimits { late: Duration::from_millis(250), hung: Duration::from_millis(500) },
        ..config.node.upkeep
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let code = runtime.block_on(fly(config)).map_or_else(|error| error.exit_code(), |()| 0);
    std::process::exit(code.into());
}

/// Flies in a process of its own, which answers once, and then meets a fault while a query stands; where that is wanted it is
/// asked to stop as soon as it says that it is not ready. Gives what it ends with.
async fn ends_with(fault: &str, asked_to_stop: bool) -> Option<i32> {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("bundle"), "1", None);
    picture(320, 240, &[(100, 60, 50, RED)]).save(at("red.png")).unwrap();
    let address = free_address().unwrap();
    let endpoint = format!("tcp/{address}");
    let drone = DroneId::new(&format!("drone-{}", address.port())).unwrap();
    let config = format!(
        "drone = \"{drone}\"\n[model]\nbundle = {:?}\n[camera]\npath = {:?}\nframes_per_second = 20.0\n\
         [perception]\ngate = false\n[link]\nlisten = []\nconnect = [\"{endpoint}\"]\n",
        at("bundle").display().to_string(),
        at("red.png").display().to_string(),
    );
    std::fs::write(at("drone.toml"), config).unwrap();
    let options = LinkOptions { listen: vec![endpoint], ..LinkOptions::default() };
    let operator = zenoh::open(options.config().unwrap()).await.unwrap();
    let alive = operator.liveliness().declare_subscriber(drone.alive()).history(true).await.unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "exits::a_flight_that_fails_when_it_is_told_to", "--ignored", "--nocapture"])
        .env(FOLDER, root.path())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let mut input = child.0.stdin.take().unwrap();
    // Read to its end, so that the process never waits for a reader.
    let errors = BufReader::new(child.0.stderr.take().unwrap());
    let reading = tokio::task::spawn_blocking(move || errors.lines().map_while(Result::ok).collect::<Vec<_>>());
    let seen = tokio::time::timeout(PATIENCE, alive.recv_async()).await.unwrap().unwrap();
    assert_eq!(seen.kind(), SampleKind::Put);
    let standing = Query { frames: 0, ..query("q", "red square") };
    let asked = operator.get(drone.query()).payload(encode(&standing).unwrap()).timeout(PATIENCE);
    let reply = first(&asked.await.unwrap()).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Segmented { .. }), "{reply:?}");
    let health = operator.declare_subscriber(drone.health()).await.unwrap();
    writeln!(input, "{fault}").unwrap();
    if asked_to_stop {
        let not_ready = async {
            loop {
                let said: Health = decode(&health.recv_async().await.unwrap().payload().to_bytes()).unwrap();
                if matches!(said.readiness, Readiness::NotReady { .. }) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, not_ready).await.unwrap();
        // It may have ended by itself on a slow machine.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.0.id())]).status();
    }
    until("the process ends", || child.0.try_wait().unwrap().is_some()).await;
    let told = reading.await.unwrap();
    let code = child.0.wait().unwrap().code();
    assert!(code.is_some(), "ended by a signal: {told:?}");
    operator.close().await.unwrap();
    code
}

/// Setup: a flight as a process, with a query that stands. Fault: the thread that perceives panics.
/// Expected: the process ends with 70. Invariant: a fault of the program is never a drone that flies on and says nothing.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_the_process_with_70() {
    assert_eq!(ends_with("panic", false).await, Some(70));
}

/// Setup: a flight as a process, with a query that stands. Fault: the engine hangs inside a run and never comes back.
/// Expected: the process ends with 71 without waiting for the thread. Invariant: nothing waits for a hung engine for ever.
///
/// Promise: P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_engine_ends_the_process_with_71() {
    assert_eq!(ends_with("hang", false).await, Some(71));
}

/// Setup: a flight as a process, with a query that stands. Fault: the engine is silent when the process is asked to stop, and
/// never comes back. Expected: the process ends with 71. Invariant: nothing waits for a hung engine for ever.
///
/// Promise: P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_does_not_hold_up_a_stop() {
    assert_eq!(ends_with("hang", true).await, Some(71));
}

/// Setup: a flight as a process, without a fallback. Fault: the engine breaks down in flight, for good.
/// Expected: the process ends with 72 after three failures. Invariant: no other engine flies in its place.
///
/// Promise: P3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_lost_in_flight_ends_the_process_with_72() {
    assert_eq!(ends_with("break", false).await, Some(72));
}
