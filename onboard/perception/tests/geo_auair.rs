//! Geo-referencing on the telemetry of AU-AIR: a Parrot Bebop 2 over a car park, a road and a roundabout in Aarhus.
//!
//! Its telemetry has latitude, longitude, height over the place of take-off, and the vehicle's attitude in radians; it does not say
//! how far the camera was tilted. So the pose of most frames is unknown. In the flight of 29 August the pictures
//! themselves show it: walls stand edge-on below the camera, which looks straight down, and seven frames show the same parked car.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kestrel_link::{Georeference, Unplaced};
use kestrel_perception::Bitmap;
use kestrel_perception::geo::{
    Attitude, Bounds, Camera, Distortion, Geodetic, Georeferencer, GimbalReference, Ground, Pose, PoseSigma, Spot,
};
use serde_json::Value;
use std::path::Path;

/// Frames that look straight down on the grey car beside the lamp, and the left edge of its box in pixels.
const PARKED: [(&str, f64); 7] = [
    ("20190829091111_x_0000334", 624.0),
    ("20190829091111_x_0000439", 650.0),
    ("20190829091111_x_0001973", 1128.0),
    ("20190829091111_x_0002140", 653.0),
    ("20190829091111_x_0002646", 565.0),
    ("20190829091111_x_0003112", 548.0),
    ("20190829091111_x_0003189", 920.0),
];

/// The stream of a Bebop 2 as calibrated by bebop_autonomy (`bebop2_camera_calib.yaml`, 856×480), half a pixel added
/// to its principal point. Another drone of the series filmed AU-AIR, so the errors are those of the series (assumed).
fn bebop2() -> Camera {
    Camera {
        width_pixels: 856,
        height_pixels: 480,
        focal_pixels: [537.292_878, 527.000_348],
        centre_pixels: [427.831_854, 240.726_888],
        distortion: Distortion { k1: 0.004_974, k2: -0.000_130, p1: -0.001_212, p2: 0.002_192, k3: 0.0 },
        focal_sigma: 0.02,
        centre_sigma_pixels: 5.0,
    }
}

struct Frame {
    file: String,
    meta: Value,
    /// `[x, y, width, height]` in pixels of a frame of 1920×1080.
    boxes: Vec<[f64; 4]>,
}

/// The frames of `$KESTREL_DATA/auair`; `None`, said loudly, where the data is not.
fn frames() -> Option<Vec<Frame>> {
    let file = std::env::var_os("KESTREL_DATA").map(|root| Path::new(&root).join("auair/annotations.json"));
    let Some(text) = file.and_then(|file| std::fs::read_to_string(file).ok()) else {
        eprintln!("SKIPPED: auair is not in $KESTREL_DATA");
        return None;
    };
    let annotations: Value = serde_json::from_str(&text).unwrap();
    let mut frames: Vec<Frame> = annotations["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| Frame {
            file: image["file"].as_str().unwrap().to_owned(),
            meta: image["meta"].clone(),
            boxes: Vec::new(),
        })
        .collect();
    for instance in annotations["instances"].as_array().unwrap() {
        let number = |index: usize| instance["bbox"][index].as_f64().unwrap();
        let image = usize::try_from(instance["image"].as_u64().unwrap()).unwrap();
        frames[image].boxes.push([number(0), number(1), number(2), number(3)]);
    }
    Some(frames)
}

impl Frame {
    fn number(&self, name: &str) -> f64 {
        self.meta[name].as_f64().unwrap()
    }

    /// The telemetry with a tilt that it does not hold: pitch of the camera and its standard deviation.
    ///
    /// The Bebop's digital gimbal holds pitch and roll, so the vehicle's own do not matter to the picture.
    /// Errors are those of a receiver and a compass of its class (assumed).
    fn pose(&self, pitch_degrees: f64, pitch_sigma: f64) -> Pose {
        Pose {
            latitude_degrees: self.number("latitude"),
            longitude_degrees: self.number("longtitude"),
            height_above_ground_metres: self.number("altitude") / 1000.0,
            vehicle: Attitude::new(
                self.number("angle_psi").to_degrees(),
                self.number("angle_theta").to_degrees(),
                self.number("angle_phi").to_degrees(),
            ),
            gimbal: Attitude::new(0.0, pitch_degrees, 0.0),
            gimbal_reference: GimbalReference::Horizon,
            sigma: PoseSigma {
                position_metres: 1.5,
                height_metres: 2.0,
                vehicle: Attitude::new(5.0, 2.0, 2.0),
                gimbal: Attitude::new(1.0, pitch_sigma, 2.0),
            },
            ground: Ground::default(),
        }
    }
}

fn georeferencer() -> Georeferencer {
    Georeferencer::new(bebop2(), Bounds { pixel_sigma: 10.0, ..Bounds::default() }).unwrap()
}

fn metres_from(from: &Pose, spot: &Spot) -> f64 {
    let here = Geodetic {
        latitude_degrees: from.latitude_degrees,
        longitude_degrees: from.longitude_degrees,
        height_metres: 0.0,
    };
    let [north, east, _] = here.offset_to(&spot.place);
    north.hypot(east)
}

