//! A recorded flight flown again: the same frames, the same questions, in the same order, outcome by outcome.

use std::io::Read;

use image::RgbImage;
use kestrel_link::mask::MAX_SIDE;
use kestrel_link::{Outcome, Query, Refusal, Standing};
use kestrel_perception::{GateHistory, Georeferencer};

use super::compare::{Difference, exact, loose, reasons, refusals, standings};
use super::error::ReplayError;
use super::messages::{Answered, End, History, Model, Seen, as_read};
use super::read::{Item, Look, Records};
use super::survey::Survey;
use crate::bundle::Bundle;
use crate::pipeline::{Look as AtHand, Segmenter, StandingQueries};

/// Most queries of a record that stand at once: as many as a drone may be set to answer.
const MOST_STANDING: usize = 64;

/// How alike outcomes must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Agreement {
    /// Bit for bit, as the same model on the same engine on a processor must be.
    Exact,
    /// Masks by their IoU, refusals by their reason: for another model or another engine.
    Loose {
        /// Least IoU, 0..=1.
        least_iou: f32,
    },
}

/// What is replayed.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// How alike outcomes must be.
    pub agreement: Agreement,
    /// Hex SHA-256 of the manifest of the model that replays. When the agreement is exact, looks of others are left out, and
    /// so are those of this one on another engine than the one that replays.
    pub manifest_hash: &'a str,
    /// What masks were placed with in flight; compared only when the agreement is exact.
    pub georeferencer: Option<Georeferencer>,
}

/// What came of a replay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Frames that were looked at again.
    pub looks: u64,
    /// Queries that were asked again.
    pub outcomes: u64,
    /// Looks and outcomes that differ from what was recorded.
    pub different: u64,
    /// The first of them.
    pub first: Option<Found>,
    /// Looks that are not in the record, by the gaps in their numbers and, where the record has its end, by how many that says
    /// there were.
    pub missing_looks: u64,
    /// Looks that cannot be looked at again, because their picture is damaged.
    pub damaged_looks: u64,
    /// Looks of other models, or of this one on another engine, which were left out.
    pub foreign_looks: u64,
    /// Outcomes of looks that were left out for one of these reasons, and of queries that stand when an answer before
    /// them was: what was kept of them is not known then.
    pub unasked_outcomes: u64,
    /// Outcomes among those that differ of which the cause may be the record alone: the engine sees several tiles in one run,
    /// and an answer before them about the same frame, whose tiles it saw too, was not asked again. It then saw others
    /// together than in flight, which may round otherwise.
    pub regrouped_outcomes: u64,
}

/// A difference and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Number of the frame.
    pub frame: u64,
    /// Id and text of the query; `None` when the gate judged the frame otherwise.
    pub query: Option<(String, String)>,
    /// What differs.
    pub difference: Difference,
}

/// The model of the record that a bundle is; `None` when it is another and the agreement is loose.
///
/// # Errors
/// When there is nothing to replay, or the bundle did not fly and the agreement is exact.
pub fn model_fits<'a>(
    survey: &'a Survey,
    bundle: &Bundle,
    agreement: Agreement,
) -> Result<Option<&'a Model>, ReplayError> {
    if survey.looks == 0 {
        return Err(ReplayError::Nothing { why: survey.damage.clause() });
    }
    let flown = survey.models.iter().find(|flown| flown.model.manifest_hash == bundle.manifest_hash);
    match (flown, agreement) {
        (Some(flown), _) => Ok(Some(&flown.model)),
        (None, Agreement::Loose { .. }) => Ok(None),
        (None, Agreement::Exact) => {
            let recorded: Vec<String> =
                survey.models.iter().map(|flown| named(&flown.model.name, &flown.model.manifest_hash)).collect();
            let recorded = if recorded.is_empty() { "a model that is damaged".into() } else { recorded.join(" or ") };
            Err(ReplayError::OtherModel { recorded, got: named(&bundle.manifest.model(), &bundle.manifest_hash) })
        }
    }
}

fn named(model: &str, hash: &str) -> String {
    let short: String = hash.chars().take(12).collect();
    format!("{model} (manifest {short}…)")
}

