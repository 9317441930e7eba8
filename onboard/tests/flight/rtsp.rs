//! Streams and videos through the real ffmpeg of the system, skipped aloud where there is none. (Its stand-ins in `played.rs`
//! do what a test tells them, and know nothing of RTSP.)

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kestrel_link::{Outcome, Reply};
use kestrel_onboard::camera::{CameraOptions, Origin, find_ffmpeg};

use crate::network::{PATIENCE, Pair, folder};
use crate::red::query;
use crate::sources::{camera, limits, until};

/// Bytes of a transport stream in one RTP packet: seven of its own packets.
const PACKET_BYTES: usize = 7 * 188;
/// One video in an MPEG transport stream, which is RTP's payload 33.
const SESSION: &str =
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=film\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n";

/// A server of RTSP on loopback: it shows one film to everybody who connects, and closes the connection.
struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(film: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, ended) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let ending = Arc::clone(&ended);
        let serving = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                // Who leaves before the end has its reasons.
                let _ = serve(stream, &film);
            }
        };
        let thread = std::thread::Builder::new().name("rtsp".into()).spawn(serving).unwrap();
        Self { address, ended, thread }
    }

    fn end(self) {
        self.ended.store(true, Ordering::SeqCst);
        // It waits for one more connection.
        drop(TcpStream::connect(self.address).unwrap());
        self.thread.join().unwrap();
    }
}

