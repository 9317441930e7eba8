//! The books of a soak: what was sent, what came back, and whether the two agree.
//!
//! Pure: numbers come in, complaints go out. One query stands through the whole flight, so every frame that the drone took
//! has exactly one outcome about that query or is counted as dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kestrel_link::{Outcome, Reply};

/// Frames whose numbers are remembered, to find one that is answered twice.
const REMEMBERED: usize = 1024;

/// What the drone and its camera counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// Frames that the camera's thread took, could not use, and that were replaced before it took them.
    pub(super) taken: u64,
    pub(super) lost: u64,
    pub(super) replaced: u64,
    /// Frames that the node took in, and dropped.
    pub(super) frames_in: u64,
    pub(super) frames_dropped: u64,
    /// Outcomes.
    pub(super) segmented: u64,
    pub(super) refused: u64,
}

/// What the operator sent and heard.
#[derive(Debug)]
pub(super) struct Books {
    /// Id of the query that stands.
    standing: String,
    deadline: Duration,
    /// Samples published on the camera's key, garbage included.
    pub(super) published: u64,
    /// Queries that were asked once, and how many had one answer each.
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// Messages of garbage that want an answer, and how many were refused.
    pub(super) garbage: u64,
    pub(super) garbage_refused: u64,
    /// Refusals of the standing query that are about no frame: it waited for one.
    about_none: u64,
    /// Outcomes heard, by kind or reason.
    pub(super) heard: BTreeMap<String, u64>,
    recent: BTreeSet<u64>,
    broken: BTreeSet<String>,
}

impl Books {
    pub(super) fn new(standing: &str, deadline: Duration) -> Self {
        Self {
            standing: standing.to_owned(),
            deadline,
            published: 0,
            asked: 0,
            answered: 0,
            garbage: 0,
            garbage_refused: 0,
            about_none: 0,
            heard: BTreeMap::new(),
            recent: BTreeSet::new(),
            broken: BTreeSet::new(),
        }
    }

    /// Takes in an outcome that the drone published.
    pub(super) fn hear(&mut self, reply: &Reply) {
        let name = match &reply.outcome {
            Outcome::Segmented { .. } => {
                if Duration::from_micros(reply.latency_micros) > self.deadline {
                    self.complain("a mask came after its deadline");
                }
                "segmented".to_owned()
            }
            Outcome::Refused(refusal) => reason(refusal),
        };
        *self.heard.entry(name).or_default() += 1;
        if reply.query_id != self.standing {
            return;
        }
        // Only what is about no frame has no size.
        if reply.frame_width == 0 {
            self.about_none += 1;
            return;
        }
        if !self.recent.insert(reply.frame) {
            self.complain("a frame had two outcomes for one query");
        }
        if self.recent.len() > REMEMBERED {
            self.recent.pop_first();
        }
    }

    /// Takes in how many answers a query had that was asked once.
    pub(super) fn answers(&mut self, count: usize) {
        if count == 1 {
            self.answered += 1;
        } else {
            self.complain(if count == 0 { "a query had no answer" } else { "a query had two answers" });
        }
    }

    /// Takes in whether garbage was refused.
    pub(super) fn garbage(&mut self, is_refused: bool) {
        if is_refused {
            self.garbage_refused += 1;
        } else {
            self.complain("garbage was not refused");
        }
    }

    /// Something is not as promised. Each kind is told once.
    pub(super) fn complain(&mut self, what: impl Into<String>) {
        self.broken.insert(what.into());
    }

    /// What is not as promised by now: nothing of this may be mended by waiting.
    pub(super) fn broken(&self) -> Vec<String> {
        self.broken.iter().cloned().collect()
    }

