//! Two drones of one name.

use std::net::TcpListener;

use kestrel_link::Outcome;
use kestrel_onboard::node::{Limits, LinkOptions, Node, NodeConfig, NodeError};

use crate::degraded::limits;
use crate::network::{Pair, config, folder};
use crate::red::{RED, picture, query};
use crate::sources::until;

fn endpoint() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("tcp/127.0.0.1:{port}")
}

/// Setup: a drone that flies. Fault: another one of the same name joins its network.
/// Expected: the second does not start, and says why and what to try.
/// Invariant: who asked for a drone is answered by that one, once.
///
/// Promise: P1, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_flies_is_not_taken_again() {
    let (_folder, source) = folder();
    let pair = Pair::start(source.clone(), limits()).await;
    pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), 1).unwrap();
    // The second drone reaches the first where the operator does.
    let link = LinkOptions { connect: vec![pair.endpoint.clone()], ..LinkOptions::default() };
    let second = NodeConfig { drone: pair.drone.clone(), link, ..config(source, Limits::default()) };
    let error = Node::start(second).await.err().expect("the name is taken");
    assert!(matches!(&error, NodeError::NameTaken { drone } if *drone == pair.drone), "{error}");
    assert!(error.to_string().contains(pair.drone.as_str()) && !error.hint().is_empty(), "{error}");
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Segmented { .. }), "{reply:?}");
    assert_eq!(pair.node.health().segmented, 1);
    pair.stop().await;
}

/// Setup: two drones of one name on two networks. Fault: the networks are joined.
/// Expected: both say in health that there is another one, and fly on; when it has gone, all is well again.
/// Invariant: a drone in the air is never ended for its name.
///
/// Promise: P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drones_of_one_name_that_meet_in_flight_say_so() {
    let (_folder, source) = folder();
    let (first_at, second_at) = (endpoint(), endpoint());
    let start = async |link: LinkOptions| Node::start(NodeConfig { link, ..config(source.clone(), limits()) }).await;
    // The first one looks for the second again and again.
    let link = LinkOptions { listen: vec![first_at], connect: vec![second_at.clone()], ..LinkOptions::default() };
    let first = start(link).await.unwrap();
    let second = match start(LinkOptions { listen: vec![second_at], ..LinkOptions::default() }).await {
        Ok(second) => second,
        // They met between the second one's joining and its question: then it must not start.
        Err(error) => {
            assert!(matches!(error, NodeError::NameTaken { .. }), "{error}");
            return first.stop().await.unwrap();
        }
    };
    for node in [&first, &second] {
        let told = || node.health().degraded.iter().any(|line| line.contains("has the same name"));
        until("the other one is told", told).await;
    }
    second.stop().await.unwrap();
    until("it has gone", || first.health().degraded.is_empty()).await;
    first.stop().await.unwrap();
}
