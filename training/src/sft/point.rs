//! What is taught about proposals that have been compared: which are meant, and what that is told by.

use candle_core::Tensor;
use kestrel_models::kestrel::Compared;

use super::Result;
use super::example::{AMBIGUOUS, CANDIDATES_SHARE, Pointers};
use super::pass::host;
use crate::losses::attach;
use crate::losses::choice::{choosing, judging, whether};
use crate::losses::proposals::pointing;

/// Of what the answer is told by, beside the answer itself.
const JUDGED_SHARE: f32 = 0.5;

/// One question about proposals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The thing that each proposal stands for.
    pub(super) owners: &'a [Option<usize>],
    /// What is right.
    pub(super) pointers: &'a Pointers,
}

/// What pointing came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Pointed {
    /// The loss.
    pub(super) loss: f32,
    /// Share of questions with exactly the right proposals meant.
    pub(super) right: f32,
}

/// An output of the model with what is taught of it.
struct Taught<'a> {
    output: &'a Tensor,
    values: Vec<f32>,
    gradient: Vec<f32>,
}

impl<'a> Taught<'a> {
    fn of(output: &'a Tensor) -> Result<Self> {
        let values = host(output)?;
        let gradient = vec![0.0; values.len()];
        Ok(Self { output, values, gradient })
    }

    /// Values and gradients of one of `count` questions.
    fn row(&mut self, question: usize, count: usize) -> (&[f32], &mut [f32]) {
        let width = self.values.len() / count;
        let row = question * width..(question + 1) * width;
        (&self.values[row.clone()], &mut self.gradient[row])
    }

    fn term(self) -> Result<Tensor> {
        Ok(attach(self.output, self.gradient)?)
    }
}

