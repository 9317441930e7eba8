//! Records from wrecks and strangers: cut off, flipped, made up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;

use image::{Rgb, RgbImage};
use kestrel_link::{Mask, Outcome, Query, Refusal, Segment, Standing, Verdict};
use mcap::records::op;
use proptest::prelude::*;

use super::error::ReadError;
use super::framing::{Framing, Piece};
use super::messages::{Answered, History, Losses, Model, Seen, Time, Totals, Unperceived, example};
use super::read::{Item, Records};
use super::survey::survey;
use super::write::{Event, FlightFile};
use crate::node::Frame;

const LOOKS: u64 = 12;

fn frame(number: u64) -> Arc<Frame> {
    let image = RgbImage::from_fn(16, 12, |x, y| Rgb([(x * 16) as u8, (y * 20) as u8, number as u8]));
    Arc::new(Frame {
        number,
        image,
        capture_unix_nanos: 1_000_000_000 + number,
        doubt: None,
        steady_nanos: 1_000_000_000 + number,
        pose: None,
        admitted: Instant::now(),
    })
}

fn model() -> Arc<Model> {
    let (name, engine) = ("m@1".into(), "tract".into());
    let (manifest_hash, thresholds_hash) = ("00".into(), "11".into());
    Arc::new(Model { name, manifest_hash, thresholds_hash, engine, library: None, slot: String::new() })
}

fn look(number: u64) -> Event {
    let history = History { fingerprint: Some(format!("{number:016x}")), repeats: 0 };
    let seen = Seen {
        timestamp: Time::of(1_000_000_000 + number),
        look: number,
        frame: number,
        width: 16,
        height: 12,
        model: "m@1".into(),
        model_hash: "00".into(),
        history_before: history.clone(),
        history_after: history,
        refusal: None,
        most_views: Some(9),
        steady: Some(Time::of(1_000_000_000 + number)),
        capture_doubt: None,
    };
    Event::Look { seen: Box::new(seen), frame: frame(number), model: model(), at: 2_000_000_000 + number }
}

fn answer(number: u64) -> Event {
    let query = Query { frames: 0, ..Query::new("q", "the car") };
    let mask = Mask::from_fn(16, 12, |x, y| x < 4 && y < 4).unwrap();
    let answered = Answered {
        timestamp: Time::of(1_000_000_000 + number),
        look: number,
        order: 0,
        frame: number,
        query_id: "q".into(),
        late: false,
        latency_micros: 5,
        outcome: Outcome::Segmented { masks: vec![Segment::of(mask, 0.75, 0.5).unwrap()] },
        untold: false,
        pose: None,
        unplaced: None,
        turn: number as u32,
        standing: Some(Standing::default()),
    };
    Event::Answer { query: Box::new(query), answered: Box::new(answered), at: 2_000_000_000 + number }
}

/// A record with one chunk for each look.
fn written() -> Vec<u8> {
    let mut file = FlightFile::begin(Cursor::new(Vec::<u8>::new()), &example()).unwrap();
    for number in 0..LOOKS {
        file.take(&look(number)).unwrap();
        file.take(&answer(number)).unwrap();
        file.flush().unwrap();
    }
    file.end("the flight ended").unwrap().into_inner()
}

/// Reads everything, pictures too; gives looks and outcomes, and how much was damaged.
fn read(bytes: &[u8]) -> Result<(u64, u64, u64), ReadError> {
    let mut records = Records::open(bytes, true)?;
    let (mut looks, mut outcomes, mut undecodable) = (0, 0, 0);
    while let Some(item) = records.next().transpose()? {
        match item {
            Item::Look(look) => {
                looks += 1;
                let picture = look.picture.as_ref().map(|picture| picture.decode(look.seen.width, look.seen.height));
                undecodable += u64::from(!matches!(picture, Some(Ok(_))));
            }
            Item::Answer(_) => outcomes += 1,
            _ => {}
        }
    }
    Ok((looks, outcomes, records.damage().count + undecodable))
}

#[test]
fn what_was_written_comes_back() {
    let bytes = written();
    assert_eq!(read(&bytes).unwrap(), (LOOKS, LOOKS, 0));
    let held = survey(bytes.as_slice()).unwrap();
    assert_eq!(held.flight, example());
    assert_eq!((held.models.len(), held.models[0].looks), (1, LOOKS));
    assert_eq!(held.end.unwrap().outcomes, LOOKS);
    let mut records = Records::open(bytes.as_slice(), true).unwrap();
    let first = records.find_map(|item| match item.unwrap() {
        Item::Look(look) => Some(look),
        _ => None,
    });
    let picture = first.unwrap().picture.unwrap().decode(16, 12).unwrap();
    assert_eq!(picture, frame(0).image, "every pixel");
}

