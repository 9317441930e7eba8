//! Addresses on loopback, for a drone and an operator on one machine.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below where Linux takes ports for connections and for port 0 (`net.ipv4.ip_local_port_range`, 32768 and up): one that is
/// free now cannot be taken by a connection before it is listened on, and opening a model lies in between.
const FIRST: u16 = 20_000;
const PORTS: u16 = 12_000;

/// An address on loopback on which nobody listens now; no other call in this process has given it.
///
/// # Errors
/// When every port in question is taken.
pub fn free_address() -> std::io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that start together look in different places.
    let begin = std::process::id().wrapping_mul(97) % u32::from(PORTS);
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = (begin + u32::from(step)) % u32::from(PORTS);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + place as u16));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    let last = FIRST + (PORTS - 1);
    Err(Error::new(ErrorKind::AddrInUse, format!("no port of {FIRST} to {last} on loopback is free")))
}

/// The same as zenoh names it: `tcp/127.0.0.1:PORT`.
///
/// # Errors
/// As for [`free_address`].
pub fn free_endpoint() -> std::io::Result<String> {
    Ok(format!("tcp/{}", free_address()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashSet;

    /// What would break: two drones of one process that are told to listen on one port.
    #[test]
    fn no_two_calls_give_the_same() {
        let given: HashSet<_> = (0..100).map(|_| free_address().unwrap()).collect();
        assert_eq!(given.len(), 100);
        assert!(given.iter().all(|address| (FIRST..FIRST + PORTS).contains(&address.port())));
    }
}
