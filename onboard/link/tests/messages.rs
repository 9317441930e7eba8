//! Messages survive CBOR, keep their ranges, and are what docs/reference/link.cddl says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cddl;

use ciborium::Value;
use kestrel_link::explanation::{MAX_BOXES, MAX_PIECE_BYTES, MAX_STATEMENTS};
use kestrel_link::outcome::MAX_CANDIDATES;
use kestrel_link::position::{MAX_OUTLINE, MAX_PIECES};
use kestrel_link::standing::MAX_IDS;
use kestrel_link::*;
use proptest::prelude::*;

fn query() -> Query {
    Query::new("q1", "the white truck")
}

fn segment(width: u32, height: u32) -> Segment {
    let mask = Mask::from_fn(width, height, |x, y| x > 1 && y % 3 != 0).unwrap();
    Segment::of(mask, 0.75, 0.5).unwrap()
}

fn position() -> Position {
    Position {
        latitude_degrees: 56.206_231,
        longitude_degrees: -10.0,
        radius_metres: 2.5,
        ellipse: Ellipse { major_metres: 2.0, minor_metres: 1.0, bearing_degrees: 63.5 },
        outline: vec![[56.2062, -10.0001], [56.2063, -10.0], [56.2062, -9.9999]],
        outline_radius_metres: 2.75,
        outline_radii_metres: vec![2.5, 2.75, 2.25],
    }
}

/// Every kind of place.
fn places() -> Vec<Georeference> {
    let reasons = [
        Unplaced::PoseUnknown,
        Unplaced::CaptureDoubted,
        Unplaced::PoseAwaited,
        Unplaced::PoseStale { age_seconds: 0.75, most_seconds: 0.2 },
        Unplaced::PoseUnsteady,
        Unplaced::PoseInvalid,
        Unplaced::CameraInvalid,
        Unplaced::AboveHorizon,
        Unplaced::ErrorUnknown,
        Unplaced::BeyondRange { range_metres: 3000.5, most_metres: 2000.0 },
        Unplaced::TooUncertain { radius_metres: 30.25, most_metres: 25.0 },
    ];
    let bare = Position { outline: vec![], outline_radii_metres: vec![], ..position() };
    let before = Position { outline_radii_metres: vec![], ..position() };
    let mut places: Vec<Georeference> = [position(), bare, before].map(Georeference::Placed).into();
    places.extend(reasons.map(|why| Georeference::Unplaced { why }));
    places
}

fn reply(outcome: Outcome) -> Reply {
    Reply {
        drone: "kestrel-1".into(),
        query_id: "q1".into(),
        query_text: "the white truck".into(),
        frame: 7,
        frame_width: 12,
        frame_height: 9,
        capture_unix_nanos: 1_790_000_000_123_456_789,
        capture_doubt: None,
        latency_micros: 48_000,
        frame_age_micros: None,
        model: "kestrel-s@1".into(),
        engine: "tract".into(),
        outcome,
        standing: None,
    }
}

fn refused(verdict: Verdict) -> Outcome {
    Outcome::Refused(Refusal { verdict, evidence: vec![("presence".into(), 0.1)], advice: "come closer".into() })
}

fn verdicts() -> Vec<Verdict> {
    vec![
        Verdict::TooDark,
        Verdict::Overexposed,
        Verdict::Blurred,
        Verdict::Noisy,
        Verdict::Hazy,
        Verdict::Frozen,
        Verdict::Truncated,
        Verdict::WrongModality,
        Verdict::TargetAbsent,
        Verdict::TargetAmbiguous { candidates: vec![segment(12, 9)] },
        Verdict::TargetTooSmall,
        Verdict::TargetUnseeable,
        Verdict::QueryNotUnderstood { word: Some("blorf".into()) },
        Verdict::QueryNotUnderstood { word: None },
        Verdict::LowConfidence,
        Verdict::DeadlineMissed,
        Verdict::EngineDegraded,
        Verdict::ModelSwitching,
    ]
}

