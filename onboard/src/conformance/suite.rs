//! The manifest of a suite, and its files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use kestrel_link::sha256_hex;
use serde::{Deserialize, Serialize};

use super::error::ConformanceError;
use super::tensors::Tensors;

/// The file that lists the cases.
pub const MANIFEST: &str = "suite.toml";

/// The format of manifests that this version reads.
pub const SUITE_FORMAT: u32 = 1;

/// A manifest is never larger.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// No graph, frame or file of tensors is larger.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What a case holds an engine against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One operation of the trait that models are written in.
    Operation,
    /// A whole vision graph.
    Vision,
    /// A whole language graph.
    Language,
    /// A whole mask graph.
    Mask,
    /// A whole graph that decodes an answer row by row.
    Explain,
}

/// A picture that becomes an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// The PNG, below the suite's folder.
    pub file: String,
    /// The input that its preprocessed pixels are, `[1, 3, side, side]`.
    pub input: String,
    /// Width and height of that input in pixels.
    pub side: u32,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, different from all others.
    pub name: String,
    /// What it holds an engine against.
    pub kind: Kind,
    /// What it covers, in words.
    pub says: String,
    /// The ONNX graph, below the suite's folder.
    pub graph: String,
    /// Hex SHA-256 of the graph.
    pub graph_sha256: String,
    /// Inputs (`in.NAME`) and expected outputs (`out.NAME`), below the suite's folder.
    pub tensors: String,
    /// Whether the graph is too large to be kept, and is made on demand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
    /// An input that is a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<Frame>,
    /// The largest difference that passes, by engine (`candle`, `tract`, `ort/cpu`, …), see [`super::difference`].
    pub tolerance: BTreeMap<String, f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    case: Vec<Case>,
}

/// A suite on disk.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its folder.
    pub dir: PathBuf,
    /// Its cases, in the manifest's order.
    pub cases: Vec<Case>,
}

impl Suite {
    /// Reads the manifest in a folder.
    ///
    /// # Errors
    /// When it is missing, larger than a mebibyte, of another format, or a case in it cannot be one.
    pub fn open(dir: &Path) -> Result<Self, ConformanceError> {
        let path = dir.join(MANIFEST);
        let bytes = read(&path, MAX_MANIFEST_BYTES)?;
        let wrong = |expected: &str, got: String| ConformanceError::Content {
            path: path.clone(),
            expected: expected.to_owned(),
            got,
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong("UTF-8", error.to_string()))?;
        let manifest: Manifest =
            toml::from_str(text).map_err(|error| wrong("a list of cases in TOML", error.message().to_owned()))?;
        if manifest.format != SUITE_FORMAT {
            return Err(wrong(&format!("format {SUITE_FORMAT}"), manifest.format.to_string()));
        }
        let mut names = std::collections::BTreeSet::new();
        for case in &manifest.case {
            check(case).map_err(|(expected, got)| wrong(expected, format!("{got:?} in case {:?}", case.name)))?;
            if !names.insert(case.name.as_str()) {
                return Err(wrong("every case once", format!("{:?} twice", case.name)));
            }
        }
        if names.is_empty() {
            return Err(wrong("at least one case", "none".into()));
        }
        Ok(Self { dir: dir.to_owned(), cases: manifest.case })
    }

    /// The bytes of a case's graph; `None` where it is made on demand and is not here.
    ///
    /// # Errors
    /// When it cannot be read, or is not the manifest's.
    pub fn graph(&self, case: &Case) -> Result<Option<Vec<u8>>, ConformanceError> {
        let path = self.dir.join(&case.graph);
        if case.made && !path.exists() {
            return Ok(None);
        }
        let bytes = read(&path, MAX_FILE_BYTES)?;
        let got = sha256_hex(&bytes);
        if got == case.graph_sha256 {
            return Ok(Some(bytes));
        }
        Err(ConformanceError::Content { path, expected: format!("SHA-256 {}", case.graph_sha256), got })
    }

    /// A case's inputs and expected outputs.
    ///
    /// # Errors
    /// When a file cannot be read, or does not hold tensors or a picture.
    pub fn tensors(&self, case: &Case) -> Result<Tensors, ConformanceError> {
        let path = self.dir.join(&case.tensors);
        let mut tensors = Tensors::parse(&path, &read(&path, MAX_FILE_BYTES)?)?;
        if let Some(frame) = &case.frame {
            let path = self.dir.join(&frame.file);
            tensors.inputs.push(frame.input(&path, &read(&path, MAX_FILE_BYTES)?)?);
        }
        Ok(tensors)
    }
}

