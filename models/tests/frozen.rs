//! What a backward pass leaves: gradients of what trains, and none that is made for a frozen parameter and found by
//! nobody, because everybody looks by parameter.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use kestrel_models::candle::lora::Lora;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::ops::{Act, Conv, Init, Ops as _};

/// Both ways through the same parameters: our kernels, and what a GPU runs.
fn both(params: &Params) -> [(&'static str, Candle<'_>); 2] {
    [("kernels", Candle::new(params)), ("composed", Candle::composed(params))]
}

/// Deterministic numbers in (-1, 1).
fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let at = |i: usize| (i * 7919 % 2003) as f32 / 1001.5 - 1.0;
    Tensor::from_vec((0..count).map(at).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

/// Numbers in all gradients that a backward pass leaves, whomever they are of.
fn left(y: &Tensor) -> usize {
    let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    store.get_ids().map(|&id| store.get_id(id).unwrap().elem_count()).sum()
}

fn trainable(params: &Params) -> usize {
    params.vars().iter().map(|(_, var)| var.elem_count()).sum()
}

/// Operations that take a parameter, none of which makes a constant that gets a gradient.
fn layers(ops: &mut Candle<'_>) -> Tensor {
    let x = ops.linear(&numbers(&[2, 5, 6]), "first", 12, true, Act::Gelu).unwrap();
    let x = ops.layer_norm(&x, "norm", 1e-5).unwrap();
    let q = ops.linear(&x, "query", 12, false, Act::None).unwrap();
    let x = ops.attention(&q, &x, &x, 3, 3, None).unwrap();
    let own = ops.parameter("own", &[1, 1, 12], Init::Ones).unwrap();
    let x = ops.add(&x, &own).unwrap();
    let gain = ops.parameter("gain", &[1, 5, 1], Init::Ones).unwrap();
    let x = ops.mul(&gain, &x).unwrap();
    let keys = ops.parameter("keys", &[2, 7, 12], Init::Normal(1.0)).unwrap();
    let x = ops.matmul_t(&x, &keys).unwrap();
    let x = ops.rms_norm(&x, "rms", 1e-5).unwrap();
    ops.linear(&x, "last", 4, true, Act::Sigmoid).unwrap()
}

fn convolutions(ops: &mut Candle<'_>) -> Tensor {
    let conv = |kernel, stride| Conv { kernel, stride, act: Act::Relu6 };
    let x = ops.conv(&numbers(&[1, 8, 8, 3]), "stem", 8, conv(3, 2)).unwrap();
    let x = ops.depthwise(&x, "depthwise", conv(3, 1)).unwrap();
    let x = ops.linear(&x, "project", 6, true, Act::Silu).unwrap();
    ops.conv(&x, "out", 2, conv(3, 1)).unwrap()
}

fn only_what_trains_is_left(params: &Params, frozen: &str) {
    for (way, mut ops) in both(params) {
        assert_eq!(left(&layers(&mut ops)), trainable(params), "{frozen} frozen, {way}");
    }
}

#[test]
fn frozen_parameters_allocate_no_gradient() {
    let params = Params::new(&Device::Cpu, 3);
    layers(&mut Candle::new(&params));
    only_what_trains_is_left(&params, "nothing");
    for part in ["first", "norm", "query", "own", "gain", "keys", "rms", "last"] {
        params.freeze(|name| name.starts_with(part));
        only_what_trains_is_left(&params, part);
        params.freeze(|name| !name.starts_with(part));
        only_what_trains_is_left(&params, &format!("all but {part}"));
    }
}

#[test]
fn matrices_with_adapters_allocate_no_gradient() {
    let params = Params::new(&Device::Cpu, 3);
    layers(&mut Candle::new(&params));
    let free = trainable(&params);
    assert_eq!(params.adapt(|_| true, Lora { rank: 1, alpha: 2.0 }).unwrap(), 3, "first, query and last");
    assert!(trainable(&params) < free, "adapters are smaller than what they adapt");
    only_what_trains_is_left(&params, "every matrix");
    params.freeze(|name| name.ends_with(".lora_a"));
    only_what_trains_is_left(&params, "half of every adapter");
    params.freeze(|name| !name.contains(".lora_"));
    only_what_trains_is_left(&params, "all but the adapters");
}

/// Composed convolutions make constants (their padding, the bounds of an activation) that get gradients whatever is
/// frozen: what is frozen must be missing from the sum.
#[test]
fn frozen_convolutions_allocate_no_gradient() {
    let params = Params::new(&Device::Cpu, 3);
    convolutions(&mut Candle::new(&params));
    for (way, mut ops) in both(&params) {
        params.freeze(|_| false);
        let (free, all) = (left(&convolutions(&mut ops)), trainable(&params));
        for part in ["depthwise", "project", "out"] {
            params.freeze(|name| name.starts_with(part));
            let frozen = all - trainable(&params);
            assert!(frozen > 0, "{part} has parameters");
            assert_eq!(left(&convolutions(&mut ops)) + frozen, free, "{part} frozen, {way}");
        }
    }
}
