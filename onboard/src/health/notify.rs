//! What a service manager is told: systemd's notification protocol (sd_notify(3)).
//!
//! Without `NOTIFY_SOCKET` in the environment, and on systems without it, nothing is told and nothing fails.

use std::time::Duration;

/// Talks to the service manager that started this process.
#[derive(Debug, Clone, Copy)]
pub struct Notifier {
    /// Within which time the manager wants a sign of life.
    watchdog: Option<Duration>,
}

/// What can be told.
#[derive(Debug, Clone, Copy)]
enum Message<'a> {
    Ready(&'a str),
    Status(&'a str),
    Alive,
    Stopping(&'a str),
}

impl Notifier {
    /// A notifier for the manager that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`), if there is
    /// one.
    #[must_use]
    pub fn from_environment() -> Self {
        #[cfg(unix)]
        let watchdog = sd_notify::watchdog_enabled();
        #[cfg(not(unix))]
        let watchdog = None;
        Self { watchdog }
    }

    /// How often a sign of life is to be given: twice as often as it is wanted; `None` when nobody wants one.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2).filter(|every| !every.is_zero())
    }

    /// The start is finished (`READY=1`), with one line on how things are.
    pub fn ready(&self, status: &str) {
        send(Message::Ready(status));
    }

    /// One line on how things are (`STATUS=`), as `systemctl status` shows it.
    pub fn status(&self, status: &str) {
        send(Message::Status(status));
    }

    /// A sign of life (`WATCHDOG=1`).
    pub fn alive(&self) {
        send(Message::Alive);
    }

    /// The end has begun (`STOPPING=1`), with one line on why.
    pub fn stopping(&self, status: &str) {
        send(Message::Stopping(status));
    }
}

#[cfg(unix)]
fn send(message: Message<'_>) {
    use sd_notify::NotifyState;
    // A line break would end the status and begin another message.
    let one_line = |status: &str| status.replace(['\n', '\r'], " ");
    let sent = match message {
        Message::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]),
        Message::Status(status) => sd_notify::notify(&[NotifyState::Status(&one_line(status))]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Message::Stopping(status) => {
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
        }
    };
    if let Err(error) = sent {
        tracing::warn!("the service manager was not told: {error}");
    }
}

#[cfg(not(unix))]
fn send(message: Message<'_>) {
    tracing::trace!("there is no service manager to tell: {message:?}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn signs_of_life_come_twice_as_often_as_they_are_wanted() {
        let every = |watchdog| Notifier { watchdog }.alive_every();
        assert_eq!(every(Some(Duration::from_secs(10))), Some(Duration::from_secs(5)));
        assert_eq!(every(Some(Duration::ZERO)), None, "a thread must not spin");
        assert_eq!(every(None), None);
    }
}