/// Whether a case can be one; what was expected, and what came.
fn check(case: &Case) -> Result<(), (&'static str, String)> {
    let files = [Some(&case.graph), Some(&case.tensors), case.frame.as_ref().map(|frame| &frame.file)];
    for file in files.into_iter().flatten() {
        let below = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if file.is_empty() || !below {
            return Err(("paths below the suite's folder", file.clone()));
        }
    }
    if case.name.is_empty() || case.name.len() > 100 {
        return Err(("a name of at most 100 bytes", case.name.chars().take(100).collect()));
    }
    if let Some(frame) = case.frame.as_ref().filter(|frame| !(1..=4096).contains(&frame.side)) {
        return Err(("a side of 1 to 4096 pixels", frame.side.to_string()));
    }
    match case.tolerance.iter().find(|(_, tolerance)| !(tolerance.is_finite() && **tolerance >= 0.0)) {
        Some((engine, tolerance)) => {
            Err(("tolerances that are finite and not negative", format!("{engine} {tolerance}")))
        }
        None => Ok(()),
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, ConformanceError> {
    let failed = |source| ConformanceError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(ConformanceError::Content {
            path: path.to_owned(),
            expected: format!("at most {most} bytes"),
            got: "more".into(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const CASE: &str = "[[case]]\nname = \"a\"\nkind = \"operation\"\nsays = \"\"\ngraph = \"a.onnx\"\ngraph_sha256 = \"\"\n\
                        tensors = \"a.safetensors\"\ntolerance = { tract = 1e-4 }\n";

    fn open(text: &str) -> Result<Suite, ConformanceError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST), text).unwrap();
        Suite::open(dir.path())
    }

    #[test]
    fn a_manifest_is_read() {
        let suite = open(&format!("format = 1\n{CASE}")).unwrap();
        assert_eq!(suite.cases.len(), 1);
        assert_eq!(suite.cases[0].tolerance["tract"], 1e-4);
        let text = toml::to_string(&suite.cases[0]).unwrap();
        assert!(!text.contains("made") && !text.contains("frame"), "{text}");
    }

    /// What would break: a suite that reads files of the machine, or one whose cases hide each other.
    #[test]
    fn manifests_that_cannot_be_one_are_refused_with_what_was_expected() {
        for (text, words) in [
            (format!("format = 2\n{CASE}"), "format 1"),
            (format!("format = 1\n{CASE}{CASE}"), "every case once"),
            ("format = 1\ncase = []\n".to_owned(), "at least one case"),
            (format!("format = 1\nother = 2\n{CASE}"), "unknown field"),
            (format!("format = 1\n{}", CASE.replace("a.onnx", "../a.onnx")), "below the suite's folder"),
            (format!("format = 1\n{}", CASE.replace("a.onnx", "/etc/passwd")), "below the suite's folder"),
            (format!("format = 1\n{}", CASE.replace("1e-4", "-1.0")), "not negative"),
            (format!("format = 1\n{}", CASE.replace("1e-4", "nan")), "not negative"),
            ("\u{0}".to_owned(), "TOML"),
        ] {
            let error = open(&text).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert!(error.hint().contains("KESTREL_WRITE"));
        }
    }

    #[test]
    fn a_graph_is_the_manifests_or_an_error_and_may_be_missing_only_where_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST), format!("format = 1\n{CASE}")).unwrap();
        let mut suite = Suite::open(dir.path()).unwrap();
        let mut case = suite.cases.remove(0);
        assert!(matches!(suite.graph(&case), Err(ConformanceError::File { .. })));
        case.made = true;
        assert_eq!(suite.graph(&case).unwrap(), None);
        std::fs::write(dir.path().join("a.onnx"), b"graph").unwrap();
        assert!(suite.graph(&case).unwrap_err().to_string().contains("SHA-256"));
        case.graph_sha256 = sha256_hex(b"graph");
        assert_eq!(suite.graph(&case).unwrap().as_deref(), Some(&b"graph"[..]));
    }
}
