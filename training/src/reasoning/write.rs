//! From a question to the steps of its chain.

use crate::expressions::meaning::{Expression, evaluate};
use crate::expressions::space::centre;
use crate::sample::Target;

use super::chain::{Step, Verdict};
use super::cues::{Cue, cues};
use super::{Dropped, LISTED, Question, rank};

/// The steps of a question's chain, not yet checked.
///
/// # Errors
/// When chains cannot say it.
pub fn write(question: &Question<'_>) -> Result<Vec<Step>, Dropped> {
    let mut steps: Vec<Step> = question.view.map(|view| Step::View(view.adjective().to_owned())).into_iter().collect();
    let target = &question.ask.target;
    match (question.expression, question.view) {
        _ if *target == Target::NotUnderstood => steps.push(Step::Unknown(question.senseless())),
        (Some(expression), None) => Chain::default().reason(question, expression, &mut steps)?,
        (None, Some(_)) => steps.extend(seen(question)?),
        // On a degraded view a cue may rest on something that is hidden.
        (Some(_), Some(_)) | (None, None) => return Err(Dropped::Meaning),
    }
    Ok(steps)
}

/// What follows from the things that are seen.
type Follows = fn(Vec<usize>) -> Verdict;

/// What is seen of the target from left to right, and what follows.
fn seen(question: &Question<'_>) -> Result<[Step; 2], Dropped> {
    let (things, verdict): (&[usize], Follows) = match &question.ask.target {
        Target::Masks(of) | Target::Boxes(of) => (of, Verdict::These),
        Target::Ambiguous(of) => (of, Verdict::Either),
        Target::Unseeable => (&[], |_| Verdict::Hidden),
        Target::Absent | Target::NotUnderstood => (&[], |_| Verdict::None),
    };
    if things.len() > LISTED {
        return Err(Dropped::Many);
    }
    let mut things = things.to_vec();
    let x = |thing: &usize| centre(&question.facts.things[*thing].edges)[0];
    things.sort_by(|a, b| x(a).total_cmp(&x(b)).then(a.cmp(b)));
    let listed = things.iter().map(|&thing| question.bins(thing)).collect();
    Ok([Step::See(listed), Step::So(verdict((0..things.len()).collect()))])
}

/// What is known while a chain is written.
#[derive(Default)]
struct Chain {
    /// The cues used so far, as an expression.
    said: Expression,
    /// Things by their letters.
    listed: Vec<usize>,
    /// Letters that are left.
    left: Vec<usize>,
}

impl Chain {
    fn reason(
        mut self,
        question: &Question<'_>,
        expression: &Expression,
        steps: &mut Vec<Step>,
    ) -> Result<(), Dropped> {
        let all = cues(expression).ok_or(Dropped::Cues)?;
        steps.push(Step::Cues(all.clone()));
        let (mut used, nothing) = self.list(question, expression, &all, steps)?;
        if let Some(cue) = nothing {
            steps.push(Step::So(Verdict::Not(cue)));
            return Ok(());
        }
        while let Some(cue) = all.get(used).filter(|cue| **cue != Cue::All) {
            if !self.keep(question, expression, cue, steps)? {
                steps.push(Step::So(Verdict::Not(cue.clone())));
                return Ok(());
            }
            used += 1;
        }
        let left = self.left;
        let (whole, verdict) = match &question.ask.target {
            // Of many that fit, two that are listed are enough.
            Target::Ambiguous(_) => (left.len() > 1, Verdict::Either(left)),
            Target::Masks(of) | Target::Boxes(of) => (left.len() == of.len(), Verdict::These(left)),
            Target::Absent | Target::NotUnderstood | Target::Unseeable => return Err(Dropped::Unsure),
        };
        if !whole {
            return Err(Dropped::Many);
        }
        steps.push(Step::So(verdict));
        Ok(())
    }

