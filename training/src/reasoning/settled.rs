//! Chains kept where the labels are not: written and checked while the labels were at hand, in no tokenizer's pieces yet.

use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Grammar, parse};
use serde::{Deserialize, Serialize};

use super::chain::{Bins, Piece};
use super::{Dropped, Fault, Question, chain, refusal, tokens, verify, write};

/// A chain of which every statement holds, and what it concludes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    thought: Vec<Piece>,
    /// The box of each target.
    boxes: Vec<Bins>,
    /// Index of the reason among `<none:…>`, where there is no target.
    refusal: Option<usize>,
}

impl Settled {
    /// The chain of a question.
    ///
    /// # Errors
    /// When there is no certain one.
    pub fn of(question: &Question<'_>) -> Result<Self, Dropped> {
        let thought = chain::spell(&write(question)?);
        let told = chain::read(&thought).map_err(|_| Fault::SYNTAX)?;
        let targets = verify(&told, question)?;
        let boxes = targets.iter().map(|&thing| question.bins(thing)).collect();
        Ok(Self { thought, boxes, refusal: refusal(&question.ask.target) })
    }

    /// How many targets it concludes on.
    pub fn targets(&self) -> usize {
        self.boxes.len()
    }

    /// Everything that is written behind `<think>`; `None` where that is more than the grammar allows.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn written(
        &self,
        tokenizer: &QueryTokenizer,
        grammar: &Grammar,
    ) -> kestrel_models::error::Result<Option<Vec<u32>>> {
        let thought = tokens::ids(&self.thought, tokenizer)?;
        let written = tokens::answer(&thought, &self.boxes, self.refusal, tokenizer);
        Ok(parse(&written, grammar).is_ok().then_some(written))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kestrel_models::tokenizer;
    use kestrel_perception::Limits;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::{LISTED, Reasoner};
    use super::*;
    use crate::expressions::meaning::Facts;
    use crate::expressions::{Options, corpus, generate_about};
    use crate::scenes::render;

    /// What would break: chains that are taught later as others than those that are taught at once.
    #[test]
    fn what_is_kept_is_written_as_at_once() {
        let tokenizer = tokenizer::train(corpus(1, 300), 512).unwrap();
        let reasoner = Reasoner::new(&tokenizer, Limits::roomy(200, LISTED));
        let options = Options { count: 24, ..Options::default() };
        let mut chains = 0;
        for seed in 0..3 {
            let picture = render(seed, 160);
            let facts = Facts::of(&picture);
            for proposed in generate_about(&facts, &options, &mut ChaCha8Rng::seed_from_u64(seed)) {
                let expression = proposed.expression.as_ref();
                let question = Question { facts: &facts, ask: &proposed.ask, expression, view: None };
                let Ok(at_once) = reasoner.attempt(&question).unwrap() else { continue };
                let text = serde_json::to_string(&Settled::of(&question).unwrap()).unwrap();
                let kept: Settled = serde_json::from_str(&text).unwrap();
                assert_eq!(kept.targets(), at_once.targets.len());
                assert_eq!(kept.written(&tokenizer, &reasoner.grammar()).unwrap(), Some(at_once.written));
                let short = Reasoner::new(&tokenizer, Limits::roomy(1, LISTED)).grammar();
                assert_eq!(kept.written(&tokenizer, &short).unwrap(), None, "too long for this grammar");
                chains += 1;
            }
        }
        assert!(chains > 10, "{chains}");
    }
}
