//! Samples of somebody's own pictures.
//!
//! What the set's annotators said of a picture is asked in their words. Most of such pictures are shown whole and as they are:
//! "the left one" is another one in a part of the picture, or in its mirror image. What else is asked is generated, as for any
//! other photograph.
//! A picture about which people wrote tasks is always shown whole, as it is and clear, and nothing else is asked about it:
//! nobody labelled what is in it.

use std::path::Path;

use image::RgbImage;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Spec;
use super::make::{choose, crop_of, finish};
use crate::datasets::crop::{Region, cut_indexed};
use crate::datasets::folder::{self, SAMPLES};
use crate::datasets::{DataError, Record, Result, Split};
use crate::expressions::meaning::MIN_VISIBLE;
use crate::expressions::{Options, Proposed, surface};
use crate::sample::{Ask, Picture, Sample, Spoken, Stratum, Target};

/// Share of the pictures with something said of them that are shown whole.
const WHOLE_SHARE: f64 = 0.75;
/// Written questions of a sample at most.
const SAID: usize = 12;
/// Written tasks of a sample at most.
const SPOKEN: usize = 32;
/// Pictures that may fail to decode one after the other.
const TRIES: usize = 16;

/// What is wrong with a setting: which, what it must be, what it is.
pub type Wrong = (String, String, String);

/// The training pictures of a set.
#[derive(Debug, Clone)]
pub struct Own {
    records: Vec<Record>,
}

/// A picture with what its annotators said of it.
pub(super) struct Drawn {
    pub(super) picture: Picture,
    pub(super) said: Vec<Proposed>,
    pub(super) spoken: Vec<Spoken>,
}

/// The training pictures of all sets of a specification.
pub(super) fn open(spec: &Spec, data: Option<&Path>) -> Result<Vec<Own>> {
    spec.sets.iter().map(|set| Ok(Own { records: set.part(data, Split::Train)?.records })).collect()
}

impl Own {
    /// These pictures.
    pub fn new(records: Vec<Record>) -> Self {
        Self { records }
    }

    /// A sample as training sees it, but never degraded.
    ///
    /// # Errors
    /// When no picture decodes.
    pub fn sample(&self, spec: &Spec, seed: u64) -> Result<Sample> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let Drawn { picture, said, spoken } = self.draw(spec.size, &mut rng)?;
        let options = Options { count: spec.asks_beside(&spoken), slip_share: spec.slip_share, ..Options::default() };
        Ok(Sample { spoken, ..finish(picture, None, said, &options, None, &mut rng)? })
    }

    /// A picture as training shows it. One that does not decode is told in the log, and another one takes its place.
    pub(super) fn draw(&self, size: u32, rng: &mut ChaCha8Rng) -> Result<Drawn> {
        let mut tries = 0;
        let (record, image) = loop {
            let record = choose(&self.records, rng)?;
            match record.image() {
                Ok(image) => break (record, image),
                Err(error) if tries + 1 == TRIES => return Err(error),
                Err(error) => tracing::warn!("left out: {error}"),
            }
            tries += 1;
        };
        show(record, &image, size, rng)
    }
}

fn show(record: &Record, image: &RgbImage, size: u32, rng: &mut ChaCha8Rng) -> Result<Drawn> {
    let whole = !record.spoken.is_empty() || (!record.expressions.is_empty() && rng.random_bool(WHOLE_SHARE));
    let (picture, shown) = match whole {
        true => cut_indexed(record, image, &Region::whole(record), size)?,
        false => crop_of(record, image, size, rng)?,
    };
    let mut said = written(record, &picture, &shown, whole);
    said.shuffle(rng);
    said.truncate(SAID);
    Ok(Drawn { picture, said, spoken: spoken(record, rng) })
}

/// Some of the tasks that people wrote about a record, in any order.
pub(crate) fn spoken(record: &Record, rng: &mut ChaCha8Rng) -> Vec<Spoken> {
    let mut spoken = record.spoken.clone();
    spoken.shuffle(rng);
    spoken.truncate(SPOKEN);
    spoken
}

