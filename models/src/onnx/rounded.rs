//! QuantizeLinear and DequantizeLinear where a scheme rounds (source: ONNX operators of these names, version 13).
//!
//! A rounded layer reads its input through a pair and its kernel from int8 behind one DequantizeLinear, so that the file
//! holds integers. A tensor that several layers read alike passes one pair. Biases stay f32: TensorRT refuses
//! DequantizeLinear of int32, and ONNX Runtime makes integers of them itself where it fuses the layer.

use half::f16;
use tract_onnx::pb::tensor_proto::DataType;

use super::{Attribute, Onnx, Order, Value, count, node, proto};
use crate::error::Result;
use crate::quantise::{Rounding, Scheme, kernel};
use crate::weights::Weights;

/// What a quantised graph remembers while it is made.
#[derive(Debug)]
pub(super) struct Rounded<'a> {
    scheme: &'a Scheme,
    /// What was rounded, how, and the name of what came of it.
    pairs: Vec<(String, Rounding, String)>,
}

impl<'a> Onnx<'a> {
    /// An empty graph whose parameters come from `weights`, rounded as `scheme` says.
    ///
    /// # Errors
    /// When the scheme's numbers are none that a runtime takes.
    pub fn quantised(weights: &'a Weights, scheme: &'a Scheme) -> Result<Self> {
        scheme.check()?;
        Ok(Self { rounded: Some(Rounded { scheme, pairs: Vec::new() }), ..Self::new(weights) })
    }

    /// Whether the graph holds integers.
    pub(super) fn is_quantised(&self) -> bool {
        self.rounded.is_some()
    }

    /// A value as the layer that reads it at `place` has it.
    pub(super) fn at(&mut self, place: &str, x: &Value) -> Value {
        let Some(rounded) = &self.rounded else { return x.clone() };
        let Some(rounding) = rounded.scheme.at(place) else { return x.clone() };
        if let Some((.., known)) = rounded.pairs.iter().find(|(of, by, _)| *of == x.name && *by == rounding) {
            return Value { name: known.clone(), ..x.clone() };
        }
        let (scale, zero) = (self.scalar(rounding.scale), self.zero(rounding.unsigned));
        let codes = self.node("QuantizeLinear", &format!("{place}/codes"), &[&x.name, &scale, &zero], &[]);
        let back = self.node("DequantizeLinear", &format!("{place}/rounded"), &[&codes, &scale, &zero], &[]);
        if let Some(rounded) = &mut self.rounded {
            rounded.pairs.push((x.name.clone(), rounding, back.clone()));
        }
        Value { name: back, ..x.clone() }
    }

    /// Whether the parameter is a rounded layer's kernel.
    pub(super) fn is_rounded_kernel(&self, parameter: &str) -> bool {
        self.is_of_rounded_layer(parameter, ".weight")
    }

    /// Whether the parameter is a rounded layer's bias.
    pub(super) fn is_rounded_bias(&self, parameter: &str) -> bool {
        self.is_of_rounded_layer(parameter, ".bias")
    }

    fn is_of_rounded_layer(&self, parameter: &str, suffix: &str) -> bool {
        let layer = parameter.strip_suffix(suffix);
        let scheme = self.rounded.as_ref().map(|rounded| rounded.scheme);
        layer.zip(scheme).is_some_and(|(layer, scheme)| scheme.layers.contains_key(layer))
    }

