//! The shard format: magic, samples (length-prefixed JSON, then raw RGB), a table of offsets, its position.
//!
//! Numbers are little-endian. Raw pixels cost disk and save the decoding that would starve a two-core training run.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::datasets::{DataError, Result};
use crate::sample::{Ask, Category, Instance, Origin, Picture, Sample, Spoken};

/// Samples per shard.
pub const SHARD: usize = 64;
const MAGIC: &[u8; 8] = b"KSHARD01";
/// No header of a sample is larger; a damaged length must not ask for memory.
const MAX_HEADER_BYTES: u32 = 16 << 20;
const MAX_SIDE: u32 = 4096;

#[derive(Serialize, Deserialize)]
struct Header {
    picture: PictureHeader,
    asks: Vec<Ask>,
    degradation: Option<(String, f32)>,
    later: Option<PictureHeader>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spoken: Vec<Spoken>,
}

#[derive(Serialize, Deserialize)]
struct PictureHeader {
    width: u32,
    height: u32,
    instances: Vec<Instance>,
    exhaustive: Vec<Category>,
    origin: Origin,
}

impl PictureHeader {
    fn of(picture: &Picture) -> Self {
        Self {
            width: picture.image.width(),
            height: picture.image.height(),
            instances: picture.instances.clone(),
            exhaustive: picture.exhaustive.clone(),
            origin: picture.origin.clone(),
        }
    }
}

/// File of the n-th shard.
pub fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("shard-{number:05}.bin"))
}

/// Writes samples one after the other; nothing appears under the final name before [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    beside: PathBuf,
    file: BufWriter<File>,
    offsets: Vec<u64>,
    position: u64,
}

impl Writer {
    /// Starts a shard.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let beside = path.with_extension(format!("partial-{}", std::process::id()));
        let file = File::create(&beside).map_err(DataError::io("creating", &beside))?;
        let mut writer = Self {
            path: path.to_path_buf(),
            beside,
            file: BufWriter::with_capacity(1 << 20, file),
            offsets: vec![],
            position: 0,
        };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        self.file.write_all(bytes).map_err(DataError::io("writing", &self.beside))
    }

    /// Appends a sample.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn push(&mut self, sample: &Sample) -> Result<()> {
        self.offsets.push(self.position);
        let header = Header {
            picture: PictureHeader::of(&sample.picture),
            asks: sample.asks.clone(),
            degradation: sample.degradation.clone(),
            later: sample.later.as_ref().map(PictureHeader::of),
            spoken: sample.spoken.clone(),
        };
        let json = serde_json::to_vec(&header).map_err(|source| DataError::Json { path: self.path.clone(), source })?;
        self.write(&(json.len() as u32).to_le_bytes())?;
        self.write(&json)?;
        self.write(sample.picture.image.as_raw())?;
        if let Some(later) = &sample.later {
            self.write(later.image.as_raw())?;
        }
        Ok(())
    }

    /// Writes the table and gives the shard its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<()> {
        let table = self.position;
        for offset in std::mem::take(&mut self.offsets) {
            self.write(&offset.to_le_bytes())?;
        }
        self.write(&table.to_le_bytes())?;
        self.file.flush().map_err(DataError::io("writing", &self.beside))?;
        std::fs::rename(&self.beside, &self.path).map_err(DataError::io("renaming", &self.beside))
    }
}

/// Reads the n-th sample of a shard.
///
/// # Errors
/// When the shard is damaged or shorter.
pub fn read(path: &Path, number: usize) -> Result<Sample> {
    let io = |operation| DataError::io(operation, path);
    let damaged =
        |expected: &str, got: String| DataError::Shard { path: path.to_path_buf(), expected: expected.to_owned(), got };
    let mut file = File::open(path).map_err(io("opening"))?;
    let mut magic = [0u8; 8];
    file.read_exact(&mut magic).map_err(io("reading"))?;
    if &magic != MAGIC {
        return Err(damaged("a shard's first bytes", format!("{magic:02x?}")));
    }
    let end = file.seek(SeekFrom::End(-8)).map_err(io("seeking"))?;
    let table = number_at(&mut file, path)?;
    let entry = table.saturating_add(8 * number as u64);
    if entry.saturating_add(8) > end {
        return Err(damaged(&format!("an entry for sample {number}"), format!("a table of {table}..{end}")));
    }
    file.seek(SeekFrom::Start(entry)).map_err(io("seeking"))?;
    let offset = number_at(&mut file, path)?;
    file.seek(SeekFrom::Start(offset)).map_err(io("seeking"))?;
    let mut length = [0u8; 4];
    file.read_exact(&mut length).map_err(io("reading"))?;
    let length = u32::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(damaged("a header under 16 MiB", format!("{length} bytes")));
    }
    let mut json = vec![0u8; length as usize];
    file.read_exact(&mut json).map_err(io("reading"))?;
    let header: Header =
        serde_json::from_slice(&json).map_err(|source| DataError::Json { path: path.to_path_buf(), source })?;
    let picture = picture(header.picture, &mut file, path)?;
    let later = header.later.map(|later| self::picture(later, &mut file, path)).transpose()?;
    Ok(Sample { picture, asks: header.asks, degradation: header.degradation, later, spoken: header.spoken })
}

fn number_at(file: &mut File, path: &Path) -> Result<u64> {
    let mut bytes = [0u8; 8];
    file.read_exact(&mut bytes).map_err(DataError::io("reading", path))?;
    Ok(u64::from_le_bytes(bytes))
}

fn picture(header: PictureHeader, file: &mut File, path: &Path) -> Result<Picture> {
    let (width, height) = (header.width, header.height);
    let damaged = |got: String| DataError::Shard {
        path: path.to_path_buf(),
        expected: format!("a picture of at most {MAX_SIDE} px a side"),
        got,
    };
    if width.max(height) > MAX_SIDE {
        return Err(damaged(format!("{width}x{height}")));
    }
    let mut pixels = vec![0u8; width as usize * height as usize * 3];
    file.read_exact(&mut pixels).map_err(DataError::io("reading", path))?;
    let image = RgbImage::from_raw(width, height, pixels).ok_or_else(|| damaged(format!("{width}x{height}")))?;
    Ok(Picture { image, instances: header.instances, exhaustive: header.exhaustive, origin: header.origin })
}

/// Keeps the specification beside the shards.
///
/// # Errors
/// When the folder already holds another specification, or the disk refuses.
pub(super) fn write_spec(folder: &Path, spec: &Spec) -> Result<()> {
    let path = folder.join("spec.json");
    if path.is_file() {
        let there = read_spec(folder)?;
        if &there != spec {
            return Err(DataError::Shard {
                path,
                expected: format!("the specification {}", spec.hash()),
                got: format!("another one, {}", there.hash()),
            });
        }
        return Ok(());
    }
    let json = serde_json::to_vec_pretty(spec).map_err(|source| DataError::Json { path: path.clone(), source })?;
    std::fs::write(&path, json).map_err(DataError::io("writing", &path))
}

pub(super) fn read_spec(folder: &Path) -> Result<Spec> {
    let path = folder.join("spec.json");
    let bytes = std::fs::read(&path).map_err(DataError::io("reading", &path))?;
    serde_json::from_slice(&bytes).map_err(|source| DataError::Json { path, source })
}
