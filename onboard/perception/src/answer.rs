//! The reasoned answer: a grammar over token ids that nothing malformed or endless can pass, and what an answer says.
//!
//! Behind a prompt's `<think>` the model writes
//!
//! ```text
//! ( piece | <box> <loc x0> <loc y0> <loc x1> <loc y1> )*  </think>
//! <answer> ( <none:…> | ( <box> <loc x0> <loc y0> <loc x1> <loc y1> [SEG] )+ ) </answer>
//! ```
//!
//! where a piece is any token of text, `x1 ≥ x0` and `y1 ≥ y0`. [`Grammar`] says before every token which may follow;
//! [`parse`] runs the same automaton over a finished answer, so the two cannot disagree.

use crate::error::Error;
use crate::tokens::{LOCATIONS, SpecialIds, VocabularyError, known, location};

/// Tokens of a target: `<box>`, four locations, `[SEG]`.
const TARGET: usize = 6;
/// Tokens that always remain after the thought: `</think>`, `<answer>`, one target, `</answer>`.
const CLOSING: usize = TARGET + 3;
/// Tokens of a box.
const BOX: usize = 5;

/// Ids of the tokens that a reasoned answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReasonedIds {
    /// Those that a fast answer knows too.
    pub special: SpecialIds,
    /// `<none:absent>`, `<none:ambiguous>`, `<none:not_understood>`, `<none:unseeable>`.
    pub none: [u32; 4],
    /// `<think>`, the end of a prompt that asks for reasons.
    pub think: u32,
    /// `</think>`.
    pub think_end: u32,
    /// `</answer>`.
    pub answer_end: u32,
}

impl ReasonedIds {
    /// Finds the tokens in a vocabulary; `id` gives the id of a spelling.
    ///
    /// # Errors
    /// When one is missing, or the locations are not in a row.
    pub fn find(id: impl Fn(&str) -> Option<u32>) -> Result<Self, VocabularyError> {
        let special = SpecialIds::find(&id)?;
        let of = |token: &str| known(&id, token);
        let none =
            [of("<none:absent>")?, of("<none:ambiguous>")?, of("<none:not_understood>")?, of("<none:unseeable>")?];
        let (think, think_end, answer_end) = (of("<think>")?, of("</think>")?, of("</answer>")?);
        Ok(Self { special, none, think, think_end, answer_end })
    }

    /// The location 0..64 that a token names.
    fn location(&self, id: u32) -> Option<u32> {
        id.checked_sub(self.special.first_location).filter(|bin| *bin < LOCATIONS)
    }

    /// Whether a token is text.
    fn is_piece(&self, id: u32) -> bool {
        let SpecialIds { pad, answer, seg, point, bounding_box, .. } = self.special;
        let named = [pad, answer, seg, point, bounding_box, self.think, self.think_end, self.answer_end];
        !named.contains(&id) && !self.none.contains(&id) && self.location(id).is_none()
    }
}

/// The prompt of a reasoned answer: the tokens of the same request for a fast one, with `<think>` in place of the
/// `<answer>` and `[SEG]` that they end in.
#[must_use]
pub fn prompt(fast: &[u32], ids: &ReasonedIds) -> Vec<u32> {
    let request = fast.strip_suffix(&[ids.special.answer, ids.special.seg]).unwrap_or(fast);
    [request, &[ids.think]].concat()
}

/// How long an answer may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of the thought, between `<think>` and `</think>`, at most.
    pub thought: usize,
    /// Targets at most; 0 counts as 1.
    pub targets: usize,
    /// Tokens behind `<think>` at most, `</think>` and `</answer>` included; fewer than 9 count as 9, the room that one
    /// target needs.
    pub tokens: usize,
}

/// As models are taught to answer: thoughts of 96 tokens, six targets.
impl Default for Limits {
    fn default() -> Self {
        Self::roomy(96, 6)
    }
}

impl Limits {
    /// Fewest tokens in which an answer can be closed: no thought and one target.
    pub const LEAST: usize = CLOSING;

    /// Room for a whole thought and all targets behind it.
    #[must_use]
    pub fn roomy(thought: usize, targets: usize) -> Self {
        let targets = targets.max(1);
        Self { thought, targets, tokens: thought.saturating_add(3).saturating_add(targets.saturating_mul(TARGET)) }
    }
}

/// Where in an answer the next token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Thought,
    /// Before this of the four locations of a box in the thought.
    ThoughtBox(u8),
    /// Before `<answer>`.
    Answer,
    /// Right behind `<answer>`.
    First,
    /// Before this of the four locations of a target.
    Box(u8),
    /// Before `[SEG]`.
    Seg,
    /// Behind `[SEG]`.
    Next,
    /// Behind `<none:…>`.
    End,
    Finished,
}

