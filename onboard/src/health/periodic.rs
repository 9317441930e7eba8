//! A thread that does something again and again.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

/// A named thread that does its work at a fixed interval until this is dropped.
///
/// Dropping does not wait for work that is under way: a sensor or a disk that hangs must not hold up the end.
#[derive(Debug)]
pub struct Periodic {
    /// Its thread ends when this end of the channel is gone.
    _running: SyncSender<()>,
}

impl Periodic {
    /// Starts the thread; the work is done for the first time after one interval.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, every: Duration, mut work: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (running, ended) = mpsc::sync_channel::<()>(0);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
                work();
            }
        })?;
        Ok(Self { _running: running })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn works_until_it_is_dropped() {
        let (done, told) = mpsc::sync_channel(0);
        // Sending fails once the receiver is gone; the thread then ends by the drop below.
        let work = move || done.send(()).unwrap_or_default();
        let periodic = Periodic::start("test", Duration::from_millis(1), work).unwrap();
        for _ in 0..3 {
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        drop(periodic);
        // What is under way may still be told; after that the thread, and with it the sender, is gone.
        while told.recv_timeout(Duration::from_secs(60)).is_ok() {}
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
