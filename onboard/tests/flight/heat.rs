//! A drone that gets hot, in a tree of sensors that a test writes.

use std::path::Path;
use std::time::Duration;

use kestrel_link::{Health, decode};
use kestrel_onboard::health::thermal::ThermalOptions;
use kestrel_onboard::health::throttle::ThrottleLimits;
use kestrel_onboard::node::{Limits, UpkeepOptions};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::network::{PATIENCE, Pair, folder};
use crate::red::{self, RED, picture};

fn heat(sysfs: &Path, thousandths: &str) {
    let zone = sysfs.join("class/thermal/thermal_zone0");
    std::fs::create_dir_all(&zone).unwrap();
    std::fs::write(zone.join("type"), "gpu-thermal\n").unwrap();
    // Renamed into place, so that nobody reads half a number.
    std::fs::write(zone.join("new"), thousandths).unwrap();
    std::fs::rename(zone.join("new"), zone.join("temp")).unwrap();
}

/// Waits until the drone says of itself what is wanted.
async fn said(health: &Subscriber<FifoChannelHandler<Sample>>, wanted: fn(&Health) -> bool) -> Health {
    loop {
        let sample = tokio::time::timeout(PATIENCE, health.recv_async()).await.unwrap().unwrap();
        let told: Health = decode(&sample.payload().to_bytes()).unwrap();
        if wanted(&told) {
            return told;
        }
    }
}

/// Setup: a camera of a thousand frames per second and a cool drone. Fault: it heats up, and cools down later.
/// Expected: health says how hot it is and which rate is left, frames beyond it are dropped, and all are taken again.
/// Invariant: every frame is counted, and some are always looked at.
///
/// Promise: P1, P12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_drone_looks_at_fewer_frames_and_says_so() {
    let sysfs = tempfile::tempdir().unwrap();
    heat(sysfs.path(), "40000\n");
    let thermal = ThermalOptions {
        sysfs: sysfs.path().to_owned(),
        ignored_zones: Vec::new(),
        limits: ThrottleLimits {
            warm_celsius: 70.0,
            hot_celsius: 90.0,
            hysteresis_celsius: 2.0,
            full_frames_per_second: 1000.0,
            // One frame, and the next a hundred seconds later: no test takes that long.
            least_frames_per_second: 0.01,
        },
    };
    let (_folder, source) = folder();
    let upkeep = UpkeepOptions { thermal: Some(thermal), ..UpkeepOptions::of(PATIENCE) };
    let pair = Pair::start_with(source, Limits::default(), red::tract(), upkeep).await;
    let health = pair.operator.declare_subscriber(pair.drone.health()).await.unwrap();
    let put = || pair.node.frames().put(picture(64, 64, &[(10, 10, 20, RED)]), 1).unwrap();
    assert!(said(&health, |_| true).await.degraded.is_empty());
    put();

    heat(sysfs.path(), "95000\n");
    let hot = said(&health, |health| !health.degraded.is_empty()).await;
    assert!(hot.degraded[0].starts_with("hot: 95.0 °C at gpu-thermal; "), "{hot:?}");
    let dropped = hot.frames_dropped;
    for number in 1..=4 {
        assert_eq!(put(), number, "frames are numbered on");
    }
    let now = pair.node.health();
    assert_eq!(now.frames_in, 5);
    assert!(now.frames_dropped >= dropped + 3, "one of four is looked at: {now:?}");

    heat(sysfs.path(), "40000\n");
    said(&health, |health| health.degraded.is_empty()).await;
    let dropped = pair.node.health().frames_dropped;
    put();
    // At most the one that waited is replaced: nothing is left out.
    assert!(pair.node.health().frames_dropped <= dropped + 1);
    pair.stop().await;
}

/// Setup: a node that is to throttle. Fault: there are no sensors.
/// Expected: it starts, is ready and throttles nothing. Invariant: what is missing never stops a flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sensors_nothing_is_throttled() {
    let (_folder, source) = folder();
    let limits = ThrottleLimits {
        warm_celsius: 70.0,
        hot_celsius: 90.0,
        hysteresis_celsius: 2.0,
        full_frames_per_second: 10.0,
        least_frames_per_second: 1.0,
    };
    let thermal = ThermalOptions { sysfs: "/nowhere/at/all".into(), ignored_zones: Vec::new(), limits };
    let upkeep = UpkeepOptions { thermal: Some(thermal), ..UpkeepOptions::of(Duration::from_secs(10)) };
    let pair = Pair::start_with(source, Limits::default(), red::tract(), upkeep).await;
    assert!(pair.node.health().degraded.is_empty());
    pair.stop().await;
}