impl Place {
    fn expected(self) -> &'static str {
        match self {
            Self::Thought => "text, <box> or </think>, within the limits of the thought",
            Self::ThoughtBox(_) | Self::Box(_) => "a location, its right and lower ones not before the first two",
            Self::Answer => "<answer>",
            Self::First => "<box> or <none:…>",
            Self::Seg => "[SEG]",
            Self::Next => "</answer>, or <box> within the limit of targets",
            Self::End => "</answer>",
            Self::Finished => "nothing",
        }
    }
}

/// What may be written next; one answer's state.
///
/// When the tokens run low, only what closes the answer is allowed. One target and a refusal both fit then still: a
/// limit ends a thought, it never decides the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grammar {
    ids: ReasonedIds,
    vocabulary: u32,
    limits: Limits,
    place: Place,
    /// Tokens pushed, tokens of the thought and targets among them.
    tokens: usize,
    thought: usize,
    targets: usize,
    /// Left and top of the box that is being written.
    corner: [u32; 2],
}

impl Grammar {
    /// The state right behind `<think>`. Text is every id under `vocabulary` that is no special token.
    #[must_use]
    pub fn new(ids: ReasonedIds, vocabulary: u32, limits: Limits) -> Self {
        let Limits { thought, targets, tokens } = limits;
        let limits = Limits { thought, targets: targets.max(1), tokens: tokens.max(CLOSING) };
        let place = Place::Thought;
        Self { ids, vocabulary, limits, place, tokens: 0, thought: 0, targets: 0, corner: [0; 2] }
    }

    /// The same grammar before its first token.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self::new(self.ids, self.vocabulary, self.limits)
    }

    /// Whether `id` may come next.
    #[must_use]
    pub fn allows(&self, id: u32) -> bool {
        let special = &self.ids.special;
        match self.place {
            Place::Thought => {
                let piece = || id < self.vocabulary && self.ids.is_piece(id) && self.fits(1);
                id == self.ids.think_end || (id == special.bounding_box && self.fits(BOX)) || piece()
            }
            Place::ThoughtBox(k) | Place::Box(k) => {
                let least = if k < 2 { 0 } else { self.corner[usize::from(k) - 2] };
                self.ids.location(id).is_some_and(|bin| bin >= least)
            }
            Place::Answer => id == special.answer,
            Place::First => id == special.bounding_box || self.ids.none.contains(&id),
            Place::Seg => id == special.seg,
            Place::Next => {
                let another = self.targets < self.limits.targets && self.tokens + TARGET < self.limits.tokens;
                id == self.ids.answer_end || (id == special.bounding_box && another)
            }
            Place::End => id == self.ids.answer_end,
            Place::Finished => false,
        }
    }

    /// Whether the thought has room for so many more tokens.
    fn fits(&self, more: usize) -> bool {
        self.thought + more <= self.limits.thought && self.tokens + more + CLOSING <= self.limits.tokens
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
            return Err(ParseError::Refused { at: self.tokens, id, expected: self.place.expected() });
        }
        let thinking = matches!(self.place, Place::Thought | Place::ThoughtBox(_));
        self.place = match self.place {
            Place::Thought if id == self.ids.think_end => Place::Answer,
            Place::Thought if id == self.ids.special.bounding_box => Place::ThoughtBox(0),
            Place::Thought | Place::ThoughtBox(3) => Place::Thought,
            Place::ThoughtBox(k) => Place::ThoughtBox(k + 1),
            Place::Answer => Place::First,
            Place::First | Place::Next if id == self.ids.special.bounding_box => Place::Box(0),
            Place::First => Place::End,
            Place::Box(3) => Place::Seg,
            Place::Box(k) => Place::Box(k + 1),
            Place::Seg => Place::Next,
            Place::Next | Place::End | Place::Finished => Place::Finished,
        };
        match self.place {
            Place::ThoughtBox(k @ 1..=2) | Place::Box(k @ 1..=2) => {
                self.corner[usize::from(k) - 1] = self.ids.location(id).unwrap_or_default();
            }
            Place::Next => self.targets += 1,
            _ => {}
        }
        self.tokens += 1;
        self.thought += usize::from(thinking && id != self.ids.think_end);
        Ok(())
    }

    /// Writes the likeliest token that may come next, of equals the one of least id, and gives it. `logits` has one
    /// entry an id.
    ///
    /// # Errors
    /// When a logit is not finite, or nothing may come next; the state stays as it was.
    pub fn push_likeliest(&mut self, logits: &[f32]) -> Result<u32, Error> {
        const OPERATION: &str = "choose a token";
        let count = logits.iter().filter(|logit| !logit.is_finite()).count();
        if count > 0 {
            return Err(Error::NotFinite { operation: OPERATION, count });
        }
        let allowed = (0..).zip(logits).filter(|(id, _)| self.allows(*id));
        let best = allowed.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(id, _)| id);
        match best {
            Some(id) if self.push(id).is_ok() => Ok(id),
            _ => Err(Error::Shape {
                operation: OPERATION,
                expected: format!("a logit of {}", self.place.expected()),
                got: format!("{} logits without one", logits.len()),
            }),
        }
    }

    /// Whether the answer is complete: `</answer>` was written.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.place == Place::Finished
    }
}

