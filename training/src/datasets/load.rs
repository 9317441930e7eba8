//! The annotation format: `annotations.json` beside `images/`.

use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};
use serde::Deserialize;

use super::{DataError, Outline, Referring, Result, Split, labels, split};
use crate::sample::{Category, Spoken};

/// What the sensor saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Modality {
    Rgb,
    Thermal,
    NearInfrared,
}

/// One labelled thing of a record, in the pixels of the whole image.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// What it is.
    pub category: Category,
    /// `[x, y, width, height]`, pixels.
    pub bounding_box: [f32; 4],
    /// What is known of its extent beside the box.
    pub outline: Outline,
    /// Share of it that the annotators could see, 0..=1; 1 where the set says nothing.
    pub visible: f32,
}

/// One image of a data set with its labels; pixels are read on demand. Two pictures of one place are one image: side by side.
#[derive(Debug, Clone)]
pub struct Record {
    /// The annotation file's own name for the set.
    pub dataset: String,
    /// The image file.
    pub path: PathBuf,
    /// The file of a later picture of the same place, as large, which is seen to the right of it.
    pub after: Option<PathBuf>,
    /// Position in the annotation file.
    pub index: usize,
    /// Pixels; of two pictures side by side.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What is labelled.
    pub instances: Vec<Labelled>,
    /// Categories that may be called absent here.
    pub exhaustive: Vec<Category>,
    /// Which sensor.
    pub modality: Modality,
    /// Unit of splitting: strip, sequence, cluster or file.
    pub scene: String,
    /// What the set's own annotators said of it.
    pub expressions: Vec<Referring>,
    /// What people ask about it and answer in words.
    pub spoken: Vec<Spoken>,
    /// The set's own name for the split that it belongs to, where it has one.
    pub own_split: Option<String>,
}

#[derive(Deserialize)]
struct File {
    dataset: String,
    images: Vec<ImageEntry>,
    instances: Vec<InstanceEntry>,
}

#[derive(Deserialize)]
struct ImageEntry {
    file: String,
    width: u32,
    height: u32,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize, Default)]
struct Meta {
    #[serde(default)]
    false_colour_ir: bool,
}

#[derive(Deserialize)]
struct InstanceEntry {
    image: usize,
    category: String,
    bbox: Vec<f32>,
    #[serde(default)]
    segmentation: Option<Vec<Vec<f32>>>,
}

/// Reads a folder's annotations and checks every entry; no image is decoded.
///
/// # Errors
/// The first broken entry, with the file's name and the entry's index.
pub fn load(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join("annotations.json");
    let bytes = std::fs::read(&path).map_err(DataError::io("reading", &path))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|source| DataError::Json { path: path.clone(), source })?;
    let mut records = Vec::with_capacity(file.images.len());
    for (index, entry) in file.images.iter().enumerate() {
        records.push(record(folder, &path, &file.dataset, index, entry)?);
    }
    let mut anywhere = Vec::new();
    for (index, entry) in file.instances.iter().enumerate() {
        let Some(labelled) = labelled(&path, index, entry, file.images.len())? else { continue };
        if !anywhere.contains(&labelled.category) {
            anywhere.push(labelled.category);
        }
        records[entry.image].instances.push(labelled);
    }
    for record in &mut records {
        let present: Vec<_> = record.instances.iter().map(|i| i.category).collect();
        record.exhaustive = labels::exhaustive(&record.dataset, &present, &anywhere);
    }
    Ok(records)
}

