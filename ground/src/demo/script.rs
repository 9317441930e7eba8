//! The demo's script: frames with known truth, questions, and what the right answer is.
//!
//! Seeds were fixed before any training and lie outside every training, tuning and test range.

use anyhow::{Context, Result, bail};
use image::RgbImage;
use kestrel_link::{Mask, Outcome};
use kestrel_training::expressions::{Options, generate};
use kestrel_training::sample::{Ask, Picture, Stratum, Target};
use kestrel_training::scenes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Side of the demo's frames in pixels: the model's input.
const FRAME_SIDE: u32 = 512;
/// First scene of the demo; the following seeds are taken as needed.
const FIRST_SEED: u64 = 4_000_000;
/// Scenes looked through for questions of the wanted kinds.
const SCENES: u64 = 14;
/// Least side of a present target, as the square root of its box's area in pixels.
const LEAST_SIDE_PIXELS: f32 = 32.0;
/// Least IoU of a right mask.
const LEAST_IOU: f32 = 0.5;
/// Share of present targets whose mask must be right.
pub(super) const LEAST_PRESENT_SHARE: f32 = 0.8;

/// One question about one frame.
pub(super) struct Item {
    /// `present`, `plural`, `ambiguous`, `absent`, `nonsense`, `degraded: …` or `asked`.
    pub kind: String,
    /// The frame.
    pub frame: RgbImage,
    /// The words.
    pub text: String,
    /// What is right; `None` when nobody knows.
    pub truth: Option<Truth>,
}

/// The right answer.
pub(super) enum Truth {
    /// This mask, to an IoU of at least one half.
    Mask(Mask),
    /// A refusal for one of these reasons, as [`super::reason_name`] names them.
    Refusal(&'static [&'static str]),
}

/// How an answer compares with the truth.
pub(super) struct Judgement {
    /// IoU with the true mask, where there is one.
    pub iou: Option<f32>,
    /// Whether it counts as right.
    pub right: bool,
    /// What was expected, in words.
    pub expected: String,
}

const PRESENT: usize = 10;
const PLURAL: usize = 3;
const AMBIGUOUS: usize = 2;
const ABSENT: usize = 4;
const NONSENSE: usize = 2;

/// The scripted questions, the same on every machine.
pub(super) fn scripted() -> Result<Vec<Item>> {
    let mut wanted = [
        ("present", PRESENT, 2),
        ("plural", PLURAL, 1),
        ("ambiguous", AMBIGUOUS, 1),
        ("absent", ABSENT, 1),
        ("nonsense", NONSENSE, 1),
    ];
    let mut items = Vec::new();
    for seed in FIRST_SEED..FIRST_SEED + SCENES {
        let picture = scenes::render(seed, FRAME_SIDE);
        let options = Options { count: 24, slip_share: 0.0, ..Options::default() };
        let asks = generate(&picture, &options, &mut ChaCha8Rng::seed_from_u64(seed));
        for (kind, left, per_scene) in &mut wanted {
            let fits = asks.iter().filter(|p| kind_of(&p.ask, &picture) == Some(*kind)).take((*left).min(*per_scene));
            for proposed in fits {
                items.push(item(kind, &picture, &proposed.ask)?);
                *left -= 1;
            }
        }
    }
    if let Some((kind, left, _)) = wanted.iter().find(|(_, left, _)| *left > 0) {
        bail!("the demo's scenes lack {left} questions of the kind `{kind}`");
    }
    let degraded = degraded(&items);
    items.extend(degraded);
    Ok(items)
}

/// Rendered frames for an operator's own questions.
pub(super) fn frames() -> Vec<RgbImage> {
    (FIRST_SEED..FIRST_SEED + 4).map(|seed| scenes::render(seed, FRAME_SIDE).image).collect()
}

/// An operator's own questions: every frame is asked each of them, and nobody knows the truth.
pub(super) fn asked(frames: &[RgbImage], questions: &[String]) -> Vec<Item> {
    let item = |frame: &RgbImage, text: &String| Item {
        kind: "asked".to_owned(),
        frame: frame.clone(),
        text: text.clone(),
        truth: None,
    };
    frames.iter().flat_map(|frame| questions.iter().map(move |text| item(frame, text))).collect()
}

