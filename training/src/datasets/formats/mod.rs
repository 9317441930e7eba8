//! The field's annotation formats, read into [`Record`]s: one file a format.
//!
//! A file that is not what its format says is one error. A single entry that is broken, a picture that is missing, a category
//! that has no [`Category`](crate::sample::Category) is left out and counted, with the place where it first came up; nothing
//! is dropped in silence. Where a known thing is left out, its category no longer counts as labelled exhaustively in that
//! picture: "there is no car" is said of no picture with a car that could not be read.
//!
//! What of a set trains, what tunes and what tests is said by [`Annotations::part`].
//!
//! An expression is left out, too, when one of the things that it names is: what is left of them would be a wrong answer.

mod auair;
mod coco;
mod dota;
mod files;
mod gather;
mod geochat;
mod hit_uav;
mod parts;
mod refdrone;
mod refsegrs;
mod rrsis_d;
mod rsvg;
mod shape;
mod spoken;
mod tally;
mod visdrone;
mod vrsbench;
mod vsai_ref;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DataError, Outline, Record, Result, load};

pub use parts::ALL;
pub use tally::{Count, Tally};
pub use write::write_coco;

/// A format of annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `annotations.json` of this project: see [`load`].
    Kestrel,
    /// COCO instances: polygons, run lengths, boxes.
    Coco,
    /// DOTA's `labelTxt`, which VSAI uses too: oriented boxes.
    Dota,
    /// VSAI-Ref: expressions, whose masks are oriented boxes.
    VsaiRef,
    /// RRSIS-D: expressions with masks.
    RrsisD,
    /// RefSegRS: expressions with mask images.
    Refsegrs,
    /// VRSBench's referring task: expressions with oriented boxes.
    Vrsbench,
    /// DIOR-RSVG: expressions with boxes.
    DiorRsvg,
    /// OPT-RSVG: the same form.
    OptRsvg,
    /// GeoChat-Bench's referring task: expressions with oriented boxes.
    Geochat,
    /// RefDrone: expressions with any number of boxes, none included.
    Refdrone,
    /// AU-AIR: boxes.
    Auair,
    /// HIT-UAV: boxes, upright or oriented, in thermal pictures.
    HitUav,
    /// VisDrone's text files: boxes.
    Visdrone,
    /// `tasks.jsonl` of this project: captions, short questions and changes, with answers in words.
    Spoken,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Kestrel,
        Self::Coco,
        Self::Dota,
        Self::VsaiRef,
        Self::RrsisD,
        Self::Refsegrs,
        Self::Vrsbench,
        Self::DiorRsvg,
        Self::OptRsvg,
        Self::Geochat,
        Self::Refdrone,
        Self::Auair,
        Self::HitUav,
        Self::Visdrone,
        Self::Spoken,
    ];

    /// The name that recipes and commands use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kestrel => "kestrel",
            Self::Coco => "coco",
            Self::Dota => "dota",
            Self::VsaiRef => "vsai_ref",
            Self::RrsisD => "rrsis_d",
            Self::Refsegrs => "refsegrs",
            Self::Vrsbench => "vrsbench",
            Self::DiorRsvg => "dior_rsvg",
            Self::OptRsvg => "opt_rsvg",
            Self::Geochat => "geochat",
            Self::Refdrone => "refdrone",
            Self::Auair => "auair",
            Self::HitUav => "hit_uav",
            Self::Visdrone => "visdrone",
            Self::Spoken => "spoken",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| DataError::UnknownFormat {
            got: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// What a folder's annotations say.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// The pictures with what is labelled and said; those whose file is missing are among them until
    /// [`Annotations::with_pictures`].
    pub records: Vec<Record>,
    /// What was left out, by reason.
    pub skipped: Tally,
    /// What was kept in another way than it was written, by reason.
    pub noted: Tally,
    /// The set's names that have no category, and how many things bear them; these things are left out.
    pub unknown: BTreeMap<String, usize>,
}

/// Reads a folder's annotations; no picture is decoded.
///
/// # Errors
/// When the folder does not hold the format's files, or one of them is not of its form.
pub fn read(format: Format, folder: &Path) -> Result<Annotations> {
    read_file(format, folder, None)
}