    /// Counts and lists what the noun means, or the noun and the colour where there are too many. Gives the number of
    /// cues used, and the cue that there is nothing of.
    fn list(
        &mut self,
        question: &Question<'_>,
        expression: &Expression,
        all: &[Cue],
        steps: &mut Vec<Step>,
    ) -> Result<(usize, Option<Cue>), Dropped> {
        let (Some(noun), facts) = (all.first(), question.facts) else { return Err(Dropped::Cues) };
        noun.add(&mut self.said, expression);
        let mut used = 1;
        if *noun == Cue::This {
            // Without a noun only the place pointed at tells what is meant.
            if all.get(1) != Some(&Cue::Here) {
                return Err(Dropped::Cues);
            }
            Cue::Here.add(&mut self.said, expression);
            used = 2;
        }
        let mut found = evaluate(facts, &self.said);
        let mut colour = None;
        if let (true, Some(Cue::Colour(named))) = (found.yes.len() > LISTED, all.get(used)) {
            steps.push(Step::Count { colour, noun: noun.clone(), count: LISTED + 1, listed: Vec::new() });
            colour = Some(*named);
            Cue::Colour(*named).add(&mut self.said, expression);
            used += 1;
            let kind = std::mem::replace(&mut found, evaluate(facts, &self.said)).yes;
            if kind.iter().any(|thing| found.unsure.contains(thing)) {
                return Err(Dropped::Unsure);
            }
        }
        if !countable(question, &self.said) || (found.yes.is_empty() && !found.unsure.is_empty()) {
            return Err(Dropped::Unsure);
        }
        let anchor = evaluate(facts, expression).anchor;
        let key = |thing: &usize| rank::key(facts, expression, anchor, *thing);
        self.listed = found.yes;
        self.listed.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.cmp(b)));
        let count = self.listed.len().min(LISTED + 1);
        self.listed.truncate(LISTED);
        self.left = (0..self.listed.len()).collect();
        let listed = self.listed.iter().map(|&thing| question.bins(thing)).collect();
        steps.push(Step::Count { colour, noun: noun.clone(), count, listed });
        // The last cue used is what there is nothing of.
        Ok((used, all.get(used - 1).filter(|_| count == 0).cloned()))
    }

    /// What a cue keeps; false when that is nothing.
    fn keep(
        &mut self,
        question: &Question<'_>,
        expression: &Expression,
        cue: &Cue,
        steps: &mut Vec<Step>,
    ) -> Result<bool, Dropped> {
        cue.add(&mut self.said, expression);
        let meaning = evaluate(question.facts, &self.said);
        if meaning.undefined || self.left.iter().any(|k| meaning.unsure.contains(&self.listed[*k])) {
            return Err(Dropped::Unsure);
        }
        let was = std::mem::take(&mut self.left);
        self.left = was.iter().copied().filter(|k| meaning.yes.contains(&self.listed[*k])).collect();
        match (self.left.is_empty(), meaning.yes.is_empty(), meaning.unsure.is_empty()) {
            (true, false, _) => return Err(Dropped::Many),
            (true, true, false) => return Err(Dropped::Unsure),
            _ => {}
        }
        let kept = match (cue, &self.left[..]) {
            // Candidates are listed in the order of the comparison.
            (Cue::Ordinal(..), [winner]) => was.iter().copied().take_while(|k| k <= winner).collect(),
            (cue, [_]) if cue.compares() => was.iter().copied().take(2).collect(),
            (_, left) => left.to_vec(),
        };
        let related = matches!(cue, Cue::Related(..));
        let anchor = meaning.anchor.filter(|_| related).map(|thing| question.bins(thing));
        steps.push(Step::Keep { cue: cue.clone(), anchor, kept });
        Ok(!self.left.is_empty())
    }
}

/// Whether one may say how many there are: the labels must know all of them.
fn countable(question: &Question<'_>, said: &Expression) -> bool {
    said.foreign.is_some() || said.hint.is_some() || question.facts.exhaustive(&said.categories)
}