/// The parked car as each of its frames places it, with the heading changed by `heading`.
fn parked(frames: &[Frame], heading: impl Fn(f64) -> f64) -> Vec<(Pose, Spot)> {
    let mut seen = Vec::new();
    for (name, left) in PARKED {
        let frame = frames.iter().find(|frame| frame.file.contains(name)).expect(name);
        let [x, y, width, height] = *frame.boxes.iter().find(|[x, ..]| (x - left).abs() < 1.0).expect(name);
        let mut pose = frame.pose(-90.0, 2.0);
        pose.vehicle.yaw_degrees = heading(pose.vehicle.yaw_degrees);
        let sight = georeferencer().sight(1920, 1080, Some(&pose)).unwrap();
        seen.push((pose, sight.spot([x + width / 2.0, y + height / 2.0]).unwrap()));
    }
    seen
}

/// Distances in metres from the mean of all places.
fn apart(seen: &[(Pose, Spot)]) -> Vec<f64> {
    let origin = seen[0].1.place;
    let offsets: Vec<[f64; 3]> = seen.iter().map(|(_, spot)| origin.offset_to(&spot.place)).collect();
    let mean = [0, 1].map(|axis: usize| offsets.iter().map(|at| at[axis]).sum::<f64>() / offsets.len() as f64);
    offsets.iter().map(|at| (at[0] - mean[0]).hypot(at[1] - mean[1])).collect()
}

fn root_mean_square(distances: &[f64]) -> f64 {
    (distances.iter().map(|distance| distance * distance).sum::<f64>() / distances.len() as f64).sqrt()
}

#[test]
fn a_parked_car_stays_where_it_is() {
    let Some(frames) = frames() else { return };
    let seen = parked(&frames, |yaw| yaw);
    for (pose, spot) in &seen {
        // The whole frame is 1.6 heights wide.
        assert!(metres_from(pose, spot) < pose.height_above_ground_metres, "{spot:?}");
    }
    let distances = apart(&seen);
    let radii: Vec<f64> = seen.iter().map(|(_, spot)| spot.radius_metres).collect();
    // Errors that are alike in all frames do not show here, so no fewer than promised may agree.
    let within = distances.iter().zip(&radii).filter(|(distance, radius)| distance <= radius).count();
    // Read as if the compass turned the other way, or a quarter turn off, the car would wander.
    let scatter = |heading: fn(f64) -> f64| root_mean_square(&apart(&parked(&frames, heading)));
    let [right, negated, turned] = [scatter(|yaw| yaw), scatter(|yaw| -yaw), scatter(|yaw| yaw + 90.0)];
    let [least, most] = [f64::min, f64::max].map(|of: fn(f64, f64) -> f64| radii.iter().copied().reduce(of).unwrap());
    println!("\n| a parked car in {} frames | |\n|---|---|", seen.len());
    println!("| scatter about their mean (root mean square), m | {right:.2} |");
    println!("| stated radius, m | {least:.2} to {most:.2} |");
    println!("| within it | {within} of {} |", seen.len());
    println!("| scatter with the heading negated, m | {negated:.2} |");
    println!("| scatter with the heading turned by 90°, m | {turned:.2} |");
    assert!(within * 100 >= 63 * seen.len(), "{within} of {} within one sigma", seen.len());
    assert!(right < 2.0, "{right} m");
    assert!(negated > 4.0 && turned > 4.0, "{negated} m and {turned} m");
}

#[test]
fn every_frame_gives_a_place_or_a_reason() {
    let Some(frames) = frames() else { return };
    let georeferencer = georeferencer();
    let (mut placed, mut refused) = (0, 0);
    for frame in &frames {
        let mask = Bitmap::from_fn(1920, 1080, |x, y| {
            let [x, y] = [f64::from(x), f64::from(y)];
            frame.boxes.iter().take(1).any(|b| (b[0]..b[0] + b[2]).contains(&x) && (b[1]..b[1] + b[3]).contains(&y))
        });
        // What the telemetry alone allows: nothing, for the tilt is not in it.
        let alone = georeferencer.place(&mask, None);
        assert!(alone.iter().all(|place| *place == Georeference::Unplaced { why: Unplaced::PoseUnknown }));
        // A guess of the tilt that says how poor it is.
        let pose = frame.pose(-35.0, 10.0);
        for place in georeferencer.place(&mask, Some(&pose)) {
            assert!(place.validate().is_ok(), "{}: {place:?}", frame.file);
            match place {
                Georeference::Placed(position) => {
                    placed += 1;
                    assert!(position.radius_metres <= Bounds::default().most_sigma_metres);
                    assert!((position.latitude_degrees - pose.latitude_degrees).abs() < 0.002, "{}", frame.file);
                    assert!((position.longitude_degrees - pose.longitude_degrees).abs() < 0.004, "{}", frame.file);
                }
                Georeference::Unplaced { .. } => refused += 1,
            }
        }
    }
    println!("\n| {} frames with a tilt of 35° ± 10° assumed | |\n|---|---|", frames.len());
    println!("| pieces placed | {placed} |\n| pieces refused | {refused} |");
    assert!(placed > 0 && refused > 0);
}
