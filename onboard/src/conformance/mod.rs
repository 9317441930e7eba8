//! The conformance suite: graphs, inputs and expected outputs as data, run on an engine as it flies.
//!
//! A suite is a folder: `suite.toml` lists the cases; each has an ONNX graph, a safetensors file with inputs and expected
//! outputs, or a frame whose preprocessed pixels are the input, and one tolerance an engine. The outputs are candle's, the
//! interpreter that trains; `models/tests/parity` makes them. See `onboard/conformance/README.md`.

mod error;
mod suite;
mod tensors;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{EngineOptions, Input, PlainGraph, Tensor};

pub use error::ConformanceError;
pub use suite::{Case, Frame, Kind, MANIFEST, SUITE_FORMAT, Suite};
pub use tensors::{Named, Tensors, Values};

/// What one case gave on one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The case.
    pub case: String,
    /// How far the worst output is from what was expected, see [`difference`].
    pub apart: f32,
    /// The worst output.
    pub output: String,
    /// The case's tolerance for this engine.
    pub tolerance: f32,
}

impl Verdict {
    /// Whether the case passed.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.apart <= self.tolerance
    }
}

/// What a whole suite gave on one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The engine that ran, as [`PlainGraph::engine`] names it.
    pub engine: String,
    /// One for each case that ran.
    pub verdicts: Vec<Verdict>,
    /// Cases that did not run, with the reason: their graphs are made on demand, and are not here.
    pub skipped: BTreeMap<String, String>,
    /// Cases that an engine refused or failed on, with its words.
    pub failed: BTreeMap<String, String>,
}

impl Report {
    /// Whether no case failed; a case that was skipped did not fail.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.failed.is_empty() && self.verdicts.iter().all(Verdict::passes)
    }
}

