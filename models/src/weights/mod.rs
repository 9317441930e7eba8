//! Named parameters outside any interpreter: read from files, rounded, written.

pub mod checkpoint;
pub mod efficientnet_lite0;
mod parameters;
pub mod pth;

use std::collections::BTreeMap;
use std::collections::btree_map;

use half::f16;

use crate::error::{Error, Result};

/// A tensor's shape and its values in row-major order.
pub type Tensor = (Vec<usize>, Vec<f32>);

/// Named f32 tensors, sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor, replacing one of the same name.
    ///
    /// # Errors
    /// When the shape does not hold that many values.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, data: Vec<f32>) -> Result<()> {
        let name = name.into();
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(data.len()) {
            return Err(Error::Shape {
                operation: "weights",
                name,
                expected: format!("{} values in all", data.len()),
                got: shape,
            });
        }
        self.tensors.insert(name, (shape, data));
        Ok(())
    }

    /// Shape and values of a tensor, if there is one of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The values of a tensor that must be there with this shape.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        match self.tensors.get(name) {
            Some((found, data)) if found == shape => Ok(data),
            Some((found, _)) => Err(Error::Shape {
                operation: "weights",
                name: name.to_owned(),
                expected: format!("{shape:?}"),
                got: found.clone(),
            }),
            None => Err(Error::MissingParameter {
                name: name.to_owned(),
                shape: shape.to_vec(),
                from: format!("{} named tensors", self.tensors.len()),
            }),
        }
    }

    /// All tensors in order of their names.
    pub fn iter(&self) -> btree_map::Iter<'_, String, Tensor> {
        self.tensors.iter()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|(_, data)| data.len()).sum()
    }

    /// Rounds every value to the nearest half-precision number, as the exported graphs store it.
    ///
    /// # Errors
    /// When a value is beyond half precision's range or not finite.
    pub fn round_f16(&mut self) -> Result<()> {
        for (name, (_, data)) in &mut self.tensors {
            for value in data {
                *value = half_of(name, *value)?.to_f32();
            }
        }
        Ok(())
    }
}

/// One value of a parameter in half precision; one that would become infinite is an error, not a broken model.
pub(crate) fn half_of(name: &str, value: f32) -> Result<f16> {
    let half = f16::from_f32(value);
    if half.is_finite() {
        Ok(half)
    } else {
        Err(Error::Format {
            path: name.to_owned(),
            expected: "values within ±65504 (half precision)".into(),
            got: value.to_string(),
        })
    }
}

impl From<Weights> for BTreeMap<String, Tensor> {
    fn from(weights: Weights) -> Self {
        weights.tensors
    }
}

impl Extend<(String, Tensor)> for Weights {
    fn extend<I: IntoIterator<Item = (String, Tensor)>>(&mut self, tensors: I) {
        self.tensors.extend(tensors);
    }
}

impl IntoIterator for Weights {
    type Item = (String, Tensor);
    type IntoIter = btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

impl<'a> IntoIterator for &'a Weights {
    type Item = (&'a String, &'a Tensor);
    type IntoIter = btree_map::Iter<'a, String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn errors_name_the_tensor_and_both_shapes() {
        let mut w = Weights::new();
        assert!(w.insert("a", vec![2, 2], vec![0.0; 3]).is_err());
        w.insert("a", vec![2, 2], vec![1.0; 4]).unwrap();
        assert_eq!(w.expect("a", &[2, 2]).unwrap(), &[1.0; 4]);
        let wrong = w.expect("a", &[4]).unwrap_err().to_string();
        assert!(wrong.contains("`a`") && wrong.contains("[4]") && wrong.contains("[2, 2]"), "{wrong}");
        assert!(w.expect("b", &[4]).unwrap_err().to_string().contains("`b`"));
    }

    #[test]
    fn rounding_is_to_half_and_refuses_overflow() {
        let mut w = Weights::new();
        w.insert("a", vec![2], vec![0.1, 1.0 + 1.0 / 4096.0]).unwrap();
        w.round_f16().unwrap();
        assert_eq!(w.get("a").unwrap().1, vec![0.099_975_586, 1.0]);
        w.insert("a", vec![1], vec![70_000.0]).unwrap();
        assert!(w.round_f16().is_err());
    }
}
