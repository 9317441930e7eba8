//! Running serialised graphs in the engines that fly.

use std::sync::Once;

use kestrel_onboard::engine::{EngineChoice, EngineError, EngineOptions, Input, PlainGraph, Provider};

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
    run(PlainGraph::open(model, &EngineOptions::of(EngineChoice::Tract)).unwrap(), feeds)
}

/// Runs a graph in ONNX Runtime, if there is a library; outputs in the graph's order.
pub(crate) fn onnx_runtime(model: &[u8], feeds: &[Feed]) -> Option<Outputs> {
    match PlainGraph::open(model, &runtime_options()) {
        Ok(graph) => Some(run(graph, feeds)),
        Err(EngineError::NoLibrary { why }) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| eprintln!("SKIPPED: parity with ONNX Runtime: {why} (set ORT_DYLIB_PATH)"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether there is one.
pub(crate) fn has_onnx_runtime() -> bool {
    // A graph that is none is looked at only after the library was found.
    !matches!(PlainGraph::open(b"", &runtime_options()), Err(EngineError::NoLibrary { .. }))
}

/// The library that the drone itself would find, on one thread.
pub(crate) fn runtime_options() -> EngineOptions {
    EngineOptions { fetch: false, threads: 1, ..EngineOptions::of(EngineChoice::Ort(Provider::Cpu)) }
}

fn run(mut graph: PlainGraph, feeds: &[Feed]) -> Outputs {
    let inputs: Vec<(&str, Input<'_>)> = feeds
        .iter()
        .map(|feed| {
            let input = match &feed.data {
                Data::Floats(data) => Input::F32(&feed.shape, data),
                Data::Integers(data) => Input::I64(&feed.shape, data),
            };
            (feed.name, input)
        })
        .collect();
    graph.run(&inputs).unwrap().into_iter().map(|(_, tensor)| tensor.data).collect()
}
