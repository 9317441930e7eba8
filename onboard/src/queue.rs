//! What stands between two stages: a queue of stated room from one thread to another.
//!
//! What waits lies in a ring of fixed size (`heapless::Deque`) behind a lock, so nothing is allocated once the queue was
//! made. A ring without a lock could not be waited on.
//! An end that is dropped closes the queue. So a thread that ends, by a panic too, keeps nobody waiting: whoever receives
//! gets what was sent before and then hears of the end, and whoever sends gets his own back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heapless::Deque;

/// A queue in which `ROOM` items may wait, at least 1.
pub(crate) fn queue<T, const ROOM: usize>() -> (Sender<T, ROOM>, Receiver<T, ROOM>) {
    let state = State { waiting: Deque::new(), has_sender: true, has_receiver: true };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

struct State<T, const ROOM: usize> {
    waiting: Deque<T, ROOM>,
    has_sender: bool,
    has_receiver: bool,
}

struct Shared<T, const ROOM: usize> {
    state: Mutex<State<T, ROOM>>,
    changed: Condvar,
}

impl<T, const ROOM: usize> Shared<T, ROOM> {
    fn lock(&self) -> MutexGuard<'_, State<T, ROOM>> {
        // Nothing that could panic half-way is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item behind the others, or gives it back where there is no room or nobody to take it.
    fn put(&self, mut state: MutexGuard<'_, State<T, ROOM>>, item: T) -> Result<(), T> {
        if !state.has_receiver {
            return Err(item);
        }
        state.waiting.push_back(item)?;
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the item that has waited longest.
    fn take(&self, state: &mut State<T, ROOM>) -> Option<T> {
        let item = state.waiting.pop_front()?;
        self.changed.notify_all();
        Some(item)
    }
}

/// The end that items are put into.
pub(crate) struct Sender<T, const ROOM: usize>(Arc<Shared<T, ROOM>>);

impl<T, const ROOM: usize> Sender<T, ROOM> {
    /// Puts an item into the queue; waits while there is no room. Gives it back when nobody takes it any more.
    pub(crate) fn send(&self, item: T) -> Result<(), T> {
        let full = |state: &mut State<T, ROOM>| state.has_receiver && state.waiting.is_full();
        let state = self.0.changed.wait_while(self.0.lock(), full).unwrap_or_else(PoisonError::into_inner);
        self.0.put(state, item)
    }

    /// As [`Sender::send`], but gives the item back where it would have to wait.
    pub(crate) fn try_send(&self, item: T) -> Result<(), T> {
        self.0.put(self.0.lock(), item)
    }
}

impl<T, const ROOM: usize> Drop for Sender<T, ROOM> {
    fn drop(&mut self) {
        self.0.lock().has_sender = false;
        self.0.changed.notify_all();
    }
}

/// What there is to take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<T> {
    /// An item.
    Item(T),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing more comes.
    Ended,
}

/// The end that items are taken from, in the order in which they were sent. What waits when it is dropped is dropped too.
pub(crate) struct Receiver<T, const ROOM: usize>(Arc<Shared<T, ROOM>>);

impl<T, const ROOM: usize> Receiver<T, ROOM> {
    /// Takes an item; waits while there is none. `None` when none waits and none comes any more.
    pub(crate) fn receive(&self) -> Option<T> {
        let waited = self.0.changed.wait_while(self.0.lock(), Self::is_idle);
        self.0.take(&mut waited.unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes an item; waits for one, but no longer than this.
    pub(crate) fn receive_within(&self, wait: Duration) -> Received<T> {
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), wait, Self::is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match self.0.take(&mut state) {
            Some(item) => Received::Item(item),
            None if state.has_sender => Received::Nothing,
            None => Received::Ended,
        }
    }

    /// Takes an item if one waits.
    pub(crate) fn try_receive(&self) -> Option<T> {
        self.0.take(&mut self.0.lock())
    }

    /// Whether nothing is there and something may come.
    fn is_idle(state: &mut State<T, ROOM>) -> bool {
        state.has_sender && state.waiting.is_empty()
    }
}

impl<T, const ROOM: usize> Drop for Receiver<T, ROOM> {
    fn drop(&mut self) {
        let unwanted = {
            let mut state = self.0.lock();
            state.has_receiver = false;
            std::mem::take(&mut state.waiting)
        };
        self.0.changed.notify_all();
        // Behind the lock: what is dropped here may take its time.
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{Builder, JoinHandle};

    const ROOM: usize = 4;

    fn thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().name("test".into()).spawn(work).unwrap()
    }

    proptest! {
        /// What would break: an outcome that is lost, told twice or told before an earlier one, and memory beyond the room.
        ///
        /// Promise: P1, P5
        #[test]
        fn it_is_a_queue_of_its_room(
            steps in proptest::collection::vec((0_u8..6, any::<u16>()), 0..200),
            sender_ends: bool,
        ) {
            let (sender, receiver) = queue::<u16, ROOM>();
            let mut model = VecDeque::new();
            for (step, item) in steps {
                match step {
                    0..=2 => {
                        let fits = model.len() < ROOM;
                        prop_assert_eq!(sender.try_send(item), if fits { Ok(()) } else { Err(item) });
                        if fits {
                            model.push_back(item);
                        }
                    }
                    3 => prop_assert_eq!(receiver.try_receive(), model.pop_front()),
                    4 => {
                        let expected = model.pop_front().map_or(Received::Nothing, Received::Item);
                        prop_assert_eq!(receiver.receive_within(Duration::ZERO), expected);
                    }
                    // With something there, or room for it, nobody waits.
                    _ if model.is_empty() => {
                        prop_assert_eq!(sender.send(item), Ok(()));
                        model.push_back(item);
                    }
                    _ => prop_assert_eq!(receiver.receive(), model.pop_front()),
                }
            }
            if sender_ends {
                drop(sender);
                while let Some(item) = model.pop_front() {
                    prop_assert_eq!(receiver.receive(), Some(item));
                }
                prop_assert_eq!(receiver.receive(), None);
                prop_assert_eq!(receiver.receive_within(Duration::MAX), Received::Ended);
            } else {
                drop(receiver);
                prop_assert_eq!((sender.try_send(7), sender.send(8)), (Err(7), Err(8)));
            }
        }
    }

    /// What would break: a stage that runs ahead of a slow one by more than it may.
    ///
    /// Promise: P5
    #[test]
    fn a_full_queue_holds_the_sender_and_loses_nothing() {
        const ALL: usize = 2000;
        let (sender, receiver) = queue::<usize, ROOM>();
        let sent = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&sent);
        let sending = thread(move || {
            for item in 0..ALL {
                sender.send(item).unwrap();
                counting.fetch_add(1, Ordering::SeqCst);
            }
        });
        for item in 0..ALL {
            let ahead = sent.load(Ordering::SeqCst);
            assert!(ahead <= item + ROOM, "{ahead} were sent and {item} taken");
            assert_eq!(receiver.receive(), Some(item));
        }
        sending.join().unwrap();
        assert_eq!(receiver.receive(), None);
    }

    #[test]
    fn whoever_waits_is_woken_by_the_other_end() {
        let (sender, receiver) = queue::<u16, 1>();
        let receiving = thread(move || (receiver.receive(), receiver));
        sender.send(1).unwrap();
        let (got, receiver) = receiving.join().unwrap();
        assert_eq!(got, Some(1));
        let receiving = thread(move || (receiver.receive_within(Duration::from_secs(600)), receiver));
        sender.send(2).unwrap();
        let (got, receiver) = receiving.join().unwrap();
        assert_eq!(got, Received::Item(2));
        sender.send(3).unwrap();
        let sending = thread(move || sender.send(4));
        assert_eq!((receiver.receive(), receiver.receive()), (Some(3), Some(4)));
        assert_eq!(sending.join().unwrap(), Ok(()));
    }

    /// What would break: a node that never stops, because one stage waits for another that has ended.
    #[test]
    fn the_end_of_one_side_is_told_to_who_waits_on_the_other() {
        let (sender, receiver) = queue::<u16, ROOM>();
        let receiving = thread(move || receiver.receive());
        drop(sender);
        assert_eq!(receiving.join().unwrap(), None);

        let (sender, receiver) = queue::<u16, 1>();
        sender.send(1).unwrap();
        let sending = thread(move || sender.send(2));
        drop(receiver);
        assert_eq!(sending.join().unwrap(), Err(2), "it has its own back");

        let (sender, receiver) = queue::<u16, ROOM>();
        let panicking: JoinHandle<()> = thread(move || {
            sender.send(5).unwrap();
            panic!("a stage that panics");
        });
        assert_eq!((receiver.receive(), receiver.receive()), (Some(5), None));
        assert!(panicking.join().is_err());
    }

    #[test]
    fn what_nobody_will_take_is_let_go() {
        let (sender, receiver) = queue::<Arc<()>, ROOM>();
        let item = Arc::new(());
        sender.send(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
        let (sender, receiver) = queue::<Arc<()>, ROOM>();
        sender.send(Arc::clone(&item)).unwrap();
        drop((sender, receiver));
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
