//! Judges answers to tasks, beside one answer that is given to every picture.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figure::{Figure, scene_sums};
use crate::rewards::TaskKind;

/// A request of a task with its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Performed {
    /// The unit of resampling.
    pub scene: String,
    /// The task.
    pub kind: TaskKind,
    /// The words of the request.
    pub request: String,
    /// Whether training never asks like this.
    pub held_out_phrasing: bool,
    /// The right answer.
    pub right: String,
    /// The answer.
    pub said: String,
    /// Its reward; `None` where it cannot be scored.
    pub reward: Option<f64>,
    /// What the constant answer earns, where there is one.
    pub constant: Option<f64>,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Whether the answer ended while it could have gone on.
    pub ended: bool,
}

/// Figures of a task's answers; all with intervals.
#[derive(Debug, Clone, Serialize)]
pub struct Performance {
    /// Mean reward of the answers.
    pub reward: Figure,
    /// Mean reward of the answer to training pictures that earns most on them, given to every picture.
    pub constant: Figure,
    /// Mean of what an answer earns more than the constant one to the same request.
    pub gain: Figure,
    /// Share of answers that came to their end before their limit ended them: under the grammar every answer has its
    /// form.
    pub completed: Figure,
    /// Mean tokens of an answer.
    pub tokens: Figure,
}

/// Computes every figure of each task that was asked; `seed` draws the resamples.
pub fn performance(answers: &[Performed], seed: u64) -> BTreeMap<TaskKind, Performance> {
    let mut kinds: BTreeMap<TaskKind, Vec<&Performed>> = BTreeMap::new();
    for answer in answers {
        kinds.entry(answer.kind).or_default().push(answer);
    }
    kinds.into_iter().map(|(kind, answers)| (kind, of(&answers, seed))).collect()
}

fn of(answers: &[&Performed], seed: u64) -> Performance {
    let mean = |value: &dyn Fn(&Performed) -> Option<f64>| {
        let contributions = answers.iter().filter_map(|a| Some((a.scene.as_str(), [value(a)?, 1.0])));
        scene_sums(contributions, seed, |[sum, n]| sum / n)
    };
    Performance {
        reward: mean(&|a| a.reward),
        constant: mean(&|a| a.constant),
        gain: mean(&|a| Some(a.reward? - a.constant?)),
        completed: mean(&|a| Some(f64::from(u8::from(a.ended)))),
        tokens: mean(&|a| Some(a.tokens as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: TaskKind, reward: Option<f64>, constant: Option<f64>, ended: bool) -> Performed {
        Performed {
            scene: "a".into(),
            kind,
            request: "what kind of place is this?".into(),
            held_out_phrasing: false,
            right: "park".into(),
            said: "park".into(),
            reward,
            constant,
            tokens: 2,
            ended,
        }
    }

    #[test]
    fn every_task_has_its_own_figures() {
        let place = |reward, constant, ended| answer(TaskKind::Classification, reward, constant, ended);
        let all = [
            place(Some(1.0), Some(0.0), true),
            place(Some(0.0), Some(1.0), true),
            place(Some(1.0), Some(0.0), false),
            place(None, Some(0.0), true),
            answer(TaskKind::MultiLabel, Some(0.5), None, true),
        ];
        let got = performance(&all, 1);
        assert_eq!(got.len(), 2);
        let found = |f: Figure| (f.value * f.n as f64, f.n);
        let place = &got[&TaskKind::Classification];
        assert_eq!(found(place.reward), (2.0, 3), "what cannot be scored is left out, never 0");
        assert_eq!(found(place.constant), (1.0, 4));
        assert_eq!(found(place.gain), (1.0, 3));
        assert_eq!(found(place.completed), (3.0, 4));
        assert_eq!(place.tokens.value, 2.0);
        let labels = &got[&TaskKind::MultiLabel];
        assert!(labels.constant.value.is_nan() && labels.gain.n == 0 && labels.reward.value == 0.5);
        assert!(performance(&[], 1).is_empty());
    }
}
