//! Masks are placed where they are on synthetic ground, and refused where no position can be stated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kestrel_link::{Georeference, Outcome, Refusal, Segment, Unplaced, Verdict};
use kestrel_perception::geo::{
    Attitude, Bounds, Camera, Distortion, Geodetic, Georeferencer, GimbalReference, Ground, Pose, PoseSigma, Sight,
};
use kestrel_perception::{Bitmap, postprocess};
use proptest::prelude::*;

const EXACT: Attitude = Attitude { yaw_degrees: 0.0, pitch_degrees: 0.0, roll_degrees: 0.0 };

fn camera() -> Camera {
    Camera {
        width_pixels: 1920,
        height_pixels: 1080,
        focal_pixels: [1200.0, 1200.0],
        centre_pixels: [960.0, 540.0],
        distortion: Distortion::default(),
        focal_sigma: 0.0,
        centre_sigma_pixels: 0.0,
    }
}

/// 100 m up, looking straight down with the top of the picture to the north, nothing uncertain.
fn pose() -> Pose {
    Pose {
        latitude_degrees: 56.2,
        longitude_degrees: 10.19,
        height_above_ground_metres: 100.0,
        vehicle: EXACT,
        gimbal: Attitude::new(0.0, -90.0, 0.0),
        gimbal_reference: GimbalReference::Vehicle,
        sigma: PoseSigma { position_metres: 0.0, height_metres: 0.0, vehicle: EXACT, gimbal: EXACT },
        ground: Ground { slope_sigma: 0.0, relief_sigma_metres: 0.0, ..Ground::default() },
    }
}

/// Errors of a small drone with a compass and a gimbal.
fn unsure(pose: Pose) -> Pose {
    let sigma = PoseSigma {
        position_metres: 1.5,
        height_metres: 1.0,
        vehicle: Attitude::new(2.0, 1.0, 1.0),
        gimbal: Attitude::new(0.5, 0.5, 0.5),
    };
    Pose { sigma, ground: Ground::default(), ..pose }
}

fn wide() -> Bounds {
    Bounds { pixel_sigma: 0.0, most_sigma_metres: 1e4, most_range_metres: 1e4 }
}

fn sight(camera: Camera, pose: &Pose) -> Sight {
    let georeferencer = Georeferencer::new(camera, wide()).unwrap();
    georeferencer.sight(camera.width_pixels, camera.height_pixels, Some(pose)).unwrap()
}

fn ground(pose: &Pose, pixel: [f64; 2]) -> [f64; 2] {
    sight(camera(), pose).ground(pixel).unwrap()
}

fn near(got: [f64; 2], expected: [f64; 2]) {
    let miss = (got[0] - expected[0]).hypot(got[1] - expected[1]);
    assert!(miss < 1e-9, "{got:?}, expected {expected:?}");
}

#[test]
fn a_camera_that_looks_down_sees_a_map() {
    let down = pose();
    near(ground(&down, [960.0, 540.0]), [0.0, 0.0]);
    near(ground(&down, [960.0 + 120.0, 540.0 - 240.0]), [20.0, 10.0]);
    // Flying east, the top of the picture is east and its right side south.
    let east = Pose { vehicle: Attitude::new(90.0, 0.0, 0.0), ..down };
    near(ground(&east, [960.0 + 120.0, 540.0 - 240.0]), [-10.0, 20.0]);
}

