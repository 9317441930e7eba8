//! Hostile bytes are refused with a reason; they never panic (promise P13).
//!
//! `attacks/KIND-NAME.hex` holds one attack each: `# expect:` names a part of the error, the rest is hex with comments;
//! `30*49153` are these bytes so many times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kestrel_link::*;
use proptest::prelude::*;
use std::path::Path;

fn refuse(kind: &str, bytes: &[u8]) -> Result<(), LinkError> {
    match kind {
        "query" => decode::<Query>(bytes).map(drop),
        "reply" => decode::<Reply>(bytes).map(drop),
        "health" => decode::<Health>(bytes).map(drop),
        "offer" => decode::<PushOffer>(bytes).map(drop),
        "state" => decode::<PushState>(bytes).map(drop),
        "frame" => decode::<FrameHeader>(bytes).map(drop),
        "pose" => decode::<PoseSample>(bytes).map(drop),
        "explanation" => decode::<ExplanationPart>(bytes).map(drop),
        "manifest" => Manifest::from_json(bytes).map(drop),
        "thresholds" => Thresholds::from_json(bytes).map(drop),
        "canary" => CanarySpec::from_json(bytes).map(drop),
        "mask" => serde_json::from_slice::<Mask>(bytes).unwrap().validate(),
        other => panic!("no such kind of attack: {other}"),
    }
}

const KINDS: [&str; 11] =
    ["query", "reply", "health", "offer", "state", "frame", "pose", "explanation", "manifest", "thresholds", "canary"];

/// The bytes of a word of hex, or of some bytes and how often they stand.
fn bytes_of(word: &str) -> Vec<u8> {
    let (hex, times) = word.split_once('*').map_or((word, 1), |(hex, times)| (hex, times.parse().unwrap()));
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    (0..hex.len() / 2).map(byte).collect::<Vec<u8>>().repeat(times)
}

/// Promise: P13
#[test]
fn every_attack_is_refused_for_its_reason() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("attacks");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (kind, _) = name.split_once('-').unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expect = text.lines().find_map(|line| line.strip_prefix("# expect: ")).unwrap();
        let lines = text.lines().map(|line| line.split('#').next().unwrap());
        let bytes: Vec<u8> = lines.flat_map(str::split_whitespace).flat_map(bytes_of).collect();
        let error = refuse(kind, &bytes).expect_err(&name).to_string();
        assert!(error.contains(expect), "{name}: expected {expect:?} in {error:?}");
        tried += 1;
    }
    assert!(tried >= 30, "only {tried} attacks found");
}

/// Promise: P5, P13
#[test]
fn messages_over_their_cap_are_refused_unread() {
    for kind in KINDS {
        let error = refuse(kind, &vec![0xa0; 1 << 20]).unwrap_err();
        assert!(matches!(error, LinkError::TooLarge { .. }), "{kind}: {error}");
    }
}

/// Promise: P13
#[test]
fn errors_do_not_repeat_long_hostile_values() {
    let id = "é".repeat(900);
    let query = Query::new(id, "car");
    let error = decode::<Query>(&encode(&query).unwrap()).unwrap_err().to_string();
    assert!(error.chars().count() < 300, "{error}");
}

fn whole_reply() -> Vec<u8> {
    let mask = Mask::from_fn(40, 30, |x, y| x > y).unwrap();
    let reply = Reply {
        drone: "d".into(),
        query_id: "q".into(),
        query_text: "the boat".into(),
        frame: 1,
        frame_width: 40,
        frame_height: 30,
        capture_unix_nanos: 2,
        capture_doubt: None,
        latency_micros: 3,
        frame_age_micros: None,
        model: "m@1".into(),
        engine: "tract".into(),
        outcome: Outcome::Segmented { masks: vec![Segment::of(mask, 0.9, 0.8).unwrap()] },
        standing: None,
    };
    encode(&reply).unwrap()
}

/// Promise: P13
#[test]
fn every_cut_of_a_reply_is_refused() {
    let bytes = whole_reply();
    assert!(decode::<Reply>(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(decode::<Reply>(&bytes[..end]).is_err(), "cut at {end}");
    }
}

proptest! {
    /// Promise: P13
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for kind in KINDS {
            let _ = refuse(kind, &bytes);
        }
    }

    /// Promise: P13
    #[test]
    fn a_damaged_reply_never_panics(at in 0usize..4096, value: u8) {
        let mut bytes = whole_reply();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(reply) = decode::<Reply>(&bytes) {
            // What is let through is whole.
            if let Outcome::Segmented { masks } = &reply.outcome {
                prop_assert!(masks.iter().all(|segment| segment.mask.to_bits().is_ok()));
            }
        }
    }
}