/// Losses of all questions, `weight` in all, with the term that carries their gradients.
///
/// # Errors
/// When candle fails.
pub(super) fn point(asked: &[Asked<'_>], compared: &Compared<Tensor>, weight: f32) -> Result<(Tensor, Pointed)> {
    let count = asked.len().max(1);
    let (mut pointer, mut choice) = (Taught::of(&compared.pointer)?, Taught::of(&compared.choice)?);
    let (mut single, mut anything) = (Taught::of(&compared.single)?, Taught::of(&compared.found)?);
    let (mut alike, mut anchor) = (Taught::of(&compared.alike)?, Taught::of(&compared.anchor)?);
    let mut pointed = Pointed::default();
    let meant = host(&compared.meant)?;
    let most = meant.len() / count;
    for (at, Asked { owners, pointers }) in asked.iter().enumerate() {
        let Pointers { class, targets, anchor: related, alike: kind } = pointers;
        let share = if *class == AMBIGUOUS { CANDIDATES_SHARE } else { 1.0 };
        let each = share * weight / count as f32;
        let owned = |of: &[usize], k: usize| owners.get(k).copied().flatten().is_some_and(|own| of.contains(&own));
        let fits = |k: usize| owned(targets, k);
        pointed.right += f32::from(exactly(&meant[at * most..][..owners.len()], fits)) / count as f32;

        let (z, g) = pointer.row(at, count);
        pointed.loss += pointing(z, owners, targets, each, g);
        if targets.len() == 1 || (targets.is_empty() && *class == 1) {
            let (z, g) = choice.row(at, count);
            pointed.loss += choosing(z, fits, each, g).0;
        }
        if !targets.is_empty() {
            let (z, g) = single.row(at, count);
            pointed.loss += whether(z[0], targets.len() == 1, JUDGED_SHARE * each, &mut g[0]);
        }
        if let Some(kind) = kind {
            let (z, g) = alike.row(at, count);
            let known = |k: usize| (k < owners.len()).then(|| owned(kind, k));
            pointed.loss += judging(z, known, JUDGED_SHARE * each, g);
        }
        if let Some(related) = related {
            let (z, g) = anchor.row(at, count);
            let of: Vec<usize> = related.iter().copied().collect();
            pointed.loss += choosing(z, |k| owned(&of, k), JUDGED_SHARE * each, g).0;
        }
        if *class != AMBIGUOUS {
            let (z, g) = anything.row(at, count);
            pointed.loss += whether(z[0], *class == 0, each, &mut g[0]);
        }
    }
    let mut term = anything.term()?;
    for output in [pointer, choice, single, alike, anchor] {
        term = (term + output.term()?)?;
    }
    Ok((term, pointed))
}

/// Whether exactly the proposals that fit are meant.
pub(super) fn exactly(meant: &[f32], fits: impl Fn(usize) -> bool) -> bool {
    !meant.is_empty() && meant.iter().enumerate().all(|(k, p)| (*p > 0.5) == fits(k))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    /// Outputs of zeros for one question and three proposals, as variables in the order of the fields.
    fn outputs() -> (Vec<Var>, Compared<Tensor>) {
        let variable = |width: usize| Var::zeros((1, 1, width), candle_core::DType::F32, &Device::Cpu).unwrap();
        let of: Vec<Var> = [3, 4, 1, 3, 4, 1].into_iter().map(variable).collect();
        let tensor = |at: usize| of[at].as_tensor().clone();
        let compared = Compared {
            meant: Tensor::new(&[[[0.9f32, 0.1, 0.2]]], &Device::Cpu).unwrap(),
            pointer: tensor(0),
            choice: tensor(1),
            single: tensor(2),
            alike: tensor(3),
            anchor: tensor(4),
            found: tensor(5),
            summary: tensor(5),
        };
        (of, compared)
    }

    /// The way that each output is pulled: the signs against its gradient, in the order of the fields.
    fn pulls(class: usize, targets: &[usize], anchor: Option<Option<usize>>) -> (Vec<Vec<i8>>, Pointed) {
        let (of, compared) = outputs();
        let pointers = Pointers { class, targets: targets.to_vec(), anchor, alike: Some(vec![7, 8]) };
        // The second proposal is nothing that was labelled.
        let owners = [Some(7), None, Some(8)];
        let (term, pointed) = point(&[Asked { owners: &owners, pointers: &pointers }], &compared, 1.0).unwrap();
        let grads = term.backward().unwrap();
        let sign = |g: f32| if g < 0.0 { 1 } else { -i8::from(g > 0.0) };
        let pull = |var: &Var| host(grads.get(var.as_tensor()).unwrap()).unwrap().into_iter().map(sign).collect();
        (of.iter().map(pull).collect(), pointed)
    }

    #[test]
    fn one_thing_is_chosen_and_told_from_its_like_by_its_anchor() {
        let (pulls, pointed) = pulls(0, &[7], Some(Some(8)));
        assert_eq!(pulls[0], [1, -1, -1], "pointer");
        assert_eq!(pulls[1], [-1, 1, -1, -1], "choice");
        assert_eq!(pulls[2], [1], "single");
        assert_eq!(pulls[3], [1, -1, 1], "alike");
        assert_eq!(pulls[4], [-1, -1, -1, 1], "anchor");
        assert_eq!(pulls[5], [1], "found");
        assert!(pointed.right == 1.0 && pointed.loss > 0.0);
    }

    #[test]
    fn several_things_are_marked_and_none_is_chosen() {
        let (pulls, pointed) = pulls(0, &[7, 8], Some(None));
        assert_eq!(pulls[0], [1, -1, 1], "pointer");
        assert_eq!(pulls[1], [0, 0, 0, 0], "choice");
        assert_eq!(pulls[2], [-1], "single");
        assert_eq!(pulls[4], [1, -1, -1, -1], "anchor");
        assert_eq!(pointed.right, 0.0);
    }

    #[test]
    fn of_what_is_absent_nothing_is_chosen_and_what_is_not_known_is_not_taught() {
        let (pulls, _) = pulls(1, &[], None);
        assert_eq!(pulls[1], [1, -1, -1, -1], "choice");
        assert_eq!((&pulls[2][..], &pulls[4][..]), (&[0][..], &[0, 0, 0, 0][..]), "single, anchor");
        assert_eq!(pulls[5], [-1], "found");
    }
}