#[test]
fn angles_turn_the_way_that_they_say() {
    let ahead = Pose { gimbal: Attitude::new(0.0, -45.0, 0.0), ..pose() };
    near(ground(&ahead, [960.0, 540.0]), [100.0, 0.0]);
    let aside = Pose { gimbal: Attitude::new(90.0, -45.0, 0.0), ..pose() };
    near(ground(&aside, [960.0, 540.0]), [0.0, 100.0]);
    // A fixed camera on a vehicle that dives by 45 degrees looks the same way as a gimbal that does.
    let diving = Pose { vehicle: Attitude::new(0.0, -45.0, 0.0), gimbal: EXACT, ..pose() };
    near(ground(&diving, [960.0, 540.0]), [100.0, 0.0]);
    // Right side low: a camera that looks straight down out of the belly looks to the left.
    let banking = Pose { vehicle: Attitude::new(0.0, 0.0, 45.0), ..pose() };
    near(ground(&banking, [960.0, 540.0]), [0.0, -100.0]);
    // A gimbal that holds the horizon does not care, but follows the heading.
    let held = Pose {
        vehicle: Attitude::new(90.0, 10.0, 45.0),
        gimbal: Attitude::new(0.0, -45.0, 0.0),
        gimbal_reference: GimbalReference::Horizon,
        ..pose()
    };
    near(ground(&held, [960.0, 540.0]), [0.0, 100.0]);
}

#[test]
fn rising_ground_is_met_earlier() {
    let ground_ahead = Ground { slope_north: 0.25, ..pose().ground };
    let ahead = Pose { gimbal: Attitude::new(0.0, -45.0, 0.0), ground: ground_ahead, ..pose() };
    near(ground(&ahead, [960.0, 540.0]), [80.0, 0.0]);
    assert!((sight(camera(), &ahead).place([80.0, 0.0]).height_metres - 20.0).abs() < 1e-3);
}

#[test]
fn latitude_and_longitude_are_those_of_the_ground() {
    let pose = pose();
    let place = sight(camera(), &pose).spot([960.0 + 1200.0 * 0.3, 540.0 - 1200.0 * 0.4]).unwrap().place;
    let from = Geodetic {
        latitude_degrees: pose.latitude_degrees,
        longitude_degrees: pose.longitude_degrees,
        height_metres: 0.0,
    };
    let [north, east, _] = from.offset_to(&place);
    assert!((north - 40.0).abs() < 1e-6 && (east - 30.0).abs() < 1e-6, "{north} {east}");
    // At this latitude a degree is 111.36 km north and 62.1 km east, near enough to see a wrong axis.
    assert!((place.latitude_degrees - 56.2 - 40.0 / 111_360.0).abs() < 1e-6);
    assert!((place.longitude_degrees - 10.19 - 30.0 / 62_100.0).abs() < 1e-5);
}

fn any_pose() -> impl Strategy<Value = Pose> {
    let angle = -180.0_f64..180.0;
    let small = -30.0_f64..30.0;
    (
        (-80.0_f64..80.0, angle.clone(), 2.0_f64..300.0),
        (angle.clone(), small.clone(), small.clone()),
        (angle, -90.0_f64..-20.0, small),
        (-0.1_f64..0.1, -0.1_f64..0.1, any::<bool>()),
    )
        .prop_map(|(place, vehicle, gimbal, (slope_north, slope_east, held))| Pose {
            latitude_degrees: place.0,
            longitude_degrees: place.1,
            height_above_ground_metres: place.2,
            vehicle: Attitude::new(vehicle.0, vehicle.1, vehicle.2),
            gimbal: Attitude::new(gimbal.0, gimbal.1, gimbal.2),
            gimbal_reference: if held { GimbalReference::Horizon } else { GimbalReference::Vehicle },
            ground: Ground { slope_north, slope_east, slope_sigma: 0.0, relief_sigma_metres: 0.0 },
            ..pose()
        })
}