fn health(readiness: Readiness) -> Health {
    Health {
        drone: "kestrel-1".into(),
        readiness,
        model: "kestrel-s@1".into(),
        model_hash: "00".into(),
        slot: "A".into(),
        engine: "ort/cpu".into(),
        uptime_seconds: 3,
        frames_in: 90,
        frames_dropped: 2,
        segmented: 40,
        refused: 48,
        degraded: Vec::new(),
        recording: None,
    }
}

fn doubts() -> [CaptureDoubt; 8] {
    [
        CaptureDoubt::Duplicate,
        CaptureDoubt::StampsFrozen,
        CaptureDoubt::PictureFrozen,
        CaptureDoubt::Backwards,
        CaptureDoubt::Jumped,
        CaptureDoubt::Unsettled,
        CaptureDoubt::Ahead,
        CaptureDoubt::Stale,
    ]
}

fn header(format: PictureFormat) -> FrameHeader {
    FrameHeader {
        capture_unix_nanos: 1_790_000_000_123_456_789,
        format,
        width_pixels: 12,
        height_pixels: 9,
        pose: None,
    }
}

fn part(part: Part) -> ExplanationPart {
    ExplanationPart {
        drone: "kestrel-1".into(),
        query_id: "q1".into(),
        explanation: 2,
        sequence: 9,
        frame: 7,
        frame_width: 12,
        frame_height: 9,
        model: "kestrel-s@1".into(),
        engine: "tract".into(),
        part,
    }
}

fn reasons() -> Reasons {
    Reasons {
        statements: vec!["see two trucks [1] [2].".into(), "so [2]".into()],
        candidates: vec![[0.0, 0.125, 0.25, 1.0], [0.5; 4]],
        tokens: 31,
        words_cut: 0,
        prefill_micros: 120_000,
        decode_micros: 90_000,
    }
}

/// Every kind of part.
fn parts() -> Vec<Part> {
    let refusal = |verdict| match refused(verdict) {
        Outcome::Refused(refusal) => ReasonedConclusion::Refused(refusal),
        Outcome::Segmented { .. } => unreachable!(),
    };
    let conclusions = [
        ReasonedConclusion::Targets { boxes: vec![[0.5, 0.5, 0.75, 1.0]] },
        refusal(Verdict::TargetAbsent),
        refusal(Verdict::TargetAmbiguous { candidates: vec![] }),
        refusal(Verdict::QueryNotUnderstood { word: None }),
    ];
    let complete = conclusions.map(|conclusion| Part::Complete { conclusion, reasons: reasons() });
    let cut = [CutShort::Deadline, CutShort::Stopping].map(|why| Part::CutShort { why, reasons: Reasons::default() });
    let whys = [
        Unexplained::Busy,
        Unexplained::Off,
        Unexplained::NoGraph,
        Unexplained::NoFrame,
        Unexplained::Unseen,
        Unexplained::Expired,
        Unexplained::EngineDegraded,
        Unexplained::Stopping,
    ];
    let refused = whys.map(|why| Part::Refused { why, advice: why.advice().into() });
    let piece = Part::Piece { text: " see two trucks [1]".into() };
    std::iter::once(piece).chain(complete).chain(cut).chain(refused).collect()
}

fn pose_sample() -> PoseSample {
    PoseSample { time_unix_nanos: 1_790_000_000_123_456_789, pose: "{}".into() }
}

fn phases() -> Vec<PushPhase> {
    vec![
        PushPhase::Idle,
        PushPhase::Downloading { received_bytes: 1, total_bytes: 2 },
        PushPhase::Verified,
        PushPhase::Staged,
        PushPhase::Trial,
        PushPhase::Committed,
        PushPhase::RolledBack { why: "canary/00: IoU 0.1".into() },
        PushPhase::Refused { why: "not signed".into() },
    ]
}

/// Round trip, and the encoded form against the rule of the reference.
fn check<M: Message + PartialEq + std::fmt::Debug>(rule: &str, message: &M) {
    let bytes = encode(message).unwrap();
    assert_eq!(&decode::<M>(&bytes).unwrap(), message);
    let value: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
    let rules = cddl::Rules::parse(include_str!("../../../docs/reference/link.cddl"));
    rules.check(rule, &value).unwrap_or_else(|why| panic!("{rule}: {why}\n{value:?}"));
}

