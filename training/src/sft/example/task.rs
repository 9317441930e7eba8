//! Answers to tasks about the picture of an example, as tokens behind their prompts.

use kestrel_models::tokenizer::QueryTokenizer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Chain, Maker, ids};
use crate::expressions::Phrasing;
use crate::rewards::TaskKind;
use crate::sample::Sample;
use crate::sft::Result;
use crate::tasks::{self, Task, TextGrammar, TextLimits, parse, task, told, written};

/// Sets the choice of tasks apart from the random numbers that drew questions and chains.
const STREAM: u64 = 0x7461_736b;

/// The tasks of one picture.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    /// The task of each answer.
    pub kinds: Vec<TaskKind>,
    /// The answers that are taught.
    pub answers: Vec<Chain<TextGrammar>>,
    /// Tasks whose right answer is longer than an answer may be.
    pub long: Vec<TaskKind>,
}

impl Tasks {
    /// Whether nothing was asked, or nothing could be answered from the labels and nobody told.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.long.is_empty()
    }
}

/// As many requests of each task as the phase teaches, in training phrasings or as people wrote them; none where neither the
/// labels nor people tell the answer.
pub(super) fn write(maker: &Maker<'_>, sample: &Sample, seed: u64) -> Result<Tasks> {
    let mut drawn = Tasks::default();
    if maker.phase.tasks.is_empty() {
        return Ok(drawn);
    }
    let Some(facts) = tasks::facts(sample) else { return Ok(drawn) };
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
    for (&kind, &count) in &maker.phase.tasks {
        let count = times(count, &mut rng);
        let mut told = told(sample, kind, count, &mut rng).into_iter();
        for _ in 0..count {
            let task = told.next().or_else(|| task(&facts, kind, Phrasing::Train, &mut rng));
            let Some(task) = task else { break };
            match answered(maker.tokenizer, maker.config.max_tokens, &task)? {
                Some(answer) => {
                    drawn.kinds.push(kind);
                    drawn.answers.push(answer);
                }
                None => drawn.long.push(kind),
            }
        }
    }
    Ok(drawn)
}

/// A number of times whose mean is `count`: its whole part, and once more by chance.
fn times(count: f32, rng: &mut ChaCha8Rng) -> usize {
    count as usize + usize::from(rng.random::<f32>() < count.fract())
}

/// A task's right answer behind its prompt; `None` where it is longer than an answer may be.
fn answered(tokenizer: &QueryTokenizer, max_tokens: usize, task: &Task) -> Result<Option<Chain<TextGrammar>>> {
    let grammar = TextGrammar::new(tokenizer, TextLimits::of(task.kind));
    let right = written(&task.answer, tokenizer)?;
    // Words are text and boxes are in order: nothing else can be wrong with it.
    if parse(&right, &grammar).is_err() {
        return Ok(None);
    }
    let mut ids = prompt(tokenizer, max_tokens, &task.request)?;
    let prompt = ids.len();
    ids.extend(right);
    Ok(Some(Chain { ids, prompt, grammar, shown: Vec::new() }))
}

/// The prompt of a task: its words as those of any request, `<answer>` at the end.
///
/// # Errors
/// When the tokenizer fails.
pub(crate) fn prompt(tokenizer: &QueryTokenizer, max_tokens: usize, words: &str) -> Result<Vec<u32>> {
    let (mut request, _) = ids(tokenizer, max_tokens, words, None, &[])?;
    // A fast answer is read where `[SEG]` stands, a written one goes on behind `<answer>`.
    if request.last() == Some(&tokenizer.special().seg) {
        request.pop();
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_mean() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut drawn = |count: f32| (0..1000).map(|_| times(count, &mut rng)).sum::<usize>();
        assert_eq!((drawn(0.0), drawn(1.0), drawn(3.0)), (0, 1000, 3000));
        assert!((200..300).contains(&drawn(0.25)));
        assert!((2400..2600).contains(&drawn(2.5)));
    }
}