    /// What does not balance: while things are under way some of it may not, at the end all of it must.
    pub(super) fn unbalanced(&self, counted: &Counted) -> Vec<String> {
        let Counted { taken, lost, replaced, frames_in, frames_dropped, segmented, refused } = *counted;
        // Answers to single queries are outcomes too.
        let standing = (segmented + refused).checked_sub(self.answered + self.about_none);
        let mut told = Vec::new();
        if self.published != taken + lost + replaced {
            let published = self.published;
            told.push(format!("camera: {published} published ≠ {taken} taken + {lost} lost + {replaced} replaced"));
        }
        if taken != frames_in {
            told.push(format!("{taken} taken from the camera ≠ {frames_in} frames in"));
        }
        if standing.and_then(|standing| standing.checked_add(frames_dropped)) != Some(frames_in) {
            told.push(format!(
                "{frames_in} frames in ≠ {segmented} segmented + {refused} refused − {} of single queries − {} about no frame \
                 + {frames_dropped} dropped",
                self.answered, self.about_none
            ));
        }
        if self.asked != self.answered {
            told.push(format!("{} queries asked ≠ {} answered", self.asked, self.answered));
        }
        if self.garbage != self.garbage_refused {
            told.push(format!("{} garbage messages ≠ {} refused", self.garbage, self.garbage_refused));
        }
        told
    }
}

/// A refusal's reason as it stands in a message.
fn reason(refusal: &kestrel_link::Refusal) -> String {
    let value = serde_json::to_value(&refusal.verdict).unwrap_or_default();
    value.get("reason").and_then(|reason| reason.as_str()).unwrap_or("refused").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{Refusal, Verdict};
    use proptest::prelude::*;

    const DEADLINE: Duration = Duration::from_millis(100);

    fn books() -> Books {
        Books::new("s", DEADLINE)
    }

    fn reply(query_id: &str, frame: u64, frame_width: u32) -> Reply {
        let refusal = Refusal { verdict: Verdict::TooDark, evidence: Vec::new(), advice: String::new() };
        Reply {
            drone: "d".into(),
            query_id: query_id.into(),
            query_text: String::new(),
            frame,
            frame_width,
            frame_height: frame_width,
            capture_unix_nanos: 0,
            capture_doubt: None,
            latency_micros: 1,
            frame_age_micros: None,
            model: String::new(),
            engine: String::new(),
            outcome: Outcome::Refused(refusal),
            standing: None,
        }
    }

    #[test]
    fn what_is_not_promised_is_told_once() {
        let mut books = books();
        books.hear(&reply("s", 1, 4));
        books.hear(&reply("other", 1, 4));
        books.hear(&reply("s", 7, 0));
        books.hear(&reply("s", 7, 0));
        assert!(books.broken().is_empty(), "{:?}", books.broken());
        assert_eq!(books.heard["too_dark"], 4);
        books.hear(&reply("s", 1, 4));
        books.hear(&reply("s", 1, 4));
        books.hear(&Reply {
            outcome: Outcome::Segmented { masks: Vec::new() },
            latency_micros: 100_001,
            ..reply("s", 2, 4)
        });
        books.answers(0);
        books.answers(2);
        books.garbage(false);
        assert_eq!(books.broken().len(), 5, "{:?}", books.broken());
    }

    /// Promise: P5
    #[test]
    fn what_is_remembered_is_bounded() {
        let mut books = books();
        (0..5000).for_each(|frame| books.hear(&reply("s", frame, 4)));
        assert_eq!(books.recent.len(), REMEMBERED);
        assert!(books.broken().is_empty());
    }

    proptest! {
        /// What would break: books that balance though a frame is missing.
        ///
        /// Promise: P1
        #[test]
        fn only_whole_books_balance(outcomes in 0_u64..50, none in 0_u64..5, singles in 0_u64..9, dropped in 0_u64..50,
                                    replaced in 0_u64..9, lost in 0_u64..9, off in 0_usize..7) {
            let mut books = books();
            (0..outcomes).for_each(|frame| books.hear(&reply("s", frame, 4)));
            (0..none).for_each(|frame| books.hear(&reply("s", frame, 0)));
            books.asked = singles;
            (0..singles).for_each(|_| books.answers(1));
            let frames_in = outcomes + dropped;
            books.published = frames_in + replaced + lost;
            let mut counted = Counted {
                taken: frames_in, lost, replaced, frames_in, frames_dropped: dropped,
                segmented: 0, refused: outcomes + none + singles,
            };
            prop_assert_eq!(books.unbalanced(&counted), Vec::<String>::new());
            match off {
                0 => counted.taken += 1,
                1 => counted.lost += 1,
                2 => counted.frames_in += 1,
                3 => counted.frames_dropped += 1,
                4 => counted.segmented += 1,
                5 => counted.refused += 1,
                _ => books.asked += 1,
            }
            prop_assert!(!books.unbalanced(&counted).is_empty());
        }
    }
}