fn record(folder: &Path, annotations: &Path, dataset: &str, index: usize, entry: &ImageEntry) -> Result<Record> {
    let broken = |expected: &str, got: String| DataError::Annotation {
        path: annotations.to_path_buf(),
        entry: "images",
        index,
        expected: expected.to_owned(),
        got,
    };
    let relative = Path::new(&entry.file);
    let inside = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !inside {
        return Err(broken("a relative path inside the folder", format!("`{}`", entry.file)));
    }
    if entry.width == 0 || entry.height == 0 {
        return Err(broken("width and height above 0", format!("{}x{}", entry.width, entry.height)));
    }
    let path = folder.join(relative);
    if !path.is_file() {
        return Err(broken("a file that exists", format!("`{}`", path.display())));
    }
    let modality = match dataset {
        d if d.starts_with("hit_uav") => Modality::Thermal,
        d if d.starts_with("odm_seneca") => Modality::NearInfrared,
        _ if entry.meta.false_colour_ir => Modality::NearInfrared,
        _ => Modality::Rgb,
    };
    let scene = split::scene(dataset, relative);
    let (width, height) = (entry.width, entry.height);
    let dataset = dataset.to_owned();
    let own_split = split::named(&dataset, &scene);
    Ok(Record {
        dataset,
        path,
        after: None,
        index,
        width,
        height,
        instances: Vec::new(),
        exhaustive: Vec::new(),
        modality,
        scene,
        expressions: Vec::new(),
        spoken: Vec::new(),
        own_split,
    })
}

fn labelled(path: &Path, index: usize, entry: &InstanceEntry, images: usize) -> Result<Option<Labelled>> {
    let broken = |expected: &str, got: String| DataError::Annotation {
        path: path.to_path_buf(),
        entry: "instances",
        index,
        expected: expected.to_owned(),
        got,
    };
    if entry.image >= images {
        return Err(broken(&format!("an image index under {images}"), entry.image.to_string()));
    }
    let category = labels::category(&entry.category).map_err(|name| broken("a known category", format!("`{name}`")))?;
    let Some(category) = category else { return Ok(None) };
    let [x, y, w, h] = entry.bbox[..] else {
        return Err(broken("bbox [x, y, width, height]", format!("{} numbers", entry.bbox.len())));
    };
    if ![x, y, w, h].iter().all(|v| v.is_finite()) || w <= 0.0 || h <= 0.0 {
        return Err(broken("a finite bbox with width and height above 0", format!("{:?}", entry.bbox)));
    }
    let mut polygons = Vec::new();
    for ring in entry.segmentation.iter().flatten() {
        if ring.len() < 6 || ring.len() % 2 != 0 || !ring.iter().all(|v| v.is_finite()) {
            return Err(broken("polygons of at least three finite points", format!("{} numbers", ring.len())));
        }
        polygons.push(ring.chunks_exact(2).map(|p| [p[0], p[1]]).collect());
    }
    let outline = if polygons.is_empty() { Outline::Box } else { Outline::Polygons(polygons) };
    Ok(Some(Labelled { category, bounding_box: [x, y, w, h], outline, visible: 1.0 }))
}

impl Record {
    /// Its files: one, or those of two pictures side by side.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.after.as_deref())
    }

    /// Width and height that each of its files must have.
    pub fn file_size(&self) -> (u32, u32) {
        let width = if self.after.is_some() { self.width / 2 } else { self.width };
        (width, self.height)
    }

    /// Decodes the pixels.
    ///
    /// # Errors
    /// When a file does not decode or has another size than annotated.
    pub fn image(&self) -> Result<RgbImage> {
        let first = self.decoded(&self.path)?;
        let Some(after) = &self.after else { return Ok(first) };
        let second = self.decoded(after)?;
        let mut both = RgbImage::new(2 * first.width(), first.height());
        imageops::replace(&mut both, &first, 0, 0);
        imageops::replace(&mut both, &second, i64::from(first.width()), 0);
        Ok(both)
    }

    fn decoded(&self, path: &Path) -> Result<RgbImage> {
        let broken = |expected: String, got: String| DataError::Picture {
            path: path.to_path_buf(),
            index: self.index,
            expected,
            got,
        };
        let image =
            image::open(path).map_err(|e| broken("a picture that decodes".to_owned(), e.to_string()))?.into_rgb8();
        let (width, height) = self.file_size();
        if image.dimensions() != (width, height) {
            let (w, h) = image.dimensions();
            return Err(broken(format!("{width}x{height} as annotated"), format!("{w}x{h}")));
        }
        Ok(image)
    }

    /// The split that this record's scene belongs to.
    pub fn split(&self) -> Split {
        split::of(&self.dataset, &self.scene)
    }

    /// The image's file name.
    pub fn frame(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }
}
