//! The link to the operator breaks in flight.

use kestrel_link::{Outcome, Query, Readiness, decode, encode};
use kestrel_onboard::node::LinkOptions;

use crate::degraded::limits;
use crate::network::{PATIENCE, Pair, first, first_reply, folder};
use crate::red::{RED, picture, query};
use crate::sources::until;

/// Setup: an operator with a query that stands and one that waits for a frame. Fault: its link is gone.
/// Expected: the drone stays ready; both queries have their outcomes though nobody hears them, and the one that stands goes
/// on; an operator that comes later is answered, and ends that query by asking it once.
/// Invariant: frames in = segmented + refused + counted drops, with a link or without.
///
/// Promise: P1, P8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_operator_the_drone_flies_on_and_answers_the_next_one() {
    let (_folder, source) = folder();
    let pair = Pair::start(source, limits()).await;
    let standing = Query { frames: 0, ..query("stands", "red square") };
    let _stands = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
    let _waits = pair.get(pair.drone.query(), encode(&query("waits", "red square")).unwrap()).await;
    // Requests are taken in turn: behind this one both are in.
    first(&pair.get(pair.drone.query(), vec![]).await).await.unwrap_err();
    pair.operator.close().await.unwrap();

    let (node, frames) = (&pair.node, pair.node.frames());
    let outcomes = || node.health().segmented + node.health().refused;
    for shown in 1..=3_u64 {
        frames.put(picture(320, 240, &[(shown as u32 * 60, 60, 50, RED)]), shown).unwrap();
        until("every frame has its outcome", || outcomes() > shown).await;
    }
    let health = node.health();
    assert_eq!(
        (health.segmented, health.refused, health.frames_dropped),
        (4, 0, 0),
        "three that stand, one that waited"
    );
    assert_eq!(health.readiness, Readiness::Ready);

    let link = LinkOptions { connect: vec![pair.endpoint.clone()], ..LinkOptions::default() };
    let later = zenoh::open(link.config().unwrap()).await.unwrap();
    let asked = later.get(pair.drone.query()).payload(encode(&query("stands", "red square")).unwrap());
    let answers = asked.timeout(PATIENCE).await.unwrap();
    let reply: kestrel_link::Reply = decode(&first_reply(&answers).await.unwrap()).unwrap();
    assert!(matches!(reply.outcome, Outcome::Segmented { .. }), "{reply:?}");
    frames.put(picture(320, 240, &[(10, 60, 50, RED)]), 9).unwrap();
    let asked = later.get(pair.drone.query()).payload(encode(&query("last", "red square")).unwrap());
    first_reply(&asked.timeout(PATIENCE).await.unwrap()).await.unwrap();
    let health = node.health();
    assert_eq!(health.segmented, 6, "the query that stood is answered once and stands no more: {health:?}");
    later.close().await.unwrap();
    pair.node.stop().await.unwrap();
}
