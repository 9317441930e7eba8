//! Whether what a chain says is so: every statement is held against the annotation, and at the precision of its boxes.

use std::collections::HashMap;

use crate::expressions::meaning::{Expression, Facts, Meaning, evaluate};
use crate::sample::Target;

use super::chain::{Bins, Step, Verdict};
use super::cues::{Cue, cues};
use super::{LISTED, Question, rank};
use kestrel_perception::answer::edges;

/// The first statement that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verifying a chain: expected {expected} at step {step}")]
pub struct Fault {
    /// Steps before it.
    pub step: usize,
    /// What would hold.
    pub expected: &'static str,
}

impl Fault {
    /// The words are no chain at all.
    pub(super) const SYNTAX: Self = Self { step: 0, expected: "a chain" };
}

/// Checks a chain and gives the instances that it concludes on, in its order; none where it refuses.
///
/// Counts, boxes, sides, orders and what each cue leaves must be certain by the labels, and must not be contradicted by
/// the boxes as their locations tell them: what stays may not certainly fail, and what goes may not certainly fit. The
/// cues must be those of the question, and the conclusion its answer.
///
/// # Errors
/// The first step that does not hold.
pub fn verify(steps: &[Step], question: &Question<'_>) -> Result<Vec<usize>, Fault> {
    let mut check = Check::new(question);
    for (at, step) in steps.iter().enumerate() {
        check.step = at;
        check.take(step)?;
    }
    match check.expects {
        Expects::Nothing => Ok(check.concluded),
        _ => check.refuse("a conclusion"),
    }
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    View,
    Opening,
    /// A count of what the noun means.
    Count,
    /// A count of the coloured ones: there are too many to list.
    Coloured,
    Cue,
    /// Nothing is left: "so not …".
    Refusal,
    /// What was seen without cues: "so …".
    Sight,
    Nothing,
}

struct Check<'a> {
    question: &'a Question<'a>,
    /// The labels with every box as its locations tell it.
    coarse: Facts<'a>,
    /// The question's cues.
    cues: Vec<Cue>,
    step: usize,
    expects: Expects,
    /// Cues used, and the expression that they make.
    used: usize,
    said: Expression,
    /// Things by their letters, and the letters that are left.
    listed: Vec<usize>,
    left: Vec<usize>,
    concluded: Vec<usize>,
}

impl<'a> Check<'a> {
    fn new(question: &'a Question<'a>) -> Self {
        let mut coarse = question.facts.clone();
        for (at, thing) in coarse.things.iter_mut().enumerate() {
            thing.edges = edges(question.bins(at)).map(|v| v * coarse.side);
            let [x0, y0, x1, y1] = thing.edges;
            // What another frame shows stays without area.
            thing.area = if thing.area > 0.0 { (x1 - x0) * (y1 - y0) } else { 0.0 };
        }
        Self {
            question,
            coarse,
            cues: question.expression.and_then(cues).unwrap_or_default(),
            step: 0,
            expects: if question.view.is_some() { Expects::View } else { Expects::Opening },
            used: 0,
            said: Expression::default(),
            listed: Vec::new(),
            left: Vec::new(),
            concluded: Vec::new(),
        }
    }

