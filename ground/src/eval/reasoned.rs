//! Reasoned answers of a bundle, by the runtime that flies, beside its fast ones.

use anyhow::{Context, Result};
use kestrel_link::Query;
use kestrel_link::manifest::TOKENIZER_FILE;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::pipeline::{Look, union};
use kestrel_perception::{Bitmap, Limits};
use kestrel_training::expressions::meaning::Facts;
use kestrel_training::metrics::{Explained, Kind, Reasoned, reasoned};
use kestrel_training::reasoning::{Asked, Question, judge, refused};
use kestrel_training::sample::Sample;

/// Asks for reasons and keeps what came.
pub(super) struct Reasons {
    tokenizer: QueryTokenizer,
    /// Questions about each picture.
    count: usize,
    seed: u64,
    /// Pictures so far.
    pictures: u64,
    answers: Vec<Explained>,
}

impl Reasons {
    pub(super) fn of(bundle: &Bundle, count: usize, seed: u64) -> Result<Self> {
        let tokenizer = QueryTokenizer::load(&bundle.path(TOKENIZER_FILE))?;
        Ok(Self { tokenizer, count, seed, pictures: 0, answers: Vec::new() })
    }

    /// Asks about one more picture of the set; `look` is at the whole of it.
    pub(super) fn ask(&mut self, look: &mut Look<'_>, sample: &Sample) -> Result<()> {
        let facts = Facts::of(&sample.picture);
        let seed = self.seed.wrapping_mul(7919).wrapping_add(self.pictures);
        self.pictures += 1;
        let asked = Asked::of(sample, &facts, self.count, seed);
        for question in asked.questions() {
            let answer = self.answer(look, sample, &question);
            let answer = answer.with_context(|| format!("asking “{}” for reasons", question.ask.text))?;
            self.answers.push(answer);
        }
        Ok(())
    }

    fn answer(&self, look: &mut Look<'_>, sample: &Sample, question: &Question<'_>) -> Result<Explained> {
        let query = Query { hint: question.ask.hint, ..Query::new("eval", &question.ask.text) };
        // Where the gate refused or the engine failed, the fast answer is a refusal too.
        let answer = look.ask(&query)?;
        let shown = union(&answer.outcome)?;
        let fast = answer.whole.map_or(Kind::Other, |whole| Kind::ANSWERS[whole.observation.answers.likeliest()]);
        let explanation = look.explain(&query, Limits::default(), &mut |_, _| true)?;
        let judged = match &explanation.written {
            Some(written) => judge(&self.tokenizer, question, &written.ids, &written.grammar, fast)?,
            None => refused(question, Kind::Other, fast),
        };
        let (target, weak) = super::truth(sample, question.ask)?;
        if weak || target.area() == 0 {
            return Ok(judged);
        }
        let mut reasoned = Bitmap::new(target.width(), target.height());
        explanation.masks.iter().try_for_each(|mask| reasoned.unite(mask))?;
        let shown = shown.unwrap_or_else(|| Bitmap::new(target.width(), target.height()));
        let overlap = |mask: &Bitmap| Ok::<_, kestrel_perception::Error>(Some(f64::from(mask.iou(&target)?)));
        Ok(Explained { overlap: overlap(&reasoned)?, fast_overlap: overlap(&shown)?, ..judged })
    }

    pub(super) fn figures(&self) -> Reasoned {
        reasoned(&self.answers, self.seed)
    }
}

/// Prints the figures below those of the fast answers.
pub(super) fn print(figures: &Reasoned) {
    println!("\nwith reasons, {} questions:", figures.completed.n);
    for (name, figure) in [
        ("complete", &figures.completed),
        ("every statement holds", &figures.confirmed),
        ("boxes right at IoU 0.5", &figures.accuracy_50),
        ("boxes right at IoU 0.25", &figures.accuracy_25),
        ("gIoU of what is shown", &figures.giou),
        ("the same, fast", &figures.fast_giou),
        ("agree with the fast answer", &figures.agreement),
        ("absent targets refused", &figures.n_acc),
        ("the same, fast", &figures.fast_n_acc),
        ("present targets refused", &figures.false_refusal_rate),
        ("the same, fast", &figures.fast_false_refusal_rate),
        ("tokens of a thought", &figures.tokens),
    ] {
        super::line(name, figure);
    }
}
