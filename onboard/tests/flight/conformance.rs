//! The suite of `onboard/conformance`, as a drone checks itself with it.

use std::path::{Path, PathBuf};

use kestrel_onboard::conformance::{self, ConformanceError, Kind, Suite};
use kestrel_onboard::engine::{EngineChoice, EngineError, EngineOptions, Provider};

use crate::command_line::{Bench, assert_clear};

fn folder() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("conformance")
}

/// What would break: an engine that computes something else than what was trained would fly.
#[test]
fn the_engines_that_are_here_conform() {
    let suite = Suite::open(&folder()).unwrap_or_else(|error| panic!("{error}\nhint: {}", error.hint()));
    let runtime = EngineChoice::Ort(Provider::Cpu);
    for choice in [EngineChoice::Tract, runtime] {
        let options = EngineOptions { fetch: false, threads: 1, ..EngineOptions::of(choice) };
        let mut seen = 0;
        let report = match conformance::run(&suite, &options, |_| seen += 1) {
            Ok(report) => report,
            Err(ConformanceError::Engine { source: source @ EngineError::NoLibrary { .. }, .. }) => {
                eprintln!("SKIPPED {choice}: {source}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(report.passes(), "{report:?}");
        assert_eq!(report.engine, choice.to_string());
        assert_eq!(seen, suite.cases.len());
        assert_eq!(report.verdicts.len() + report.skipped.len(), seen, "every case ran or was skipped aloud");
        for case in report.skipped.keys() {
            eprintln!("SKIPPED {choice}: {case}: its graph is made by models/tests/parity");
            assert_eq!(case, "vision");
        }
    }
}

/// What would break: a kind of graph that flies and that no case holds an engine against.
#[test]
fn every_kind_of_graph_has_a_case() {
    let suite = Suite::open(&folder()).unwrap();
    for kind in [Kind::Operation, Kind::Vision, Kind::Language, Kind::Mask, Kind::Explain] {
        assert!(suite.cases.iter().any(|case| case.kind == kind), "{kind:?}");
    }
}

/// Setup: a copy of one case. Fault: an expected output of another graph, a graph with a byte changed, no manifest.
/// Expected: the command says which case is how far apart, or which file is not what it should be, and fails.
/// Invariant: nothing that differs passes.
#[test]
fn what_differs_fails_the_command() {
    let bench = Bench::new();
    let dir = PathBuf::from(bench.path("suite"));
    std::fs::create_dir_all(dir.join("operations")).unwrap();
    let suite = Suite::open(&folder()).unwrap();
    let case = suite.cases.iter().find(|case| case.name == "linear-relu").unwrap();
    let other = suite.cases.iter().find(|case| case.name == "linear-relu6").unwrap();
    let copy = |from: &str, to: &str| std::fs::copy(folder().join(from), dir.join(to)).unwrap();
    let manifest = |tensors: &str| {
        let (name, graph, sha256) = (&case.name, &case.graph, &case.graph_sha256);
        let text = format!(
            "format = 1\n[[case]]\nname = {name:?}\nkind = \"operation\"\nsays = \"\"\ngraph = {graph:?}\n\
             graph_sha256 = {sha256:?}\ntensors = {tensors:?}\ntolerance = {{ tract = 1e-4 }}\n"
        );
        std::fs::write(dir.join("suite.toml"), text).unwrap();
    };
    copy(&case.graph, &case.graph);
    copy(&case.tensors, &case.tensors);
    copy(&other.tensors, &other.tensors);
    let run = || bench.onboard(&["conform", &bench.path("suite"), "--engine", "tract", "--json"]);

    manifest(&case.tensors);
    let alike = run();
    assert_eq!(alike.status.code(), Some(0), "{}", String::from_utf8_lossy(&alike.stderr));
    let report: serde_json::Value = serde_json::from_slice(&alike.stdout).unwrap();
    assert_eq!(report["passes"], true);

    manifest(&other.tensors);
    let apart = run();
    assert_eq!(apart.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&apart.stdout).unwrap();
    assert_eq!((&report["passes"], &report["report"]["verdicts"][0]["output"]), (&false.into(), &"y".into()));

    let mut graph = std::fs::read(dir.join(&case.graph)).unwrap();
    *graph.last_mut().unwrap() ^= 1;
    std::fs::write(dir.join(&case.graph), graph).unwrap();
    assert_clear(&run(), 1, "SHA-256");
    std::fs::remove_file(dir.join("suite.toml")).unwrap();
    assert_clear(&run(), 1, "suite.toml");
}