    fn refuse<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault { step: self.step, expected })
    }

    fn hold(&self, so: bool, expected: &'static str) -> Result<(), Fault> {
        if so { Ok(()) } else { self.refuse(expected) }
    }

    fn take(&mut self, step: &Step) -> Result<(), Fault> {
        let senseless = self.question.ask.target == Target::NotUnderstood;
        match (self.expects, step) {
            (Expects::View, Step::View(word)) => {
                self.hold(self.question.view.is_some_and(|view| view.adjective() == word), "how the view is")?;
                self.expects = Expects::Opening;
            }
            (Expects::Opening, Step::Unknown(words)) => {
                self.hold(senseless && *words == self.question.senseless(), "the words without sense")?;
                self.expects = Expects::Nothing;
            }
            (Expects::Opening, Step::See(boxes)) => {
                let known = self.question.expression.is_none() && self.question.view.is_some() && !senseless;
                self.hold(known, "the cues of the question")?;
                self.see(boxes)?;
            }
            (Expects::Opening, Step::Cues(cues)) => {
                let clear = self.question.view.is_none() && !senseless;
                self.hold(clear && !cues.is_empty() && *cues == self.cues, "the cues of the question")?;
                self.expects = Expects::Count;
            }
            (Expects::Count | Expects::Coloured, Step::Count { .. }) => self.count(step)?,
            (Expects::Cue, Step::Keep { cue, anchor, kept }) => self.keep(cue, *anchor, kept)?,
            (Expects::Cue | Expects::Refusal | Expects::Sight, Step::So(verdict)) => self.conclude(verdict)?,
            _ => return self.refuse("another kind of statement"),
        }
        Ok(())
    }

    /// The things of the boxes, each of them one of `among` and of no other's box.
    fn owners(&self, boxes: &[Bins], among: &[usize]) -> Result<Vec<usize>, Fault> {
        let mut owners: HashMap<Bins, Vec<usize>> = HashMap::new();
        for &thing in among {
            owners.entry(self.question.bins(thing)).or_default().push(thing);
        }
        let mut found = Vec::with_capacity(boxes.len());
        for bins in boxes {
            match owners.remove(bins).as_deref() {
                Some([one]) => found.push(*one),
                Some(_) => return self.refuse("boxes that tell things apart"),
                None => return self.refuse("boxes of different things of that kind"),
            }
        }
        Ok(found)
    }

    fn see(&mut self, boxes: &[Bins]) -> Result<(), Fault> {
        let things: &[usize] = match &self.question.ask.target {
            Target::Masks(of) | Target::Boxes(of) | Target::Ambiguous(of) => of,
            Target::Absent | Target::NotUnderstood | Target::Unseeable => &[],
        };
        self.hold(boxes.len() == things.len(), "as many as there are")?;
        self.listed = self.owners(boxes, things)?;
        self.left = (0..boxes.len()).collect();
        self.expects = Expects::Sight;
        Ok(())
    }

    fn count(&mut self, step: &Step) -> Result<(), Fault> {
        let Step::Count { colour, noun, count, listed } = step else { return self.refuse("a count") };
        let Some(whole) = self.question.expression else { return self.refuse("a question with a meaning") };
        let facts = self.question.facts;
        self.hold(self.cues.first() == Some(noun), "the noun of the question")?;
        if self.expects == Expects::Count {
            noun.add(&mut self.said, whole);
            self.used = 1;
            if *noun == Cue::This {
                self.hold(self.cues.get(1) == Some(&Cue::Here), "a place pointed at")?;
                Cue::Here.add(&mut self.said, whole);
                self.used = 2;
            }
        }
        let before = evaluate(facts, &self.said).yes;
        match (self.expects, colour, self.cues.get(self.used)) {
            (Expects::Coloured, Some(colour), Some(Cue::Colour(asked))) => {
                self.hold(colour == asked, "the colour of the question")?;
                Cue::Colour(*colour).add(&mut self.said, whole);
                self.used += 1;
            }
            (Expects::Count, None, _) => {}
            _ => return self.refuse("a colour where there are too many without it, and only there"),
        }
        let found = evaluate(facts, &self.said);
        self.hold(before.iter().all(|thing| !found.unsure.contains(thing)), "colours that are sure")?;
        let all = self.said.foreign.is_some() || self.said.hint.is_some() || facts.exhaustive(&self.said.categories);
        self.hold(all, "a kind of which all are labelled")?;
        self.hold(*count == found.yes.len().min(LISTED + 1), "the right count")?;
        let more = *count > LISTED && colour.is_none() && matches!(self.cues.get(self.used), Some(Cue::Colour(_)));
        let expected = if more { 0 } else { (*count).min(LISTED) };
        self.hold(listed.len() == expected, "as many boxes as are to be listed")?;
        self.listed = self.owners(listed, &found.yes)?;
        self.left = (0..listed.len()).collect();
        self.expects = match (more, *count) {
            (true, _) => Expects::Coloured,
            (false, 0) => {
                self.hold(found.unsure.is_empty(), "that certainly none is there")?;
                // The cue that there is nothing of is the last one used.
                Expects::Refusal
            }
            (false, _) => {
                self.in_order(whole, &found.yes)?;
                Expects::Cue
            }
        };
        Ok(())
    }

    /// Whether candidates are listed first ones first, and those that are not listed come behind them.
    fn in_order(&self, whole: &Expression, all: &[usize]) -> Result<(), Fault> {
        let facts = self.question.facts;
        let anchor = evaluate(facts, whole).anchor;
        let key = |thing: &usize| rank::key(facts, whole, anchor, *thing);
        let keys: Vec<f32> = self.listed.iter().map(key).collect();
        let last = keys.last().copied().unwrap_or_default();
        let behind = all.iter().filter(|thing| !self.listed.contains(thing)).all(|thing| key(thing) >= last);
        self.hold(keys.is_sorted() && behind, "the first candidates first")
    }

    fn keep(&mut self, cue: &Cue, anchor: Option<Bins>, kept: &[usize]) -> Result<(), Fault> {
        let Some(whole) = self.question.expression else { return self.refuse("a question with a meaning") };
        self.hold(self.cues.get(self.used) == Some(cue) && *cue != Cue::All, "the next cue of the question")?;
        cue.add(&mut self.said, whole);
        self.used += 1;
        let meaning = evaluate(self.question.facts, &self.said);
        self.hold(!meaning.undefined, "something that is told clearly")?;
        let related = matches!(cue, Cue::Related(..));
        let place = meaning.anchor.filter(|_| related).map(|thing| self.question.bins(thing));
        self.hold(anchor == place, "the box of what the target is related to")?;
        if cue.compares() {
            return self.compare(cue, kept, whole, &meaning);
        }
        self.hold(kept.is_sorted_by(|a, b| a < b), "candidates in their order, once each")?;
        self.hold(kept.iter().all(|k| self.left.contains(k)), "candidates that were left")?;
        let coarse = self.coarse_meaning(cue, whole);
        for k in &self.left {
            let thing = &self.listed[*k];
            let stays = meaning.yes.contains(thing);
            let sure = stays || !meaning.unsure.contains(thing);
            self.hold(sure && stays == kept.contains(k), "exactly the candidates that fit")?;
            let fits = coarse.yes.contains(thing) || (stays && coarse.unsure.contains(thing));
            self.hold(stays == fits, "boxes that show that they fit")?;
        }
        if kept.is_empty() {
            self.hold(meaning.yes.is_empty() && meaning.unsure.is_empty(), "that certainly none is left")?;
            self.expects = Expects::Refusal;
        }
        self.left = kept.to_vec();
        Ok(())
    }

    /// What one cue alone keeps of the noun's things, by their boxes' locations.
    fn coarse_meaning(&self, cue: &Cue, whole: &Expression) -> Meaning {
        let Expression { categories, foreign, .. } = &self.said;
        let mut alone = Expression { categories: categories.clone(), foreign: *foreign, ..Expression::default() };
        cue.add(&mut alone, whole);
        evaluate(&self.coarse, &alone)
    }

    /// A comparison: the winner, and the order that shows it.
    fn compare(&mut self, cue: &Cue, order: &[usize], whole: &Expression, meaning: &Meaning) -> Result<(), Fault> {
        let (expected, winner) = match cue {
            Cue::Ordinal(number, _) => (*number, order.last()),
            _ => (self.left.len().min(2), order.first()),
        };
        let winner = winner.copied();
        let things: Vec<usize> = order.iter().filter_map(|k| self.listed.get(*k).copied()).collect();
        let left = order.iter().all(|k| self.left.contains(k)) && things.len() == order.len();
        self.hold(left && order.len() == expected, "as many candidates as are compared")?;
        let won = winner.and_then(|k| self.listed.get(k)).is_some_and(|thing| meaning.yes == [*thing]);
        self.hold(won, "the candidate that comes out")?;
        let keys = |facts: &Facts<'_>| -> Vec<f32> {
            things.iter().map(|thing| rank::key(facts, whole, meaning.anchor, *thing)).collect()
        };
        let (exact, coarse) = (keys(self.question.facts), keys(&self.coarse));
        let last = exact.last().copied().unwrap_or_default();
        let rest = self.left.iter().filter(|k| !order.contains(k)).filter_map(|k| self.listed.get(*k));
        let behind = rest.map(|thing| rank::key(self.question.facts, whole, meaning.anchor, *thing));
        let ordered = exact.is_sorted_by(|a, b| a < b) && behind.into_iter().all(|key| key > last);
        self.hold(ordered, "the first candidates in their order")?;
        self.hold(coarse.is_sorted(), "boxes that show the order")?;
        self.left = winner.into_iter().collect();
        Ok(())
    }

    fn conclude(&mut self, verdict: &Verdict) -> Result<(), Fault> {
        let finished = self.cues.get(self.used).is_none_or(|cue| *cue == Cue::All);
        let last = self.used.checked_sub(1).and_then(|at| self.cues.get(at));
        let sees = self.expects == Expects::Sight;
        let same = |letters: &[usize], target: &[usize]| {
            let mut things: Vec<usize> = letters.iter().filter_map(|k| self.listed.get(*k).copied()).collect();
            things.sort_unstable();
            let mut target = target.to_vec();
            target.sort_unstable();
            *letters == self.left && things == target
        };
        let holds = match (verdict, &self.question.ask.target) {
            (Verdict::These(letters), Target::Masks(of) | Target::Boxes(of)) => {
                self.expects != Expects::Refusal && (finished || sees) && same(letters, of)
            }
            (Verdict::Either(letters), Target::Ambiguous(of)) => {
                // Of many that fit, those that are listed are named.
                let open = *letters == self.left && letters.len() > 1;
                let among = letters.iter().all(|k| self.listed.get(*k).is_some_and(|thing| of.contains(thing)));
                self.expects != Expects::Refusal && (finished || sees) && open && among
            }
            // Of nothing at the place pointed at, the place is the reason.
            (Verdict::Not(cue), Target::Absent) => self.expects == Expects::Refusal && last == Some(cue),
            (Verdict::None, Target::Absent) | (Verdict::Hidden, Target::Unseeable) => sees,
            _ => false,
        };
        self.hold(holds, "the answer that follows and is right")?;
        if let Verdict::These(letters) = verdict {
            self.concluded = letters.iter().filter_map(|k| self.listed.get(*k).copied()).collect();
        }
        self.expects = Expects::Nothing;
        Ok(())
    }
}
