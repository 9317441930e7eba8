//! The conformance suite under `onboard/conformance`: made here, by candle; held to here, by candle and by the engines.
//!
//! `KESTREL_WRITE=1 cargo test -p kestrel-models --test parity conformance` makes its files anew.

mod graphs;
mod operations;

use std::path::{Path, PathBuf};

use kestrel_link::sha256_hex;
use kestrel_onboard::conformance::{
    Case, ConformanceError, Kind, MANIFEST, Named, SUITE_FORMAT, Suite, Tensors, Values, difference, judge,
};
use kestrel_onboard::engine::{EngineChoice, EngineError, EngineOptions};
use serde::Serialize;

use super::runtimes::runtime_options;

/// The reference itself on another processor: the order of sums differs.
const CANDLE: f32 = 1e-5;
/// Engines that compute in single precision.
const SINGLE: f32 = 1e-4;
/// CUDA's TF32 keeps ten bits of the factors' fractions.
const TF32: f32 = 5e-3;
/// TensorRT in half precision.
const HALF: f32 = 2e-2;

/// A case with everything that its files hold.
struct Made {
    case: Case,
    graph: Vec<u8>,
    tensors: Tensors,
    /// The PNG of its frame.
    frame: Option<Vec<u8>>,
}

impl Made {
    fn new(kind: Kind, name: &str, says: &str, graph: Vec<u8>, tensors: Tensors) -> Self {
        let folder = if kind == Kind::Operation { "operations" } else { "graphs" };
        let tolerance = [
            ("candle", CANDLE),
            ("ort/cpu", SINGLE),
            ("tract", SINGLE),
            ("ort/cuda", TF32),
            ("ort/tensorrt", HALF),
            ("ort/nv_tensorrt_rtx", HALF),
        ];
        let case = Case {
            name: name.into(),
            kind,
            says: says.into(),
            graph: format!("{folder}/{name}.onnx"),
            graph_sha256: sha256_hex(&graph),
            tensors: format!("{folder}/{name}.safetensors"),
            made: false,
            frame: None,
            tolerance: tolerance.map(|(engine, most)| (engine.to_owned(), most)).into(),
        };
        Self { case, graph, tensors, frame: None }
    }
}

fn made() -> Vec<Made> {
    let mut all = operations::made();
    all.extend(graphs::made());
    all
}

fn folder() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../onboard/conformance")
}

#[derive(Serialize)]
struct Manifest<'a> {
    format: u32,
    case: Vec<&'a Case>,
}

fn write(dir: &Path, all: &[Made]) {
    for part in ["operations", "graphs"] {
        let part = dir.join(part);
        if part.exists() {
            std::fs::remove_dir_all(&part).unwrap();
        }
        std::fs::create_dir_all(&part).unwrap();
    }
    for made in all {
        std::fs::write(dir.join(&made.case.graph), &made.graph).unwrap();
        let path = dir.join(&made.case.tensors);
        // A frame's input is made of the frame, and does not stand in the file.
        let of_frame = |name: &str| made.case.frame.as_ref().is_some_and(|frame| frame.input == name);
        let mut kept = made.tensors.clone();
        kept.inputs.retain(|named| !of_frame(&named.name));
        std::fs::write(&path, kept.to_bytes(&path).unwrap()).unwrap();
        if let (Some(frame), Some(png)) = (&made.case.frame, &made.frame) {
            std::fs::write(dir.join(&frame.file), png).unwrap();
        }
    }
    let manifest = Manifest { format: SUITE_FORMAT, case: all.iter().map(|made| &made.case).collect() };
    let head = "# Made by models/tests/parity/conformance with KESTREL_WRITE=1; see README.md. Do not edit.\n";
    std::fs::write(dir.join(MANIFEST), format!("{head}{}", toml::to_string(&manifest).unwrap())).unwrap();
}