/// What a reasoned answer comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Conclusion {
    /// A box for every `[SEG]`, left, top, right, bottom in fractions of the model's input; see [`edges`].
    Boxes(Vec<[f32; 4]>),
    /// A refusal: index among absent, ambiguous, not understood, unseeable.
    None(usize),
}

/// A reasoned answer, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Tokens between `<think>` and `</think>`, boxes included.
    pub thought: Vec<u32>,
    /// What follows.
    pub outcome: Conclusion,
}

/// Tokens that are no reasoned answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A token that may not stand where it does.
    #[error("reading a reasoned answer: expected {expected} at token {at}, got token id {id}")]
    Refused {
        /// Tokens before it.
        at: usize,
        /// The token.
        id: u32,
        /// What may stand there.
        expected: &'static str,
    },
    /// The tokens end before `</answer>`.
    #[error("reading a reasoned answer: expected {expected} behind {tokens} tokens, got the end")]
    Unfinished {
        /// How many tokens there are.
        tokens: usize,
        /// What may follow.
        expected: &'static str,
    },
}

/// Reads what was written behind `<think>`, under the rules and limits of `grammar`, whatever state that is in.
///
/// # Errors
/// At the first token that the grammar refuses, and when the answer is not finished.
pub fn parse(written: &[u32], grammar: &Grammar) -> Result<Answer, ParseError> {
    let mut state = grammar.restarted();
    let mut answer = Answer { thought: Vec::new(), outcome: Conclusion::Boxes(Vec::new()) };
    let mut bins = [0; 4];
    for &id in written {
        let place = state.place;
        state.push(id)?;
        match (place, &mut answer.outcome) {
            (Place::Thought, _) if id != state.ids.think_end => answer.thought.push(id),
            (Place::ThoughtBox(_), _) => answer.thought.push(id),
            (Place::First, outcome) => {
                if let Some(reason) = state.ids.none.iter().position(|none| *none == id) {
                    *outcome = Conclusion::None(reason);
                }
            }
            (Place::Box(k), Conclusion::Boxes(boxes)) => {
                bins[usize::from(k)] = state.ids.location(id).unwrap_or_default();
                if k == 3 {
                    boxes.push(edges(bins));
                }
            }
            _ => {}
        }
    }
    match state.finished() {
        true => Ok(answer),
        false => Err(ParseError::Unfinished { tokens: state.tokens, expected: state.place.expected() }),
    }
}

/// The locations of a box's edges (left, top, right, bottom in fractions of the model's input): each edge names the one
/// of 64 equal bins that it falls into. What lies outside goes to the nearest bin, an edge before its opposite to that.
#[must_use]
pub fn bins(edges: [f32; 4]) -> [u32; 4] {
    let [x0, y0, x1, y1] = edges.map(location);
    [x0, y0, x1.max(x0), y1.max(y0)]
}

/// The box that four locations name, in fractions of the model's input.
///
/// An edge is taken to be in the middle of its bin, so it is wrong by 1/128 at most. Two opposite edges in one bin are
/// taken to be that bin's ends instead: a box always has an area.
#[must_use]
pub fn edges(bins: [u32; 4]) -> [f32; 4] {
    let side = LOCATIONS as f32;
    let axis = |low: u32, high: u32| match low == high {
        true => (low as f32 / side, (high as f32 + 1.0) / side),
        false => ((low as f32 + 0.5) / side, (high as f32 + 0.5) / side),
    };
    let ((x0, x1), (y0, y1)) = (axis(bins[0], bins[2]), axis(bins[1], bins[3]));
    [x0, y0, x1, y1]
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
