//! Cameras that freeze, fall silent, tear, change their size, send garbage and lie about the time, under a flying node.

use std::time::Duration;

use image::{Rgb, RgbImage};
use kestrel_link::{CaptureDoubt, FrameHeader, Georeference, Health, Outcome, PictureFormat, Reply, Verdict, encode};
use kestrel_onboard::camera::stamps::StampLimits;
use kestrel_onboard::camera::{CameraOptions, Captured, Feed, Network, Origin, unix_nanos};
use kestrel_onboard::node::Limits;
use kestrel_onboard::pipeline::SegmenterOptions;
use kestrel_perception::{GateThresholds, Tiling};
use zenoh::Session;

use crate::ledger::segmented;
use crate::network::{PATIENCE, Pair, folder, verdict};
use crate::red::{self, RED, picture, query};

const HOUR_NANOS: u64 = 3_600_000_000_000;

/// The last frame answers for as long as a test runs.
pub(crate) fn limits() -> Limits {
    Limits { deadline: PATIENCE, reuse_frame: PATIENCE, frame_timeout: PATIENCE, ..Limits::default() }
}

/// Quick to open again, patient with a slow machine.
pub(crate) fn camera(origin: Origin) -> CameraOptions {
    CameraOptions {
        frames_per_second: 100.0,
        stall: PATIENCE,
        stamps: StampLimits { tolerance: PATIENCE, most_age: Some(2 * PATIENCE), ..StampLimits::default() },
        restart_first: Duration::from_millis(5),
        restart_most: Duration::from_millis(20),
        ..CameraOptions::of(origin)
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until somebody on the network listens to a camera's key.
pub(crate) async fn listened_to(operator: &Session, camera: String) {
    let publisher = operator.declare_publisher(camera).await.unwrap();
    let listening = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !publisher.matching_status().await.unwrap().matching() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("the drone listens to its camera");
}

/// A drone whose camera is another process on the network: this one.
struct Bridge {
    pair: Pair,
    feed: Feed,
    network: Network,
    asked: u32,
    shown: u32,
    _folder: tempfile::TempDir,
}

impl Bridge {
    async fn start(limits: Limits, segmenter: SegmenterOptions, options: CameraOptions) -> Self {
        let (folder, source) = folder();
        let pair = Pair::recorded(source, limits, segmenter, None).await;
        let feed = pair.node.feed(options).unwrap();
        let network = Network { session: pair.operator.clone(), drone: pair.drone.clone() };
        Self { pair, feed, network, asked: 0, shown: 0, _folder: folder }
    }

    async fn with(limits: Limits) -> Self {
        Self::start(limits, red::options(Tiling::Never), camera(Origin::Zenoh(None))).await
    }

    async fn ask(&mut self) -> Reply {
        self.asked += 1;
        self.pair.ask(&query(&format!("q{}", self.asked), "red square")).await.unwrap()
    }

    /// A picture that differs from the one before.
    fn moving(&mut self) -> RgbImage {
        self.shown += 1;
        red_square(self.shown)
    }

    fn publish(&self, image: RgbImage, capture_unix_nanos: u64) {
        let frame = Captured { image, capture_unix_nanos, pose: Some(red::pose()) };
        self.network.publish(None, &frame, false).unwrap();
    }

    /// Publishes good frames until the drone has taken one more: the first may be sent before its subscription is known.
    async fn show(&mut self) {
        self.show_as(red_square).await;
    }

    async fn show_as(&mut self, draw: impl Fn(u32) -> RgbImage) {
        let before = self.pair.node.camera_counts().frames;
        let showing = async {
            while self.pair.node.camera_counts().frames == before {
                self.shown += 1;
                self.publish(draw(self.shown), unix_nanos());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, showing).await.expect("frames arrive");
    }

    async fn stop(self) {
        drop(self.feed);
        self.pair.stop().await;
    }
}

fn red_square(number: u32) -> RgbImage {
    picture(320, 240, &[(100 + number % 40 * 3, 60, 50, RED)])
}

/// Something everywhere above a row, and nothing below it.
fn textured(rows: u32, number: u32) -> RgbImage {
    RgbImage::from_fn(320, 240, |x, y| match y < rows {
        true => Rgb([(x * 7 + y * 13 + number) as u8, (x * 3 + y * 5) as u8, (x + y * 11) as u8]),
        false => Rgb([0; 3]),
    })
}

fn tells(health: &Health, words: &str) -> bool {
    health.degraded.iter().any(|line| line.contains(words))
}

/// A gate that judges nothing but what its camera delivers.
fn gate(most_constant_bottom: f32) -> SegmenterOptions {
    let gate = GateThresholds {
        least_high_luma: 0.0,
        most_clipped_share: 1.0,
        most_constant_bottom,
        most_tear: f32::MAX,
        most_noise_levels: f32::MAX,
        least_contrast: 0.0,
        least_chroma: 0.0,
        most_magenta: f32::MAX,
        least_sharpness: [0.0; 2],
        least_directional_sharpness: 0.0,
        most_repeated_share: 1.0,
        ..GateThresholds::default()
    };
    SegmenterOptions { gate: Some(gate), ..red::options(Tiling::Never) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_another_process_are_flown_with_their_time_and_pose() {
    let mut bridge = Bridge::with(limits()).await;
    bridge.show().await;
    let before = unix_nanos();
    let reply = bridge.ask().await;
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("{reply:?}") };
    assert!(matches!(masks[0].positions[..], [Georeference::Placed(_)]), "{:?}", masks[0].positions);
    assert_eq!(reply.capture_doubt, None);
    assert!(reply.capture_unix_nanos > 0 && reply.capture_unix_nanos <= before, "the publisher's stamp");
    assert!(bridge.pair.node.health().degraded.is_empty(), "{:?}", bridge.pair.node.health());
    bridge.stop().await;
}

/// Setup: a camera on the network. Fault: it goes on publishing the same picture with new stamps.
/// Expected: the gate refuses it as frozen; the reply gives no capture time, and health says that the picture stands still.
/// Invariant: an old view is never answered as a new one.
///
/// Promise: P4, P14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_freezes_is_refused_and_told() {
    let mut bridge = Bridge::start(limits(), gate(1.0), camera(Origin::Zenoh(None))).await;
    bridge.show().await;
    assert!(segmented(&bridge.ask().await));
    let still = bridge.moving();
    let freezing = async {
        loop {
            bridge.publish(still.clone(), unix_nanos());
            let reply = bridge.ask().await;
            if !segmented(&reply) && reply.capture_doubt.is_some() {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(PATIENCE, freezing).await.unwrap();
    assert_eq!(verdict(&reply), &Verdict::Frozen);
    assert_eq!((reply.capture_doubt, reply.capture_unix_nanos), (Some(CaptureDoubt::PictureFrozen), 0));
    assert!(tells(&bridge.pair.node.health(), "the picture stands still"), "{:?}", bridge.pair.node.health());
    bridge.stop().await;
}

/// Setup: queries wait half a second for a frame. Fault: the camera gives none.
/// Expected: refusals for lateness, and health that says how long the camera has been silent.
/// Invariant: every query has an outcome, with a camera or without.
///
/// Promise: P1, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_stops_is_refused_and_told() {
    let quick = Limits { frame_timeout: Duration::from_millis(500), reuse_frame: Duration::ZERO, ..limits() };
    let options = CameraOptions { stall: Duration::from_millis(200), ..camera(Origin::Zenoh(None)) };
    let mut bridge = Bridge::start(quick, red::options(Tiling::Never), options).await;
    bridge.show().await;
    // A last frame may still be on its way.
    let refused = async {
        loop {
            let reply = bridge.ask().await;
            if !segmented(&reply) {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(verdict(&reply), &Verdict::DeadlineMissed);
    assert_eq!((reply.capture_unix_nanos, reply.capture_doubt), (0, None), "it is about no frame");
    let node = &bridge.pair.node;
    until("silence is told", || tells(&node.health(), "the camera has given no frame for ")).await;
    bridge.stop().await;
}

/// Setup: a camera on the network. Fault: the lower part of its picture is missing.
/// Expected: the gate refuses it as truncated. Invariant: half a view is never answered as a whole one.
///
/// Promise: P4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_picture_is_refused_by_the_gate() {
    let bound = GateThresholds::default().most_constant_bottom;
    let mut bridge = Bridge::start(limits(), gate(bound), camera(Origin::Zenoh(None))).await;
    bridge.show_as(|shown| textured(240, shown)).await;
    let whole = bridge.ask().await;
    assert!(segmented(&whole) || *verdict(&whole) != Verdict::Truncated, "{whole:?}");
    bridge.publish(textured(140, 0), unix_nanos());
    let refused = async {
        loop {
            let reply = bridge.ask().await;
            if !segmented(&reply) && *verdict(&reply) == Verdict::Truncated {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("refused as truncated");
    bridge.stop().await;
}

/// Setup: a camera of 320×240 pixels. Fault: from one frame to the next it has 160×120.
/// Expected: masks in the pixels of the frame that they are of. Invariant: no reply names another size than its mask's.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_may_change_its_size_in_flight() {
    let mut bridge = Bridge::with(limits()).await;
    bridge.show().await;
    assert_eq!(bridge.ask().await.frame_width, 320);
    bridge.publish(picture(160, 120, &[(50, 30, 30, RED)]), unix_nanos());
    let changed = async {
        loop {
            let reply = bridge.ask().await;
            if reply.frame_width == 160 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(PATIENCE, changed).await.unwrap();
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!((masks[0].mask.width, masks[0].mask.height), (160, 120));
    bridge.stop().await;
}

/// Setup: a camera on the network. Fault: somebody publishes garbage on its key.
/// Expected: each is counted as lost, and good frames behind it are flown.
/// Invariant: hostile bytes neither panic nor stop the camera.
///
/// Promise: P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_camera_key_costs_frames_and_nothing_else() {
    let mut bridge = Bridge::with(limits()).await;
    bridge.show().await;
    let header = |format, width_pixels, pose: Option<&str>| {
        let pose = pose.map(str::to_owned);
        encode(&FrameHeader { capture_unix_nanos: 1, format, width_pixels, height_pixels: 2, pose }).unwrap()
    };
    let garbage: [(Option<Vec<u8>>, Vec<u8>); 8] = [
        (None, vec![0xff; 100]),
        (None, vec![]),
        (Some(vec![]), vec![1]),
        (Some(vec![0x9f; 500]), vec![1]),
        (Some(header(PictureFormat::Rgb8, 8192, None)), vec![0; 10]),
        (Some(header(PictureFormat::Jpeg, 4, None)), b"\xff\xd8\xff\xe0nonsense".to_vec()),
        (Some(header(PictureFormat::Png, 4, None)), b"\x89PNG\r\n\x1a\n".to_vec()),
        (Some(header(PictureFormat::Rgb8, 2, Some("{\"latitude_degrees\": 1e999}"))), vec![0; 12]),
    ];
    for (number, (header, payload)) in garbage.into_iter().enumerate() {
        let put = bridge.pair.operator.put(bridge.pair.drone.camera(), payload);
        // Reliable, so that each is seen.
        let put = put.congestion_control(zenoh::qos::CongestionControl::Block).attachment(header);
        put.await.unwrap();
        let counted = &bridge.pair.node;
        until("it is counted", || counted.camera_counts().lost > number as u64).await;
    }
    bridge.show().await;
    assert!(segmented(&bridge.ask().await));
    let counts = bridge.pair.node.camera_counts();
    assert_eq!((counts.lost, counts.failures, counts.restarts), (8, 0, 0));
    bridge.stop().await;
}

/// Setup: a camera whose clock is right. Fault: the clock is set forward by an hour, then back.
/// Expected: answers come as before, without a capture time and with the reason; health says so.
/// Invariant: deadlines are the monotonic clock's, and no reply gives a time that is known to be doubtful.
///
/// Promise: P2, P14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_an_hour_is_told_and_delays_nothing() {
    let mut bridge = Bridge::with(limits()).await;
    bridge.show().await;
    assert_eq!(bridge.ask().await.capture_doubt, None);
    for (ahead, expected) in [(HOUR_NANOS, CaptureDoubt::Jumped), (0, CaptureDoubt::Backwards)] {
        let image = bridge.moving();
        bridge.publish(image, unix_nanos() + ahead);
        let told = async {
            loop {
                let reply = bridge.ask().await;
                if reply.capture_doubt == Some(expected) {
                    return reply;
                }
            }
        };
        let reply = tokio::time::timeout(PATIENCE, told).await.unwrap();
        assert!(segmented(&reply), "{reply:?}");
        assert_eq!(reply.capture_unix_nanos, 0);
        assert!(Duration::from_micros(reply.latency_micros) < PATIENCE, "{reply:?}");
        assert!(tells(&bridge.pair.node.health(), "capture times are not given"), "{:?}", bridge.pair.node.health());
    }
    let doubted = bridge.pair.node.camera_counts().doubted;
    assert_eq!(doubted, [(CaptureDoubt::Jumped, 1), (CaptureDoubt::Backwards, 1)]);
    bridge.stop().await;
}
