//! The frozen benchmark: sets that are the same for everyone, with seeds and scenes that training never sees.
//!
//! Rendered scenes: training uses seeds below 1,000,000, threshold tuning 2,000,000 and on, tests 3,000,000 and on, large
//! scenes 4,000,000 and on.
//! Real images: the frozen scene splits of [`crate::datasets::Record::split`]. `nwpu-degraded` is `nwpu-test` through
//! degraded views: the same pictures and questions, as far as they can still be told.
//! `docs/benchmark.json` (example `freeze_benchmark`) lists counts, strata, sizes and a hash of every set.

mod large;

pub use large::{HEIGHT, LARGE_SCENES, LARGE_SEED, WIDTH, large_scenes};

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::cache::{asked, finish, looked, spoken, written};
use crate::datasets::crop::{Region, cut_indexed};
use crate::datasets::{DataError, Modality, Record, Result, Split, load};
use crate::expressions::meaning::{Expression, Facts, ROAD, evaluate, target};
use crate::expressions::{Options, Phrasing, Proposed, phrase};
use crate::sample::{Ask, Category, Picture, Sample, Stratum, Target};
use crate::scenes;
use crate::views::{Family, View};

/// Side of every picture.
pub const SIZE: u32 = 512;
/// First seed of the scenes that thresholds are tuned on.
pub const TUNE_SEED: u64 = 2_000_000;
/// First seed of the scenes that test.
pub const TEST_SEED: u64 = 3_000_000;
/// Scenes per test set when no limit is given.
pub const TEST_SCENES: usize = 300;
/// Scenes of the tuning set when no limit is given.
pub const TUNE_SCENES: usize = 200;
/// Seeds of a rendered set that share no scene; seed `n` draws the scenes of seed `n + SEEDS` again.
pub const SEEDS: u64 = 40;
/// Sets what degrades a photograph apart from what is asked about it.
const VIEWS: u64 = 0x7669_6577;
/// The names of [`set`].
pub const NAMES: [&str; 11] = [
    "scenes",
    "scenes-test",
    "scenes-tune",
    "scenes-degraded",
    "nwpu-tune",
    "nwpu-test",
    "nwpu-degraded",
    "kit-test",
    "auair-tune",
    "auair-test",
    "desert",
];

/// Samples one after the other, made when asked for.
pub type Samples = Box<dyn Iterator<Item = Result<Sample>> + Send>;

/// A frozen set by name; `scenes` is `scenes-test`.
///
/// `seed` 0 is the frozen set; another seed draws other scenes and questions of the same kind, equally unseen.
/// `limit` is the number of pictures. `data` is the folder of the data sets, for the real ones.
///
/// # Errors
/// When the name is unknown or a data set is missing or broken.
pub fn set(name: &str, seed: u64, limit: Option<usize>, data: Option<&Path>) -> Result<Samples> {
    set_at(name, SIZE, seed, limit, data)
}

/// As [`set`], with rendered scenes of `size` pixels a side: the same scenes with more or less detail, so that other questions
/// may be asked about them than in the frozen set. Real pictures stay at [`SIZE`].
///
/// # Errors
/// As [`set`].
pub fn set_at(name: &str, size: u32, seed: u64, limit: Option<usize>, data: Option<&Path>) -> Result<Samples> {
    let real = |folder: &str, split: Split, families: Vec<Family>| -> Result<Samples> {
        let path = data.unwrap_or(Path::new("$KESTREL_DATA")).join(folder);
        if !path.is_dir() {
            return Err(DataError::MissingFolder { path, needed_for: format!("the set {name}") });
        }
        let mut records = load(&path)?;
        records.retain(|r| r.split() == split && r.modality == Modality::Rgb);
        Ok(seen(records, seed, limit, families))
    };
    let every = || Family::TRAIN.into_iter().chain(Family::HELD_OUT).collect::<Vec<Family>>();
    match name {
        "scenes" | "scenes-test" => Ok(from_scenes((TEST_SEED, size), seed, limit.unwrap_or(TEST_SCENES), vec![])),
        "scenes-tune" => Ok(from_scenes((TUNE_SEED, size), seed, limit.unwrap_or(TUNE_SCENES), vec![])),
        "scenes-degraded" => Ok(from_scenes((TEST_SEED + 500_000, size), seed, limit.unwrap_or(TEST_SCENES), every())),
        "nwpu-tune" => real("nwpu_vhr10", Split::Tune, vec![]),
        "nwpu-test" => real("nwpu_vhr10", Split::Test, vec![]),
        "nwpu-degraded" => real("nwpu_vhr10", Split::Test, every()),
        "kit-test" => real("kit_ais_munich", Split::Test, vec![]),
        "auair-tune" => real("auair", Split::Tune, vec![]),
        "auair-test" => real("auair", Split::Test, vec![]),
        "desert" => real("odm_copr_desert", Split::Test, vec![]),
        _ => Err(DataError::UnknownSet { got: name.to_owned(), known: NAMES.join(", ") }),
    }
}