/// Whether tensors on disk are those that are made here, to the reference's tolerance.
fn assert_alike(case: &str, kept: &Tensors, made: &Tensors) {
    for (kept, made) in [(&kept.inputs, &made.inputs), (&kept.outputs, &made.outputs)] {
        let names = |all: &[Named]| -> Vec<(String, Vec<usize>)> {
            let mut names: Vec<_> = all.iter().map(|named| (named.name.clone(), named.shape.clone())).collect();
            names.sort();
            names
        };
        assert_eq!(names(kept), names(made), "{case}");
        for named in kept {
            let same = made.iter().find(|other| other.name == named.name).unwrap();
            match (&named.values, &same.values) {
                (Values::F32(kept), Values::F32(made)) => {
                    let apart = difference(kept, made);
                    assert!(apart <= CANDLE, "{case}: candle's `{}` is {apart} from what is kept", named.name);
                }
                (kept, made) => assert_eq!(kept, made, "{case}: `{}`", named.name),
            }
        }
    }
}

/// One case on one engine; `None` where the engine is not on this machine.
fn on_engine(made: &Made, tensors: &Tensors, options: &EngineOptions) -> Option<f32> {
    match judge(&made.case, tensors, &made.graph, options) {
        Ok((engine, verdict)) => {
            let (name, apart) = (&made.case.name, verdict.apart);
            assert!(verdict.passes(), "{engine}, {name}: `{}` is {apart} apart", verdict.output);
            Some(apart)
        }
        Err(ConformanceError::Engine { source: EngineError::NoLibrary { .. }, .. }) => None,
        Err(error) => panic!("{}: {error}", made.case.name),
    }
}

/// What would break: an engine that computes another thing than what was trained would fly, or the suite that a drone
/// checks itself with would be of an exporter that is no more.
#[test]
fn the_suite_is_candles_and_the_engines_conform() {
    let (dir, all) = (folder(), made());
    if std::env::var_os("KESTREL_WRITE").is_some() {
        write(&dir, &all);
    }
    let suite = Suite::open(&dir).unwrap_or_else(|error| panic!("{error}\nhint: {}", error.hint()));
    let names = |cases: Vec<&Case>| cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(suite.cases.iter().collect()), names(all.iter().map(|made| &made.case).collect()));
    let [mut tract, mut runtime] = [0.0_f32; 2];
    let mut skipped = 0;
    for (kept, made) in suite.cases.iter().zip(&all) {
        let name = &made.case.name;
        assert_eq!(kept, &made.case, "{name}: the suite is out of date: run this test once with KESTREL_WRITE=1");
        if let Some(graph) = suite.graph(kept).unwrap() {
            assert!(graph == made.graph, "{name}: the graph is out of date");
        }
        let tensors = suite.tensors(kept).unwrap();
        assert_alike(name, &tensors, &made.tensors);
        for named in &tensors.outputs {
            let Values::F32(data) = &named.values else { panic!("{name}: integers") };
            let varied = data.len() == 1 || data.iter().any(|value| (value - data[0]).abs() > 1e-3);
            assert!(varied, "{name}: `{}` is constant and proves nothing", named.name);
        }
        tract = tract.max(on_engine(made, &tensors, &EngineOptions::of(EngineChoice::Tract)).unwrap());
        match on_engine(made, &tensors, &runtime_options()) {
            Some(apart) => runtime = runtime.max(apart),
            None => skipped += 1,
        }
    }
    println!("{} cases, at most apart: tract {tract:e}, ONNX Runtime {runtime:e}", all.len());
    if skipped > 0 {
        eprintln!("SKIPPED: {skipped} cases on ONNX Runtime, because no library was found (set ORT_DYLIB_PATH)");
    }
}

/// What would break: a kind of graph, or an operation of the trait, that no case holds an engine against.
#[test]
fn every_operator_that_the_model_exports_is_in_the_small_cases() {
    use prost::Message;
    use std::collections::BTreeSet;
    let operators = |graphs: &[&Made]| -> BTreeSet<String> {
        let of = |made: &&Made| tract_onnx::pb::ModelProto::decode(made.graph.as_slice()).unwrap().graph.unwrap();
        graphs.iter().map(of).flat_map(|graph| graph.node).map(|node| node.op_type).collect()
    };
    let all = made();
    let (small, whole): (Vec<&Made>, Vec<&Made>) = all.iter().partition(|made| made.case.kind == Kind::Operation);
    let kinds: Vec<Kind> = whole.iter().map(|made| made.case.kind).collect();
    assert_eq!(kinds, [Kind::Vision, Kind::Language, Kind::Mask, Kind::Explain]);
    let (small, whole) = (operators(&small), operators(&whole));
    let missing: Vec<_> = whole.difference(&small).collect();
    assert!(missing.is_empty(), "no small case has {missing:?}");
}
