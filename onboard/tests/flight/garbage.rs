//! Hostile bytes on every key that a drone listens to.

use std::path::Path;

use kestrel_link::{Georeference, Outcome, PushPhase, PushState, Query, Reply, Unplaced, decode, encode};
use kestrel_onboard::camera::Origin;
use kestrel_onboard::node::{Limits, NodeConfig};
use zenoh::qos::CongestionControl;

use crate::degraded::limits;
use crate::ledger::{Booked, segmented};
use crate::network::{PATIENCE, Pair, first, first_reply};
use crate::push::{as_it_is, push, slots};
use crate::red::{self, RED, picture, query};
use crate::sources::{camera, until};

/// The bytes of a word of hex, or of some bytes and how often they stand.
fn bytes_of(word: &str) -> Vec<u8> {
    let (hex, times) = word.split_once('*').map_or((word, 1), |(hex, times)| (hex, times.parse().unwrap()));
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    (0..hex.len() / 2).map(byte).collect::<Vec<u8>>().repeat(times)
}

/// Every attack that lies beside the link's tests, and bytes that are of no kind at all.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("link/attacks");
    let mut corpus = vec![vec![], vec![0], vec![0xff; 100], vec![0x9b; 9], vec![0xa0; 4096], vec![0xf6; 70_000]];
    corpus.push(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    corpus.push(vec![0x5f; 1 << 20]);
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let lines = text.lines().map(|line| line.split('#').next().unwrap());
        corpus.push(lines.flat_map(str::split_whitespace).flat_map(bytes_of).collect());
    }
    assert!(corpus.len() >= 38, "only {} attacks found", corpus.len());
    corpus
}

/// What comes back for these bytes on a queryable.
async fn exchange(pair: &Pair, key: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    first_reply(&pair.get(key, payload).await).await
}

/// Whether its masks lie nowhere, because nobody said where the drone was.
fn is_nowhere(reply: &Reply) -> bool {
    let Outcome::Segmented { masks } = &reply.outcome else { return false };
    let mut places = masks.iter().flat_map(|mask| &mask.positions);
    places.all(|place| *place == Georeference::Unplaced { why: Unplaced::PoseUnknown })
}

/// Setup: a drone with model slots, poses and a camera on the network, and a query that stands. Fault: every attack that
/// there is, asked, published and deleted on every key that it listens to, and on those that it speaks on.
/// Expected: queries and offers are refused with a hint, frames and poses are left out; a good frame and a good query after
/// each round are answered.
/// Invariant: one answer for every message that wants one; frames in = segmented + refused + counted drops; the drone is
/// ready, takes a push, and has lost no frame but garbage.
///
/// Promise: P1, P6, P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_every_key_harms_nothing() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("first"), "1", None);
    let model = slots(&at("slots"), Some(&at("first")));
    let mut flight = Booked::start_as(limits(), |config| NodeConfig { model, ..config }).await;
    let feed = flight.pair.node.feed(camera(Origin::Zenoh(None))).unwrap();
    let (drone, operator) = (flight.pair.drone.clone(), flight.pair.operator.clone());
    let listened_on = [drone.query(), drone.model_push(), drone.camera(), drone.pose()];
    let spoken_on = [
        drone.outcome("a").unwrap(),
        drone.explanation("a").unwrap(),
        drone.health(),
        drone.model_state(),
        drone.alive(),
    ];
    let mut rounds = 0;
    for (number, bytes) in corpus().into_iter().enumerate() {
        let error = exchange(&flight.pair, drone.query(), bytes.clone()).await.expect_err("a query is refused");
        assert!(error.contains("hint: "), "{error}");
        let state = exchange(&flight.pair, drone.model_push(), bytes.clone()).await;
        let state: PushState = decode(&state.expect("an offer is refused in words")).unwrap();
        assert!(matches!(&state.phase, PushPhase::Refused { why } if why.contains("hint: ")), "{state:?}");
        for key in listened_on.iter().chain(&spoken_on) {
            let put = operator.put(key.clone(), bytes.clone()).congestion_control(CongestionControl::Block);
            put.attachment(bytes.clone()).await.unwrap();
            operator.delete(key.clone()).congestion_control(CongestionControl::Block).await.unwrap();
        }
        if number.is_multiple_of(10) {
            rounds += 1;
            let shown = flight.show();
            let told = [flight.outcome(shown).await, flight.ask().await];
            assert!(told.iter().all(segmented), "{told:?}");
            assert!(told.iter().all(is_nowhere), "a pose was made of garbage: {told:?}");
        }
    }
    // Both queryables at once.
    let answers = flight.pair.get(format!("kestrel/{drone}/**"), vec![0xff; 10]).await;
    while let Ok(reply) = tokio::time::timeout(PATIENCE, answers.recv_async()).await.unwrap() {
        if let Ok(sample) = reply.into_result() {
            let state: PushState = decode(&sample.payload().to_bytes()).unwrap();
            assert!(matches!(state.phase, PushPhase::Refused { .. }), "{state:?}");
        }
    }
    let node = &flight.pair.node;
    until("garbage is counted", || node.camera_counts().lost + node.camera_counts().replaced > 0).await;
    flight.settled().await;
    let (health, counts) = (node.health(), node.camera_counts());
    assert_eq!((counts.frames, counts.failures), (0, 0), "no frame was made of garbage");
    assert_eq!((health.frames_in, health.frames_dropped, health.segmented), (rounds, 0, 2 * rounds));
    assert!(health.degraded.iter().all(|line| !line.contains("same name")), "{health:?}");
    drop(feed);
    let phase = push(&flight.pair, red::write(&at("second"), "2", Some(&red::key())), as_it_is).await;
    assert_eq!(phase, PushPhase::Committed);
    assert_eq!(flight.pair.node.health().model, "red@2");
    flight.comes_back().await;
    flight.settled().await;
    flight.stop().await;
}

/// Setup: a drone. Fault: queries that are whole and mean harm: ids and texts at their limits, in every writing.
/// Expected: each has one outcome. Invariant: what is valid is answered, however odd it is.
///
/// Promise: P1, P12, P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_queries_are_answered_once() {
    let (_folder, source) = crate::network::folder();
    let pair = Pair::start(source, Limits { reuse_frame: PATIENCE, deadline: PATIENCE, ..Limits::default() }).await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    let texts = [
        "красный квадрат",
        "红色的方块",
        "\u{202e}erauqs der",
        "🟥🟥🟥",
        "'; DROP TABLE masks; --",
        "<SEG>[SEG]<none:absent>",
    ];
    let long = "red ".repeat(128);
    let mut outcomes = 0;
    for (number, text) in texts.iter().copied().chain([long.as_str()]).enumerate() {
        let odd = Query { id: format!("{}{number}", "i".repeat(60)), ..query("", text) };
        let answers = pair.get(pair.drone.query(), encode(&odd).unwrap()).await;
        let reply = first(&answers).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        if let Outcome::Refused(refusal) = &reply.outcome {
            assert!(!refusal.advice.is_empty(), "{reply:?}");
        }
        outcomes += 1;
    }
    let health = pair.node.health();
    assert_eq!(health.segmented + health.refused, outcomes);
    pair.stop().await;
}
