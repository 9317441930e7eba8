//! One suite for every engine: what the pipeline relies on.

use std::path::PathBuf;

use kestrel_onboard::engine::{
    self, Engine, EngineChoice, EngineError, EngineOptions, Graph, GraphBytes, Input, Provider, Tensor,
};

use crate::graphs::Builder;

/// tract, and ONNX Runtime where its library is.
fn every(graphs: &GraphBytes<'_>) -> Vec<Box<dyn Engine>> {
    let mut engines = vec![engine::open(graphs, &EngineOptions::of(EngineChoice::Tract)).unwrap()];
    let options = EngineOptions { fetch: false, threads: 1, ..EngineOptions::of(EngineChoice::Ort(Provider::Cpu)) };
    match engine::open(graphs, &options) {
        Ok(engine) => engines.push(engine),
        Err(error @ EngineError::NoLibrary { .. }) => eprintln!("SKIPPED ort: {error}"),
        Err(error) => panic!("{error}"),
    }
    engines
}

/// Three graphs of two numbers each, with the names of a model and outputs in another order than it names them.
struct Small {
    vision: Vec<u8>,
    language: Vec<u8>,
    mask: Vec<u8>,
}

impl Small {
    fn new() -> Self {
        let vision = Builder::default()
            .input("image", &[1, 2])
            .floats("two", &[1], &[2.0])
            .node("Mul", &["image", "two"], "embed")
            .node("Add", &["image", "two"], "tokens")
            .node("Sub", &["image", "two"], "fine")
            .node("Div", &["image", "two"], "spots")
            .output("spots", &[1, 2])
            .output("fine", &[1, 2])
            .output("tokens", &[1, 2])
            .output("embed", &[1, 2]);
        let language = Builder::default()
            .input("tokens", &[1, 2])
            .integers("ids", &[1, 2])
            .integers("index", &[1, 1])
            .floats("table", &[4], &[10.0, 20.0, 30.0, 40.0])
            .node("Gather", &["table", "ids"], "doubt")
            .node("Gather", &["table", "index"], "seg")
            .node("Add", &["tokens", "doubt"], "logits")
            .output("logits", &[1, 2])
            .output("seg", &[1, 1])
            .output("doubt", &[1, 2]);
        let mask = Builder::default()
            .input("embed", &[1, 2])
            .input("fine", &[1, 2])
            .input("seg", &[1, 2])
            .input("names", &[1, 2])
            .input("codes", &[1, 2])
            .input("extents", &[1, 2])
            .input("attention", &[1, 2])
            .node("Sub", &["names", "codes"], "first")
            .node("Sub", &["extents", "attention"], "second")
            .node("Add", &["embed", "fine"], "sum")
            .node("Add", &["sum", "first"], "mask")
            .node("Mul", &["embed", "seg"], "iou")
            .node("Sub", &["fine", "seg"], "difference")
            .node("Add", &["difference", "second"], "object")
            .output("mask", &[1, 2])
            .output("iou", &[1, 2])
            .output("object", &[1, 2]);
        Self { vision: vision.bytes(), language: language.bytes(), mask: mask.bytes() }
    }

    fn bytes(&self) -> GraphBytes<'_> {
        GraphBytes { vision: &self.vision, language: &self.language, mask: &self.mask, explain: None }
    }
}

const PAIR: &[usize] = &[1, 2];

#[test]
fn outputs_come_in_the_order_of_their_names() {
    for mut engine in every(&Small::new().bytes()) {
        let mut outputs: [Tensor; 4] = Default::default();
        engine.run(Graph::Vision, &[Input::F32(PAIR, &[1.0, -3.0])], &mut outputs).unwrap();
        let name = engine.name();
        assert_eq!(outputs[0].data, [3.0, -1.0], "{name}: tokens");
        assert_eq!(outputs[1].data, [2.0, -6.0], "{name}: embed");
        assert_eq!(outputs[2].data, [-1.0, -5.0], "{name}: fine");
        assert_eq!(outputs[3].data, [0.5, -1.5], "{name}: spots");
        assert_eq!(outputs[0].shape, [1, 2], "{name}");
    }
}

#[test]
fn integers_choose_and_inputs_keep_their_places() {
    for mut engine in every(&Small::new().bytes()) {
        let mut outputs: [Tensor; 3] = Default::default();
        let inputs = [Input::F32(PAIR, &[0.5, 0.25]), Input::I64(PAIR, &[3, 1]), Input::I64(&[1, 1], &[2])];
        engine.run(Graph::Language, &inputs, &mut outputs).unwrap();
        assert_eq!(outputs[0].data, [40.5, 20.25], "{}", engine.name());
        assert_eq!(outputs[1].data, [30.0], "{}", engine.name());
        let inputs = [[1.0, 2.0], [10.0, 20.0], [3.0, 4.0], [2.0, 2.0], [1.0, 1.0], [5.0, 5.0], [1.0, 1.0]];
        let inputs: Vec<Input<'_>> = inputs.iter().map(|pair| Input::F32(PAIR, pair)).collect();
        engine.run(Graph::Mask, &inputs, &mut outputs).unwrap();
        assert_eq!(outputs[0].data, [12.0, 23.0], "{}: old contents must not shine through", engine.name());
        assert_eq!(outputs[1].data, [3.0, 8.0], "{}", engine.name());
        assert_eq!(outputs[2].data, [11.0, 20.0], "{}", engine.name());
    }
}

