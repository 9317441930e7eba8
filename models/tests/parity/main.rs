//! One definition, three ways to run it: candle, and the exported ONNX graph in tract and in ONNX Runtime, must agree.
//!
//! Without the exporter's exactness a model would fly that is not the one that was trained and evaluated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod decoding;
mod graphs;
mod operations;
mod quantised;
mod runtimes;

use kestrel_models::candle::Params;
use kestrel_models::weights::Weights;

/// A reproducible number in −1..1.
fn noise(seed: u64, index: usize) -> f32 {
    // SplitMix64.
    let mut z =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((index as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn noises(seed: u64, count: usize, amplitude: f32) -> Vec<f32> {
    (0..count).map(|i| noise(seed, i) * amplitude).collect()
}

/// The parameters that a pass over a definition made, each moved a little, in half precision: biases begin at zero, which
/// would hide one that is lost.
fn moved(made: &Params, amplitude: f32) -> Weights {
    let mut weights = Weights::new();
    for (index, (name, (shape, data))) in Weights::from_params(made).unwrap().into_iter().enumerate() {
        let moved = data.iter().zip(noises(index as u64, data.len(), amplitude)).map(|(v, n)| v + n).collect();
        weights.insert(name, shape, moved).unwrap();
    }
    weights.round_f16().unwrap();
    weights
}

/// Largest difference, as a part of the largest value where that exceeds 1.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|v| v.is_finite()));
    let scale = a.iter().fold(1f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / scale
}

/// Half precision rounds the weights before all three run, so only the order of sums differs.
const TOLERANCE: f32 = 1e-4;

#[test]
fn the_comparison_sees_a_difference() {
    assert!(difference(&[1.0, 2.0], &[1.0, 2.01]) > TOLERANCE);
    assert_eq!(difference(&[100.0], &[101.0]), 0.01);
    assert!(noises(1, 1000, 1.0).iter().any(|&v| v < -0.9) && noises(1, 1000, 1.0).iter().any(|&v| v > 0.9));
}
