//! One graph outside the contract of a model, as the engines that fly run it: for suites that hold an engine against
//! what it should give.

use std::sync::Arc;

use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, TValue, TVec, TypedRunnableModel, tvec};
use tract_onnx::tract_hir::internal::TractError;

use super::{EngineChoice, EngineError, EngineOptions, Input, Provider, Tensor, runtime, tract};

/// A graph of any inputs and outputs in one engine.
///
/// With a provider of a GPU, the share that it takes of the graph is not proven: a graph of one operation may stay on
/// the processor.
pub struct PlainGraph {
    engine: String,
    plan: Plan,
}

enum Plan {
    Runtime(Session),
    Tract { model: Arc<TypedRunnableModel>, inputs: Vec<String>, outputs: Vec<String> },
}

impl PlainGraph {
    /// Loads the ONNX bytes into the engine that was asked for; [`EngineChoice::Auto`] is ONNX Runtime on the processor,
    /// or tract where its library is missing.
    ///
    /// # Errors
    /// When the engine or its provider cannot be had, or does not take the graph.
    pub fn open(bytes: &[u8], options: &EngineOptions) -> Result<Self, EngineError> {
        match options.choice {
            EngineChoice::Tract => Self::in_tract(bytes),
            EngineChoice::Ort(provider) => Self::in_runtime(bytes, provider, options),
            EngineChoice::Auto => match Self::in_runtime(bytes, Provider::Cpu, options) {
                Err(EngineError::NoLibrary { .. }) => Self::in_tract(bytes),
                opened => opened,
            },
        }
    }

    fn in_runtime(bytes: &[u8], provider: Provider, options: &EngineOptions) -> Result<Self, EngineError> {
        let session = runtime::plain(bytes, provider, options)?;
        Ok(Self { engine: format!("ort/{}", provider.name()), plan: Plan::Runtime(session) })
    }

    fn in_tract(mut bytes: &[u8]) -> Result<Self, EngineError> {
        let model = tract_onnx::onnx().model_for_read(&mut bytes).map_err(refused)?;
        let inputs = model.inputs.iter().map(|outlet| model.nodes[outlet.node].name.clone()).collect();
        let outputs = model
            .outputs
            .iter()
            .map(|outlet| model.outlet_label(*outlet).unwrap_or(&model.nodes[outlet.node].name).to_owned())
            .collect();
        let model = model.into_optimized().map_err(refused)?;
        let model = IntoRunnable::into_runnable(model).map_err(refused)?;
        Ok(Self { engine: tract::NAME.into(), plan: Plan::Tract { model, inputs, outputs } })
    }

    /// Engine and provider, as in [`EngineChoice`].
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// Runs the graph on named inputs; gives its outputs by name, in the graph's order. All outputs are f32.
    ///
    /// # Errors
    /// When an input is missing or does not fit, an output is not f32, or the engine fails.
    pub fn run(&mut self, inputs: &[(&str, Input<'_>)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        match &mut self.plan {
            Plan::Runtime(session) => {
                run_in_runtime(session, inputs).map_err(|error| failed(&self.engine, error.to_string()))
            }
            Plan::Tract { model, inputs: names, outputs } => run_in_tract(model, names, outputs, inputs),
        }
    }
}

fn failed(engine: &str, why: String) -> EngineError {
    EngineError::Plain { engine: engine.to_owned(), why }
}

fn refused(error: TractError) -> EngineError {
    failed(tract::NAME, tract::chain(&error))
}

fn run_in_runtime(session: &mut Session, inputs: &[(&str, Input<'_>)]) -> Result<Vec<(String, Tensor)>, ort::Error> {
    let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
    for &(name, input) in inputs {
        values.push((
            name,
            match input {
                Input::F32(shape, data) => TensorRef::from_array_view((shape.to_vec(), data))?.into(),
                Input::I64(shape, data) => TensorRef::from_array_view((shape.to_vec(), data))?.into(),
            },
        ));
    }
    let names: Vec<String> = session.outputs().iter().map(|output| output.name().to_owned()).collect();
    let results = session.run(values)?;
    let mut outputs = Vec::with_capacity(names.len());
    for name in names {
        let (shape, data) = results[name.as_str()].try_extract_tensor::<f32>()?;
        let mut tensor = Tensor::default();
        tensor.fill(shape.iter().map(|&side| usize::try_from(side).unwrap_or(0)), data);
        outputs.push((name, tensor));
    }
    Ok(outputs)
}

fn run_in_tract(
    model: &Arc<TypedRunnableModel>,
    names: &[String],
    outputs: &[String],
    inputs: &[(&str, Input<'_>)],
) -> Result<Vec<(String, Tensor)>, EngineError> {
    let mut values: TVec<TValue> = tvec!();
    for name in names {
        let Some((_, input)) = inputs.iter().find(|(known, _)| known == name) else {
            return Err(failed(tract::NAME, format!("expected an input `{name}`, got none")));
        };
        let tensor = match *input {
            Input::F32(shape, data) => tract_onnx::prelude::Tensor::from_shape(shape, data),
            Input::I64(shape, data) => tract_onnx::prelude::Tensor::from_shape(shape, data),
        };
        values.push(tensor.map_err(refused)?.into());
    }
    let results = model.run(values).map_err(refused)?;
    let mut tensors = Vec::with_capacity(outputs.len());
    for (name, result) in outputs.iter().zip(&results) {
        let view = result.to_plain_array_view::<f32>().map_err(refused)?;
        let data: Vec<f32> = view.iter().copied().collect();
        let mut tensor = Tensor::default();
        tensor.fill(view.shape().iter().copied(), &data);
        tensors.push((name.clone(), tensor));
    }
    Ok(tensors)
}
