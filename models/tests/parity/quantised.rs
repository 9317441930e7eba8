//! The quantised graphs, small: what candle rounds is what the runtimes round.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use kestrel_models::candle::Candle;
use kestrel_models::export::{Graphs, Room, explain, explain_quantised, export, export_quantised};
use kestrel_models::kestrel::Config;
use kestrel_models::onnx::read;
use kestrel_models::quantise::{FakeQuant, Method, Observer, Scheme, Target, check};
use kestrel_models::weights::Weights;

use super::graphs::{chain, config, reference, weights};
use super::runtimes::{Feed, Outputs, has_onnx_runtime, onnx_runtime, tract};
use super::{difference, noises};

/// Where a value lies on the edge of two codes, the order of a sum decides: that moves it by one step, 1/127 of the range,
/// and what follows by a part of that.
const APART: f32 = 1e-2;

fn picture(config: &Config, seed: u64) -> (Vec<f32>, Tensor) {
    let image = noises(seed, config.image * config.image * 3, 2.0);
    let tensor = Tensor::from_slice(&image, (1, config.image, config.image, 3), &Device::Cpu).unwrap();
    (image, tensor)
}

/// Ranges from three pictures, none of them the one that is compared.
fn scheme(config: &Config, weights: &Weights, target: Target, kept: &BTreeSet<String>) -> Scheme {
    let (params, observer) = (weights.to_params(&Device::Cpu).unwrap(), Observer::default());
    for seed in 21..24 {
        let ops = Candle::evaluating(&params).with_places(&observer);
        reference(config, ops, &picture(config, seed).1);
    }
    Scheme::of(&observer, target, Method::MinMax, kept).unwrap()
}

/// IoU of the pixels above zero.
fn overlap(a: &[f32], b: &[f32]) -> f64 {
    let count = |f: &dyn Fn(bool, bool) -> bool| a.iter().zip(b).filter(|(a, b)| f(**a > 0.0, **b > 0.0)).count();
    count(&|a, b| a && b) as f64 / count(&|a, b| a || b).max(1) as f64
}

fn agree(runtime: &str, expected: &Outputs, got: &Outputs) {
    // Tokens, embed, fine, spots, logits, seg, doubt, mask, IoU, object.
    for (at, name) in [(4, "logits"), (5, "seg"), (6, "doubt"), (8, "iou"), (9, "object")] {
        let apart = difference(&expected[at], &got[at]);
        println!("{runtime} {name}: {apart:e}");
        assert!(apart < APART, "{runtime}: {name} is {apart} apart");
    }
    let overlap = overlap(&expected[7], &got[7]);
    println!("{runtime} masks: {overlap}");
    assert!(overlap >= 0.98, "{runtime}: the masks overlap by {overlap}");
}

fn parity(target: Target) {
    let config = config();
    let (image, tensor) = picture(&config, 3);
    let weights = weights(&config, &tensor);
    let scheme = scheme(&config, &weights, target, &BTreeSet::new());
    let params = weights.to_params(&Device::Cpu).unwrap();
    let whole = reference(&config, Candle::evaluating(&params), &tensor);
    let places = FakeQuant(&scheme);
    let rounded = reference(&config, Candle::evaluating(&params).with_places(&places), &tensor);
    // Otherwise agreement would prove nothing.
    assert!(difference(&whole[4], &rounded[4]) > 1e-4, "nothing was rounded");

    let graphs = export_quantised(&config, &weights, &scheme).unwrap();
    assert_eq!(graphs, export_quantised(&config, &weights, &scheme).unwrap(), "export is not reproducible");
    agree("tract", &rounded, &chain(&graphs, &config, &image, tract));
    if has_onnx_runtime() {
        let run = |model: &[u8], feeds: &[Feed]| onnx_runtime(model, feeds).unwrap();
        agree("ONNX Runtime", &rounded, &chain(&graphs, &config, &image, run));
    }
}

#[test]
fn graphs_for_tensorrt_round_as_candle_does() {
    parity(Target::TensorRt);
}

#[test]
fn graphs_for_a_processor_round_as_candle_does() {
    parity(Target::Cpu);
}

fn files(graphs: &Graphs) -> [(&str, &[u8]); 3] {
    [("vision", &graphs.vision), ("language", &graphs.language), ("mask", &graphs.mask)]
}

#[test]
fn quantised_graphs_keep_the_rules_and_are_small() {
    let config = config();
    let (_, tensor) = picture(&config, 3);
    let weights = weights(&config, &tensor);
    let wide = export(&config, &weights).unwrap();
    assert_eq!(read::weights_of_all(files(&wide)).unwrap(), weights, "a bundle gives its weights back");
    for (target, kept) in
        [(Target::TensorRt, None), (Target::Cpu, None), (Target::TensorRt, Some("trunk.blocks.4.depthwise"))]
    {
        let kept: BTreeSet<String> = kept.map(ToOwned::to_owned).into_iter().collect();
        let scheme = scheme(&config, &weights, target, &kept);
        let graphs = export_quantised(&config, &weights, &scheme).unwrap();
        let room = Room { question: 5, answer: 6, rows: 3 };
        let decoding = explain_quantised(&config, &weights, &room, &scheme).unwrap();
        assert!(decoding.len() < explain(&config, &weights, &room).unwrap().len());
        for (name, bytes) in files(&graphs).into_iter().chain([("explain", decoding.as_slice())]) {
            let found = check(&read::graph(bytes, name).unwrap(), target, &scheme.kept);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
        // Of the trunk, which keeps its full widths here, nearly all is integers.
        let (whole, small) = (wide.vision.len() as f64 * 2.0, graphs.vision.len() as f64);
        assert!(small < 0.30 * whole, "{small} of {whole} bytes");
        assert!(read::weights(&graphs.vision, "vision").unwrap_err().to_string().contains("quantised already"));
    }
}

#[test]
fn a_weight_that_is_no_number_is_refused_by_name() {
    let config = config();
    let (_, tensor) = picture(&config, 3);
    let mut weights = weights(&config, &tensor);
    let scheme = scheme(&config, &weights, Target::TensorRt, &BTreeSet::new());
    let (shape, mut data) = weights.get("trunk.stem.weight").unwrap().clone();
    data[5] = f32::NAN;
    weights.insert("trunk.stem.weight", shape, data).unwrap();
    let error = export_quantised(&config, &weights, &scheme).unwrap_err().to_string();
    assert!(error.contains("trunk.stem.weight") && error.contains("NaN"), "{error}");
}
