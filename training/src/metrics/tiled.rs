//! Ways of tiling beside each other: what each finds of small things in large frames, and what that costs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Size;
use super::figure::{Figure, scene_sums};

/// IoU from which an answer counts as right.
const RIGHT: f64 = 0.5;

/// A thing that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Its size in an overview at the model's input.
    pub size: Size,
    /// Whether at least half of it was shown.
    pub found: bool,
}

/// A question about a large frame as one way of tiling answered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiled {
    /// The unit of resampling.
    pub scene: String,
    /// The things that were asked for; empty where the right answer is that there are none.
    pub things: Vec<Wanted>,
    /// Size of the things by their mean area in the overview; `None` where there are none.
    pub size: Option<Size>,
    /// Intersection over union of what was shown.
    pub iou: f64,
    /// Whether any pixel was shown.
    pub shown: bool,
    /// Runs of the vision graph, which later questions about the frame may share.
    pub vision_runs: u32,
    /// Runs of the language graph: views that were asked.
    pub views: u32,
    /// Time of the answer, milliseconds.
    pub millis: f64,
}

/// What is found of things of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Found {
    /// Share of the things that were asked for of which at least half was shown.
    pub recall: Figure,
    /// The same less that of the way of tiling that is compared with, question by question.
    pub recall_gain: Option<Figure>,
    /// Mean IoU of the questions.
    pub giou: Figure,
    /// Share of the questions with an IoU of at least 0.5.
    pub right: Figure,
}

/// Figures of one way of tiling; all with intervals, resampled by scene.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TiledReport {
    /// Questions.
    pub questions: usize,
    /// By size in the overview.
    pub sizes: BTreeMap<Size, Found>,
    /// All sizes.
    pub all: Found,
    /// Share of the questions for what is not there that were answered without a pixel.
    pub absent_passed: Figure,
    /// Runs of the vision graph a question.
    pub vision_runs: Figure,
    /// Views asked a question.
    pub views: Figure,
    /// Milliseconds an answer.
    pub millis: Figure,
}

/// Figures of one way of tiling, beside another's answers to the same questions in the same order.
pub fn tiled(answers: &[Tiled], other: Option<&[Tiled]>, seed: u64) -> TiledReport {
    let mean = |of: &dyn Fn(&Tiled) -> Option<f64>| {
        let contributions = answers.iter().filter_map(|one| Some((one.scene.as_str(), [of(one)?, 1.0])));
        scene_sums(contributions, seed, |[sum, n]| sum / n)
    };
    let part = |size: Option<Size>| found(answers, other, size, seed);
    let mut sizes: Vec<Size> = answers.iter().flat_map(|one| one.things.iter().map(|thing| thing.size)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    TiledReport {
        questions: answers.len(),
        sizes: sizes.into_iter().map(|size| (size, part(Some(size)))).collect(),
        all: part(None),
        absent_passed: mean(&|one| one.things.is_empty().then(|| f64::from(!one.shown))),
        vision_runs: mean(&|one| Some(f64::from(one.vision_runs))),
        views: mean(&|one| Some(f64::from(one.views))),
        millis: mean(&|one| Some(one.millis)),
    }
}

/// Things of one size, or all.
fn found(answers: &[Tiled], other: Option<&[Tiled]>, size: Option<Size>, seed: u64) -> Found {
    let counted = |one: &Tiled| {
        let things = one.things.iter().filter(|thing| size.is_none_or(|size| thing.size == size));
        let (n, hit) = things.fold((0.0, 0.0), |(n, hit), thing| (n + 1.0, hit + f64::from(thing.found)));
        (n > 0.0).then_some([hit, n])
    };
    let share = |[sum, n]: [f64; 2]| sum / n;
    let things = answers.iter().filter_map(|one| Some((one.scene.as_str(), counted(one)?)));
    let recall_gain = other.map(|other| {
        let pairs = answers.iter().zip(other).filter_map(|(one, other)| {
            let ([hit, n], [before, _]) = (counted(one)?, counted(other)?);
            Some((one.scene.as_str(), [hit - before, n]))
        });
        scene_sums(pairs, seed, share)
    });
    let questions = |of: fn(f64) -> f64| {
        let these = answers.iter().filter(|one| one.size.is_some() && (size.is_none() || one.size == size));
        scene_sums(these.map(|one| (one.scene.as_str(), [of(one.iou), 1.0])), seed, share)
    };
    Found {
        recall: scene_sums(things, seed, share),
        recall_gain,
        giou: questions(|iou| iou),
        right: questions(|iou| f64::from(iou >= RIGHT)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(scene: usize, things: &[(Size, bool)], iou: f64) -> Tiled {
        Tiled {
            scene: format!("scene {scene}"),
            things: things.iter().map(|&(size, found)| Wanted { size, found }).collect(),
            size: things.first().map(|&(size, _)| size),
            iou,
            shown: iou > 0.0,
            vision_runs: 1,
            views: 3,
            millis: 20.0,
        }
    }

    #[test]
    fn what_is_found_is_counted_by_size_and_against_another_way() {
        use Size::{Large, Tiny};
        let with = |found: bool| -> Vec<Tiled> {
            (0..20)
                .flat_map(|scene| {
                    let iou = if found { 0.8 } else { 0.0 };
                    [
                        answer(scene, &[(Tiny, found), (Tiny, false)], iou),
                        answer(scene, &[(Large, true)], 0.9),
                        answer(scene, &[], 0.0),
                    ]
                })
                .collect()
        };
        let (tiles, overview) = (with(true), with(false));
        let report = tiled(&tiles, Some(&overview), 1);
        let tiny = &report.sizes[&Tiny];
        assert_eq!((tiny.recall.value, tiny.recall.n), (0.5, 20));
        assert_eq!((tiny.recall_gain.unwrap().value, report.sizes[&Large].recall_gain.unwrap().value), (0.5, 0.0));
        assert_eq!((tiny.right.value, report.all.right.value, report.all.giou.n), (1.0, 1.0, 40));
        assert_eq!((report.absent_passed.value, report.absent_passed.n), (1.0, 20));
        assert_eq!((report.views.value, report.questions), (3.0, 60));
        assert_eq!(tiled(&overview, None, 1).sizes[&Tiny].recall_gain, None);
    }

    #[test]
    fn a_shown_pixel_fails_what_is_absent() {
        let answers = [Tiled { shown: true, ..answer(0, &[], 0.0) }, answer(1, &[], 1.0)];
        assert_eq!(tiled(&answers[..1], None, 1).absent_passed.value, 0.0);
        assert!(tiled(&[], None, 1).absent_passed.value.is_nan());
    }
}
