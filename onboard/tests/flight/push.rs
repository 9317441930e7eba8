//! Models pushed over the network: the new one flies, or the old one does, and never neither.

use std::path::Path;

use kestrel_link::signature::SigningKey;
use kestrel_link::{ChunkRequest, PushPhase, PushState, decode, encode};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::node::{Limits, ModelSource};

use crate::network::{PATIENCE, Pair};
use crate::red;

pub(crate) fn slots(dir: &Path, first: Option<&Path>) -> ModelSource {
    ModelSource::Slots {
        dir: dir.to_owned(),
        trusted: vec![red::key().verifying_key()],
        first: first.map(Path::to_owned),
    }
}

/// Changes the bytes of a chunk on their way.
type Alter = fn(&ChunkRequest, &mut Vec<u8>);

/// Offers a bundle and serves its chunks; `alter` changes bytes on their way. Gives the last state.
pub(crate) async fn push(pair: &Pair, bundle: Bundle, alter: Alter) -> PushPhase {
    let serve = move |request: &ChunkRequest, mut bytes: Vec<u8>| {
        alter(request, &mut bytes);
        Ok(bytes)
    };
    push_served(pair, bundle, serve).await
}

/// As [`push`]; `serve` may answer with an error, too.
async fn push_served(
    pair: &Pair,
    bundle: Bundle,
    serve: impl Fn(&ChunkRequest, Vec<u8>) -> Result<Vec<u8>, String> + Send + Sync + 'static,
) -> PushPhase {
    let states = pair.operator.declare_subscriber(pair.drone.model_state()).await.unwrap();
    let offer = encode(&bundle.offer().unwrap()).unwrap();
    let serving = pair
        .operator
        .declare_queryable(pair.drone.model_chunks())
        .callback(move |query| {
            use zenoh::Wait;
            let request = ChunkRequest::parse(query.key_expr().as_str(), query.parameters().as_str()).unwrap();
            let bytes = bundle.chunk(&request).unwrap().expect("only what the manifest lists is asked for");
            match serve(&request, bytes) {
                Ok(bytes) => query.reply(query.key_expr().clone(), bytes).wait().unwrap(),
                Err(why) => query.reply_err(why).wait().unwrap(),
            }
        })
        .await
        .unwrap();
    let answers = pair.get(pair.drone.model_push(), offer).await;
    let reply = tokio::time::timeout(PATIENCE, answers.recv_async()).await.unwrap().unwrap();
    let mut state: PushState = decode(&reply.into_result().unwrap().payload().to_bytes()).unwrap();
    while !state.phase.is_final() {
        let sample = tokio::time::timeout(PATIENCE, states.recv_async()).await.unwrap().unwrap();
        state = decode(&sample.payload().to_bytes()).unwrap();
    }
    serving.undeclare().await.unwrap();
    state.phase
}

pub(crate) fn as_it_is(_: &ChunkRequest, _: &mut Vec<u8>) {}

/// Promise: P6, P7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_model_switches_and_bad_ones_leave_it_flying() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("first"), "1", None);
    let pair = Pair::start(slots(&at("slots"), Some(&at("first"))), Limits::default()).await;
    assert_eq!((pair.node.health().model.as_str(), pair.node.health().slot.as_str()), ("red@1", ""));

    let phase = push(&pair, red::write(&at("second"), "2", Some(&red::key())), as_it_is).await;
    assert_eq!(phase, PushPhase::Committed);
    let health = pair.node.health();
    assert_eq!(health.model, "red@2");
    assert!(["A", "B"].contains(&health.slot.as_str()), "{}", health.slot);

    let strange = SigningKey::from_bytes(&[9; 32]);
    match push(&pair, red::write(&at("strange"), "3", Some(&strange)), as_it_is).await {
        PushPhase::Refused { why } => assert!(why.contains("not trusted"), "{why}"),
        other => panic!("expected a refusal, got {other:?}"),
    }

    let flip = |request: &ChunkRequest, bytes: &mut Vec<u8>| {
        if request.path == "mask.onnx" {
            bytes[20] ^= 1;
        }
    };
    match push(&pair, red::write(&at("altered"), "4", Some(&red::key())), flip).await {
        PushPhase::RolledBack { why } => assert!(why.contains("mask.onnx") && why.contains("SHA-256"), "{why}"),
        other => panic!("expected a roll-back, got {other:?}"),
    }

    match push(&pair, red::write_failing(&at("failing"), "5", &red::key()), as_it_is).await {
        PushPhase::RolledBack { why } => assert!(why.contains("canary 01"), "{why}"),
        other => panic!("expected a roll-back, got {other:?}"),
    }
    assert_eq!(pair.node.health().model, "red@2", "what was good flies on");

    pair.node.stop().await.unwrap();
    let again = Pair::start(slots(&at("slots"), None), Limits::default()).await;
    assert_eq!(again.node.health().model, "red@2", "and flies again after a restart");
    again.node.stop().await.unwrap();
}

/// Promise: P6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drone_without_slots_refuses_and_one_without_a_model_does_not_start() {
    let root = tempfile::tempdir().unwrap();
    red::write(&root.path().join("first"), "1", None);
    let pair = Pair::start(ModelSource::Folder(root.path().join("first")), Limits::default()).await;
    let bundle = red::write(&root.path().join("second"), "2", Some(&red::key()));
    match push(&pair, bundle, as_it_is).await {
        PushPhase::Refused { why } => assert!(why.contains("no model slots"), "{why}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    pair.node.stop().await.unwrap();
}

/// Setup: a drone that flies a model. Fault: a pusher whose chunks are empty, too short, too long, noise, or errors.
/// Expected: each push is rolled back and says why, and the next whole one is committed.
/// Invariant: the model from before flies on until then, and no pusher waits for an end that does not come.
///
/// Promise: P6, P7, P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_none_end_the_push_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("first"), "1", None);
    let second = red::write(&at("second"), "2", Some(&red::key()));
    let pair = Pair::start(slots(&at("slots"), Some(&at("first"))), Limits::default()).await;
    let malformed: [(Alter, &str); 4] = [
        (|_, bytes| bytes.clear(), "bytes, got 0"),
        (|_, bytes| bytes.truncate(bytes.len() - 1), "bytes, got "),
        (|_, bytes| bytes.resize(bytes.len() + (1 << 20), 0), "bytes, got 1"),
        (|_, bytes| bytes.fill(0x5f), "expected SHA-256"),
    ];
    for (alter, said) in malformed {
        match push(&pair, second.clone(), alter).await {
            PushPhase::RolledBack { why } => assert!(why.contains(said), "{said}: {why}"),
            other => panic!("{said}: expected a roll-back, got {other:?}"),
        }
        assert_eq!(pair.node.health().model, "red@1", "{said}");
    }
    match push_served(&pair, second.clone(), |_, _| Err("nothing is left of it".into())).await {
        PushPhase::RolledBack { why } => assert!(why.contains("nothing is left of it"), "{why}"),
        other => panic!("expected a roll-back, got {other:?}"),
    }
    assert_eq!(pair.node.health().model, "red@1");
    assert_eq!(push(&pair, second, as_it_is).await, PushPhase::Committed);
    assert_eq!(pair.node.health().model, "red@2");
    pair.stop().await;
}
