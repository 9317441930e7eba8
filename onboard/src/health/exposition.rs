//! Metrics over HTTP, for a Prometheus on the same machine.
//!
//! One thread, one connection at a time, requests of bounded size within bounded time: `GET /metrics` is answered, anything
//! else refused. What arrives is judged by [`judge`], a pure function over bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Most bytes of a request.
pub const MOST_REQUEST_BYTES: usize = 4096;
/// A request must be whole, and its answer taken, within this time each.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes that are read and thrown away after a refusal, so that it reaches who still writes.
const MOST_DRAINED_BYTES: usize = 64 * 1024;
/// Pause after the system could not accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The metrics.
    Metrics,
    /// The size of the metrics.
    Head,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not a request of HTTP/1.0 or 1.1, too long, or with a body: 400.
    BadRequest,
    /// Another path than `/metrics`: 404.
    NotFound,
    /// Another method than GET and HEAD: 405.
    MethodNotAllowed,
}

impl Refused {
    fn status(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
        }
    }
}

/// Judges the bytes that have arrived so far; `None` when more are needed.
#[must_use]
pub fn judge(bytes: &[u8]) -> Option<Result<Asked, Refused>> {
    let bad = Some(Err(Refused::BadRequest));
    let printable = |byte: &u8| matches!(byte, b'\r' | b'\n' | b'\t' | b' '..=b'~');
    if !bytes.iter().all(printable) {
        return bad;
    }
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() >= MOST_REQUEST_BYTES { bad } else { None };
    };
    // A body, or another request behind the first.
    if end + 4 != bytes.len() || bytes.len() > MOST_REQUEST_BYTES {
        return bad;
    }
    Some(std::str::from_utf8(&bytes[..end]).map_err(|_| Refused::BadRequest).and_then(read_head))
}

fn read_head(head: &str) -> Result<Asked, Refused> {
    let mut lines = head.split("\r\n");
    let request: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = request[..] else { return Err(Refused::BadRequest) };
    let version_is_known = ["HTTP/1.0", "HTTP/1.1"].contains(&version);
    let method_is_one = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let target_is_path = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !version_is_known || !method_is_one || !target_is_path || !lines.all(is_header) {
        return Err(Refused::BadRequest);
    }
    match (method, target) {
        ("GET", "/metrics") => Ok(Asked::Metrics),
        ("HEAD", "/metrics") => Ok(Asked::Head),
        ("GET" | "HEAD", _) => Err(Refused::NotFound),
        _ => Err(Refused::MethodNotAllowed),
    }
}

/// Whether a line is a header of a request without a body.
fn is_header(line: &str) -> bool {
    let Some((name, value)) = line.split_once(':') else { return false };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name_is_token = !name.is_empty() && name.bytes().all(is_token);
    let announces_body = name.eq_ignore_ascii_case("transfer-encoding")
        || (name.eq_ignore_ascii_case("content-length") && value.trim() != "0");
    name_is_token && !announces_body && !value.contains(['\r', '\n'])
}

/// A thread that answers scrapes until this is dropped.
#[derive(Debug)]
pub struct Exposition {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

impl Exposition {
    /// Listens on `address`, port 0 for any, and answers with what `render` gives.
    ///
    /// # Errors
    /// When the address cannot be had or the system gives no thread.
    pub fn start(address: SocketAddr, render: impl Fn() -> String + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        std::thread::Builder::new().name("metrics".into()).spawn(move || serve(&listener, &told, &render))?;
        Ok(Self { address, stopping })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exposition {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection; where that fails it ends with the next one.
        let _ = TcpStream::connect_timeout(&self.address, PAUSE);
    }
}

fn serve(listener: &TcpListener, stopping: &AtomicBool, render: &impl Fn() -> String) {
    for stream in listener.incoming() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let answered = stream.and_then(|stream| answer(stream, render));
        if let Err(error) = answered {
            tracing::debug!("metrics: {error}");
            // Out of file descriptors, say: waiting is better than spinning.
            if error.kind() == io::ErrorKind::Other || error.raw_os_error().is_some() {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn answer(mut stream: TcpStream, render: &impl Fn() -> String) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let asked = read_request(&mut stream, Instant::now())?;
    let (status, body) = match asked {
        Ok(_) => ("200 OK", render()),
        Err(refused) => (refused.status(), format!("{}\n", refused.status())),
    };
    let content_type = if asked.is_ok() { CONTENT_TYPE } else { "text/plain; charset=utf-8" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if asked != Ok(Asked::Head) {
        stream.write_all(body.as_bytes())?;
    }
    stream.shutdown(Shutdown::Write)?;
    if asked.is_err() {
        drain(&mut stream, Instant::now());
    }
    Ok(())
}

/// Reads until a request is whole or wrong. One that ends early or takes too long is wrong.
fn read_request(stream: &mut TcpStream, start: Instant) -> io::Result<Result<Asked, Refused>> {
    let mut bytes = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(Err(Refused::BadRequest));
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut chunk) {
            Ok(0) => return Ok(Err(Refused::BadRequest)),
            Ok(count) => count,
            Err(error) if is_timeout(&error) => return Ok(Err(Refused::BadRequest)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(judged) = judge(&bytes) {
            return Ok(judged);
        }
    }
}

/// Throws away what still comes: closing a connection with unread bytes would take the refusal from who wrote them.
fn drain(stream: &mut TcpStream, start: Instant) {
    let mut chunk = [0; 1024];
    let mut drained = 0;
    while drained < MOST_DRAINED_BYTES {
        let left = PAUSE.saturating_sub(start.elapsed());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => drained += count,
            _ => return,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost:9464\r\nAccept: text/plain\r\n\r\n";

    #[test]
    fn requests_are_told_apart() {
        let judged = |text: &str| judge(text.as_bytes());
        assert_eq!(judge(SCRAPE), Some(Ok(Asked::Metrics)));
        assert_eq!(judged("HEAD /metrics HTTP/1.0\r\n\r\n"), Some(Ok(Asked::Head)));
        assert_eq!(judged("GET / HTTP/1.1\r\n\r\n"), Some(Err(Refused::NotFound)));
        assert_eq!(judged("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), Some(Err(Refused::MethodNotAllowed)));
        assert_eq!(judged("GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\n"), Some(Err(Refused::BadRequest)));
        assert_eq!(judged("GET /metrics\r\n\r\n"), Some(Err(Refused::BadRequest)));
    }

    #[test]
    fn a_scrape_is_needed_whole() {
        for end in 0..SCRAPE.len() {
            assert_eq!(judge(&SCRAPE[..end]), None, "cut at {end}");
        }
    }

    proptest! {
        /// Promise: P5, P13
        #[test]
        fn arbitrary_bytes_never_panic_and_long_ones_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
            let judged = judge(&bytes);
            prop_assert!(judged.is_some() || bytes.len() < MOST_REQUEST_BYTES);
        }

        #[test]
        fn only_the_one_path_is_answered(target in "/[ -~]{0,40}", method in "[A-Z]{1,8}") {
            let judged = judge(format!("{method} {target} HTTP/1.1\r\n\r\n").as_bytes());
            let right = target == "/metrics" && (method == "GET" || method == "HEAD");
            prop_assert_eq!(matches!(judged, Some(Ok(_))), right);
        }
    }
}
