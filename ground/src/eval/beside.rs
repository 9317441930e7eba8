//! Two models on the same questions, pair by pair: what rounding costs is far less than what scenes differ by.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail};
use kestrel_training::metrics::{Figure, Record, scene_sums};
use kestrel_training::sample::Stratum;
use serde::Serialize;

use super::line;
use crate::records::Recorded;

/// The model that is judged less the one of the records: differences of pairs, with intervals resampled by scene.
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    /// The model of the records, `name@version`.
    model: String,
    /// Hash of its graphs.
    model_hash: String,
    /// The engine that answered.
    engine: String,
    /// Questions that both answered.
    questions: usize,
    /// Questions of this evaluation that the records lack, and of the records that were not asked here.
    unpaired: [usize; 2],
    /// Questions of which one answered with a mask and the other did not.
    changed_sides: usize,
    /// IoU, all questions with an outline or with nothing to show.
    giou: Figure,
    /// IoU, where one particular thing was asked for.
    specific_giou: Figure,
    /// Share of questions for what is not there without a pixel.
    pass_rate: Figure,
    /// Share of present targets refused.
    false_refusals: Figure,
    /// Calibrated presence, of all that reached the models.
    presence: Figure,
    /// The same, of targets that are there.
    presence_present: Figure,
    /// The same, of targets that are not.
    presence_absent: Figure,
    /// The first sign of presence, in logits: by how much the likeliest refusal is ahead. No calibration enters.
    none_margin: Figure,
}

type Pair<'a> = (&'a Record, &'a Record);

impl Beside {
    /// Compares records of this evaluation with others of the same questions.
    ///
    /// # Errors
    /// When no question is the same, or one of the same words is about another target.
    pub(super) fn of(here: &[Record], there: &Recorded, seed: u64) -> Result<Self> {
        let (pairs, unpaired) = paired(here, &there.records);
        let path = there.path.display();
        if pairs.is_empty() {
            bail!(
                "{path}: expected answers to some of the same questions, got none; they are of the set `{}` with the seed {}\n\
                 hint: evaluate both models on one set with one --seed and --limit",
                there.header.set,
                there.header.seed
            );
        }
        if let Some((a, b)) = pairs.iter().find(|(a, b)| (a.expected, a.target) != (b.expected, b.target)) {
            bail!(
                "{path}: expected the same pictures, got another target of “{}” in {} {}: {} pixels and not {}\n\
                 hint: evaluate both models with one version of this program and of the data",
                a.text,
                a.scene,
                a.frame,
                b.target,
                a.target
            );
        }
        let difference = |of: &dyn Fn(&Record) -> Option<f64>| difference(&pairs, seed, of);
        let presence = |keep: &dyn Fn(&Record) -> bool| {
            let kept: Vec<Pair<'_>> =
                pairs.iter().copied().filter(|(a, b)| reached(a) && reached(b) && keep(a)).collect();
            self::difference(&kept, seed, &|r| Some(f64::from(r.presence)))
        };
        let seen: Vec<Pair<'_>> = pairs.iter().copied().filter(|(a, b)| reached(a) && reached(b)).collect();
        Ok(Self {
            model: there.header.model.clone(),
            model_hash: there.header.model_hash.clone(),
            engine: there.header.engine.clone(),
            questions: pairs.len(),
            unpaired,
            changed_sides: pairs.iter().filter(|(a, b)| a.shown() != b.shown()).count(),
            giou: difference(&|r| (!r.weak).then(|| r.iou())),
            specific_giou: difference(&|r| (r.present() && !r.weak && r.stratum != Stratum::Plural).then(|| r.iou())),
            pass_rate: difference(&|r| r.hard_negative().then(|| f64::from(!r.shown()))),
            false_refusals: difference(&|r| r.present().then(|| f64::from(!r.shown()))),
            presence: presence(&|_| true),
            presence_present: presence(&Record::present),
            presence_absent: presence(&Record::hard_negative),
            none_margin: self::difference(&seen, seed, &|r| Some(f64::from(r.features[0]))),
        })
    }

    pub(super) fn print(&self) {
        let [more, less] = self.unpaired;
        println!("\nless {} by {}, {} questions of both, paired by scene:", self.model, self.engine, self.questions);
        if more + less > 0 {
            println!("{more} questions here have no answer there, {less} there were not asked here");
        }
        line("gIoU", &self.giou);
        line("specific gIoU", &self.specific_giou);
        line("hard negatives passed", &self.pass_rate);
        line("false refusals", &self.false_refusals);
        line("presence", &self.presence);
        line("presence, target there", &self.presence_present);
        line("presence, target absent", &self.presence_absent);
        line("none margin, logits", &self.none_margin);
        println!("{} answers are a mask on one side only", self.changed_sides);
    }
}

/// Whether the question reached the model: features of a frame that the gate refused are zeros.
fn reached(record: &Record) -> bool {
    record.features != [0.0; 3]
}