/// Runs every case of a suite whose graph is there; `seen` hears of each case before it runs.
///
/// # Errors
/// When the engine cannot be had at all, or a file of the suite is missing or is not what the manifest says.
pub fn run(suite: &Suite, options: &EngineOptions, mut seen: impl FnMut(&Case)) -> Result<Report, ConformanceError> {
    let mut report = Report {
        engine: options.choice.to_string(),
        verdicts: Vec::new(),
        skipped: BTreeMap::new(),
        failed: BTreeMap::new(),
    };
    for case in &suite.cases {
        seen(case);
        let tensors = suite.tensors(case)?;
        let Some(graph) = suite.graph(case)? else {
            let why = format!("{} is made on demand, and is not here", case.graph);
            report.skipped.insert(case.name.clone(), why);
            continue;
        };
        match judge(case, &tensors, &graph, options) {
            Ok((engine, verdict)) => {
                report.engine = engine;
                report.verdicts.push(verdict);
            }
            Err(ConformanceError::Engine { case, source }) if source.is_of_the_graph() => {
                report.failed.insert(case, source.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// Runs one case; gives the engine that ran and its verdict.
///
/// # Errors
/// When the engine cannot be had, refuses the graph or fails, gives other outputs or shapes than are expected, or the case
/// states no tolerance for it.
pub fn judge(
    case: &Case,
    tensors: &Tensors,
    graph: &[u8],
    options: &EngineOptions,
) -> Result<(String, Verdict), ConformanceError> {
    let failed = |source| ConformanceError::Engine { case: case.name.clone(), source };
    let mut plain = PlainGraph::open(graph, options).map_err(failed)?;
    let inputs: Vec<(&str, Input<'_>)> =
        tensors.inputs.iter().map(|named| (named.name.as_str(), named.as_input())).collect();
    let outputs = plain.run(&inputs).map_err(failed)?;
    let verdict = compare(case, &tensors.outputs, &outputs, plain.engine())?;
    Ok((plain.engine().to_owned(), verdict))
}

/// Holds an engine's outputs against the expected ones.
///
/// # Errors
/// When an output is missing or has another shape, or the case states no tolerance for the engine.
pub fn compare(
    case: &Case,
    expected: &[Named],
    outputs: &[(String, Tensor)],
    engine: &str,
) -> Result<Verdict, ConformanceError> {
    let wrong = |expected: String, got: String| ConformanceError::Output { case: case.name.clone(), expected, got };
    let tolerance = *case.tolerance.get(engine).ok_or_else(|| ConformanceError::NoTolerance {
        case: case.name.clone(),
        engine: engine.to_owned(),
        known: case.tolerance.keys().cloned().collect::<Vec<_>>().join(", "),
    })?;
    let mut worst = Verdict { case: case.name.clone(), apart: 0.0, output: String::new(), tolerance };
    for named in expected {
        let Values::F32(data) = &named.values else {
            return Err(wrong(format!("f32 for `{}`", named.name), "integers in the suite".into()));
        };
        let Some((_, got)) = outputs.iter().find(|(name, _)| *name == named.name) else {
            let there: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
            return Err(wrong(format!("an output `{}`", named.name), there.join(", ")));
        };
        if got.shape != named.shape {
            let shape = |shape: &[usize]| format!("`{}` {shape:?}", named.name);
            return Err(wrong(shape(&named.shape), shape(&got.shape)));
        }
        let apart = difference(data, &got.data);
        if worst.output.is_empty() || apart > worst.apart {
            worst = Verdict { apart, output: named.name.clone(), ..worst };
        }
    }
    Ok(worst)
}

/// The largest difference between expected and given values, as a part of the largest expected magnitude where that
/// exceeds 1; infinite where the lengths differ or a given value is not finite.
#[must_use]
pub fn difference(expected: &[f32], got: &[f32]) -> f32 {
    if expected.len() != got.len() || got.iter().any(|value| !value.is_finite()) {
        return f32::INFINITY;
    }
    let scale = expected.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    expected.iter().zip(got).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / scale
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn case() -> Case {
        Case {
            name: "one".into(),
            kind: Kind::Operation,
            says: "one".into(),
            graph: "one.onnx".into(),
            graph_sha256: String::new(),
            tensors: "one.safetensors".into(),
            made: false,
            frame: None,
            tolerance: [("tract".to_owned(), 1e-4)].into(),
        }
    }

    fn named(name: &str, data: &[f32]) -> Named {
        Named { name: name.into(), shape: vec![data.len()], values: Values::F32(data.to_vec()) }
    }

    fn given(name: &str, data: &[f32]) -> (String, Tensor) {
        (name.into(), Tensor { shape: vec![data.len()], data: data.to_vec() })
    }

    /// What would break: a suite that passes whatever an engine gives.
    #[test]
    fn a_difference_shows_and_names_the_worst_output() {
        let expected = [named("y", &[1.0, 2.0]), named("z", &[100.0])];
        let same = [given("z", &[100.0]), given("y", &[1.0, 2.0])];
        let verdict = compare(&case(), &expected, &same, "tract").unwrap();
        assert!(verdict.passes() && verdict.apart == 0.0, "{verdict:?}");
        let other = [given("z", &[101.0]), given("y", &[1.0, 2.0])];
        let verdict = compare(&case(), &expected, &other, "tract").unwrap();
        assert_eq!((verdict.output.as_str(), verdict.apart, verdict.passes()), ("z", 0.01, false));
    }

    #[test]
    fn what_is_missing_misshapen_or_not_a_number_never_passes() {
        let expected = [named("y", &[1.0, 2.0])];
        let none = compare(&case(), &expected, &[given("x", &[1.0])], "tract").unwrap_err();
        assert!(none.to_string().contains("`y`"), "{none}");
        let short = compare(&case(), &expected, &[given("y", &[1.0])], "tract").unwrap_err();
        assert!(short.to_string().contains("[2]"), "{short}");
        let unknown = compare(&case(), &expected, &[given("y", &[1.0, 2.0])], "ort/cuda").unwrap_err();
        assert!(unknown.to_string().contains("ort/cuda"), "{unknown}");
        let nan = compare(&case(), &expected, &[given("y", &[1.0, f32::NAN])], "tract").unwrap();
        assert!(!nan.passes());
        assert_eq!(difference(&[1.0], &[1.0, 1.0]), f32::INFINITY);
    }
}
