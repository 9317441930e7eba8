//! Whether a quantised graph keeps TensorRT's rules of explicit quantisation.
//!
//! Source: NVIDIA TensorRT documentation, "Working with quantized types" and "Explicit quantization": symmetric codes;
//! activations by tensor, kernels by output channel; inputs of weighted layers are quantised, both of them or none; the
//! layer that a residual is added to takes it quantised; biases stay wide (TensorRT's parser refuses DequantizeLinear of
//! int32: "only activation types allowed as input to this layer").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::Target;

/// Activations one after the other that are looked through.
const DEEPEST: usize = 8;

/// A rule that a graph can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Zero points are 0.
    Symmetric,
    /// Activations have one scale, kernels one for each output channel.
    Granularity,
    /// The scales of a kernel lie along its output channels.
    Axis,
    /// Scales are constants, positive and finite.
    Scale,
    /// What is quantised is dequantised by the same scale.
    Paired,
    /// A layer reads both its input and its kernel quantised, or neither.
    BothInputs,
    /// Between quantised layers none stays wide that was not meant to.
    NoGap,
    /// Only layers and sums of residuals read dequantised activations.
    OnlyLayers,
    /// Codes are int8; those of activations may be uint8 for a processor.
    Codes,
}

/// What breaks a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The node's name.
    pub node: String,
    /// The rule.
    pub rule: Rule,
    /// What was expected and what is there.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "node `{}` breaks the rule {:?}: {}", self.node, self.rule, self.what)
    }
}

/// Checks a graph. Layers of these names in `wide` are meant to stay wide.
pub fn check(graph: &GraphProto, target: Target, wide: &BTreeSet<String>) -> Vec<Finding> {
    let mut checker = Checker::new(graph, target, wide);
    for node in &graph.node {
        match node.op_type.as_str() {
            "QuantizeLinear" => checker.quantises(node),
            "DequantizeLinear" => checker.dequantises(node),
            _ if checker.is_layer(node) => checker.layer(node),
            _ => {}
        }
    }
    checker.found
}

struct Checker<'a> {
    target: Target,
    wide: &'a BTreeSet<String>,
    constants: BTreeMap<&'a str, &'a TensorProto>,
    /// The node that makes a value.
    makers: BTreeMap<&'a str, &'a NodeProto>,
    /// The nodes that read a value.
    readers: BTreeMap<&'a str, Vec<&'a NodeProto>>,
    found: Vec<Finding>,
}

/// Where a layer's kernel comes from.
struct Source<'a> {
    dequantiser: Option<&'a NodeProto>,
    /// For each axis of the layer's operand, the axis of what is stored.
    axes: Vec<usize>,
}

impl<'a> Checker<'a> {
    fn new(graph: &'a GraphProto, target: Target, wide: &'a BTreeSet<String>) -> Self {
        let constants = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let (mut makers, mut readers) = (BTreeMap::new(), BTreeMap::<&str, Vec<&NodeProto>>::new());
        for node in &graph.node {
            for output in &node.output {
                makers.insert(output.as_str(), node);
            }
            for input in &node.input {
                readers.entry(input.as_str()).or_default().push(node);
            }
        }
        Self { target, wide, constants, makers, readers, found: Vec::new() }
    }

    fn tell(&mut self, node: &NodeProto, rule: Rule, what: impl Into<String>) {
        self.found.push(Finding { node: node.name.clone(), rule, what: what.into() });
    }

