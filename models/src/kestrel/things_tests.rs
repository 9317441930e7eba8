//! What pointing does before anything is learnt, and how locations may begin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::candle::{Candle, Params};
use candle_core::{Device, Tensor};
use kestrel_perception::proposals::thing;
use kestrel_perception::tokens::location;
use proptest::prelude::*;

/// The smallest model that is told of things.
fn config() -> Config {
    Config { language_width: 128, heads: 4, kv_heads: 2, things: true, ..Config::tiny() }
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn rows_of(rows: &[&[f32]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (1, rows.len(), rows[0].len()), &Device::Cpu).unwrap()
}

fn likeliest(logits: &[f32]) -> u32 {
    (0..).zip(logits).fold((0, f32::NEG_INFINITY), |best, (id, z)| if *z > best.1 { (id, *z) } else { best }).0
}

proptest! {
    #[test]
    fn what_is_pointed_at_gives_the_location_of_the_edge_that_is_meant(
        at in prop::array::uniform4(0_u16..64), within in prop::array::uniform4(0.1_f32..0.9), side in 0_usize..4,
    ) {
        let edge = |k: usize| (f32::from(at[k]) + within[k]) / 64.0;
        let edges = [0, 1, 2, 3].map(edge);
        let params = Params::new(&Device::Cpu, 1);
        let mut ops = Candle::evaluating(&params);
        let asking = rows_of(&[&[0.0; 8]]);
        // No weight counts where nothing is asked; the biases leave one edge.
        let mut bias = [-1.0; SIDES];
        bias[side] = 0.0;
        params.insert("language.point.edge.bias", &Tensor::new(&bias, &Device::Cpu).unwrap()).unwrap();
        let told = thing(&[], &edges);
        let found = rows_of(&[&told[NAMES + CODE..]]);
        let logits = numbers(&at_edge(&mut ops, &found, &asking).unwrap());
        prop_assert_eq!(logits.len(), LOCATIONS as usize);
        prop_assert_eq!(likeliest(&logits), location(edges[side]));
        // What is looked at half is meant half.
        let half = (&found * 0.5).unwrap();
        let halves = numbers(&at_edge(&mut ops, &half, &asking).unwrap());
        prop_assert!(logits.iter().zip(halves).all(|(whole, half)| (0.5 * whole - half).abs() < 1e-4));
    }
}

#[test]
fn locations_begin_as_codes_of_places_and_are_alike_where_they_are_near() {
    let width = 64;
    let matrix: Vec<f32> = (0..width * width).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
    let codes = location_codes(&matrix, width, 0.3);
    assert_eq!(codes.len(), LOCATIONS as usize * width);
    for (bin, row) in (0..LOCATIONS).zip(codes.chunks(width)) {
        let square = row.iter().map(|v| v * v).sum::<f32>() / width as f32;
        assert!((square.sqrt() - 0.3).abs() < 1e-4);
        // Up to scale it is what the projector adds to an image token of that place.
        let place = positions::code([(bin as f32 + 0.5) / 64.0; 2], width);
        let added: Vec<f32> = matrix.chunks(width).map(|r| r.iter().zip(&place).map(|(a, b)| a * b).sum()).collect();
        let scale = row.iter().zip(&added).map(|(a, b)| a * b).sum::<f32>() / added.iter().map(|v| v * v).sum::<f32>();
        assert!(row.iter().zip(&added).all(|(a, b)| (a - scale * b).abs() < 1e-4), "location {bin}");
    }
    let identity: Vec<f32> = (0..width * width).map(|i| f32::from(u8::from(i % width == i / width))).collect();
    let codes = location_codes(&identity, width, 1.0);
    let alike = |a: usize, b: usize| -> f32 {
        codes[a * width..][..width].iter().zip(&codes[b * width..][..width]).map(|(x, y)| x * y).sum()
    };
    assert!((0..63).all(|bin| alike(bin, bin + 1) > 0.9 * alike(bin, bin)), "neighbours are near");
    assert!((0..48).all(|bin| alike(bin, bin + 16) < 0.5 * alike(bin, bin)), "what is far off is not");
}

#[test]
fn things_stand_behind_the_picture_at_its_scale_and_only_they_have_places() {
    let (config, params) = (config(), Params::new(&Device::Cpu, 3));
    let mut ops = Candle::evaluating(&params);
    let tokens = Tensor::ones((1, 4, config.language_width), candle_core::DType::F32, &Device::Cpu).unwrap();
    let (a, b) = (thing(&[2.0; NAMES], &[0.1, 0.2, 0.3, 0.4]), thing(&[-2.0; NAMES], &[0.5, 0.2, 0.9, 0.3]));
    let seen = told(&mut ops, &config, &tokens, Some(&rows_of(&[&a, &b]))).unwrap();
    assert_eq!((seen.rows.dims(), seen.places.dims()), (&[1, 6, 128][..], &[1, 6, PLACED][..]));
    let rows = numbers(&seen.rows);
    assert_eq!(rows[..4 * 128], numbers(&tokens));
    for row in rows[4 * 128..].chunks(128) {
        let square = row.iter().map(|v| v * v).sum::<f32>() / 128.0;
        assert!((square - 1.0).abs() < 1e-2, "{square}");
    }
    let places = numbers(&seen.places);
    assert!(places[..4 * PLACED].iter().all(|v| *v == 0.0));
    assert_eq!(places[5 * PLACED..][..EDGES], b[NAMES + CODE..]);
    assert_eq!((places[5 * PLACED - 1], places[6 * PLACED - 1]), (1.0, 1.0));
    let alone = told(&mut ops, &config, &tokens, None).unwrap();
    assert_eq!((numbers(&alone.rows), alone.places.dims()), (numbers(&tokens), &[1, 4, PLACED][..]));
}

/// What would break: a model that has to learn first that things are worth looking at, among hundreds of other rows.
#[test]
fn before_anything_is_learnt_all_things_are_pointed_at_alike_and_nothing_else() {
    let (config, params) = (config(), Params::new(&Device::Cpu, 3));
    let zeros = |name: &str, shape: &[usize]| {
        let zeros = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        params.insert(&format!("language.point.{name}"), &zeros).unwrap();
    };
    zeros("query.weight", &[config.kv_width(), config.language_width]);
    zeros("edge.weight", &[SIDES, config.language_width]);
    let mut ops = Candle::evaluating(&params);
    let edges = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.2, 0.9, 0.3]];
    let things = edges.map(|edges| thing(&[], &edges));
    let tokens = Tensor::ones((1, 4, config.language_width), candle_core::DType::F32, &Device::Cpu).unwrap();
    let Told { rows, places } = told(&mut ops, &config, &tokens, Some(&rows_of(&[&things[0], &things[1]]))).unwrap();
    let mask = Tensor::zeros((1, 5, 6), candle_core::DType::F32, &Device::Cpu).unwrap();
    let pointing = point(&mut ops, &config, (&rows, &places), 1, None, &mask).unwrap();
    assert_eq!(pointing.kept.keys.dims(), [1, 6, config.kv_width()]);
    assert_eq!(pointing.locations.dims(), [1, 5, LOCATIONS as usize]);
    let share = FAVOUR.exp() / (2.0 * FAVOUR.exp() + 4.0);
    assert!(2.0 * share > 0.99);
    for row in numbers(&pointing.locations).chunks(LOCATIONS as usize) {
        for (bin, logit) in row.iter().enumerate() {
            let at = waves((bin as f32 + 0.5) / 64.0);
            let alike = |edge: &f32| waves(*edge).iter().zip(&at).map(|(a, b)| a * b).sum::<f32>();
            let expected = GAIN * share * edges.iter().flatten().map(alike).sum::<f32>();
            assert!((logit - expected).abs() < 5e-3, "location {bin}: {logit} and {expected}");
        }
    }
}

