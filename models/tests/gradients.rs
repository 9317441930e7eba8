//! The candle interpreter's kernels: forward and backward against the slow composition of candle's own operations,
//! and backward against central finite differences, so that a wrong derivative or a wrong sum cannot hide.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params, sum_grads};
use kestrel_models::error::Result;
use kestrel_models::ops::{Act, Conv, Init, Ops};
use std::collections::HashMap;

const ACTS: [Act; 6] = [Act::None, Act::Relu, Act::Relu6, Act::Gelu, Act::Silu, Act::Sigmoid];
/// Entries of each parameter that are moved for the finite differences.
const PROBES: usize = 24;

/// Deterministic numbers in (-1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn weighted(y: &Tensor, cotangent: &[f32]) -> f64 {
    values(y).iter().zip(cotangent).map(|(&y, &c)| f64::from(y) * f64::from(c)).sum()
}

fn gradients(y: &Tensor, cotangent: &[f32], params: &Params) -> HashMap<String, Tensor> {
    let cotangent = Tensor::from_slice(cotangent, y.shape(), &Device::Cpu).unwrap();
    let store = (y * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
    sum_grads(vec![store], &params.vars()).unwrap()
}

fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-3f32, |scale, x| scale.max(x.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance * scale,
            "{name}[{i}]: got {got}, expected {expected} (±{tolerance}·{scale})"
        );
    }
}