/// [`read`] with the annotation file named, where it is not called as the format has it.
///
/// # Errors
/// As [`read`], and when the format has no such file of any name.
pub fn read_file(format: Format, folder: &Path, annotations: Option<&Path>) -> Result<Annotations> {
    if !folder.is_dir() {
        let got = if folder.exists() { "a file" } else { "nothing" }.to_owned();
        let expected = format!("a folder in the format {format}");
        return Err(DataError::Form { path: folder.to_path_buf(), expected, got });
    }
    if let Some(named) = annotations.filter(|_| format != Format::Coco) {
        let expected = format!("no annotation file named for the format {format}, which has its own names");
        return Err(DataError::Form { path: folder.to_path_buf(), expected, got: named.display().to_string() });
    }
    match format {
        Format::Kestrel => Ok(Annotations { records: load(folder)?, ..Annotations::default() }),
        Format::Coco => coco::read(folder, annotations),
        Format::Dota => dota::read(folder),
        Format::VsaiRef => vsai_ref::read(folder),
        Format::RrsisD => rrsis_d::read(folder),
        Format::Refsegrs => refsegrs::read(folder),
        Format::Vrsbench => vrsbench::read(folder),
        Format::DiorRsvg | Format::OptRsvg => rsvg::read(format, folder),
        Format::Geochat => geochat::read(folder),
        Format::Refdrone => refdrone::read(folder),
        Format::Auair => auair::read(folder),
        Format::HitUav => hit_uav::read(folder),
        Format::Visdrone => visdrone::read(folder),
        Format::Spoken => spoken::read(folder),
    }
}

/// Most bytes of a decoded picture.
const MAX_PICTURE_BYTES: u64 = 512 << 20;

impl Annotations {
    /// The set's own splits.
    pub fn splits(&self) -> BTreeSet<&str> {
        let of_pictures = self.records.iter().flat_map(|r| &r.own_split);
        let of_words = self.records.iter().flat_map(|r| r.expressions.iter().flat_map(|e| &e.split));
        of_pictures.chain(of_words).map(String::as_str).collect()
    }

    /// Only the pictures, or where expressions are split only the expressions, of one of the set's own splits.
    ///
    /// # Errors
    /// When no split has this name; `folder` names the set.
    pub fn of_split(mut self, name: &str, folder: &Path) -> Result<Self> {
        let splits = self.splits();
        if !splits.contains(name) {
            let known = if splits.is_empty() { "none".to_owned() } else { join(&splits) };
            return Err(DataError::Split { path: folder.to_path_buf(), known, got: format!("`{name}`") });
        }
        self.records.retain_mut(|record| {
            let mut said = false;
            record.expressions.retain(|e| {
                let own = e.split.as_deref().is_none_or(|split| split == name);
                said |= own && e.split.is_some();
                own
            });
            said || record.own_split.as_deref() == Some(name)
        });
        Ok(self)
    }

    /// Only the pictures whose file is there, opens and has the annotated size.
    #[must_use]
    pub fn with_pictures(mut self) -> Self {
        let skipped = &mut self.skipped;
        self.records.retain(|record| {
            let trouble = record.files().find_map(|file| Some((trouble(record, file)?, file)));
            if let Some((reason, file)) = trouble {
                skipped.add(reason, file.display());
            }
            trouble.is_none()
        });
        self
    }

    /// Without outlines: for sets whose masks are boxes in truth.
    #[must_use]
    pub fn boxes_only(mut self) -> Self {
        for instance in self.records.iter_mut().flat_map(|r| &mut r.instances) {
            if !instance.outline.is_weak() {
                instance.outline = Outline::Box;
            }
        }
        self
    }

    /// What was left out or kept otherwise, a line a reason.
    pub fn told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (title, tally) in [("left out", &self.skipped), ("noted", &self.noted)] {
            for (reason, count) in tally.iter() {
                lines.push(format!("{title}: {} × {reason}, first {}", count.count, count.first));
            }
        }
        let named = |(name, count)| format!("left out: {count} × `{name}`, which no category of ours is");
        lines.extend(self.unknown.iter().map(named));
        lines
    }

    /// Things labelled in all pictures.
    pub fn instances(&self) -> usize {
        self.records.iter().map(|r| r.instances.len()).sum()
    }

    /// Expressions of all pictures.
    pub fn expressions(&self) -> usize {
        self.records.iter().map(|r| r.expressions.len()).sum()
    }

    /// Tasks that people wrote about all pictures.
    pub fn spoken(&self) -> usize {
        self.records.iter().map(|r| r.spoken.len()).sum()
    }
}

/// What keeps a file of a record from being shown.
fn trouble(record: &Record, file: &Path) -> Option<&'static str> {
    let bytes = |(w, h): (u32, u32)| u64::from(w).saturating_mul(u64::from(h)).saturating_mul(3);
    match image::image_dimensions(file) {
        _ if !file.is_file() => Some("picture that is missing"),
        Err(_) => Some("picture that does not open"),
        Ok(found) if bytes(found) > MAX_PICTURE_BYTES => Some("picture too large to decode"),
        Ok(found) if found != record.file_size() => Some("picture of another size than annotated"),
        Ok(_) => None,
    }
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