    fn maker(&self, value: &str) -> Option<&'a NodeProto> {
        self.makers.get(value).copied()
    }

    fn input(&self, node: &'a NodeProto, at: usize) -> &'a str {
        node.input.get(at).map_or("", String::as_str)
    }

    fn constant(&self, node: &'a NodeProto, at: usize) -> Option<&'a TensorProto> {
        self.constants.get(self.input(node, at)).copied()
    }

    fn quantises(&mut self, node: &'a NodeProto) {
        self.numbers(node);
        if self.constant(node, 1).is_some_and(|scale| scale.dims.iter().product::<i64>() > 1) {
            self.tell(node, Rule::Granularity, "expected one scale for an activation, got one for each channel");
        }
        let readers = node.output.first().and_then(|output| self.readers.get(output.as_str())).cloned();
        let readers = readers.unwrap_or_default();
        let same =
            |reader: &&NodeProto| reader.op_type == "DequantizeLinear" && reader.input.get(1..) == node.input.get(1..);
        if readers.is_empty() || !readers.iter().all(same) {
            self.tell(node, Rule::Paired, "expected DequantizeLinear with the same scale behind it, and nothing else");
        }
    }

    fn dequantises(&mut self, node: &'a NodeProto) {
        self.numbers(node);
        let Some(stored) = self.constant(node, 0) else {
            if self.maker(self.input(node, 0)).is_none_or(|maker| maker.op_type != "QuantizeLinear") {
                self.tell(node, Rule::Paired, "expected integers of a constant or of QuantizeLinear before it");
            }
            self.read_by_layers(node);
            return;
        };
        if stored.data_type != DataType::Int8 as i32 {
            self.tell(node, Rule::Codes, format!("expected a kernel of int8, got data type {}", stored.data_type));
        }
    }

    /// Scale and zero point of either kind of node.
    fn numbers(&mut self, node: &'a NodeProto) {
        match self.constant(node, 1).map(floats) {
            None => self.tell(node, Rule::Scale, "expected a constant scale"),
            Some(scales) => {
                if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
                    self.tell(node, Rule::Scale, format!("expected positive finite scales, got {scale}"));
                } else if scales.is_empty() {
                    self.tell(node, Rule::Scale, "expected a scale of f32, got none");
                }
            }
        }
        let Some(zero) = self.constant(node, 2) else {
            return self.tell(node, Rule::Codes, "expected a zero point, which says that codes are signed");
        };
        if zero.raw_data.iter().any(|byte| *byte != 0) || zero.int32_data.iter().any(|value| *value != 0) {
            self.tell(node, Rule::Symmetric, "expected the zero point 0");
        }
        let unsigned = zero.data_type == DataType::Uint8 as i32;
        let fits = zero.data_type == DataType::Int8 as i32 || (unsigned && self.target == Target::Cpu);
        if !fits {
            let what = format!("expected codes that {:?} takes, got data type {}", self.target, zero.data_type);
            self.tell(node, Rule::Codes, what);
        }
    }

    /// Dequantised activations are for layers, and for sums with what a layer gives.
    fn read_by_layers(&mut self, node: &'a NodeProto) {
        let Some(output) = node.output.first() else { return };
        for reader in self.readers.get(output.as_str()).cloned().unwrap_or_default() {
            let first = self.is_layer(reader) && self.input(reader, 0) == output;
            let sum = reader.op_type == "Add"
                && reader.input.iter().any(|other| other != output && self.is_made_by_layer(other));
            if !first && !sum {
                let what = format!("expected a layer's input or a residual, got {} `{}`", reader.op_type, reader.name);
                self.tell(node, Rule::OnlyLayers, what);
            }
        }
    }

    fn is_made_by_layer(&self, value: &str) -> bool {
        self.maker(value).is_some_and(|maker| self.is_layer(maker))
    }

    /// Convolutions, and products of matrices with a parameter.
    fn is_layer(&self, node: &'a NodeProto) -> bool {
        match node.op_type.as_str() {
            "Conv" => true,
            "MatMul" | "Gemm" => self.source(node).is_some(),
            _ => false,
        }
    }

    /// Follows a layer's second input to the constant that it is made of.
    fn source(&self, node: &'a NodeProto) -> Option<Source<'a>> {
        let (mut value, mut dequantiser) = (self.input(node, 1), None);
        let mut turns: Vec<&NodeProto> = Vec::new();
        // Hostile graphs may go in circles.
        for _ in 0..=self.makers.len() {
            if let Some(tensor) = self.constants.get(value) {
                let mut axes: Vec<usize> = (0..tensor.dims.len()).collect();
                for turn in turns.iter().rev() {
                    let order = turn.attribute.iter().find(|a| a.name == "perm").map(|a| a.ints.clone());
                    let order = order.unwrap_or_else(|| (0..axes.len() as i64).rev().collect());
                    axes = order.iter().filter_map(|&from| axes.get(usize::try_from(from).ok()?).copied()).collect();
                }
                return Some(Source { dequantiser, axes });
            }
            let maker = self.maker(value)?;
            match maker.op_type.as_str() {
                "DequantizeLinear" => dequantiser = Some(maker),
                "Transpose" => turns.push(maker),
                "Cast" => {}
                _ => return None,
            }
            value = self.input(maker, 0);
        }
        None
    }

    fn layer(&mut self, node: &'a NodeProto) {
        let kernel = self.source(node);
        let dequantiser = kernel.as_ref().and_then(|kernel| kernel.dequantiser);
        let input = self.maker(self.input(node, 0)).is_some_and(|maker| maker.op_type == "DequantizeLinear");
        match (input, dequantiser) {
            (true, Some(dequantiser)) => {
                if let Some(kernel) = &kernel {
                    self.along_channels(node, dequantiser, &kernel.axes);
                }
            }
            (false, None) => self.gap(node),
            (true, None) => self.tell(node, Rule::BothInputs, "its input is quantised and its kernel is not"),
            (false, Some(_)) => self.tell(node, Rule::BothInputs, "its kernel is quantised and its input is not"),
        }
        if self.maker(self.input(node, 2)).is_some_and(|maker| maker.op_type == "DequantizeLinear") {
            self.tell(node, Rule::Codes, "expected a wide bias, got a quantised one");
        }
    }

    fn along_channels(&mut self, node: &'a NodeProto, dequantiser: &'a NodeProto, axes: &[usize]) {
        let scales = self.constant(dequantiser, 1).map_or(0, |scale| scale.dims.iter().product::<i64>());
        let turned = node.attribute.iter().any(|a| a.name == "transB" && a.i != 0);
        let channels = match node.op_type.as_str() {
            "Conv" => axes.first(),
            "Gemm" if turned => axes.first(),
            _ => axes.last(),
        };
        let sizes = self.constant(dequantiser, 0).map(|stored| stored.dims.clone()).unwrap_or_default();
        let Some(&channels) = channels else { return };
        let size = sizes.get(channels).copied().unwrap_or(0);
        if scales == 1 && size > 1 {
            return self.tell(dequantiser, Rule::Granularity, format!("expected {size} scales of a kernel, got one"));
        }
        let axis = dequantiser.attribute.iter().find(|a| a.name == "axis").map_or(1, |a| a.i);
        let axis = if axis < 0 { axis + sizes.len() as i64 } else { axis };
        if axis != channels as i64 || scales != size {
            let what = format!("expected {size} scales along axis {channels}, got {scales} along axis {axis}");
            self.tell(dequantiser, Rule::Axis, what);
        }
    }

    /// A wide layer right between quantised ones costs two conversions and gains nothing.
    fn gap(&mut self, node: &'a NodeProto) {
        let layer = node.name.split('#').next().unwrap_or_default();
        let meant = self.wide.contains(layer) || node.op_type != "Conv";
        if !meant && self.is_quantised_before(node) && self.is_quantised_behind(node, DEEPEST) {
            self.tell(node, Rule::NoGap, "expected a quantised layer between quantised ones, got a wide one");
        }
    }

    /// Whether a quantised layer gives the input, through activations alone.
    fn is_quantised_before(&self, node: &'a NodeProto) -> bool {
        let mut value = self.input(node, 0);
        for _ in 0..=self.makers.len() {
            let Some(maker) = self.maker(value) else { return false };
            if self.is_layer(maker) {
                return self.source(maker).is_some_and(|kernel| kernel.dequantiser.is_some());
            }
            if !matches!(maker.op_type.as_str(), "Relu" | "Clip") {
                return false;
            }
            value = self.input(maker, 0);
        }
        false
    }

    /// Whether what it gives is quantised, through activations alone.
    fn is_quantised_behind(&self, node: &'a NodeProto, deepest: usize) -> bool {
        let readers = node.output.iter().filter_map(|output| self.readers.get(output.as_str())).flatten();
        readers.copied().any(|reader| match reader.op_type.as_str() {
            "QuantizeLinear" => true,
            "Relu" | "Clip" if deepest > 0 => self.is_quantised_behind(reader, deepest - 1),
            _ => false,
        })
    }
}

/// The values of a tensor of f32.
fn floats(tensor: &TensorProto) -> Vec<f32> {
    if tensor.data_type != DataType::Float as i32 {
        return Vec::new();
    }
    let raw = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    raw.chain(tensor.float_data.iter().copied()).collect()
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
