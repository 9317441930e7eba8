//! Frames that are prepared while the engine works on another.

use std::sync::Arc;

use image::RgbImage;
use kestrel_link::{Query, Reply, decode, encode};
use kestrel_onboard::health::watchdog::WatchdogLimits;
use kestrel_onboard::node::{Limits, UpkeepOptions};
use kestrel_onboard::pipeline::{Prepared, Preparer, Segmenter, SegmenterOptions, StandingOptions, StandingQuery};
use kestrel_perception::Tiling;

use crate::command_line::Bench;
use crate::counting::{Allocations, counted};
use crate::faulty::{self, Faults};
use crate::network::{PATIENCE, Pair, first, folder};
use crate::record::gate;
use crate::red::{self, BLUE, RED, picture, query};
use crate::weighed::{Weighed, weighing};

fn segmenter(options: &SegmenterOptions) -> Segmenter {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    Segmenter::open(&bundle, &red::tract(), options.clone()).unwrap()
}

/// Setup: frames of several sizes, with and without tiles, some that repeat until the gate refuses them, one that cannot
/// be looked at. Fault: some are prepared ahead, some only for the gate, some not at all. Expected: the same outcomes,
/// the same memory of the gate, the same runs. Invariant: nothing of one frame is seen in another.
///
/// Promise: P11
#[test]
fn prepared_ahead_or_not_the_answers_are_the_same() {
    let options = SegmenterOptions { gate: Some(gate()), ..red::options(Tiling::Auto) };
    let (mut plain, mut ahead) = (segmenter(&options), segmenter(&options));
    let (mut preparer, mut prepared) = (Preparer::new(&options), Prepared::default());
    let still = picture(512, 512, &[(100, 200, 64, RED)]);
    let shown = [
        picture(320, 240, &[(100, 60, 50, RED)]),
        still.clone(),
        still.clone(),
        still.clone(),
        still,
        RgbImage::new(0, 5),
        picture(1600, 1200, &[(1300, 900, 13, RED)]),
        picture(640, 320, &[(20, 20, 90, BLUE), (300, 100, 64, RED)]),
    ];
    for (number, shown) in shown.iter().enumerate() {
        match number % 3 {
            0 | 1 => preparer.prepare(shown, number % 3 == 0, &mut prepared),
            _ => prepared = Prepared::default(),
        }
        let (one, two) = (plain.look(shown), ahead.look_prepared(shown, &mut prepared));
        let (mut one, mut two) = match (one, two) {
            (Ok(one), Ok(two)) => (one, two),
            (one, two) => {
                let errors = (one.err().expect("no pixel"), two.err().expect("no pixel"));
                assert_eq!(errors.0.to_string(), errors.1.to_string());
                continue;
            }
        };
        assert_eq!(one.refusal(), two.refusal(), "frame {number}");
        assert_eq!(one.gate_history(), two.gate_history(), "frame {number}");
        for text in ["red square", "blue square"] {
            let (one, two) = (one.ask(&query("q", text)).unwrap(), two.ask(&query("q", text)).unwrap());
            assert_eq!(one.outcome, two.outcome, "frame {number}, {text}");
            assert_eq!(one.timings.runs, two.timings.runs, "frame {number}, {text}");
        }
    }
    assert!(plain.gate_history().fingerprint.is_some());
}

/// Setup: a standing query. Fault: the engine stalls on a frame while others come in.
/// Expected: then it looks at the newest, and of those before at some, in their order.
/// Invariant: frames in = outcomes + counted drops, though several are under way at once.
///
/// Promise: P1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_engine_works_newer_frames_win_and_all_are_counted() {
    let (_folder, source) = folder();
    let faults = Arc::new(Faults::default());
    let limits = Limits { deadline: PATIENCE, frame_timeout: PATIENCE, ..Limits::default() };
    let upkeep = UpkeepOptions {
        opener: faulty::opener(&faults),
        watchdog: WatchdogLimits { late: PATIENCE, hung: PATIENCE },
        ..UpkeepOptions::of(PATIENCE)
    };
    let pair = Pair::start_with(source, limits, faulty::options(), upkeep).await;
    let frames = pair.node.frames();
    let put = |number: u32| frames.put(picture(320, 240, &[(20 * number, 60, 50, RED)]), 1).unwrap();
    let outcomes = pair.operator.declare_subscriber(pair.drone.outcome("s").unwrap()).await.unwrap();
    let standing = Query { frames: 0, ..query("s", "red square") };
    let answers = pair.get(pair.drone.query(), encode(&standing).unwrap()).await;
    assert_eq!(put(0), 0);
    assert_eq!(first(&answers).await.unwrap().frame, 0);

    faults.stall(true);
    let mut last = 0;
    for number in 1..=5 {
        last = put(number);
    }
    faults.stall(false);
    let mut seen = vec![0];
    while seen.last() != Some(&last) {
        let sample = tokio::time::timeout(PATIENCE, outcomes.recv_async()).await.unwrap().unwrap();
        let reply: Reply = decode(&sample.payload().to_bytes()).unwrap();
        // The subscription may be younger than the first outcome, which was awaited as the answer.
        if reply.frame > 0 {
            seen.push(reply.frame);
        }
    }
    assert!(seen.is_sorted_by(|one, two| one < two), "{seen:?}");
    let health = pair.node.health();
    assert_eq!((health.frames_in, health.frames_dropped), (6, 6 - seen.len() as u64), "{seen:?}");
    assert_eq!((health.segmented, health.refused), (seen.len() as u64, 0));
    pair.stop().await;
}

