//! Puts records together while a format's file is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use kestrel_link::query::MAX_TEXT_BYTES;

use super::shape::{Checked, Shape};
use super::{Annotations, Format, Tally, files};
use crate::datasets::{Labelled, Modality, Record, Referring, labels, split};
use crate::sample::{Category, Spoken};

/// How large a picture is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// The annotations say so.
    Annotated([u32; 2]),
    /// Its file says so.
    Measured,
    /// Its file says so; without the file, the size that all pictures of the set have.
    MeasuredOr([u32; 2]),
}

/// What a set labels of its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// Everything of its categories.
    All,
    /// Only what an expression speaks of.
    Named,
}

/// A picture by the set's own split and its file's name.
type Key = (Option<String>, String);

/// Reason for a picture that must not be opened.
const OUTSIDE: &str = "picture whose name leads out of the folder";

/// Records in the making.
#[derive(Debug)]
pub(super) struct Gather {
    format: Format,
    folder: PathBuf,
    dataset: String,
    records: Vec<Record>,
    by_file: HashMap<Key, usize>,
    /// Per record: categories of which something is left out.
    doubts: Vec<BTreeSet<Category>>,
    /// Per record: whether anything at all may be left out.
    doubted: Vec<bool>,
    skipped: Tally,
    noted: Tally,
    unknown: BTreeMap<String, usize>,
    shelves: Vec<&'static str>,
}

