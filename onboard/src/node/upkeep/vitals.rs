//! How a node is, for whoever supervises it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use kestrel_link::Health;

use super::super::{Inner, Node};
use super::{Fault, Threads};

impl Node {
    /// Waits until the node cannot go on, and says why. Whoever holds it is to end the process.
    pub async fn fault(&self) -> Fault {
        self.inner.ended().await
    }

    /// Says how the node is, from any thread.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        Vitals(Arc::clone(&self.inner))
    }

    /// Where metrics are given over HTTP, if they are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.threads.as_ref().and_then(Threads::metrics_address)
    }
}

impl Inner {
    /// Waits until the node cannot go on, and says why.
    async fn ended(&self) -> Fault {
        let mut faults = self.upkeep.faults();
        let fault = faults.wait_for(Option::is_some).await.ok().and_then(|fault| fault.clone());
        match fault {
            Some(fault) => fault,
            // Whoever borrows this here holds the sender.
            None => std::future::pending().await,
        }
    }
}

/// Says how a node is; can be cloned and moved to another thread.
#[derive(Clone)]
pub struct Vitals(Arc<Inner>);

impl Vitals {
    /// What the node says of itself now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// As [`Node::fault`], for whoever waits for [`Node::stop`], which takes the node.
    pub async fn fault(&self) -> Fault {
        self.0.ended().await
    }

    /// Whether the node watches itself and can go on; a service manager is to be given signs of life while this holds.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.upkeep.is_alive(Instant::now())
    }
}
