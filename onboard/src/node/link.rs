//! The drone's side of the zenoh link.

use std::sync::{Arc, Mutex, PoisonError};

use kestrel_link::{
    DroneId, ExplanationPart, Georeference, Health, LinkError, Mask, Message, Outcome, PushState, Reply, Segment,
    Verdict, encode, encode_into,
};
use zenoh::Wait;
use zenoh::bytes::{Encoding, ZBytes};
use zenoh::qos::CongestionControl;
use zenoh::query::Query;
use zenoh::{Config, Session};

use super::NodeError;

/// How a node joins the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// Endpoints to listen on, e.g. `tcp/127.0.0.1:7447`.
    pub listen: Vec<String>,
    /// Endpoints to connect to.
    pub connect: Vec<String>,
    /// Whether others are looked for by multicast.
    pub multicast_scouting: bool,
}

impl LinkOptions {
    /// The zenoh configuration of a peer with these options; operators use it too.
    ///
    /// # Errors
    /// When an endpoint is not one.
    pub fn config(&self) -> Result<Config, NodeError> {
        let mut config = Config::default();
        let endpoints = |list: &[String]| serde_json::Value::from(list.to_vec()).to_string();
        for (key, value) in [
            ("mode", "\"peer\"".to_owned()),
            ("listen/endpoints", endpoints(&self.listen)),
            ("connect/endpoints", endpoints(&self.connect)),
            ("scouting/multicast/enabled", self.multicast_scouting.to_string()),
        ] {
            config.insert_json5(key, &value).map_err(NodeError::link(key_name(key)))?;
        }
        Ok(config)
    }
}

fn key_name(key: &'static str) -> &'static str {
    match key {
        "listen/endpoints" => "link.listen",
        "connect/endpoints" => "link.connect",
        key => key,
    }
}

/// Publishes for one drone; errors are logged here, because nobody above could do more about them.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) session: Session,
    pub(super) drone: DroneId,
    /// What outcomes are encoded in, one after the other; zenoh gets a copy of what is there, and of no more.
    buffer: Arc<Mutex<Vec<u8>>>,
}

impl Publisher {
    pub(super) fn new(session: &Session, drone: &DroneId) -> Self {
        Self { session: session.clone(), drone: drone.clone(), buffer: Arc::default() }
    }

    /// The bytes of a reply; its masks are coarser afterwards where they were too long.
    pub(super) fn encoded(&self, reply: &mut Reply) -> Result<ZBytes, LinkError> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        fit(reply, &mut buffer).map(|()| ZBytes::from(buffer.as_slice()))
    }

    /// Publishes a reply, whose bytes these are, and gives it to who asked; without bytes whoever asked is told no more than
    /// that.
    pub(super) fn hand_over(&self, reply: &Reply, bytes: Option<ZBytes>, asker: Option<&Query>) {
        // A mask may be lost to a newer one; a refusal, and that a thing is given up, must be seen.
        let gives_up = reply.standing.as_ref().is_some_and(|standing| !standing.lost.is_empty());
        let droppable = matches!(reply.outcome, Outcome::Segmented { .. }) && !gives_up;
        let query_id = &reply.query_id;
        let Some(bytes) = bytes else {
            let told =
                asker.map(|asker| asker.reply_err("the outcome cannot be sent; hint: see the drone's log").wait());
            if let Some(Err(error)) = told {
                tracing::warn!("query {query_id}: the asker was not told: {error}");
            }
            return;
        };
        if let Some(asker) = asker {
            let answered = asker.reply(self.drone.query(), bytes.clone()).encoding(Encoding::APPLICATION_CBOR).wait();
            if let Err(error) = answered {
                tracing::warn!("query {query_id}: the asker did not get its reply: {error}");
            }
        }
        match self.drone.outcome(query_id) {
            Ok(key) => self.put(&key, bytes, droppable),
            Err(error) => tracing::error!("outcome of query {query_id} cannot be published: {error}"),
        }
    }

    /// Publishes a part of an explanation. A piece may be lost, its end must be seen.
    pub(super) fn explanation(&self, part: &ExplanationPart) {
        match (self.drone.explanation(&part.query_id), encode(part)) {
            (Ok(key), Ok(bytes)) => self.put(&key, bytes, !part.part.ends()),
            (Err(error), _) | (_, Err(error)) => tracing::error!("explanation of query {}: {error}", part.query_id),
        }
    }

    pub(super) fn health(&self, health: &Health) {
        self.publish(&self.drone.health(), health);
    }

    pub(super) fn push_state(&self, state: &PushState) {
        self.publish(&self.drone.model_state(), state);
    }

    fn publish<M: Message>(&self, key: &str, message: &M) {
        match encode(message) {
            Ok(bytes) => self.put(key, bytes, false),
            Err(error) => tracing::error!("{key}: {error}"),
        }
    }

    fn put(&self, key: &str, bytes: impl Into<ZBytes>, droppable: bool) {
        let control = if droppable { CongestionControl::Drop } else { CongestionControl::Block };
        let put = self
            .session
            .put(key, bytes)
            .encoding(Encoding::APPLICATION_CBOR)
            .congestion_control(control)
            .express(true)
            .wait();
        if let Err(error) = put {
            tracing::warn!("publishing on {key}: {error}");
        }
    }
}

