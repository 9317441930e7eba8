//! Ids that were given up in an answer that nobody was told: each is told once, so the next answer tells it.

use kestrel_link::Standing;
use kestrel_link::standing::MAX_IDS;

/// What is owed to queries that stand; bounded.
pub(super) struct Owed {
    most: usize,
    /// Query id and ids, the oldest debt first.
    all: Vec<(String, Vec<u64>)>,
}

impl Owed {
    /// Nothing yet, and debts to at most `most` queries later: the oldest is dropped.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), all: Vec::new() }
    }

    /// An answer to a query is not told to anybody.
    pub(super) fn keep(&mut self, query_id: &str, standing: Option<&Standing>) {
        let Some(Standing { lost, .. }) = standing.filter(|standing| !standing.lost.is_empty()) else { return };
        match self.all.iter_mut().find(|(id, _)| id == query_id) {
            Some((_, ids)) => ids.extend(lost.iter().take(MAX_IDS.saturating_sub(ids.len()))),
            None => {
                if self.all.len() >= self.most {
                    self.all.remove(0);
                }
                self.all.push((query_id.to_owned(), lost.iter().copied().take(MAX_IDS).collect()));
            }
        }
    }

    /// Adds what is owed to an answer that is told; what does not fit stays owed.
    pub(super) fn pay(&mut self, query_id: &str, standing: Option<&mut Standing>) {
        let Some(standing) = standing else { return };
        let Some((_, ids)) = self.all.iter_mut().find(|(id, _)| id == query_id) else { return };
        let room = MAX_IDS.saturating_sub(standing.lost.len()).min(ids.len());
        drop(standing.lost.splice(0..0, ids.drain(..room)));
        self.all.retain(|(_, ids)| !ids.is_empty());
    }

    /// A query has ended, or begins anew with other ids.
    pub(super) fn forget(&mut self, query_id: &str) {
        self.all.retain(|(id, _)| id != query_id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn standing(lost: impl IntoIterator<Item = u64>) -> Standing {
        Standing { lost: lost.into_iter().collect(), ..Standing::default() }
    }

    fn told(owed: &mut Owed, query_id: &str, lost: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut standing = standing(lost);
        owed.pay(query_id, Some(&mut standing));
        standing.validate().unwrap();
        standing.lost
    }

    /// What would break: a follower that waits forever for a thing that was given up while the engine was silent.
    #[test]
    fn what_was_given_up_untold_is_told_with_the_next_answer_and_once() {
        let mut owed = Owed::new(4);
        owed.keep("a", Some(&standing([3, 1])));
        owed.keep("a", Some(&standing([])));
        owed.keep("a", None);
        owed.keep("a", Some(&standing([7])));
        owed.pay("a", None);
        assert_eq!(told(&mut owed, "b", [9]), [9]);
        assert_eq!(told(&mut owed, "a", [9]), [3, 1, 7, 9]);
        assert_eq!(told(&mut owed, "a", [4]), [4]);
    }

    #[test]
    fn debts_are_bounded_and_what_does_not_fit_is_told_later() {
        let mut owed = Owed::new(2);
        owed.keep("a", Some(&standing(1..=60)));
        owed.keep("a", Some(&standing(61..=90)));
        assert_eq!(told(&mut owed, "a", 100..110).len(), MAX_IDS);
        assert_eq!(told(&mut owed, "a", []), (55..=64).collect::<Vec<_>>());
        for id in ["b", "c", "d"] {
            owed.keep(id, Some(&standing([1])));
        }
        assert_eq!(owed.all.len(), 2);
        owed.forget("d");
        assert!(told(&mut owed, "d", []).is_empty());
        assert_eq!(told(&mut owed, "c", []), [1]);
    }
}
