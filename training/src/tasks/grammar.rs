//! The answer to a task: a grammar over token ids that nothing malformed or endless can pass.
//!
//! Behind a prompt's `<answer>` the model writes
//!
//! ```text
//! ( piece | <box> <loc x0> <loc y0> <loc x1> <loc y1> )+ </answer>
//! ```
//!
//! What a piece and a box are, the grammar of reasoned answers says ([`Grammar`]): it writes all but the end here.
//! [`parse`] runs the same automaton over a finished answer.

use kestrel_models::kestrel::generate::Constraint;
use kestrel_models::tokenizer::{QueryTokenizer, Special};
use kestrel_perception::{Grammar, Limits, ParseError};

use crate::reasoning::{LISTED, Reasoner};
use crate::rewards::TaskKind;

/// How long an answer may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Tokens before `</answer>` at most; 0 counts as 1.
    pub tokens: usize,
    /// Boxes at most.
    pub boxes: usize,
}

impl TextLimits {
    /// Room for the right answers to a task.
    pub fn of(kind: TaskKind) -> Self {
        match kind {
            TaskKind::Classification | TaskKind::ShortVqa => Self { tokens: 24, boxes: 0 },
            TaskKind::GroundingDescription => Self { tokens: 128, boxes: LISTED },
            _ => Self { tokens: 96, boxes: 0 },
        }
    }

    /// Tokens of the longest answer, its end among them.
    pub fn most(&self) -> usize {
        self.tokens.max(1).saturating_add(1)
    }
}

/// What may be written next; one answer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextGrammar {
    /// A thought that never ends: text and boxes within the limit of tokens.
    text: Grammar,
    special: Special,
    limits: TextLimits,
    written: usize,
    boxes: usize,
    finished: bool,
}

impl TextGrammar {
    /// The state right behind `<answer>`.
    pub fn new(tokenizer: &QueryTokenizer, limits: TextLimits) -> Self {
        let text = Reasoner::new(tokenizer, Limits::roomy(limits.tokens.max(1), 1)).grammar();
        Self { text, special: *tokenizer.special(), limits, written: 0, boxes: 0, finished: false }
    }

    /// The same grammar before its first token.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self { text: self.text.restarted(), written: 0, boxes: 0, finished: false, ..*self }
    }

    /// Whether `id` may come next.
    pub fn allows(&self, id: u32) -> bool {
        let Special { think_end, answer_end, bounding_box, .. } = self.special;
        if self.finished || id == think_end {
            return false;
        }
        if id == answer_end {
            return self.written > 0 && self.between();
        }
        self.text.allows(id) && (id != bounding_box || self.boxes < self.limits.boxes)
    }

    /// Whether no box has been begun and not ended.
    fn between(&self) -> bool {
        self.text.allows(self.special.think_end)
    }

    fn expected(&self) -> &'static str {
        match (self.finished, self.between()) {
            (true, _) => "nothing",
            (false, true) => "text, <box> or, behind these, </answer>, within the limits of the answer",
            (false, false) => "a location, its right and lower ones not before the first two",
        }
    }

    /// Sets the logits of all that may not come next to −∞. `logits` has one entry an id.
    pub fn mask(&self, logits: &mut [f32]) {
        for (id, logit) in (0..).zip(logits) {
            if !self.allows(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Writes a token.
    ///
    /// # Errors
    /// When it may not come next; the state stays as it was.
    pub fn push(&mut self, id: u32) -> Result<(), ParseError> {
        if !self.allows(id) {
            return Err(ParseError::Refused { at: self.written, id, expected: self.expected() });
        }
        if id == self.special.answer_end {
            self.finished = true;
        } else {
            self.text.push(id)?;
            self.boxes += usize::from(id == self.special.bounding_box);
        }
        self.written += 1;
        Ok(())
    }

    /// Whether the answer is complete: `</answer>` was written.
    pub fn finished(&self) -> bool {
        self.finished
    }
}

impl Constraint for TextGrammar {
    fn restrict(&self, logits: &mut [f32]) {
        self.mask(logits);
    }

    fn push(&mut self, id: u32) {
        // What is chosen was not forbidden a moment ago; if it were, the state stays, and reading the answer says so.
        let _ = Self::push(self, id);
    }

    fn finished(&self) -> bool {
        Self::finished(self)
    }
}

/// Reads what was written behind `<answer>`, under the rules and limits of `grammar`, whatever state that is in: the
/// tokens before `</answer>`.
///
/// # Errors
/// At the first token that the grammar refuses, and when the answer is not finished.
pub fn parse<'w>(written: &'w [u32], grammar: &TextGrammar) -> Result<&'w [u32], ParseError> {
    let mut state = grammar.restarted();
    for &id in written {
        state.push(id)?;
    }
    match written.split_last() {
        Some((_, said)) if state.finished() => Ok(said),
        _ => Err(ParseError::Unfinished { tokens: written.len(), expected: state.expected() }),
    }
}
