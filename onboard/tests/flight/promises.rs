//! Which test holds which promise: docs/reference/promises.md is written from the tests of the whole workspace.
//!
//! A test says `Promise: P1, P2` in a line of its own doc comment. One that flies says what it shows in four parts: Setup,
//! Fault, Expected, Invariant. What the tests said when they were last run comes from the
//! output of `cargo test` that `KESTREL_RESULTS` names; without it, what the page says already is kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A promise of the design: its id, what is promised, and what no test shows yet.
struct Promise {
    id: &'static str,
    what: &'static str,
    open: &'static str,
}

const fn promise(id: &'static str, what: &'static str, open: &'static str) -> Promise {
    Promise { id, what, open }
}

const PROMISES: [Promise; 14] = [
    promise("P1", "One outcome per query and admitted frame; every dropped frame is counted", ""),
    promise("P2", "Deadlines hold", ""),
    promise("P3", "No silent fallback", ""),
    promise("P4", "Degraded frames are refused, clean ones are not", "a bound with confidence"),
    promise("P5", "Memory is bounded", "a soak of hours on the hardware that flies"),
    promise("P6", "Only trusted, compatible models run", "TUF metadata"),
    promise("P7", "An update never costs the last good model", "pulling the power of a real disk"),
    promise("P8", "Behaviour on link loss is defined", "a link that is slow or loses packets, instead of none"),
    promise("P9", "No control authority: it perceives and never commands the vehicle", ""),
    promise("P10", "Least privilege", "mTLS and access control by key"),
    promise(
        "P11",
        "A recorded flight replays bit-identically on CPU",
        "a recorded flight that every change must replay",
    ),
    promise("P12", "Every refusal is visible to a person and a machine", ""),
    promise("P13", "Hostile bytes never panic or exhaust memory", "a fuzzing campaign"),
    promise("P14", "Honest time", "jumps smaller than the tolerance"),
];

/// Promises that must have a test.
const HELD: [&str; 13] = ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P11", "P12", "P13", "P14"];

/// What the words above a test of a fault say.
const PARTS: [&str; 4] = ["Setup:", "Fault:", "Expected:", "Invariant:"];
/// Where those tests are, and the promises that they show under faults.
const FLIGHT: &str = "onboard/tests/flight/";
const UNDER_FAULTS: [&str; 10] = ["P1", "P2", "P3", "P4", "P5", "P9", "P11", "P12", "P13", "P14"];

const FOLDERS: [&str; 5] = ["calibration", "ground", "models", "onboard", "training"];
const NOT_RECORDED: &str = "not recorded";

/// A test with the promises that it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    file: String,
    name: String,
    ids: Vec<String>,
}

/// The workspace's folder.
fn top() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

/// The name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_declared = before.split_whitespace().all(|word| ["pub", "async"].contains(&word));
    is_declared.then(|| rest.split(['(', '<']).next().unwrap_or_default())
}

/// The parts that the words above a test leave out, when they have some.
fn left_out(words: &str) -> Vec<&'static str> {
    let missing: Vec<&str> = PARTS.into_iter().filter(|part| !words.contains(part)).collect();
    if missing.len() == PARTS.len() { Vec::new() } else { missing }
}

/// The tests of a source with their promises. A promise above anything else than a test is an error, and a test of a fault
/// that says only half of what it shows.
fn tests_of(file: &str, source: &str) -> Result<Vec<Test>, String> {
    let mut tests = Vec::new();
    let (mut ids, mut words, mut is_test) = (Vec::<String>::new(), String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix("/// Promise:") {
            ids = list.split(',').map(|id| id.trim().to_owned()).collect();
        } else if let Some(said) = line.strip_prefix("///") {
            words.push_str(said);
        } else if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") {
            let (ids, words) = (std::mem::take(&mut ids), std::mem::take(&mut words));
            let was_test = std::mem::take(&mut is_test);
            if ids.is_empty() {
                continue;
            }
            let unknown = ids.iter().find(|id| PROMISES.iter().all(|promise| promise.id != id.as_str())).cloned();
            match (function(line), unknown) {
                (Some(name), None) if was_test => {
                    let is_shown = file.starts_with(FLIGHT) && ids.iter().any(|id| UNDER_FAULTS.contains(&id.as_str()));
                    let missing = if is_shown { left_out(&words) } else { Vec::new() };
                    if !missing.is_empty() {
                        return Err(format!("{file}: {name}: expected {PARTS:?} above it, got no {missing:?}"));
                    }
                    tests.push(Test { file: file.to_owned(), name: name.to_owned(), ids });
                }
                (_, Some(id)) => return Err(format!("{file}: expected P1 to P14, got {id:?} above {line:?}")),
                _ => return Err(format!("{file}: expected a test below its promise, got {line:?}")),
            }
        }
    }
    Ok(tests)
}

