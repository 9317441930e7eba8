#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::spread::TWO_THIRDS;
use super::*;
use proptest::prelude::*;

fn drawn(rows: &[&str]) -> Bitmap {
    Bitmap::from_fn(rows[0].len() as u32, rows.len() as u32, |x, y| rows[y as usize].as_bytes()[x as usize] == b'#')
}

fn area(corners: &[[f64; 2]]) -> f64 {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|(a, b)| (a[0] * b[1] - b[0] * a[1]) / 2.0).sum()
}

#[test]
fn an_outline_goes_around_its_pixels_once() {
    let mask = drawn(&["......", ".###..", ".#.##.", ".###..", "......"]);
    let piece = &mask.components()[0];
    let corners = outline::trace(piece);
    // The hole belongs to what is outlined, so the area is that of the pixels and the hole.
    assert_eq!(area(&corners), piece.area as f64 + 1.0);
    assert_eq!(corners.len(), 8);
}

#[test]
fn pixels_that_touch_by_a_corner_have_one_outline() {
    let mask = drawn(&["#..", ".#.", "..#"]);
    let corners = outline::trace(&mask.components()[0]);
    assert_eq!(area(&corners), 3.0);
    assert_eq!(corners.len(), 12);
}

#[test]
fn a_round_outline_keeps_its_shape_in_few_corners() {
    let mask = Bitmap::from_fn(400, 400, |x, y| (f64::from(x) - 200.0).hypot(f64::from(y) - 190.0) < 150.0);
    let piece = &mask.components()[0];
    let corners = outline::simplify(&outline::trace(piece), MAX_OUTLINE);
    assert!((8..=MAX_OUTLINE).contains(&corners.len()), "{} corners", corners.len());
    let kept = area(&corners) / piece.area as f64;
    assert!((kept - 1.0).abs() < 0.06, "{kept} of the area");
    let pixel = Bitmap::from_fn(3, 3, |x, y| (x, y) == (1, 1));
    let square = outline::simplify(&outline::trace(&pixel.components()[0]), MAX_OUTLINE);
    assert_eq!((square.len(), area(&square)), (4, 1.0));
}

#[test]
fn the_radius_holds_two_thirds_from_a_line_to_a_circle() {
    let line = Spread { north: 0.0, east: 9.0, both: 0.0 };
    assert!((line.radius_metres() / 3.0 - 1.0).abs() < 1e-4, "{}", line.radius_metres());
    assert_eq!(line.ellipse().bearing_degrees, 90.0);
    let circle = Spread { north: 4.0, east: 4.0, both: 0.0 };
    let expected = 2.0 * (-2.0 * (1.0 - TWO_THIRDS).ln()).sqrt();
    assert!((circle.radius_metres() - expected).abs() < 1e-7);
    assert_eq!(Spread::default().radius_metres(), 0.0);
    let slanting = Spread { north: 5.0, east: 5.0, both: 4.0 }.ellipse();
    assert_eq!((slanting.major_metres, slanting.minor_metres), (3.0, 1.0));
    assert!((slanting.bearing_degrees - 45.0).abs() < 1e-12);
}

#[test]
fn known_points_of_the_earth() {
    // One degree along the equator is a·π/180, seen from its own place as a chord.
    let here = Geodetic { latitude_degrees: 0.0, longitude_degrees: 0.0, height_metres: 0.0 };
    let there = Geodetic { longitude_degrees: 1.0, ..here };
    let [north, east, down] = here.offset_to(&there);
    assert!(north.abs() < 1e-6);
    assert!((east - 6_378_137.0 * 1_f64.to_radians().sin()).abs() < 1e-6);
    assert!((down - 6_378_137.0 * (1.0 - 1_f64.to_radians().cos())).abs() < 1e-6);
    // Across the date line and over the pole.
    let line = Geodetic { latitude_degrees: 10.0, longitude_degrees: 179.9999, height_metres: 0.0 };
    assert!(line.offset([0.0, 100.0, 0.0]).longitude_degrees < -179.99);
    let pole = Geodetic { latitude_degrees: 89.9999, longitude_degrees: 0.0, height_metres: 0.0 };
    let beyond = pole.offset([100.0, 0.0, 0.0]);
    assert!((beyond.longitude_degrees.abs() - 180.0).abs() < 1e-9 && beyond.latitude_degrees > 89.99);
}

proptest! {
    #[test]
    fn offsets_come_back(latitude in -89.9_f64..89.9, longitude in -180.0_f64..180.0, north in -5e3_f64..5e3, east in -5e3_f64..5e3, down in -500.0_f64..500.0) {
        let from = Geodetic { latitude_degrees: latitude, longitude_degrees: longitude, height_metres: 0.0 };
        let back = from.offset_to(&from.offset([north, east, down]));
        for (got, given) in back.into_iter().zip([north, east, down]) {
            prop_assert!((got - given).abs() < 1e-6, "{} for {}", got, given);
        }
    }

    #[test]
    fn a_lens_is_undone(k1 in -0.2_f64..0.2, k2 in -0.05_f64..0.05, p1 in -0.005_f64..0.005, p2 in -0.005_f64..0.005, x in -0.8_f64..0.8, y in -0.6_f64..0.6) {
        let lens = Distortion { k1, k2, p1, p2, k3: 0.0 };
        let [u, v] = lens.undo(lens.apply([x, y])).expect("a lens as mild as this folds nothing");
        prop_assert!((u - x).abs() < 1e-9 && (v - y).abs() < 1e-9, "({}, {}) for ({}, {})", u, v, x, y);
    }

    /// Every turn of an outline is a corner of a pixel, and without holes it encloses exactly the pixels.
    #[test]
    fn outlines_enclose_their_pixels(bits in prop::collection::vec(any::<bool>(), 7 * 6)) {
        let mask = Bitmap::from_fn(7, 6, |x, y| bits[(y * 7 + x) as usize]);
        for piece in mask.components() {
            let corners = outline::trace(&piece);
            let enclosed = area(&corners);
            prop_assert!(enclosed >= piece.area as f64, "{} around {}", enclosed, piece.area);
            let [_, _, width, height] = piece.bounding_box;
            prop_assert!(enclosed <= f64::from(width * height));
            let few = outline::simplify(&corners, 5);
            prop_assert!((3..=5).contains(&few.len()), "{} corners", few.len());
        }
    }
}