/// What would break: a look that is taught beside the one that points.
#[test]
fn what_is_pointed_at_is_what_the_looks_mix() {
    let (config, params) = (config(), Params::new(&Device::Cpu, 5));
    let mut ops = Candle::evaluating(&params);
    let tokens: Vec<f32> = (0..4 * 128).map(|i| ((i * 37) % 23) as f32 / 8.0 - 1.4).collect();
    let tokens = Tensor::from_vec(tokens, (1, 4, 128), &Device::Cpu).unwrap();
    let things = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.2, 0.9, 0.3]].map(|edges| thing(&[], &edges));
    let Told { rows, places } = told(&mut ops, &config, &tokens, Some(&rows_of(&[&things[0], &things[1]]))).unwrap();
    let mask = Tensor::zeros((1, 5, 6), candle_core::DType::F32, &Device::Cpu).unwrap();
    let pointing = point(&mut ops, &config, (&rows, &places), 1, None, &mask).unwrap();
    let looks = pointing.looks(&mut ops, &config).unwrap();
    assert_eq!(looks.dims(), [1, 5, 6]);
    let places = numbers(&places);
    let mixed = |row: &[f32]| {
        let sum: f32 = row.iter().map(|z| z.exp()).sum();
        let mut mixed = vec![0.0; EDGES];
        for (z, place) in row.iter().zip(places.chunks(PLACED)) {
            mixed.iter_mut().zip(place).for_each(|(to, at)| *to += z.exp() / sum * at);
        }
        mixed
    };
    let found: Vec<f32> = numbers(&looks).chunks(6).flat_map(mixed).collect();
    let found = Tensor::from_vec(found, (1, 5, EDGES), &Device::Cpu).unwrap();
    let expected = numbers(&at_edge(&mut ops, &found, &rows.narrow(1, 1, 5).unwrap()).unwrap());
    let got = numbers(&pointing.locations);
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3));
}

