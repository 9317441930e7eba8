//! Masks survive the way through run lengths, and agree with arithmetic on plain bits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kestrel_link::{Mask, MaskScratch};
use proptest::prelude::*;

fn picture() -> impl Strategy<Value = (u32, u32, Vec<bool>)> {
    (1u32..150, 1u32..90).prop_flat_map(|(width, height)| {
        let pixels = (width * height) as usize;
        // Long runs and noise both: a few random rectangles, then a few flipped pixels.
        let rectangle = (0..width, 0..height, 0..width, 0..height);
        (
            Just(width),
            Just(height),
            proptest::collection::vec(rectangle, 0..4),
            proptest::collection::vec(0..pixels, 0..12),
        )
            .prop_map(move |(width, height, rectangles, flips)| {
                let mut bits = vec![false; pixels];
                for (a, b, c, d) in rectangles {
                    for y in b.min(d)..=b.max(d) {
                        for x in a.min(c)..=a.max(c) {
                            bits[(y * width + x) as usize] = true;
                        }
                    }
                }
                for i in flips {
                    bits[i] = !bits[i];
                }
                (width, height, bits)
            })
    })
}

/// Without this, encoder and decoder could agree with each other and with nobody else.
#[test]
fn strings_are_those_of_the_coco_api() {
    // Worked by hand after maskApi.c: runs 6, 1, 40, 4, 60, 3, 6; from the fourth on as differences 4-1, 60-40, 3-4, 6-60.
    let runs = [6u32, 1, 40, 4, 60, 3, 6];
    let mut at = 0;
    let mut set = [false; 120];
    for (i, run) in runs.into_iter().enumerate() {
        set[at..at + run as usize].fill(i % 2 == 1);
        at += run as usize;
    }
    let mask = Mask::from_fn(10, 12, |x, y| set[(x * 12 + y) as usize]).unwrap();
    assert_eq!(mask.counts, "61X13d0OZN");
    assert_eq!(mask.runs().unwrap(), runs);
}

#[test]
fn a_mask_that_begins_with_ones_has_an_empty_first_run() {
    let mask = Mask::from_bits(2, 2, &[true; 4]).unwrap();
    assert_eq!(mask.runs().unwrap(), [0, 4]);
    assert_eq!(mask.bounding_box().unwrap(), Some([0, 0, 2, 2]));
}

#[test]
fn sides_and_bits_must_fit() {
    assert!(Mask::from_bits(0, 4, &[]).is_err());
    assert!(Mask::from_bits(2, 2, &[true; 5]).is_err());
    assert!(Mask::from_fn(8193, 1, |_, _| false).is_err());
    let small = Mask::empty(2, 3).unwrap();
    assert!(small.iou(&Mask::empty(3, 2).unwrap()).is_err());
}

#[test]
fn simplifying_fits_the_size_and_keeps_the_shape() {
    // A disc with speckle: the speckle is what does not fit.
    let disc = |x: u32, y: u32| {
        let (dx, dy) = (x as f32 - 320.0, y as f32 - 240.0);
        dx * dx + dy * dy < 150.0 * 150.0
    };
    let clean = Mask::from_fn(640, 480, disc).unwrap();
    let noisy = Mask::from_fn(640, 480, |x, y| disc(x, y) ^ ((x * 7919 + y * 104_729) % 31 == 0)).unwrap();
    let simple = noisy.simplify(4096).unwrap();
    assert!(noisy.counts.len() > 4096 && simple.counts.len() <= 4096);
    assert!(simple.iou(&clean).unwrap() > 0.9);
    assert_eq!(clean.simplify(4096).unwrap(), clean);
}

proptest! {
    #[test]
    fn bits_come_back((width, height, bits) in picture()) {
        let mask = Mask::from_bits(width, height, &bits).unwrap();
        prop_assert_eq!(mask.to_bits().unwrap(), bits.clone());
        let same = Mask::from_fn(width, height, |x, y| bits[(y * width + x) as usize]).unwrap();
        prop_assert_eq!(&mask, &same);
        // In memory that held another mask.
        let mut scratch = MaskScratch::default();
        let before = Mask::from_bits_with(70, 9, &[true; 630], &mut scratch, String::new()).unwrap();
        let again = Mask::from_bits_with(width, height, &bits, &mut scratch, before.counts).unwrap();
        prop_assert_eq!(&again, &same);
        prop_assert_eq!(mask.runs().unwrap().iter().map(|&r| u64::from(r)).sum::<u64>(), u64::from(width * height));
    }

    #[test]
    fn area_and_box_are_those_of_the_bits((width, height, bits) in picture()) {
        let mask = Mask::from_bits(width, height, &bits).unwrap();
        prop_assert_eq!(mask.area().unwrap(), bits.iter().filter(|b| **b).count() as u64);
        let set: Vec<(u32, u32)> = (0..width * height)
            .filter(|&i| bits[i as usize])
            .map(|i| (i % width, i / width))
            .collect();
        let expected = set.first().map(|_| {
            let x0 = set.iter().map(|p| p.0).min().unwrap();
            let x1 = set.iter().map(|p| p.0).max().unwrap();
            let y0 = set.iter().map(|p| p.1).min().unwrap();
            let y1 = set.iter().map(|p| p.1).max().unwrap();
            [x0, y0, x1 - x0 + 1, y1 - y0 + 1]
        });
        prop_assert_eq!(mask.bounding_box().unwrap(), expected);
    }

    #[test]
    fn iou_and_union_are_those_of_the_bits((width, height, bits) in picture(), seed in 0usize..997) {
        let other: Vec<bool> = (0..bits.len()).map(|i| bits[(i + seed) % bits.len()]).collect();
        let (a, b) = (Mask::from_bits(width, height, &bits).unwrap(), Mask::from_bits(width, height, &other).unwrap());
        let either: Vec<bool> = bits.iter().zip(&other).map(|(a, b)| a | b).collect();
        let both = bits.iter().zip(&other).filter(|(a, b)| **a && **b).count();
        let count = either.iter().filter(|b| **b).count();
        let iou = if count == 0 { 1.0 } else { both as f32 / count as f32 };
        prop_assert!((a.iou(&b).unwrap() - iou).abs() < 1e-6);
        prop_assert_eq!(a.union(&b).unwrap().to_bits().unwrap(), either);
    }

    /// Promise: P13
    #[test]
    fn any_string_is_a_mask_or_an_error(width in 1u32..9000, height in 1u32..9000, counts in "[ -~]{0,80}") {
        let mask = Mask { width, height, counts };
        if mask.validate().is_ok() {
            prop_assert!(mask.area().unwrap() <= u64::from(width) * u64::from(height));
            mask.bounding_box().unwrap();
        }
    }
}
