//! Canary frames: pictures with what this model answers on them, on which a drone tries it before it flies.
//!
//! The drone's engine need not be the one here. An answer that a second engine does not give too is one that rounding
//! decides, and no canary: a sound model would be rolled back for it.

use crate::draft;
use anyhow::{Context, Result, bail};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_link::{CanarySpec, Query};
use kestrel_onboard::bundle::{Bundle, seal};
use kestrel_onboard::engine::{EngineChoice, EngineOptions};
use kestrel_onboard::pipeline::{Segmenter, SegmenterOptions, union};
use kestrel_perception::Bitmap;
use kestrel_training::expressions::{Options, generate};
use kestrel_training::sample::Stratum;
use kestrel_training::scenes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Scenes of the canaries: outside every other range of seeds.
pub(super) const FIRST_SEED: u64 = 5_000_000;
/// Scenes looked through, at most.
const SCENES: u64 = 80;
/// A mask of fewer pixels proves little.
const LEAST_AREA: u64 = 200;
/// Side of a canary frame in pixels: small, because canaries travel with every push.
const SIDE: u32 = 384;
/// Least IoU between a canary's mask here and on the drone; engines differ in rounding only.
const LEAST_IOU: f32 = 0.97;
/// Least IoU between the masks of two engines here: nearer than the drone has to come, which leaves room for a third.
const AGREED_IOU: f32 = 0.98;
/// Canaries that a bundle carries: so many with a mask, so many refusals.
const MASKS: usize = 3;
const REFUSALS: usize = 2;

/// An engine's mask for a question; `None` for a refusal.
type Answers<'a> = dyn FnMut(&RgbImage, &Query) -> Result<Option<Bitmap>> + 'a;

/// Replaces the canaries by frames and what this model answers on them. The old ones stay until all new ones are found.
pub(super) fn replace(dir: &Path) -> Result<()> {
    let bundle = seal(dir, draft::read(dir)?, None)?;
    let found = found(&bundle)?;
    let folder = dir.join("canary");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (number, (frame, spec)) in found.iter().enumerate() {
        let stem = folder.join(format!("{number:02}"));
        frame.save(stem.with_extension("png"))?;
        std::fs::write(stem.with_extension("json"), serde_json::to_string_pretty(spec)? + "\n")?;
    }
    seal(dir, draft::read(dir)?, None)?;
    Ok(())
}

/// Canaries by the engine that this machine would choose, and by tract where that is another one and runs the model.
fn found(bundle: &Bundle) -> Result<Vec<(RgbImage, CanarySpec)>> {
    let open = |choice| Segmenter::open(bundle, &EngineOptions::of(choice), SegmenterOptions::default());
    let mut first = open(EngineChoice::Auto)?;
    let name = first.engine().to_owned();
    let mut first = |picture: &RgbImage, query: &Query| answered(&mut first, picture, query);
    if name == EngineChoice::Tract.to_string() {
        eprintln!("canaries are those of {name} alone: no other engine is here; ONNX Runtime would be asked too");
        return find(&mut first, None);
    }
    match open(EngineChoice::Tract) {
        Ok(mut second) => {
            eprintln!("canaries are answers that {name} and {} give alike", second.engine());
            let mut second = |picture: &RgbImage, query: &Query| answered(&mut second, picture, query);
            find(&mut first, Some(&mut second))
        }
        Err(error) => {
            eprintln!(
                "warning: canaries are those of {name} alone, because tract does not run this model: {error}\n\
                 hint: try the bundle on the drone's engine before it is pushed, with `onboard segment --engine …`"
            );
            find(&mut first, None)
        }
    }
}

fn answered(segmenter: &mut Segmenter, picture: &RgbImage, query: &Query) -> Result<Option<Bitmap>> {
    Ok(union(&segmenter.segment(picture, query)?.outcome)?)
}

