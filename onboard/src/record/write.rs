//! The file of a flight in the making.
//!
//! Chunks are written whole and never gone back to, so that whatever ends the program leaves a file that is readable up to
//! its last chunk. They are not compressed: pictures are PNG already, and the rest is small beside them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use kestrel_link::Query;
use mcap::records::{MessageHeader, Metadata};
use mcap::{WriteOptions, Writer};
use serde::Serialize;

use super::drawing::Drawing;
use super::error::RecordError;
use super::foxglove::CompressedImage;
use super::messages::{Answered, Asked, End, Flight, Losses, Model, Seen, Time, Totals, Unperceived, to_pairs};
use super::topics::{END, FLIGHT, MESSAGE_ENCODING, MODEL, SCHEMA_ENCODING, Topic};
use crate::node::Frame;

/// What the perception thread saw or said.
#[derive(Debug)]
pub(super) enum Event {
    /// It looks at a frame.
    Look {
        seen: Box<Seen>,
        frame: Arc<Frame>,
        model: Arc<Model>,
        /// The wall clock, nanoseconds since the Unix epoch.
        at: u64,
    },
    /// It answered a query about that frame.
    Answer { query: Box<Query>, answered: Box<Answered>, at: u64 },
    /// A query was refused, and perception had no part in that.
    Refusal { unperceived: Box<Unperceived>, at: u64 },
}

/// A record that is being written.
pub(super) struct FlightFile<W: Write + Seek> {
    file: Writer<W>,
    channels: Option<[u16; Topic::ALL.len()]>,
    /// The model that was written last.
    model: Option<Arc<Model>>,
    /// The frame whose picture was written last.
    pictured: Option<u64>,
    drawing: Option<Drawing>,
    losses: Losses,
    looks: u64,
    outcomes: u64,
    refusals: u64,
    totals: Option<Totals>,
    /// Bytes of messages in the chunk at hand.
    pending: u64,
    /// Bytes of all messages.
    bytes: u64,
    /// The latest time that was written; a clock that was set back does not bring messages out of order.
    latest: u64,
}

impl<W: Write + Seek> FlightFile<W> {
    /// Begins a record.
    pub(super) fn begin(target: W, flight: &Flight) -> Result<Self, RecordError> {
        let options = WriteOptions::new()
            .compression(None)
            .library(concat!("kestrel-onboard ", env!("CARGO_PKG_VERSION")))
            // Chunks end where `flush` says; they are put together in memory and written in one go.
            .chunk_size(None)
            .disable_seeking(true);
        let mut begun = Self {
            file: options.create(target).map_err(RecordError::write)?,
            channels: None,
            model: None,
            pictured: None,
            drawing: None,
            losses: Losses::default(),
            looks: 0,
            outcomes: 0,
            refusals: 0,
            totals: None,
            pending: 0,
            bytes: 0,
            latest: 0,
        };
        begun.describe(FLIGHT, flight)?;
        begun.file.flush().map_err(RecordError::write)?;
        Ok(begun)
    }

    /// Writes one event.
    pub(super) fn take(&mut self, event: &Event) -> Result<(), RecordError> {
        match event {
            Event::Look { seen, frame, model, at } => self.look(seen, frame, model, *at),
            Event::Answer { query, answered, at } => self.answer(query, answered, *at),
            Event::Refusal { unperceived, at } => {
                self.say(Topic::Refusals, self.refusals, *at, unperceived.timestamp, unperceived)?;
                self.refusals += 1;
                Ok(())
            }
        }
    }

    /// What the drone counted over its flight, for the end of the record.
    pub(super) fn conclude(&mut self, totals: Option<Totals>) {
        self.totals = totals;
    }

    fn look(&mut self, seen: &Seen, frame: &Frame, model: &Arc<Model>, at: u64) -> Result<(), RecordError> {
        if self.model.as_ref() != Some(model) {
            self.describe(MODEL, &**model)?;
            self.model = Some(Arc::clone(model));
        }
        // A frame that is looked at again, after a switch of models, needs no second picture.
        if self.pictured != Some(frame.number) {
            let image = CompressedImage {
                timestamp: seen.timestamp,
                frame_id: Cow::Borrowed("camera"),
                data: Cow::Owned(BASE64_STANDARD.encode(png(&frame.image, frame.number)?)),
                format: Cow::Borrowed("png"),
            };
            self.say(Topic::Camera, frame.number, at, seen.timestamp, &image)?;
            self.pictured = Some(frame.number);
        }
        self.say(Topic::Looks, seen.look, at, seen.timestamp, seen)?;
        self.looks += 1;
        self.drawing = Some(Drawing::of(seen));
        self.draw(seen.look, seen.timestamp, at)
    }