/// Promise: P12
#[test]
fn every_kind_of_message_is_as_documented() {
    for hint in [None, Some(Hint::Point { x: 0.25, y: 1.0 }), Some(Hint::Box { x0: 0.0, y0: 0.1, x1: 0.5, y1: 0.9 })] {
        check("query", &Query { hint, ..query() });
        check("query", &Query { hint, explain: true, ..query() });
    }
    for said in parts() {
        check("explanation", &part(said));
    }
    check("pose-sample", &pose_sample());
    check("reply", &reply(Outcome::Segmented { masks: vec![segment(12, 9), segment(12, 9)] }));
    for place in places() {
        let masks = vec![Segment { positions: vec![place], ..segment(12, 9) }];
        check("reply", &reply(Outcome::Segmented { masks: masks.clone() }));
        check("reply", &reply(refused(Verdict::TargetAmbiguous { candidates: masks })));
    }
    for verdict in verdicts() {
        check("reply", &reply(refused(verdict)));
    }
    for track in [track(TrackEvent::New, 0), track(TrackEvent::Update, 9)] {
        let masks = vec![Segment { track: Some(track), ..segment(12, 9) }, segment(12, 9)];
        check("reply", &Reply { standing: Some(standing()), ..reply(Outcome::Segmented { masks }) });
    }
    check("reply", &Reply { standing: Some(Standing::default()), ..reply(refused(Verdict::TargetAbsent)) });
    for readiness in [Readiness::Ready, Readiness::Starting, Readiness::NotReady { why: "no model".into() }] {
        check("health", &health(readiness));
    }
    check("health", &Health { degraded: vec!["hot: 91.0 °C".into()], ..health(Readiness::Ready) });
    let recording = Recording { lost_frames: 1, lost_outcomes: 2, stopped: "no space left on device".into() };
    check("health", &Health { recording: Some(recording), ..health(Readiness::Ready) });
    for doubt in doubts() {
        let untold = Reply { capture_unix_nanos: 0, capture_doubt: Some(doubt), ..reply(refused(Verdict::Frozen)) };
        check("reply", &untold);
        assert_eq!(serde_json::to_value(doubt).unwrap(), doubt.name());
    }
    for format in [PictureFormat::Jpeg, PictureFormat::Png, PictureFormat::Rgb8] {
        check("frame-header", &header(format));
        check("frame-header", &FrameHeader { pose: Some("{}".into()), ..header(format) });
    }
    check("push-offer", &PushOffer { manifest: "{}".into(), signature: "k s".into() });
    for phase in phases() {
        let state =
            PushState { drone: "kestrel-1".into(), model: "kestrel-s@2".into(), manifest_hash: "ab".into(), phase };
        check("push-state", &state);
    }
}

/// Guards the check above: a reference that allows anything would pass it.
#[test]
fn the_reference_refuses_what_it_does_not_name() {
    let rules = cddl::Rules::parse(include_str!("../../../docs/reference/link.cddl"));
    let text = |s: &str| Value::Text(s.into());
    let whole = vec![(text("id"), text("q")), (text("text"), text("car"))];
    assert!(rules.check("query", &Value::Map(whole.clone())).is_ok());
    let mut extra = whole.clone();
    extra.push((text("colour"), text("red")));
    assert!(rules.check("query", &Value::Map(extra)).is_err());
    assert!(rules.check("query", &Value::Map(whole[..1].to_vec())).is_err());
    let wrong = vec![whole[0].clone(), (text("text"), Value::from(3))];
    assert!(rules.check("query", &Value::Map(wrong)).is_err());
    let long = vec![whole[1].clone(), (text("id"), text(&"x".repeat(65)))];
    assert!(rules.check("query", &Value::Map(long)).is_err());
}