/// Answers to the same words about the same frame, in their order where words repeat; and how many have no partner.
fn paired<'a>(here: &'a [Record], there: &'a [Record]) -> (Vec<Pair<'a>>, [usize; 2]) {
    let key = |r: &'a Record| (r.set.as_str(), r.scene.as_str(), r.frame.as_str(), r.text.as_str());
    let mut others: BTreeMap<_, VecDeque<&'a Record>> = BTreeMap::new();
    for record in there {
        others.entry(key(record)).or_default().push_back(record);
    }
    let partner = |record: &'a Record| Some((record, others.get_mut(&key(record))?.pop_front()?));
    let pairs: Vec<Pair<'a>> = here.iter().filter_map(partner).collect();
    let unpaired = [here.len() - pairs.len(), there.len() - pairs.len()];
    (pairs, unpaired)
}

fn difference(pairs: &[Pair<'_>], seed: u64, of: &dyn Fn(&Record) -> Option<f64>) -> Figure {
    let each = pairs.iter().filter_map(|(a, b)| Some((a.scene.as_str(), [of(a)? - of(b)?, 1.0])));
    scene_sums(each, seed, |[sum, n]| sum / n)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::records::{FORMAT, Header};
    use kestrel_training::metrics::Kind;

    fn record(scene: usize, text: &str, expected: Kind, predicted: u64, presence: f32) -> Record {
        let target = if expected == Kind::Mask { 100 } else { 0 };
        Record {
            set: "scenes-tune".into(),
            scene: format!("scene {scene}"),
            frame: "0".into(),
            text: text.into(),
            stratum: if expected == Kind::Mask { Stratum::Colour } else { Stratum::AbsentColour },
            expected,
            weak: false,
            target,
            held_out_phrasing: false,
            slipped: false,
            degradation: None,
            given: if predicted > 0 { Kind::Mask } else { Kind::Absent },
            predicted,
            intersection: predicted.min(target),
            presence,
            features: [presence, 1.0, 1.0],
            doubt: -4.0,
            sweep: Vec::new(),
        }
    }

    fn recorded(records: Vec<Record>) -> Recorded {
        let header = Header {
            records: FORMAT,
            model: "kestrel-s@wide".into(),
            model_hash: "0".repeat(64),
            set: "scenes-tune".into(),
            split: None,
            seed: 1,
            limit: None,
            real: false,
            gate: true,
            gate_table: None,
            engine: "ort/cpu".into(),
            date: "2026-01-01".into(),
        };
        Recorded { path: "wide.jsonl".into(), sha256: String::new(), header, records }
    }

    /// What would break: a loss of one point between two models, hidden by what scenes differ by.
    #[test]
    fn differences_are_those_of_pairs() {
        // The wide model finds the target of every scene, more of it in some than in others; this one always 10 pixels less.
        let wide: Vec<Record> =
            (0..40).map(|i| record(i, "the red car", Kind::Mask, 20 + (i as u64 * 7) % 80, 0.75)).collect();
        let mut here: Vec<Record> = wide
            .iter()
            .map(|r| Record {
                predicted: r.predicted - 10,
                intersection: r.intersection - 10,
                presence: 0.5,
                ..r.clone()
            })
            .collect();
        let mut there = wide;
        // Of two absent ones this model now shows the second.
        for scene in 0..2 {
            there.push(record(scene, "the blue bus", Kind::Absent, 0, 0.25));
            here.push(record(scene, "the blue bus", Kind::Absent, scene as u64 * 30, 0.5));
        }
        here.push(record(99, "the red car", Kind::Mask, 50, 0.9));
        there.reverse();
        let found = Beside::of(&here, &recorded(there), 1).unwrap();
        assert_eq!((found.questions, found.unpaired, found.changed_sides), (42, [1, 0], 1));
        assert!((found.specific_giou.value + 0.1).abs() < 1e-9, "{found:?}");
        assert!(found.specific_giou.high - found.specific_giou.low < 1e-9, "every pair differs alike: {found:?}");
        assert_eq!((found.pass_rate.value, found.pass_rate.n, found.false_refusals.value), (-0.5, 2, 0.0));
        assert_eq!((found.presence_present.value, found.presence_absent.value), (-0.25, 0.25));
    }

    #[test]
    fn words_that_repeat_are_paired_in_order_and_frames_that_the_gate_refused_have_no_presence() {
        let two = |a: f32, b: f32| vec![record(1, "a car", Kind::Mask, 50, a), record(1, "a car", Kind::Mask, 50, b)];
        let (here, mut there) = (two(0.5, 0.25), two(0.25, 0.25));
        assert_eq!(Beside::of(&here, &recorded(there.clone()), 1).unwrap().presence.value, 0.125);
        there[1].features = [0.0; 3];
        assert_eq!(Beside::of(&here, &recorded(there), 1).unwrap().presence.value, 0.25);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let here = [record(1, "the red car", Kind::Mask, 50, 0.5)];
        let error = Beside::of(&here, &recorded(vec![record(2, "the red car", Kind::Mask, 50, 0.5)]), 1).unwrap_err();
        assert!(error.to_string().contains("wide.jsonl") && error.to_string().contains("hint:"), "{error}");
        let other = Record { target: 90, ..here[0].clone() };
        let error = Beside::of(&here, &recorded(vec![other]), 1).unwrap_err().to_string();
        assert!(error.contains("90 pixels and not 100"), "{error}");
    }
}
