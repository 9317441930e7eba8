//! Metrics over HTTP, asked by friends and by others.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use kestrel_onboard::health::exposition::{Exposition, MOST_REQUEST_BYTES};
use kestrel_onboard::node::{Limits, UpkeepOptions};

use crate::network::{PATIENCE, Pair, folder};
use crate::red::{self, RED, picture, query};

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: drone\r\n\r\n";

/// What comes back for these bytes. An asker that `ends` says that nothing more will come.
fn exchange(address: SocketAddr, bytes: &[u8], ends: bool) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that refuses early may close before everything was written; what counts is what it says.
    let _ = stream.write_all(bytes);
    if ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Setup: metrics over HTTP. Fault: the attacks of `onboard/attacks/http-*.hex`, in which `# expect:` names the status
/// and the rest is hex with comments. Expected: each is refused with that status. Invariant: the next scrape is answered.
///
/// Promise: P13
#[test]
fn every_attack_is_refused_and_the_next_scrape_answered() {
    let exposition = Exposition::start(([127, 0, 0, 1], 0).into(), || "kestrel_ready 1\n".into()).unwrap();
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("attacks");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let expect = text.lines().find_map(|line| line.strip_prefix("# expect: ")).unwrap();
        let hex: String = text
            .lines()
            .map(|line| line.split('#').next().unwrap())
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let answer = exchange(exposition.address(), &bytes, true);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expect} ")), "{}: {answer:?}", path.display());
        let answer = exchange(exposition.address(), SCRAPE, false);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "after {}: {answer:?}", path.display());
        tried += 1;
    }
    assert!(tried >= 12, "only {tried} attacks found");
}

/// Setup: metrics over HTTP. Fault: a stranger who sends without end, and one who connects and says nothing. Expected:
/// the flood is refused, the silent one holds up the others for a while only, and both let the port go at the end.
/// Invariant: memory does not grow with what is sent, and no scrape waits without end.
///
/// Promise: P5
#[test]
fn floods_and_silence_are_bounded() {
    let exposition = Exposition::start(([127, 0, 0, 1], 0).into(), String::new).unwrap();
    let flood = vec![b'A'; 16 * MOST_REQUEST_BYTES];
    assert!(exchange(exposition.address(), &flood, false).starts_with("HTTP/1.1 400 "));
    let silent = TcpStream::connect(exposition.address()).unwrap();
    let start = std::time::Instant::now();
    assert!(exchange(exposition.address(), SCRAPE, false).starts_with("HTTP/1.1 200 "));
    assert!(start.elapsed() < PATIENCE / 2, "a silent connection holds up the others for a while only");
    drop(silent);
    let address = exposition.address();
    drop(exposition);
    // Its thread has been woken and is gone in a moment, and the port with it.
    let gone = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err();
    let start = std::time::Instant::now();
    while !gone() {
        assert!(start.elapsed() < PATIENCE, "it listens on");
        std::thread::yield_now();
    }
}

/// Setup: a drone that gives metrics. Fault: one of two questions is refused. Expected: both outcomes are counted, the
/// refusal by its reason. Invariant: what is refused on the link is in the metrics.
///
/// Promise: P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_what_it_counted() {
    let (_folder, source) = folder();
    let upkeep = UpkeepOptions { metrics: Some(([127, 0, 0, 1], 0).into()), ..UpkeepOptions::of(PATIENCE) };
    let limits = Limits { reuse_frame: PATIENCE, deadline: PATIENCE, ..Limits::default() };
    let pair = Pair::start_with(source, limits, red::tract(), upkeep).await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 77).unwrap();
    pair.ask(&query("a", "red square")).await.unwrap();
    pair.ask(&query("b", "blue square")).await.unwrap();
    let address = pair.node.metrics_address().unwrap();
    let text = tokio::task::spawn_blocking(move || exchange(address, SCRAPE, false)).await.unwrap();
    for line in [
        "kestrel_outcomes_total{outcome=\"segmented\",reason=\"\"} 1",
        "kestrel_outcomes_total{outcome=\"refused\",reason=\"target_absent\"} 1",
        "kestrel_outcome_latency_seconds_count 2",
        "kestrel_engine_runs_total{graph=\"vision\"} 1",
        "kestrel_engine_runs_total{graph=\"language\"} 2",
        "kestrel_frames_total 1",
        "kestrel_engine_info{engine=\"tract\",model=\"red@1\"} 1",
        "kestrel_ready 1",
        "kestrel_fallback_active 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    pair.stop().await;
}
