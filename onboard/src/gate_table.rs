//! `gate.json`: the gate's bounds with what they promise of clean frames, as `ground calibrate gate` wrote them.
//!
//! The drone takes the bounds; what they rest on is read by `ground`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use kestrel_link::sha256_hex;
use kestrel_perception::GateThresholds;
use serde::Deserialize;

/// The format read here.
const FORMAT: u32 = 1;
/// Most bytes of a table.
const MOST_BYTES: u64 = 64 * 1024;

/// Bounds of the gate from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct GateTable {
    /// The bounds.
    pub bounds: GateThresholds,
    /// Day of the calibration, `YYYY-MM-DD`.
    pub date: String,
    /// Hex SHA-256 of the file.
    pub sha256: String,
}

/// A table that cannot be used; [`GateTableError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateTableError {
    /// The file cannot be read.
    #[error("read {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It says something else than it should.
    #[error("{path}: expected {expected}, got {got}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What would be right.
        expected: String,
        /// What it says.
        got: String,
    },
}

impl GateTableError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path; it is taken from the folder you are in",
            Self::Content { .. } => "`ground calibrate gate --out FOLDER` of this version writes one",
        }
    }
}

/// What is read of the file; the rest is the promise.
#[derive(Deserialize)]
struct Held {
    format: u32,
    date: String,
    loosened: f32,
    bounds: GateThresholds,
}

impl GateTable {
    /// Reads a table.
    ///
    /// # Errors
    /// When the file cannot be read, is no such table, or its bounds are not the built-in ones of this program moved by the
    /// number that it names: nothing was measured of others.
    pub fn read(path: &Path) -> Result<Self, GateTableError> {
        let failed = |source| GateTableError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        // One byte more than fits tells that there is too much.
        std::fs::File::open(path).map_err(failed)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(&bytes).map_err(|(expected, got)| GateTableError::Content {
            path: path.to_owned(),
            expected: expected.to_owned(),
            got,
        })
    }

    /// The table, or what was expected and what is there.
    fn parse(bytes: &[u8]) -> Result<Self, (&'static str, String)> {
        if bytes.len() as u64 > MOST_BYTES {
            return Err(("at most 65536 bytes", "more".to_owned()));
        }
        let table = "a table of the gate in JSON";
        // Serde's texts quote the offending value, which may be long.
        let short = |error: serde_json::Error| error.to_string().chars().take(200).collect::<String>();
        let held: Held = serde_json::from_slice(bytes).map_err(|error| (table, short(error)))?;
        if held.format != FORMAT {
            return Err(("format 1", held.format.to_string()));
        }
        let plain = held.date.len() == 10 && held.date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if !plain {
            return Err(("a date YYYY-MM-DD", format!("{:?}", held.date.chars().take(20).collect::<String>())));
        }
        let moved =
            (-0.9..=1.0).contains(&held.loosened) && held.bounds == GateThresholds::default().loosened(held.loosened);
        if !moved {
            let expected = "the bounds of this program's gate, all moved by `loosened`, a share in -0.9..=1";
            return Err((expected, format!("others, with `loosened` {}", held.loosened)));
        }
        Ok(Self { bounds: held.bounds, date: held.date, sha256: sha256_hex(bytes) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(change: impl Fn(&mut serde_json::Value)) -> String {
        let bounds = GateThresholds::default().loosened(0.25);
        let mut table = serde_json::json!({
            "format": 1, "runtime": "0.1.0", "date": "2026-11-01", "alpha": 0.05, "loosened": 0.25, "bounds": bounds,
        });
        change(&mut table);
        table.to_string()
    }

    #[test]
    fn bounds_come_out_as_they_were_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.json");
        std::fs::write(&path, text(|_| {})).unwrap();
        let table = GateTable::read(&path).unwrap();
        assert_eq!(table.bounds, GateThresholds::default().loosened(0.25));
        assert_ne!(table.bounds, GateThresholds::default());
        assert_eq!((table.date.as_str(), table.sha256), ("2026-11-01", sha256_hex(text(|_| {}).as_bytes())));
        let error = GateTable::read(&dir.path().join("none.json")).unwrap_err();
        assert!(error.to_string().contains("none.json") && error.hint().contains("path"), "{error}");
    }

    /// What would break: bounds that somebody typed, under a promise that was measured of others.
    #[test]
    fn what_no_calibration_wrote_is_refused() {
        let refused = |text: &str, words: &str| {
            let (expected, got) = GateTable::parse(text.as_bytes()).unwrap_err();
            assert!(expected.contains(words), "{words}: {expected}, {got}");
            assert!(got.len() < 400, "{got}");
        };
        refused(&text(|table| table["bounds"]["most_tear"] = 99.0.into()), "this program's gate");
        refused(&text(|table| table["loosened"] = 0.5.into()), "this program's gate");
        refused(&text(|table| table["loosened"] = 7.0.into()), "this program's gate");
        refused(&text(|table| table["format"] = 2.into()), "format 1");
        refused(&text(|table| table["date"] = "\u{1b}[2J".into()), "YYYY-MM-DD");
        refused("{}", "a table of the gate");
        refused(&"[".repeat(100_000), "at most");
        refused(&"[".repeat(1000), "a table of the gate");
    }
}
