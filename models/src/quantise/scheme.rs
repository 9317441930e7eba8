//! What is rounded, and how.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{FEWEST_CHANNELS, Method, Observer, Rounding, residual};
use crate::error::{Error, Result};

/// Whose integer kernels a graph is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// TensorRT's explicit quantisation: activations and kernels as int8, zero at zero.
    TensorRt,
    /// ONNX Runtime on a processor: tensors that are never negative as uint8 from zero, into which it fuses their ReLU;
    /// kernels within ±63, so that AVX2 without VNNI adds two products in 16 bits without saturating (source: ONNX
    /// Runtime documentation, "Quantize ONNX models", on VPMADDUBSW and `reduce_range`). TensorRT takes no such graph.
    Cpu,
}

impl Target {
    /// The largest code of a kernel.
    pub fn kernel_levels(self) -> i8 {
        match self {
            Self::TensorRt => 127,
            Self::Cpu => 63,
        }
    }
}

/// What is rounded, and how: the part of a quantised model that is not in its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Whose kernels it is for.
    pub target: Target,
    /// The rounding of the input of every layer whose kernel is rounded too.
    pub layers: BTreeMap<String, Rounding>,
    /// The rounding of what is added to a layer's output, by the layer's name.
    pub residuals: BTreeMap<String, Rounding>,
    /// Layers that stay wide though they could be rounded.
    pub kept: BTreeSet<String>,
}

impl Scheme {
    /// A scheme from what was observed. Maps over rows with fewer than [`FEWEST_CHANNELS`] inputs or outputs stay wide.
    ///
    /// # Errors
    /// When nothing was observed, the method does not fit, or `kept` names a layer that there is not.
    pub fn of(observer: &Observer, target: Target, method: Method, kept: &BTreeSet<String>) -> Result<Self> {
        let (seen, kernels) = (observer.seen(), observer.kernels());
        if seen.is_empty() {
            return Err(Error::Request {
                operation: "make a scheme",
                expected: "at least one observed pass".into(),
                got: "none".into(),
            });
        }
        let unsigned = target == Target::Cpu;
        let mut scheme = Self { target, layers: BTreeMap::new(), residuals: BTreeMap::new(), kept: kept.clone() };
        for (layer, shape) in &kernels {
            let narrow = matches!(shape[..], [out, input] if out.min(input) < FEWEST_CHANNELS);
            // An embedding that scores nothing has a kernel and no input of its own.
            let Some(observed) = seen.get(layer).filter(|_| !narrow) else { continue };
            scheme.layers.insert(layer.clone(), observed.rounding(method, unsigned)?);
            if let Some(observed) = seen.get(&residual(layer)) {
                scheme.residuals.insert(layer.clone(), observed.rounding(method, unsigned)?);
            }
        }
        for layer in kept {
            scheme.residuals.remove(layer);
            if scheme.layers.remove(layer).is_none() {
                return Err(Error::Request {
                    operation: "keep a layer wide",
                    expected: format!("one of the layers that can be rounded, {}", listed(scheme.layers.keys())),
                    got: layer.clone(),
                });
            }
        }
        Ok(scheme)
    }

    /// The same, with only these layers rounded.
    pub fn only(&self, layers: &BTreeSet<String>) -> Self {
        let mut only = self.clone();
        only.layers.retain(|layer, _| layers.contains(layer));
        only.residuals.retain(|layer, _| layers.contains(layer));
        only.kept.extend(self.layers.keys().filter(|layer| !layers.contains(*layer)).cloned());
        only
    }

    /// The rounding at a place, if there is one: a layer's name, or [`residual`] of it.
    pub fn at(&self, place: &str) -> Option<Rounding> {
        let found = self.layers.get(place);
        found.or_else(|| self.residuals.get(place.strip_suffix("/residual")?)).copied()
    }

