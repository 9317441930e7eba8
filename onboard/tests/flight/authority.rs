//! A drone perceives and commands nothing: what it says, hears and asks on the network, all of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kestrel_link::{PushPhase, Query, encode};
use kestrel_onboard::camera::Origin;
use kestrel_onboard::node::Limits;
use zenoh::Session;
use zenoh::query::{ConsolidationMode, QueryTarget};
use zenoh::sample::Locality;

use crate::network::{PATIENCE, Pair, first};
use crate::push::{as_it_is, push, slots};
use crate::red::{self, RED, picture, query};
use crate::sources::{camera, until};

/// Where bridges of autopilots and robots take commands: MAVLink, PX4 and ArduPilot over ROS 2 or DDS, MAVROS, DroneCAN.
const VEHICLES: [&str; 12] = [
    "mavlink/**",
    "mavros/**",
    "fmu/**",
    "ap/**",
    "rt/**",
    "ros2/**",
    "@ros2_lv/**",
    "dronecan/**",
    "uavcan/**",
    "**/cmd_vel",
    "**/setpoint/**",
    "**/command/**",
];

/// Whether somebody else on the network subscribes to one of these keys.
async fn is_heard(session: &Session, key: &str) -> bool {
    let publisher = session.declare_publisher(key.to_owned()).allowed_destination(Locality::Remote).await.unwrap();
    publisher.matching_status().await.unwrap().matching()
}

/// How many answers there are to a question that is sent to everybody who takes one on these keys.
async fn answers(session: &Session, keys: &str) -> usize {
    let asked = session.get(keys).payload(vec![0xff]).target(QueryTarget::All).timeout(PATIENCE);
    let answers = asked.consolidation(ConsolidationMode::None).await.unwrap();
    let mut count = 0;
    while tokio::time::timeout(PATIENCE, answers.recv_async()).await.unwrap().is_ok() {
        count += 1;
    }
    count
}

/// Keys whose first part begins with any letter, digit or sign but that of ours.
fn foreign() -> impl Iterator<Item = String> {
    (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"_-.").filter(|first| *first != b'k').map(|first| {
        let first = char::from(first);
        format!("{first}$*/**")
    })
}

/// Setup: a drone with a camera on the network and model slots, which is asked, looks, answers and takes a push. Somebody
/// listens to everything and answers everything. Fault: none is needed.
/// Expected: it says its outcomes, its health and how pushes go, asks for chunks of models, and nothing else; it listens to
/// queries, pushes, its camera, where it is and others of its name, and to nothing else.
/// Invariant: nothing that it says or hears commands a vehicle.
///
/// Promise: P9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drone_speaks_and_listens_under_its_own_name_only() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("first"), "1", None);
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let pair = Pair::start(slots(&at("slots"), Some(&at("first"))), limits).await;
    let feed = pair.node.feed(camera(Origin::Zenoh(None))).unwrap();
    let (drone, operator) = (&pair.drone, &pair.operator);

    // What it listens to. The camera is the youngest: once that is known, everything before it is.
    let listened_to = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
        while !is_heard(operator, &drone.camera()).await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, listened_to).await.expect("the drone listens to its camera");
    assert!(is_heard(operator, &drone.pose()).await, "where it is: it knows its camera");
    assert!(is_heard(operator, &drone.health()).await, "others of its name");
    assert!(is_heard(operator, "k$*/**").await, "what is looked for with wildcards is found");
    let near = ["query", "alive", "outcome/*", "model/**", "arm", "takeoff", "mode", "goto", "gimbal/**"];
    let near = near.into_iter().map(|rest| format!("kestrel/{drone}/{rest}"));
    for key in foreign().chain(near).chain(VEHICLES.map(str::to_owned)).chain(["kestrel/other/**".to_owned()]) {
        assert!(!is_heard(operator, &key).await, "it subscribes to {key}");
    }
    let own = answers(operator, &format!("kestrel/{drone}/**")).await;
    assert!(own >= 2, "queries and pushes");
    assert_eq!(answers(operator, "**").await, own, "it answers on keys that are not its own");

    // What it says and asks.
    let said = Arc::new(Mutex::new(BTreeSet::new()));
    let hearing = Arc::clone(&said);
    let _subscriber = operator
        .declare_subscriber("**")
        .callback(move |sample| {
            hearing.lock().unwrap().insert(sample.key_expr().to_string());
        })
        .await
        .unwrap();
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let hearing = Arc::clone(&asked);
    let _queryable = operator
        .declare_queryable("**")
        .allowed_origin(Locality::Remote)
        .callback(move |query| {
            hearing.lock().unwrap().insert(query.key_expr().to_string());
        })
        .await
        .unwrap();
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    let standing = Query { frames: 0, ..query("stands", "red square") };
    first(&pair.get(drone.query(), encode(&standing).unwrap()).await).await.unwrap();
    pair.ask(&query("once", "blue square")).await.unwrap();
    let second = red::write(&at("second"), "2", Some(&red::key()));
    let hash = second.manifest_hash.clone();
    assert_eq!(push(&pair, second, as_it_is).await, PushPhase::Committed);
    until("it has said how it is", || said.lock().unwrap().contains(&drone.health())).await;
    let outcomes = ["stands", "once"].map(|id| drone.outcome(id).unwrap());
    let expected: BTreeSet<String> = outcomes.into_iter().chain([drone.health(), drone.model_state()]).collect();
    assert_eq!(*said.lock().unwrap(), expected);
    let chunks = format!("kestrel/{drone}/model/chunk/{hash}/");
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|key| key.starts_with(&chunks)), "{asked:?}");
    drop(feed);
    pair.stop().await;
}