/// Answers requests until one wants to see the film, and shows it.
fn serve(mut stream: TcpStream, film: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut requests = BufReader::new(stream.try_clone()?);
    loop {
        let (method, sequence) = request(&mut requests)?;
        let (more, body) = match method.as_str() {
            "OPTIONS" => ("Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n".to_owned(), ""),
            "DESCRIBE" => (format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", SESSION.len()), SESSION),
            "SETUP" => ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n".to_owned(), ""),
            _ => ("Session: 1\r\n".to_owned(), ""),
        };
        let response = format!("RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{more}\r\n{body}");
        stream.write_all(response.as_bytes())?;
        if method == "PLAY" {
            return show(&mut stream, film);
        }
    }
}

/// Method and sequence number of the next request.
fn request(requests: &mut impl BufRead) -> io::Result<(String, String)> {
    let (mut method, mut sequence) = (String::new(), String::new());
    for line in requests.lines() {
        let line = line?;
        if line.is_empty() {
            return Ok((method, sequence));
        }
        if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("cseq")
        {
            sequence = value.trim().to_owned();
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Sends a film, as fast as it is taken, and closes.
fn show(stream: &mut TcpStream, film: &[u8]) -> io::Result<()> {
    for (number, part) in (0_u32..).zip(film.chunks(PACKET_BYTES)) {
        // Channel 0 within the connection and the length; then RTP: version 2, payload 33, number, time, who sends.
        let mut packet = vec![b'$', 0];
        packet.extend((12 + part.len() as u16).to_be_bytes());
        packet.extend([0x80, 33]);
        packet.extend((number as u16).to_be_bytes());
        packet.extend((number * 3600).to_be_bytes());
        packet.extend(1_u32.to_be_bytes());
        packet.extend(part);
        stream.write_all(&packet)?;
    }
    stream.shutdown(Shutdown::Write)?;
    // A connection that is closed before all is read of what the other end says may lose what was sent.
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    io::copy(stream, &mut io::sink()).map(drop)
}

/// The ffmpeg of the system.
fn ffmpeg() -> Option<PathBuf> {
    find_ffmpeg(None).inspect_err(|error| eprintln!("SKIPPED rtsp: {error}")).ok()
}

/// A film of 320×240 pixels, 25 frames a second, of a red square that moves over grey ground.
fn film(ffmpeg: &Path, seconds: u32) -> Vec<u8> {
    let scene = format!(
        "color=c=0x727272:s=320x240:r=25:d={seconds}[ground];color=c=red:s=50x50:r=25:d={seconds}[square];\
         [ground][square]overlay=x='60+mod(n,40)':y=60"
    );
    let output = Command::new(ffmpeg)
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &scene])
        .args(["-c:v", "mpeg2video", "-q:v", "2", "-g", "5", "-f", "mpegts", "pipe:1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// That ffmpeg behind a script that notes the number of each process.
fn noted(ffmpeg: &Path, folder: &Path) -> PathBuf {
    let program = folder.join("ffmpeg");
    let script =
        format!("#!/bin/sh\necho $$ >> '{}'\nexec '{}' \"$@\"\n", folder.join("pids").display(), ffmpeg.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// How many were started, once nothing is left of them: one that has ended and was not waited for would still be listed.
async fn all_gone(folder: &Path) -> usize {
    let pids = std::fs::read_to_string(folder.join("pids")).unwrap();
    let is_gone = |pid: &str| !Path::new("/proc").join(pid).exists();
    until("no ffmpeg is left", || pids.lines().all(is_gone)).await;
    pids.lines().count()
}

/// Asserts that a reply shows the square of the film.
fn assert_shown(reply: &Reply) {
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!((reply.frame_width, reply.frame_height), (320, 240));
    let [left, top, ..] = masks[0].bounding_box;
    assert!(top.abs_diff(60) <= 4 && (56..=104).contains(&left), "{:?}", masks[0].bounding_box);
}

/// Setup: a camera that speaks RTSP. Fault: it closes the connection after four seconds of film, again and again.
/// Expected: its frames are flown, and ffmpeg is started again after each close, which is counted and told.
/// Invariant: no ffmpeg outlives its feed, not even as one that nobody waited for.
///
/// Promise: P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_stream_is_flown_and_opened_again() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let (root, server) = (tempfile::tempdir().unwrap(), Server::start(film(&ffmpeg, 4)));
    let origin: Origin = format!("rtsp://{}/live", server.address).parse().unwrap();
    let options = CameraOptions { ffmpeg: Some(noted(&ffmpeg, root.path())), ..camera(origin) };
    let (_folder, source) = folder();
    let pair = Pair::start(source, limits()).await;
    let feed = pair.node.feed(options).unwrap();
    let node = &pair.node;
    let counted = || {
        let counts = node.camera_counts();
        counts.restarts >= 2 && counts.frames >= 2
    };
    until("frames come, and it is opened again", counted).await;
    assert_shown(&pair.ask(&query("a", "red square")).await.unwrap());
    let told = node.health().degraded;
    assert!(told.iter().any(|line| line.contains("started again")), "{told:?}");
    drop(feed);
    assert!(all_gone(root.path()).await >= 2);
    server.end();
    pair.stop().await;
}

/// Setup: a video file of one second, which is not repeated. Fault: it ends.
/// Expected: it is played, and health says that the camera has ended. Invariant: every frame is flown or counted as replaced;
/// an end is no failure.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_video_is_flown_to_its_end() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("film.ts");
    std::fs::write(&file, film(&ffmpeg, 1)).unwrap();
    let origin: Origin = format!("video:{}", file.display()).parse().unwrap();
    let options = CameraOptions { ffmpeg: Some(noted(&ffmpeg, root.path())), repeat: false, ..camera(origin) };
    let (_folder, source) = folder();
    let pair = Pair::start(source, limits()).await;
    let feed = pair.node.feed(options).unwrap();
    let node = &pair.node;
    until("it has ended", || node.health().degraded.iter().any(|line| line == "the camera has ended")).await;
    let counts = node.camera_counts();
    // Versions of ffmpeg differ in whether they show the last frame.
    assert!((24..=26).contains(&(counts.frames + counts.replaced)) && counts.failures == 0, "{counts:?}");
    assert_eq!(node.health().frames_in, counts.frames);
    assert_shown(&pair.ask(&query("a", "red square")).await.unwrap());
    assert_eq!(all_gone(root.path()).await, 1);
    drop(feed);
    pair.stop().await;
}
