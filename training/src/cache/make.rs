//! One sample from its kind and seed.

use std::path::Path;

use image::RgbImage;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Kind, Spec, sets};
use crate::datasets::crop::{Region, cut_indexed};
use crate::datasets::paste::{cut_out, movable, paste, placement};
use crate::datasets::{DataError, Modality, Record, Result, Split, load};
use crate::expressions::{self, Options, Proposed};
use crate::sample::{Ask, Category, Picture, Sample, Stratum, Target};
use crate::scenes;
use crate::views::{View, unseeable};

/// The training records of every data set that a specification needs.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    nwpu: Vec<Record>,
    kit: Vec<Record>,
    auair: Vec<Record>,
    buildings: Vec<Record>,
    trees: Vec<Record>,
    unlabelled: Vec<Record>,
    sets: Vec<sets::Own>,
}

impl Sources {
    /// Loads the annotations that `spec` needs: training scenes in visible light only, and what its own sets say.
    ///
    /// # Errors
    /// When a needed data set is missing or broken.
    pub fn open(spec: &Spec, data: Option<&Path>) -> Result<Self> {
        let read = |folder: &str, count: usize| -> Result<Vec<Record>> {
            if count == 0 {
                return Ok(vec![]);
            }
            let path = data.unwrap_or(Path::new("$KESTREL_DATA")).join(folder);
            if !path.is_dir() {
                return Err(DataError::MissingFolder { path, needed_for: format!("{count} samples of {folder}") });
            }
            let mut records = load(&path)?;
            records.retain(|r| r.split() == Split::Train && r.modality == Modality::Rgb);
            Ok(records)
        };
        Ok(Self {
            nwpu: read("nwpu_vhr10", spec.nwpu + spec.pasted)?,
            kit: read("kit_ais_munich", spec.kit)?,
            auair: read("auair", spec.auair)?,
            buildings: read("oam_kampala_buildings", spec.buildings)?,
            trees: read("deepforest_samples", spec.trees)?,
            unlabelled: read("brighton_beach_drone", spec.unlabelled + spec.pasted)?,
            sets: sets::open(spec, data)?,
        })
    }
}

/// Makes one sample; the same arguments give the same sample.
///
/// # Errors
/// When an image cannot be read.
pub fn make(spec: &Spec, sources: &Sources, kind: Kind, seed: u64) -> Result<Sample> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(kind.stream()));
    let (mut later, mut said, mut spoken) = (None, Vec::new(), Vec::new());
    let picture = match kind {
        Kind::Scene if rng.random::<f32>() < spec.later_share => {
            let mut frames = scenes::render_sequence(seed, spec.size, 2).into_iter();
            match (frames.next(), frames.next()) {
                (Some(first), second) => {
                    later = second;
                    first
                }
                (None, _) => scenes::render(seed, spec.size),
            }
        }
        Kind::Scene => scenes::render(seed, spec.size),
        Kind::Nwpu => crop(&sources.nwpu, spec.size, &mut rng)?,
        Kind::Pasted => pasted(spec, sources, &mut rng)?,
        Kind::Kit => crop(&sources.kit, spec.size, &mut rng)?,
        Kind::Auair => crop(&sources.auair, spec.size, &mut rng)?,
        Kind::Buildings => crop(&sources.buildings, spec.size, &mut rng)?,
        Kind::Trees => crop(&sources.trees, spec.size, &mut rng)?,
        Kind::Unlabelled => crop(&sources.unlabelled, spec.size, &mut rng)?,
        Kind::Set(number) => {
            let own = sources.sets.get(number).ok_or_else(nothing_to_crop)?;
            let drawn = own.draw(spec.size, &mut rng)?;
            (said, spoken) = (drawn.said, drawn.spoken);
            drawn.picture
        }
    };
    let degraded = later.is_none() && rng.random::<f32>() < spec.degraded_share && spoken.is_empty();
    let view = degraded.then(|| View::draw_training(&mut rng));
    let options = Options { count: spec.asks_beside(&spoken), slip_share: spec.slip_share, ..Options::default() };
    Ok(Sample { spoken, ..finish(picture, later, said, &options, view, &mut rng)? })
}

/// Asks about a picture and looks at it through a view. What its annotators said of it comes first; of our own questions there
/// are fewer then, but some.
///
/// # Errors
/// When a mask does not decode.
pub(crate) fn finish(
    picture: Picture,
    later: Option<Picture>,
    said: Vec<Proposed>,
    options: &Options,
    view: Option<View>,
    rng: &mut ChaCha8Rng,
) -> Result<Sample> {
    let proposed = asked(&picture, said, options, rng);
    looked(picture, later, proposed, view)
}

/// The questions of [`finish`], with their answers in the clean picture.
pub(crate) fn asked(picture: &Picture, said: Vec<Proposed>, options: &Options, rng: &mut ChaCha8Rng) -> Vec<Proposed> {
    let count = options.count.saturating_sub(said.len()).max(options.count.div_ceil(4));
    let mut ours = expressions::generate(picture, &Options { count, ..options.clone() }, rng);
    ours.retain(|p| !said.iter().any(|s| s.ask.text.eq_ignore_ascii_case(&p.ask.text)));
    said.into_iter().chain(ours).collect()
}

