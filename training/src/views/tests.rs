#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use image::Rgb;
use kestrel_link::Mask;
use rand::SeedableRng;

use super::*;
use crate::sample::{Category, Instance, Origin, Picture};

const SIZE: u32 = 96;

/// A bright square of `side` pixels on dark textured ground.
fn square(side: u32) -> Picture {
    let inside = |x: u32, y: u32| (20..20 + side).contains(&x) && (20..20 + side).contains(&y);
    let image = RgbImage::from_fn(SIZE, SIZE, |x, y| {
        let grain = ((x * 7 + y * 13) % 9) as u8;
        if inside(x, y) { Rgb([200, 205, 198]) } else { Rgb([80 + grain, 84 + grain, 78 + grain]) }
    });
    let bits: Vec<bool> = (0..SIZE * SIZE).map(|i| inside(i % SIZE, i / SIZE)).collect();
    let instance = Instance {
        category: Category::Car,
        colour: None,
        bounding_box: [20.0, 20.0, side as f32, side as f32],
        mask: Some(Mask::from_bits(SIZE, SIZE, &bits).unwrap()),
        visible: 1.0,
    };
    let origin = Origin { dataset: "test".into(), scene: "0".into(), frame: "0".into() };
    Picture { image, instances: vec![instance], exhaustive: vec![Category::Car], origin }
}

fn view(family: Family, severity: f32) -> View {
    View::draw(family, severity, &mut ChaCha8Rng::seed_from_u64(9))
}

#[test]
fn severity_zero_is_the_identity_and_a_view_is_repeatable() {
    let picture = square(30);
    for family in Family::TRAIN.into_iter().chain(Family::HELD_OUT) {
        assert_eq!(view(family, 0.0).apply(&picture.image), picture.image, "{family:?}");
        let strong = view(family, 0.8);
        assert_eq!(strong.apply(&picture.image), strong.apply(&picture.image), "{family:?}");
        assert_ne!(strong.apply(&picture.image), picture.image, "{family:?}");
    }
}

#[test]
fn a_mild_view_hides_nothing_and_a_harsh_one_hides_small_things() {
    let (large, small) = (square(48), square(6));
    for family in Family::TRAIN.into_iter().chain(Family::HELD_OUT) {
        let mild = view(family, 0.05);
        let seen = unseeable(&large, &mild.apply(&large.image), &mild).unwrap();
        assert_eq!(seen, [false], "{family:?} at 0.05 must not hide 48 px");
    }
    for family in [Family::Pixelate, Family::GaussianBlur, Family::Defocus, Family::Noise, Family::MotionBlur] {
        let harsh = view(family, 1.0);
        let hidden = unseeable(&small, &harsh.apply(&small.image), &harsh).unwrap();
        assert_eq!(hidden, [true], "{family:?} at 1.0 must hide 6 px");
    }
}

#[test]
fn what_was_faint_in_the_clean_picture_is_not_blamed_on_the_view() {
    let mut faint = square(20);
    for pixel in faint.image.pixels_mut() {
        *pixel = Rgb([100, 100, 100]);
    }
    let mild = view(Family::Haze, 0.1);
    assert_eq!(unseeable(&faint, &mild.apply(&faint.image), &mild).unwrap(), [false]);
}

#[test]
fn held_out_families_are_never_drawn_for_training() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    assert!((0..500).all(|_| !Family::HELD_OUT.contains(&View::draw_training(&mut rng).family)));
}
