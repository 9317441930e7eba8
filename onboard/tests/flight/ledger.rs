//! The books of a flight: frames in = segmented + refused + counted drops, and one outcome for every query and frame.
//!
//! One query stands through the whole flight, so that every frame has one outcome about it or was dropped. Masks may be lost
//! on the way to who listens, so sums are those that the drone counts; refusals are not lost, so those that are about no
//! frame are counted where they are heard.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use image::RgbImage;
use kestrel_link::{Outcome, Query, Reply, Verdict, decode, encode};
use kestrel_onboard::node::{Limits, NodeConfig, UpkeepOptions};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;

use crate::degraded::upkeep;
use crate::faulty::{self, Faults};
use crate::network::{PATIENCE, Pair, first, folder};
use crate::red::{RED, picture, query};
use crate::sources::until;

/// Id of the query that stands.
const STANDING: &str = "books";

/// A flight that is booked.
pub(crate) struct Booked {
    pub(crate) pair: Pair,
    pub(crate) faults: Arc<Faults>,
    /// Outcomes of the query that stands, as they were heard.
    heard: Arc<Mutex<Vec<Reply>>>,
    /// Outcomes about queries that were asked once.
    singles: u64,
    shown: u32,
    _answers: FifoChannelHandler<zenoh::query::Reply>,
    _outcomes: Subscriber<()>,
    _folder: tempfile::TempDir,
}

impl Booked {
    /// A flight with an engine that fails when it is told to.
    pub(crate) async fn start(limits: Limits, options: impl FnOnce(UpkeepOptions) -> UpkeepOptions) -> Self {
        Self::start_as(limits, |config| NodeConfig { upkeep: options(config.upkeep), ..config }).await
    }

    pub(crate) async fn start_as(limits: Limits, change: impl FnOnce(NodeConfig) -> NodeConfig) -> Self {
        let (folder, source) = folder();
        let faults = Arc::new(Faults::default());
        let booked = |config| change(NodeConfig { engine: faulty::options(), upkeep: upkeep(&faults), ..config });
        let pair = Pair::start_as(source, limits, booked).await;
        let heard = Arc::new(Mutex::new(Vec::<Reply>::new()));
        let hearing = Arc::clone(&heard);
        let outcomes = pair
            .operator
            .declare_subscriber(pair.drone.outcome(STANDING).unwrap())
            .callback(move |sample| hearing.lock().unwrap().push(decode(&sample.payload().to_bytes()).unwrap()))
            .await
            .unwrap();
        let standing = Query { frames: 0, ..query(STANDING, "red square") };
        let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
        // Requests are taken in turn: behind this one the query stands, and its outcomes are on their way here.
        first(&pair.get(pair.drone.query(), vec![]).await).await.unwrap_err();
        Self { pair, faults, heard, singles: 0, shown: 0, _answers: answers, _outcomes: outcomes, _folder: folder }
    }

    /// Shows one more frame; gives its number.
    pub(crate) fn show(&mut self) -> u64 {
        self.shown += 1;
        self.show_as(picture(320, 240, &[(self.shown % 40 * 6, 60, 50, RED)]))
    }

    pub(crate) fn show_as(&self, shown: RgbImage) -> u64 {
        self.pair.node.frames().put(shown, 1).unwrap()
    }

    /// Asks something once, about the frame at hand.
    pub(crate) async fn ask(&mut self) -> Reply {
        self.singles += 1;
        self.pair.ask(&query(&format!("q{}", self.singles), "red square")).await.unwrap()
    }

    /// Enters outcomes about queries that were asked past these books.
    pub(crate) fn enter(&mut self, outcomes: u64) {
        self.singles += outcomes;
    }

    /// What was heard about frames so far.
    pub(crate) fn heard(&self) -> Vec<Reply> {
        let about_frames = |reply: &&Reply| reply.frame_width > 0;
        self.heard.lock().unwrap().iter().filter(about_frames).cloned().collect()
    }

    /// Refusals of the query that stands that are about no frame, as they were heard.
    pub(crate) fn about_no_frame(&self) -> Vec<Reply> {
        let about_none = |reply: &&Reply| reply.frame_width == 0;
        self.heard.lock().unwrap().iter().filter(about_none).cloned().collect()
    }

    /// The outcome about one frame.
    pub(crate) async fn outcome(&self, frame: u64) -> Reply {
        let found = || self.heard().into_iter().find(|reply| reply.frame == frame);
        until("the frame's outcome", || found().is_some()).await;
        found().unwrap()
    }

    /// Outcomes about frames of the query that stands.
    pub(crate) fn outcomes(&self) -> u64 {
        let about_none = self.about_no_frame().len() as u64;
        let health = self.pair.node.health();
        // What was counted a moment ago may not have been heard yet: then it is too many for a moment.
        (health.segmented + health.refused).saturating_sub(self.singles + about_none)
    }

    /// Waits until everything has its outcome. Asserts that the books balance and that nothing has two.
    pub(crate) async fn settled(&self) {
        let balances = || {
            let health = self.pair.node.health();
            self.outcomes() + health.frames_dropped == health.frames_in
        };
        until("frames in = segmented + refused + counted drops", balances).await;
        let (heard, mut frames) = (self.heard(), BTreeSet::new());
        for reply in &heard {
            assert!(frames.insert(reply.frame), "frame {} has two outcomes", reply.frame);
        }
        assert!(heard.len() as u64 <= self.outcomes(), "more was heard than said");
    }

    /// Shows frames until one has a mask again.
    pub(crate) async fn comes_back(&mut self) {
        let coming_back = async {
            loop {
                let number = self.show();
                if segmented(&self.outcome(number).await) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, coming_back).await.expect("a mask");
    }

    pub(crate) async fn stop(self) {
        self.pair.stop().await;
    }
}

pub(crate) fn segmented(reply: &Reply) -> bool {
    matches!(reply.outcome, Outcome::Segmented { .. })
}

/// Whether it was refused for this reason.
pub(crate) fn refused(reply: &Reply, verdict: &Verdict) -> bool {
    matches!(&reply.outcome, Outcome::Refused(refusal) if refusal.verdict == *verdict)
}