/// All sources below a folder, but those that are built.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn tests() -> Vec<Test> {
    let (top, mut found) = (top(), Vec::new());
    FOLDERS.iter().for_each(|folder| sources(&top.join(folder), &mut found));
    let mut tests = Vec::new();
    for path in found {
        let file = path.strip_prefix(&top).unwrap().to_str().unwrap().replace('\\', "/");
        tests.extend(
            tests_of(&file, &std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{error}")),
        );
    }
    tests.sort();
    tests
}

/// A test's modules without what only says that they are tests: `camera::stamps::tests` and `camera/stamps_tests.rs` are alike.
fn modules<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let plain = parts.filter(|part| !["tests", "mod", "lib", "main"].contains(part));
    plain.map(|part| part.strip_suffix("_tests").unwrap_or(part)).collect::<Vec<_>>().join("::")
}

/// The modules of a file as `cargo test` names them: those below `src`, or below the folder of a test of several files.
fn modules_of(file: &str) -> String {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let root = parts.iter().position(|part| ["src", "tests"].contains(part)).unwrap_or_default();
    let skipped = if parts[root] == "tests" { 2 } else { 1 };
    modules(parts.into_iter().skip(root + skipped))
}

/// What `cargo test` said, by modules and name; the worst where there are several.
fn results_of(output: &str) -> BTreeMap<(String, String), String> {
    let mut results = BTreeMap::new();
    for line in output.lines() {
        let Some((path, said)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) else { continue };
        let mut parts: Vec<&str> = path.split(" - ").next().unwrap_or_default().split("::").collect();
        let name = parts.pop().unwrap_or_default().to_owned();
        let said = said.split([',', ' ']).next().unwrap_or_default().to_owned();
        let rank = |said: &str| ["ok", "ignored", "FAILED"].iter().position(|known| *known == said);
        let worst: &mut String = results.entry((modules(parts.into_iter()), name)).or_default();
        if rank(said.as_str()) > rank(worst.as_str()) {
            *worst = said;
        }
    }
    results
}

/// Results as a page holds them, by file and name, and of which run they are.
fn held_results(page: &str) -> (BTreeMap<(String, String), String>, String) {
    let mut results = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, name, file, result, _] = cells[..]
            && let (Some(name), Some(file)) = (name.strip_prefix('`'), file.strip_prefix('['))
        {
            let file = file.split(']').next().unwrap_or_default().to_owned();
            results.insert((file, name.trim_end_matches('`').to_owned()), result.to_owned());
        }
    }
    let run = page.lines().find_map(|line| line.strip_prefix("Results of: ")).unwrap_or("no run yet");
    (results, run.to_owned())
}

/// How many results of each kind there are.
fn summary(results: &[&str]) -> String {
    let mut counts = BTreeMap::<&str, u32>::new();
    results.iter().for_each(|result| *counts.entry(*result).or_default() += 1);
    counts.iter().map(|(result, count)| format!("{count} {result}")).collect::<Vec<_>>().join(", ")
}

/// The page. `result` says what a test said last.
fn page(tests: &[Test], run: &str, result: impl Fn(&Test) -> String) -> String {
    let (mut table, mut sections) = (String::new(), String::new());
    for Promise { id, what, open } in &PROMISES {
        let held: Vec<(&Test, String)> =
            tests.iter().filter(|test| test.ids.iter().any(|one| one == id)).map(|test| (test, result(test))).collect();
        let open = if open.is_empty() { "—" } else { *open };
        if held.is_empty() {
            writeln!(table, "| {id} | {what} | no test yet | — | {open} |").unwrap();
            continue;
        }
        let said: Vec<&str> = held.iter().map(|(_, result)| result.as_str()).collect();
        let anchor = id.to_lowercase();
        writeln!(table, "| [{id}](#{anchor}) | {what} | {} | {} | {open} |", held.len(), summary(&said)).unwrap();
        write!(sections, "\n## {id}\n\n{what}.\n\n| test | file | last result |\n|---|---|---|\n").unwrap();
        for (Test { file, name, .. }, result) in &held {
            writeln!(sections, "| `{name}` | [{file}](../../{file}) | {result} |").unwrap();
        }
    }
    format!(
        "# Promises\n\n\
         What Kestrel promises, which tests hold it, and what they said when that was last recorded.\n\
         This page is written from the line `Promise:` above each test; a test holds it to that.\n\n\
         ```sh\n\
         cargo test --workspace 2>&1 | tee results.txt\n\
         KESTREL_WRITE=1 KESTREL_RESULTS=results.txt KESTREL_RESULTS_OF=\"which machine, which version\" \\\n    \
         cargo test -p kestrel-onboard --test flight promises\n\
         ```\n\n\
         Results of: {run}\n\n\
         A test that cannot run where data or a library is not there says SKIPPED and counts as ok.\n\n\
         | id | promise | tests | last result | open |\n|---|---|---|---|---|\n{table}{sections}"
    )
}

