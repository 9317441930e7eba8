#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A digest of pixels and labels.
fn digest(picture: &Picture) -> String {
    let mut hash = Sha256::new();
    hash.update(picture.image.as_raw());
    for i in &picture.instances {
        let mask = &i.mask.as_ref().expect("every thing has a mask").counts;
        hash.update(format!("{:?}{:?}{:?}{mask}", i.category, i.colour, i.bounding_box));
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_seed_is_the_same_picture_for_ever() {
    // Benchmarks are named by seeds: whoever changes this digest changes every table made with them.
    assert_eq!(digest(&render(7, 96)), "39395a3485225a16edb08f367f7f7571940d3bc38e80b716b389126cf36cecde");
}

/// What would break: labels of large pictures that lie beside what they show.
#[test]
fn a_wide_picture_is_the_middle_of_the_square_one() {
    assert_eq!(digest(&render_wide(7, 96, 96)), digest(&render(7, 96)), "drawn by one core or by all");
    let (square, wide) = (render(7, 96), render_wide(7, 96, 54));
    assert_eq!(wide.image.dimensions(), (96, 54));
    let labelled = |picture: &Picture| {
        let mut all = vec![false; (picture.image.width() * picture.image.height()) as usize];
        for instance in &picture.instances {
            let bits = instance.mask.as_ref().unwrap().to_bits().unwrap();
            all.iter_mut().zip(bits).for_each(|(all, bit)| *all |= bit);
        }
        all
    };
    assert_eq!(labelled(&wide), labelled(&square)[21 * 96..75 * 96]);
    assert!(labelled(&wide).contains(&true));
}

#[test]
fn masks_are_disjoint_inside_their_boxes_and_shares_are_shares() {
    for seed in 0..8 {
        let picture = render(seed, 128);
        let mut taken = vec![false; 128 * 128];
        for instance in &picture.instances {
            let bits = instance.mask.as_ref().unwrap().to_bits().unwrap();
            let [x, y, w, h] = instance.bounding_box.map(|v| v as usize);
            assert!(bits.contains(&true), "seed {seed}: an unseen thing is labelled");
            for (i, _) in bits.iter().enumerate().filter(|(_, on)| **on) {
                assert!(!std::mem::replace(&mut taken[i], true), "seed {seed}: pixel {i} has two owners");
                let (px, py) = (i % 128, i / 128);
                assert!((x..x + w).contains(&px) && (y..y + h).contains(&py), "seed {seed}: mask leaves its box");
            }
            assert!(instance.visible > 0.0 && instance.visible <= 1.0, "seed {seed}: {}", instance.visible);
        }
    }
}

#[test]
fn a_thing_cut_by_the_frame_says_so() {
    let (mut whole, mut cut) = ((0.0, 0.0), (0.0, 0.0));
    for seed in 0..24 {
        for i in render(seed, 128).instances.iter().filter(|i| i.category == Category::Car) {
            let [x, y, w, h] = i.bounding_box;
            let inside = x > 0.0 && y > 0.0 && x + w < 128.0 && y + h < 128.0;
            let sum = if inside { &mut whole } else { &mut cut };
            *sum = (sum.0 + i.visible, sum.1 + 1.0);
        }
    }
    assert!(whole.1 > 20.0 && cut.1 > 5.0, "too few cars to judge: {whole:?} {cut:?}");
    assert!(whole.0 / whole.1 > cut.0 / cut.1 + 0.15, "whole {whole:?}, cut {cut:?}");
}

#[test]
fn every_category_is_drawn_somewhere() {
    let mut missing: BTreeSet<Category> = categories().collect();
    let mut seed = 0;
    while !missing.is_empty() && seed < 150 {
        for instance in render(seed, 64).instances {
            missing.remove(&instance.category);
        }
        seed += 1;
    }
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

#[test]
fn sequences_keep_the_order_of_things() {
    for seed in 0..12 {
        let frames = render_sequence(seed, 96, 3);
        let categories = |p: &Picture| p.instances.iter().map(|i| i.category).collect::<Vec<_>>();
        let first = categories(&frames[0]);
        for (number, frame) in frames.iter().enumerate() {
            assert_eq!(categories(frame), first, "seed {seed}, frame {number}");
            assert_eq!(frame.origin.frame, number.to_string());
            for instance in &frame.instances {
                let area = instance.mask.as_ref().unwrap().area().unwrap();
                assert_eq!(area == 0, instance.visible == 0.0, "seed {seed}: out of view means visible 0");
            }
        }
        // Its first frame is the still of the same seed.
        assert_eq!(frames[0].image, render(seed, 96).image);
    }
}

#[test]
fn said_colours_obey_the_rule() {
    for seed in 0..10 {
        let picture = render(seed, 128);
        for instance in picture.instances.iter().filter(|i| i.colour.is_some()) {
            let seen = crate::colour::colour_of(&picture.image, instance.mask.as_ref().unwrap());
            assert_eq!(seen, instance.colour, "seed {seed}: {:?}", instance.category);
        }
    }
}

#[test]
fn a_later_frame_moves_the_traffic() {
    let moved = (0..12).any(|seed| {
        let frames = render_sequence(seed, 96, 2);
        frames[0].instances.iter().zip(&frames[1].instances).any(|(a, b)| {
            a.category == Category::Car
                && a.visible > 0.9
                && b.visible > 0.9
                && (a.bounding_box[0] - b.bounding_box[0]).abs() > 6.0
        })
    });
    assert!(moved, "nothing moves");
}

/// What would break: labels of places drawn from other numbers than the pictures.
#[test]
fn a_place_is_what_its_picture_shows() {
    let kind = |seed: u64| {
        let [_, _, mut rest] = generators(seed);
        places::kind(&mut rest)
    };
    for (wanted, thing) in [(PlaceKind::TankFarm, Category::StorageTank), (PlaceKind::Harbour, Category::Boat)] {
        let seeds: Vec<u64> = (0..200).filter(|seed| kind(*seed) == wanted).take(5).collect();
        let shows = |seed: &&u64| render(**seed, 64).instances.iter().any(|i| i.category == thing);
        let showing = seeds.iter().filter(shows).count();
        assert!(seeds.len() == 5 && showing >= 3, "{wanted:?}: {showing} of {seeds:?}");
    }
    let mut picture = render(3, 64);
    assert_eq!(place(&picture), Some(kind(3)));
    picture.origin.dataset = "nwpu_vhr10".into();
    assert_eq!(place(&picture), None, "photographs say no place");
}

#[test]
fn every_kind_of_place_is_drawn_and_named_once() {
    let drawn: BTreeSet<PlaceKind> = (0..300)
        .map(|seed| {
            let [_, _, mut rest] = generators(seed);
            places::kind(&mut rest)
        })
        .collect();
    assert_eq!(drawn.len(), PlaceKind::ALL.len());
    let names: BTreeSet<&str> = PlaceKind::ALL.into_iter().map(PlaceKind::label).collect();
    assert_eq!(names.len(), PlaceKind::ALL.len());
}
