//! Threads that share a list of work, each with a pool of its own, so that rayon inside an operation does not steal from
//! another's.
//!
//! Which thread does what is fixed: numbers depend on how many there are, never on their timing.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::sft::{Result, TrainError};

/// The pools; they live as long as the work, since an allocator gives a new thread nothing that an old one freed.
#[derive(Debug)]
pub struct Threads(Vec<ThreadPool>);

impl Threads {
    /// So many threads, at least one.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(count: usize) -> Result<Self> {
        let pool = |worker: usize| {
            let named = ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| format!("train-{worker}"));
            named.build().map_err(|e| TrainError::Worker { worker, got: e.to_string() })
        };
        Ok(Self((0..count.max(1)).map(pool).collect::<Result<_>>()?))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Runs one item on each thread at once, at most as many as there are threads, and gives what came of them in order.
    ///
    /// # Errors
    /// The first failure, by order of the items; a panic is one.
    pub fn each<I: Send, T: Send>(
        &self,
        items: impl IntoIterator<Item = I>,
        run: impl Fn(usize, I) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let run = &run;
        let results: Vec<Result<T>> = std::thread::scope(|scope| {
            let started: Vec<_> = self
                .0
                .iter()
                .zip(items)
                .enumerate()
                .map(|(number, (pool, item))| scope.spawn(move || pool.install(|| run(number, item))))
                .collect();
            let dead = |worker| move |_| Err(TrainError::Worker { worker, got: "it panicked".to_owned() });
            started.into_iter().enumerate().map(|(n, handle)| handle.join().unwrap_or_else(dead(n))).collect()
        });
        results.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn results_keep_their_order_and_a_panic_is_an_error() {
        let threads = Threads::new(3).unwrap();
        assert_eq!(threads.each([5, 6, 7], |n, item| Ok((n, item))).unwrap(), [(0, 5), (1, 6), (2, 7)]);
        let error = threads.each([1, 2], |_, item| if item == 2 { panic!("two") } else { Ok(item) });
        assert!(error.unwrap_err().to_string().contains("worker 1"));
        assert_eq!(Threads::new(0).unwrap().count(), 1);
    }
}
