//! Answers to tasks, teacher-forced in the layout and under the grammar that they are decoded with.

use candle_core::Tensor;
use kestrel_models::candle::Candle;

use super::Result;
use super::chain::{Before, Laid, tokens};
use super::example::{Example, Tasks};
use super::measured::Values;
use super::pass::Setup;

/// Loss of an example's answers to tasks behind the picture's image tokens; `None` where there are none.
///
/// Answers weigh alike: one of three tokens is not to be drowned by one of sixty beside it.
pub(super) fn teach(
    ops: &mut Candle<'_>,
    setup: &Setup<'_>,
    example: &Example,
    seen: &Tensor,
    values: &mut Values,
) -> Result<Option<Tensor>> {
    let Tasks { kinds, answers, long } = &example.tasks;
    for kind in long {
        values.tasks.add(*kind, |taught| taught.long += 1.0);
    }
    if answers.is_empty() {
        return Ok(None);
    }
    let [seg, ..] = setup.answers;
    let before = Before::picture(seen);
    let laid = Laid::of(answers, setup.config, &before, seg, setup.pad)?;
    let said = laid.say(ops, setup.config, &before)?;
    let each = setup.weights.chain / answers.len() as f32;
    let open = |answer: usize| laid.open.iter().filter(|open| open.chain == answer).count();
    let weights: Vec<f32> = (0..answers.len()).map(|answer| each / open(answer).max(1) as f32).collect();
    let (term, told) = tokens(setup, &laid, &weights, &said)?;
    for (kind, told) in kinds.iter().zip(told) {
        values.tasks.add(*kind, |taught| {
            taught.taught += 1.0;
            taught.loss += told.loss;
            taught.right += told.share();
        });
        values.total += told.loss;
    }
    Ok(Some(term))
}
