//! Files of records: what they were made with in the first line, one question a line behind it.

use anyhow::{Context, Result, bail};
use kestrel_link::sha256_hex;
use kestrel_training::metrics::Record;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The format written and read here.
pub const FORMAT: u32 = 2;

/// What records were made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub records: u32,
    /// The model, `name@version`.
    pub model: String,
    /// Hash of its three graphs: thresholds are of these graphs only.
    pub model_hash: String,
    /// The set.
    pub set: String,
    /// The part of somebody's own pictures, `train`, `tune`, `test` or `all`; other sets say it in their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Seed of its scenes and questions.
    pub seed: u64,
    /// Pictures at most, where that was asked for: with set, seed, gate and engine all that the bundle needs to make the
    /// records again. Older files do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Whether its pictures are photographs; otherwise they are rendered scenes.
    pub real: bool,
    /// Whether the gate looked at the pictures first.
    pub gate: bool,
    /// Hex SHA-256 of the table that its bounds were of; none for the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_table: Option<String>,
    /// The engine that answered.
    pub engine: String,
    /// Day of the evaluation.
    pub date: String,
}

/// A file of records.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Where it lies.
    pub path: PathBuf,
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
    /// What it was made with.
    pub header: Header,
    /// The questions.
    pub records: Vec<Record>,
}

/// Writes a file of records.
pub fn write(path: &Path, header: &Header, records: &[Record]) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("writing {}", path.display()))?;
    let mut out = std::io::BufWriter::new(file);
    serde_json::to_writer(&mut out, header)?;
    out.write_all(b"\n")?;
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.flush().with_context(|| format!("writing {}", path.display()))
}

/// Reads a file of records as [`write()`] makes it.
pub fn read(path: &Path) -> Result<Recorded> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if serde_json::from_str::<Record>(first).is_ok() {
        bail!(
            "{}: expected a first line that names the model, got records of an older `ground eval`, which do not say which \
             graphs made them\nhint: evaluate again with `ground eval --records`",
            path.display()
        );
    }
    let header: Header = serde_json::from_str(first).with_context(|| {
        format!("{}:1: expected what the records were made with, as `ground eval --records` writes it", path.display())
    })?;
    if header.records != FORMAT {
        bail!("{}: expected records of format {FORMAT}, got {}", path.display(), header.records);
    }
    let records = lines(path, rest, 2)?;
    // Seed and kind of pictures are told once, for one set.
    if let Some(at) = records.iter().position(|record| record.set != header.set) {
        bail!(
            "{}:{}: expected a record of the set `{}`, which the first line names, got one of `{}`\n\
             hint: keep the files of several sets apart",
            path.display(),
            at + 2,
            header.set,
            records[at].set
        );
    }
    Ok(Recorded { path: path.to_owned(), sha256: sha256_hex(text.as_bytes()), header, records })
}

/// Records alone, one line of JSON each; `first` is the number of the first line.
pub(crate) fn lines(path: &Path, text: &str, first: usize) -> Result<Vec<Record>> {
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            let number = first + i;
            serde_json::from_str(line)
                .with_context(|| format!("{}:{number}: expected a record as `ground eval` writes it", path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: records that nobody can make again, and files of an earlier program that are not read any more.
    #[test]
    fn the_first_line_says_how_many_pictures_and_an_older_one_is_read() {
        let older = r#"{"records":2,"model":"kestrel-s@test","model_hash":"00","set":"scenes-tune","seed":1,"real":false,"gate":true,"engine":"tract","date":"2026-01-01"}"#;
        let header: Header = serde_json::from_str(older).unwrap();
        assert_eq!((header.limit, serde_json::to_string(&header).unwrap().as_str()), (None, older));
        let dir = tempfile::tempdir().unwrap();
        let (path, header) = (dir.path().join("tune.jsonl"), Header { limit: Some(1500), ..header });
        write(&path, &header, &[]).unwrap();
        assert_eq!(read(&path).unwrap().header, header);
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"limit\":1500"));
    }
}
