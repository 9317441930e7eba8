//! `onboard run` as a real process that is killed: what a restart finds, and who answers then.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kestrel_link::{ChunkRequest, DroneId, Health, PushPhase, PushState, Reply, decode, encode};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::node::LinkOptions;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use crate::ledger::segmented;
use crate::network::{PATIENCE, first_reply};
use crate::red::{self, RED, picture, query};
use crate::service::Ended;

/// A place for a drone's processes, and an operator that outlives them. The drone connects to the operator, so that no port
/// is taken twice.
struct Base {
    root: tempfile::TempDir,
    operator: Session,
    drone: DroneId,
    alive: Subscriber<FifoChannelHandler<Sample>>,
}

impl Base {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        red::write(&at("first"), "1", None);
        picture(320, 240, &[(100, 60, 50, RED)]).save(at("red.png")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = format!("tcp/127.0.0.1:{port}");
        let drone = DroneId::new(&format!("drone-{port}")).unwrap();
        let key = red::key().verifying_key();
        let key: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let config = format!(
            "drone = \"{drone}\"\n[model]\nbundle = {:?}\nslots = {:?}\ntrusted_keys = [\"{key}\"]\n\
             trial_latency_millis = 60000\n[camera]\npath = {:?}\n[engine]\nname = \"tract\"\n[perception]\ngate = false\n\
             [limits]\ndeadline_millis = 60000\nframe_timeout_millis = 60000\n\
             [link]\nlisten = []\nconnect = [\"{endpoint}\"]\n",
            at("first").display().to_string(),
            at("slots").display().to_string(),
            at("red.png").display().to_string(),
        );
        std::fs::write(at("drone.toml"), config).unwrap();
        let options = LinkOptions { listen: vec![endpoint], ..LinkOptions::default() };
        let operator = zenoh::open(options.config().unwrap()).await.unwrap();
        let alive = operator.liveliness().declare_subscriber(drone.alive()).history(true).await.unwrap();
        Self { root, operator, drone, alive }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Starts the drone and waits until it can be asked.
    async fn start(&self) -> Ended {
        let child = Command::new(env!("CARGO_BIN_EXE_onboard"))
            .args(["run", "--config"])
            .arg(self.path("drone.toml"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = Ended(child);
        self.seen(SampleKind::Put).await;
        child
    }

    /// Kills the drone (SIGKILL) and waits until it is seen to be gone.
    async fn kill(&self, mut drone: Ended) {
        drone.0.kill().unwrap();
        drone.0.wait().unwrap();
        self.seen(SampleKind::Delete).await;
    }

    async fn seen(&self, kind: SampleKind) {
        let sample = tokio::time::timeout(PATIENCE, self.alive.recv_async()).await.unwrap().unwrap();
        assert_eq!(sample.kind(), kind);
    }

    async fn ask(&self, id: &str) -> Reply {
        let asked = self.operator.get(self.drone.query()).payload(encode(&query(id, "red square")).unwrap());
        let answers = asked.timeout(PATIENCE).await.unwrap();
        decode(&first_reply(&answers).await.unwrap()).unwrap()
    }

    /// Model and slot that the drone says it flies.
    async fn flies(&self) -> (String, String) {
        let health = self.operator.declare_subscriber(self.drone.health()).await.unwrap();
        let sample = tokio::time::timeout(PATIENCE, health.recv_async()).await.unwrap().unwrap();
        let health: Health = decode(&sample.payload().to_bytes()).unwrap();
        (health.model, health.slot)
    }

    /// Offers a bundle and serves its chunks, or leaves the drone waiting for them; gives the states that follow.
    async fn offer(
        &self,
        bundle: &Bundle,
        silent: &Arc<AtomicBool>,
    ) -> (zenoh::query::Queryable<()>, Subscriber<FifoChannelHandler<Sample>>) {
        let states = self.operator.declare_subscriber(self.drone.model_state()).await.unwrap();
        let (serving, silent) = (bundle.clone(), Arc::clone(silent));
        let chunks = self
            .operator
            .declare_queryable(self.drone.model_chunks())
            .callback(move |query| {
                if silent.load(Ordering::SeqCst) {
                    // Kept waiting for as long as the drone has patience: nothing is said and nothing ends.
                    std::mem::forget(query);
                    return;
                }
                let request = ChunkRequest::parse(query.key_expr().as_str(), query.parameters().as_str()).unwrap();
                let bytes = serving.chunk(&request).unwrap().unwrap();
                query.reply(query.key_expr().clone(), bytes).wait().unwrap();
            })
            .await
            .unwrap();
        let offer = encode(&bundle.offer().unwrap()).unwrap();
        let answers = self.operator.get(self.drone.model_push()).payload(offer).timeout(PATIENCE).await.unwrap();
        let state: PushState = decode(&first_reply(&answers).await.unwrap()).unwrap();
        assert!(matches!(state.phase, PushPhase::Downloading { .. }), "{state:?}");
        (chunks, states)
    }
}

/// How the push ended.
async fn ended(states: &Subscriber<FifoChannelHandler<Sample>>) -> PushPhase {
    loop {
        let sample = tokio::time::timeout(PATIENCE, states.recv_async()).await.unwrap().unwrap();
        let state: PushState = decode(&sample.payload().to_bytes()).unwrap();
        if state.phase.is_final() {
            return state.phase;
        }
    }
}

/// Setup: a drone as a process of its own, with model slots. Fault: kill -9 as it flies, in the middle of a push, and after
/// the push was committed.
/// Expected: who asks is answered by the process that comes after; the model from before flies after a push that was cut
/// off, and the pushed one after it was committed.
/// Invariant: a killed drone is seen to be gone, and the slots hold a whole model.
///
/// Promise: P1, P6, P7, P8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_drone_comes_back_with_a_whole_model() {
    let base = Base::new().await;
    let drone = base.start().await;
    let reply = base.ask("before").await;
    assert!(segmented(&reply) && reply.model == "red@1", "{reply:?}");
    base.kill(drone).await;
    let nobody = base.operator.get(base.drone.query()).payload(encode(&query("nobody", "red square")).unwrap());
    let answers = nobody.timeout(PATIENCE).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, answers.recv_async()).await.unwrap().is_err(), "nobody answers for it");

    let drone = base.start().await;
    assert!(segmented(&base.ask("after").await));
    let second = red::write(&base.path("second"), "2", Some(&red::key()));
    let silent = Arc::new(AtomicBool::new(true));
    let cut_off = base.offer(&second, &silent).await;
    base.kill(drone).await;
    drop(cut_off);

    let drone = base.start().await;
    assert_eq!(base.flies().await, ("red@1".to_owned(), String::new()), "the model from before");
    assert!(segmented(&base.ask("cut-off").await));
    silent.store(false, Ordering::SeqCst);
    let (_chunks, states) = base.offer(&second, &silent).await;
    assert_eq!(ended(&states).await, PushPhase::Committed);
    base.kill(drone).await;

    let drone = base.start().await;
    let (model, slot) = base.flies().await;
    assert_eq!(model, "red@2", "what was told to be committed flies");
    assert!(["A", "B"].contains(&slot.as_str()), "{slot}");
    let held = Bundle::open(&base.path("slots").join(slot)).expect("a whole bundle");
    assert_eq!(held.manifest_hash, second.manifest_hash);
    let reply = base.ask("committed").await;
    assert!(segmented(&reply) && reply.model == "red@2", "{reply:?}");
    base.kill(drone).await;
    base.operator.close().await.unwrap();
}
