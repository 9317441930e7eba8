//! Joining the link.

use anyhow::{Context, Result, anyhow};
use std::time::Duration;
use zenoh::{Config, Session};

/// How to reach drones; part of every command that talks to one.
#[derive(Debug, Clone, clap::Args)]
pub struct Link {
    /// Zenoh endpoint of a drone or router, e.g. tcp/192.0.2.7:7447; may be given several times.
    #[arg(long, env = "KESTREL_CONNECT", value_delimiter = ',', default_value = "tcp/127.0.0.1:7447")]
    pub connect: Vec<String>,
    /// Give up waiting for an answer after this many seconds.
    #[arg(long, default_value_t = 30)]
    pub timeout_seconds: u64,
}

impl Link {
    /// The longest wait for one answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// Opens a session to the endpoints; nobody is looked for by multicast.
    pub async fn open(&self) -> Result<Session> {
        let mut config = Config::default();
        let endpoints = serde_json::to_string(&self.connect)?;
        for (key, value) in [
            ("mode", "\"client\""),
            ("connect/endpoints", endpoints.as_str()),
            ("connect/timeout_ms", "5000"),
            ("scouting/multicast/enabled", "false"),
        ] {
            config.insert_json5(key, value).map_err(|error| anyhow!("zenoh setting {key}: {error}"))?;
        }
        zenoh::open(config).await.map_err(|error| anyhow!("{error}")).with_context(|| {
            format!(
                "no link to {}\nhint: is the drone running, and does --connect name its listen address?",
                self.connect.join(", ")
            )
        })
    }
}

/// A runtime for the commands that talk.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?
        .block_on(work)
}
