//! Parameters back out of a graph that this crate emitted.

use std::collections::{BTreeMap, BTreeSet};

use half::f16;
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, tensor_proto::DataType};

use super::Order;
use crate::error::{Error, Result};
use crate::weights::Weights;

/// The operators that the definitions are emitted in.
const OPERATORS: [&str; 23] = [
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Erf",
    "Expand",
    "Gather",
    "MatMul",
    "Mul",
    "QuantizeLinear",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Sub",
    "Transpose",
];

/// Reads a serialised model; `origin` names it in errors.
///
/// # Errors
/// When the bytes are no model, hold no graph, or hold an operator that no definition is emitted in.
pub fn graph(bytes: &[u8], origin: &str) -> Result<GraphProto> {
    let wrong =
        |expected: &str, got: String| Error::Format { path: origin.to_owned(), expected: expected.to_owned(), got };
    let model = ModelProto::decode(bytes).map_err(|error| wrong("an ONNX model", error.to_string()))?;
    let graph = model.graph.ok_or_else(|| wrong("a model with a graph", "none".into()))?;
    match graph.node.iter().find(|node| !OPERATORS.contains(&node.op_type.as_str())) {
        Some(node) => Err(wrong(
            &format!("operators of this program's own graphs, {}", OPERATORS.join(", ")),
            format!("`{}` at the node `{}`", node.op_type, node.name),
        )),
        None => Ok(graph),
    }
}

/// The parameters of a graph in half precision, in the arrangement of [`Weights`]; `origin` names it in errors.
///
/// # Errors
/// As [`graph`]; also when the graph is quantised already: what was rounded away is not in it.
pub fn weights(bytes: &[u8], origin: &str) -> Result<Weights> {
    let graph = graph(bytes, origin)?;
    if let Some(tensor) = graph.initializer.iter().find(|t| t.data_type == DataType::Int8 as i32) {
        return Err(Error::Format {
            path: origin.to_owned(),
            expected: "a graph in half precision".into(),
            got: format!("one that is quantised already (`{}` is int8)", tensor.name),
        });
    }
    // Only a depthwise convolution has as many groups as its kernel has channels.
    let depthwise: BTreeSet<&str> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Conv" && node.attribute.iter().any(|a| a.name == "group" && a.i > 1))
        .filter_map(|node| node.input.get(1)?.strip_suffix("/f32"))
        .collect();
    let mut weights = Weights::new();
    for tensor in graph.initializer.iter().filter(|t| t.data_type == DataType::Float16 as i32) {
        let shape: Vec<usize> = tensor.dims.iter().map(|&side| usize::try_from(side).unwrap_or(0)).collect();
        let (name, order, shape) = arrangement(&tensor.name, shape, depthwise.contains(tensor.name.as_str()));
        let stored = halves(tensor, origin)?;
        let (target, index) = order.arrange(&shape);
        if target.iter().product::<usize>() != stored.len() {
            return Err(Error::Format {
                path: format!("{origin}: {}", tensor.name),
                expected: format!("{target:?} values"),
                got: stored.len().to_string(),
            });
        }
        let mut values = vec![0.0; stored.len()];
        for (i, value) in stored.into_iter().enumerate() {
            values[index(i)] = value;
        }
        weights.insert(name, shape, values)?;
    }
    Ok(weights)
}

/// The parameters of several graphs together. Where two hold one, both must hold the same.
///
/// # Errors
/// As [`weights`]; also when two graphs disagree.
pub fn weights_of_all<'a>(graphs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Weights> {
    let mut all = BTreeMap::new();
    for (origin, bytes) in graphs {
        for (name, tensor) in weights(bytes, origin)? {
            if all.get(&name).is_some_and(|known| *known != tensor) {
                return Err(Error::Format {
                    path: format!("{origin}: {name}"),
                    expected: "the parameter that another graph of the model holds".into(),
                    got: "another one".into(),
                });
            }
            all.insert(name, tensor);
        }
    }
    let mut together = Weights::new();
    together.extend(all);
    Ok(together)
}

