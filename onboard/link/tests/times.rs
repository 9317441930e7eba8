//! How long a query is of use, and how old what it finds is: what is new in messages leaves the old ones as they were.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cddl;

use ciborium::Value;
use kestrel_link::query::{MAX_DEADLINE_MILLIS, MAX_TIME_TO_LIVE_MILLIS};
use kestrel_link::*;
use proptest::prelude::*;

/// A query that stands, and a refusal, as they were sent before queries had deadlines and replies the age of their frame.
const OLD_QUERY: &str = "a362696462713164746578746f74686520776869746520747275636b666672616d657300";
const OLD_REPLY: &str = "ab6564726f6e65696b65737472656c2d316871756572795f69646271316a71756572795f746578746f74686520776869 \
    746520747275636b656672616d65076b6672616d655f77696474680c6c6672616d655f68656967687409726361707475 \
    72655f756e69785f6e616e6f73006e6c6174656e63795f6d6963726f7319bb80656d6f64656c6b6b65737472656c2d73 \
    403166656e67696e65657472616374676f7574636f6d65a4646b696e6467726566757365646776657264696374a16672 \
    6561736f6e68746f6f5f6461726b6865766964656e636580666164766963656477616974";

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn standing() -> Query {
    Query { frames: 0, ..Query::new("q1", "the white truck") }
}

/// Round trip, and the encoded form against the rule of the reference.
fn check<M: Message + PartialEq + std::fmt::Debug>(rule: &str, message: &M) {
    let bytes = encode(message).unwrap();
    assert_eq!(&decode::<M>(&bytes).unwrap(), message);
    let value: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
    let rules = cddl::Rules::parse(include_str!("../../../docs/reference/link.cddl"));
    rules.check(rule, &value).unwrap_or_else(|why| panic!("{rule}: {why}\n{value:?}"));
}

/// What would break: a drone that refuses who asked yesterday, and an operator who cannot ask a drone of yesterday.
#[test]
fn a_query_without_times_is_what_it_was() {
    let bytes = bytes_of(OLD_QUERY);
    assert_eq!(decode::<Query>(&bytes).unwrap(), standing());
    assert_eq!(encode(&standing()).unwrap(), bytes);
}

/// What would break: an operator who cannot read a drone of yesterday, or takes the age of its masks for none.
///
/// Promise: P14
#[test]
fn a_reply_without_an_age_is_what_it_was() {
    let bytes = bytes_of(OLD_REPLY);
    let old: Reply = decode(&bytes).unwrap();
    assert_eq!((old.frame, old.frame_age_micros, old.age_micros()), (7, None, 48_000));
    assert_eq!(encode(&old).unwrap(), bytes);
    let aged = Reply { frame_age_micros: Some(1_048_000), ..old };
    assert_eq!(aged.age_micros(), 1_048_000);
    check("reply", &aged);
}

#[test]
fn times_are_as_documented_and_out_of_range_they_are_refused_by_name() {
    for (deadline, life) in [(1, 0), (MAX_DEADLINE_MILLIS, MAX_TIME_TO_LIVE_MILLIS)] {
        check("query", &Query { deadline_millis: Some(deadline), time_to_live_millis: Some(life), ..standing() });
    }
    for (field, query) in [
        ("query.deadline_millis", Query { deadline_millis: Some(0), ..standing() }),
        ("query.deadline_millis", Query { deadline_millis: Some(MAX_DEADLINE_MILLIS + 1), ..standing() }),
        ("query.time_to_live_millis", Query { time_to_live_millis: Some(MAX_TIME_TO_LIVE_MILLIS + 1), ..standing() }),
    ] {
        let error = decode::<Query>(&encode(&query).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
    }
}

/// What would break: identities that are lost because a query was renewed, or that go on for who asks for something else.
#[test]
fn only_what_asks_the_same_for_another_life_renews() {
    let query = standing();
    let renewal = Query { time_to_live_millis: Some(60_000), deadline_millis: Some(100), ..standing() };
    assert!(renewal.renews(&query) && renewal.renews(&renewal));
    let explained = Query { explain: true, ..standing() };
    assert!(renewal.renews(&explained) && explained.withdrawal().renews(&explained));
    let hint = Some(Hint::Point { x: 0.5, y: 0.5 });
    for other in [
        standing(),
        Query { id: "q2".into(), ..renewal.clone() },
        Query { text: "the red truck".into(), ..renewal.clone() },
        Query { hint, ..renewal.clone() },
        Query { frames: 3, ..renewal.clone() },
        Query { explain: true, ..renewal.clone() },
    ] {
        assert!(!other.renews(&query), "{other:?}");
    }
    let counted = Query { frames: 3, ..renewal };
    assert!(!counted.renews(&counted), "its frames would be counted anew");
    assert!(counted.withdrawal().validate().is_ok());
}

proptest! {
    #[test]
    fn queries_with_times_come_back(deadline in proptest::option::of(1..=MAX_DEADLINE_MILLIS),
                                    life in proptest::option::of(0..=MAX_TIME_TO_LIVE_MILLIS)) {
        let query = Query { deadline_millis: deadline, time_to_live_millis: life, ..standing() };
        prop_assert_eq!(decode::<Query>(&encode(&query).unwrap()).unwrap(), query);
    }
}
