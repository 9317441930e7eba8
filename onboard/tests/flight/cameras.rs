//! A camera that does everything wrong, one after the other, over a real network; and the books of it.

use std::time::Duration;

use image::{Rgb, RgbImage};
use kestrel_link::{CaptureDoubt, Verdict};
use kestrel_onboard::camera::{Captured, Network, Origin, unix_nanos};
use kestrel_onboard::node::{Limits, NodeConfig};
use kestrel_onboard::pipeline::SegmenterOptions;
use kestrel_perception::{GateThresholds, Tiling};
use zenoh::qos::CongestionControl;

use crate::degraded::limits;
use crate::ledger::{Booked, refused, segmented};
use crate::record::gate;
use crate::red::{self, RED};
use crate::sources::{camera, listened_to, until};

const HOUR_NANOS: i64 = 3_600_000_000_000;

/// Some grey everywhere, and a red square.
fn textured(width: u32, number: u32) -> RgbImage {
    let (left, top, side) = (width / 3, width / 6, width / 6);
    RgbImage::from_fn(width, width * 3 / 4, |x, y| {
        match (left..left + side).contains(&x) && (top..top + side).contains(&y) {
            true => RED,
            false => Rgb([(100 + (x * 7 + y * 13 + number) % 30) as u8; 3]),
        }
    })
}

/// The lower half did not arrive.
fn torn(number: u32) -> RgbImage {
    let mut shown = textured(320, number);
    shown.enumerate_pixels_mut().filter(|(_, y, _)| *y >= 120).for_each(|(_, _, pixel)| *pixel = Rgb([0; 3]));
    shown
}

/// Setup: a query that stands, and a camera on the network. Fault: its picture freezes, tears, changes its size; its clock is
/// set forward by an hour, right again, and back by an hour; it stops; and garbage comes in its place.
/// Expected: frozen and torn pictures are refused for what they are, the others have masks; doubtful times are not given;
/// while it is silent the query is refused about no frame; and garbage is counted as lost.
/// Invariant: frames in = segmented + refused + counted drops, and every frame that the camera gave is in.
///
/// Promise: P1, P4, P13, P14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_camera_does_its_frames_are_accounted_for() {
    let segmenter = SegmenterOptions {
        gate: Some(GateThresholds { most_constant_bottom: GateThresholds::default().most_constant_bottom, ..gate() }),
        ..red::options(Tiling::Never)
    };
    // A silence of half a second is told. Where a slow machine makes one, it is in the books like any other.
    let quick = Limits { frame_timeout: Duration::from_millis(500), ..limits() };
    let flight = Booked::start_as(quick, |config| NodeConfig { segmenter, ..config }).await;
    let feed = flight.pair.node.feed(camera(Origin::Zenoh(None))).unwrap();
    let operator = &flight.pair.operator;
    let network = Network { session: operator.clone(), drone: flight.pair.drone.clone() };
    let key = flight.pair.drone.camera();
    listened_to(operator, key.clone()).await;
    let taken = || flight.pair.node.camera_counts().frames;
    let mut number = 0;
    // One frame after the other: none replaces another.
    let mut show = async |image: RgbImage, ahead_nanos: i64| {
        let capture_unix_nanos = unix_nanos().checked_add_signed(ahead_nanos).unwrap();
        let frame = Captured { image, capture_unix_nanos, pose: None };
        network.publish(None, &frame, false).unwrap();
        let reply = flight.outcome(number).await;
        number += 1;
        reply
    };
    for place in 0..3 {
        assert!(segmented(&show(textured(320, place), 0).await));
    }
    let mut last = show(textured(320, 9), 0).await;
    for _ in 0..4 {
        last = show(textured(320, 9), 0).await;
    }
    assert!(refused(&last, &Verdict::Frozen), "{last:?}");
    let reply = show(torn(11), 0).await;
    assert!(refused(&reply, &Verdict::Truncated), "{reply:?}");
    let reply = show(textured(160, 10), 0).await;
    assert!(segmented(&reply) && (reply.frame_width, reply.frame_height) == (160, 120), "{reply:?}");
    let clocks = [
        (12, HOUR_NANOS, CaptureDoubt::Jumped),
        (13, 0, CaptureDoubt::Backwards),
        (14, -HOUR_NANOS, CaptureDoubt::Backwards),
    ];
    for (place, ahead_nanos, doubt) in clocks {
        let reply = show(textured(320, place), ahead_nanos).await;
        assert!(segmented(&reply), "{reply:?}");
        assert_eq!((reply.capture_doubt, reply.capture_unix_nanos), (Some(doubt), 0), "{reply:?}");
    }
    let before = flight.about_no_frame().len();
    until("the silence is told, and told again", || flight.about_no_frame().len() >= before + 2).await;
    assert!(flight.about_no_frame().iter().all(|reply| refused(reply, &Verdict::DeadlineMissed)));
    flight.settled().await;
    let before = taken();
    for (number, garbage) in [vec![], vec![0xff; 3000]].into_iter().enumerate() {
        let put = operator.put(key.clone(), garbage.clone()).congestion_control(CongestionControl::Block);
        put.attachment(garbage).await.unwrap();
        // One after the other: what is replaced before it is looked at is not lost.
        until("garbage is counted", || flight.pair.node.camera_counts().lost > number as u64).await;
    }
    assert_eq!(taken(), before);
    assert!(segmented(&show(textured(320, 15), 0).await));
    flight.settled().await;
    let (health, counts) = (flight.pair.node.health(), flight.pair.node.camera_counts());
    assert_eq!((health.frames_in, health.frames_dropped, counts.replaced), (counts.frames, 0, 0));
    assert_eq!(counts.frames, 14);
    drop(feed);
    flight.stop().await;
}