impl Item {
    /// Compares an answer with the truth; `None` when nobody knows it.
    pub(super) fn judge(&self, outcome: Option<&Outcome>) -> Result<Option<Judgement>> {
        let Some(truth) = &self.truth else { return Ok(None) };
        Ok(Some(match (truth, outcome) {
            (Truth::Mask(mask), Some(Outcome::Segmented { masks })) => {
                let iou = union_iou(mask, masks.iter().map(|m| &m.mask))?;
                Judgement { iou: Some(iou), right: iou >= LEAST_IOU, expected: format!("a mask (IoU {iou:.2})") }
            }
            (Truth::Mask(_), _) => Judgement { iou: Some(0.0), right: false, expected: "a mask".to_owned() },
            (Truth::Refusal(reasons), answer) => {
                let right = matches!(answer, Some(Outcome::Refused(r)) if reasons.contains(&super::reason_name(&r.verdict).as_str()));
                Judgement { iou: None, right, expected: reasons.join(" or ") }
            }
        }))
    }
}

fn union_iou<'a>(truth: &Mask, masks: impl Iterator<Item = &'a Mask>) -> Result<f32> {
    let mut union: Option<Mask> = None;
    for mask in masks {
        union = Some(match union {
            Some(u) => u.union(mask)?,
            None => mask.clone(),
        });
    }
    Ok(match union {
        Some(union) => truth.iou(&union)?,
        None => 0.0,
    })
}

fn kind_of(ask: &Ask, picture: &Picture) -> Option<&'static str> {
    if ask.hint.is_some() {
        return None;
    }
    let large = |index: &usize| {
        let [_, _, width, height] = picture.instances[*index].bounding_box;
        (width * height).sqrt() >= LEAST_SIDE_PIXELS
    };
    match (&ask.target, ask.stratum) {
        (Target::Masks(which), Stratum::Plural) if which.len() > 1 && which.iter().all(large) => Some("plural"),
        (Target::Masks(which), stratum)
            if stratum != Stratum::Plural && which.len() == 1 && which.iter().all(large) =>
        {
            Some("present")
        }
        (Target::Ambiguous(_), _) => Some("ambiguous"),
        (Target::Absent, Stratum::AbsentCategory) => Some("absent"),
        (Target::NotUnderstood, _) => Some("nonsense"),
        _ => None,
    }
}

fn item(kind: &str, picture: &Picture, ask: &Ask) -> Result<Item> {
    let truth = match &ask.target {
        Target::Masks(which) => Truth::Mask(union_of(picture, which)?),
        Target::Absent => Truth::Refusal(&["target_absent"]),
        Target::Ambiguous(_) => Truth::Refusal(&["target_ambiguous"]),
        Target::NotUnderstood => Truth::Refusal(&["query_not_understood"]),
        Target::Boxes(_) | Target::Unseeable => bail!("the script has no use for {:?}", ask.target),
    };
    Ok(Item { kind: kind.to_owned(), frame: picture.image.clone(), text: ask.text.clone(), truth: Some(truth) })
}

fn union_of(picture: &Picture, which: &[usize]) -> Result<Mask> {
    let mut union: Option<Mask> = None;
    for &index in which {
        let mask = picture.instances[index].mask.as_ref().context("a scene's instance has no mask")?;
        union = Some(match union {
            Some(u) => u.union(mask)?,
            None => mask.clone(),
        });
    }
    union.context("a present target names no instance")
}

/// A way of spoiling a frame: its name, the reasons that are right to refuse it for, and how.
type Way = (&'static str, &'static [&'static str], fn(&RgbImage) -> RgbImage);

/// The first present questions again, on frames that no one could answer them on.
fn degraded(items: &[Item]) -> Vec<Item> {
    let ways: [Way; 4] = [
        ("dark", &["too_dark"], |frame| shade(frame, |v| v * 0.03)),
        ("overexposed", &["overexposed"], |frame| shade(frame, |v| v * 2.0 + 210.0)),
        ("blurred", &["blurred", "hazy"], |frame| image::imageops::blur(frame, 14.0)),
        ("noisy", &["noisy"], noisy),
    ];
    let present = items.iter().filter(|item| item.kind == "present");
    ways.into_iter()
        .zip(present)
        .map(|((name, reasons, way), item)| Item {
            kind: format!("degraded: {name}"),
            frame: way(&item.frame),
            text: item.text.clone(),
            truth: Some(Truth::Refusal(reasons)),
        })
        .collect()
}

fn shade(frame: &RgbImage, curve: fn(f32) -> f32) -> RgbImage {
    let mut out = frame.clone();
    for value in out.iter_mut() {
        *value = curve(f32::from(*value)).clamp(0.0, 255.0) as u8;
    }
    out
}

fn noisy(frame: &RgbImage) -> RgbImage {
    use rand::RngExt as _;
    let mut rng = ChaCha8Rng::seed_from_u64(FIRST_SEED);
    let mut out = frame.clone();
    for value in out.iter_mut() {
        // The sum of four uniform numbers is near enough to normal; its deviation here is 75 grey levels.
        let noise: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * 130.0;
        *value = (f32::from(*value) + noise).clamp(0.0, 255.0) as u8;
    }
    out
}