/// What would break: files that only this reader takes. The crate's own reader checks all that the format asks for.
#[test]
fn the_file_is_what_the_format_says() {
    let bytes = written();
    let messages: Vec<_> = mcap::MessageStream::new(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
    let topics: Vec<&str> = messages.iter().take(6).map(|message| message.channel.topic.as_str()).collect();
    assert_eq!(topics, ["/camera", "/looks", "/camera/annotations", "/queries", "/outcomes", "/camera/annotations"]);
    let schema = messages[0].channel.schema.as_ref().unwrap();
    assert_eq!((schema.name.as_str(), schema.encoding.as_str()), ("foxglove.CompressedImage", "jsonschema"));
    assert_eq!(messages[0].channel.message_encoding, "json");
    assert!(messages.windows(2).all(|pair| pair[0].log_time <= pair[1].log_time));
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let stats = summary.stats.unwrap();
    assert_eq!((stats.chunk_count, stats.message_count), (LOOKS as u32, 6 * LOOKS));
    assert_eq!(stats.message_start_time, 2_000_000_000, "no chunk without messages says that it begins at 0");
}

/// Setup: a recording that is killed. Fault: the file ends at any byte. Expected: what is whole is read, and that it was
/// cut is said. Invariant: never a panic, and more bytes never give fewer looks.
#[test]
fn a_record_that_was_cut_off_is_read_up_to_its_last_chunk() {
    let bytes = written();
    let mut before = 0;
    for end in (0..bytes.len()).step_by(53).chain(bytes.len() - 60..bytes.len()) {
        match survey(&bytes[..end]) {
            Ok(held) => {
                assert!(held.looks >= before, "{end}");
                assert_eq!(held.looks, held.outcomes, "a chunk is read whole or not at all");
                assert!(held.end.is_some() || held.damage.first.is_some(), "{end}");
                before = held.looks;
            }
            Err(ReadError::NotMcap | ReadError::NoFlight { .. }) => assert!(end < 3000, "{end}"),
            Err(error) => panic!("{end}: {error}"),
        }
    }
    assert_eq!(before, LOOKS);
}

/// Where the data ends and the summary begins.
fn end_of_data(bytes: &[u8]) -> usize {
    let mut framing = Framing::open(bytes).unwrap().unwrap();
    let mut body = Vec::new();
    loop {
        match framing.next(&mut body).unwrap() {
            Piece::Record { opcode: op::DATA_END, at } => return at as usize,
            Piece::Record { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A record of any kind that claims any length.
fn made_up() -> impl Strategy<Value = (u8, u64, Vec<u8>)> {
    let length = prop_oneof![0u64..64, Just(u64::MAX), Just(1u64 << 28)];
    (any::<u8>(), length, prop::collection::vec(any::<u8>(), 0..64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Setup: a good record. Fault: one bit is another. Expected: it is found. Invariant: never a panic.
    ///
    /// Promise: P11, P13
    #[test]
    fn a_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = written();
        let at = at.index(end_of_data(&bytes));
        bytes[at] ^= 1u8 << bit;
        if let Ok((looks, outcomes, damage)) = read(&bytes) {
            prop_assert!(damage > 0, "byte {at}");
            prop_assert!(looks <= LOOKS && outcomes <= LOOKS);
        }
    }

    /// Fault: lengths and bytes made up, behind a good beginning.
    ///
    /// Promise: P13
    #[test]
    fn made_up_bytes_are_no_flight(records in prop::collection::vec(made_up(), 0..6)) {
        let mut bytes = mcap::MAGIC.to_vec();
        for (opcode, length, body) in records {
            bytes.push(opcode % 16);
            bytes.extend(length.to_le_bytes());
            bytes.extend(body);
        }
        prop_assert!(survey(bytes.as_slice()).is_err());
    }
}

/// A chunk of one record, with its own checksum.
fn chunk_of(opcode: u8, length: u64, body: &[u8]) -> Vec<u8> {
    let mut records = vec![opcode];
    records.extend(length.to_le_bytes());
    records.extend(body);
    let mut chunk = vec![0; 16];
    chunk.extend((records.len() as u64).to_le_bytes());
    chunk.extend(crc32fast::hash(&records).to_le_bytes());
    chunk.extend(0u32.to_le_bytes());
    chunk.extend((records.len() as u64).to_le_bytes());
    chunk.extend(records);
    chunk
}

/// What would break: trust in a stranger's file. Each attack stands behind a good record's first chunks.
///
/// Promise: P13
#[test]
fn every_attack_is_told_and_passed_over() {
    let good = written();
    let channels = [("/camera", 1), ("/looks", 3), ("/queries", 4), ("/outcomes", 5), ("/refusals", 6)];
    let message = |channel: u16, text: &str| {
        let mut body = channel.to_le_bytes().to_vec();
        body.extend([0; 20]);
        body.extend(text.as_bytes());
        chunk_of(op::MESSAGE, body.len() as u64, &body)
    };
    let deep = "[".repeat(100_000);
    let unasked = r#"{"timestamp":{"sec":0,"nsec":0},"look":0,"order":0,"frame":0,"query_id":"q","late":false,
        "latency_micros":0,"outcome":{"kind":"segmented","masks":[]}}"#;
    let picture = r#"{"timestamp":{"sec":0,"nsec":0},"frame_id":"","data":"????","format":"png"}"#;
    let tiff = picture.replace("png", "tiff");
    let mut attacks: Vec<(String, Vec<u8>, &str)> = vec![
        ("record beyond its chunk".into(), chunk_of(op::MESSAGE, u64::MAX, b"ab"), "within a record"),
        ("message without a head".into(), chunk_of(op::MESSAGE, 3, b"abc"), "message ends too early"),
        (
            "channel with a long name".into(),
            chunk_of(op::CHANNEL, 8, &[1, 0, 1, 0, 255, 255, 255, 255]),
            "channel ends",
        ),
        ("picture that is no base64".into(), message(1, picture), "picture"),
        ("picture of another format".into(), message(1, &tiff), "expected a png"),
        ("outcome without a query".into(), message(5, unasked), "has no query"),
    ];
    for (topic, channel) in channels {
        attacks.push((format!("{topic} nested deep"), message(channel, &deep), "message: "));
        attacks.push((format!("{topic} of another kind"), message(channel, "{\"look\": -1}"), "message: "));
    }
    let mut head = Framing::open(good.as_slice()).unwrap().unwrap();
    let (mut body, mut end) = (Vec::new(), 0);
    // Magic, header, flight, model and the first chunk with its indices.
    while let Piece::Record { opcode, at } = head.next(&mut body).unwrap() {
        end = at as usize;
        if opcode == op::CHUNK && read(&good[..end]).is_ok_and(|(looks, ..)| looks == 1) {
            break;
        }
    }
    for (name, chunk, why) in attacks {
        let mut bytes = good[..end].to_vec();
        bytes.push(op::CHUNK);
        bytes.extend((chunk.len() as u64).to_le_bytes());
        bytes.extend(chunk);
        let held = survey(bytes.as_slice()).unwrap();
        let with_pictures = {
            let mut records = Records::open(bytes.as_slice(), true).unwrap();
            while records.next().transpose().unwrap().is_some() {}
            records.damage().first.clone().unwrap()
        };
        assert!(with_pictures.contains(why), "{name}: expected {why:?} in {with_pictures:?}");
        assert_eq!(held.looks, 1, "{name}: what was good before it stays");
        assert!(with_pictures.len() < 400, "{name}: hostile text does not fill the log");
    }
}

fn refusal(instead: bool) -> Event {
    let query = Query::new("late", "the car");
    let refusal = Refusal { verdict: Verdict::DeadlineMissed, evidence: vec![], advice: "wait".into() };
    let (timestamp, at) = (Time::of(2_000_000_000), 2_000_000_000);
    Event::Refusal {
        unperceived: Box::new(Unperceived { timestamp, frame: None, query, refusal, latency_micros: 9, instead }),
        at,
    }
}

/// What would break: a record in which nobody can see that every outcome is there (promise P1).
#[test]
fn every_outcome_that_was_given_is_in_the_file_once() {
    let mut file = FlightFile::begin(Cursor::new(Vec::<u8>::new()), &example()).unwrap();
    file.take(&look(0)).unwrap();
    file.take(&answer(0)).unwrap();
    // A query is refused for lateness while the engine is at work; what that says at last is told to nobody.
    file.take(&refusal(false)).unwrap();
    // An answer that was in time waited too long for the link.
    file.take(&refusal(true)).unwrap();
    let Event::Answer { query, mut answered, at } = answer(0) else { panic!("expected an answer") };
    (answered.order, answered.untold) = (1, true);
    file.take(&Event::Answer { query, answered, at }).unwrap();
    let totals = Totals { frames: 1, frames_dropped: 0, segmented: 0, refused: 2 };
    file.conclude(Some(totals));
    let bytes = file.end("the flight ended").unwrap().into_inner();
    let held = survey(bytes.as_slice()).unwrap();
    assert_eq!((held.outcomes, held.untold, held.damage.count), (2, 1, 0));
    assert_eq!((held.refusals, held.instead), (2, 1));
    assert_eq!(held.given(), totals.outcomes());
    let end = held.end.unwrap();
    assert_eq!((end.outcomes, end.refusals, end.totals), (2, 2, Some(totals)));
}

#[test]
fn losses_and_a_clock_that_was_set_back_are_in_the_file() {
    let mut file = FlightFile::begin(Cursor::new(Vec::<u8>::new()), &example()).unwrap();
    file.take(&look(0)).unwrap();
    assert!(file.losses(Losses { frames: 2, outcomes: 3 }, 5).unwrap());
    assert!(!file.losses(Losses { frames: 2, outcomes: 3 }, 6).unwrap(), "said once");
    let bytes = file.end("the flight ended").unwrap().into_inner();
    let held = survey(bytes.as_slice()).unwrap();
    assert_eq!(held.losses, Losses { frames: 2, outcomes: 3 });
    let end = held.end.unwrap();
    assert_eq!((end.lost_frames, end.lost_outcomes), (2, 3));
    let times: Vec<u64> = mcap::MessageStream::new(&bytes).unwrap().map(|message| message.unwrap().log_time).collect();
    assert!(times.is_sorted(), "{times:?}");
}