/// What annotators said of a record, as questions about a picture that shows it `whole` or in part; `shown` has the index in
/// the picture of each of the record's instances.
///
/// Of a part only what speaks of kind and colour alone still holds, and only where nothing that is meant is cut.
pub(crate) fn written(record: &Record, picture: &Picture, shown: &[Option<usize>], whole: bool) -> Vec<Proposed> {
    let mut proposed = Vec::new();
    for said in &record.expressions {
        let surface = surface::read(&said.text);
        let here: Vec<usize> = said.targets.iter().filter_map(|&target| shown.get(target).copied().flatten()).collect();
        let lost = here.len() < said.targets.len();
        let cut = here.iter().any(|&index| picture.instances[index].visible < MIN_VISIBLE);
        let holds = if whole { !lost } else { surface.holds_in_parts() && !cut && !(lost && here.is_empty()) };
        if !holds {
            continue;
        }
        let stratum = stratum(&surface, &here, picture);
        let weak = here.iter().any(|&index| picture.instances[index].mask.is_none());
        let target = match here.is_empty() {
            true => Target::Absent,
            false if weak => Target::Boxes(here),
            false => Target::Masks(here),
        };
        let (text, hint, nonsense) = (said.text.clone(), None, Vec::new());
        let (held_out_phrasing, slipped) = (false, false);
        let ask = Ask { text, hint, stratum, target, nonsense, held_out_phrasing, slipped, written: true };
        // Nobody says what the words lean on: in a degraded view all of it must be seen.
        let needs = (0..picture.instances.len()).collect();
        proposed.push(Proposed { ask, expression: None, needs, anchor: None, alike: None });
    }
    proposed
}

/// The stratum of a written question; where the words cannot be read for sure, they may relate their target to anything.
fn stratum(surface: &surface::Surface, targets: &[usize], picture: &Picture) -> Stratum {
    let unsure = surface.stratum == Stratum::Relation;
    let there = || picture.instances.iter().any(|i| surface.category == Some(i.category));
    match targets.len() {
        0 if unsure || (there() && surface.stratum != Stratum::Colour) => Stratum::WrongRelation,
        0 if there() => Stratum::AbsentColour,
        0 => Stratum::AbsentCategory,
        1 => surface.stratum,
        _ if unsure => Stratum::Relation,
        _ => Stratum::Plural,
    }
}

impl Spec {
    /// Questions about a picture at most, beside what people wrote about it.
    pub(super) fn asks_beside(&self, spoken: &[Spoken]) -> usize {
        if spoken.is_empty() { self.asks } else { 0 }
    }

    /// Checks what the types do not, without looking at any folder.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn check(&self) -> std::result::Result<(), Wrong> {
        let wrong = |number: usize, key: &str, expected: &str, got: String| {
            Err((format!("sets[{number}].{key}"), expected.to_owned(), got))
        };
        for (number, set) in self.sets.iter().enumerate() {
            if set.folder.as_os_str().is_empty() {
                return wrong(number, "folder", "a folder", "nothing".to_owned());
            }
            if set.pictures == Some(0) {
                return wrong(number, "pictures", "at least 1", "0".to_owned());
            }
            if set.pictures.is_some() && set.share.is_some() {
                return wrong(number, "share", "either `pictures` or `share`", "both".to_owned());
            }
            if let Some(share) = set.share.filter(|share| !(*share > 0.0 && *share < 1.0)) {
                return wrong(number, "share", "a share above 0 and below 1", share.to_string());
            }
        }
        let shares: f32 = self.sets.iter().filter_map(|set| set.share).sum();
        let counted =
            self.kinds().iter().any(|(_, count)| *count > 0) || self.sets.iter().any(|set| set.share.is_none());
        match self.sets.iter().position(|set| set.share.is_some()) {
            Some(number) if shares >= 1.0 => wrong(number, "share", "shares below 1 in all", shares.to_string()),
            Some(number) if !counted => wrong(
                number,
                "share",
                "something beside it that has a number (scenes, `pictures`)",
                "nothing".to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// The same with the number of samples of every set and the hash of what they are made from. What is read and what is left
    /// out is told, a line each.
    ///
    /// # Errors
    /// When a set cannot be read, holds nothing to train on, or is not the one that the specification names by its hash.
    pub fn settled(&self, data: Option<&Path>, tell: &dyn Fn(&str)) -> Result<Self> {
        let mut settled = self.clone();
        for set in &mut settled.sets {
            let part = set.part(data, Split::Train)?;
            let (pictures, things) = (part.records.len(), part.instances());
            let said = (part.expressions(), part.spoken());
            let tasks = if said.1 > 0 { format!(", {} tasks", said.1) } else { String::new() };
            tell(&format!("{set}: {pictures} pictures to train on, {things} things, {} expressions{tasks}", said.0));
            part.told().iter().for_each(|line| tell(&format!("{set}: {line}")));
            let found = folder::content(&part.records);
            if let Some(named) = set.content.as_ref().filter(|named| **named != found) {
                let (path, expected) = (set.path(data)?, format!("the content {named}, which the recipe names"));
                return Err(DataError::Form { path, expected, got: format!("{found}: other annotations or pictures") });
            }
            set.content = Some(found);
            if set.share.is_none() {
                set.pictures.get_or_insert(SAMPLES * pictures);
            }
        }
        let shares: f32 = settled.sets.iter().filter_map(|set| set.share).sum();
        let all = settled.len() as f32 / (1.0 - shares).max(f32::EPSILON);
        for set in &mut settled.sets {
            if let Some(share) = set.share.take() {
                set.pictures = Some(((share * all).round() as usize).max(1));
            }
        }
        Ok(settled)
    }
}