    /// Checks numbers that came from a file.
    ///
    /// # Errors
    /// When a scale is not a positive number, or one is unsigned for a runtime that takes none.
    pub fn check(&self) -> Result<()> {
        for (place, rounding) in self.layers.iter().chain(&self.residuals) {
            let fits = rounding.scale.is_normal() && rounding.scale > 0.0;
            if !fits || (rounding.unsigned && self.target == Target::TensorRt) {
                return Err(Error::Format {
                    path: place.clone(),
                    expected: format!("a positive scale that {:?} takes", self.target),
                    got: format!("{rounding:?}"),
                });
            }
        }
        Ok(())
    }
}

/// The first few names.
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.take(8).map(String::as_str).collect();
    format!("{} …", names.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::candle::{Candle, Params};
    use crate::ops::{Act, Ops};

    /// Two layers, the second with what is added to it, and a narrow one.
    fn observed() -> Observer {
        let (params, observer) = (Params::new(&Device::Cpu, 1), Observer::default());
        let mut ops = Candle::evaluating(&params).with_places(&observer);
        let x = Tensor::from_vec((0..32).map(|i| i as f32 * 0.25 - 1.0).collect::<Vec<_>>(), (1, 2, 16), &Device::Cpu);
        let x = x.unwrap();
        let y = ops.linear(&x, "a", 16, true, Act::Relu).unwrap();
        let z = ops.linear(&y, "b", 16, true, Act::None).unwrap();
        let z = ops.residual(&z, &x, "b").unwrap();
        ops.linear(&z, "score", 1, true, Act::None).unwrap();
        observer
    }

    #[test]
    fn layers_are_rounded_but_for_narrow_and_kept_ones() {
        let observer = observed();
        let scheme = Scheme::of(&observer, Target::TensorRt, Method::MinMax, &BTreeSet::new()).unwrap();
        assert_eq!(scheme.layers.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!((scheme.layers["a"].scale - 6.75 / 127.0).abs() < 1e-7);
        assert_eq!(scheme.at("b/residual"), scheme.at("a"), "the same tensor is rounded alike");
        assert_eq!(scheme.at("score"), None);
        let kept = Scheme::of(&observer, Target::TensorRt, Method::MinMax, &["b".to_owned()].into()).unwrap();
        assert_eq!((kept.at("b"), kept.at("b/residual")), (None, None));
        let only = scheme.only(&["a".to_owned()].into());
        assert_eq!((only.layers.len(), only.residuals.len(), only.kept.len()), (1, 0, 1));
        let unknown = Scheme::of(&observer, Target::TensorRt, Method::MinMax, &["c".to_owned()].into());
        assert!(unknown.unwrap_err().to_string().contains("got c"));
        assert!(Scheme::of(&Observer::default(), Target::Cpu, Method::MinMax, &BTreeSet::new()).is_err());
    }

    #[test]
    fn only_a_processor_takes_unsigned_codes() {
        let cpu = Scheme::of(&observed(), Target::Cpu, Method::MinMax, &BTreeSet::new()).unwrap();
        assert!(cpu.layers["b"].unsigned && !cpu.layers["a"].unsigned);
        cpu.check().unwrap();
        let wrong = Scheme { target: Target::TensorRt, ..cpu.clone() };
        assert!(wrong.check().is_err());
        let mut broken = cpu;
        broken.residuals.insert("a".into(), Rounding { scale: f32::NAN, unsigned: false });
        assert!(broken.check().unwrap_err().to_string().contains("a: "));
    }

    #[test]
    fn a_scheme_is_read_back() {
        let scheme = Scheme::of(&observed(), Target::Cpu, Method::MinMax, &BTreeSet::new()).unwrap();
        let text = serde_json::to_string(&scheme).unwrap();
        assert_eq!(serde_json::from_str::<Scheme>(&text).unwrap(), scheme);
        assert!(serde_json::from_str::<Scheme>(&text.replace("\"target\"", "\"for\"")).is_err());
    }
}
