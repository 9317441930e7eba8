//! Sending an outcome, or a refusal in its place: whatever goes wrong while it is encoded, who waits hears one.
//!
//! Encoding comes before anything is counted or handed to the network, so that what cannot be encoded was not yet said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use kestrel_link::{LinkError, Outcome, Refusal, Reply, Verdict};
use kestrel_perception::policy;

use super::{Asker, Inner};
use crate::camera::unix_nanos;

/// Most bytes of the names of model and engine in a refusal that stands for what could not be sent.
const MOST_NAME_BYTES: usize = 100;

/// A reply as it can be sent.
#[derive(Debug, PartialEq, Eq)]
struct Encoded<B> {
    /// `None` where even a refusal cannot be sent.
    bytes: Option<B>,
    /// Whether the reply is a refusal now, because what it said could not be sent.
    instead: bool,
    /// Whether encoding panicked.
    panicked: bool,
}

impl Inner {
    /// Counts a reply, publishes it and gives it to who asked; its masks are coarser afterwards where they were too long. Gives
    /// whether it is a refusal afterwards, because what it said could not be sent.
    pub(super) fn send(&self, reply: &mut Reply, asker: Option<&Asker>) -> bool {
        let Encoded { bytes, instead, panicked } = encoded(reply, |reply| self.publisher.encoded(reply));
        if panicked {
            // Whichever thread it was on: outcomes are sent by that one but for those that are late.
            self.panicked("finishing");
        }
        // Before it is handed over: who has heard an outcome finds it counted.
        let counter = match reply.outcome {
            Outcome::Segmented { .. } => &self.segmented,
            Outcome::Refused(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.upkeep.metrics.outcome(reply, unix_nanos());
        self.publisher.hand_over(reply, bytes, asker);
        instead
    }
}

/// Encodes a reply; what cannot be encoded becomes a refusal, which is tried once.
fn encoded<B>(reply: &mut Reply, mut encode: impl FnMut(&mut Reply) -> Result<B, LinkError>) -> Encoded<B> {
    let mut panicked = false;
    let mut tried = |reply: &mut Reply| {
        let encoded = catch_unwind(AssertUnwindSafe(|| encode(reply)));
        panicked |= encoded.is_err();
        let why = match encoded {
            Ok(Ok(bytes)) => return Some(bytes),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "encoding it panicked".to_owned(),
        };
        tracing::error!("the outcome of query {} cannot be sent: {why}", reply.query_id);
        None
    };
    if let Some(bytes) = tried(reply) {
        return Encoded { bytes: Some(bytes), instead: false, panicked };
    }
    refuse(reply);
    let bytes = tried(reply);
    Encoded { bytes, instead: true, panicked }
}

/// Makes a reply say no more than that nothing could be said.
fn refuse(reply: &mut Reply) {
    let verdict = Verdict::EngineDegraded;
    let evidence = vec![("outcomes_not_sent".into(), 1.0)];
    reply.outcome = Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict });
    reply.standing = None;
    for name in [&mut reply.model, &mut reply.engine] {
        name.truncate(name.floor_char_boundary(MOST_NAME_BYTES));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn reply() -> Reply {
        Reply {
            drone: "kestrel-1".into(),
            query_id: "q".into(),
            query_text: "the car".into(),
            frame: 7,
            frame_width: 4,
            frame_height: 3,
            capture_unix_nanos: 0,
            capture_doubt: None,
            latency_micros: 5,
            frame_age_micros: None,
            model: "m@1".into(),
            engine: "ö".repeat(90),
            outcome: Outcome::Segmented { masks: Vec::new() },
            standing: None,
        }
    }

    fn is_refused(reply: &Reply) -> bool {
        matches!(&reply.outcome, Outcome::Refused(refusal) if refusal.verdict == Verdict::EngineDegraded)
    }

    #[test]
    fn what_can_be_sent_is_sent_as_it_is() {
        let mut sent = reply();
        let done = encoded(&mut sent, |reply| Ok(reply.query_id.clone()));
        assert_eq!(done, Encoded { bytes: Some("q".to_owned()), instead: false, panicked: false });
        assert_eq!(sent, reply());
    }

    /// Fault: encoding fails, or panics. Expected: a refusal of the same query and frame in its place, and a panic is told.
    #[test]
    fn what_cannot_be_sent_is_refused() {
        for panics in [false, true] {
            let (mut sent, mut tries) = (reply(), 0);
            let done = encoded(&mut sent, |reply| {
                tries += 1;
                match &reply.outcome {
                    Outcome::Segmented { .. } if panics => panic!("told to panic"),
                    Outcome::Segmented { .. } => Err(LinkError::TooLarge { operation: "reply", limit: 1, got: 2 }),
                    Outcome::Refused(_) => Ok(()),
                }
            });
            assert_eq!((done, tries), (Encoded { bytes: Some(()), instead: true, panicked: panics }, 2));
            assert!(is_refused(&sent) && sent.query_id == "q" && sent.frame == 7);
            assert_eq!((sent.model.as_str(), sent.engine.len()), ("m@1", MOST_NAME_BYTES));
        }
    }

    #[test]
    fn what_cannot_even_be_refused_is_tried_twice_and_not_without_end() {
        let (mut sent, mut tries) = (reply(), 0);
        let done = encoded(&mut sent, |_| -> Result<(), LinkError> {
            tries += 1;
            panic!("told to panic")
        });
        assert_eq!((done, tries), (Encoded { bytes: None, instead: true, panicked: true }, 2));
        assert!(is_refused(&sent));
    }
}