fn lens() -> Distortion {
    Distortion { k1: -0.12, k2: 0.05, p1: 0.001, p2: -0.0008, k3: 0.0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A point of the ground, seen and placed again, is where it was: to a micrometre.
    #[test]
    fn what_is_seen_is_placed_where_it_is(pose in any_pose(), u in 0.0_f64..1920.0, v in 0.0_f64..1080.0, curved: bool) {
        let camera = if curved { Camera { distortion: lens(), ..camera() } } else { camera() };
        let sight = sight(camera, &pose);
        let Ok(met) = sight.ground([u, v]) else { return Ok(()) };
        prop_assume!(met[0].hypot(met[1]) < 10.0 * pose.height_above_ground_metres);
        let seen = sight.pixel(met).expect("what a ray met lies before the camera");
        prop_assert!((seen[0] - u).abs() < 1e-6 && (seen[1] - v).abs() < 1e-6, "{:?} for ({}, {})", seen, u, v);
        let again = sight.ground(seen).unwrap();
        prop_assert!((again[0] - met[0]).hypot(again[1] - met[1]) < 1e-6, "{:?} for {:?}", again, met);
        // The ray of the ground point, turned by an independent chain of matrices, is the pixel's.
        let height = pose.ground.down(pose.height_above_ground_metres, met);
        let [x, y] = camera.distortion.undo([(u - 960.0) / 1200.0, (v - 540.0) / 1200.0]).unwrap();
        let [a, b, c] = matrix(&pose, [1.0, x, y]);
        let scale = (met[0].powi(2) + met[1].powi(2) + height * height).sqrt() / (a * a + b * b + c * c).sqrt();
        let miss = (a * scale - met[0]).hypot(b * scale - met[1]).hypot(c * scale - height);
        prop_assert!(miss < 1e-6, "{} m apart", miss);
    }

    #[test]
    fn turning_the_vehicle_turns_the_answer(pose in any_pose(), turn in -180.0_f64..180.0, u in 0.0_f64..1920.0, v in 0.0_f64..1080.0) {
        let level = Pose { ground: self::pose().ground, ..pose };
        let Ok([north, east]) = sight(camera(), &level).ground([u, v]) else { return Ok(()) };
        let yaw = level.vehicle.yaw_degrees + turn;
        prop_assume!(yaw.abs() <= 360.0);
        let turned = Pose { vehicle: Attitude { yaw_degrees: yaw, ..level.vehicle }, ..level };
        let Ok(got) = sight(camera(), &turned).ground([u, v]) else { return Ok(()) };
        let (sin, cos) = turn.to_radians().sin_cos();
        let (n, e) = (cos * north - sin * east, sin * north + cos * east);
        let most = 1e-9 * (1.0 + north.hypot(east));
        prop_assert!((got[0] - n).hypot(got[1] - e) < most * 100.0, "{:?} for ({}, {})", got, n, e);
    }

    #[test]
    fn twice_the_height_is_twice_the_distance(pose in any_pose(), u in 0.0_f64..1920.0, v in 0.0_f64..1080.0) {
        let twice = Pose { height_above_ground_metres: 2.0 * pose.height_above_ground_metres, ..pose };
        let (Ok(one), Ok(two)) = (sight(camera(), &pose).ground([u, v]), sight(camera(), &twice).ground([u, v])) else {
            return Ok(());
        };
        let miss = (two[0] - 2.0 * one[0]).hypot(two[1] - 2.0 * one[1]);
        prop_assert!(miss < 1e-9 * (1.0 + two[0].hypot(two[1])), "{} m", miss);
    }

    /// Numbers from a broken sensor or a hostile file give an error or a reason, never a panic and never a place that is no number.
    ///
    /// Promise: P13
    #[test]
    fn garbage_gives_a_reason(numbers in prop::collection::vec(garbage(), 30), held: bool) {
        let mut next = numbers.into_iter().cycle();
        let mut number = || next.next().unwrap();
        let camera = Camera {
            width_pixels: 64,
            height_pixels: 48,
            focal_pixels: [number(), number()],
            centre_pixels: [number(), number()],
            distortion: Distortion { k1: number(), k2: number(), p1: number(), p2: number(), k3: number() },
            focal_sigma: number(),
            centre_sigma_pixels: number(),
        };
        let bounds = Bounds { pixel_sigma: number(), most_sigma_metres: number(), most_range_metres: number() };
        let georeferencer = Georeferencer::new(camera, bounds);
        let mild = Camera { focal_pixels: [60.0; 2], centre_pixels: [32.0, 24.0], width_pixels: 64, height_pixels: 48, ..self::camera() };
        let georeferencer = georeferencer.unwrap_or_else(|_| Georeferencer::new(mild, wide()).unwrap());
        let mut three = || Attitude::new(number(), number(), number());
        let (vehicle, gimbal) = (three(), three());
        let sigma = PoseSigma { vehicle: three(), gimbal: three(), position_metres: number(), height_metres: number() };
        let pose = Pose {
            latitude_degrees: number(),
            longitude_degrees: number(),
            height_above_ground_metres: number(),
            vehicle,
            gimbal,
            gimbal_reference: if held { GimbalReference::Horizon } else { GimbalReference::Vehicle },
            sigma,
            ground: Ground { slope_north: number(), slope_east: number(), slope_sigma: number(), relief_sigma_metres: number() },
        };
        let mask = Bitmap::from_fn(64, 48, |x, y| (20..30).contains(&x) && (30..40).contains(&y));
        let places = georeferencer.place(&mask, Some(&pose));
        prop_assert_eq!(places.len(), 1);
        prop_assert!(places[0].validate().is_ok(), "{:?}", places);
        if pose.check().is_err() {
            let unplaced = matches!(places[0], Georeference::Unplaced { .. });
            prop_assert!(unplaced);
        }
    }
}

/// Mostly sane, sometimes anything at all.
fn garbage() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -1.0_f64..60.0,
        2 => 0.0_f64..0.4,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN_POSITIVE]),
    ]
}

