//! `onboard run` as a real process that is killed: what its record holds, what a restart finds, and who answers then.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kestrel_link::{ChunkRequest, DroneId, Health, PushPhase, PushState, Query, Reply, decode, encode};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::camera::{Captured, Network, unix_nanos};
use kestrel_onboard::loopback::free_address;
use kestrel_onboard::node::LinkOptions;
use kestrel_onboard::record::Agreement;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use crate::ledger::segmented;
use crate::network::{PATIENCE, first_reply};
use crate::record::{held, replayed};
use crate::red::{self, RED, picture, query};
use crate::service::Ended;
use crate::sources::{listened_to, until};

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
        let address = free_address().unwrap();
        let endpoint = format!("tcp/{address}");
        let drone = DroneId::new(&format!("drone-{}", address.port())).unwrap();
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
        self.start_as(&[]).await
    }

    /// As [`Base::start`], with more on the command line.
    async fn start_as(&self, more: &[&str]) -> Ended {
        let child = Command::new(env!("CARGO_BIN_EXE_onboard"))
            .args(["run", "--config"])
            .arg(self.path("drone.toml"))
            .args(more)
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

    /// The answers to one payload on the query key.
    async fn get(&self, payload: Vec<u8>) -> FifoChannelHandler<zenoh::query::Reply> {
        self.operator.get(self.drone.query()).payload(payload).timeout(PATIENCE).await.unwrap()
    }

    async fn ask(&self, id: &str) -> Reply {
        let answers = self.get(encode(&query(id, "red square")).unwrap()).await;
        decode(&first_reply(&answers).await.unwrap()).unwrap()
    }

    /// Asks something that waits for the next frame; when this comes back the drone has taken it in.
    async fn leave(&self, waiting: &Query) -> FifoChannelHandler<zenoh::query::Reply> {
        let answers = self.get(encode(waiting).unwrap()).await;
        // Requests are taken in turn: behind this one the other is in.
        first_reply(&self.get(Vec::new()).await).await.unwrap_err();
        answers
    }

    /// Publishes a frame as the drone's camera.
    fn show(&self, place: u32) {
        let network = Network { session: self.operator.clone(), drone: self.drone.clone() };
        let image = picture(320, 240, &[(20 + 10 * place, 60, 50, RED)]);
        network.publish(None, &Captured { image, capture_unix_nanos: unix_nanos(), pose: None }, false).unwrap();
    }

    /// What the drone says of itself, when it is as wanted.
    async fn said(&self, wanted: fn(&Health) -> bool) -> Health {
        let said = self.operator.declare_subscriber(self.drone.health()).await.unwrap();
        loop {
            let sample = tokio::time::timeout(PATIENCE, said.recv_async()).await.unwrap().unwrap();
            let health: Health = decode(&sample.payload().to_bytes()).unwrap();
            if wanted(&health) {
                return health;
            }
        }
    }

    /// Model and slot that the drone says it flies.
    async fn flies(&self) -> (String, String) {
        let health = self.said(|_| true).await;
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
    let answers = base.get(encode(&query("nobody", "red square")).unwrap()).await;
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

/// Whether a channel ends without one more answer.
async fn ends(answers: &FifoChannelHandler<zenoh::query::Reply>) -> bool {
    tokio::time::timeout(PATIENCE, answers.recv_async()).await.unwrap().is_err()
}

/// Setup: a drone as a process that records, a query that stands, and one that waits for a frame. Fault: kill -9.
/// Expected: who waits gets the end of the channel and no reply; the record says that it was cut off, and what it holds
/// replays alike; the process that comes after does not know the query that stood.
/// Invariant: every frame in the record has its outcome, but for the one at which it was cut off; none that was told is told
/// again.
///
/// Promise: P1, P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_flight_leaves_books_that_balance() {
    const SHOWN: u32 = 6;
    let base = Base::new().await;
    // The frames of this flight are this process', and no query is answered from an old one.
    let sets = ["camera.path=", "camera.source=zenoh:", "limits.reuse_frame_millis=0", "thermal.throttle=false"];
    let camera = sets.map(|set| ["--set", set]).concat();
    let file = base.path("flight.mcap");
    let drone = base.start_as(&[&camera[..], &["--record", file.to_str().unwrap()]].concat()).await;
    listened_to(&base.operator, base.drone.camera()).await;
    let outcomes = base.operator.declare_subscriber(base.drone.outcome("stands").unwrap()).await.unwrap();
    let stands = base.leave(&Query { frames: 0, ..query("stands", "red square") }).await;
    for place in 0..SHOWN {
        base.show(place);
        let sample = tokio::time::timeout(PATIENCE, outcomes.recv_async()).await.unwrap().unwrap();
        let reply: Reply = decode(&sample.payload().to_bytes()).unwrap();
        assert!(segmented(&reply) && reply.frame == u64::from(place), "{reply:?}");
        if place == SHOWN / 2 {
            until("half of the flight is on the disk", || held(&file).outcomes > u64::from(place)).await;
        }
    }
    decode::<Reply>(&first_reply(&stands).await.unwrap()).unwrap();
    let waits = base.leave(&query("waits", "red square")).await;
    base.kill(drone).await;
    assert!(ends(&waits).await, "a reply to who was killed before it had one");
    assert!(ends(&stands).await, "a second reply");
    assert!(outcomes.try_recv().unwrap().is_none(), "an outcome of no frame");

    let survey = held(&file);
    assert!(survey.end.is_none() && survey.damage.first.is_some(), "that it was cut off is said");
    let most = u64::from(SHOWN);
    assert!((most / 2..=most).contains(&survey.looks) && survey.looks - survey.outcomes <= 1, "{survey:?}");
    assert_eq!((survey.given(), survey.refusals, survey.losses.frames), (survey.outcomes, 0, 0), "{survey:?}");
    let first = Bundle::open(&base.path("first")).unwrap();
    let report = replayed(&file, &first, Agreement::Exact);
    assert_eq!((report.looks, report.outcomes, report.different), (survey.looks, survey.outcomes, 0));

    let drone = base.start_as(&camera).await;
    listened_to(&base.operator, base.drone.camera()).await;
    let after = base.leave(&query("after", "red square")).await;
    base.show(0);
    assert!(segmented(&decode(&first_reply(&after).await.unwrap()).unwrap()));
    let health = base.said(|health| health.frames_in > 0 && health.segmented + health.refused > 0).await;
    assert_eq!((health.frames_in, health.segmented, health.refused), (1, 1, 0), "the query that stood is forgotten");
    assert!(outcomes.try_recv().unwrap().is_none());
    base.kill(drone).await;
    base.operator.close().await.unwrap();
}