#[test]
fn wrong_inputs_are_errors_and_the_next_run_is_right() {
    for mut engine in every(&Small::new().bytes()) {
        let mut outputs: [Tensor; 3] = Default::default();
        let wrong: [&[Input<'_>]; 4] = [
            &[],
            &[Input::F32(PAIR, &[1.0, 2.0]), Input::F32(PAIR, &[1.0, 2.0])],
            &[Input::F32(&[1, 3], &[1.0, 2.0, 3.0])],
            &[Input::F32(PAIR, &[1.0])],
        ];
        for inputs in wrong {
            let error = engine.run(Graph::Vision, inputs, &mut outputs).unwrap_err();
            assert!(error.to_string().contains("vision"), "{}: {error}", engine.name());
        }
        assert!(engine.run(Graph::Vision, &[Input::I64(PAIR, &[1, 2])], &mut outputs).is_err(), "{}", engine.name());
        engine.run(Graph::Vision, &[Input::F32(PAIR, &[1.0, 1.0])], &mut outputs).unwrap();
        assert_eq!(outputs[1].data, [2.0, 2.0], "{}", engine.name());
    }
}

#[test]
fn a_graph_says_what_it_takes_and_one_that_is_not_there_is_named() {
    for mut engine in every(&Small::new().bytes()) {
        assert_eq!(engine.input_shapes(Graph::Language).unwrap(), [vec![1, 2], vec![1, 2], vec![1, 1]]);
        let mut outputs: [Tensor; 3] = Default::default();
        let run = engine.run(Graph::Explain, &[Input::F32(PAIR, &[0.0, 0.0]); 6], &mut outputs);
        for error in [run.unwrap_err(), engine.input_shapes(Graph::Explain).unwrap_err()] {
            assert!(matches!(error, EngineError::Missing { graph: Graph::Explain, .. }), "{error}");
            assert!(error.to_string().contains("explain graph") && error.hint().contains("--explain"), "{error}");
        }
    }
}

#[test]
fn graphs_that_are_none_or_other_ones_are_named() {
    let small = Small::new();
    for choice in [EngineChoice::Tract, EngineChoice::Ort(Provider::Cpu)] {
        let options = EngineOptions { fetch: false, ..EngineOptions::of(choice) };
        let garbage = GraphBytes { mask: b"not a graph", ..small.bytes() };
        let swapped = GraphBytes { mask: &small.language, ..small.bytes() };
        for graphs in [garbage, swapped] {
            match engine::open(&graphs, &options).err().expect("no engine may take this") {
                EngineError::NoLibrary { why } => eprintln!("SKIPPED ort: {why}"),
                error => assert!(error.to_string().contains("mask graph"), "{error}"),
            }
        }
    }
}

/// Setup: a configuration that names a library of ONNX Runtime. Fault: it is not there.
/// Expected: an error that names it. Invariant: no other library is loaded in its place.
///
/// Promise: P3
#[test]
fn a_library_that_was_named_and_is_not_there_is_an_error() {
    // A process keeps the first library it loaded, so this holds only where none was.
    if engine::runtime_version().is_some() {
        return;
    }
    let options = EngineOptions {
        library: Some(PathBuf::from("/nowhere/libonnxruntime.so")),
        ..EngineOptions::of(EngineChoice::Ort(Provider::Cpu))
    };
    match engine::open(&Small::new().bytes(), &options) {
        Err(EngineError::NoLibrary { why }) => assert!(why.contains("/nowhere/"), "{why}"),
        // Another test loaded one in the meantime.
        Ok(_) => assert!(engine::runtime_version().is_some()),
        Err(error) => panic!("{error}"),
    }
}

/// Setup: an engine that asks for TensorRT. Fault: the machine has none. Expected: an error that names the provider and
/// says what to try. Invariant: the processor does not compute in its place.
///
/// Promise: P3
#[test]
fn a_provider_that_is_not_there_stops_the_start() {
    let options = EngineOptions { fetch: false, ..EngineOptions::of(EngineChoice::Ort(Provider::TensorRt)) };
    match engine::open(&Small::new().bytes(), &options) {
        Ok(engine) => assert_eq!(engine.name(), "ort/tensorrt", "only on a machine that has it"),
        Err(EngineError::NoLibrary { why }) => eprintln!("SKIPPED ort: {why}"),
        Err(error) => {
            assert!(matches!(error, EngineError::Provider { provider: "tensorrt", .. }), "{error}");
            assert!(error.hint().contains("ORT_DYLIB_PATH"));
        }
    }
}

#[test]
fn choices_are_read_and_written_alike() {
    for text in ["auto", "ort/cpu", "ort/cuda", "ort/tensorrt", "ort/nv_tensorrt_rtx", "tract"] {
        assert_eq!(text.parse::<EngineChoice>().unwrap().to_string(), text);
    }
    assert!("cuda".parse::<EngineChoice>().is_err());
}
