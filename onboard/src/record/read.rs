//! A recorded flight read back, whatever became of its bytes: what is whole is given, the rest is told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use kestrel_link::Query;
use mcap::records::op;
use serde::Deserialize;

use super::error::ReadError;
use super::framing::{Bytes, Framing, Piece, chunk};
use super::messages::{Answered, Asked, End, Flight, Losses, Model, Seen, Unperceived, from_pairs};
use super::picture::Picture;
use super::topics::{END, FLIGHT, MODEL, Topic};

/// What a record gives, in the order in which it happened.
#[derive(Debug, Clone)]
pub enum Item {
    /// Which flight it is.
    Flight(Box<Flight>),
    /// A model flies from here on.
    Model(Model),
    /// A frame was looked at.
    Look(Box<Look>),
    /// A query was answered.
    Answer(Box<(Query, Answered)>),
    /// A query was refused, and perception had no part in that.
    Refusal(Box<Unperceived>),
    /// Some things are not in the record.
    Losses(Losses),
    /// The record ends here.
    End(End),
}

/// A look with its picture.
#[derive(Debug, Clone)]
pub struct Look {
    /// What was seen.
    pub seen: Seen,
    /// The picture; `None` when it is damaged, or pictures were not asked for.
    pub picture: Option<Picture>,
}

/// What of a record cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// The first damage, with the byte at which it begins.
    pub first: Option<String>,
    /// How much there is.
    pub count: u64,
}

impl Damage {
    fn note(&mut self, at: u64, why: impl fmt::Display) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("byte {at}: {why}"));
        }
    }

    /// The first damage as the end of a sentence; empty when there is none.
    #[must_use]
    pub fn clause(&self) -> String {
        self.first.as_ref().map(|first| format!(" ({first})")).unwrap_or_default()
    }
}

/// The items of a record, one after the other. Damage is noted and passed over; only a source that fails is an error.
pub struct Records<R> {
    framing: Framing<R>,
    pictures: bool,
    body: Vec<u8>,
    /// Records of the chunk at hand, and where the next of them begins.
    chunk: Vec<u8>,
    next: usize,
    /// Byte of the file at which the record at hand, or its chunk, begins.
    at: u64,
    topics: BTreeMap<u16, Topic>,
    /// The last picture, with the number that its look must have.
    picture: Option<(u32, Picture)>,
    /// The last query, until its outcome comes.
    asked: Option<Asked>,
    damage: Damage,
    done: bool,
}

impl<R: Read> Records<R> {
    /// Begins to read; without `pictures` looks come without theirs, which is faster.
    ///
    /// # Errors
    /// When the source cannot be read or is no MCAP file.
    pub fn open(source: R, pictures: bool) -> Result<Self, ReadError> {
        let framing = Framing::open(source)?.ok_or(ReadError::NotMcap)?;
        Ok(Self {
            framing,
            pictures,
            body: Vec::new(),
            chunk: Vec::new(),
            next: 0,
            at: 0,
            topics: BTreeMap::new(),
            picture: None,
            asked: None,
            damage: Damage::default(),
            done: false,
        })
    }

    /// What could not be read so far.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Notes what somebody else found to be damaged.
    pub(super) fn note(&mut self, why: impl fmt::Display) {
        self.damage.note(self.at, why);
    }

    /// The next item of the chunk at hand; `None` at its end.
    fn take_chunked(&mut self) -> Option<Item> {
        // Lent out, so that the rest of `self` can be changed beside it.
        let chunk = std::mem::take(&mut self.chunk);
        let mut found = None;
        while found.is_none() && self.next < chunk.len() {
            let mut bytes = Bytes(&chunk[self.next..]);
            let (Some(opcode), Some(body)) = (bytes.u8(), bytes.counted()) else {
                self.note("a chunk ends within a record");
                self.next = chunk.len();
                break;
            };
            self.next = chunk.len() - bytes.0.len();
            found = self.record(opcode, body).unwrap_or_else(|why| {
                self.note(why);
                None
            });
        }
        self.chunk = chunk;
        found
    }

