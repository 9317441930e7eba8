//! Named parameters, and gradients summed over samples.

use super::Places;
use super::lora::{self, Lora};
use crate::error::{Error, Result};
use crate::ops::Init;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The parameters of a model, by full name. Threads may read them at once.
///
/// A parameter that no file gave is made when the definition first asks for it, so one pass over a small input
/// initialises a model. Its values depend on its name and the seed only, never on the order of the calls.
#[derive(Debug)]
pub struct Params {
    /// Whether a missing parameter is made rather than refused.
    pub init_missing: bool,
    device: Device,
    seed: u64,
    entries: RwLock<HashMap<String, Entry>>,
    places: Option<Arc<dyn Places + Send>>,
}

#[derive(Debug, Clone)]
struct Entry {
    var: Var,
    frozen: bool,
    adapter: Option<Lora>,
}

impl Params {
    /// No parameters yet; missing ones are made on `device`.
    pub fn new(device: &Device, seed: u64) -> Self {
        Self { init_missing: true, device: device.clone(), seed, entries: RwLock::default(), places: None }
    }

    /// Every pass over these parameters is watched or rounded at the places of a quantised graph from now on.
    pub fn set_places(&mut self, places: impl Places + Send + 'static) {
        self.places = Some(Arc::new(places));
    }

    /// The same places as other parameters have, if any.
    pub fn set_places_of(&mut self, other: &Self) {
        self.places.clone_from(&other.places);
    }

    pub(super) fn places(&self) -> Option<&dyn Places> {
        self.places.as_deref().map(|places| places as &dyn Places)
    }

    /// Copies of `tensors` as `f32`, on the device they are on (the CPU if there are none); a missing one is refused.
    pub fn from_tensors(tensors: HashMap<String, Tensor>) -> Result<Self> {
        let device = tensors.values().next().map_or(Device::Cpu, |t| t.device().clone());
        let params = Self { init_missing: false, ..Self::new(&device, 0) };
        for (name, tensor) in tensors {
            params.insert(&name, &tensor)?;
        }
        Ok(params)
    }

    /// Where the parameters are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Sets a parameter to a copy of `tensor`, making it if it is new.
    ///
    /// # Errors
    /// When there is one of this name with another shape.
    pub fn insert(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let tensor = tensor.to_device(&self.device)?.to_dtype(DType::F32)?.contiguous()?;
        if let Some(entry) = self.entry(name) {
            if entry.var.dims() != tensor.dims() {
                return Err(shape_error(name, entry.var.dims(), tensor.dims()));
            }
            // A copy: candle refuses to set a variable from its own storage.
            entry.var.set(&tensor.copy()?)?;
            return Ok(());
        }
        let entry = Entry { var: Var::from_tensor(&tensor.detach().copy()?)?, frozen: false, adapter: None };
        self.write().insert(name.to_string(), entry);
        Ok(())
    }

    /// Freezes exactly those present parameters for which `frozen` holds; they get no gradient. A matrix with an adapter
    /// is frozen in any case.
    pub fn freeze(&self, frozen: impl Fn(&str) -> bool) {
        for (name, entry) in self.write().iter_mut() {
            entry.frozen = frozen(name);
        }
    }

