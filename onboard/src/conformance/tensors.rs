//! Inputs and expected outputs of a case.

use std::path::Path;

use image::ImageFormat;
use kestrel_perception::{Scratch, View, preprocess};
use ndarray::Array4;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::ConformanceError;
use super::suite::Frame;
use crate::engine::Input;

/// What the names of inputs begin with in the file.
const INPUT: &str = "in.";
/// What the names of expected outputs begin with in the file.
const OUTPUT: &str = "out.";

/// Values of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// A tensor with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// As in the graph.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Values,
}

impl Named {
    /// As an engine takes it.
    #[must_use]
    pub fn as_input(&self) -> Input<'_> {
        match &self.values {
            Values::F32(data) => Input::F32(&self.shape, data),
            Values::I64(data) => Input::I64(&self.shape, data),
        }
    }

    fn bytes(&self) -> (Dtype, Vec<u8>) {
        match &self.values {
            Values::F32(data) => (Dtype::F32, data.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Values::I64(data) => (Dtype::I64, data.iter().flat_map(|value| value.to_le_bytes()).collect()),
        }
    }
}

/// Inputs and expected outputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensors {
    /// What the graph is given.
    pub inputs: Vec<Named>,
    /// What it should give.
    pub outputs: Vec<Named>,
}

impl Tensors {
    /// Reads the bytes of a safetensors file; `path` names it in errors.
    ///
    /// # Errors
    /// When it is none, or holds a tensor that is neither an input nor an output, or of another type than f32 and i64.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConformanceError> {
        let wrong = |expected: &str, got: String| ConformanceError::Content {
            path: path.to_owned(),
            expected: expected.to_owned(),
            got,
        };
        let file = SafeTensors::deserialize(bytes).map_err(|error| wrong("a safetensors file", error.to_string()))?;
        let mut tensors = Self::default();
        for (name, view) in file.iter() {
            let values = values(&view).ok_or_else(|| wrong("F32 or I64", format!("{:?} for {name}", view.dtype())))?;
            let named = |name: &str| Named { name: name.to_owned(), shape: view.shape().to_vec(), values };
            if let Some(name) = name.strip_prefix(INPUT) {
                tensors.inputs.push(named(name));
            } else if let Some(name) = name.strip_prefix(OUTPUT) {
                tensors.outputs.push(named(name));
            } else {
                return Err(wrong("names that begin with `in.` or `out.`", name.to_owned()));
            }
        }
        if tensors.outputs.is_empty() {
            return Err(wrong("at least one expected output", "none".into()));
        }
        tensors.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        tensors.outputs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tensors)
    }

    /// The bytes of a safetensors file, the same for the same tensors.
    ///
    /// # Errors
    /// When a shape does not fit its values; `path` names the file in the error.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, ConformanceError> {
        let wrong = |error: safetensors::SafeTensorError| ConformanceError::Content {
            path: path.to_owned(),
            expected: "tensors whose shapes fit their values".into(),
            got: error.to_string(),
        };
        let kept: Vec<_> = [(INPUT, &self.inputs), (OUTPUT, &self.outputs)]
            .into_iter()
            .flat_map(|(prefix, all)| all.iter().map(move |named| (prefix, named)))
            .map(|(prefix, named)| (format!("{prefix}{}", named.name), named.shape.as_slice(), named.bytes()))
            .collect();
        let mut views = Vec::with_capacity(kept.len());
        for (name, shape, (kind, bytes)) in &kept {
            views.push((name.as_str(), TensorView::new(*kind, shape.to_vec(), bytes).map_err(wrong)?));
        }
        safetensors::serialize(views, None).map_err(wrong)
    }
}

fn values(view: &TensorView<'_>) -> Option<Values> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => {
            Some(Values::F32(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
        }
        Dtype::I64 => Some(Values::I64(
            data.chunks_exact(8)
                .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
        )),
        _ => None,
    }
}

impl Frame {
    /// The input that the bytes of its PNG are, by the preprocessing that flies; `path` names them in errors.
    ///
    /// # Errors
    /// When they are no picture, or one without a pixel.
    pub fn input(&self, path: &Path, bytes: &[u8]) -> Result<Named, ConformanceError> {
        let wrong =
            |got: String| ConformanceError::Content { path: path.to_owned(), expected: "a frame as PNG".into(), got };
        let picture = image::load_from_memory_with_format(bytes, ImageFormat::Png)
            .map_err(|error| wrong(error.to_string()))?
            .into_rgb8();
        let side = self.side as usize;
        let mut input = Array4::zeros((1, 3, side, side));
        let whole = View::whole(picture.width(), picture.height());
        preprocess(&picture, &whole, &mut input, &mut Scratch::default()).map_err(|error| wrong(error.to_string()))?;
        let shape = input.shape().to_vec();
        Ok(Named { name: self.input.clone(), shape, values: Values::F32(input.into_raw_vec_and_offset().0) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sample() -> Tensors {
        Tensors {
            inputs: vec![
                Named { name: "a".into(), shape: vec![1, 2], values: Values::F32(vec![1.5, -2.0]) },
                Named { name: "ids".into(), shape: vec![3], values: Values::I64(vec![1, -1, i64::MAX]) },
            ],
            outputs: vec![Named { name: "y".into(), shape: vec![2], values: Values::F32(vec![0.25, 8.0]) }],
        }
    }

    #[test]
    fn tensors_are_read_as_they_were_written() {
        let path = Path::new("case.safetensors");
        let bytes = sample().to_bytes(path).unwrap();
        assert_eq!(bytes, sample().to_bytes(path).unwrap());
        assert_eq!(Tensors::parse(path, &bytes).unwrap(), sample());
    }

    /// What would break: a cut or foreign file would panic a drone that checks itself, or pass as an empty case.
    #[test]
    fn files_that_are_none_are_refused() {
        let path = Path::new("case.safetensors");
        let bytes = sample().to_bytes(path).unwrap();
        for cut in 0..bytes.len() {
            assert!(Tensors::parse(path, &bytes[..cut]).is_err(), "{cut}");
        }
        let nothing = Tensors { outputs: Vec::new(), ..sample() }.to_bytes(path).unwrap();
        assert!(Tensors::parse(path, &nothing).unwrap_err().to_string().contains("expected output"));
        let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let stray = safetensors::serialize([("y", view)], None).unwrap();
        assert!(Tensors::parse(path, &stray).unwrap_err().to_string().contains("`in.`"));
        let view = TensorView::new(Dtype::U8, vec![4], &[0; 4]).unwrap();
        let bytes = safetensors::serialize([("out.y", view)], None).unwrap();
        assert!(Tensors::parse(path, &bytes).unwrap_err().to_string().contains("U8"));
        let misshapen = Tensors { inputs: vec![Named { shape: vec![7], ..sample().inputs.remove(0) }], ..sample() };
        assert!(misshapen.to_bytes(path).is_err());
    }
}
