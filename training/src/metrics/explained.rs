//! Judges reasoned answers, beside the fast ones to the same questions.

use serde::Serialize;

use super::Kind;
use super::figure::{Figure, scene_sums};
use crate::rewards::boxes::{self, Edges};

/// A question with its reasoned and its fast answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// The unit of resampling.
    pub scene: String,
    /// The words.
    pub text: String,
    /// The right answer.
    pub expected: Kind,
    /// Boxes of what is meant, in fractions of the view.
    pub truth: Vec<Edges>,
    /// The fast answer, by its likeliest token.
    pub fast: Kind,
    /// The reasoned answer; `None` where it is not complete.
    pub given: Option<Kind>,
    /// Its boxes, in fractions of the view.
    pub boxes: Vec<Edges>,
    /// Its thought as words, boxes left out.
    pub thought: String,
    /// Tokens of the thought.
    pub tokens: usize,
    /// Whether the thought ended while it could have gone on.
    pub ended: bool,
    /// Whether the thought is a chain of which every statement holds; `None` where the labels cannot tell, since it is
    /// not known what the words mean.
    pub confirmed: Option<bool>,
    /// IoU of what the reasoned answer shows with an outlined target that is there; `None` where that was not drawn.
    pub overlap: Option<f64>,
    /// The same of the fast answer.
    pub fast_overlap: Option<f64>,
}

/// Figures of reasoned answers; all with intervals.
#[derive(Debug, Clone, Serialize)]
pub struct Reasoned {
    /// Share of answers that are complete and whose thought came to its end before its limit ended it.
    pub completed: Figure,
    /// Share of answers of which every statement holds, over those that labels can judge.
    pub confirmed: Figure,
    /// Share of present targets with all boxes right at an IoU of 0.5 and none too many; a refusal is wrong.
    pub accuracy_50: Figure,
    /// The same at an IoU of 0.25.
    pub accuracy_25: Figure,
    /// Mean IoU of what is shown, over present targets with an outline; a refusal counts 0.
    pub giou: Figure,
    /// The same of the fast answers.
    pub fast_giou: Figure,
    /// Share of answers that agree with the fast one whether there is something to show.
    pub agreement: Figure,
    /// Share of absent targets that are refused (N-acc of gRefCOCO).
    pub n_acc: Figure,
    /// The same of the fast answers.
    pub fast_n_acc: Figure,
    /// Share of present targets that are refused.
    pub false_refusal_rate: Figure,
    /// The same of the fast answers.
    pub fast_false_refusal_rate: Figure,
    /// Mean tokens of the thought.
    pub tokens: Figure,
}

