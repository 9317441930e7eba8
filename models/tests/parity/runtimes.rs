//! Running serialised graphs in tract and in ONNX Runtime.

use std::sync::{Mutex, OnceLock};

use kestrel_onboard::engine::library;
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use tract_onnx::prelude::*;

/// A graph input.
pub(crate) struct Feed {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

pub(crate) enum Data {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

pub(crate) type Outputs = Vec<Vec<f32>>;

/// Runs a graph in tract; outputs in the graph's order.
pub(crate) fn tract(model: &[u8], feeds: &[Feed]) -> Outputs {
    let plan =
        tract_onnx::onnx().model_for_read(&mut &*model).unwrap().into_optimized().unwrap().into_runnable().unwrap();
    let inputs = feeds.iter().map(|feed| match &feed.data {
        Data::Floats(v) => Tensor::from_shape(&feed.shape, v).unwrap().into_tvalue(),
        Data::Integers(v) => Tensor::from_shape(&feed.shape, v).unwrap().into_tvalue(),
    });
    let outputs = plan.run(inputs.collect()).unwrap();
    outputs.iter().map(|t| t.to_plain_array_view::<f32>().unwrap().iter().copied().collect()).collect()
}

/// Runs a graph in ONNX Runtime, if there is a library; outputs in the graph's order.
pub(crate) fn onnx_runtime(model: &[u8], feeds: &[Feed]) -> Option<Outputs> {
    let environment = environment()?;
    let mut session = Session::builder(environment)
        .unwrap()
        .with_intra_threads(1)
        .unwrap()
        // As the drone asks for it: products of integers that no processor saturates.
        .with_config_entry(kestrel_onboard::engine::EXACT_INTEGERS.0, kestrel_onboard::engine::EXACT_INTEGERS.1)
        .unwrap()
        .commit_from_memory(model)
        .unwrap();
    let inputs: Vec<(&str, SessionInputValue<'_>)> = feeds
        .iter()
        .map(|feed| match &feed.data {
            Data::Floats(v) => {
                (feed.name, ort::value::Tensor::from_array((feed.shape.clone(), v.clone())).unwrap().into())
            }
            Data::Integers(v) => {
                (feed.name, ort::value::Tensor::from_array((feed.shape.clone(), v.clone())).unwrap().into())
            }
        })
        .collect();
    let names: Vec<String> = session.outputs().iter().map(|o| o.name().to_owned()).collect();
    let outputs = session.run(inputs).unwrap();
    Some(names.iter().map(|name| outputs[name.as_str()].try_extract_tensor::<f32>().unwrap().1.to_vec()).collect())
}

pub(crate) fn has_onnx_runtime() -> bool {
    environment().is_some()
}

fn environment() -> Option<&'static Environment> {
    static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
    static LOADING: Mutex<()> = Mutex::new(());
    let _guard = LOADING.lock().unwrap();
    ENVIRONMENT
        .get_or_init(|| {
            // The library that the drone itself would find.
            let Some(found) = library::candidates(None).into_iter().next() else {
                eprintln!("SKIPPED: parity with ONNX Runtime, because no library was found (set ORT_DYLIB_PATH)");
                return None;
            };
            Some(ort::init_from(found.path).unwrap().build().unwrap())
        })
        .as_ref()
}
