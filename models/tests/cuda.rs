//! On a GPU the model gives what it gives on the CPU, forward and backward. Skipped, and said so, where there is none.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::{Config, vision};
use kestrel_models::ops::{Act, Conv, Ops as _};

fn gpu() -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("SKIPPED: no GPU: {error}");
            None
        }
    }
}

/// Numbers that are the same everywhere.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let at = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    Tensor::from_vec((0..count).map(at).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

fn host(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn near(a: &[f32], b: &[f32], what: &str) {
    let scale = a.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(a.len() == b.len() && most <= 1e-4 * scale, "{what}: {most} of {scale}");
}

/// Output and all gradients of one depthwise convolution.
fn depthwise(device: &Device, size: usize, channels: usize, conv: Conv) -> Vec<Vec<f32>> {
    let params = Params::new(device, 1);
    let x = Var::from_tensor(&numbers(&[2, size, size + 3, channels], 1).to_device(device).unwrap()).unwrap();
    let y = Candle::new(&params).depthwise(x.as_tensor(), "a", conv).unwrap();
    let weights = numbers(y.dims(), 2).to_device(device).unwrap();
    let gradients = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let mut found = vec![host(&y), host(gradients.get(x.as_tensor()).unwrap())];
    found.extend(params.vars().iter().map(|(_, var)| host(gradients.get(var.as_tensor()).unwrap())));
    found
}

#[test]
fn depthwise_convolution_is_that_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (kernel, stride, size, channels) in [(3, 1, 17, 20), (3, 2, 16, 96), (5, 1, 9, 33), (5, 2, 31, 8)] {
        let conv = Conv { kernel, stride, act: Act::Relu6 };
        let (cpu, gpu) = (depthwise(&Device::Cpu, size, channels, conv), depthwise(&gpu, size, channels, conv));
        for (part, (a, b)) in cpu.iter().zip(&gpu).enumerate() {
            near(a, b, &format!("kernel {kernel}, stride {stride}, part {part}"));
        }
    }
}

#[test]
fn the_vision_graph_is_that_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let config = Config::tiny();
    let seen = |device: &Device| {
        let params = Params::new(device, 1);
        let image = numbers(&[1, config.image, config.image, 3], 3).to_device(device).unwrap();
        let seen = vision(&mut Candle::new(&params), &config, &image).unwrap();
        [seen.tokens, seen.embed, seen.fine, seen.spots].map(|x| host(&x))
    };
    for (a, b) in seen(&Device::Cpu).iter().zip(&seen(&gpu)) {
        near(a, b, "vision");
    }
}

#[test]
fn what_is_frozen_there_gets_no_gradient_and_changes_none() {
    let Some(gpu) = gpu() else { return };
    let params = Params::new(&gpu, 1);
    let x = numbers(&[2, 5, 6], 1).to_device(&gpu).unwrap();
    let gradients = || {
        let mut ops = Candle::new(&params);
        let y = ops.linear(&x, "first", 12, true, Act::Silu).unwrap();
        let y = ops.layer_norm(&y, "norm", 1e-5).unwrap();
        let y = ops.linear(&y, "last", 4, true, Act::None).unwrap();
        y.sqr().unwrap().sum_all().unwrap().backward().unwrap()
    };
    let free = gradients();
    params.freeze(|name| !name.starts_with("first"));
    let held = gradients();
    let vars = params.vars();
    assert_eq!(held.get_ids().count(), vars.len(), "the weight and the bias of first");
    for (name, var) in vars {
        near(&host(free.get(&var).unwrap()), &host(held.get(&var).unwrap()), &name);
    }
}