/// Computes every figure; `seed` draws the resamples.
pub fn reasoned(answers: &[Explained], seed: u64) -> Reasoned {
    let mean = |value: &dyn Fn(&Explained) -> Option<f64>| {
        let contributions = answers.iter().filter_map(|a| Some((a.scene.as_str(), [value(a)?, 1.0])));
        scene_sums(contributions, seed, |[sum, n]| sum / n)
    };
    let share = |holds: &dyn Fn(&Explained) -> Option<bool>| mean(&|a| holds(a).map(|so| f64::from(u8::from(so))));
    let refused = |given: Option<Kind>| given.is_some_and(|kind| kind != Kind::Mask);
    let accuracy = |threshold: f64| {
        share(&|a| {
            // A box that is no place is wrong.
            let right = || boxes::right(&a.boxes, &a.truth, threshold).unwrap_or(false);
            (a.expected == Kind::Mask).then(|| a.given == Some(Kind::Mask) && right())
        })
    };
    let refusals = |of: Kind, answer: &dyn Fn(&Explained) -> Option<Kind>| {
        share(&|a| (a.expected == of).then(|| refused(answer(a))))
    };
    Reasoned {
        completed: share(&|a| Some(a.given.is_some() && a.ended)),
        confirmed: share(&|a| a.confirmed),
        accuracy_50: accuracy(0.5),
        accuracy_25: accuracy(0.25),
        giou: mean(&|a| a.overlap),
        fast_giou: mean(&|a| a.fast_overlap),
        agreement: share(&|a| Some(a.given.map(|given| given == Kind::Mask) == Some(a.fast == Kind::Mask))),
        n_acc: refusals(Kind::Absent, &|a| a.given),
        fast_n_acc: refusals(Kind::Absent, &|a| Some(a.fast)),
        false_refusal_rate: refusals(Kind::Mask, &|a| a.given),
        fast_false_refusal_rate: refusals(Kind::Mask, &|a| Some(a.fast)),
        tokens: mean(&|a| Some(a.tokens as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: Edges = [0.2, 0.2, 0.4, 0.4];

    fn answer(expected: Kind, given: Option<Kind>, fast: Kind) -> Explained {
        let boxed = |kind: Option<Kind>| if kind == Some(Kind::Mask) { vec![THERE] } else { Vec::new() };
        Explained {
            scene: "a".into(),
            text: "the car".into(),
            expected,
            truth: boxed(Some(expected)),
            fast,
            given,
            boxes: boxed(given),
            thought: "car".into(),
            tokens: 10,
            ended: true,
            confirmed: Some(true),
            overlap: None,
            fast_overlap: None,
        }
    }

    #[test]
    fn every_share_is_over_its_own_questions() {
        let near = Explained {
            boxes: vec![[0.2, 0.2, 0.4, 0.3]],
            overlap: Some(0.25),
            fast_overlap: Some(0.75),
            ..answer(Kind::Mask, Some(Kind::Mask), Kind::Mask)
        };
        let far = Explained { boxes: vec![[0.2, 0.2, 0.4, 0.26]], ..near.clone() };
        let cut = Explained { ended: false, confirmed: Some(false), tokens: 40, ..near.clone() };
        let all = [
            answer(Kind::Mask, Some(Kind::Mask), Kind::Absent),
            near,
            far,
            cut,
            answer(Kind::Mask, Some(Kind::Ambiguous), Kind::Mask),
            answer(Kind::Absent, Some(Kind::Mask), Kind::Absent),
            Explained { confirmed: None, ..answer(Kind::Absent, Some(Kind::Unseeable), Kind::Mask) },
            answer(Kind::Absent, None, Kind::Absent),
        ];
        let got = reasoned(&all, 1);
        let found = |f: Figure| (f.value * f.n as f64, f.n);
        assert_eq!(found(got.completed), (6.0, 8));
        assert_eq!(found(got.confirmed), (6.0, 7));
        assert_eq!(found(got.accuracy_50), (3.0, 5), "half of a box is enough, a refusal is wrong");
        assert_eq!(found(got.accuracy_25), (4.0, 5));
        assert_eq!((found(got.giou), found(got.fast_giou)), ((0.75, 3), (2.25, 3)), "only what was drawn");
        assert_eq!(found(got.agreement), (3.0, 8), "what is not complete agrees with nothing");
        assert_eq!(found(got.n_acc), (1.0, 3));
        assert_eq!(found(got.fast_n_acc), (2.0, 3));
        assert_eq!(found(got.false_refusal_rate), (1.0, 5));
        assert_eq!(found(got.fast_false_refusal_rate), (1.0, 5));
        assert_eq!(got.tokens.value, 110.0 / 8.0);
        assert!(reasoned(&[], 1).completed.value.is_nan());
    }

    #[test]
    fn one_box_too_many_is_wrong() {
        let one = answer(Kind::Mask, Some(Kind::Mask), Kind::Mask);
        let two = Explained { boxes: vec![THERE, [0.6, 0.6, 0.8, 0.8]], ..one.clone() };
        assert_eq!(reasoned(&[one, two], 1).accuracy_25.value, 0.5);
    }
}
