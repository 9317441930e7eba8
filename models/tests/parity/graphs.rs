//! The three graphs of kestrel-s, small, one feeding the next.

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::export::{Graphs, export, open_vision};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Config, Proposals, language, mask, vision};
use kestrel_models::weights::Weights;
use kestrel_onboard::engine::{Engine, Graph, GraphBytes, Input, TractEngine};
use kestrel_perception::proposals::{CODE, MOST, NAMES, ProposalInputs};

use super::runtimes::{Data, Feed, Outputs, has_onnx_runtime, onnx_runtime, tract};
use super::{TOLERANCE, difference, moved, noises};

const QUERY: [u32; 7] = [40, 41, 300, 7, 20, 1, 2];

pub(super) fn config() -> Config {
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
pub(super) fn reference(config: &Config, mut ops: Candle<'_>, image: &Tensor) -> Outputs {
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

pub(super) fn chain(
    graphs: &Graphs,
    config: &Config,
    image: &[f32],
    run: impl Fn(&[u8], &[Feed]) -> Outputs,
) -> Outputs {
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

/// Parameters as training begins with them, but for the biases.
pub(super) fn weights(config: &Config, image: &Tensor) -> Weights {
    let made = Params::new(&Device::Cpu, 11);
    reference(config, Candle::evaluating(&made), image);
    moved(&made, 0.03)
}

#[test]
fn the_exported_model_is_the_trained_one() {
    let config = config();
    let image = noises(3, config.image * config.image * 3, 2.0);
    let tensor = Tensor::from_slice(&image, (1, config.image, config.image, 3), &Device::Cpu).unwrap();
    let weights = weights(&config, &tensor);
    let params = weights.to_params(&Device::Cpu).unwrap();
    let expected = reference(&config, Candle::evaluating(&params), &tensor);
    let graphs = export(&config, &weights).unwrap();
    assert_eq!(graphs, export(&config, &weights).unwrap(), "export is not reproducible");
    compare("tract", &expected, &chain(&graphs, &config, &image, tract));
    if has_onnx_runtime() {
        let run = |model: &[u8], feeds: &[Feed]| onnx_runtime(model, feeds).unwrap();
        compare("ONNX Runtime", &expected, &chain(&graphs, &config, &image, run));
    }
}

/// What would break: tiles seen together that are not what each is alone, or a bundle that tract cannot take any more.
#[test]
fn an_open_vision_graph_sees_one_view_or_several() {
    let config = config();
    let side = config.image;
    let pictures = [noises(5, 3 * side * side, 2.0), noises(6, 3 * side * side, 2.0)];
    let made = Params::new(&Device::Cpu, 12);
    let channel_last = |planes: &[f32]| {
        let tensor = Tensor::from_slice(planes, (1, 3, side, side), &Device::Cpu).unwrap();
        tensor.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
    };
    // All graphs are loaded together, so all parameters are needed.
    reference(&config, Candle::evaluating(&made), &channel_last(&pictures[0]));
    let mut weights = Weights::from_params(&made).unwrap();
    weights.round_f16().unwrap();
    let params = weights.to_params(&Device::Cpu).unwrap();
    let expected = pictures.each_ref().map(|picture| {
        let seen = vision(&mut Candle::evaluating(&params), &config, &channel_last(picture)).unwrap();
        [&seen.tokens, &seen.embed, &seen.fine, &seen.spots].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
    });

    let graphs = export(&config, &weights).unwrap();
    let open = open_vision(&config, &weights).unwrap();
    assert_ne!(open, graphs.vision);
    let bytes = GraphBytes { vision: &open, language: &graphs.language, mask: &graphs.mask, explain: None };
    let mut engine = TractEngine::load(&bytes).unwrap();
    assert_eq!(engine.input_shapes(Graph::Vision).unwrap(), [[1, 3, side, side]]);
    let mut outputs = <[kestrel_onboard::engine::Tensor; 4]>::default();
    engine.run(Graph::Vision, &[Input::F32(&[1, 3, side, side], &pictures[0])], &mut outputs).unwrap();
    for (output, expected) in outputs.iter().zip(&expected[0]) {
        assert!(difference(&output.data, expected) < TOLERANCE);
    }

    if has_onnx_runtime() {
        let data = Data::Floats(pictures.concat());
        let both = onnx_runtime(&open, &[Feed { name: "image", shape: vec![2, 3, side, side], data }]).unwrap();
        for (output, got) in both.iter().enumerate() {
            for (view, part) in got.chunks_exact(got.len() / 2).enumerate() {
                let apart = difference(part, &expected[view][output]);
                assert!(apart < TOLERANCE, "output {output} of view {view} is {apart} apart");
            }
        }
    }
}