    /// Reads on in the file; `None` when nothing of what it found is an item.
    fn read_on(&mut self) -> Result<Option<Item>, ReadError> {
        let mut body = std::mem::take(&mut self.body);
        let piece = self.framing.next(&mut body)?;
        let found = match piece {
            Piece::Record { opcode: op::CHUNK, at } => {
                self.at = at;
                self.next = 0;
                self.chunk.clear();
                match chunk(&body) {
                    Ok(records) => self.chunk.extend_from_slice(records),
                    Err(why) => self.note(why),
                }
                None
            }
            Piece::Record { opcode: op::DATA_END, at } => {
                self.at = at;
                self.done = true;
                let got = self.framing.checksum();
                match <[u8; 4]>::try_from(body.as_slice()).map(u32::from_le_bytes) {
                    Ok(saved) if saved == 0 || saved == got => {}
                    Ok(saved) => self.note(format!("expected a file with the checksum {saved:08x}, got {got:08x}")),
                    Err(_) => self.note("the end of the data is not one"),
                }
                None
            }
            Piece::Record { opcode, at } => {
                self.at = at;
                self.record(opcode, &body).unwrap_or_else(|why| {
                    self.note(why);
                    None
                })
            }
            Piece::End => {
                self.done = true;
                self.damage
                    .note(self.at, "behind this record the file ends without saying so: the recording was cut off");
                None
            }
            Piece::Cut { at, why } => {
                self.done = true;
                self.damage.note(at, why);
                None
            }
        };
        self.body = body;
        Ok(found)
    }

    fn record(&mut self, opcode: u8, body: &[u8]) -> Result<Option<Item>, String> {
        let mut bytes = Bytes(body);
        match opcode {
            op::CHANNEL => {
                let short = || "a channel ends too early".to_owned();
                let id = bytes.u16().ok_or_else(short)?;
                bytes.u16().ok_or_else(short)?;
                let name = bytes.text().ok_or_else(short)?;
                // Others may add channels of their own.
                if let Some(topic) = Topic::named(name) {
                    self.topics.insert(id, topic);
                }
                Ok(None)
            }
            op::MESSAGE => {
                let short = || "a message ends too early".to_owned();
                let id = bytes.u16().ok_or_else(short)?;
                let sequence = bytes.u32().ok_or_else(short)?;
                // When it was written and when it happened.
                bytes.take(16).ok_or_else(short)?;
                match self.topics.get(&id) {
                    Some(&topic) => self.message(topic, sequence, bytes.0),
                    None => Ok(None),
                }
            }
            op::METADATA => {
                let short = || "metadata ends too early".to_owned();
                let name = bytes.text().ok_or_else(short)?;
                let pairs = bytes.pairs().ok_or_else(short)?;
                let wrong = |error: serde_json::Error| format!("metadata {name}: {}", shortened(&error));
                Ok(match name {
                    FLIGHT => Some(Item::Flight(from_pairs(&pairs).map_err(wrong)?)),
                    MODEL => Some(Item::Model(from_pairs(&pairs).map_err(wrong)?)),
                    END => Some(Item::End(from_pairs(&pairs).map_err(wrong)?)),
                    _ => None,
                })
            }
            // Schemas, indices and what others added.
            _ => Ok(None),
        }
    }

    fn message(&mut self, topic: Topic, sequence: u32, data: &[u8]) -> Result<Option<Item>, String> {
        Ok(match topic {
            Topic::Camera => {
                self.picture = None;
                if self.pictures {
                    self.picture = Some((sequence, Picture::parse(data)?));
                }
                None
            }
            Topic::Drawings => None,
            Topic::Looks => {
                let seen: Seen = parse(data)?;
                let last = self.picture.as_ref().filter(|(number, _)| *number == seen.frame as u32);
                let picture = last.map(|(_, picture)| picture.clone());
                Some(Item::Look(Box::new(Look { seen, picture })))
            }
            Topic::Queries => {
                self.asked = Some(parse(data)?);
                None
            }
            Topic::Outcomes => {
                let answered: Answered = parse(data)?;
                let asked = self.asked.take();
                let Some(asked) = asked.filter(|asked| (asked.look, asked.order) == (answered.look, answered.order))
                else {
                    return Err(format!("outcome {} of look {} has no query", answered.order, answered.look));
                };
                asked.query.validate().map_err(|error| error.to_string())?;
                Some(Item::Answer(Box::new((asked.query, answered))))
            }
            Topic::Refusals => {
                let unperceived: Unperceived = parse(data)?;
                unperceived.query.validate().map_err(|error| error.to_string())?;
                Some(Item::Refusal(Box::new(unperceived)))
            }
            Topic::Losses => Some(Item::Losses(parse(data)?)),
        })
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.take_chunked() {
                return Some(Ok(item));
            }
            if self.done {
                return None;
            }
            match self.read_on() {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(message).map_err(|error| format!("message: {}", shortened(&error)))
}

/// Serde's texts quote what was there; hostile bytes must not fill the log.
fn shortened(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).collect()
}
