//! The roofline (Williams, Waterman & Patterson, Communications of the ACM 52(4), 2009): work takes as long as the slower
//! of computing it and of moving its bytes. Pure.

use super::devices::Device;
use clap::ValueEnum;
use kestrel_models::onnx::count::{Count, NodeCost, Work};
use serde::Serialize;
use std::iter::Sum;

/// In what layers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// INT8 where the graph is quantised, FP16 elsewhere.
    Auto,
    /// FP16 throughout.
    Fp16,
    /// INT8 wherever a layer has parameters, as if all of them were quantised.
    Int8,
}

/// Two bounds of a time in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bounds {
    /// Everything stays on the chip but parameters, inputs and outputs.
    pub at_best: f64,
    /// Every layer goes through the memory.
    pub by_layer: f64,
}

impl Sum for Bounds {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            at_best: sum.at_best + one.at_best,
            by_layer: sum.by_layer + one.by_layer,
        })
    }
}

/// What one run of a graph could take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GraphEstimate {
    /// The graph.
    pub graph: String,
    /// Multiplications of dense convolutions and products.
    pub dense_macs: u64,
    /// Multiplications of grouped convolutions.
    pub grouped_macs: u64,
    /// Share of all multiplications that is done in INT8.
    pub int8_share: f64,
    /// Bytes of parameters.
    pub weight_bytes: u64,
    /// Bytes that all layers read and write together, parameters included.
    pub traffic_bytes: u64,
    /// Share of the time by layer that is bound by the memory.
    pub memory_share: f64,
    /// Milliseconds.
    pub millis: Bounds,
}

/// Bytes and seconds of one layer.
struct Layer {
    is_int8: bool,
    weight_bytes: f64,
    bytes: f64,
    compute_seconds: f64,
}

fn layer(node: &NodeCost, device: &Device, precision: Precision) -> Layer {
    let is_int8 = match precision {
        Precision::Fp16 => false,
        Precision::Auto => node.is_quantised,
        Precision::Int8 => node.work != Work::Moved && node.weights > 0,
    };
    let each = if is_int8 { 1.0 } else { 2.0 };
    let tera_operations = match (node.work, is_int8) {
        (Work::Matrix, true) => device.int8_tops,
        (Work::Matrix, false) => device.fp16_tflops,
        (Work::Grouped | Work::Moved, _) => device.cuda_core_tflops,
    };
    let weight_bytes = node.weights as f64 * each;
    Layer {
        is_int8,
        weight_bytes,
        bytes: weight_bytes + (node.read as f64 + node.written as f64) * each,
        compute_seconds: 2.0 * node.macs as f64 / (tera_operations * 1e12),
    }
}

/// The roofline of one run of a counted graph.
#[must_use]
pub fn estimate(graph: &str, count: &Count, device: &Device, precision: Precision) -> GraphEstimate {
    let bytes_per_second = device.gigabytes_per_second * 1e9;
    // What callers give and take is in single precision.
    let mut crossing = 4.0 * (count.inputs as f64 + count.outputs as f64);
    let (mut compute, mut by_layer, mut on_memory) = (0.0, 0.0, 0.0);
    let (mut weights, mut traffic, mut int8_macs) = (0.0, 0.0, 0_u64);
    let mut macs = [0_u64; 2];
    for node in &count.nodes {
        let layer = layer(node, device, precision);
        let moving = layer.bytes / bytes_per_second;
        by_layer += moving.max(layer.compute_seconds);
        on_memory += if moving >= layer.compute_seconds { moving } else { 0.0 };
        compute += layer.compute_seconds;
        weights += layer.weight_bytes;
        traffic += layer.bytes;
        macs[usize::from(node.work == Work::Grouped)] += node.macs;
        int8_macs += if layer.is_int8 { node.macs } else { 0 };
    }
    crossing += weights;
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    GraphEstimate {
        graph: graph.to_owned(),
        dense_macs: macs[0],
        grouped_macs: macs[1],
        int8_share: share(int8_macs as f64, (macs[0] + macs[1]) as f64),
        weight_bytes: weights as u64,
        traffic_bytes: traffic as u64,
        memory_share: share(on_memory, by_layer),
        millis: Bounds {
            at_best: compute.max(crossing / bytes_per_second) * 1e3,
            // A graph that does next to nothing still crosses the memory.
            by_layer: by_layer.max(crossing / bytes_per_second) * 1e3,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::estimate::DeviceName;

    fn node(work: Work, macs: u64, weights: u64, moved: u64, is_quantised: bool) -> NodeCost {
        let (name, operator) = ("n".to_owned(), "Conv".to_owned());
        NodeCost { name, operator, work, macs, weights, read: moved, written: 0, is_quantised }
    }

    fn count(nodes: Vec<NodeCost>) -> Count {
        Count { nodes, ..Count::default() }
    }

    #[test]
    fn one_layer_takes_what_it_takes_by_hand() {
        let device =
            Device { fp16_tflops: 20.0, int8_tops: 40.0, gigabytes_per_second: 100.0, ..DeviceName::OrinNano.device() };
        // 10 G MACs at 10 T MACs a second: 1 ms; its bytes take 0.2 µs.
        let heavy = count(vec![node(Work::Matrix, 10_000_000_000, 10_000, 0, true)]);
        let told = estimate("g", &heavy, &device, Precision::Fp16);
        assert!((told.millis.by_layer - 1.0).abs() < 1e-9 && told.memory_share == 0.0, "{told:?}");
        let told = estimate("g", &heavy, &device, Precision::Auto);
        assert!((told.millis.at_best - 0.5).abs() < 1e-9 && told.int8_share == 1.0, "{told:?}");
        // 50 M values of two bytes at 100 GB/s: 1 ms.
        let wide = count(vec![node(Work::Moved, 0, 0, 50_000_000, false)]);
        let told = estimate("g", &wide, &device, Precision::Int8);
        assert!((told.millis.by_layer - 1.0).abs() < 1e-9 && told.memory_share == 1.0, "{told:?}");
        assert_eq!(told.millis.at_best, 0.0, "what is only moved may stay on the chip");
    }

    /// What would break: a lower bound above the upper one, or a better device that is slower.
    #[test]
    fn bounds_are_ordered_and_better_devices_are_never_slower() {
        let graph = count(vec![
            node(Work::Matrix, 400_000_000, 900_000, 3_000_000, false),
            node(Work::Grouped, 30_000_000, 9_000, 5_000_000, false),
            node(Work::Moved, 0, 0, 700_000, false),
        ]);
        let of = |device: DeviceName, precision| estimate("g", &graph, &device.device(), precision).millis;
        let order = [DeviceName::OrinNano15w, DeviceName::OrinNano, DeviceName::AgxOrin];
        for precision in [Precision::Auto, Precision::Fp16, Precision::Int8] {
            for pair in order.windows(2) {
                let (slow, fast) = (of(pair[0], precision), of(pair[1], precision));
                assert!(fast.at_best <= slow.at_best && fast.by_layer <= slow.by_layer);
                assert!(fast.at_best <= fast.by_layer);
            }
        }
        for device in order {
            let (half, int8) = (of(device, Precision::Fp16), of(device, Precision::Int8));
            assert!(int8.at_best <= half.at_best && int8.by_layer < half.by_layer);
        }
    }

    #[test]
    fn an_empty_graph_takes_nothing() {
        let told = estimate("g", &Count::default(), &DeviceName::OrinNx.device(), Precision::Auto);
        assert_eq!((told.millis, told.int8_share), (Bounds::default(), 0.0));
    }
}