#[test]
fn frames_defaults_to_one() {
    let mut bytes = Vec::new();
    let map = Value::Map(vec![
        (Value::Text("id".into()), Value::Text("q".into())),
        (Value::Text("text".into()), Value::Text("boats".into())),
    ]);
    ciborium::into_writer(&map, &mut bytes).unwrap();
    assert_eq!(decode::<Query>(&bytes).unwrap().frames, 1);
}

/// What would break: a drone from before explanations, which knows no such field and refuses the query.
#[test]
fn who_wants_no_reasons_does_not_mention_them() {
    let bytes = encode(&query()).unwrap();
    assert!(!bytes.windows(7).any(|name| name == b"explain"));
    assert!(!decode::<Query>(&bytes).unwrap().explain);
}

#[test]
fn explanations_out_of_range_are_refused() {
    let complete =
        |boxes| part(Part::Complete { conclusion: ReasonedConclusion::Targets { boxes }, reasons: reasons() });
    let cut = |reasons| part(Part::CutShort { why: CutShort::Deadline, reasons });
    let masks = ReasonedConclusion::Refused(Refusal {
        verdict: Verdict::TargetAmbiguous { candidates: vec![segment(12, 9)] },
        evidence: vec![],
        advice: String::new(),
    });
    let wrong = [
        ("explanation.text", part(Part::Piece { text: "\u{1b}[2J".into() })),
        ("explanation.text", part(Part::Piece { text: "a".repeat(MAX_PIECE_BYTES + 1) })),
        ("explanation.boxes", complete(vec![])),
        ("explanation.boxes", complete(vec![[0.0; 4]; MAX_BOXES + 1])),
        ("explanation.boxes", complete(vec![[0.5, 0.0, 0.25, 1.0]])),
        ("explanation.boxes", complete(vec![[0.0, f32::NAN, 1.0, 1.0]])),
        ("explanation.candidates", part(Part::Complete { conclusion: masks, reasons: reasons() })),
        ("explanation.candidates", cut(Reasons { candidates: vec![[0.0, 0.0, 1.0, 1.5]], ..reasons() })),
        ("explanation.statements", cut(Reasons { statements: vec![String::new(); MAX_STATEMENTS + 1], ..reasons() })),
        ("explanation.statements", cut(Reasons { statements: vec!["\n".into()], ..reasons() })),
        ("explanation.model", ExplanationPart { model: "\u{7}".into(), ..cut(reasons()) }),
        ("query.id", ExplanationPart { query_id: "a/b".into(), ..cut(reasons()) }),
        ("drone", ExplanationPart { drone: "*".into(), ..cut(reasons()) }),
    ];
    for (field, message) in wrong {
        let error = decode::<ExplanationPart>(&encode(&message).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
    }
}

#[test]
fn poses_out_of_range_are_refused() {
    let timeless = PoseSample { time_unix_nanos: 0, ..pose_sample() };
    let long = PoseSample { pose: " ".repeat(camera::MAX_POSE_BYTES + 1), ..pose_sample() };
    for (field, sample) in [("pose.time_unix_nanos", timeless), ("pose.pose", long)] {
        let error = decode::<PoseSample>(&encode(&sample).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
    }
}

#[test]
fn queries_out_of_range_are_refused_by_name() {
    let cases: Vec<(&str, Query)> = vec![
        ("query.id", Query { id: String::new(), ..query() }),
        ("query.id", Query { id: "a/b".into(), ..query() }),
        ("query.id", Query { id: "x".repeat(65), ..query() }),
        ("query.text", Query { text: "  ".into(), ..query() }),
        ("query.text", Query { text: "car\u{7}".into(), ..query() }),
        ("query.text", Query { text: "car ".repeat(129), ..query() }),
        ("query.hint.x", Query { hint: Some(Hint::Point { x: f32::NAN, y: 0.5 }), ..query() }),
        ("query.hint.y", Query { hint: Some(Hint::Point { x: 0.5, y: 1.5 }), ..query() }),
        ("query.hint", Query { hint: Some(Hint::Box { x0: 0.5, y0: 0.1, x1: 0.5, y1: 0.2 }), ..query() }),
    ];
    for (field, query) in cases {
        let error = decode::<Query>(&encode(&query).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
        assert!(!error.hint().is_empty());
    }
    let only_hint = Query { text: String::new(), hint: Some(Hint::Point { x: 0.5, y: 0.5 }), ..query() };
    assert!(only_hint.validate().is_ok());
}

fn places_out_of_range() -> Vec<Georeference> {
    let far = [
        Unplaced::BeyondRange { range_metres: f64::INFINITY, most_metres: 1.0 },
        Unplaced::PoseStale { age_seconds: f64::NAN, most_seconds: 1.0 },
    ];
    let wrong = [
        Position { latitude_degrees: 90.5, ..position() },
        Position { longitude_degrees: f64::NAN, ..position() },
        Position { radius_metres: -1.0, ..position() },
        Position { ellipse: Ellipse { bearing_degrees: 200.0, ..position().ellipse }, ..position() },
        Position { outline: vec![[0.0, 181.0]], outline_radii_metres: vec![], ..position() },
        Position { outline: vec![[0.0, 0.0]; MAX_OUTLINE + 1], outline_radii_metres: vec![], ..position() },
        Position { outline_radii_metres: vec![2.5, f64::NAN, 2.5], ..position() },
        Position { outline_radii_metres: vec![2.5; 2], ..position() },
        Position { outline: vec![], ..position() },
    ];
    let unplaced = far.map(|why| Georeference::Unplaced { why });
    wrong.into_iter().map(Georeference::Placed).chain(unplaced).collect()
}

/// What would break: a drone from before positions, or one that knows no camera, could not be read.
#[test]
fn a_segment_without_positions_is_whole() {
    let answer = reply(Outcome::Segmented { masks: vec![segment(12, 9)] });
    let bytes = encode(&answer).unwrap();
    assert!(!bytes.windows(9).any(|name| name == b"positions"));
    assert_eq!(decode::<Reply>(&bytes).unwrap(), answer);
}

/// What would break: a drone from before each corner had a radius could not be read.
#[test]
fn a_position_without_radii_of_its_corners_is_whole() {
    let before = Position { outline_radii_metres: vec![], ..position() };
    let masks = vec![Segment { positions: vec![Georeference::Placed(before)], ..segment(12, 9) }];
    let answer = reply(Outcome::Segmented { masks });
    let bytes = encode(&answer).unwrap();
    assert!(!bytes.windows(13).any(|name| name == b"outline_radii"));
    assert_eq!(decode::<Reply>(&bytes).unwrap(), answer);
}

fn track(event: TrackEvent, age_frames: u32) -> Track {
    Track { id: 3, event, age_frames }
}

fn standing() -> Standing {
    Standing { verified_frames_ago: Some(12), refused: vec![4], lost: vec![1, 2] }
}

/// What would break: a drone from before standing queries had identities could not be read.
#[test]
fn a_reply_without_identities_is_whole() {
    let answer = reply(Outcome::Segmented { masks: vec![segment(12, 9)] });
    let bytes = encode(&answer).unwrap();
    for name in ["standing", "track"] {
        assert!(!bytes.windows(name.len()).any(|at| at == name.as_bytes()));
    }
    assert_eq!(decode::<Reply>(&bytes).unwrap(), answer);
    let now = Standing { verified_frames_ago: Some(0), ..Standing::default() };
    assert!(now.verified() && !standing().verified() && !Standing::default().verified());
    let all_seen = Reply { standing: Some(now), ..answer };
    let bytes = encode(&all_seen).unwrap();
    assert!(!bytes.windows(4).any(|at| at == b"lost"), "empty lists are left out");
    assert_eq!(decode::<Reply>(&bytes).unwrap(), all_seen);
}

#[test]
fn identities_out_of_range_are_refused() {
    let tracks =
        [track(TrackEvent::New, 1), track(TrackEvent::Update, 0), Track { id: 0, ..track(TrackEvent::New, 0) }];
    for track in tracks {
        let masks = vec![Segment { track: Some(track), ..segment(12, 9) }];
        assert!(decode::<Reply>(&encode(&reply(Outcome::Segmented { masks })).unwrap()).is_err(), "{track:?}");
    }
    let floods = [
        Standing { lost: vec![1; MAX_IDS + 1], ..Standing::default() },
        Standing { refused: vec![1; MAX_IDS + 1], ..Standing::default() },
        Standing { lost: vec![0], ..Standing::default() },
    ];
    for standing in floods {
        let reply = Reply { standing: Some(standing), ..reply(refused(Verdict::TargetAbsent)) };
        let error = decode::<Reply>(&encode(&reply).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("standing."), "{error}");
    }
}

/// What would break: a drone that knows no degraded states could not be read, or one that lists them without end would be.
#[test]
fn health_lists_what_is_degraded_when_there_is_something() {
    let bytes = encode(&health(Readiness::Ready)).unwrap();
    assert!(!bytes.windows(8).any(|name| name == b"degraded"));
    assert_eq!(decode::<Health>(&bytes).unwrap().degraded, Vec::<String>::new());
    let flood = Health { degraded: vec![String::new(); 17], ..health(Readiness::Ready) };
    let error = decode::<Health>(&encode(&flood).unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("health.degraded"), "{error}");
}

/// What would break: an operator who takes the time of a camera whose clock was set for a time of capture.
///
/// Promise: P14
#[test]
fn a_reply_gives_a_capture_time_or_a_doubt() {
    let certain = reply(refused(Verdict::Frozen));
    let bytes = encode(&certain).unwrap();
    assert!(!bytes.windows(13).any(|name| name == b"capture_doubt"), "as before there were doubts");
    let both = Reply { capture_doubt: Some(CaptureDoubt::Jumped), ..certain };
    let error = decode::<Reply>(&encode(&both).unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("reply.capture_unix_nanos"), "{error}");
}

/// What would break: memory taken, or a picture torn, because a header and its picture do not belong together.
#[test]
fn a_picture_has_the_bytes_that_its_header_asks_for() {
    let raw = header(PictureFormat::Rgb8);
    assert!(raw.check_picture(12 * 9 * 3).is_ok());
    for bytes in [0, 12 * 9 * 3 - 1, 12 * 9 * 3 + 1, usize::MAX] {
        assert!(raw.check_picture(bytes).is_err(), "{bytes}");
    }
    let file = header(PictureFormat::Jpeg);
    assert!(file.check_picture(1).is_ok());
    assert!(file.check_picture(0).is_err());
    assert!(file.check_picture(camera::MAX_PICTURE_BYTES + 1).is_err());
    let long = FrameHeader { pose: Some(" ".repeat(camera::MAX_POSE_BYTES + 1)), ..file };
    assert!(decode::<FrameHeader>(&encode(&long).unwrap()).is_err());
}

#[test]
fn replies_out_of_range_are_refused() {
    let mut wrong = vec![reply(Outcome::Segmented { masks: vec![] })];
    wrong.push(reply(Outcome::Segmented { masks: vec![segment(9, 12)] }));
    wrong.push(reply(Outcome::Segmented { masks: vec![Segment { presence: f32::NAN, ..segment(12, 9) }] }));
    wrong.push(reply(Outcome::Segmented { masks: vec![Segment { area_pixels: 1, ..segment(12, 9) }] }));
    for place in places_out_of_range() {
        wrong.push(reply(Outcome::Segmented { masks: vec![Segment { positions: vec![place], ..segment(12, 9) }] }));
    }
    let scattered = Segment { positions: vec![Georeference::Placed(position()); MAX_PIECES + 1], ..segment(12, 9) };
    wrong.push(reply(Outcome::Segmented { masks: vec![scattered] }));
    let crowd = vec![segment(12, 9); MAX_CANDIDATES + 1];
    wrong.push(reply(refused(Verdict::TargetAmbiguous { candidates: crowd })));
    for reply in wrong {
        assert!(decode::<Reply>(&encode(&reply).unwrap()).is_err(), "{reply:?}");
    }
}

/// Promise: P5
#[test]
fn a_reply_over_its_cap_is_not_sent() {
    let chequered = Mask::from_fn(512, 512, |x, y| (x * 31 + y * 17) % 3 == 0).unwrap();
    let big = Segment::of(chequered, 0.5, 0.5).unwrap();
    let mut reply = reply(Outcome::Segmented { masks: vec![big] });
    (reply.frame_width, reply.frame_height) = (512, 512);
    assert!(matches!(encode(&reply), Err(LinkError::TooLarge { .. })));
}

#[test]
fn keys_name_one_drone_and_one_query() {
    let drone = DroneId::new("kestrel-1").unwrap();
    assert_eq!(drone.query(), "kestrel/kestrel-1/query");
    assert_eq!(drone.outcome("q1").unwrap(), "kestrel/kestrel-1/outcome/q1");
    assert_eq!(drone.camera(), "kestrel/kestrel-1/camera");
    assert_eq!(drone.pose(), "kestrel/kestrel-1/pose");
    assert_eq!(drone.explanation("q1").unwrap(), "kestrel/kestrel-1/explanation/q1");
    assert!(drone.explanation("*").is_err());
    assert!(drone.outcome("q1/**").is_err());
    assert_eq!(key::drone_of(&drone.alive()).unwrap(), drone);
    for id in ["", "A", "a/b", "*", "a b", &"a".repeat(33)] {
        assert!(DroneId::new(id).is_err(), "{id:?}");
    }
    assert!(key::drone_of("other/kestrel-1/alive").is_err());
}

#[test]
fn chunk_selectors_come_back() {
    let drone = DroneId::new("d").unwrap();
    let request = ChunkRequest { manifest_hash: sha256_hex(b"m"), path: "canary/00.png".into(), offset: 3, length: 4 };
    let selector = request.selector(&drone);
    let (key, parameters) = selector.split_once('?').unwrap();
    assert_eq!(ChunkRequest::parse(key, parameters).unwrap(), request);
    assert_eq!(request.slice(b"0123456789"), Some(&b"3456"[..]));
    assert_eq!(request.slice(b"012345"), None);
    for parameters in [
        "",
        "offset=0",
        "offset=0;length=0",
        "offset=0;length=262145",
        "offset=-1;length=1",
        "offset=1;offset=2;length=1",
    ] {
        assert!(ChunkRequest::parse(key, parameters).is_err(), "{parameters}");
    }
    let escape = key.replace("canary/00.png", "../secret");
    assert!(ChunkRequest::parse(&escape, parameters).is_err());
}

proptest! {
    #[test]
    fn queries_come_back(id in "[a-zA-Z0-9._-]{1,64}", text in "[a-zäöü ,']{1,120}[a-z]", point in proptest::option::of((0f32..=1.0, 0f32..=1.0)), frames: u32, explain: bool) {
        let hint = point.map(|(x, y)| Hint::Point { x, y });
        let query = Query { hint, frames, explain, ..Query::new(id, text) };
        prop_assert_eq!(decode::<Query>(&encode(&query).unwrap()).unwrap(), query);
    }

    #[test]
    fn replies_come_back(presence in 0f32..=1.0, frame: u64, nanos: u64, which in 0usize..18, evidence in proptest::collection::vec(("[a-z_]{1,20}", -1e6f32..1e6), 0..8)) {
        let verdict = verdicts()[which].clone();
        let outcome = Outcome::Refused(Refusal { verdict, evidence, advice: "wait".into() });
        let refusal = Reply { frame, capture_unix_nanos: nanos, ..reply(outcome) };
        prop_assert_eq!(decode::<Reply>(&encode(&refusal).unwrap()).unwrap(), refusal);
        let answer = reply(Outcome::Segmented { masks: vec![Segment { presence, ..segment(12, 9) }] });
        prop_assert_eq!(decode::<Reply>(&encode(&answer).unwrap()).unwrap(), answer);
    }
}
