//! The language of chains: steps, and their words and boxes.
//!
//! ```text
//! chain  := [ "view" word "." ] ( "what is" words | seen | reason )
//! seen   := "see" count ( letter box )* verdict
//! reason := cue ( "," cue )* "." ( [colour] noun count ( letter box )* )+ ( cue [box] kept )* verdict
//! kept   := "none" | letter ( " " letter )*, or for a comparison: letter ( "then" letter )*
//! verdict := "so" ( letter ( "and" letter )* | letter ( "or" letter )+ | "not" cue | "none" | "hidden" )
//! ```
//!
//! A full stop ends every step that does not end with a box or the chain. Candidates are called a to f. Nearly every
//! word is one that requests use, and so a single piece of the tokenizer.

use serde::{Deserialize, Serialize};

use crate::sample::Colour;

use super::LISTED;
use super::cues::Cue;

/// A box as four locations: left, top, right, bottom.
pub type Bins = [u32; 4];

/// A part of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Words.
    Text(String),
    /// A box.
    Box(Bins),
}

/// One statement of a chain. Candidates are numbered from 0 in the order of their listing.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// How the view is degraded.
    View(String),
    /// The words that make no sense.
    Unknown(String),
    /// The cues that were read.
    Cues(Vec<Cue>),
    /// How many there are of a kind, 7 for more than 6, and where those are that are listed.
    Count {
        /// Their colour, where it counts.
        colour: Option<Colour>,
        /// The noun.
        noun: Cue,
        /// How many.
        count: usize,
        /// Where.
        listed: Vec<Bins>,
    },
    /// What is seen of what was asked for, where the words are not taken apart.
    See(Vec<Bins>),
    /// What a cue keeps of the candidates; for one that compares, the first ones in their order.
    Keep {
        /// The cue.
        cue: Cue,
        /// The box of what it relates them to.
        anchor: Option<Bins>,
        /// Candidates.
        kept: Vec<usize>,
    },
    /// What follows.
    So(Verdict),
}

/// The last step.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// These are meant.
    These(Vec<usize>),
    /// These fit equally well.
    Either(Vec<usize>),
    /// Nothing is there because of this cue.
    Not(Cue),
    /// Nothing is there.
    None,
    /// The view hides it.
    Hidden,
}

const LETTERS: [&str; LISTED] = ["a", "b", "c", "d", "e", "f"];
const COUNTS: [&str; LISTED + 2] = ["none", "one", "two", "three", "four", "five", "six", "many"];
const NONE: &str = COUNTS[0];

/// Steps as words and boxes.
pub fn spell(steps: &[Step]) -> Vec<Piece> {
    let mut speller = Speller::default();
    for (at, step) in steps.iter().enumerate() {
        speller.step(step);
        let last = at + 1 == steps.len();
        if !last && let Some(Piece::Text(text)) = speller.pieces.last_mut() {
            text.push('.');
        }
    }
    speller.pieces
}

#[derive(Default)]
struct Speller {
    pieces: Vec<Piece>,
}

impl Speller {
    fn words(&mut self, words: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => {
                text.push(' ');
                text.push_str(words);
            }
            _ => self.pieces.push(Piece::Text(words.to_owned())),
        }
    }

    fn listed(&mut self, boxes: &[Bins]) {
        for (bins, letter) in boxes.iter().zip(LETTERS) {
            self.words(letter);
            self.pieces.push(Piece::Box(*bins));
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::View(word) => self.words(&format!("view {word}")),
            Step::Unknown(words) => self.words(&format!("what is {words}")),
            Step::Cues(cues) => self.words(&cues.iter().map(Cue::phrase).collect::<Vec<_>>().join(", ")),
            Step::Count { colour, noun, count, listed } => {
                if let Some(colour) = colour {
                    self.words(&Cue::Colour(*colour).phrase());
                }
                self.words(&noun.phrase());
                self.words(COUNTS[(*count).min(LISTED + 1)]);
                self.listed(listed);
            }
            Step::See(listed) => {
                self.words(&format!("see {}", COUNTS[listed.len().min(LISTED + 1)]));
                self.listed(listed);
            }
            Step::Keep { cue, anchor, kept } => {
                self.words(&cue.phrase());
                self.pieces.extend(anchor.map(Piece::Box));
                match kept[..] {
                    [] => self.words(NONE),
                    _ => self.words(&letters(kept, if cue.compares() { " then " } else { " " })),
                }
            }
            Step::So(verdict) => {
                let words = match verdict {
                    Verdict::These(these) => letters(these, " and "),
                    Verdict::Either(these) => letters(these, " or "),
                    Verdict::Not(cue) => format!("not {}", cue.phrase()),
                    Verdict::None => NONE.to_owned(),
                    Verdict::Hidden => "hidden".to_owned(),
                };
                self.words(&format!("so {words}"));
            }
        }
    }
}

