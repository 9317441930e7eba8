//! On a GPU the model gives what it gives on the CPU, forward and backward. Skipped, and said so, where there is none.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use kestrel_models::candle::overlap::{Drawn, Group, Member};
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

/// Masks, some with a vote and some with a target, beside silence with and without one. With these numbers no
/// probability and no mean of votes comes nearer to a half than 4e-6, so that no rounding decides about a cell.
fn compared(masks: usize, cells: usize) -> (Tensor, Group) {
    let logits = numbers(&[masks, cells], cells).affine(9.0, 0.53).unwrap();
    let member = |number: usize| Member {
        mask: Some(number),
        target: [Some(0), Some(1), None][number % 3],
        votes: number % 4 != 3,
    };
    let silent = |votes: bool| Member { mask: None, target: Some(1), votes };
    let members = (0..masks).map(member).chain([silent(true), silent(false)]).collect();
    let every = |step: usize| (0..cells).map(|cell| cell % step == 0).collect();
    (logits, Group { members, targets: vec![every(3), every(7)], leave_one_out: true })
}

#[test]
fn what_masks_share_is_that_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    // One cell, less than a block and no whole number of warps, a mask of kestrel-s, more than all blocks at once.
    for (masks, cells) in [(1, 1), (5, 77), (9, 16_384), (3, 300_001)] {
        let (logits, group) = compared(masks, cells);
        let (first, rest) = (logits.narrow(0, 0, 1).unwrap(), logits.narrow(0, 1, masks - 1).unwrap());
        let on = |device: &Device| {
            let parts = [&first, &rest].map(|part| part.to_device(device).unwrap());
            Drawn::new(&parts).unwrap()
        };
        let (here, there) = (on(&Device::Cpu), on(&gpu));
        for leave_one_out in [true, false] {
            let group = Group { leave_one_out, ..group.clone() };
            let (cpu, gpu) = (here.count(&group, cells).unwrap(), there.count(&group, cells).unwrap());
            assert_eq!(cpu, gpu, "{masks} masks of {cells} cells");
            assert_eq!(gpu, there.count(&group, cells).unwrap(), "a second run counts otherwise");
            assert!(cells == 1 || cpu.iter().any(|c| c.on_consensus > 0 && c.on_consensus < c.drawn), "{cpu:?}");
        }
    }
}

#[test]
fn a_broken_mask_and_an_endless_group_are_told_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    let (logits, group) = compared(5, 77);
    let mut values = host(&logits);
    values[3 * 77 + 40] = f32::NAN;
    let drawn = Drawn::new(&[Tensor::from_vec(values, (5, 77), &gpu).unwrap()]).unwrap();
    let broken: Vec<u64> = drawn.count(&group, 77).unwrap().iter().map(|counts| counts.broken).collect();
    assert_eq!(broken, [0, 0, 0, 1, 0, 0, 0]);
    let endless = Group { members: vec![Member::default(); 513], ..Group::default() };
    let error = drawn.count(&endless, 77).unwrap_err().to_string();
    assert!(error.contains("up to 512 members"), "{error}");
    assert!(drawn.count(&Group::default(), 77).unwrap().is_empty());
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