/// A parameter's own name, how the graph arranges it, and its own shape.
fn arrangement(stored: &str, shape: Vec<usize>, depthwise: bool) -> (&str, Order, Vec<usize>) {
    if let (Some(name), &[input, out]) = (stored.strip_suffix("/transposed"), &shape[..]) {
        return (name, Order::Transposed, vec![out, input]);
    }
    if let (Some(name), &[channels, _, _]) = (stored.strip_suffix("/channel"), &shape[..]) {
        return (name, Order::Channel, vec![channels]);
    }
    let sides = shape.clone();
    match (stored.strip_suffix("/kernel"), &sides[..]) {
        (Some(name), &[channels, _, k, _]) if depthwise => (name, Order::Depthwise, vec![k, k, channels]),
        (Some(name), &[out, input, 1, 1]) => (name, Order::Pointwise, vec![out, input]),
        (Some(name), &[out, input, k, _]) => (name, Order::Dense, vec![out, k, k, input]),
        _ => (stored, Order::Plain, shape),
    }
}

fn halves(tensor: &TensorProto, origin: &str) -> Result<Vec<f32>> {
    let values = tensor.raw_data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
    let values: Vec<f32> = values.collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(Error::Format {
            path: format!("{origin}: {}", tensor.name),
            expected: "finite weights".into(),
            got: value.to_string(),
        }),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::candle::{Candle, Params};
    use crate::kestrel::{Config, vision};

    fn vision_graph() -> (Weights, Vec<u8>) {
        let (config, params) = (Config::tiny(), Params::new(&Device::Cpu, 7));
        let image = Tensor::zeros((1, config.image, config.image, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        vision(&mut Candle::evaluating(&params), &config, &image).unwrap();
        let mut weights = Weights::from_params(&params).unwrap();
        weights.round_f16().unwrap();
        let mut onnx = crate::onnx::Onnx::new(&weights);
        let image = onnx.input_map("image", &[1, config.image, config.image, 3]).unwrap();
        vision(&mut onnx, &config, &image).unwrap();
        let bytes = onnx.finish("vision");
        (weights, bytes)
    }

    #[test]
    fn weights_are_read_back_as_they_were() {
        let (weights, bytes) = vision_graph();
        assert_eq!(super::weights(&bytes, "vision.onnx").unwrap(), weights);
        let both = weights_of_all([("a", bytes.as_slice()), ("b", bytes.as_slice())]).unwrap();
        assert_eq!(both, weights);
    }

    #[test]
    fn what_is_not_ours_is_told() {
        let (_, bytes) = vision_graph();
        let error = super::weights(&bytes[..bytes.len() / 2], "vision.onnx").unwrap_err().to_string();
        assert!(error.contains("vision.onnx") && error.contains("an ONNX model"), "{error}");
        let change = |edit: &dyn Fn(&mut GraphProto)| {
            let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
            edit(model.graph.as_mut().unwrap());
            super::weights(&model.encode_to_vec(), "vision.onnx").unwrap_err().to_string()
        };
        let unknown = change(&|graph| graph.node[3].op_type = "LSTM".into());
        assert!(unknown.contains("`LSTM`") && unknown.contains("Conv"), "{unknown}");
        let broken = change(&|graph| {
            let tensor = graph.initializer.iter_mut().find(|t| t.name == "neck.embed.bias").unwrap();
            tensor.raw_data[..2].copy_from_slice(&f16::NAN.to_le_bytes());
        });
        assert!(broken.contains("neck.embed.bias") && broken.contains("NaN"), "{broken}");
        let cut = change(&|graph| {
            let tensor = graph.initializer.iter_mut().find(|t| t.name == "neck.embed.bias").unwrap();
            tensor.raw_data.truncate(4);
        });
        assert!(cut.contains("neck.embed.bias"), "{cut}");
    }
}