fn letters(of: &[usize], between: &str) -> String {
    of.iter().map(|k| LETTERS.get(*k).copied().unwrap_or("?")).collect::<Vec<_>>().join(between)
}

/// A word, a comma, a full stop or a box.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    Word(String),
    Comma,
    Stop,
    Box(Bins),
}

fn marks(pieces: &[Piece]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Box(bins) => marks.push(Mark::Box(*bins)),
            Piece::Text(text) => {
                for word in text.split_whitespace() {
                    let bare = word.trim_end_matches([',', '.']);
                    if !bare.is_empty() {
                        marks.push(Mark::Word(bare.to_owned()));
                    }
                    let ends = word[bare.len()..].chars();
                    marks.extend(ends.map(|end| if end == ',' { Mark::Comma } else { Mark::Stop }));
                }
            }
        }
    }
    marks
}

/// Words and boxes that are no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reading a chain: expected {expected} at mark {at}")]
pub struct SyntaxError {
    /// Words, signs and boxes before it.
    at: usize,
    /// What may stand there.
    expected: &'static str,
}

/// The steps that words and boxes say.
///
/// # Errors
/// Where they are no chain.
pub fn read(pieces: &[Piece]) -> Result<Vec<Step>, SyntaxError> {
    let mut reader = Reader { marks: marks(pieces), at: 0 };
    let mut steps = Vec::new();
    if reader.take_word("view") {
        let word = reader.any_word("a word for the view")?;
        reader.end(&mut steps, Step::View(word))?;
    }
    if reader.take_word("what") {
        reader.word("is")?;
        let words = reader.words_until(|_| false);
        reader.end(&mut steps, Step::Unknown(words))?;
        return reader.finished(steps);
    }
    if reader.take_word("see") {
        let count = reader.count()?;
        let listed = reader.listed()?;
        if count != listed.len() {
            return reader.refuse("as many boxes as are seen");
        }
        reader.end(&mut steps, Step::See(listed))?;
    } else {
        let mut cues = Vec::new();
        loop {
            cues.push(reader.cue(|_| false)?);
            if !reader.take(&Mark::Comma) {
                break;
            }
        }
        reader.end(&mut steps, Step::Cues(cues))?;
    }
    while !reader.take_word("so") {
        let step = reader.reason()?;
        reader.end(&mut steps, step)?;
    }
    let verdict = reader.verdict()?;
    steps.push(Step::So(verdict));
    reader.finished(steps)
}

struct Reader {
    marks: Vec<Mark>,
    at: usize,
}

impl Reader {
    fn refuse<T>(&self, expected: &'static str) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: self.at, expected })
    }