/// Looks through the canary scenes for at most one question each that the model answers with a mask, or with a refusal,
/// where that is wanted, and that the second engine answers alike.
fn find(first: &mut Answers<'_>, mut second: Option<&mut Answers<'_>>) -> Result<Vec<(RgbImage, CanarySpec)>> {
    let bar = ProgressBar::new(SCENES);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} canary scenes ({elapsed})")?);
    let (mut found, mut masks, mut refusals, mut apart) = (Vec::new(), 0, 0, 0);
    for seed in FIRST_SEED..FIRST_SEED + SCENES {
        bar.inc(1);
        let picture = scenes::render(seed, SIDE);
        let options = Options { count: 12, slip_share: 0.0, ..Options::default() };
        for proposed in generate(&picture, &options, &mut ChaCha8Rng::seed_from_u64(seed)) {
            let (ask, id) = (proposed.ask, format!("canary-{}", masks + refusals));
            let mask = matches!(ask.stratum, Stratum::Category | Stratum::Colour) && masks < MASKS;
            let refusal = matches!(ask.stratum, Stratum::AbsentCategory | Stratum::Nonsense) && refusals < REFUSALS;
            if !mask && !refusal {
                continue;
            }
            let query = Query { hint: ask.hint, ..Query::new(id, ask.text) };
            let expected = first(&picture.image, &query)?;
            match &expected {
                Some(shown) if mask && shown.area() > LEAST_AREA => {}
                None if refusal => {}
                _ => continue,
            }
            if let Some(second) = second.as_deref_mut()
                && !alike(expected.as_ref(), second(&picture.image, &query)?.as_ref())?
            {
                apart += 1;
                continue;
            }
            if expected.is_some() {
                masks += 1
            } else {
                refusals += 1
            }
            let expected = expected.map(|m| m.to_mask()).transpose()?;
            found.push((picture.image, CanarySpec { query, expected, min_iou: LEAST_IOU }));
            if masks == MASKS && refusals == REFUSALS {
                bar.finish_and_clear();
                return Ok(found);
            }
            break;
        }
    }
    bail!(
        "this model gives {masks} masks and {refusals} refusals on the canary scenes, {MASKS} and {REFUSALS} are wanted; \
         {apart} more are answered otherwise by a second engine\n\
         hint: an untrained model cannot be bundled; train it, calibrate it, then bundle it"
    )
}

/// Whether two engines give one answer.
fn alike(first: Option<&Bitmap>, second: Option<&Bitmap>) -> Result<bool> {
    Ok(match (first, second) {
        (None, None) => true,
        (Some(first), Some(second)) => first.iou(second)? >= AGREED_IOU,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn square(side: u32) -> Bitmap {
        Bitmap::from_fn(SIDE, SIDE, |x, y| x < side && y < side)
    }

    /// A mask for the first canaries, then refusals: enough of both.
    fn sound(query: &Query) -> Option<Bitmap> {
        let number: usize = query.id.strip_prefix("canary-").unwrap().parse().unwrap();
        (number < MASKS).then(|| square(100))
    }

    #[test]
    fn engines_are_alike_where_both_refuse_or_their_masks_nearly_are() {
        let alike = |first: Option<Bitmap>, second: Option<Bitmap>| alike(first.as_ref(), second.as_ref()).unwrap();
        assert!(alike(None, None));
        assert!(alike(Some(square(200)), Some(square(199))), "an IoU of 0.99");
        assert!(!alike(Some(square(100)), Some(square(98))), "0.96");
        assert!(!alike(Some(square(100)), None) && !alike(None, Some(square(100))));
    }

    /// What would break: a canary on which the drone's engine rolls a sound model back.
    #[test]
    fn what_a_second_engine_answers_otherwise_is_no_canary() {
        let mut left = BTreeSet::new();
        // The first question of every number is answered otherwise, the next one alike.
        let mut second = |_: &RgbImage, query: &Query| -> Result<Option<Bitmap>> {
            let mask = sound(query);
            let fresh = left.insert(query.id.clone());
            Ok(if fresh { mask.is_none().then(|| square(100)) } else { mask })
        };
        let mut texts = Vec::new();
        let mut first = |_: &RgbImage, query: &Query| -> Result<Option<Bitmap>> {
            texts.push(query.text.clone());
            Ok(sound(query))
        };
        let found = find(&mut first, Some(&mut second)).unwrap();
        assert_eq!(found.iter().filter(|(_, spec)| spec.expected.is_some()).count(), MASKS);
        assert_eq!((found.len(), left.len()), (MASKS + REFUSALS, MASKS + REFUSALS));
        assert!(found.iter().all(|(frame, spec)| frame.width() == SIDE && spec.min_iou == LEAST_IOU));
        assert!(texts.len() >= 2 * found.len(), "each canary was asked for after one that was left out");
    }
}
