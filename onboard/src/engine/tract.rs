//! tract: pure Rust, one thread, always there.

use std::sync::Arc;

use tract_onnx::prelude::{
    Framework, InferenceModel, InferenceModelExt, IntoRunnable, TDim, TValue, TVec, TractResult, TypedRunnableModel,
    tvec,
};
use tract_onnx::tract_hir::internal::TractError;

use super::{Engine, EngineError, Graph, GraphBytes, Input, Tensor, check_inputs, each};

pub(super) const NAME: &str = "tract";

/// One optimised plan per graph.
pub struct TractEngine {
    plans: [Option<Plan>; 4],
}

struct Plan {
    model: Arc<TypedRunnableModel>,
    /// For each input of the model, its place in [`Graph::inputs`].
    inputs: Vec<usize>,
    /// For each of [`Graph::outputs`], its place in the model's outputs.
    outputs: Vec<usize>,
    /// Shapes of [`Graph::inputs`].
    shapes: Vec<Vec<usize>>,
}

impl TractEngine {
    /// Parses and optimises the graphs.
    ///
    /// # Errors
    /// When tract cannot take a graph, or a graph lacks an input or output.
    pub fn load(graphs: &GraphBytes<'_>) -> Result<Self, EngineError> {
        Ok(Self { plans: each(graphs, Plan::load)? })
    }

    fn plan(&self, graph: Graph) -> Result<&Plan, EngineError> {
        self.plans[graph.index()].as_ref().ok_or_else(|| EngineError::Missing { engine: NAME.into(), graph })
    }
}

impl Plan {
    fn load(graph: Graph, mut bytes: &[u8]) -> Result<Self, EngineError> {
        let failed = |error: TractError| EngineError::Load { engine: NAME.into(), graph, why: chain(&error) };
        let mut model = tract_onnx::onnx().model_for_read(&mut bytes).map_err(failed)?;
        let input_names: Vec<String> =
            model.inputs.iter().map(|outlet| model.nodes[outlet.node].name.clone()).collect();
        let output_names: Vec<String> = model
            .outputs
            .iter()
            .map(|outlet| model.outlet_label(*outlet).unwrap_or(&model.nodes[outlet.node].name).to_owned())
            .collect();
        let names = |expected: &[&str], got: &[String]| EngineError::Names {
            engine: NAME.into(),
            graph,
            expected: expected.join(", "),
            got: got.join(", "),
        };
        let inputs = input_names
            .iter()
            .map(|name| graph.inputs().iter().position(|known| known == name))
            .collect::<Option<Vec<_>>>()
            .filter(|inputs| inputs.len() == graph.inputs().len())
            .ok_or_else(|| names(graph.inputs(), &input_names))?;
        let outputs = graph
            .outputs()
            .iter()
            .map(|name| output_names.iter().position(|known| known == name))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| names(graph.outputs(), &output_names))?;
        close_batch(&mut model).map_err(failed)?;
        let model = model.into_optimized().map_err(failed)?;
        let mut shapes = vec![Vec::new(); inputs.len()];
        for (at, &place) in inputs.iter().enumerate() {
            let fact = model.input_fact(at).map_err(failed)?;
            shapes[place] = fact.shape.as_concrete().unwrap_or_default().to_vec();
        }
        let model = IntoRunnable::into_runnable(model).map_err(failed)?;
        Ok(Self { model, inputs, outputs, shapes })
    }

    fn run(&self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        let failed = |error: TractError| EngineError::Run { engine: NAME.into(), graph, why: chain(&error) };
        let mut values: TVec<TValue> = tvec!();
        for &place in &self.inputs {
            let tensor = match inputs[place] {
                Input::F32(shape, data) => tract_onnx::prelude::Tensor::from_shape(shape, data),
                Input::I64(shape, data) => tract_onnx::prelude::Tensor::from_shape(shape, data),
            };
            values.push(tensor.map_err(failed)?.into());
        }
        let results = self.model.run(values).map_err(failed)?;
        for (output, &place) in outputs.iter_mut().zip(&self.outputs) {
            let view = results[place].to_plain_array_view::<f32>().map_err(failed)?;
            match view.as_slice() {
                Some(data) => output.fill(view.shape().iter().copied(), data),
                None => {
                    let data: Vec<f32> = view.iter().copied().collect();
                    output.fill(view.shape().iter().copied(), &data);
                }
            }
        }
        Ok(())
    }
}

impl Engine for TractEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        Ok(self.plan(graph)?.shapes.clone())
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        check_inputs(graph, inputs)?;
        self.plan(graph)?.run(graph, inputs, outputs)
    }
}

/// Makes the batch axis 1 where a graph leaves it open: tract optimises for shapes that it knows, and gains nothing from more.
fn close_batch(model: &mut InferenceModel) -> TractResult<()> {
    for at in 0..model.inputs.len() {
        let mut fact = model.input_fact(at)?.clone();
        let has_axes = fact.shape.dims().next().is_some();
        if has_axes && fact.shape.as_concrete_finite()?.is_none() {
            fact.shape.set_dim(0, TDim::Val(1));
            model.set_input_fact(at, fact)?;
        }
    }
    Ok(())
}

/// The error and its causes on one line, not longer than a log line should be.
pub(super) fn chain(error: &TractError) -> String {
    let text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    text.replace('\n', " ").chars().take(400).collect()
}