/// Whether the engine that is active is the one that flew.
///
/// # Errors
/// When it is another and the agreement is exact.
pub fn engine_fits(model: Option<&Model>, engine: &str, agreement: Agreement) -> Result<(), ReplayError> {
    match (model, agreement) {
        (Some(model), Agreement::Exact) if model.engine != engine => {
            Err(ReplayError::OtherEngine { recorded: model.engine.clone(), got: engine.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Looks at every recorded frame again and asks what was asked; `progress` hears after each look how many there were.
///
/// The segmenter must have been opened with the flight's tiling, tiles and gate.
///
/// # Errors
/// When the record cannot be read any more, or a frame cannot be looked at.
pub fn replay<R: Read>(
    records: &mut Records<R>,
    segmenter: &mut Segmenter,
    terms: &Terms<'_>,
    mut progress: impl FnMut(u64),
) -> Result<Report, ReplayError> {
    let mut tally = Tally::new(terms, segmenter);
    let mut next = records.next().transpose()?;
    while let Some(item) = next {
        next = match item {
            Item::Look(look) => {
                let following = tally.look(&look, records, segmenter, terms)?;
                progress(tally.report.looks);
                following
            }
            Item::Answer(_) => {
                tally.report.unasked_outcomes += 1;
                records.next().transpose()?
            }
            Item::Model(model) => {
                tally.flies = Some(model);
                records.next().transpose()?
            }
            Item::End(end) => {
                tally.end(&end);
                records.next().transpose()?
            }
            // What perception had no part in cannot be perceived again.
            Item::Flight(_) | Item::Refusal(_) | Item::Losses(_) => records.next().transpose()?,
        };
    }
    Ok(tally.report)
}

/// A replay under way.
struct Tally {
    agreement: Agreement,
    georeferencer: Option<Georeferencer>,
    report: Report,
    /// The model that flies at this point of the record, as far as that is known.
    flies: Option<Model>,
    /// Number that the next look should have.
    awaited: u64,
    /// Number and model of the last look that was looked at again.
    last: Option<(u64, String)>,
    /// What is kept of queries that stand.
    standing: StandingQueries,
    /// Whether the engine sees several tiles in one run.
    sees_together: bool,
    /// Order that the next answer about the frame at hand should have.
    order: u32,
    /// Whether an answer about the frame at hand was not asked again.
    has_gap: bool,
}

impl Tally {
    fn new(terms: &Terms<'_>, segmenter: &Segmenter) -> Self {
        let Terms { agreement, georeferencer, .. } = *terms;
        Self {
            agreement,
            georeferencer,
            report: Report::default(),
            flies: None,
            awaited: 0,
            last: None,
            standing: segmenter.standing(MOST_STANDING),
            sees_together: segmenter.views_per_run() > 1,
            order: 0,
            has_gap: false,
        }
    }

    /// Takes in how many looks there were: no number tells of those behind the last that is there.
    fn end(&mut self, end: &End) {
        let looks = end.looks.saturating_add(end.lost_frames);
        let behind = looks.saturating_sub(self.awaited);
        self.report.missing_looks = self.report.missing_looks.saturating_add(behind);
        self.awaited = self.awaited.max(looks);
    }

    /// Looks at one frame again and asks what was asked about it; gives the item behind the last of its answers.
    fn look<R: Read>(
        &mut self,
        look: &Look,
        records: &mut Records<R>,
        segmenter: &mut Segmenter,
        terms: &Terms<'_>,
    ) -> Result<Option<Item>, ReplayError> {
        let seen = &look.seen;
        let missing = seen.look.saturating_sub(self.awaited);
        self.report.missing_looks = self.report.missing_looks.saturating_add(missing);
        self.awaited = seen.look.saturating_add(1);
        if self.agreement == Agreement::Exact && self.is_foreign(seen, segmenter.engine(), terms) {
            self.report.foreign_looks += 1;
            return Ok(records.next().transpose()?);
        }
        let picture = match picture(look) {
            Ok(picture) => picture,
            Err(why) => {
                records.note(format!("look {}: {why}", seen.look));
                self.report.damaged_looks += 1;
                return Ok(records.next().transpose()?);
            }
        };
        self.resume(seen, segmenter);
        (self.order, self.has_gap) = (0, false);
        segmenter.set_most_views(seen.most_views);
        let mut at_hand = segmenter.look(&picture)?;
        self.report.looks += 1;
        let judged = self.judged(seen, &at_hand);
        self.note(seen.frame, None, judged);
        self.answers(seen, records, &mut at_hand)
    }

    /// Whether another model looked at a frame, or this one on another engine: a fallback, say.
    fn is_foreign(&self, seen: &Seen, engine: &str, terms: &Terms<'_>) -> bool {
        let flies = self.flies.as_ref().filter(|model| model.manifest_hash == seen.model_hash);
        seen.model_hash != terms.manifest_hash || flies.is_some_and(|model| model.engine != engine)
    }

    /// Puts the gate where it stood before this look, unless it comes there by itself.
    fn resume(&mut self, seen: &Seen, segmenter: &mut Segmenter) {
        let before = seen.history_before.gate();
        let follows = self
            .last
            .as_ref()
            .is_some_and(|(number, model)| number.checked_add(1) == Some(seen.look) && *model == seen.model_hash);
        // An engine that was opened anew in flight remembers nothing.
        if !follows || before == GateHistory::default() {
            segmenter.set_gate_history(before);
        }
        self.last = Some((seen.look, seen.model_hash.clone()));
    }

    /// Asks what was asked about the frame at hand, as long as the record goes on with that.
    fn answers<R: Read>(
        &mut self,
        seen: &Seen,
        records: &mut Records<R>,
        at_hand: &mut AtHand<'_>,
    ) -> Result<Option<Item>, ReplayError> {
        loop {
            match records.next().transpose()? {
                Some(Item::Answer(answer)) if answer.1.look == seen.look => {
                    let (query, recorded) = *answer;
                    self.answer(seen, &query, &recorded, at_hand);
                }
                // Other threads give them while a frame is looked at.
                Some(Item::Refusal(_) | Item::Losses(_)) => {}
                other => return Ok(other),
            }
        }
    }

    fn answer(&mut self, seen: &Seen, query: &Query, recorded: &Answered, at_hand: &mut AtHand<'_>) {
        self.has_gap |= recorded.order != self.order;
        self.order = recorded.order.saturating_add(1);
        let Some((mut outcome, standing)) = self.asked(seen, query, recorded.turn, at_hand) else {
            self.report.unasked_outcomes += 1;
            self.has_gap = true;
            return;
        };
        if let Some(georeferencer) = &self.georeferencer
            && let Err(error) = georeferencer.annotate(&mut outcome, recorded.posed())
        {
            // The mask was made here a moment ago; that it has no position is then found to differ.
            tracing::error!("query {}: {error}", query.id);
        }
        self.report.outcomes += 1;
        let found = self.compared(&recorded.outcome, &as_read(outcome)).or_else(|| match self.agreement {
            Agreement::Exact => standings(recorded.standing.as_ref(), standing.as_ref()),
            Agreement::Loose { .. } => None,
        });
        let is_regrouped = found.is_some() && self.has_gap && self.sees_together;
        self.report.regrouped_outcomes += u64::from(is_regrouped);
        self.note(seen.frame, Some(query), found);
    }

    /// Asks as it was asked in flight; `None` where what was kept of a query that stands is not known.
    fn asked(
        &mut self,
        seen: &Seen,
        query: &Query,
        turn: u32,
        at_hand: &mut AtHand<'_>,
    ) -> Option<(Outcome, Option<Standing>)> {
        if !query.stands() {
            return Some((at_hand.outcome(query), None));
        }
        let kept = self.standing.at(query, turn)?;
        let answer = at_hand.answer_standing(kept, seen.steady_nanos());
        Some((answer.outcome, answer.standing))
    }

    fn compared(&self, recorded: &Outcome, got: &Outcome) -> Option<Difference> {
        match self.agreement {
            Agreement::Exact => exact(recorded, got),
            Agreement::Loose { least_iou } => loose(recorded, got, least_iou),
        }
    }

    /// How the gate judges the frame at hand, beside how it judged it in flight.
    fn judged(&self, seen: &Seen, at_hand: &AtHand<'_>) -> Option<Difference> {
        let got = at_hand.refusal().cloned().map(through_record);
        let differ: fn(&Refusal, &Refusal) -> Option<Difference> = match self.agreement {
            Agreement::Exact => refusals,
            Agreement::Loose { .. } => |one, two| reasons(&one.verdict, &two.verdict),
        };
        let found = match (&seen.refusal, &got) {
            (None, None) => None,
            (Some(recorded), Some(got)) => differ(recorded, got),
            (recorded, got) => Some(Difference::new("verdict", verdict(recorded.as_ref()), verdict(got.as_ref()))),
        };
        let mut found = found.or_else(|| remembered(&seen.history_after, &at_hand.gate_history().into()))?;
        found.field = format!("gate.{}", found.field);
        Some(found)
    }

    fn note(&mut self, frame: u64, query: Option<&Query>, found: Option<Difference>) {
        let Some(difference) = found else { return };
        self.report.different += 1;
        if self.report.first.is_none() {
            let query = query.map(|query| (query.id.clone(), query.text.clone()));
            self.report.first = Some(Found { frame, query, difference });
        }
    }
}

fn picture(look: &Look) -> Result<RgbImage, String> {
    let Seen { width, height, .. } = look.seen;
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(format!("expected a frame of 1 to {MAX_SIDE} pixels a side, got {width}×{height}"));
    }
    look.picture.as_ref().ok_or_else(|| "its picture is not in the record".to_owned())?.decode(width, height)
}

fn through_record(refusal: Refusal) -> Refusal {
    match as_read(Outcome::Refused(refusal.clone())) {
        Outcome::Refused(read) => read,
        Outcome::Segmented { .. } => refusal,
    }
}

fn verdict(refusal: Option<&Refusal>) -> String {
    refusal.map_or_else(|| "the frame let pass".into(), |refusal| super::drawing::reason(&refusal.verdict))
}

fn remembered(expected: &History, got: &History) -> Option<Difference> {
    let text = |history: &History| {
        format!("{} after {} repeats", history.fingerprint.as_deref().unwrap_or("nothing"), history.repeats)
    };
    (expected != got).then(|| Difference::new("history", text(expected), text(got)))
}
