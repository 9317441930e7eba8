//! Videos and streams through ffmpeg, played here by small programs that stand in for it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use image::RgbImage;
use kestrel_link::Outcome;
use kestrel_onboard::camera::{CameraOptions, Feed, Origin};

use crate::network::{PATIENCE, Pair, folder};
use crate::red::{RED, picture, query};
use crate::sources::{camera, limits, until};

/// A folder with a stand-in for ffmpeg, and the pictures that it shows.
struct Stage {
    root: tempfile::TempDir,
}

impl Stage {
    fn new(pictures: &[RgbImage]) -> Self {
        let stage = Self { root: tempfile::tempdir().unwrap() };
        let mut bytes: Vec<u8> = Vec::new();
        for picture in pictures {
            bytes.extend(format!("P6\n{} {}\n255\n", picture.width(), picture.height()).bytes());
            bytes.extend(picture.as_raw());
        }
        std::fs::write(stage.path("frames.ppm"), bytes).unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A camera that is played by this shell script, started in the stage's folder.
    fn play(&self, script: &str) -> CameraOptions {
        let program = self.path("ffmpeg");
        let folder = self.root.path().display();
        std::fs::write(&program, format!("#!/bin/sh\ncd '{folder}' || exit 9\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let origin = Origin::Stream("rtsp://pilot:s3cret@camera/live".into());
        CameraOptions { ffmpeg: Some(program), ..camera(origin) }
    }

    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()
    }
}

fn red() -> RgbImage {
    picture(320, 240, &[(100, 60, 50, RED)])
}

async fn start(options: CameraOptions) -> (Pair, Feed, tempfile::TempDir) {
    let (folder, source) = folder();
    let pair = Pair::start(source, limits()).await;
    let feed = pair.node.feed(options).unwrap();
    (pair, feed, folder)
}

fn signal(name: &str, pid: u32) -> bool {
    Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status().unwrap().success()
}

/// Whether a process runs; one that has ended and waits to be collected does not.
fn runs(pid: u32) -> bool {
    let state = |status: String| status.lines().find(|line| line.starts_with("State:")).map(str::to_owned);
    match std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")) {
        Ok(status) => !state(status).is_some_and(|state| state.contains('Z')),
        Err(_) => signal("0", pid),
    }
}

/// Setup: a stream. Fault: ffmpeg shows two frames, complains and ends, again and again.
/// Expected: it is started again each time, counted, and told in health with what it said.
/// Invariant: the last frame is answered, and a password is in nothing that is told.
///
/// Promise: P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ffmpeg_that_ends_is_started_again_and_counted() {
    let stage = Stage::new(&[red(), red()]);
    let script = "cat frames.ppm; echo 'rtsp://pilot:s3cret@camera/live: connection lost' >&2; exit 3";
    let (pair, feed, _folder) = start(stage.play(script)).await;
    let node = &pair.node;
    until("it is started again", || node.camera_counts().restarts >= 3).await;
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Segmented { .. }), "{reply:?}");
    let told = node.health().degraded;
    assert!(told.iter().any(|line| line.contains("started again") && line.contains("exit status: 3")), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("s3cret")), "{told:?}");
    let counts = node.camera_counts();
    assert!(counts.failures >= 3 && counts.frames > 0, "{counts:?}");
    drop(feed);
    pair.stop().await;
}

/// Setup: a stream that flows. Fault: ffmpeg is killed. Expected: another one is started.
/// Invariant: ffmpeg ends with the node, within the stated time.
///
/// Promise: P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ffmpeg_that_is_killed_is_replaced_and_none_outlives_the_node() {
    let stage = Stage::new(&[red()]);
    let (pair, feed, _folder) = start(stage.play("cat frames.ppm; echo $$ > pid; exec sleep 600")).await;
    let node = &pair.node;
    until("frames arrive", || node.camera_counts().frames > 0 && stage.pid().is_some()).await;
    let first = stage.pid().unwrap();
    assert!(signal("KILL", first));
    until("another one runs", || stage.pid().is_some_and(|pid| pid != first && runs(pid))).await;
    assert!(node.camera_counts().restarts >= 1);
    let last = stage.pid().unwrap();
    let before = Instant::now();
    drop(feed);
    assert!(before.elapsed() < PATIENCE / 2, "{:?}", before.elapsed());
    until("it is gone", || !runs(last)).await;
    pair.stop().await;
}

/// Setup: a stream that flows. Fault: it stalls without an end. Expected: ffmpeg is stopped and started again.
/// Invariant: a camera that hangs is found out by the monotonic clock, whatever it says itself.
///
/// Promise: P2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stalls_is_started_again() {
    let stage = Stage::new(&[red()]);
    let options = stage.play("cat frames.ppm; echo $$ > pid; exec sleep 600");
    let (pair, feed, _folder) = start(CameraOptions { stall: Duration::from_millis(200), ..options }).await;
    let node = &pair.node;
    until("it is started again", || node.camera_counts().restarts >= 2).await;
    let told = node.health().degraded;
    assert!(told.iter().any(|line| line.contains("expected a frame within")), "{told:?}");
    drop(feed);
    pair.stop().await;
}

/// Setup: a stream that changes its size. Fault: its last picture is cut off.
/// Expected: both sizes are flown, and the torn picture is told and not flown.
/// Invariant: no picture is made of bytes that did not arrive.
///
/// Promise: P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_picture_in_the_pipe_is_never_flown() {
    let stage = Stage::new(&[red(), picture(160, 120, &[(50, 30, 30, RED)]), red()]);
    // One byte short of the third picture.
    let whole = std::fs::metadata(stage.path("frames.ppm")).unwrap().len();
    let script = format!("head -c {} frames.ppm", whole - 1);
    let (pair, feed, _folder) = start(stage.play(&script)).await;
    let node = &pair.node;
    until("it is started again", || node.camera_counts().restarts >= 1).await;
    let told = node.health().degraded;
    assert!(
        told.iter().any(|line| line.contains("the picture is torn: expected 230400 bytes, got 230399")),
        "{told:?}"
    );
    drop(feed);
    let reply = pair.ask(&query("a", "red square")).await.unwrap();
    assert!([160, 320].contains(&reply.frame_width), "{reply:?}");
    pair.stop().await;
}
