//! Questions as tokens, with their right answers.

use kestrel_link::Hint;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{SpecialIds, layout};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::expressions;
use crate::sample::{Ask, Stratum, Target};
use crate::sft::Result;
use crate::sft::coverage::pool;
use crate::sft::teach::Sought;

/// Share of questions with chatter around them.
const CHATTER_SHARE: f64 = 0.35;

/// Token ids of a request up to `[SEG]`, and the doubt about every word token.
pub type Words = (Vec<u32>, Vec<f32>);

/// A question as tokens, with its right answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// Token ids, `<answer>` and `[SEG]` at the end.
    pub ids: Vec<u32>,
    /// For every word token: 1 where it belongs to a word without sense, else 0.
    pub doubt: Vec<f32>,
    /// What the mask should be.
    pub goal: Goal,
    /// What should be pointed at.
    pub pointers: Pointers,
    /// Where the thing is that the words relate their target to: a heat of `[(side/16)²]` cells.
    pub anchor: Option<Vec<f32>>,
    /// Whether the words certainly relate their target to nothing.
    pub plain: bool,
    /// Whether only comparing things tells the target from others like it.
    pub compared: bool,
}

impl Question {
    /// A question of which no more is known than its words and its right answer.
    pub(crate) fn stored(ask: &Ask, (ids, doubt): Words, goal: Goal) -> Self {
        let pointers = Pointers::of(ask, None, None);
        let (plain, compared) = (plain(ask.stratum), singles_out(ask.stratum));
        Self { ids, doubt, goal, pointers, anchor: None, plain, compared }
    }

    /// What its `[SEG]` should find.
    pub(crate) fn sought(&self) -> Sought<'_> {
        let Self { goal, pointers, compared, anchor, plain, .. } = self;
        Sought { goal, pointers, compared: *compared, anchor: anchor.as_deref(), plain: *plain }
    }
}

/// The answer to a question that several things fit.
pub(crate) const AMBIGUOUS: usize = 2;
/// Candidates of an ambiguous question matter less than targets.
pub(crate) const CANDIDATES_SHARE: f32 = 0.3;

/// The right answer in terms of labelled things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointers {
    /// Index among the five answers: 0 is `[SEG]`.
    pub class: usize,
    /// The things that are meant; several for an ambiguous question.
    pub targets: Vec<usize>,
    /// What the words relate their target to, which may be nothing; `None` where that is not known.
    pub anchor: Option<Option<usize>>,
    /// The things of the kind that the words name, where that is known.
    pub alike: Option<Vec<usize>>,
}

impl Pointers {
    pub(crate) fn of(ask: &Ask, anchor: Option<usize>, alike: Option<&Vec<usize>>) -> Self {
        let related = anchor.map(Some).or_else(|| plain(ask.stratum).then_some(None));
        Self {
            class: class(&ask.target),
            targets: targets(&ask.target).to_vec(),
            anchor: related,
            alike: alike.cloned(),
        }
    }
}

/// Whether the words certainly relate their target to nothing.
pub(super) fn plain(stratum: Stratum) -> bool {
    !matches!(stratum, Stratum::Relation | Stratum::WrongRelation | Stratum::Unseeable)
}

/// What a mask should be, at stride 4 of the input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Goal {
    /// This coverage, `[(side/4)²]`.
    Mask(Vec<f32>),
    /// The candidates of an ambiguous question: drawn, but no object to be shown.
    Candidates(Vec<f32>),
    /// Something that fills these columns and rows, `[side/4]` each.
    Boxes(Vec<f32>, Vec<f32>),
    /// Nothing.
    Empty,
}

impl Goal {
    /// The goal on a coarser grid of `side²` cells, the cell with the largest share lifted to 1: a thing much smaller
    /// than a cell is still somewhere.
    pub fn heat(&self, side: usize) -> Vec<f32> {
        let fine = match self {
            Self::Mask(cells) | Self::Candidates(cells) => cells.clone(),
            Self::Boxes(columns, rows) => rows.iter().flat_map(|r| columns.iter().map(move |c| r * c)).collect(),
            Self::Empty => Vec::new(),
        };
        let mut heat = pool(&fine, fine.len().isqrt(), side);
        let most = heat.iter().copied().fold(0.0, f32::max);
        if most > 0.0 {
            heat.iter_mut().for_each(|h| *h /= most);
        }
        heat
    }
}

/// Token ids of a request up to `[SEG]`, and the doubt target of every word token.
pub(crate) fn ids(
    tokenizer: &QueryTokenizer,
    max_tokens: usize,
    text: &str,
    hint: Option<&Hint>,
    nonsense: &[(usize, usize)],
) -> Result<Words> {
    let pieces = tokenizer.encode(text)?;
    let words: Vec<u32> = pieces.iter().map(|p| p.0).collect();
    let laid = layout(&words, hint, &special(tokenizer), max_tokens);
    let ids = laid.ids[..laid.used()].iter().map(|&id| id as u32).collect();
    // Doubt is about words. Of "the meaning of life" every word is known: that it asks for nothing is the answer's.
    let unknown = |range: &&(usize, usize)| text.get(range.0..range.1).is_some_and(|word| !word.contains(' '));
    let doubted = |from: &usize, to: &usize| nonsense.iter().filter(unknown).any(|(a, b)| from < b && to > a);
    let doubt = pieces[..words.len() - laid.cut].iter().map(|(_, (from, to))| f32::from(doubted(from, to))).collect();
    Ok((ids, doubt))
}

/// The instances that a question is about.
fn targets(target: &Target) -> &[usize] {
    match target {
        Target::Masks(of) | Target::Boxes(of) | Target::Ambiguous(of) => of,
        Target::Absent | Target::NotUnderstood | Target::Unseeable => &[],
    }
}

/// The question with chatter around its words, now and then.
pub(super) fn chatted(ask: &Ask, rng: &mut ChaCha8Rng) -> Ask {
    if ask.text.is_empty() || !rng.random_bool(CHATTER_SHARE) {
        return ask.clone();
    }
    let (text, nonsense) = expressions::chat(&ask.text, &ask.nonsense, rng);
    Ask { text, nonsense, ..ask.clone() }
}

pub(super) fn shows(target: &Target) -> bool {
    matches!(target, Target::Masks(_) | Target::Boxes(_))
}

/// Whether only comparing things tells a target from others like it.
pub(super) fn singles_out(stratum: Stratum) -> bool {
    matches!(stratum, Stratum::Relation | Stratum::Ordinal | Stratum::Size)
}

/// Whether a question singles out one of several things alike.
pub(super) fn compares(stratum: Stratum) -> bool {
    matches!(stratum, Stratum::Relation | Stratum::Ordinal | Stratum::Size | Stratum::Hint)
}

/// Index of the right answer among `[SEG]`, absent, ambiguous, not understood, unseeable.
pub(crate) fn class(target: &Target) -> usize {
    match target {
        Target::Masks(_) | Target::Boxes(_) => 0,
        Target::Absent => 1,
        Target::Ambiguous(_) => 2,
        Target::NotUnderstood => 3,
        Target::Unseeable => 4,
    }
}

/// The special ids as the drone's token layout takes them.
pub fn special(tokenizer: &QueryTokenizer) -> SpecialIds {
    let special = tokenizer.special();
    SpecialIds {
        pad: special.pad,
        answer: special.answer,
        seg: special.seg,
        point: special.point,
        bounding_box: special.bounding_box,
        first_location: special.first_location,
    }
}
