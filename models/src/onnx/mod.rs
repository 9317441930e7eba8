//! Emits ONNX: the interpreter of [`Ops`](crate::ops::Ops) whose tensors are the outputs of graph nodes.
//!
//! Maps are NCHW, as runtimes like them; rows are as they are. All shapes are static, but for a batch axis that is left open
//! on request. Parameters are stored in half precision, each behind one Cast to f32, so a graph computes in f32 and is half
//! as large; [`Onnx::quantised`] stores kernels as integers and rounds activations. The bytes depend on the definition, the
//! weights and the scheme only.

mod compose;
pub mod count;
mod interpret;
mod proto;
pub mod read;
mod rounded;
mod shapes;

use std::collections::BTreeMap;

use prost::Message;
use tract_onnx::pb::{NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType};

use crate::error::{Error, Result};
use crate::weights::{Weights, half_of};
use proto::Attribute;
use rounded::Rounded;

/// How a value lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Logically `[N, H, W, C]`, physically `[N, C, H, W]`.
    Map,
    /// As its logical shape says.
    Rows,
}

/// A value of the graph: a node's output, an input or an initialiser.
#[derive(Debug, Clone)]
pub struct Value {
    name: String,
    shape: Vec<usize>,
    layout: Layout,
    kind: DataType,
}

impl Value {
    /// Shape in memory.
    fn physical(&self) -> Vec<usize> {
        match (self.layout, self.shape.as_slice()) {
            (Layout::Map, &[n, h, w, c]) => vec![n, c, h, w],
            _ => self.shape.clone(),
        }
    }

    /// The axis in memory of a logical axis.
    fn axis(&self, logical: usize) -> usize {
        match self.layout {
            Layout::Map => [0, 2, 3, 1].get(logical).copied().unwrap_or(logical),
            Layout::Rows => logical,
        }
    }
}

/// A graph under construction.
#[derive(Debug)]
pub struct Onnx<'a> {
    weights: &'a Weights,
    nodes: Vec<NodeProto>,
    initialisers: BTreeMap<String, TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    /// How often each name was asked for.
    names: BTreeMap<String, usize>,
    /// Whether the first axis of every input and output is left open.
    open_batch: bool,
    /// What is rounded, in a quantised graph.
    rounded: Option<Rounded<'a>>,
}

impl<'a> Onnx<'a> {
    /// An empty graph whose parameters come from `weights`.
    pub fn new(weights: &'a Weights) -> Self {
        Self {
            weights,
            nodes: Vec::new(),
            initialisers: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            names: BTreeMap::new(),
            open_batch: false,
            rounded: None,
        }
    }

    /// An empty graph that is built for a batch of one and runs on any: the first axis of every input, output and reshaped
    /// value is left open. All values must have a batch axis, and no operation may mix its entries.
    pub fn with_open_batch(weights: &'a Weights) -> Self {
        Self { open_batch: true, ..Self::new(weights) }
    }

    /// An f32 graph input that is a map of logical shape `[N, H, W, C]`; callers feed `[N, C, H, W]`.
    ///
    /// # Errors
    /// When the shape has no four axes.
    pub fn input_map(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        if shape.len() != 4 {
            return Err(misshapen("input", name, "[N, H, W, C]", shape));
        }
        Ok(self.input(name, shape, Layout::Map, DataType::Float))
    }

    /// An f32 graph input in rows layout.
    pub fn input_rows(&mut self, name: &str, shape: &[usize]) -> Value {
        self.input(name, shape, Layout::Rows, DataType::Float)
    }

    /// An i64 graph input, for token ids and indices.
    pub fn input_integers(&mut self, name: &str, shape: &[usize]) -> Value {
        self.input(name, shape, Layout::Rows, DataType::Int64)
    }

    fn input(&mut self, name: &str, shape: &[usize], layout: Layout, kind: DataType) -> Value {
        let value = Value { name: self.unique(name), shape: shape.to_vec(), layout, kind };
        self.inputs.push(proto::value_info(&value.name, &value.physical(), kind));
        value
    }

    /// Makes `value` the graph's next output under `name`, reshaped to `shape`.
    ///
    /// # Errors
    /// When the value is a map, whose order in memory callers should not have to know, or has another number of entries.
    pub fn output(&mut self, name: &str, value: &Value, shape: &[usize]) -> Result<()> {
        if value.layout == Layout::Map || count(&value.shape) != count(shape) {
            return Err(misshapen("output", name, &format!("rows that fit {shape:?}"), &value.shape));
        }
        let unique = self.unique(name);
        if unique != name {
            return Err(misshapen("output", name, "a name that no other value has", &value.shape));
        }
        let target = self.target(shape);
        let inputs = [value.name.as_str(), &target];
        self.nodes.push(node("Reshape", name, &inputs, &[]));
        self.outputs.push(proto::value_info(name, shape, value.kind));
        Ok(())
    }

