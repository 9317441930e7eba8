//! Tasks with answers in words: what kind of place a picture shows, which kinds of things are in it, what is where.
//!
//! These are steps of GeoVLM-R1's training *task after task* (arXiv 2509.25026): segmentation and referred detection are
//! taught elsewhere ([`crate::expressions`], [`crate::reasoning`]), what follows them here.
//! [`task`] makes a request with its right answer from a picture's labels, or nothing where the labels cannot tell;
//! [`written`] spells the answer as tokens, [`TextGrammar`] says what an answer may be, and [`spoken`] gives what a model
//! wrote in the form that [`crate::rewards`] scores. [`constant()`] is the best answer for whoever does not look.
//!
//! Labels tell all of it for rendered scenes only: no data set of photographs says its places, and none labels
//! everything in it. The requests and the language of the answers are derived, not the paper's.
//!
//! Captions, short questions and changes ([`SPOKEN`]) are what people wrote: [`told()`] takes them from a sample as a set in the
//! format [`Spoken`](crate::datasets::formats::Format::Spoken) gives them.

mod constant;
mod describe;
mod grammar;
mod phrase;
mod seen;
mod told;

#[cfg(test)]
mod tests;

use kestrel_models::error::Result;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::answer::edges;
use rand_chacha::ChaCha8Rng;

use crate::expressions::Phrasing;
use crate::expressions::meaning::Facts;
use crate::expressions::words::nouns;
use crate::reasoning::{Piece, encoded, pieces};
use crate::rewards::{TaskKind, Truth};
use crate::sample::Sample;
use crate::scenes;

pub use constant::constant;
pub use grammar::{TextGrammar, TextLimits, parse};
pub use phrase::request;
pub use told::{SPOKEN, first_told, told};

/// The tasks that labels give right answers to.
pub const TAUGHT: [TaskKind; 3] = [TaskKind::Classification, TaskKind::MultiLabel, TaskKind::GroundingDescription];

/// What is missing to teach a task from labels; `None` for those that are taught. What people wrote brings it for those of
/// [`SPOKEN`].
pub fn missing(kind: TaskKind) -> Option<&'static str> {
    match kind {
        TaskKind::Classification | TaskKind::MultiLabel | TaskKind::GroundingDescription => None,
        TaskKind::ReferredDetection => Some("which `chains` teach, with reasons"),
        TaskKind::Detection => Some("which needs pictures of disasters with the damage of every building labelled"),
        TaskKind::Caption => Some("which needs pictures with captions that people wrote"),
        TaskKind::RegionCaption => Some("which needs regions of pictures with captions that people wrote"),
        TaskKind::ChangeCaption => Some("which needs pairs of pictures with what changed between them in words"),
        TaskKind::ShortVqa => Some("which needs pictures with questions and short answers that people wrote"),
        TaskKind::Temporal => Some("which needs pictures of one place at several times with labels of what changed"),
    }
}

/// A request about a picture, with its right answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The task.
    pub kind: TaskKind,
    /// The words of the request.
    pub request: String,
    /// Whether training never asks like this.
    pub held_out_phrasing: bool,
    /// What is to be written.
    pub answer: Vec<Piece>,
    /// What answers are scored against; its boxes are those of the labels, which locations only come near to.
    pub truth: Truth,
}

/// What the labels of a sample say; `None` for a degraded view, of which it is not known what can still be seen.
pub fn facts(sample: &Sample) -> Option<Facts<'_>> {
    sample.degradation.is_none().then(|| Facts::of(&sample.picture))
}

/// A request of this kind, or `None` where the labels cannot tell its answer.
pub fn task(facts: &Facts<'_>, kind: TaskKind, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> Option<Task> {
    let (answer, truth) = right(facts, kind)?;
    let request = request(kind, phrasing, rng)?.to_owned();
    Some(Task { kind, request, held_out_phrasing: phrasing == Phrasing::HeldOut, answer, truth })
}

/// The right answer to a task and what it is scored against, or `None` where the labels cannot tell.
pub fn right(facts: &Facts<'_>, kind: TaskKind) -> Option<(Vec<Piece>, Truth)> {
    match kind {
        TaskKind::Classification => place(facts),
        TaskKind::MultiLabel => labels(facts),
        TaskKind::GroundingDescription => describe::describe(facts),
        _ => None,
    }
}

/// The kind of place, as the renderer knows it.
fn place(facts: &Facts<'_>) -> Option<(Vec<Piece>, Truth)> {
    let label = scenes::place(facts.picture)?.label().to_owned();
    Some((vec![Piece::Text(label.clone())], Truth { labels: vec![label], ..Truth::default() }))
}

/// The kinds of things, in the vocabulary's order; none where one kind shows only what is hardly to be made out.
fn labels(facts: &Facts<'_>) -> Option<(Vec<Piece>, Truth)> {
    let kinds = seen::kinds(facts)?;
    if kinds.is_empty() || kinds.iter().any(|kind| kind.sure.is_empty()) {
        return None;
    }
    let labels: Vec<String> = kinds.iter().map(|kind| nouns(kind.category)[0].singular.to_owned()).collect();
    Some((vec![Piece::Text(labels.join(", "))], Truth { labels, ..Truth::default() }))
}

/// Tokens of a right answer, `</answer>` at the end.
///
/// # Errors
/// When the tokenizer fails.
pub fn written(answer: &[Piece], tokenizer: &QueryTokenizer) -> Result<Vec<u32>> {
    let mut ids = encoded(answer, tokenizer)?;
    ids.push(tokenizer.special().answer_end);
    Ok(ids)
}

/// What an answer's tokens say, without its `</answer>`, as [`text`].
///
/// # Errors
/// When the tokenizer fails.
pub fn spoken(said: &[u32], tokenizer: &QueryTokenizer) -> Result<String> {
    Ok(text(&pieces(said, tokenizer)?))
}

/// An answer as the whole text of a model that thinks nothing: the form that rewards are scored on. Boxes are the places
/// that their locations stand for.
pub fn text(answer: &[Piece]) -> String {
    let said = answer.iter().map(|piece| match piece {
        Piece::Text(words) => words.trim().to_owned(),
        Piece::Box(bins) => {
            let [x0, y0, x1, y1] = edges(*bins);
            format!("<box>{x0} {y0} {x1} {y1}</box>")
        }
    });
    format!("<think></think><answer>{}</answer>", said.collect::<Vec<_>>().join(" "))
}