/// Every image of a folder in the form of the data sets, whole, with questions made for it.
///
/// # Errors
/// When the annotations are broken; a picture that does not decode is an error of its own item.
pub fn folder(path: &Path, seed: u64, limit: Option<usize>) -> Result<Samples> {
    Ok(from_records(load(path)?, seed, limit))
}

/// How questions are asked where training does not see them.
pub(crate) fn options() -> Options {
    Options { count: 12, held_out_share: 0.3, slip_share: 0.2, ..Options::default() }
}

/// Scenes, degraded by the families in turn (severities 0.2, 0.4, … 1.0) when there are any.
fn from_scenes((base, size): (u64, u32), seed: u64, count: usize, families: Vec<Family>) -> Samples {
    // Ten thousand scenes apart, so that sets of different seeds share none.
    let first = base + (seed % SEEDS) * 10_000;
    Box::new((0..count as u64).map(move |n| {
        let mut rng = ChaCha8Rng::seed_from_u64(first + n);
        let picture = scenes::render(first + n, size);
        let view = turn(&families, n as usize, &mut rng);
        finish(picture, None, vec![], &options(), view, &mut rng)
    }))
}

/// The view of the `n`-th picture of a set; `None` where there are no families, and nothing is drawn then.
fn turn(families: &[Family], n: usize, rng: &mut ChaCha8Rng) -> Option<View> {
    let family = *families.get(n % families.len().max(1))?;
    let severity = 0.2 * (1 + n / families.len() % 5) as f32;
    Some(View::draw(family, severity, rng))
}

/// Pictures of somebody's own, whole where something is said of them, with what is said and with questions made for them.
pub fn from_records(records: Vec<Record>, seed: u64, limit: Option<usize>) -> Samples {
    seen(records, seed, limit, vec![])
}

/// As [`from_records`], degraded by the families in turn as scenes are, when there are any.
fn seen(records: Vec<Record>, seed: u64, limit: Option<usize>, families: Vec<Family>) -> Samples {
    let count = limit.unwrap_or(usize::MAX);
    Box::new(records.into_iter().take(count).enumerate().map(move |(n, record)| {
        let drawn = seed.wrapping_mul(7919).wrapping_add(record.index as u64);
        let mut rng = ChaCha8Rng::seed_from_u64(drawn);
        let (picture, shown) = cut_indexed(&record, &record.image()?, &region(&record), SIZE)?;
        let words = written(&record, &picture, &shown, true);
        let general = general(&picture, &mut rng);
        let count = if record.spoken.is_empty() { options().count } else { 0 };
        let mut proposed = asked(&picture, words, &Options { count, ..options() }, &mut rng);
        let said = |one: &Proposed, list: &[Proposed]| {
            list.iter().any(|other| other.ask.text.eq_ignore_ascii_case(&one.ask.text))
        };
        proposed.retain(|one| one.ask.written || !said(one, &general));
        let first = proposed.iter().take_while(|one| one.ask.written).count();
        let general: Vec<Proposed> = general.into_iter().filter(|one| !said(one, &proposed[..first])).collect();
        proposed.splice(first..first, general);
        // A generator of its own, so that a picture is asked the same with and without a view.
        let view = turn(&families, n, &mut ChaCha8Rng::seed_from_u64(drawn ^ VIEWS));
        Ok(Sample { spoken: spoken(&record, &mut rng), ..looked(picture, None, proposed, view)? })
    }))
}

