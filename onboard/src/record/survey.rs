//! What a record holds, without its pictures.

use std::io::Read;

use super::error::ReadError;
use super::messages::{End, Flight, Losses, Model};
use super::read::{Damage, Item, Records};

/// Models of one flight that are told apart.
const MOST_MODELS: usize = 64;

/// A model with what it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flown {
    /// The model.
    pub model: Model,
    /// How often it looked at a frame.
    pub looks: u64,
}

/// What a record holds.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Which flight it is.
    pub flight: Flight,
    /// The models that flew, in their order.
    pub models: Vec<Flown>,
    /// Frames that were looked at.
    pub looks: u64,
    /// Outcomes of perception.
    pub outcomes: u64,
    /// Those of them that nobody was told, because a refusal had been given in their place.
    pub untold: u64,
    /// Refusals in which perception had no part.
    pub refusals: u64,
    /// Those of them that were given instead of an outcome that counts already.
    pub instead: u64,
    /// What the recorder left out.
    pub losses: Losses,
    /// The end; `None` when the recording was cut off.
    pub end: Option<End>,
    /// What cannot be read.
    pub damage: Damage,
}

impl Survey {
    /// Outcomes that the drone gave and that are in the record: each is there once.
    #[must_use]
    pub fn given(&self) -> u64 {
        (self.outcomes - self.untold).saturating_add(self.refusals - self.instead)
    }
}

/// Reads a record through, without its pictures.
///
/// # Errors
/// When the source cannot be read or is no recorded flight.
pub fn survey<R: Read>(source: R) -> Result<Survey, ReadError> {
    let mut records = Records::open(source, false)?;
    let mut flight = None;
    let mut models: Vec<Flown> = Vec::new();
    let (mut looks, mut outcomes, mut untold, mut refusals, mut instead) = (0, 0, 0, 0, 0);
    let (mut losses, mut end) = (Losses::default(), None);
    while let Some(item) = records.next().transpose()? {
        match item {
            Item::Flight(told) => flight = Some(*told),
            Item::Model(model) => {
                let known = models.iter().any(|flown| flown.model.manifest_hash == model.manifest_hash);
                if !known && models.len() < MOST_MODELS {
                    models.push(Flown { model, looks: 0 });
                }
            }
            Item::Look(look) => {
                looks += 1;
                let by = models.iter_mut().find(|flown| flown.model.manifest_hash == look.seen.model_hash);
                if let Some(flown) = by {
                    flown.looks += 1;
                }
            }
            Item::Answer(answer) => {
                outcomes += 1;
                untold += u64::from(answer.1.untold);
            }
            Item::Refusal(unperceived) => {
                refusals += 1;
                instead += u64::from(unperceived.instead);
            }
            Item::Losses(told) => losses = told,
            Item::End(told) => {
                // Those that were told before may be damaged.
                losses.frames = losses.frames.max(told.lost_frames);
                losses.outcomes = losses.outcomes.max(told.lost_outcomes);
                end = Some(told);
            }
        }
    }
    let damage = records.damage().clone();
    let flight = flight.ok_or_else(|| ReadError::NoFlight { why: damage.clause() })?;
    Ok(Survey { flight, models, looks, outcomes, untold, refusals, instead, losses, end, damage })
}