/// A picture through a view, with the questions that can still be told there.
///
/// # Errors
/// When a mask does not decode.
pub(crate) fn looked(
    mut picture: Picture,
    later: Option<Picture>,
    proposed: Vec<Proposed>,
    view: Option<View>,
) -> Result<Sample> {
    let Some(view) = view else {
        let asks = proposed.into_iter().map(|p| p.ask).collect();
        return Ok(Sample { picture, asks, degradation: None, later, spoken: Vec::new() });
    };
    let degraded = view.apply(&picture.image);
    let hidden = unseeable(&picture, &degraded, &view)?;
    let asks = proposed.into_iter().filter_map(|p| through(p, &hidden, &view)).collect();
    picture.image = degraded;
    let degradation = Some((view.family.name().to_owned(), view.severity));
    Ok(Sample { picture, asks, degradation, later, spoken: Vec::new() })
}

/// The right answer in a degraded view, or `None` when it cannot be told.
pub(crate) fn through(proposed: Proposed, hidden: &[bool], view: &View) -> Option<Ask> {
    let ask = proposed.ask;
    let any = |list: &[usize]| list.iter().any(|i| hidden[*i]);
    match &ask.target {
        Target::Masks(list) | Target::Boxes(list) if list.iter().all(|i| hidden[*i]) => {
            Some(Ask { target: Target::Unseeable, stratum: Stratum::Unseeable, ..ask })
        }
        Target::Masks(_) | Target::Boxes(_) | Target::Ambiguous(_) => (!any(&proposed.needs)).then_some(ask),
        // What is not there and what cannot be seen look alike: only a view that hides nothing may deny.
        Target::Absent => {
            let shows = hidden.iter().all(|h| !h) && (!hidden.is_empty() || view.severity < 0.4);
            shows.then_some(ask)
        }
        Target::NotUnderstood | Target::Unseeable => Some(ask),
    }
}

fn crop(records: &[Record], size: u32, rng: &mut ChaCha8Rng) -> Result<Picture> {
    let record = choose(records, rng)?;
    let image = record.image()?;
    Ok(crop_of(record, &image, size, rng)?.0)
}

/// One of the records.
pub(super) fn choose<'r>(records: &'r [Record], rng: &mut ChaCha8Rng) -> Result<&'r Record> {
    let mut records: Vec<&Record> = records.iter().collect();
    let mut kinds: Vec<Category> = records.iter().flat_map(|r| r.instances.iter().map(|i| i.category)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    // Half of the crops start from a category, so that the rare ones are seen.
    if rng.random_bool(0.5)
        && let Some(kind) = kinds.choose(rng)
    {
        records.retain(|r| r.instances.iter().any(|i| i.category == *kind));
    }
    records.choose(rng).copied().ok_or_else(nothing_to_crop)
}

fn nothing_to_crop() -> DataError {
    let needed_for = "a crop: no training record is there".to_owned();
    DataError::MissingFolder { path: "$KESTREL_DATA".into(), needed_for }
}

/// A crop that shows something where there is something, and for every instance of the record its index in it.
pub(super) fn crop_of(
    record: &Record,
    image: &RgbImage,
    size: u32,
    rng: &mut ChaCha8Rng,
) -> Result<(Picture, Vec<Option<usize>>)> {
    let mut found = cut_indexed(record, image, &Region::random(record, size, rng), size)?;
    for _ in 0..4 {
        if record.instances.is_empty() || !found.0.instances.is_empty() {
            break;
        }
        found = cut_indexed(record, image, &Region::random(record, size, rng), size)?;
    }
    Ok(found)
}

/// One to four real things on other ground.
fn pasted(spec: &Spec, sources: &Sources, rng: &mut ChaCha8Rng) -> Result<Picture> {
    let bare = rng.random_bool(0.25) && !sources.unlabelled.is_empty();
    let mut picture = crop(if bare { &sources.unlabelled } else { &sources.nwpu }, spec.size, rng)?;
    let wanted = rng.random_range(1..=4);
    let mut laid = 0;
    for _ in 0..wanted * 4 {
        if laid == wanted {
            break;
        }
        let Some(record) = sources.nwpu.choose(rng) else { break };
        let fits = |c: Category| movable(c) && picture.exhaustive.contains(&c);
        let fitting: Vec<usize> = (0..record.instances.len()).filter(|i| fits(record.instances[*i].category)).collect();
        let Some(instance) = fitting.choose(rng) else { continue };
        let image = record.image()?;
        let Some(cutout) = cut_out(record, &image, *instance) else { continue };
        let place = placement(&cutout, spec.size, rng);
        laid += usize::from(paste(&mut picture, &cutout, &place)?);
    }
    picture.origin.dataset = format!("{}+pasted", picture.origin.dataset);
    Ok(picture)
}
