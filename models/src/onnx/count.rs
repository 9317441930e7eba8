//! What an ONNX graph costs: multiplications, parameters and traffic of each of its nodes, from the file alone.

use std::collections::HashMap;

use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType};
use tract_onnx::pb::{tensor_shape_proto, type_proto};

use super::shapes::{Known, elements, infer, integer};
use crate::error::{Error, Result};

/// Constants of at most so many values are kept, because shapes are among them.
const SHORT: u64 = 16;

/// What a node keeps busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A dense convolution or a product of matrices.
    Matrix,
    /// A grouped or depthwise convolution.
    Grouped,
    /// Values that are moved, joined or summed up, without a product of matrices.
    Moved,
}

/// The cost of one node that a compiler cannot fold away or fuse with its neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCost {
    /// Name in the graph.
    pub name: String,
    /// ONNX operator.
    pub operator: String,
    /// What it keeps busy.
    pub work: Work,
    /// Multiplications with an addition.
    pub macs: u64,
    /// Elements of constants that it reads: parameters.
    pub weights: u64,
    /// Elements that it reads, constants apart.
    pub read: u64,
    /// Elements that it writes.
    pub written: u64,
    /// Whether its factors are quantised: they come out of DequantizeLinear.
    pub is_quantised: bool,
}

/// What a graph costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Nodes that cost something, in the graph's order.
    pub nodes: Vec<NodeCost>,
    /// Multiplications of nodes that depend on no input: done once, when the graph is compiled.
    pub folded_macs: u64,
    /// Elements of all inputs.
    pub inputs: u64,
    /// Elements of all outputs.
    pub outputs: u64,
}

impl Count {
    /// Multiplications with an addition of one run.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|node| node.macs).sum()
    }

    /// Elements of parameters that one run reads.
    #[must_use]
    pub fn weights(&self) -> u64 {
        self.nodes.iter().map(|node| node.weights).sum()
    }
}

/// Counts what a serialised graph costs.
///
/// Element-wise operators, casts, reshapes and (de)quantisation are taken as fused with their neighbours and free;
/// what depends on constants alone is folded.
///
/// # Errors
/// When the bytes are no ONNX model, a shape is left open, or an operator is not one that is counted.
pub fn count(bytes: &[u8]) -> Result<Count> {
    let model = ModelProto::decode(bytes).map_err(|error| wrong("graph", "an ONNX model", error.to_string()))?;
    let graph = model.graph.ok_or_else(|| wrong("graph", "an ONNX model", "one without a graph"))?;
    let mut counter = Counter::new(&graph)?;
    for node in &graph.node {
        counter.node(node)?;
    }
    for output in &graph.output {
        let known = counter.values.get(&output.name);
        let known = known.ok_or_else(|| wrong(&output.name, "an output that a node gives", "none"))?;
        counter.count.outputs = counter.count.outputs.saturating_add(known.elements());
    }
    Ok(counter.count)
}

fn wrong(path: &str, expected: &str, got: impl Into<String>) -> Error {
    Error::Format { path: path.to_owned(), expected: expected.to_owned(), got: got.into() }
}

struct Counter {
    values: HashMap<String, Known>,
    count: Count,
}

impl Counter {
    fn new(graph: &GraphProto) -> Result<Self> {
        let mut values = HashMap::new();
        for tensor in &graph.initializer {
            values.insert(tensor.name.clone(), constant(tensor)?);
        }
        let mut inputs = 0_u64;
        for input in graph.input.iter().filter(|input| !graph.initializer.iter().any(|t| t.name == input.name)) {
            let known = Known { shape: shape_of(input)?, ..Known::default() };
            inputs = inputs.saturating_add(known.elements());
            values.insert(input.name.clone(), known);
        }
        Ok(Self { values, count: Count { inputs, ..Count::default() } })
    }