impl Gather {
    /// `shelves` are folders in which this format keeps pictures, beside the usual ones.
    pub(super) fn new(format: Format, folder: &Path, shelves: &[&'static str]) -> Self {
        // A name of one's own with the name of a known set must not bring that set's rules with it.
        let dataset = format!("{format}/{}", files::name(folder));
        Self {
            format,
            folder: folder.to_path_buf(),
            dataset,
            records: Vec::new(),
            by_file: HashMap::new(),
            doubts: Vec::new(),
            doubted: Vec::new(),
            skipped: Tally::default(),
            noted: Tally::default(),
            unknown: BTreeMap::new(),
            shelves: shelves.to_vec(),
        }
    }

    /// The record of a picture, made at first sight.
    pub(super) fn picture(&mut self, file: &str, size: Size, own: Option<&str>, at: impl Display) -> Option<usize> {
        let key = (own.map(str::to_owned), file.to_owned());
        if let Some(index) = self.by_file.get(&key) {
            return Some(*index);
        }
        if !files::is_inside(file) {
            self.skip(OUTSIDE, at);
            return None;
        }
        let path = files::picture(&self.folders(own), file);
        let measured = || path.as_deref().and_then(|p| image::image_dimensions(p).ok()).map(<[u32; 2]>::from);
        let size = match size {
            Size::Annotated([w, h]) if w == 0 || h == 0 => {
                self.skip("picture without a size", at);
                return None;
            }
            Size::Annotated(size) => size,
            Size::Measured => measured().unwrap_or_default(),
            Size::MeasuredOr(usual) => measured().unwrap_or(usual),
        };
        let path = path.unwrap_or_else(|| self.expected(file));
        Some(self.record(key, file, path, size))
    }

    /// The record of two pictures of one place, made at first sight: `before`, and to the right of it `after`.
    pub(super) fn pair(&mut self, [before, after]: [&str; 2], own: Option<&str>, at: impl Display) -> Option<usize> {
        // No file's name holds this character.
        let key = (own.map(str::to_owned), format!("{before}\0{after}"));
        if let Some(index) = self.by_file.get(&key) {
            return Some(*index);
        }
        if !files::is_inside(before) || !files::is_inside(after) {
            self.skip(OUTSIDE, at);
            return None;
        }
        let folders = self.folders(own);
        let paths = [before, after].map(|file| files::picture(&folders, file).unwrap_or_else(|| self.expected(file)));
        let [first, second] = paths.each_ref().map(|path| image::image_dimensions(path).ok());
        if first.zip(second).is_some_and(|(first, second)| first != second) {
            self.skip("pair of pictures of different sizes", at);
            return None;
        }
        let (width, height) = first.unwrap_or_default();
        let [path, second] = paths;
        let index = self.record(key, before, path, [width.saturating_mul(2), height]);
        self.records[index].after = Some(second);
        Some(index)
    }

    /// Where a picture is looked for that is in none of the folders.
    fn expected(&self, file: &str) -> PathBuf {
        self.folder.join("images").join(file)
    }

    fn record(&mut self, key: Key, file: &str, path: PathBuf, [width, height]: [u32; 2]) -> usize {
        let index = self.records.len();
        self.records.push(Record {
            dataset: self.dataset.clone(),
            path,
            after: None,
            index,
            width,
            height,
            instances: Vec::new(),
            exhaustive: Vec::new(),
            modality: if self.format == Format::HitUav { Modality::Thermal } else { Modality::Rgb },
            scene: scene(self.format, Path::new(file)),
            expressions: Vec::new(),
            spoken: Vec::new(),
            own_split: key.0.clone(),
        });
        self.doubts.push(BTreeSet::new());
        self.doubted.push(false);
        self.by_file.insert(key, index);
        index
    }

    /// Width and height of a picture, 0×0 where they are not known.
    pub(super) fn size(&self, picture: usize) -> [u32; 2] {
        self.records.get(picture).map_or([0; 2], |r| [r.width, r.height])
    }

    /// A labelled thing; gives its index in the record unless it is left out.
    pub(super) fn thing(
        &mut self,
        picture: usize,
        name: &str,
        shape: Checked<Shape>,
        visible: f32,
        at: impl Display,
    ) -> Option<usize> {
        let category = self.category(picture, name, &at)?;
        let [width, height] = self.size(picture);
        match shape.and_then(|shape| shape.inside(width, height)) {
            Ok(Shape { bounding_box, outline }) => {
                let instances = &mut self.records.get_mut(picture)?.instances;
                instances.push(Labelled { category, bounding_box, outline, visible });
                Some(instances.len() - 1)
            }
            Err(reason) => {
                self.doubt(picture, category);
                self.skip(reason, at);
                None
            }
        }
    }

    /// [`Gather::thing`] for sets that write a thing down anew for every expression: the same box is the same thing.
    pub(super) fn thing_once(
        &mut self,
        picture: usize,
        name: &str,
        shape: Checked<Shape>,
        at: impl Display,
    ) -> Option<usize> {
        let index = self.thing(picture, name, shape, 1.0, at)?;
        let instances = &mut self.records.get_mut(picture)?.instances;
        let (earlier, new) = instances.split_at(index);
        let same = |old: &Labelled| {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 0.01;
            let new = &new[0];
            old.category == new.category && old.bounding_box.iter().zip(&new.bounding_box).all(near)
        };
        if let Some(old) = earlier.iter().position(same) {
            instances.truncate(index);
            return Some(old);
        }
        Some(index)
    }

    /// Leaves a thing out that is there.
    pub(super) fn leave_out(&mut self, picture: usize, name: &str, reason: &'static str, at: impl Display) {
        if let Some(category) = self.category(picture, name, &at) {
            self.doubt(picture, category);
            self.skip(reason, at);
        }
    }

    fn category(&mut self, picture: usize, name: &str, at: &impl Display) -> Option<Category> {
        match labels::category(name) {
            Ok(Some(category)) => Some(category),
            Ok(None) => {
                self.doubt_all(picture);
                self.skip("region that the set asks to ignore", at);
                None
            }
            Err(name) => {
                *self.unknown.entry(name).or_default() += 1;
                None
            }
        }
    }

    /// Something of this category is there without being labelled.
    pub(super) fn doubt(&mut self, picture: usize, category: Category) {
        if let Some(doubts) = self.doubts.get_mut(picture) {
            doubts.insert(category);
        }
    }

    /// Anything may be there without being labelled.
    pub(super) fn doubt_all(&mut self, picture: usize) {
        if let Some(doubted) = self.doubted.get_mut(picture) {
            *doubted = true;
        }
    }

    /// All things of this category are labelled, in a set that otherwise labels what it names only.
    pub(super) fn vouch(&mut self, picture: usize, category: Category) {
        if let Some(record) = self.records.get_mut(picture)
            && !record.exhaustive.contains(&category)
        {
            record.exhaustive.push(category);
        }
    }

    /// An expression with what it names; `None` where that is left out.
    pub(super) fn expression(
        &mut self,
        picture: usize,
        text: &str,
        targets: Option<Vec<usize>>,
        split: Option<&str>,
        at: impl Display,
    ) {
        let text = text.trim();
        let Some(mut targets) = targets else {
            return self.skip("expression for something that is left out", at);
        };
        if !is_request(text) {
            return self
                .skip("expression that no request can be: empty, over 512 bytes or with control characters", at);
        }
        targets.sort_unstable();
        targets.dedup();
        if let Some(record) = self.records.get_mut(picture) {
            let split = split.map(str::to_owned);
            record.expressions.push(Referring { text: text.to_owned(), targets, split });
        }
    }

    /// A task that people wrote about a picture.
    pub(super) fn task(&mut self, picture: usize, spoken: Spoken) {
        if let Some(record) = self.records.get_mut(picture) {
            record.spoken.push(spoken);
        }
    }

    /// Whether no picture was found yet.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Counts something that is left out.
    pub(super) fn skip(&mut self, reason: &'static str, at: impl Display) {
        self.skipped.add(reason, at);
    }

    /// Counts something that is kept in another way than it was written.
    pub(super) fn note(&mut self, reason: &'static str, at: impl Display) {
        self.noted.add(reason, at);
    }

    /// The records, with what may be called absent in each.
    pub(super) fn finish(mut self, labels: Labels) -> Annotations {
        if labels == Labels::All {
            let all = self.records.iter().flat_map(|r| r.instances.iter().map(|i| i.category));
            let anywhere: BTreeSet<Category> = all.collect();
            self.records.iter_mut().for_each(|r| r.exhaustive = anywhere.iter().copied().collect());
        }
        for ((record, doubts), doubted) in self.records.iter_mut().zip(&self.doubts).zip(&self.doubted) {
            record.exhaustive.retain(|category| !doubted && !doubts.contains(category));
        }
        Annotations { records: self.records, skipped: self.skipped, noted: self.noted, unknown: self.unknown }
    }

    /// Where pictures may lie, nearest first.
    fn folders(&self, own: Option<&str>) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.shelves.iter().map(|shelf| self.folder.join(shelf)).collect();
        if let Some(own) = own.filter(|own| files::is_inside(own)) {
            let whole = self.folder.join(own);
            folders.extend([whole.join("images"), self.folder.join("images").join(own), whole]);
        }
        folders.extend([self.folder.join("images"), self.folder.join("JPEGImages"), self.folder.clone()]);
        folders
    }
}

/// Whether somebody may ask with these words.
pub(super) fn is_request(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}

/// The unit of splitting that a file name tells: a flight, a frame sequence, or the large image that patches were cut from.
fn scene(format: Format, file: &Path) -> String {
    let stem = files::stem(file);
    let before = |mark: &str| stem.split(mark).next().unwrap_or(&stem).to_owned();
    match format {
        Format::Auair => split::scene("auair", file),
        Format::Visdrone | Format::Refdrone => before("_"),
        Format::Dota => before("__"),
        Format::Vrsbench | Format::Geochat => stem.rsplit_once('_').map_or(&*stem, |(large, _)| large).to_owned(),
        _ => stem,
    }
}
