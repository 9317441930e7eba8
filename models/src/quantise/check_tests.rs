#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use prost::Message;
use tract_onnx::pb::ModelProto;

use super::*;
use crate::candle::{Candle, Params};
use crate::onnx::Onnx;
use crate::ops::{Act, Conv, Ops};
use crate::quantise::{Method, Observer, Scheme};
use crate::weights::Weights;

/// A block with a residual, then rows that are scored by their own table.
fn model<O: Ops>(ops: &mut O, x: &O::T, ids: &O::T) -> O::T {
    let conv = Conv { kernel: 3, stride: 1, act: Act::Relu6 };
    let y = ops.linear(x, "expand", 32, true, Act::Relu6).unwrap();
    let y = ops.depthwise(&y, "depthwise", conv).unwrap();
    let y = ops.linear(&y, "project", 16, true, Act::None).unwrap();
    let y = ops.residual(&y, x, "project").unwrap();
    let y = ops.conv(&y, "dense", 16, conv).unwrap();
    let rows = ops.to_rows(&y).unwrap();
    let rows = ops.linear(&rows, "mix", 24, true, Act::Gelu).unwrap();
    let words = ops.embedding(ids, "table", 20, 24).unwrap();
    let rows = ops.concat(&[rows, words], 1).unwrap();
    let rows = ops.rms_norm(&rows, "norm", 1e-6).unwrap();
    ops.linear(&rows, "table", 20, false, Act::None).unwrap()
}

fn graph(target: Target, kept: &[&str]) -> (GraphProto, BTreeSet<String>) {
    let (params, observer) = (Params::new(&Device::Cpu, 2), Observer::default());
    let values: Vec<f32> = (0..6 * 6 * 16).map(|i| (i * 31 % 77) as f32 / 30.0 - 1.2).collect();
    let x = Tensor::from_vec(values, (1, 6, 6, 16), &Device::Cpu).unwrap();
    let ids = Tensor::new(&[[3u32, 7, 11]], &Device::Cpu).unwrap();
    model(&mut Candle::evaluating(&params).with_places(&observer), &x, &ids);
    let kept: BTreeSet<String> = kept.iter().map(ToString::to_string).collect();
    let scheme = Scheme::of(&observer, target, Method::MinMax, &kept).unwrap();
    let weights = Weights::from_params(&params).unwrap();
    let mut onnx = Onnx::quantised(&weights, &scheme).unwrap();
    let x = onnx.input_map("x", &[1, 6, 6, 16]).unwrap();
    let ids = onnx.input_integers("ids", &[1, 3]);
    let y = model(&mut onnx, &x, &ids);
    onnx.output("y", &y, &[1, 39, 20]).unwrap();
    (ModelProto::decode(onnx.finish("checked").as_slice()).unwrap().graph.unwrap(), kept)
}

fn node<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut NodeProto {
    graph.node.iter_mut().find(|node| node.name == name).unwrap()
}

fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

/// What is found once a sound graph was changed.
fn broken(edit: impl Fn(&mut GraphProto)) -> Vec<Finding> {
    let (mut graph, wide) = graph(Target::TensorRt, &[]);
    edit(&mut graph);
    check(&graph, Target::TensorRt, &wide)
}

fn breaks(found: &[Finding], rule: Rule, node: &str) {
    assert!(found.iter().any(|f| f.rule == rule && f.node.contains(node)), "{rule:?} at {node}: {found:?}");
}

#[test]
fn what_is_emitted_keeps_the_rules() {
    let cases: [(Target, &[&str]); 4] = [
        (Target::TensorRt, &[]),
        (Target::Cpu, &[]),
        (Target::TensorRt, &["depthwise"]),
        (Target::TensorRt, &["table", "project"]),
    ];
    for (target, kept) in cases {
        let (graph, wide) = graph(target, kept);
        let found = check(&graph, target, &wide);
        assert!(found.is_empty(), "{target:?} {kept:?}: {found:?}");
        assert!(graph.node.iter().any(|node| node.op_type == "QuantizeLinear"));
    }
}

#[test]
fn each_input_is_rounded_once_and_kernels_are_integers() {
    let (graph, _) = graph(Target::TensorRt, &[]);
    let count = |kind: &str| graph.node.iter().filter(|node| node.op_type == kind).count();
    // The block's input is read by two layers' places, alike; there are six layers.
    assert_eq!(count("QuantizeLinear"), 6);
    let integers = graph.initializer.iter().filter(|t| t.data_type == DataType::Int8 as i32 && t.dims.len() > 1);
    // The table is stored twice, because it embeds and scores.
    assert_eq!(integers.count(), 7);
    let stem = graph.node.iter().find(|node| node.name == "expand").unwrap();
    assert_eq!(stem.input, ["expand/rounded", "expand.weight/kernel/f32", "expand.bias"]);
}