    fn take(&mut self, mark: &Mark) -> bool {
        let found = self.marks.get(self.at) == Some(mark);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<&str> {
        match self.marks.get(self.at) {
            Some(Mark::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn take_box(&mut self) -> Option<Bins> {
        match self.marks.get(self.at) {
            Some(&Mark::Box(bins)) => {
                self.at += 1;
                Some(bins)
            }
            _ => None,
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        if self.take_word(word) { Ok(()) } else { self.refuse(word) }
    }

    fn any_word(&mut self, expected: &'static str) -> Result<String, SyntaxError> {
        let Some(word) = self.peek().map(str::to_owned) else { return self.refuse(expected) };
        self.at += 1;
        Ok(word)
    }

    fn words_until(&mut self, end: impl Fn(&str) -> bool) -> String {
        let mut words = Vec::new();
        while let Some(word) = self.peek().filter(|word| !end(word)) {
            words.push(word.to_owned());
            self.at += 1;
        }
        words.join(" ")
    }

    /// Adds a step. A full stop must follow it, but for one that ends with a box and for the last.
    fn end(&mut self, steps: &mut Vec<Step>, step: Step) -> Result<(), SyntaxError> {
        steps.push(step);
        let boxed = self.at > 0 && matches!(self.marks[self.at - 1], Mark::Box(_));
        let last = self.at == self.marks.len();
        if boxed || last || self.take(&Mark::Stop) { Ok(()) } else { self.refuse("a full stop") }
    }

    fn finished(&self, steps: Vec<Step>) -> Result<Vec<Step>, SyntaxError> {
        if self.at == self.marks.len() { Ok(steps) } else { self.refuse("the end") }
    }

    fn count(&mut self) -> Result<usize, SyntaxError> {
        let count = self.peek().and_then(|word| COUNTS.iter().position(|c| *c == word));
        self.at += usize::from(count.is_some());
        count.map_or_else(|| self.refuse("a count"), Ok)
    }

    fn letter(&mut self) -> Result<usize, SyntaxError> {
        let letter = self.peek().and_then(|word| LETTERS.iter().position(|l| *l == word));
        self.at += usize::from(letter.is_some());
        letter.map_or_else(|| self.refuse("a letter"), Ok)
    }

    /// Letters with their boxes, from a on.
    fn listed(&mut self) -> Result<Vec<Bins>, SyntaxError> {
        let mut listed = Vec::new();
        while let Some(letter) = LETTERS.get(listed.len()).filter(|letter| self.peek() == Some(*letter)) {
            self.take_word(letter);
            match self.take_box() {
                Some(bins) => listed.push(bins),
                None => return self.refuse("a box"),
            }
        }
        Ok(listed)
    }

    fn cue(&mut self, end: impl Fn(&str) -> bool) -> Result<Cue, SyntaxError> {
        let phrase = self.words_until(end);
        Cue::read(&phrase).map_or_else(|| self.refuse("a cue"), Ok)
    }

    /// A count of things or what a cue keeps of them.
    fn reason(&mut self) -> Result<Step, SyntaxError> {
        let from = self.at;
        let phrase = self.words_until(|word| COUNTS.contains(&word) || LETTERS.contains(&word));
        if let Some((colour, noun)) = Cue::read_noun(&phrase) {
            let count = self.count()?;
            return Ok(Step::Count { colour, noun, count, listed: self.listed()? });
        }
        self.at = from;
        let cue = self.cue(|word| word == NONE || LETTERS.contains(&word))?;
        let anchor = self.take_box();
        if self.take_word(NONE) {
            return Ok(Step::Keep { cue, anchor, kept: Vec::new() });
        }
        let mut kept = vec![self.letter()?];
        while if cue.compares() { self.take_word("then") } else { self.peek().is_some() } {
            kept.push(self.letter()?);
        }
        Ok(Step::Keep { cue, anchor, kept })
    }

    fn verdict(&mut self) -> Result<Verdict, SyntaxError> {
        if self.take_word("not") {
            return Ok(Verdict::Not(self.cue(|_| false)?));
        }
        if self.take_word(NONE) {
            return Ok(Verdict::None);
        }
        if self.take_word("hidden") {
            return Ok(Verdict::Hidden);
        }
        let mut these = vec![self.letter()?];
        let (both, between) = if self.peek() == Some("or") { (false, "or") } else { (true, "and") };
        while self.take_word(between) {
            these.push(self.letter()?);
        }
        Ok(if both { Verdict::These(these) } else { Verdict::Either(these) })
    }
}