    /// The name of a kernel as f32, stored as int8 in the arrangement that the node needs.
    ///
    /// Every node that reads a kernel gets codes of its own: where two share them, ONNX Runtime (1.31, with exact integer
    /// products on AVX2) turns the codes into uint8 twice and does not load the graph.
    pub(super) fn integer_kernel(&mut self, name: &str, shape: &[usize], order: Order) -> Result<String> {
        let stored = self.unique(&order.stored_name(name));
        let back = format!("{stored}/f32");
        let data = self.weights.expect(name, shape)?;
        let (target, index) = order.arrange(shape);
        let arranged: Vec<f32> = (0..data.len()).map(|i| data[index(i)]).collect();
        let axis = order.channels();
        let channels = target.get(axis).copied().unwrap_or(1);
        let inner = count(target.get(axis + 1..).unwrap_or_default());
        let levels = self.rounded.as_ref().map_or(127, |rounded| rounded.scheme.target.kernel_levels());
        let rounded = kernel(name, &arranged, channels, inner, levels)?;
        let (scale, zero) = (format!("{stored}/scale"), format!("{stored}/zero"));
        let codes = rounded.codes.iter().map(|code| code.to_le_bytes()[0]).collect();
        let scales = rounded.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        for tensor in [
            proto::tensor(&stored, &target, DataType::Int8, codes),
            proto::tensor(&scale, &[channels], DataType::Float, scales),
            proto::tensor(&zero, &[channels], DataType::Int8, vec![0; channels]),
        ] {
            self.initialisers.insert(tensor.name.clone(), tensor);
        }
        let along = [("axis", Attribute::Int(axis as i64))];
        self.nodes.push(node("DequantizeLinear", &back, &[&stored, &scale, &zero], &along));
        Ok(back)
    }

    /// The name of a bias, stored as f32.
    pub(super) fn wide_bias(&mut self, name: &str, shape: &[usize]) -> Result<String> {
        if !self.initialisers.contains_key(name) {
            let data = self.weights.expect(name, shape)?;
            let raw = data.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.initialisers.insert(name.to_owned(), proto::tensor(name, shape, DataType::Float, raw));
        }
        Ok(name.to_owned())
    }

    /// The name of a constant, stored once, and in half precision where that can hold it: beside values of eight bits the
    /// eleven of half precision are many.
    pub(super) fn compact(&mut self, data: &[f32], shape: &[usize]) -> String {
        let halves: Vec<f16> = data.iter().map(|value| f16::from_f32(*value)).collect();
        let fits = |value: f32, half: f16| {
            (half.to_f32() - value).abs() <= value.abs() / 2048.0 + f32::from(f16::MIN_POSITIVE)
        };
        let holds = data.iter().zip(&halves).all(|(value, half)| fits(*value, *half));
        let raw: Vec<u8> = match holds {
            true => halves.iter().flat_map(|half| half.to_le_bytes()).collect(),
            false => data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let kind = if holds { DataType::Float16 } else { DataType::Float };
        let dims: Vec<i64> = shape.iter().map(|side| *side as i64).collect();
        let same = |tensor: &&tract_onnx::pb::TensorProto| {
            tensor.name.starts_with("constant")
                && tensor.data_type == kind as i32
                && tensor.dims == dims
                && tensor.raw_data == raw
        };
        let known = self.initialisers.values().find(same).map(|tensor| tensor.name.clone());
        let stored = match known {
            Some(name) => name,
            None => {
                let name = self.unique("constant");
                self.initialisers.insert(name.clone(), proto::tensor(&name, shape, kind, raw));
                if holds {
                    let to = [("to", Attribute::Int(DataType::Float as i64))];
                    self.nodes.push(node("Cast", &format!("{name}/f32"), &[&name], &to));
                }
                name
            }
        };
        if holds { format!("{stored}/f32") } else { stored }
    }

    /// The name of the zero point.
    fn zero(&mut self, unsigned: bool) -> String {
        let (name, kind) = if unsigned { ("u8:0", DataType::Uint8) } else { ("i8:0", DataType::Int8) };
        self.initialisers.entry(name.to_owned()).or_insert_with(|| proto::tensor(name, &[], kind, vec![0]));
        name.to_owned()
    }
}

impl Order {
    /// The axis of the output channels in the arranged kernel.
    fn channels(self) -> usize {
        usize::from(self == Self::Transposed)
    }
}
