//! Weights to and from the parameters that candle trains.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::Weights;
use crate::candle::Params;
use crate::error::Result;

impl Weights {
    /// A copy of all parameters, frozen ones too.
    ///
    /// # Errors
    /// When they cannot be copied off their device.
    pub fn from_params(params: &Params) -> Result<Self> {
        Self::from_tensors(&params.tensors())
    }

    /// A copy of named tensors as f32.
    ///
    /// # Errors
    /// When they cannot be copied off their device.
    pub fn from_tensors(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let mut weights = Self::new();
        for (name, tensor) in tensors {
            let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
            weights.insert(name, tensor.dims().to_vec(), values)?;
        }
        Ok(weights)
    }

    /// The tensors on `device`.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_tensors(&self, device: &Device) -> Result<HashMap<String, Tensor>> {
        let tensor = |(name, (shape, data)): (&String, &super::Tensor)| {
            Ok((name.clone(), Tensor::from_slice(data, shape.as_slice(), device)?))
        };
        self.iter().map(tensor).collect()
    }

    /// Sets the parameters of these names, making those that are new.
    ///
    /// # Errors
    /// When one is there with another shape.
    pub fn set_into(&self, params: &Params) -> Result<()> {
        for (name, tensor) in self.to_tensors(params.device())? {
            params.insert(&name, &tensor)?;
        }
        Ok(())
    }

    /// Parameters on `device` that are exactly these; a missing one is refused.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_params(&self, device: &Device) -> Result<Params> {
        let mut params = Params::new(device, 0);
        params.init_missing = false;
        self.set_into(&params)?;
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn round_trips_through_candle() {
        let mut weights = Weights::new();
        weights.insert("a.weight", vec![2, 3], (0..6).map(|v| v as f32).collect()).unwrap();
        weights.insert("b", vec![1], vec![-1.5]).unwrap();
        let params = weights.to_params(&Device::Cpu).unwrap();
        assert!(!params.init_missing);
        assert_eq!(Weights::from_params(&params).unwrap(), weights);
        let mut other = Weights::new();
        other.insert("b", vec![2], vec![0.0; 2]).unwrap();
        assert!(other.set_into(&params).is_err());
    }
}
