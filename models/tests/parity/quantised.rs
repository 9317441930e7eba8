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

/// How far results may be apart where one layer is rounded: a value on the edge of two codes falls to one or the other by the
/// order of a sum, which moves it by one step, 1/127 of the range, and what follows by a part of that.
const APART: f32 = 1e-2;
/// How far they may be apart where all layers are rounded, as a part of what rounding itself moves, root mean square. Each
/// layer makes more values fall to another side, so that after some forty of them two readings have rounding noise of their
/// own (apart by the square root of 2); a wrong scale or kernel would be apart by much more than the noise.
const NOISE: f32 = 1.5;

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

const NAMES: [&str; 10] = ["tokens", "embed", "fine", "spots", "logits", "seg", "doubt", "mask", "iou", "object"];

fn agree(runtime: &str, expected: &Outputs, got: &Outputs) {
    for (at, name) in NAMES.iter().enumerate() {
        let apart = difference(&expected[at], &got[at]);
        assert!(apart < APART, "{runtime}: {name} is {apart} apart");
    }
    let overlap = overlap(&expected[7], &got[7]);
    assert!(overlap >= 0.98, "{runtime}: the masks overlap by {overlap}");
}

/// Root mean square of the difference.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (sum / a.len() as f32).sqrt()
}

fn readings(config: &Config, weights: &Weights, scheme: &Scheme, seed: u64) -> (Outputs, Vec<(&'static str, Outputs)>) {
    let (image, tensor) = picture(config, seed);
    let params = weights.to_params(&Device::Cpu).unwrap();
    let places = FakeQuant(scheme);
    let rounded = reference(config, Candle::evaluating(&params).with_places(&places), &tensor);
    let graphs = export_quantised(config, weights, scheme).unwrap();
    assert_eq!(graphs, export_quantised(config, weights, scheme).unwrap(), "export is not reproducible");
    let mut all = vec![("tract", chain(&graphs, config, &image, tract))];
    if has_onnx_runtime() {
        let run = |model: &[u8], feeds: &[Feed]| onnx_runtime(model, feeds).unwrap();
        all.push(("ONNX Runtime", chain(&graphs, config, &image, run)));
    }
    (rounded, all)
}

fn parity(target: Target) {
    let config = config();
    let (_, tensor) = picture(&config, 3);
    let weights = weights(&config, &tensor);
    let scheme = scheme(&config, &weights, target, &BTreeSet::new());
    let whole = reference(&config, Candle::evaluating(&weights.to_params(&Device::Cpu).unwrap()), &tensor);
    let (rounded, all) = readings(&config, &weights, &scheme, 3);
    for (runtime, got) in all {
        for (at, name) in NAMES.iter().enumerate().take(6) {
            let (noise, apart) = (apart(&whole[at], &rounded[at]), apart(&rounded[at], &got[at]));
            println!("{runtime} {name}: rounding moves it by {noise:e}, the runtime is {apart:e} apart");
            assert!(noise > 1e-5, "nothing was rounded");
            assert!(apart < NOISE * noise, "{runtime}: {name} is {apart} apart where rounding moves it by {noise}");
        }
    }
    // Every thirteenth layer alone, so that what is compared is that layer and not noise.
    let layers: Vec<&String> = scheme.layers.keys().step_by(13).collect();
    assert!(layers.len() > 6, "{layers:?}");
    for layer in layers {
        let (rounded, all) = readings(&config, &weights, &scheme.only(&BTreeSet::from([layer.clone()])), 3);
        for (runtime, got) in all {
            agree(&format!("{runtime}, {layer} alone"), &rounded, &got);
        }
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
