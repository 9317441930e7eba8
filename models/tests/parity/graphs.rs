//! The three graphs of kestrel-s, small, one feeding the next.

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::export::{Graphs, export};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Config, Proposals, language, mask, vision};
use kestrel_perception::proposals::{CODE, MOST, NAMES, ProposalInputs};

use super::runtimes::{Data, Feed, Outputs, has_onnx_runtime, onnx_runtime, tract};
use super::{TOLERANCE, difference, moved, noises};

const QUERY: [u32; 7] = [40, 41, 300, 7, 20, 1, 2];

fn config() -> Config {
    Config { image: 128, ..Config::tiny() }
}

/// Proposals that no picture gave, and their names.
fn proposals(config: &Config) -> (ProposalInputs, Vec<f32>) {
    let mut inputs = ProposalInputs::default();
    let boxes = [[0.1, 0.2, 0.3, 0.6], [0.5, 0.5, 0.52, 0.55], [0.0, 0.7, 0.9, 1.0]];
    inputs.fill(&boxes, &[config.embed_side(), config.mask_side()]);
    (inputs, noises(5, MOST * NAMES, 3.0))
}

/// What candle gives: tokens, embed, fine, spots, logits, seg, doubt, mask, IoU, object.
fn reference(config: &Config, params: &Params, image: &Tensor) -> Outputs {
    let mut ops = Candle::evaluating(params);
    let seen = vision(&mut ops, config, image).unwrap();
    let images = config.token_side().pow(2);
    // The trainer packs a query without padding; the exported graph pads it.
    let packed = pack(&[vec![QUERY.to_vec()]], images, 0, None);
    let packed = packed.tensors(config.language_width / config.heads, &Device::Cpu).unwrap();
    let said = language(&mut ops, config, &seen.tokens, &packed).unwrap();
    let (inputs, names) = proposals(config);
    let tensor = |data: &[f32], shape: [usize; 3]| Tensor::from_slice(data, &shape, &Device::Cpu).unwrap();
    let proposals = Proposals {
        names: tensor(&names, [1, MOST, NAMES]),
        codes: tensor(&inputs.codes, [1, MOST, CODE]),
        extents: tensor(&inputs.extents, [1, inputs.extents.len() / MOST, MOST]),
        attention: tensor(&inputs.attention, [1, MOST + 1, MOST + 1]),
    };
    let masks = mask(&mut ops, config, &seen, &proposals, &said.seg, 1).unwrap();
    [
        &seen.tokens,
        &seen.embed,
        &seen.fine,
        &seen.spots,
        &said.logits,
        &said.seg,
        &said.doubt,
        &masks.mask,
        &masks.iou,
        &masks.object,
    ]
    .iter()
    .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
    .collect()
}

fn chain(graphs: &Graphs, config: &Config, image: &[f32], run: impl Fn(&[u8], &[Feed]) -> Outputs) -> Outputs {
    let floats =
        |name, shape: &[usize], v: &[f32]| Feed { name, shape: shape.to_vec(), data: Data::Floats(v.to_vec()) };
    let integers = |name, v: Vec<i64>| Feed { name, shape: vec![1, v.len()], data: Data::Integers(v) };
    let side = config.image;
    // The reference picture is channel-last.
    let planes: Vec<f32> = (0..3).flat_map(|c| image.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect();
    let seen = run(&graphs.vision, &[floats("image", &[1, 3, side, side], &planes)]);
    let mut ids: Vec<i64> = QUERY.iter().map(|&id| id.into()).collect();
    ids.resize(config.max_tokens, 0);
    let images = config.token_side().pow(2);
    let tokens = floats("tokens", &[1, images, config.language_width], &seen[0]);
    let said = run(&graphs.language, &[tokens, integers("ids", ids), integers("index", vec![QUERY.len() as i64 - 2])]);
    let (embed, fine) = (config.embed_side().pow(2), config.mask_side().pow(2));
    let (inputs, names) = proposals(config);
    let masks = run(
        &graphs.mask,
        &[
            floats("embed", &[1, embed, config.mask_width], &seen[1]),
            floats("fine", &[1, fine, config.fine_width], &seen[2]),
            floats("seg", &[1, 1, config.mask_width], &said[1]),
            floats("names", &[1, MOST, NAMES], &names),
            floats("codes", &[1, MOST, CODE], &inputs.codes),
            floats("extents", &[1, inputs.extents.len() / MOST, MOST], &inputs.extents),
            floats("attention", &[1, MOST + 1, MOST + 1], &inputs.attention),
        ],
    );
    let mut all: Outputs = seen.into_iter().chain(said).chain(masks).collect();
    // The doubts of padding mean nothing.
    all[6].truncate(QUERY.len());
    all
}

fn compare(runtime: &str, expected: &Outputs, got: &Outputs) {
    let names = ["tokens", "embed", "fine", "spots", "logits", "seg", "doubt", "mask", "iou", "object"];
    for ((name, a), b) in names.iter().zip(expected).zip(got) {
        let apart = difference(a, b);
        println!("{runtime} {name}: {apart:e}");
        assert!(apart < TOLERANCE, "{runtime}: {name} is {apart} apart");
        assert!(a.len() == 1 || a.iter().any(|v| (v - a[0]).abs() > 1e-3), "{name} is constant and proves nothing");
    }
}

#[test]
fn the_exported_model_is_the_trained_one() {
    let config = config();
    let image = noises(3, config.image * config.image * 3, 2.0);
    let tensor = Tensor::from_slice(&image, (1, config.image, config.image, 3), &Device::Cpu).unwrap();
    let made = Params::new(&Device::Cpu, 11);
    reference(&config, &made, &tensor);
    let weights = moved(&made, 0.03);

    let expected = reference(&config, &weights.to_params(&Device::Cpu).unwrap(), &tensor);
    let graphs = export(&config, &weights).unwrap();
    assert_eq!(graphs, export(&config, &weights).unwrap(), "export is not reproducible");
    compare("tract", &expected, &chain(&graphs, &config, &image, tract));
    if has_onnx_runtime() {
        let run = |model: &[u8], feeds: &[Feed]| onnx_runtime(model, feeds).unwrap();
        compare("ONNX Runtime", &expected, &chain(&graphs, &config, &image, run));
    }
}