    /// The serialised model. The same definition and weights give the same bytes.
    pub fn finish(mut self, graph_name: &str) -> Vec<u8> {
        if self.open_batch {
            self.inputs.iter_mut().chain(&mut self.outputs).for_each(proto::open_first_axis);
        }
        let initialisers = self.initialisers.into_values().collect();
        proto::model(graph_name, self.nodes, initialisers, self.inputs, self.outputs).encode_to_vec()
    }

    /// A name no other value has: `hint`, or `hint#2`, `hint#3`, …
    fn unique(&mut self, hint: &str) -> String {
        let times = self.names.entry(hint.to_owned()).or_insert(0);
        *times += 1;
        if *times == 1 { hint.to_owned() } else { format!("{hint}#{times}") }
    }

    /// Adds a node with one output and gives that output's name, made from `hint`.
    fn node(&mut self, operator: &str, hint: &str, inputs: &[&str], attributes: &[(&str, Attribute<'_>)]) -> String {
        let output = self.unique(hint);
        self.nodes.push(node(operator, &output, inputs, attributes));
        output
    }

    /// Like [`Onnx::node`], giving an f32 value.
    fn value(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
        like: (&[usize], Layout),
    ) -> Value {
        let name = self.node(operator, &operator.to_lowercase(), inputs, attributes);
        Value { name, shape: like.0.to_vec(), layout: like.1, kind: DataType::Float }
    }

    /// The name of the shape that a value is to have; where the batch is open, its first axis is what the others leave.
    fn target(&mut self, shape: &[usize]) -> String {
        let mut signed: Vec<i64> = shape.iter().map(|&v| v as i64).collect();
        if let (true, Some(first)) = (self.open_batch, signed.first_mut()) {
            *first = -1;
        }
        self.signed(&signed)
    }

    /// The name of an i64 vector constant.
    fn integers(&mut self, values: &[usize]) -> String {
        let signed: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.signed(&signed)
    }

    fn signed(&mut self, values: &[i64]) -> String {
        let name = format!("i64:{}", values.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"));
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initialisers
            .entry(name.clone())
            .or_insert_with(|| proto::tensor(&name, &[values.len()], DataType::Int64, raw));
        name
    }

    /// The name of an f32 scalar constant.
    fn scalar(&mut self, value: f32) -> String {
        let name = format!("f32:{value}");
        let raw = value.to_le_bytes().to_vec();
        self.initialisers.entry(name.clone()).or_insert_with(|| proto::tensor(&name, &[], DataType::Float, raw));
        name
    }

    /// The name of an f32 constant of any shape.
    fn floats(&mut self, data: &[f32], shape: &[usize]) -> String {
        let name = self.unique("constant");
        let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initialisers.insert(name.clone(), proto::tensor(&name, shape, DataType::Float, raw));
        name
    }

    /// The name of a parameter as f32, in the arrangement the node needs.
    fn weight(&mut self, name: &str, shape: &[usize], order: Order) -> Result<String> {
        if self.is_rounded_kernel(name) {
            return self.integer_kernel(name, shape, order);
        }
        if self.is_rounded_bias(name) {
            return self.wide_bias(name, shape);
        }
        let stored = order.stored_name(name);
        let cast = format!("{stored}/f32");
        if self.initialisers.contains_key(&stored) {
            return Ok(cast);
        }
        let data = self.weights.expect(name, shape)?;
        let (target, index) = order.arrange(shape);
        let mut raw = Vec::with_capacity(data.len() * 2);
        for i in 0..data.len() {
            raw.extend(half_of(name, data[index(i)])?.to_le_bytes());
        }
        self.initialisers.insert(stored.clone(), proto::tensor(&stored, &target, DataType::Float16, raw));
        let to = [("to", Attribute::Int(DataType::Float as i64))];
        self.nodes.push(node("Cast", &cast, &[&stored], &to));
        Ok(cast)
    }
}

/// How a parameter's axes are arranged in its initialiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As the weights have it.
    Plain,
    /// `[out, in]` as `[in, out]`, for MatMul.
    Transposed,
    /// `[out, k, k, in]` as `[out, in, k, k]`.
    Dense,
    /// `[k, k, C]` as `[C, 1, k, k]`.
    Depthwise,
    /// `[out, in]` as `[out, in, 1, 1]`.
    Pointwise,
    /// `[C]` as `[C, 1, 1]`, to scale a map.
    Channel,
}

impl Order {
    fn stored_name(self, name: &str) -> String {
        match self {
            Order::Plain => name.to_owned(),
            Order::Transposed => format!("{name}/transposed"),
            Order::Dense | Order::Depthwise | Order::Pointwise => format!("{name}/kernel"),
            Order::Channel => format!("{name}/channel"),
        }
    }

    /// The arranged shape, and for each place in it the place in the weights.
    fn arrange(self, shape: &[usize]) -> (Vec<usize>, Box<dyn Fn(usize) -> usize>) {
        match (self, shape) {
            (Order::Transposed, &[out, input]) => (vec![input, out], Box::new(move |i| (i % out) * input + i / out)),
            (Order::Dense, &[out, k, _, input]) => {
                let area = k * k;
                let place = move |i: usize| (i / (input * area) * area + i % area) * input + i / area % input;
                (vec![out, input, k, k], Box::new(place))
            }
            (Order::Depthwise, &[k, _, c]) => {
                let area = k * k;
                (vec![c, 1, k, k], Box::new(move |i| i % area * c + i / area))
            }
            (Order::Pointwise, &[out, input]) => (vec![out, input, 1, 1], Box::new(|i| i)),
            (Order::Channel, &[c]) => (vec![c, 1, 1], Box::new(|i| i)),
            _ => (shape.to_vec(), Box::new(|i| i)),
        }
    }
}

fn node(operator: &str, output: &str, inputs: &[&str], attributes: &[(&str, Attribute<'_>)]) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: operator.to_owned(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.to_owned()],
        attribute: attributes.iter().map(|(name, value)| proto::attribute(name, value)).collect(),
        ..Default::default()
    }
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn misshapen(operation: &'static str, name: &str, expected: &str, got: &[usize]) -> Error {
    Error::Shape { operation, name: name.to_owned(), expected: expected.to_owned(), got: got.to_vec() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::ops::{Act, Ops};

    fn arranged(order: Order, shape: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let (target, index) = order.arrange(shape);
        (target, (0..count(shape)).map(index).collect())
    }

    #[test]
    fn arrangements_move_the_right_axes() {
        assert_eq!(arranged(Order::Transposed, &[2, 3]), (vec![3, 2], vec![0, 3, 1, 4, 2, 5]));
        // [1, 2, 2, 2]: pixels outer, channels inner; wanted channels outer.
        assert_eq!(arranged(Order::Dense, &[1, 2, 2, 2]), (vec![1, 2, 2, 2], vec![0, 2, 4, 6, 1, 3, 5, 7]));
        assert_eq!(arranged(Order::Depthwise, &[2, 2, 2]), (vec![2, 1, 2, 2], vec![0, 2, 4, 6, 1, 3, 5, 7]));
    }

    #[test]
    fn bytes_are_reproducible_and_parameters_stored_once() {
        let mut weights = Weights::new();
        weights.insert("e.weight", vec![8, 4], (0..32).map(|v| v as f32 * 0.01).collect()).unwrap();
        let build = || {
            let mut onnx = Onnx::new(&weights);
            let ids = onnx.input_integers("ids", &[1, 3]);
            let x = onnx.embedding(&ids, "e", 8, 4).unwrap();
            let y = onnx.linear(&x, "e", 8, false, Act::Gelu).unwrap();
            onnx.output("y", &y, &[1, 3, 8]).unwrap();
            onnx.finish("tied")
        };
        let bytes = build();
        assert_eq!(bytes, build());
        let model = tract_onnx::pb::ModelProto::decode(bytes.as_slice()).unwrap();
        let graph = model.graph.unwrap();
        assert_eq!(graph.initializer.iter().filter(|t| t.data_type == DataType::Float16 as i32).count(), 1);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut weights = Weights::new();
        weights.insert("big.weight", vec![2, 2], vec![1e6; 4]).unwrap();
        let mut onnx = Onnx::new(&weights);
        assert!(onnx.input_map("image", &[3, 8, 8]).is_err());
        let x = onnx.input_rows("x", &[1, 4, 2]);
        assert!(onnx.linear(&x, "absent", 2, false, Act::None).unwrap_err().to_string().contains("absent.weight"));
        assert!(onnx.linear(&x, "big", 2, false, Act::None).unwrap_err().to_string().contains("half precision"));
        assert!(onnx.output("y", &x, &[4, 3]).is_err());
        assert!(onnx.output("x", &x, &[1, 4, 2]).is_err(), "an input's name was taken twice");
        let map = onnx.input_map("map", &[1, 2, 2, 2]).unwrap();
        assert!(onnx.add(&x, &map).is_err());
        assert!(onnx.output("map_out", &map, &[1, 2, 2, 2]).is_err());
    }
}