/// Encodes a reply into `bytes`; masks whose outlines are too long for one message are made coarser until it fits.
fn fit(reply: &mut Reply, bytes: &mut Vec<u8>) -> Result<(), LinkError> {
    let mut budget = Reply::MAX_BYTES * 3 / 4;
    loop {
        match encode_into(&*reply, bytes) {
            Err(LinkError::TooLarge { .. }) if budget > 256 => {
                coarsen(&mut reply.outcome, budget)?;
                budget /= 2;
            }
            result => return result,
        }
    }
}

/// Bytes of each mask's share below which outlines on the ground are dropped before the mask gets coarser still.
const ROOM_FOR_OUTLINES: usize = 2048;

fn coarsen(outcome: &mut Outcome, budget: usize) -> Result<(), LinkError> {
    let segments: &mut Vec<Segment> = match outcome {
        Outcome::Segmented { masks } => masks,
        Outcome::Refused(refusal) => match &mut refusal.verdict {
            Verdict::TargetAmbiguous { candidates } => candidates,
            _ => return Ok(()),
        },
    };
    let share = budget / segments.len().max(1);
    for segment in segments {
        if share < ROOM_FOR_OUTLINES {
            for position in &mut segment.positions {
                if let Georeference::Placed(position) = position {
                    position.outline.clear();
                    position.outline_radii_metres.clear();
                }
            }
        }
        let mask: Mask = segment.mask.simplify(share)?;
        // A mask that simplifying would empty stays as it is.
        if let Some(bounding_box) = mask.bounding_box()? {
            segment.bounding_box = bounding_box;
            segment.area_pixels = mask.area()?;
            segment.mask = mask;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::decode;

    /// Promise: P5
    #[test]
    fn a_mask_that_is_too_long_is_made_coarser_and_stays_true_to_itself() {
        // A chequerboard with blocks of two pixels: the longest run lengths there are.
        let mask = Mask::from_fn(1200, 1200, |x, y| (x / 2 + y / 2) % 2 == 0 && x > 8).unwrap();
        let segment = Segment {
            bounding_box: mask.bounding_box().unwrap().unwrap(),
            area_pixels: mask.area().unwrap(),
            positions: Vec::new(),
            track: None,
            mask,
            presence: 0.9,
            predicted_iou: 0.8,
        };
        let mut reply = Reply {
            drone: "kestrel-1".into(),
            query_id: "q".into(),
            query_text: "the board".into(),
            frame: 0,
            frame_width: 1200,
            frame_height: 1200,
            capture_unix_nanos: 0,
            capture_doubt: None,
            latency_micros: 0,
            frame_age_micros: None,
            model: "m@1".into(),
            engine: "tract".into(),
            outcome: Outcome::Segmented { masks: vec![segment] },
            standing: None,
        };
        assert!(encode(&reply).is_err());
        let mut bytes = vec![1; 3];
        fit(&mut reply, &mut bytes).unwrap();
        let sent: Reply = decode(&bytes).expect("box and area still fit the mask");
        assert!(matches!(sent.outcome, Outcome::Segmented { .. }));
    }

    #[test]
    fn endpoints_are_checked() {
        let options = LinkOptions { listen: vec!["nonsense".into()], ..LinkOptions::default() };
        let error = options.config().unwrap_err();
        assert!(error.to_string().contains("link.listen"), "{error}");
    }
}
