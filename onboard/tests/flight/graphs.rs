//! Writing ONNX graphs by hand.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

/// A graph in the making.
#[derive(Default)]
pub(crate) struct Builder {
    graph: GraphProto,
}

impl Builder {
    pub(crate) fn input(mut self, name: &str, shape: &[usize]) -> Self {
        self.graph.input.push(value(name, shape, DataType::Float));
        self
    }

    pub(crate) fn integers(mut self, name: &str, shape: &[usize]) -> Self {
        self.graph.input.push(value(name, shape, DataType::Int64));
        self
    }

    pub(crate) fn output(mut self, name: &str, shape: &[usize]) -> Self {
        self.graph.output.push(value(name, shape, DataType::Float));
        self
    }

    pub(crate) fn floats(mut self, name: &str, shape: &[usize], data: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}");
        let raw_data = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(tensor(name, shape, DataType::Float, raw_data));
        self
    }

    pub(crate) fn indices(mut self, name: &str, data: &[i64]) -> Self {
        let raw_data = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(tensor(name, &[data.len()], DataType::Int64, raw_data));
        self
    }

    pub(crate) fn node(self, operation: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(operation, inputs, output, &[])
    }

    /// A node with attributes of integers: one is a plain integer, more are a list.
    pub(crate) fn node_with(
        mut self,
        operation: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, &[i64], bool)],
    ) -> Self {
        self.graph.node.push(NodeProto {
            name: format!("{output}_node"),
            op_type: operation.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute: attributes.iter().map(|(name, values, list)| attribute(name, values, *list)).collect(),
            ..NodeProto::default()
        });
        self
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.graph.name = "test".into();
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }
}

fn attribute(name: &str, values: &[i64], list: bool) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.into(), ..AttributeProto::default() };
    if list {
        attribute.ints = values.to_vec();
        attribute.r#type = AttributeType::Ints as i32;
    } else {
        attribute.i = values[0];
        attribute.r#type = AttributeType::Int as i32;
    }
    attribute
}

fn tensor(name: &str, shape: &[usize], kind: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: shape.iter().map(|&side| side as i64).collect(),
        data_type: kind as i32,
        raw_data,
        ..TensorProto::default()
    }
}

fn value(name: &str, shape: &[usize], kind: DataType) -> ValueInfoProto {
    let dim = shape.iter().map(|&side| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(side as i64)),
        ..Default::default()
    });
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(TensorShapeProto { dim: dim.collect() }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
