//! Poses that come over the link for a camera that brings none.

use kestrel_link::{Georeference, Outcome, PoseSample, Reply, Unplaced, encode};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::node::{Limits, ModelSource};
use kestrel_onboard::record::Agreement;
use kestrel_perception::Pose;
use serde_json::json;

use crate::network::{PATIENCE, Pair};
use crate::record::{options, replayed, rewritten};
use crate::red::{self, RED, picture, query};

const MILLI: u64 = 1_000_000;
/// When the first frame was taken.
const FIRST: u64 = 1_790_000_000_000_000_000;

async fn say(pair: &Pair, time_unix_nanos: u64, pose: &Pose) {
    let sample = PoseSample { time_unix_nanos, pose: serde_json::to_string(pose).unwrap() };
    pair.operator.put(pair.drone.pose(), encode(&sample).unwrap()).await.unwrap();
}

/// What is said of the place of the square in a frame of this time. A question that follows a pose on the same link finds it
/// taken in.
async fn placed(pair: &Pair, capture_unix_nanos: u64) -> Georeference {
    let number = pair.node.frames().put(picture(320, 240, &[(100, 60, 50, RED)]), capture_unix_nanos).unwrap();
    loop {
        let reply: Reply = pair.ask(&query("a", "red square")).await.unwrap();
        // A question may still meet the frame before.
        if reply.frame == number {
            let Outcome::Segmented { masks } = reply.outcome else { panic!("expected a mask") };
            return masks[0].positions[0].clone();
        }
    }
}

fn why(place: &Georeference) -> Unplaced {
    match place {
        Georeference::Unplaced { why } => *why,
        Georeference::Placed(place) => panic!("placed by a pose that is not its own: {place:?}"),
    }
}

fn latitude(place: &Georeference) -> f64 {
    match place {
        Georeference::Placed(place) => place.latitude_degrees,
        Georeference::Unplaced { why } => panic!("{why}"),
    }
}

fn limits() -> Limits {
    Limits { reuse_frame: PATIENCE, ..Limits::default() }
}

/// Setup: poses before and behind the frame. Expected: the mask lies where the pose between puts it; without a pose behind
/// the frame, or near it, it has no position and the reason. Invariant: no pose is carried on (no wrong position).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_is_placed_by_the_poses_around_its_frame() {
    let root = tempfile::tempdir().unwrap();
    red::write(root.path(), "1", None);
    let pair = Pair::start(ModelSource::Folder(root.path().to_owned()), limits()).await;
    assert_eq!(why(&placed(&pair, FIRST).await), Unplaced::PoseUnknown);
    let south = red::pose();
    let north = Pose { latitude_degrees: south.latitude_degrees + 1e-4, ..south };
    say(&pair, FIRST, &south).await;
    let still = latitude(&placed(&pair, FIRST).await);
    assert_eq!(why(&placed(&pair, FIRST + 50 * MILLI).await), Unplaced::PoseAwaited);
    say(&pair, FIRST + 100 * MILLI, &north).await;
    let between = latitude(&placed(&pair, FIRST + 50 * MILLI).await);
    assert!((between - still - 5e-5).abs() < 1e-8, "half of the way: {still} {between}");
    assert!(matches!(why(&placed(&pair, FIRST + 5000 * MILLI).await), Unplaced::PoseStale { .. }));
    // A frame's own pose goes before those of the link.
    let own = Some(Pose { latitude_degrees: 10.0, ..south });
    let number = pair.node.frames().put_posed(picture(320, 240, &[(100, 60, 50, RED)]), FIRST, own).unwrap();
    let reply = loop {
        let reply = pair.ask(&query("a", "red square")).await.unwrap();
        if reply.frame == number {
            break reply;
        }
    };
    let Outcome::Segmented { masks } = &reply.outcome else { panic!("expected a mask") };
    assert!((latitude(&masks[0].positions[0]) - 10.0).abs() < 0.01);
    pair.stop().await;
}

/// Setup: a drone that knows its pose at one time. Fault: bytes that are no pose, and a pose that lies nowhere on the earth.
/// Expected: they are left out, and the pose that is known stays.
/// Invariant: no mask is placed by garbage, and none loses its place to it.
///
/// Promise: P13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_pose_key_harms_nothing() {
    let root = tempfile::tempdir().unwrap();
    red::write(root.path(), "1", None);
    let pair = Pair::start(ModelSource::Folder(root.path().to_owned()), limits()).await;
    say(&pair, FIRST, &red::pose()).await;
    let lying = Pose { latitude_degrees: 700.0, ..red::pose() };
    for bytes in [vec![], vec![0xff; 100], vec![0x9b; 9], vec![0; 100_000]] {
        pair.operator.put(pair.drone.pose(), bytes).await.unwrap();
    }
    say(&pair, FIRST + 10 * MILLI, &lying).await;
    assert!(matches!(placed(&pair, FIRST).await, Georeference::Placed(_)));
    assert_eq!(why(&placed(&pair, FIRST + 10 * MILLI).await), Unplaced::PoseAwaited);
    pair.stop().await;
}

async fn recorded(bundle: &Bundle, file: &std::path::Path) {
    let source = ModelSource::Folder(bundle.dir.clone());
    let pair = Pair::with(source, limits(), |config| config.record = options(file)).await;
    let pose = red::pose();
    say(&pair, FIRST, &pose).await;
    say(&pair, FIRST + 100 * MILLI, &Pose { height_above_ground_metres: 100.0 / 3.0, ..pose }).await;
    for millis in [0, 33, 70] {
        assert!(matches!(placed(&pair, FIRST + millis * MILLI).await, Georeference::Placed(_)));
    }
    assert_eq!(why(&placed(&pair, FIRST + 120 * MILLI).await), Unplaced::PoseAwaited);
    pair.stop().await;
}

/// Setup: a recorded flight of which the poses came over the link. Fault: in a copy of the record one pose is another.
/// Expected: the flight replays with its places; in the copy the places differ, and that is named.
/// Invariant: a place is that of the pose which the flight had, though nothing of the link is in a replay.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_replay_bit_by_bit() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let file = root.path().join("flight.mcap");
    recorded(&bundle, &file).await;
    let report = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.different), (4, 0), "{:?}", report.first);

    let changed = root.path().join("changed.mcap");
    let mut done = false;
    rewritten(&file, &changed, |topic, message| {
        if topic == "/outcomes" && !done {
            assert_eq!(message["outcome"]["masks"][0]["positions"][0]["kind"], "placed");
            message["pose"]["latitude_degrees"] = json!(12.5);
            done = true;
        }
        true
    });
    let report = replayed(&changed, &bundle, Agreement::Exact);
    assert_eq!(report.first.unwrap().difference.field, "masks[0].positions");
}