/// Whole images; of large frames and long strips the square around the labels' middle that keeps things near their
/// native size. A picture of which something is said is shown whole: "the left one" is another one in a part of it.
fn region(record: &Record) -> Region {
    let (short, long) = (record.width.min(record.height) as f32, record.width.max(record.height) as f32);
    if long <= 1150.0 || record.instances.is_empty() || !record.expressions.is_empty() {
        return Region::whole(record);
    }
    let n = record.instances.len() as f32;
    let middle = |axis: usize| {
        let of = |b: &[f32; 4]| b[axis] + b[axis + 2] / 2.0;
        record.instances.iter().map(|i| of(&i.bounding_box)).sum::<f32>() / n
    };
    Region::around(record, [middle(0), middle(1)], short.clamp(512.0, 1080.0))
}

/// "all …" for every category that is there.
fn general(picture: &Picture, rng: &mut ChaCha8Rng) -> Vec<Proposed> {
    let facts = Facts::of(picture);
    let mut present: Vec<Category> = picture.instances.iter().map(|i| i.category).collect();
    present.sort_unstable();
    present.dedup();
    let mut asks = Vec::new();
    for category in present {
        let categories = if category == Category::Vehicle { ROAD.to_vec() } else { vec![category] };
        let expression = Expression { categories, plural: true, ..Expression::default() };
        let meaning = evaluate(&facts, &expression);
        if let Some(target @ (Target::Masks(_) | Target::Boxes(_))) = target(&facts, &expression, &meaning) {
            let text = phrase::sentence(&expression, Phrasing::Train, rng);
            let ask = Ask {
                text,
                hint: None,
                stratum: Stratum::Plural,
                target,
                nonsense: vec![],
                held_out_phrasing: false,
                slipped: false,
                written: false,
            };
            asks.push(Proposed { ask, expression: Some(expression), needs: meaning.needs, anchor: None, alike: None });
        }
    }
    asks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use sha2::{Digest, Sha256};

    use super::*;
    use image::{Rgb, RgbImage};

    /// Numbers of NWPU pictures whose clusters test.
    const TESTED: [u32; 18] = [11, 26, 27, 28, 29, 32, 51, 52, 54, 73, 76, 78, 80, 107, 108, 110, 112, 114];

    /// A folder of data sets with one in NWPU's form: every picture shows a ship of 10 pixels and an airplane of 120.
    fn photographs() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        let images = data.path().join("nwpu_vhr10/images");
        std::fs::create_dir_all(&images).unwrap();
        let things = [("ship", 100, 10), ("airplane", 300, 120)];
        let picture = RgbImage::from_fn(SIZE, SIZE, |x, y| {
            let grain = ((x * 7 + y * 13) % 9) as u8;
            let on = |from: u32, side: u32| (from..from + side).contains(&x) && (from..from + side).contains(&y);
            if things.iter().any(|(_, from, side)| on(*from, *side)) { Rgb([205; 3]) } else { Rgb([80 + grain; 3]) }
        });
        let (mut files, mut instances) = (vec![], vec![]);
        // Of the pictures beside those that test, two train and two tune.
        for (index, number) in [2, 3, 5, 6].into_iter().chain(TESTED).enumerate() {
            picture.save(images.join(format!("{number:03}.png"))).unwrap();
            files.push(serde_json::json!({ "file": format!("images/{number:03}.png"), "width": SIZE, "height": SIZE }));
            instances.extend(things.iter().map(|(category, a, side)| {
                let b = a + side;
                let (bbox, outline) = ([*a, *a, *side, *side], [[*a, *a, b, *a, b, b, *a, b]]);
                serde_json::json!({ "image": index, "category": category, "bbox": bbox, "segmentation": outline })
            }));
        }
        let all = serde_json::json!({ "dataset": "nwpu_vhr10", "images": files, "instances": instances });
        std::fs::write(data.path().join("nwpu_vhr10/annotations.json"), all.to_string()).unwrap();
        data
    }

    /// What would break: refusals of unseeable views that no photograph tests, or degraded pictures that trained.
    #[test]
    fn photographs_are_degraded_in_turn_and_asked_what_they_are_asked_clean() {
        let data = photographs();
        let of = |name: &str, seed: u64, limit: Option<usize>| -> Vec<Sample> {
            set(name, seed, limit, Some(data.path())).unwrap().collect::<Result<_>>().unwrap()
        };
        let (clean, degraded) = (of("nwpu-test", 0, None), of("nwpu-degraded", 0, None));
        let frames = |samples: &[Sample]| samples.iter().map(|s| s.picture.origin.frame.clone()).collect::<Vec<_>>();
        assert_eq!(frames(&degraded), TESTED.map(|number| format!("{number:03}.png")));
        assert_eq!(frames(&degraded), frames(&clean));
        let views: Vec<&(String, f32)> = degraded.iter().map(|s| s.degradation.as_ref().unwrap()).collect();
        let every: Vec<&str> = Family::TRAIN.into_iter().chain(Family::HELD_OUT).map(Family::name).collect();
        assert!(views[..9].iter().map(|view| view.0.as_str()).eq(every.iter().copied()));
        assert!(views[9..].iter().map(|view| view.0.as_str()).eq(every.iter().copied()));
        assert!(views.iter().enumerate().all(|(n, view)| (view.1 - 0.2 * (1 + n / 9) as f32).abs() < 1e-6));
        let mut kept = 0;
        for (clean, degraded) in clean.iter().zip(&degraded) {
            assert_ne!(clean.picture.image, degraded.picture.image);
            for ask in &degraded.asks {
                let was = clean.asks.iter().find(|was| (&was.text, &was.hint) == (&ask.text, &ask.hint)).unwrap();
                assert!(ask.target == was.target || ask.target == Target::Unseeable, "{ask:?} was {was:?}");
                kept += usize::from(matches!(ask.target, Target::Masks(_)));
            }
        }
        assert!(kept > 0, "no target can be seen in any view");
        // Blocks of seven pixels hide ten, whether one ship or all of them are asked for, and do not hide an airplane.
        let (blocks, plural) = (&degraded[9], |which: usize| {
            let all = |ask: &&Ask| ask.stratum == Stratum::Plural && ask.target == Target::Masks(vec![which]);
            clean[9].asks.iter().find(all).unwrap().text.clone()
        });
        let answer = |text: String| blocks.asks.iter().find(|ask| ask.text == text).unwrap().target.clone();
        assert_eq!(answer(plural(0)), Target::Unseeable);
        assert_eq!(answer(plural(1)), Target::Masks(vec![1]));
        // The same again for the same seed, also of fewer pictures; other noise for another.
        let (again, other) = (of("nwpu-degraded", 0, Some(4)), of("nwpu-degraded", 1, Some(4)));
        for (again, first) in again.iter().zip(&degraded) {
            assert_eq!((&again.picture.image, &again.asks), (&first.picture.image, &first.asks));
        }
        assert_eq!((again.len(), frames(&other)), (4, frames(&again)));
        assert_ne!(other[3].picture.image, again[3].picture.image, "noise of one seed");
    }

    #[test]
    fn unknown_names_and_missing_data_are_told() {
        let error = set("scnes", 0, None, None).err().unwrap().to_string();
        assert!(error.contains("scnes") && error.contains("scenes-test"), "{error}");
        let nowhere = tempfile::tempdir().unwrap();
        let error = set("nwpu-test", 0, None, Some(nowhere.path())).err().unwrap().to_string();
        assert!(error.contains("nwpu_vhr10") && error.contains("nwpu-test"), "{error}");
        let error = set("nwpu-degraded", 0, None, Some(nowhere.path())).err().unwrap().to_string();
        assert!(error.contains("nwpu_vhr10") && error.contains("nwpu-degraded"), "{error}");
    }

    /// What would break: figures of different days compared as if they were of one benchmark.
    #[test]
    fn the_frozen_scenes_and_their_questions_stay_as_they_were() {
        let mut hash = Sha256::new();
        for sample in set("scenes-test", 0, Some(2), None).unwrap() {
            let sample = sample.unwrap();
            assert!(sample.degradation.is_none() && !sample.asks.is_empty());
            for ask in &sample.asks {
                hash.update(serde_json::to_vec(ask).unwrap());
            }
        }
        let hash: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, FROZEN, "if this is wanted, raise the benchmark's version and measure everything again");
    }

    #[test]
    fn no_seed_is_both_trained_and_tested_on() {
        let frozen = [TUNE_SEED, TEST_SEED, TEST_SEED + 500_000];
        let trained = crate::cache::Spec { seed: 19, ..Default::default() }.plan();
        assert!(trained.iter().all(|(_, seed)| frozen.iter().all(|f| seed < f)));
        let apart = |a: u64, b: u64| a.abs_diff(b) >= 40 * 10_000;
        assert!(apart(frozen[0], frozen[1]) && apart(frozen[1], frozen[2]) && apart(frozen[0], frozen[2]));
    }

    const FROZEN: &str = "a3f5bcd480375f2ea70aa31a667dfa0c5919e867f4a24a5298239ee993abeda7";
}