/// North, east and down of a vector of the gimbal, by matrices written out from the textbook.
fn matrix(pose: &Pose, vector: [f64; 3]) -> [f64; 3] {
    let attitude = |angles: Attitude| {
        let (s, c) = angles.yaw_degrees.to_radians().sin_cos();
        let (t, d) = angles.pitch_degrees.to_radians().sin_cos();
        let (r, e) = angles.roll_degrees.to_radians().sin_cos();
        [
            [d * c, r * t * c - e * s, e * t * c + r * s],
            [d * s, r * t * s + e * c, e * t * s - r * c],
            [-t, r * d, e * d],
        ]
    };
    let times = |m: [[f64; 3]; 3], v: [f64; 3]| m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
    let vehicle = match pose.gimbal_reference {
        GimbalReference::Vehicle => pose.vehicle,
        GimbalReference::Horizon => Attitude::new(pose.vehicle.yaw_degrees, 0.0, 0.0),
    };
    times(attitude(vehicle), times(attitude(pose.gimbal), vector))
}

fn why(camera: Camera, bounds: Bounds, pose: Option<&Pose>) -> Option<Unplaced> {
    let mask = Bitmap::from_fn(1920, 1080, |x, y| (900..1000).contains(&x) && (500..580).contains(&y));
    match &Georeferencer::new(camera, bounds).unwrap().place(&mask, pose)[..] {
        [Georeference::Placed(_)] => None,
        [Georeference::Unplaced { why }] => Some(*why),
        other => panic!("one piece has one place, got {other:?}"),
    }
}

#[test]
fn no_position_rather_than_a_wrong_one() {
    let tilted = |pitch: f64| Pose { gimbal: Attitude::new(0.0, pitch, 0.0), ..pose() };
    let bounds = Bounds::default();
    assert_eq!(why(camera(), bounds, Some(&unsure(pose()))), None);
    assert_eq!(why(camera(), bounds, None), Some(Unplaced::PoseUnknown));
    let lost = Pose { height_above_ground_metres: f64::NAN, ..pose() };
    assert_eq!(why(camera(), bounds, Some(&lost)), Some(Unplaced::PoseInvalid));
    let square = Camera { width_pixels: 1080, centre_pixels: [540.0, 540.0], ..camera() };
    assert_eq!(why(square, bounds, Some(&pose())), Some(Unplaced::CameraInvalid));
    assert_eq!(why(camera(), bounds, Some(&tilted(10.0))), Some(Unplaced::AboveHorizon));
    // The horizon runs through the mask.
    assert_eq!(why(camera(), bounds, Some(&tilted(0.0))), Some(Unplaced::AboveHorizon));
    assert_eq!(why(camera(), wide(), Some(&unsure(tilted(-4.0)))), Some(Unplaced::ErrorUnknown));
    assert!(matches!(why(camera(), bounds, Some(&tilted(-4.0))), Some(Unplaced::BeyondRange { .. })));
    let vague = why(camera(), bounds, Some(&unsure(tilted(-20.0))));
    assert!(matches!(vague, Some(Unplaced::TooUncertain { .. })), "{vague:?}");
}