    fn node(&mut self, node: &NodeProto) -> Result<()> {
        let named = |name: &String| match name.is_empty() {
            true => Ok(None),
            false => match self.values.get(name) {
                Some(known) => Ok(Some(known.clone())),
                None => Err(wrong(&node.name, "inputs that come before it", format!("`{name}`"))),
            },
        };
        let inputs: Vec<Option<Known>> = node.input.iter().map(named).collect::<Result<_>>()?;
        let shape = infer(node, &inputs).map_err(|got| wrong(&node.name, "a node that can be counted", got))?;
        let known: Vec<&Known> = inputs.iter().flatten().collect();
        let is_constant = known.iter().all(|known| known.is_constant);
        let macs = macs(node, &known, &shape);
        if is_constant {
            self.count.folded_macs = self.count.folded_macs.saturating_add(macs);
        } else if let Some(cost) = cost(node, &known, &shape, macs) {
            self.count.nodes.push(cost);
        }
        let Some(output) = node.output.first() else {
            return Err(wrong(&node.name, "a node with an output", "none"));
        };
        // A value that only passes through keeps what is known of it.
        let passes = matches!(node.op_type.as_str(), "Cast" | "Identity");
        let is_dequantised = node.op_type == "DequantizeLinear" || (is_shape_only(node) && known[0].is_dequantised);
        let (integers, floats) = match passes {
            true => (known[0].integers.clone(), known[0].floats.clone()),
            false => (None, None),
        };
        self.values.insert(output.clone(), Known { shape, is_constant, is_dequantised, integers, floats });
        Ok(())
    }
}

/// Operators that hand every value on as it is.
fn is_shape_only(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Cast" | "Identity" | "Reshape" | "Transpose")
}

fn macs(node: &NodeProto, known: &[&Known], shape: &[usize]) -> u64 {
    let each = match node.op_type.as_str() {
        // [out, in / groups, high, wide]
        "Conv" => known.get(1).map_or(0, |weight| elements(weight.shape.get(1..).unwrap_or_default())),
        "MatMul" => known.first().and_then(|a| a.shape.last()).map_or(0, |&inner| inner as u64),
        _ => 0,
    };
    elements(shape).saturating_mul(each)
}

/// What a node costs that depends on an input; nothing where it is fused with its neighbours.
fn cost(node: &NodeProto, known: &[&Known], shape: &[usize], macs: u64) -> Option<NodeCost> {
    let work = match node.op_type.as_str() {
        "Conv" if integer(node, "group", 1) > 1 => Work::Grouped,
        "Conv" | "MatMul" => Work::Matrix,
        "Softmax" | "ReduceMean" | "Transpose" | "Concat" | "Slice" | "Gather" | "Expand" | "Resize" => Work::Moved,
        _ => return None,
    };
    let written = elements(shape);
    let of = |is_constant: bool| -> u64 {
        known.iter().filter(|known| known.is_constant == is_constant).map(|known| known.elements()).sum()
    };
    // Of a table only the rows that are asked for are read, and of a whole only the part.
    let (weights, read) = match node.op_type.as_str() {
        "Gather" | "Slice" => (0, written),
        _ => (of(true), of(false)),
    };
    let is_quantised = work != Work::Moved && known.iter().take(2).all(|known| known.is_dequantised);
    let (name, operator) = (node.name.clone(), node.op_type.clone());
    Some(NodeCost { name, operator, work, macs, weights, read, written, is_quantised })
}

fn constant(tensor: &TensorProto) -> Result<Known> {
    let side = |&side: &i64| usize::try_from(side).map_err(|_| wrong(&tensor.name, "a shape", side.to_string()));
    let shape: Vec<usize> = tensor.dims.iter().map(side).collect::<Result<_>>()?;
    let mut known = Known { shape, is_constant: true, ..Known::default() };
    if known.elements() > SHORT {
        return Ok(known);
    }
    if tensor.data_type == DataType::Int64 as i32 {
        let raw = tensor.raw_data.chunks_exact(8);
        let raw = raw.map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
        known.integers = Some(if tensor.raw_data.is_empty() { tensor.int64_data.clone() } else { raw.collect() });
    } else if tensor.data_type == DataType::Float as i32 {
        let raw = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        known.floats = Some(if tensor.raw_data.is_empty() { tensor.float_data.clone() } else { raw.collect() });
    }
    Ok(known)
}