/// Checks `f`, whose inputs are parameters, with values in (-`spread`, `spread`).
fn check(name: &str, spread: f32, f: impl Fn(&mut Candle<'_>) -> Result<Tensor>) {
    let params = Params::new(&Device::Cpu, 1);
    f(&mut Candle::new(&params)).expect(name);
    let mut numbers = Numbers(name.bytes().map(u64::from).sum());
    for (name, var) in params.vars() {
        let fresh: Vec<f32> = numbers.take(var.elem_count()).iter().map(|x| x * spread).collect();
        params.insert(&name, &Tensor::from_vec(fresh, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }

    let y = f(&mut Candle::new(&params)).expect(name);
    let reference = f(&mut Candle::composed(&params)).expect(name);
    assert_eq!(y.dims(), reference.dims(), "{name}");
    assert_close(name, &values(&y), &values(&reference), 2e-5);

    let cotangent = numbers.take(y.elem_count());
    let grads = gradients(&y, &cotangent, &params);
    let reference = gradients(&reference, &cotangent, &params);
    for (parameter, var) in params.vars() {
        let label = format!("{name}: gradient of {parameter}");
        let grad = values(grads.get(&parameter).unwrap_or_else(|| panic!("{label} is missing")));
        assert_close(&label, &grad, &values(&reference[&parameter]), 1e-3);
        differences(&label, &params, &parameter, &grad, &f, &cotangent);
        assert_eq!(grads[&parameter].dims(), var.dims(), "{label}");
    }
}

fn differences(
    label: &str,
    params: &Params,
    parameter: &str,
    grad: &[f32],
    f: impl Fn(&mut Candle<'_>) -> Result<Tensor>,
    cotangent: &[f32],
) {
    let original = params.tensors()[parameter].copy().unwrap();
    let scale = grad.iter().fold(1e-2f32, |scale, x| scale.max(x.abs()));
    // A step may cross a kink of a rectifier, where the difference means nothing: allow it once in a while.
    let mut crossed = 0;
    let probes = PROBES.min(grad.len());
    for probe in 0..probes {
        let at = probe * grad.len() / probes;
        let moved = |step: f32| {
            let mut moved = values(&original);
            moved[at] += step;
            params.insert(parameter, &Tensor::from_vec(moved, original.shape(), &Device::Cpu).unwrap()).unwrap();
            weighted(&f(&mut Candle::evaluating(params)).unwrap(), cotangent)
        };
        // The smaller step is noisier, yet crosses fewer kinks.
        let agrees = [1e-3f32, 1e-4].iter().any(|&step| {
            let difference = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            (difference - f64::from(grad[at])).abs() <= f64::from(1e-2 * scale)
        });
        if !agrees {
            crossed += 1;
            eprintln!("{label}[{at}]: {} is not what finite differences give", grad[at]);
        }
    }
    params.insert(parameter, &original).unwrap();
    assert!(crossed * 12 <= probes, "{label}: {crossed} of {probes} finite differences disagree");
}

fn input(ops: &mut Candle<'_>, shape: &[usize]) -> Result<Tensor> {
    ops.parameter("x", shape, Init::Normal(1.0))
}

#[test]
fn depthwise() {
    // 91 channels go through every block width of the kernels: 64, 16, 8 and 1.
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1), (7, 1)] {
        for (act, shape) in [
            (Act::None, [1, 5, 6, 91]),
            (Act::Relu6, [2, 6, 7, 43]),
            (Act::Gelu, [2, 2, 2, 3]),
            (Act::Sigmoid, [1, 8, 1, 8]),
        ] {
            check(&format!("depthwise {kernel} / {stride} {act:?} {shape:?}"), 2.5, |ops| {
                let x = input(ops, &shape)?;
                ops.depthwise(&x, "w", Conv { kernel, stride, act })
            });
        }
    }
}

#[test]
fn dense_convolution() {
    for (kernel, stride, act) in [(3, 2, Act::Relu6), (3, 1, Act::None), (5, 2, Act::Silu), (1, 1, Act::Relu)] {
        check(&format!("conv {kernel} / {stride} {act:?}"), 1.5, |ops| {
            let x = input(ops, &[2, 7, 6, 3])?;
            ops.conv(&x, "w", 5, Conv { kernel, stride, act })
        });
    }
}

#[test]
fn linear() {
    for act in ACTS {
        for bias in [true, false] {
            check(&format!("linear of rows, {act:?}, bias {bias}"), 1.5, |ops| {
                let x = input(ops, &[2, 5, 13])?;
                ops.linear(&x, "w", 19, bias, act)
            });
        }
        check(&format!("linear of a map, {act:?}"), 1.5, |ops| {
            let x = input(ops, &[2, 3, 4, 6])?;
            ops.linear(&x, "w", 7, true, act)
        });
    }
    // A product wide enough for several tasks of the bias pass.
    check("linear of many rows", 1.0, |ops| {
        let x = input(ops, &[1, 700, 3])?;
        ops.linear(&x, "w", 40, true, Act::Sigmoid)
    });
}

#[test]
fn activations() {
    for act in ACTS {
        check(&format!("activate {act:?}"), 8.0, |ops| {
            let x = input(ops, &[2, 3, 41])?;
            ops.activate(&x, act)
        });
    }
}

#[test]
fn norms() {
    for width in [1, 5, 37, 64] {
        check(&format!("rms_norm {width}"), 1.0, |ops| {
            let x = input(ops, &[2, 3, width])?;
            ops.rms_norm(&x, "w", 1e-2)
        });
        check(&format!("layer_norm {width}"), 1.0, |ops| {
            let x = input(ops, &[2, 3, width])?;
            ops.layer_norm(&x, "w", 1e-2)
        });
    }
}

#[test]
fn pixels_that_move() {
    for factor in [1, 2, 3] {
        check(&format!("upsample_nearest {factor}"), 1.0, |ops| {
            let x = input(ops, &[2, 3, 2, 5])?;
            ops.upsample_nearest(&x, factor)
        });
        check(&format!("repeat_batch {factor}"), 1.0, |ops| {
            let x = input(ops, &[2, 3, 2])?;
            ops.repeat_batch(&x, factor)
        });
    }
    check("map to rows and back", 1.0, |ops| {
        let x = input(ops, &[2, 3, 4, 5])?;
        let rows = ops.to_rows(&x)?;
        let rows = ops.scale(&rows, -2.5)?;
        ops.to_map(&rows, 4, 3)
    });
}

#[test]
fn rope() {
    for tables in [1, 2] {
        check(&format!("rope, {tables} tables"), 1.0, |ops| {
            let x = input(ops, &[2, 5, 18])?;
            let angles = Numbers(3).take(tables * 5 * 3);
            let cos: Vec<f32> = angles.iter().map(|a| (3.0 * a).cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| (3.0 * a).sin()).collect();
            let (cos, sin) = (ops.constant(&cos, &[tables, 5, 3])?, ops.constant(&sin, &[tables, 5, 3])?);
            ops.rope(&x, 3, &cos, &sin)
        });
    }
}

#[test]
fn attention() {
    for (heads, kv_heads) in [(1, 1), (4, 4), (4, 2), (6, 1)] {
        for masks in [0, 1, 2] {
            check(&format!("attention {heads} / {kv_heads}, {masks} masks"), 1.5, |ops| {
                let q = input(ops, &[2, 5, heads * 3])?;
                let k = ops.parameter("k", &[2, 19, kv_heads * 3], Init::Zeros)?;
                let v = ops.parameter("v", &[2, 19, kv_heads * 3], Init::Zeros)?;
                let forbid = |x: f32| if x > 0.4 { -1e4 } else { x };
                let mask: Vec<f32> = Numbers(5).take(masks * 5 * 19).into_iter().map(forbid).collect();
                let mask = if masks > 0 { Some(ops.constant(&mask, &[masks, 5, 19])?) } else { None };
                ops.attention(&q, &k, &v, heads, kv_heads, mask.as_ref())
            });
        }
    }
}

#[test]
fn gathering_joining_and_products() {
    check("embedding and select", 1.0, |ops| {
        let ids = Tensor::new(&[[4u32, 0, 4, 6], [1, 1, 2, 3]], &Device::Cpu)?;
        let index = Tensor::new(&[[3u32, 0, 3], [1, 1, 2]], &Device::Cpu)?;
        let x = ops.embedding(&ids, "w", 7, 5)?;
        ops.select(&x, &index)
    });
    check("broadcast, narrow, concat, product", 1.0, |ops| {
        let a = ops.parameter("a", &[2, 4, 6], Init::Zeros)?;
        let b = ops.parameter("b", &[1, 1, 6], Init::Zeros)?;
        let c = ops.parameter("c", &[2, 4, 1], Init::Zeros)?;
        let sum = ops.add(&a, &b)?;
        let scaled = ops.mul(&sum, &c)?;
        let part = ops.narrow(&scaled, 1, 1, 2)?;
        let part = ops.activate(&part, Act::Silu)?;
        let joined = ops.concat(&[part, a], 1)?;
        ops.matmul_t(&joined, &sum)
    });
}

fn small_model(ops: &mut Candle<'_>, picture: &Tensor) -> Result<Tensor> {
    let x = ops.conv(picture, "trunk.stem", 8, Conv { kernel: 3, stride: 2, act: Act::Relu6 })?;
    let x = ops.depthwise(&x, "trunk.depthwise", Conv { kernel: 3, stride: 1, act: Act::Relu6 })?;
    let x = ops.linear(&x, "trunk.project", 6, true, Act::None)?;
    let x = ops.to_rows(&x)?;
    let x = ops.layer_norm(&x, "head.norm", 1e-5)?;
    ops.linear(&x, "head.out", 2, true, Act::None)
}

fn picture(seed: u64) -> Tensor {
    Tensor::from_vec(Numbers(seed).take(8 * 8 * 3), (1, 8, 8, 3), &Device::Cpu).unwrap()
}

#[test]
fn a_frozen_stage_gets_no_gradient_and_leaves_the_others_alone() {
    let params = Params::new(&Device::Cpu, 3);
    let y = small_model(&mut Candle::new(&params), &picture(1)).unwrap();
    let cotangent = Numbers(2).take(y.elem_count());
    let all = gradients(&y, &cotangent, &params);
    assert!(all.contains_key("trunk.stem.weight"));

    let mut ops = Candle::new(&params);
    ops.set_frozen_prefixes(vec!["trunk.".into()]);
    let frozen = gradients(&small_model(&mut ops, &picture(1)).unwrap(), &cotangent, &params);
    params.freeze(|name| name.starts_with("trunk."));
    let by_name = gradients(&small_model(&mut Candle::new(&params), &picture(1)).unwrap(), &cotangent, &params);
    for grads in [frozen, by_name] {
        let mut names: Vec<_> = grads.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["head.norm.bias", "head.norm.weight", "head.out.bias", "head.out.weight"]);
        for (name, grad) in &grads {
            assert_eq!(values(grad), values(&all[name]), "{name}");
        }
    }
    let evaluated = small_model(&mut Candle::evaluating(&params), &picture(1)).unwrap();
    assert!(!evaluated.track_op(), "evaluation keeps no graph");
}

#[test]
fn parameters_frozen_in_the_middle_let_gradients_through() {
    let params = Params::new(&Device::Cpu, 3);
    for mut ops in [Candle::new(&params), Candle::composed(&params)] {
        params.freeze(|_| false);
        let y = small_model(&mut ops, &picture(1)).unwrap();
        let cotangent = Numbers(2).take(y.elem_count());
        let all = gradients(&y, &cotangent, &params);
        params.freeze(|name| !name.starts_with("trunk.stem"));
        let some = gradients(&small_model(&mut ops, &picture(1)).unwrap(), &cotangent, &params);
        assert_eq!(some.len(), 2);
        for (name, grad) in &some {
            assert_eq!(values(grad), values(&all[name]), "{name}");
        }
    }
}

#[test]
fn threads_share_parameters_and_their_gradients_add_up() {
    let params = Params::new(&Device::Cpu, 3);
    let store = |seed: u64| {
        let y = small_model(&mut Candle::new(&params), &picture(seed)).unwrap();
        y.sqr().unwrap().sum_all().unwrap().backward().unwrap()
    };
    // The threads also race to initialise; names and seed decide the values.
    let stores: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|seed| scope.spawn(move || store(seed))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let threaded = sum_grads(stores, &params.vars()).unwrap();
    let sequential = sum_grads((0..4).map(store).collect(), &params.vars()).unwrap();
    assert_eq!(threaded.len(), params.vars().len());
    for (name, grad) in &sequential {
        assert_eq!(values(grad), values(&threaded[name]), "{name}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let params = Params::new(&Device::Cpu, 3);
    let mut ops = Candle::new(&params);
    let rows = ops.constant(&[0.0; 24], &[2, 3, 4]).unwrap();
    let conv = Conv { kernel: 3, stride: 1, act: Act::None };
    assert!(ops.depthwise(&rows, "a", conv).is_err());
    assert!(ops.conv(&rows, "b", 4, conv).is_err());
    assert!(ops.attention(&rows, &rows, &rows, 3, 1, None).is_err());
    assert!(ops.attention(&rows, &rows, &rows, 2, 2, Some(&rows)).is_err());
    assert!(ops.rope(&rows, 4, &rows, &rows).is_err());
    ops.linear(&rows, "c", 5, true, Act::None).unwrap();
    assert!(ops.linear(&rows, "c", 6, true, Act::None).is_err(), "a parameter keeps its shape");
}