#[test]
fn a_camera_that_makes_no_sense_is_named() {
    let refused = |camera: Camera| Georeferencer::new(camera, Bounds::default()).unwrap_err().to_string();
    assert!(
        refused(Camera { focal_pixels: [f64::NAN, 1.0], ..camera() }).starts_with("camera.focal_pixels: expected 1")
    );
    assert!(refused(Camera { width_pixels: 0, ..camera() }).starts_with("camera.width_pixels"));
    assert!(refused(Camera { centre_pixels: [-5.0, 0.0], ..camera() }).starts_with("camera.centre_pixels"));
    // A lens that folds the corners of the picture over its middle.
    let folding = Distortion { k1: -0.9, ..Distortion::default() };
    assert!(refused(Camera { distortion: folding, ..camera() }).starts_with("camera.distortion"));
    let bounds = Bounds { most_sigma_metres: f64::INFINITY, ..Bounds::default() };
    assert!(Georeferencer::new(camera(), bounds).is_err());
}

#[test]
fn frames_of_another_size_see_the_same() {
    let georeferencer = Georeferencer::new(Camera { distortion: lens(), ..camera() }, wide()).unwrap();
    let large = georeferencer.sight(1920, 1080, Some(&pose())).unwrap().ground([1500.0, 300.0]).unwrap();
    let small = georeferencer.sight(640, 360, Some(&pose())).unwrap().ground([500.0, 100.0]).unwrap();
    near(small, large);
}

/// The mask of a rectangle on the ground, `[north, east]` from and to, in metres.
fn painted(sight: &Sight, from: [f64; 2], to: [f64; 2]) -> Bitmap {
    Bitmap::from_fn(1920, 1080, |x, y| {
        sight
            .ground([f64::from(x) + 0.5, f64::from(y) + 0.5])
            .is_ok_and(|[north, east]| (from[0]..to[0]).contains(&north) && (from[1]..to[1]).contains(&east))
    })
}

#[test]
fn a_slanting_view_is_measured_on_the_ground() {
    // 60 m of field seen from 40 m: its far half fills far fewer pixels than its near half.
    let slanting = Pose { height_above_ground_metres: 40.0, gimbal: Attitude::new(0.0, -40.0, 0.0), ..pose() };
    let lens = Camera { distortion: lens(), ..camera() };
    let sight = sight(lens, &slanting);
    let (from, to) = ([30.0, -8.0], [90.0, 12.0]);
    let mask = painted(&sight, from, to);
    let georeferencer = Georeferencer::new(lens, Bounds::default()).unwrap();
    let sure = Pose { sigma: PoseSigma { position_metres: 0.5, ..slanting.sigma }, ..slanting };
    let places = georeferencer.place(&mask, Some(&sure));
    let [Georeference::Placed(place)] = &places[..] else { panic!("{places:?}") };
    let camera_at = Geodetic { latitude_degrees: 56.2, longitude_degrees: 10.19, height_metres: 0.0 };
    let metres = |[latitude_degrees, longitude_degrees]: [f64; 2]| {
        let [north, east, _] =
            camera_at.offset_to(&Geodetic { latitude_degrees, longitude_degrees, height_metres: 0.0 });
        [north, east]
    };
    let [north, east] = metres([place.latitude_degrees, place.longitude_degrees]);
    assert!((north - 60.0).abs() < 0.2 && (east - 2.0).abs() < 0.1, "{north} {east}");
    for corner in &place.outline {
        let [north, east] = metres(*corner);
        assert!((29.5..90.5).contains(&north) && (-8.5..12.5).contains(&east), "{north} {east}");
    }
    assert!(place.outline.len() >= 4 && place.outline_radius_metres >= place.radius_metres * 0.9);
    // Each corner has its own error, in the order of the corners: the far ones are less sure.
    let radii = &place.outline_radii_metres;
    assert_eq!(radii.len(), place.outline.len());
    assert_eq!(radii.iter().copied().fold(0.0, f64::max), place.outline_radius_metres);
    let mut by_north: Vec<(f64, f64)> =
        place.outline.iter().zip(radii).map(|(corner, radius)| (metres(*corner)[0], *radius)).collect();
    by_north.sort_by(|one, two| one.0.total_cmp(&two.0));
    assert!(by_north[by_north.len() - 1].1 > 1.2 * by_north[0].1, "{by_north:.2?}");
}