    fn answer(&mut self, query: &Query, answered: &Answered, at: u64) -> Result<(), RecordError> {
        let &Answered { timestamp, look, order, frame, .. } = answered;
        let asked = Asked { timestamp, look, order, frame, query: query.clone() };
        self.say(Topic::Queries, look, at, timestamp, &asked)?;
        self.say(Topic::Outcomes, look, at, timestamp, answered)?;
        self.outcomes += 1;
        if let Some(drawing) = &mut self.drawing {
            drawing.add(query, answered);
        }
        self.draw(look, timestamp, at)
    }

    fn draw(&mut self, look: u64, timestamp: Time, at: u64) -> Result<(), RecordError> {
        let Some(drawing) = self.drawing.take() else { return Ok(()) };
        let said = self.say(Topic::Drawings, look, at, timestamp, &drawing.annotations());
        self.drawing = Some(drawing);
        said
    }

    /// Says what was lost, if that has become more; gives whether it has.
    pub(super) fn losses(&mut self, losses: Losses, at: u64) -> Result<bool, RecordError> {
        if losses == self.losses {
            return Ok(false);
        }
        self.losses = losses;
        self.say(Topic::Losses, self.looks, at, Time::of(at), &losses)?;
        Ok(true)
    }

    /// Ends the chunk at hand and hands it to the system: from then on it outlives this program.
    pub(super) fn flush(&mut self) -> Result<(), RecordError> {
        if self.pending == 0 {
            return Ok(());
        }
        self.pending = 0;
        self.file.flush().map_err(RecordError::write)
    }

    /// Bytes of messages that were not flushed yet.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Bytes of all messages, a little less than the file has.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the record and gives back what it was written to.
    pub(super) fn end(mut self, why: &str) -> Result<W, RecordError> {
        let end = End {
            looks: self.looks,
            outcomes: self.outcomes,
            refusals: self.refusals,
            lost_frames: self.losses.frames,
            lost_outcomes: self.losses.outcomes,
            why: why.to_owned(),
            totals: self.totals,
        };
        self.describe(END, &end)?;
        self.file.finish().map_err(RecordError::write)?;
        Ok(self.file.into_inner())
    }

    fn describe(&mut self, name: &str, value: &impl Serialize) -> Result<(), RecordError> {
        let metadata = to_pairs(value).map_err(RecordError::write)?;
        self.file.write_metadata(&Metadata { name: name.to_owned(), metadata }).map_err(RecordError::write)
    }

    fn say(
        &mut self,
        topic: Topic,
        number: u64,
        at: u64,
        published: Time,
        message: &impl Serialize,
    ) -> Result<(), RecordError> {
        let data = serde_json::to_vec(message).map_err(RecordError::write)?;
        let channels = match self.channels {
            Some(channels) => channels,
            None => self.open_channels()?,
        };
        self.latest = self.latest.max(at);
        let header = MessageHeader {
            channel_id: channels[topic as usize],
            sequence: number as u32,
            log_time: self.latest,
            publish_time: published.unix_nanos(),
        };
        self.file.write_to_known_channel(&header, &data).map_err(RecordError::write)?;
        self.pending += data.len() as u64;
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Schemas and channels stand in the first chunk, before its first message: a chunk without messages has no times.
    fn open_channels(&mut self) -> Result<[u16; Topic::ALL.len()], RecordError> {
        let mut channels = [0; Topic::ALL.len()];
        for topic in Topic::ALL {
            let schema = topic.schema().to_string();
            let schema = self
                .file
                .add_schema(topic.schema_name(), SCHEMA_ENCODING, schema.as_bytes())
                .map_err(RecordError::write)?;
            channels[topic as usize] = self
                .file
                .add_channel(schema, topic.name(), MESSAGE_ENCODING, &BTreeMap::new())
                .map_err(RecordError::write)?;
        }
        self.channels = Some(channels);
        Ok(channels)
    }
}

/// The picture's file, without loss.
fn png(picture: &RgbImage, frame: u64) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|error| RecordError::Write { why: format!("picture of frame {frame}: {error}") })?;
    Ok(bytes)
}