fn shape_of(input: &ValueInfoProto) -> Result<Vec<usize>> {
    let open = || wrong(&input.name, "an input whose shape is stated", "one that is left open");
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(open());
    };
    let shape = tensor.shape.as_ref().ok_or_else(open)?;
    let side = |side: &tensor_shape_proto::Dimension| match side.value {
        Some(tensor_shape_proto::dimension::Value::DimValue(side)) => usize::try_from(side).map_err(|_| open()),
        _ => Err(open()),
    };
    shape.dim.iter().map(side).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::candle::{Candle, Params};
    use crate::cost::Cost;
    use crate::kestrel::{Config, vision};
    use crate::onnx::Onnx;
    use crate::ops::{Act, Ops as _};
    use crate::weights::Weights;

    /// What would break: a roofline of a graph that is not the model's.
    #[test]
    fn a_whole_graph_costs_what_its_definition_costs() {
        let config = Config::tiny();
        let params = Params::new(&Device::Cpu, 1);
        let side = config.image;
        let image = Tensor::zeros((1, side, side, 3), DType::F32, &Device::Cpu).unwrap();
        vision(&mut Candle::evaluating(&params), &config, &image).unwrap();
        let mut weights = Weights::from_params(&params).unwrap();
        weights.round_f16().unwrap();
        let mut onnx = Onnx::new(&weights);
        let image = onnx.input_map("image", &[1, side, side, 3]).unwrap();
        let seen = vision(&mut onnx, &config, &image).unwrap();
        let mut outputs = 0;
        for (name, value) in [("tokens", &seen.tokens), ("fine", &seen.fine), ("spots", &seen.spots)] {
            let shape = onnx.shape(value);
            outputs += elements(&shape);
            onnx.output(name, value, &shape).unwrap();
        }
        let counted = count(&onnx.finish("vision")).unwrap();

        let mut cost = Cost::default();
        vision(&mut cost, &config, &vec![1, side, side, 3]).unwrap();
        assert_eq!(counted.macs() + counted.folded_macs, cost.macs);
        assert!(counted.folded_macs > 0, "the places of image tokens depend on no picture");
        assert_eq!((counted.inputs, counted.outputs), ((3 * side * side) as u64, outputs));
        // But for biases of rows and for norms, every parameter is read by a convolution or a product.
        let parameters = cost.parameters();
        assert!(counted.weights() <= parameters && counted.weights() > parameters / 10 * 9, "{}", counted.weights());
        assert!(counted.nodes.iter().any(|node| node.work == Work::Grouped));
        assert!(counted.nodes.iter().all(|node| !node.is_quantised));
    }

    #[test]
    fn what_is_fused_folded_or_looked_up_is_not_counted_as_traffic() {
        let mut weights = Weights::new();
        weights.insert("e.weight", vec![64, 4], vec![0.5; 256]).unwrap();
        let mut onnx = Onnx::new(&weights);
        let ids = onnx.input_integers("ids", &[1, 3]);
        let rows = onnx.embedding(&ids, "e", 64, 4).unwrap();
        let rows = onnx.scale(&rows, 2.0).unwrap();
        let scores = onnx.linear(&rows, "e", 64, false, Act::Gelu).unwrap();
        onnx.output("scores", &scores, &[1, 3, 64]).unwrap();
        let counted = count(&onnx.finish("tied")).unwrap();
        let told: Vec<_> = counted.nodes.iter().map(|n| (n.operator.as_str(), n.macs, n.weights, n.read)).collect();
        assert_eq!(told, [("Gather", 0, 0, 12), ("MatMul", 3 * 4 * 64, 256, 12)]);
    }

    /// What would break: a damaged file would pass as a graph that costs nothing.
    #[test]
    fn what_is_no_graph_is_refused() {
        assert!(count(b"not a graph").is_err());
        assert!(count(b"").unwrap_err().to_string().contains("without a graph"));
        let node = NodeProto { op_type: "Relu".into(), input: vec!["absent".into()], ..Default::default() };
        let graph = GraphProto { node: vec![node], ..Default::default() };
        let bytes = ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
        assert!(count(&bytes).unwrap_err().to_string().contains("`absent`"));
    }
}