#[test]
fn pieces_are_placed_apart_and_specks_are_not() {
    let mask = Bitmap::from_fn(1920, 1080, |x, y| {
        let inside =
            |left: u32, top: u32, side: u32| (left..left + side).contains(&x) && (top..top + side).contains(&y);
        inside(200, 500, 40) || inside(1000, 500, 30) || inside(1500, 900, 4)
    });
    let georeferencer = Georeferencer::new(camera(), Bounds::default()).unwrap();
    let places = georeferencer.place(&mask, Some(&unsure(pose())));
    let [Georeference::Placed(large), Georeference::Placed(small)] = &places[..] else { panic!("{places:?}") };
    assert!(large.longitude_degrees < small.longitude_degrees);
    assert!(georeferencer.place(&Bitmap::new(1920, 1080), Some(&pose())).is_empty());
    assert_eq!(georeferencer.place(&mask, None), [Georeference::Unplaced { why: Unplaced::PoseUnknown }]);
}

#[test]
fn outcomes_carry_places_with_masks_and_with_candidates() {
    let georeferencer = Georeferencer::new(camera(), Bounds::default()).unwrap();
    let mask = Bitmap::from_fn(1920, 1080, |x, y| (900..1000).contains(&x) && (500..580).contains(&y));
    let segment = postprocess::segment(&mask, 0.9, 0.8).unwrap().unwrap();
    let placed = |segment: &Segment| matches!(segment.positions[..], [Georeference::Placed(_)]);
    let pose = unsure(pose());
    let mut found = Outcome::Segmented { masks: vec![segment.clone()] };
    georeferencer.annotate(&mut found, Ok(&pose)).unwrap();
    let Outcome::Segmented { masks } = &found else { panic!("{found:?}") };
    assert!(placed(&masks[0]));
    let verdict = Verdict::TargetAmbiguous { candidates: vec![segment] };
    let mut asked = Outcome::Refused(Refusal { verdict, evidence: vec![], advice: String::new() });
    georeferencer.annotate(&mut asked, Ok(&pose)).unwrap();
    let Outcome::Refused(Refusal { verdict: Verdict::TargetAmbiguous { candidates }, .. }) = &asked else {
        panic!("{asked:?}")
    };
    assert!(placed(&candidates[0]));
}

#[test]
fn a_pose_without_its_errors_is_no_pose() {
    let text = serde_json::to_string(&unsure(pose())).unwrap();
    assert_eq!(serde_json::from_str::<Pose>(&text).unwrap(), unsure(pose()));
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["speed"] = 3.into();
    assert!(serde_json::from_value::<Pose>(value.clone()).unwrap_err().to_string().contains("speed"));
    let fields = value.as_object_mut().unwrap();
    fields.remove("speed");
    fields.remove("ground");
    assert!(serde_json::from_value::<Pose>(value.clone()).is_ok(), "the ground may be left out");
    value.as_object_mut().unwrap().remove("sigma");
    assert!(serde_json::from_value::<Pose>(value).unwrap_err().to_string().contains("sigma"));
}