    /// The trainable parameters, sorted by name.
    pub fn vars(&self) -> Vec<(String, Var)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut vars: Vec<_> = entries
            .iter()
            .filter(|(_, entry)| !entry.frozen && entry.adapter.is_none())
            .map(|(name, entry)| (name.clone(), entry.var.clone()))
            .collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        vars
    }

    /// All parameters, frozen ones too. They share memory with the model: copy them to keep a state.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(name, entry)| (name.clone(), entry.var.as_detached_tensor())).collect()
    }

    /// How many numbers they hold together.
    pub fn count(&self) -> usize {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.var.elem_count()).sum()
    }

    /// The parameter as the definition sees it: with its adapter, detached if frozen or if `detach`.
    pub(super) fn get(&self, name: &str, shape: &[usize], init: Init, detach: bool) -> Result<Tensor> {
        let entry = match self.entry(name) {
            Some(entry) => entry,
            None => self.initialise(name, shape, init)?,
        };
        if entry.var.dims() != shape {
            return Err(shape_error(name, shape, entry.var.dims()));
        }
        if let Some(adapter) = entry.adapter {
            let part = |name: String| match self.entry(&name) {
                Some(part) if detach || part.frozen => Ok(part.var.as_detached_tensor()),
                Some(part) => Ok(part.var.as_tensor().clone()),
                None => Err(missing(&name, &[adapter.rank])),
            };
            let (down, up) = (part(lora::down_name(name))?, part(lora::up_name(name))?);
            return Ok(adapter.applied(&entry.var.as_detached_tensor(), &down, &up)?);
        }
        match detach || entry.frozen {
            true => Ok(entry.var.as_detached_tensor()),
            false => Ok(entry.var.as_tensor().clone()),
        }
    }

    /// Makes a parameter, files or not.
    pub(super) fn make(&self, name: &str, shape: &[usize], init: Init) -> Result<()> {
        let values = initial(name, self.seed, shape.iter().product(), init);
        self.insert(name, &Tensor::from_vec(values, shape, &self.device)?)
    }

    /// Adds the adapter's parameters to this one from now on.
    pub(super) fn set_adapter(&self, name: &str, adapter: Lora) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.adapter = Some(adapter);
        }
    }

    fn initialise(&self, name: &str, shape: &[usize], init: Init) -> Result<Entry> {
        if !self.init_missing {
            return Err(missing(name, shape));
        }
        let values = initial(name, self.seed, shape.iter().product(), init);
        let var = Var::from_vec(values, shape, &self.device)?;
        // Another thread may have been first; its values are the same.
        let mut entries = self.write();
        Ok(entries.entry(name.to_string()).or_insert(Entry { var, frozen: false, adapter: None }).clone())
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(name: &str, shape: &[usize]) -> Error {
    Error::MissingParameter { name: name.to_string(), shape: shape.to_vec(), from: "the loaded parameters".to_string() }
}

fn shape_error(name: &str, expected: &[usize], got: &[usize]) -> Error {
    Error::Shape {
        operation: "parameter",
        name: name.to_string(),
        expected: format!("{expected:?}"),
        got: got.to_vec(),
    }
}

fn initial(name: &str, seed: u64, count: usize, init: Init) -> Vec<f32> {
    let deviation = match init {
        Init::Zeros => return vec![0.0; count],
        Init::Ones => return vec![1.0; count],
        Init::Normal(deviation) => deviation,
    };
    // FNV-1a: stable across versions and platforms, unlike the standard library's hasher.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut rng = ChaCha8Rng::seed_from_u64(hash ^ seed.rotate_left(32));
    let mut unit = move || (f64::from(rng.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // Box and Muller: two uniform numbers make two normal ones.
        let (radius, angle) = ((-2.0 * unit().ln()).sqrt(), std::f64::consts::TAU * unit());
        values.push((radius * angle.cos()) as f32 * deviation);
        values.push((radius * angle.sin()) as f32 * deviation);
    }
    values.truncate(count);
    values
}

/// The gradients of `vars`, summed over `stores` in their order; a parameter without any gradient is left out.
pub fn sum_grads(stores: Vec<GradStore>, vars: &[(String, Var)]) -> Result<HashMap<String, Tensor>> {
    let mut sums = HashMap::with_capacity(vars.len());
    for (name, var) in vars {
        let mut sum: Option<Tensor> = None;
        for grad in stores.iter().filter_map(|store| store.get(var.as_tensor())) {
            sum = Some(match sum {
                Some(sum) => (sum + grad)?,
                None => grad.clone(),
            });
        }
        if let Some(sum) = sum {
            sums.insert(name.clone(), sum.detach().contiguous()?);
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn initial_values_depend_on_name_and_seed_only() {
        let normal = |name, seed| initial(name, seed, 10_001, Init::Normal(0.5));
        assert_eq!(normal("a.weight", 1), normal("a.weight", 1));
        assert_ne!(normal("a.weight", 1), normal("b.weight", 1));
        assert_ne!(normal("a.weight", 1), normal("a.weight", 2));
        let values = normal("a.weight", 1);
        let mean = values.iter().sum::<f32>() / 10_001.0;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 10_001.0;
        assert!(mean.abs() < 0.02 && (variance.sqrt() - 0.5).abs() < 0.02, "mean {mean}, variance {variance}");
    }

    #[test]
    fn a_missing_parameter_is_refused_once_files_are_loaded() {
        let made = Params::new(&Device::Cpu, 7);
        made.get("a", &[2, 3], Init::Ones, false).unwrap();
        let loaded = Params::from_tensors(made.tensors()).unwrap();
        assert_eq!(loaded.count(), 6);
        assert!(matches!(loaded.get("b", &[1], Init::Zeros, false), Err(Error::MissingParameter { .. })));
        assert!(matches!(loaded.get("a", &[3, 2], Init::Ones, false), Err(Error::Shape { .. })));
    }

    #[test]
    fn loaded_parameters_are_copies_and_frozen_ones_are_detached() {
        let made = Params::new(&Device::Cpu, 7);
        made.get("a", &[2], Init::Ones, false).unwrap();
        made.get("b", &[2], Init::Ones, false).unwrap();
        let loaded = Params::from_tensors(made.tensors()).unwrap();
        loaded.insert("a", &Tensor::new(&[5.0f32, 6.0], &Device::Cpu).unwrap()).unwrap();
        let original = made.get("a", &[2], Init::Ones, false).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(original, [1.0, 1.0]);
        loaded.freeze(|name| name == "a");
        assert_eq!(loaded.vars().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
        assert!(!loaded.get("a", &[2], Init::Ones, false).unwrap().is_variable());
        assert!(loaded.get("b", &[2], Init::Ones, false).unwrap().is_variable());
    }

    #[test]
    fn gradients_of_samples_are_summed() {
        let params = Params::new(&Device::Cpu, 7);
        let a = params.get("a", &[2], Init::Ones, false).unwrap();
        params.get("unused", &[2], Init::Ones, false).unwrap();
        let stores = [2.0, 3.0].map(|factor| (&a * factor).unwrap().sum_all().unwrap().backward().unwrap());
        let sums = sum_grads(stores.into(), &params.vars()).unwrap();
        assert_eq!(sums["a"].to_vec1::<f32>().unwrap(), [5.0, 5.0]);
        assert!(!sums.contains_key("unused"));
    }
}