/// What one frame of a standing query allocates: preparing it, looking at it, answering and encoding; without the engine.
fn weigh(
    (segmenter, preparer): (&mut Segmenter, &mut Preparer),
    (shown, nanos): (&RgbImage, u64),
    standing: &mut StandingQuery,
    prepared: &mut Prepared,
    bytes: &mut Vec<u8>,
) -> [Allocations; 4] {
    let ((), preparing) = counted(|| preparer.prepare(shown, true, prepared));
    let (look, looking) = counted(move || segmenter.look_prepared(shown, prepared));
    let mut look = look.unwrap();
    let (answer, answering) = counted(|| look.ask_standing(standing, nanos).unwrap());
    assert_eq!(answer.timings.runs, [1, 0, 1], "the words were not read again");
    let reply = Reply {
        drone: "drone".into(),
        query_id: "s".into(),
        query_text: "red square".into(),
        frame: 0,
        frame_width: shown.width(),
        frame_height: shown.height(),
        capture_unix_nanos: nanos,
        capture_doubt: None,
        latency_micros: 0,
        frame_age_micros: Some(0),
        model: "red@1".into(),
        engine: "tract".into(),
        outcome: answer.outcome,
        standing: answer.standing,
    };
    let (encoded, encoding) = counted(|| kestrel_link::encode_into(&reply, bytes));
    encoded.unwrap();
    assert!(matches!(reply.outcome, kestrel_link::Outcome::Segmented { .. }));
    look.recycle(answer.whole.unwrap());
    look.recycle_outcome(reply.outcome);
    [preparing, looking, answering, encoding]
}

/// Setup: a standing query on frames of 1280×720, after warm-up. Fault: none. Expected: nothing of the size of a mask or
/// of the model's input is allocated any more, and what is left is counted here: preparing, the coefficients of
/// `fast_image_resize`; looking, the list of views; answering, the runs of the mask's pieces and the names of its tracks;
/// encoding, nothing. Invariant: it does not grow with the frames.
///
/// Promise: P5
#[test]
fn a_steady_frame_allocates_a_few_small_things() {
    let options = SegmenterOptions { gate: Some(gate()), ..red::options(Tiling::Never) };
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    let weighed = Arc::new(Weighed::default());
    let mut segmenter = Segmenter::open_with(&bundle, &weighing(&weighed), &red::tract(), options.clone()).unwrap();
    let mut preparer = Preparer::new(&options);
    let asked = Query { frames: 0, ..query("s", "red square") };
    let kept = StandingOptions { verify_frames: 1000, ..StandingOptions::default() };
    let (mut standing, mut prepared, mut bytes) = (StandingQuery::new(&asked, &kept), Prepared::default(), Vec::new());
    let shown: Vec<RgbImage> = (0..4).map(|at| picture(1280, 720, &[(200 + at % 2 * 10, 300, 100, RED)])).collect();
    // The words are read on the first frame.
    segmenter.look(&shown[3]).unwrap().ask_standing(&mut standing, 1_000_000_000).unwrap();
    let mut steady = Vec::new();
    for turn in 0..12_u64 {
        let nanos = 1_000_000_000 + (turn + 1) * 100_000_000;
        let shown = &shown[turn as usize % 4];
        weighed.forget();
        let frame = weigh((&mut segmenter, &mut preparer), (shown, nanos), &mut standing, &mut prepared, &mut bytes);
        let [preparing, looking, answering, encoding] = frame;
        let own = frame.map(|allocations| allocations.count);
        if turn < 4 {
            continue;
        }
        eprintln!("frame {turn}: prepare, look, answer, encode {frame:?}; the engine by itself {}", weighed.count());
        assert!(weighed.count() > 0, "the engine is told apart");
        assert_eq!(encoding.count, 0);
        assert!(preparing.count <= 512 + 288 + 16 && preparing.largest < 64 * 1024, "{preparing:?}");
        assert!(looking.count <= 4 && looking.largest < 1024, "{looking:?}");
        assert!(answering.count <= 64 && answering.largest < 16 * 1024, "{answering:?}");
        steady.push(own);
    }
    assert_eq!(steady[..4], steady[4..], "it does not grow");
}

#[test]
fn the_bench_tells_both_ways_of_running() {
    let bench = Bench::new();
    let (bundle, image) = (bench.path("bundle"), bench.path("red.png"));
    let model = ["bench", "--bundle", &bundle, "--engine", "tract"];
    let output = bench.onboard(&[&model[..], &["--image", &image, "--frames", "1", "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in ["sequential_per_second", "overlapped_per_second", "bare_per_second"] {
        assert!(report["throughput"][field].as_f64().is_some_and(|rate| rate > 0.0), "{field}: {report}");
    }
    for field in ["gate", "preprocess", "vision", "language", "mask", "postprocess"] {
        assert!(report["stages_millis"][field].as_f64().is_some_and(|time| time > 0.0), "{field}: {report}");
    }
    assert!(report["throughput"]["overlapped_overhead"].is_f64() && report["wanted"]["overhead"] == 0.05, "{report}");
}
