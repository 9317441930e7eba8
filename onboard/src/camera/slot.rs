//! Room for one item between two threads: a newer one takes its place.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The latest item, until it is taken.
pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    latest: Option<T>,
    replaced: u64,
    /// Why nothing more comes.
    closed: Option<String>,
}

/// What was in a slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    Item(T),
    Nothing,
    /// Nothing is there and nothing more comes, for this reason.
    Closed(String),
}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { latest: None, replaced: 0, closed: None }), changed: Condvar::new() }
    }

    /// Puts an item in place of the last one; says whether anybody may still take it.
    pub(super) fn put(&self, item: T) -> bool {
        let mut state = self.lock();
        if state.closed.is_some() {
            return false;
        }
        if state.latest.replace(item).is_some() {
            state.replaced += 1;
        }
        self.changed.notify_all();
        true
    }

    /// Says that nothing more comes; the first reason stays.
    pub(super) fn close(&self, why: impl Into<String>) {
        self.lock().closed.get_or_insert_with(|| why.into());
        self.changed.notify_all();
    }

    /// Takes the latest item, waiting for one for at most `wait`.
    pub(super) fn take(&self, wait: Duration) -> Taken<T> {
        let state = self.lock();
        let empty = |state: &mut State<T>| state.latest.is_none() && state.closed.is_none();
        let (mut state, _) =
            self.changed.wait_timeout_while(state, wait, empty).unwrap_or_else(PoisonError::into_inner);
        match (state.latest.take(), &state.closed) {
            (Some(item), _) => Taken::Item(item),
            (None, Some(why)) => Taken::Closed(why.clone()),
            (None, None) => Taken::Nothing,
        }
    }

    /// Items that were replaced before anybody took them.
    pub(super) fn replaced(&self) -> u64 {
        self.lock().replaced
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::sync::Arc;

    /// Promise: P1, P5
    #[test]
    fn the_latest_wins_and_the_others_are_counted() {
        let slot = Slot::new();
        for item in 0..5 {
            assert!(slot.put(item));
        }
        assert_eq!(slot.take(Duration::ZERO), Taken::Item(4));
        assert_eq!(slot.take(Duration::from_millis(1)), Taken::Nothing);
        assert_eq!(slot.replaced(), 4);
    }

    #[test]
    fn what_was_put_before_the_end_is_still_taken() {
        let slot = Slot::new();
        slot.put(1);
        slot.close("unplugged");
        slot.close("later");
        assert!(!slot.put(2));
        assert_eq!(slot.take(Duration::ZERO), Taken::Item(1));
        assert_eq!(slot.take(Duration::from_secs(60)), Taken::Closed("unplugged".into()));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let slot = Arc::new(Slot::new());
        let putting = Arc::clone(&slot);
        let thread = std::thread::Builder::new().spawn(move || putting.put(7)).unwrap();
        assert_eq!(slot.take(Duration::from_secs(60)), Taken::Item(7));
        assert!(thread.join().unwrap());
    }
}