/// What would break: a promise that no test holds, or a page that says so of tests that are no more.
/// `KESTREL_WRITE=1` writes the page anew.
#[test]
fn every_promise_has_its_tests_and_the_page_says_which() {
    let tests = tests();
    for id in HELD {
        assert!(tests.iter().any(|test| test.ids.iter().any(|one| one == id)), "no test holds {id}");
    }
    let file = top().join("docs/reference/promises.md");
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    let (kept, kept_run) = held_results(&held);
    let recorded = std::env::var_os("KESTREL_RESULTS").map(|path| {
        // Tests run in the folder of their package; the file was named from wherever cargo was called.
        let path = Path::new(&path);
        let text = std::fs::read_to_string(path).or_else(|_| std::fs::read_to_string(top().join(path)));
        results_of(&text.unwrap_or_else(|error| panic!("KESTREL_RESULTS: {}: {error}", path.display())))
    });
    let run = match &recorded {
        Some(_) => std::env::var("KESTREL_RESULTS_OF").unwrap_or_else(|_| "a run without a name".into()),
        None => kept_run,
    };
    let made = page(&tests, &run, |test| {
        let found = match &recorded {
            Some(recorded) => recorded.get(&(modules_of(&test.file), test.name.clone())),
            None => kept.get(&(test.file.clone(), test.name.clone())),
        };
        found.map_or(NOT_RECORDED, String::as_str).to_owned()
    });
    if std::env::var_os("KESTREL_WRITE").is_some() {
        std::fs::write(&file, &made).unwrap();
    } else {
        assert!(held == made, "docs/reference/promises.md is out of date: run this test once with KESTREL_WRITE=1");
    }
}

#[test]
fn promises_are_read_from_the_tests_and_from_nothing_else() {
    let source =
        "/// What.\n///\n/// Promise: P1, P14\n#[tokio::test(x)]\nasync fn one() {}\n\n#[test]\nfn other() {}\n";
    let tests = tests_of("a.rs", source).unwrap();
    assert_eq!(tests, [Test { file: "a.rs".into(), name: "one".into(), ids: vec!["P1".into(), "P14".into()] }]);
    for wrong in [
        "/// Promise: P1\nfn no_test() {}\n",
        "/// Promise: P15\n#[test]\nfn one() {}\n",
        "/// Promise: P1\nlet x = 1;\n",
    ] {
        assert!(tests_of("a.rs", wrong).is_err(), "{wrong}");
    }
    let half = "/// Setup: a. Fault: b.\n///\n/// Promise: P1\n#[test]\nfn one() {}\n";
    assert_eq!(tests_of("onboard/src/a.rs", half).unwrap().len(), 1, "it does not fly");
    let error = tests_of(&format!("{FLIGHT}a.rs"), half).unwrap_err();
    assert!(error.ends_with("got no [\"Expected:\", \"Invariant:\"]"), "{error}");
    assert!(tests_of(&format!("{FLIGHT}a.rs"), &half.replace("P1", "P7")).is_ok());
}

#[test]
fn results_find_their_tests_and_stay_on_the_page() {
    let output = "running 3 tests\ntest camera::stamps::tests::one ... ok\ntest degraded::two ... FAILED\n\
                  test one ... ignored, why\ntest camera::stamps::tests::one ... ok\n";
    let results = results_of(output);
    let said = |file: &str, name: &str| results.get(&(modules_of(file), name.to_owned())).map(String::as_str);
    assert_eq!(said("onboard/src/camera/stamps_tests.rs", "one"), Some("ok"));
    assert_eq!(said("onboard/tests/flight/degraded.rs", "two"), Some("FAILED"));
    assert_eq!(said("onboard/link/tests/hostile.rs", "one"), Some("ignored"));
    assert_eq!(said("onboard/src/slots/tests.rs", "one"), None);

    let test = Test { file: "a/b.rs".into(), name: "one".into(), ids: vec!["P2".into()] };
    let made = page(std::slice::from_ref(&test), "here", |_| "ok".into());
    assert!(
        made.contains("| P1 | ")
            && made.contains("no test yet")
            && made.contains("| [P2](#p2) | Deadlines hold | 1 | 1 ok |")
    );
    let (kept, run) = held_results(&made);
    assert_eq!((kept.len(), run.as_str()), (1, "here"));
    assert_eq!(made, page(&[test], &run, |test| kept[&(test.file.clone(), test.name.clone())].clone()));
}