#[test]
fn zero_points_scales_and_codes() {
    let found = broken(|graph| tensor(graph, "i8:0").raw_data = vec![3]);
    breaks(&found, Rule::Symmetric, "expand/codes");
    let found = broken(|graph| tensor(graph, "i8:0").data_type = DataType::Uint8 as i32);
    breaks(&found, Rule::Codes, "expand/codes");
    for scale in [0.0_f32, -0.1, f32::NAN, f32::INFINITY] {
        let found = broken(|graph| {
            let name = node(graph, "dense/codes").input[1].clone();
            tensor(graph, &name).raw_data = scale.to_le_bytes().to_vec();
        });
        breaks(&found, Rule::Scale, "dense/codes");
    }
    let found = broken(|graph| node(graph, "dense/codes").input[1] = "x".into());
    breaks(&found, Rule::Scale, "dense/codes");
    let found = broken(|graph| tensor(graph, "dense.weight/kernel").data_type = DataType::Uint8 as i32);
    breaks(&found, Rule::Codes, "dense.weight/kernel/f32");
    let found = broken(|graph| node(graph, "dense/codes").input.truncate(2));
    breaks(&found, Rule::Codes, "dense/codes");
}

#[test]
fn granularity_and_axis() {
    let found = broken(|graph| {
        let name = node(graph, "dense/codes").input[1].clone();
        let scale = tensor(graph, &name);
        (scale.dims, scale.raw_data) = (vec![16], 0.1_f32.to_le_bytes().repeat(16));
    });
    breaks(&found, Rule::Granularity, "dense/codes");
    for (kernel, wrong) in [("dense.weight/kernel/f32", 1), ("mix.weight/transposed/f32", 0), ("table.weight#2/f32", 1)]
    {
        let found = broken(|graph| node(graph, kernel).attribute[0].i = wrong);
        breaks(&found, Rule::Axis, kernel);
    }
    let found = broken(|graph| {
        let scale = tensor(graph, "mix.weight/transposed/scale");
        (scale.dims, scale.raw_data) = (vec![], 0.1_f32.to_le_bytes().to_vec());
    });
    breaks(&found, Rule::Granularity, "mix.weight/transposed/f32");
}

#[test]
fn pairs_and_layers() {
    // Q without DQ: the layer reads what was not dequantised.
    let found = broken(|graph| node(graph, "dense").input[0] = "dense/codes".into());
    breaks(&found, Rule::Paired, "dense/codes");
    breaks(&found, Rule::BothInputs, "dense");
    // DQ of what was never quantised.
    let found = broken(|graph| node(graph, "dense/rounded").input[0] = "x".into());
    breaks(&found, Rule::Paired, "dense/rounded");
    // Another scale on the way back.
    let found = broken(|graph| {
        let other = node(graph, "mix/codes").input[1].clone();
        node(graph, "dense/rounded").input[1] = other;
    });
    breaks(&found, Rule::Paired, "dense/codes");
    // A bias of integers.
    let found = broken(|graph| node(graph, "dense").input[2] = "dense.weight/kernel/f32".into());
    breaks(&found, Rule::Codes, "dense");
    // A norm that reads what was rounded for a layer.
    let found = broken(|graph| {
        let norm = graph.node.iter_mut().find(|node| node.op_type == "Erf").unwrap();
        norm.input[0] = "mix/rounded".into();
    });
    breaks(&found, Rule::OnlyLayers, "mix/rounded");
}

#[test]
fn a_wide_layer_between_quantised_ones_must_be_meant() {
    let (graph, wide) = graph(Target::TensorRt, &["depthwise"]);
    assert!(check(&graph, Target::TensorRt, &wide).is_empty());
    let found = check(&graph, Target::TensorRt, &BTreeSet::new());
    breaks(&found, Rule::NoGap, "depthwise");
    // A sentence for a person.
    let told = found[0].to_string();
    assert!(told.contains("depthwise") && told.contains("NoGap") && told.contains("wide"), "{told}");
}

#[test]
fn circles_and_empty_graphs_end() {
    assert!(check(&GraphProto::default(), Target::TensorRt, &BTreeSet::new()).is_empty());
    let found = broken(|graph| {
        node(graph, "dense").input[0] = "dense".into();
        node(graph, "mix.weight/transposed/f32").input[0] = "mix.weight/transposed/f32".into();
    });
    assert!(!found.is_empty());
}