#[test]
fn rows_of_fixed_shape_are_the_same_as_rows_of_their_kinds() {
    let (config, params) = (config(), Params::new(&Device::Cpu, 3));
    let mut ops = Candle::evaluating(&params);
    let width = config.language_width;
    let token: Vec<f32> = (0..width).map(|i| (i % 5) as f32 - 2.0).collect();
    let a = thing(&[2.0; NAMES], &[0.1, 0.2, 0.3, 0.4]);
    let mut filled = a.to_vec();
    filled.resize(width, 0.0);
    let ids = Tensor::new(&[[7_u32, 8, 9]], &Device::Cpu).unwrap();
    let kinds = rows_of(&[&[0.0, 0.0], &[0.0, 1.0], &[1.0, 0.0]]);
    // What a word's row holds beside the word must not matter.
    let raw = rows_of(&[&token, &filled, &token]);
    let got = mixed(&mut ops, &config, &raw, &ids, &kinds).unwrap();
    let seen = told(&mut ops, &config, &rows_of(&[&token]), Some(&rows_of(&[&a]))).unwrap();
    let word = super::super::words(&mut ops, &config, &ids.narrow(1, 2, 1).unwrap()).unwrap();
    let rows = Tensor::cat(&[&seen.rows, &word], 1).unwrap();
    assert!(numbers(&got.rows).iter().zip(numbers(&rows)).all(|(x, y)| (x - y).abs() < 1e-6));
    let places = numbers(&got.places);
    assert_eq!(places[..2 * PLACED], numbers(&seen.places));
    assert!(places[2 * PLACED..].iter().all(|v| *v == 0.0));
}

#[test]
fn a_model_that_is_too_narrow_is_refused_and_one_that_is_told_nothing_has_any_size() {
    let narrow = Config { things: true, ..Config::tiny() };
    let error = narrow.tells_things().unwrap_err().to_string();
    assert!(error.contains("tell things") && error.contains("109"), "{error}");
    Config::tiny().tells_things().unwrap();
    config().tells_things().unwrap();
    Config { things: true, ..Config::kestrel_s() }.tells_things().unwrap();
}

/// What would break: checkpoints and recipes that were made before there were things.
#[test]
fn a_configuration_without_things_is_written_as_before() {
    let plain = Config::kestrel_s();
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("things"), "{text}");
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), plain);
    let told = Config { things: true, ..plain.clone() };
    assert_eq!(serde_json::from_str::<Config>(&serde_json::to_string(&told).unwrap()).unwrap(), told);
    assert_eq!((plain.planes(), told.planes()), (8, 10));
}
