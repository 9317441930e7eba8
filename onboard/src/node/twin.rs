//! Another drone of the same name: answers of two drones under one key would be nobody's, and a push would reach either.
//!
//! A drone does not start where the network shows its name. Two that meet later, because their networks were joined or
//! because they started in the same moment, fly on and say so: a drone in the air is never ended for its name. While the
//! other one is heard neither takes in a question, so that none has two outcomes; those that stand go on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::{DroneId, Health, decode};
use zenoh::Session;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Locality;

use super::NodeError;

/// How long the network may take to say whether a name is taken. It answers at once where it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// For how long the other one is told after it was heard last: it speaks every second.
const TOLD_FOR: Duration = Duration::from_secs(3);

/// Refuses a name that a drone on the network has.
pub(super) async fn refuse(session: &Session, drone: &DroneId) -> Result<(), NodeError> {
    let failed = "look for a drone of the same name";
    let tokens = session.liveliness().get(drone.alive()).timeout(ANSWER_WITHIN).await;
    let tokens = tokens.map_err(NodeError::link(failed))?;
    while let Ok(reply) = tokens.recv_async().await {
        // An error is no token; a network that did not answer in time shows none.
        if reply.into_result().is_ok() {
            return Err(NodeError::NameTaken { drone: drone.clone() });
        }
    }
    Ok(())
}

/// When another drone of this name was heard last.
#[derive(Debug, Default)]
pub(super) struct Twin {
    heard: Mutex<Option<Instant>>,
}

impl Twin {
    /// Listens for the health of another drone of this name, for as long as what is given is held.
    pub(super) async fn listen(
        self: &Arc<Self>,
        session: &Session,
        drone: &DroneId,
    ) -> Result<Subscriber<()>, NodeError> {
        let (twin, name) = (Arc::clone(self), drone.clone());
        session
            .declare_subscriber(drone.health())
            // This drone's own is not heard.
            .allowed_origin(Locality::Remote)
            .callback(move |sample| twin.hear(&name, &sample.payload().to_bytes(), Instant::now()))
            .await
            .map_err(NodeError::link("listen for a drone of the same name"))
    }

    /// Takes in what somebody else published as the health of this drone; garbage is nobody's health.
    fn hear(&self, name: &DroneId, bytes: &[u8], now: Instant) {
        if !decode::<Health>(bytes).is_ok_and(|health| health.drone == name.as_str()) {
            return;
        }
        let before = self.lock().replace(now);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= TOLD_FOR) {
            tracing::error!("another drone on the network is called {name} too: give each a name of its own");
        }
    }

    /// That there is another one; `None` when none was heard lately.
    pub(super) fn told(&self, now: Instant) -> Option<String> {
        let heard = (*self.lock())?;
        let is_near = now.saturating_duration_since(heard) < TOLD_FOR;
        is_near.then(|| {
            "another drone on the network has the same name: queries are turned away, pushes reach both".to_owned()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{Readiness, encode};

    fn health(drone: &str) -> Vec<u8> {
        let health = Health {
            drone: drone.into(),
            readiness: Readiness::Ready,
            model: "m@1".into(),
            model_hash: String::new(),
            slot: String::new(),
            engine: "tract".into(),
            uptime_seconds: 1,
            frames_in: 0,
            frames_dropped: 0,
            segmented: 0,
            refused: 0,
            degraded: Vec::new(),
            recording: None,
        };
        encode(&health).unwrap()
    }

    /// Promise: P13
    #[test]
    fn only_health_of_the_same_name_is_a_twin_and_only_for_a_while() {
        let (twin, name, now) = (Twin::default(), DroneId::new("kestrel-1").unwrap(), Instant::now());
        for stranger in [health("kestrel-2"), vec![0xff; 40], Vec::new(), vec![0x9f; 5000]] {
            twin.hear(&name, &stranger, now);
            assert_eq!(twin.told(now), None);
        }
        twin.hear(&name, &health("kestrel-1"), now);
        assert!(twin.told(now + TOLD_FOR / 2).unwrap().contains("the same name"));
        assert_eq!(twin.told(now + TOLD_FOR), None, "it has left");
    }
}
