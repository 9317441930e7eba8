//! Recorded flights, flown again (promise P11).

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use kestrel_link::{Mask, Query, Verdict};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::Opener;
use kestrel_onboard::node::{Limits, ModelSource};
use kestrel_onboard::pipeline::{Segmenter, SegmenterOptions};
use kestrel_onboard::record::{
    Agreement, Flight, RecordOptions, Records, ReplayError, Report, Survey, Terms, engine_fits, model_fits, replay,
    survey,
};
use kestrel_perception::{GateThresholds, Tiling};
use mcap::records::{Metadata, Record};
use serde_json::{Value, json};

use crate::command_line::{Bench, assert_clear};
use crate::degraded;
use crate::faulty::{self, Faults};
use crate::ledger::segmented;
use crate::network::{PATIENCE, Pair, verdict};
use crate::push::{as_it_is, push, slots};
use crate::red::{self, BLUE, NONSENSE, RED, picture, query};

/// A gate that lets drawn pictures pass, unless one repeats itself twice.
pub(crate) fn gate() -> GateThresholds {
    GateThresholds {
        least_high_luma: 0.0,
        most_clipped_share: 1.0,
        most_constant_bottom: 1.0,
        most_tear: 1e9,
        most_repeats: 2,
        most_noise_levels: 1e9,
        least_contrast: 0.0,
        least_chroma: 0.0,
        most_magenta: 1e9,
        least_sharpness: [0.0; 2],
        least_directional_sharpness: 0.0,
        most_repeated_share: 1e9,
        ..GateThresholds::default()
    }
}

pub(crate) fn options(file: &Path) -> Option<RecordOptions> {
    Some(RecordOptions { file: file.to_owned(), most_bytes: 0 })
}

/// Shows the pictures one after the other and asks about each.
pub(crate) async fn fly(pair: &Pair, pictures: &[RgbImage]) {
    let nonsense = format!("red {NONSENSE}");
    for (capture, shown) in (1_000_000_000..).zip(pictures) {
        let number = pair.node.frames().put(shown.clone(), capture).unwrap();
        for (id, text) in [("a", "red square"), ("b", "blue square"), ("c", nonsense.as_str())] {
            // A question may still meet the frame before.
            while pair.ask(&query(id, text)).await.unwrap().frame != number {}
        }
    }
}

fn pictures() -> Vec<RgbImage> {
    let still = picture(700, 500, &[(300, 200, 60, RED)]);
    let other = picture(320, 240, &[(60, 60, 40, RED), (200, 100, 30, BLUE)]);
    vec![picture(320, 240, &[(100, 60, 50, RED)]), still.clone(), still.clone(), still, other]
}

/// Flies those pictures with the model `red@1` and records that.
pub(crate) async fn recorded(root: &Path) -> (Bundle, PathBuf) {
    let bundle = red::write(&root.join("bundle"), "1", None);
    let file = root.join("flight.mcap");
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let segmenter = SegmenterOptions { gate: Some(gate()), ..red::options(Tiling::Auto) };
    let source = ModelSource::Folder(bundle.dir.clone());
    let pair = Pair::recorded(source, limits, segmenter, options(&file)).await;
    fly(&pair, &pictures()).await;
    let recording = pair.node.health().recording.expect("health says that the flight is recorded");
    assert_eq!((recording.lost_frames, recording.lost_outcomes, recording.stopped.as_str()), (0, 0, ""));
    pair.stop().await;
    (bundle, file)
}

pub(crate) fn held(file: &Path) -> Survey {
    survey(BufReader::new(File::open(file).unwrap())).unwrap()
}

pub(crate) fn replayed(file: &Path, bundle: &Bundle, agreement: Agreement) -> Report {
    replayed_on(&Opener::default(), file, bundle, agreement)
}

/// Replays on an engine of the opener.
pub(crate) fn replayed_on(opener: &Opener, file: &Path, bundle: &Bundle, agreement: Agreement) -> Report {
    let flight = held(file).flight;
    let Flight { tiling, tiles, gate, standing, georeferencing, .. } = flight;
    let options = SegmenterOptions { tiling, tiles, gate, standing, ..SegmenterOptions::default() };
    let mut segmenter = Segmenter::open_with(bundle, opener, &red::tract(), options).unwrap();
    let mut records = Records::open(BufReader::new(File::open(file).unwrap()), true).unwrap();
    let georeferencer = georeferencing.map(|with| with.georeferencer().unwrap());
    let terms = Terms { agreement, manifest_hash: &bundle.manifest_hash, georeferencer };
    replay(&mut records, &mut segmenter, &terms, |_| {}).unwrap()
}

/// Copies a record; `change` may change a message of a topic, or metadata of a name, or have it left out by `false`.
pub(crate) fn rewritten(from: &Path, to: &Path, mut change: impl FnMut(&str, &mut Value) -> bool) {
    let bytes = std::fs::read(from).unwrap();
    let mut out = mcap::Writer::new(BufWriter::new(File::create(to).unwrap())).unwrap();
    let mut topics = std::collections::BTreeMap::new();
    for record in mcap::read::ChunkFlattener::new(&bytes).unwrap() {
        match record.unwrap() {
            Record::Metadata(Metadata { name, metadata }) => {
                let read = |(key, text): (String, String)| (key, serde_json::from_str(&text).unwrap());
                let mut fields = Value::Object(metadata.into_iter().map(read).collect());
                if change(&name, &mut fields) {
                    let fields = fields.as_object().unwrap().iter();
                    let metadata = fields.map(|(key, value)| (key.clone(), value.to_string())).collect();
                    out.write_metadata(&Metadata { name, metadata }).unwrap();
                }
            }
            Record::Schema { header, data } => {
                out.add_schema_with_id(header.id, &header.name, &header.encoding, &data).unwrap();
            }
            Record::Channel(channel) => {
                let mcap::records::Channel { id, schema_id, topic, message_encoding, metadata } = &channel;
                out.add_channel_with_id(*id, *schema_id, topic, message_encoding, metadata).unwrap();
                topics.insert(channel.id, channel.topic);
            }
            Record::Message { header, data } => {
                let mut message = serde_json::from_slice(&data).unwrap();
                if change(&topics[&header.channel_id], &mut message) {
                    out.write_to_known_channel(&header, &serde_json::to_vec(&message).unwrap()).unwrap();
                }
            }
            Record::DataEnd(_) => break,
            _ => {}
        }
    }
    out.finish().unwrap();
}

/// Setup: a flight with masks, refusals of the model and of the gate, over several frames. Fault: none. Expected: every
/// outcome again, bit for bit. Invariant: nothing is compared with itself, the model answers anew.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_flight_replays_bit_by_bit() {
    let root = tempfile::tempdir().unwrap();
    let (bundle, file) = recorded(root.path()).await;
    let survey = held(&file);
    assert_eq!((survey.looks, survey.damage.count, survey.models.len()), (5, 0, 1));
    assert!(survey.outcomes >= 15 && survey.end.is_some());
    let flown = model_fits(&survey, &bundle, Agreement::Exact).unwrap().unwrap();
    assert_eq!((flown.name.as_str(), flown.engine.as_str()), ("red@1", "tract"));
    assert_eq!(flown.thresholds_hash, bundle.manifest.files["thresholds.json"].sha256);
    let report = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.outcomes), (survey.looks, survey.outcomes));
    assert_eq!((report.different, &report.first, report.missing_looks), (0, &None, 0));

    let mut seen = Vec::new();
    rewritten(&file, &root.path().join("copy.mcap"), |topic, message| {
        if topic == "/outcomes" {
            let outcome = &message["outcome"];
            seen.push(outcome["verdict"]["reason"].as_str().or(outcome["kind"].as_str()).unwrap().to_owned());
        }
        true
    });
    for wanted in ["segmented", "target_absent", "query_not_understood", "frozen"] {
        assert!(seen.iter().any(|one| one == wanted), "the flight shows no {wanted}: {seen:?}");
    }
}

/// Setup: a recorded flight. Fault: one thing in the record is another: a mask, a number, a reason, what the gate
/// remembered. Expected: the first difference is named with its place. Invariant: no part of an outcome is left
/// uncompared.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_is_named() {
    let root = tempfile::tempdir().unwrap();
    let (bundle, file) = recorded(root.path()).await;
    let changed = root.path().join("changed.mcap");
    let other = Mask::from_fn(320, 240, |x, y| (100..150).contains(&x) && (60..100).contains(&y)).unwrap();
    let cases: [(&str, &str, Value, &str); 6] = [
        ("/outcomes", "/outcome/masks/0/mask/counts", json!(other.counts), "masks[0].mask"),
        ("/outcomes", "/outcome/masks/0/presence", json!(0.125), "masks[0].presence"),
        ("/outcomes", "/outcome/advice", json!("none"), "advice"),
        ("/outcomes", "/outcome/verdict/reason", json!("too_dark"), "reason"),
        ("/looks", "/history_after/repeats", json!(7), "gate.history"),
        ("/looks", "/refusal/advice", json!("none"), "gate.advice"),
    ];
    for (topic, pointer, value, field) in cases {
        let mut done = false;
        rewritten(&file, &changed, |of, message| {
            if of == topic
                && !done
                && let Some(place) = message.pointer_mut(pointer)
            {
                *place = value.clone();
                done = true;
            }
            true
        });
        assert!(done, "{field}: there is nothing to change");
        let report = replayed(&changed, &bundle, Agreement::Exact);
        assert!(report.different >= 1, "{field}");
        let found = report.first.unwrap();
        assert_eq!(found.difference.field, field);
        assert_eq!(found.query.is_some(), topic == "/outcomes", "{field}");
        if field == "masks[0].mask" {
            let by = found.difference.mask.unwrap();
            assert!(by.iou > 0.7 && by.iou < 0.9 && by.pixels > 300, "{by:?}");
            assert_eq!((found.frame, found.query.unwrap().1.as_str()), (0, "red square"));
        }
    }
}

/// Setup: a recorded flight. Fault: a frame with its outcomes is not in the record; or no picture in it can be read.
/// Expected: the rest replays, the gate goes on from where it stood in flight, and what is missing is said.
/// Invariant: what is not there is never told to be alike or different.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_gaps_replays_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let (bundle, file) = recorded(root.path()).await;
    let gapped = root.path().join("gapped.mcap");
    // The third look is the second of three alike: without it the gate could not know that the fourth is frozen.
    rewritten(&file, &gapped, |topic, message| {
        !matches!(topic, "/looks" | "/queries" | "/outcomes") || message["look"] != 2
    });
    let report = replayed(&gapped, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.missing_looks, report.different), (4, 1, 0), "{:?}", report.first);

    rewritten(&file, &gapped, |topic, message| {
        if topic == "/camera" {
            message["data"] = json!("AAAA");
        }
        true
    });
    let report = replayed(&gapped, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.outcomes, report.damaged_looks), (0, 0, 5));
    assert_eq!(report.unasked_outcomes, held(&file).outcomes);
}

/// Setup: a recorded flight. Fault: its file ends in the middle of the data. Expected: that is said, and what is left
/// replays alike. Invariant: every look that can be read is replayed. (A real kill -9 stands in `killed.rs`.)
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_cut_off_replays_what_is_left() {
    let root = tempfile::tempdir().unwrap();
    let (bundle, file) = recorded(root.path()).await;
    let mut bytes = std::fs::read(&file).unwrap();
    // The footer, before the last eight bytes, says where the data ends and the summary begins.
    let footer = bytes.len() - 28;
    let data = u64::from_le_bytes(bytes[footer..footer + 8].try_into().unwrap()) as usize;
    bytes.truncate(data * 2 / 3);
    let cut = root.path().join("cut.mcap");
    std::fs::write(&cut, bytes).unwrap();
    let survey = held(&cut);
    assert!(survey.end.is_none() && survey.damage.first.is_some(), "that it was cut is said");
    let report = replayed(&cut, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.outcomes, report.different), (survey.looks, survey.outcomes, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_or_engine_replays_only_loosely() {
    let root = tempfile::tempdir().unwrap();
    let (bundle, file) = recorded(root.path()).await;
    let survey = held(&file);
    let other = red::write(&root.path().join("other"), "2", None);
    let error = model_fits(&survey, &other, Agreement::Exact).unwrap_err();
    assert!(
        matches!(&error, ReplayError::OtherModel { recorded, got } if recorded.contains("red@1") && got.contains("red@2")),
        "{error}"
    );
    let loosely = Agreement::Loose { least_iou: 0.9 };
    assert_eq!(model_fits(&survey, &other, loosely).unwrap(), None);
    let report = replayed(&file, &other, loosely);
    assert_eq!((report.outcomes, report.different), (survey.outcomes, 0), "{:?}", report.first);

    let flown = model_fits(&survey, &bundle, Agreement::Exact).unwrap();
    assert!(engine_fits(flown, "tract", Agreement::Exact).is_ok());
    let error = engine_fits(flown, "ort/cpu", Agreement::Exact).unwrap_err();
    assert_eq!(error.to_string(), "engine: expected tract, which flew, got ort/cpu");
    assert!(engine_fits(flown, "ort/cpu", loosely).is_ok());
}

/// Setup: a recorded flight. Fault: another model is pushed in its middle.
/// Expected: each model replays its own looks, from the gate's beginning. Invariant: no model answers for another.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_model_of_a_flight_replays_its_own_frames() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let first = red::write(&at("first"), "1", None);
    let second = red::write(&at("second"), "2", Some(&red::key()));
    let file = at("flight.mcap");
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let source = slots(&at("slots"), Some(&at("first")));
    let pair = Pair::recorded(source, limits, red::options(Tiling::Never), options(&file)).await;
    fly(&pair, &pictures()[..2]).await;
    let phase = push(&pair, second.clone(), as_it_is).await;
    assert_eq!(phase, kestrel_link::PushPhase::Committed);
    fly(&pair, &pictures()[..1]).await;
    pair.stop().await;
    let survey = held(&file);
    let models: Vec<&str> = survey.models.iter().map(|flown| flown.model.name.as_str()).collect();
    assert_eq!(models, ["red@1", "red@2"]);
    for (bundle, looks) in [(first, survey.models[0].looks), (second, survey.models[1].looks)] {
        let report = replayed(&file, &bundle, Agreement::Exact);
        assert_eq!((report.looks, report.different, report.missing_looks), (looks, 0, 0), "{:?}", report.first);
        assert_eq!(report.foreign_looks, survey.looks - looks);
    }
}

/// Setup: a recorded flight with a gate that knows repeated frames. Fault: the engine fails at a frame, is opened anew,
/// and looks at the same frame again. Expected: the gate of the replay has forgotten what the one in flight had, so that
/// the frame is no repeated one. Invariant: another engine's looks are left out, and not told to differ.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_engine_that_was_opened_anew_saw_replays() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let file = root.path().join("flight.mcap");
    let faults = Arc::new(Faults::default());
    let source = ModelSource::Folder(bundle.dir.clone());
    let pair = Pair::with(source, degraded::limits(), |config| {
        config.segmenter.gate = Some(gate());
        config.record = options(&file);
        config.engine = faulty::options();
        config.upkeep = degraded::upkeep(&faults);
    })
    .await;
    pair.node.frames().put(pictures().remove(0), 1).unwrap();
    faults.fail(1);
    let failed = pair.ask(&query("failed", "red square")).await.unwrap();
    assert_eq!(verdict(&failed), &Verdict::EngineDegraded);
    let answered = async { while !segmented(&pair.ask(&query("again", "red square")).await.unwrap()) {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
    pair.stop().await;
    let report = replayed(&file, &bundle, Agreement::Loose { least_iou: 0.9 });
    assert_eq!((report.looks, report.different), (2, 0), "{:?}", report.first);
    // The engine that flew goes by another name than the one that replays.
    let report = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.foreign_looks, report.different), (0, 2, 0));
}

/// What would break: an answer that came too late for its asker, told to differ from the one that perception gave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_deadline_is_no_difference() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let file = root.path().join("flight.mcap");
    let limits = Limits { reuse_frame: PATIENCE, deadline: std::time::Duration::ZERO, ..Limits::default() };
    let source = ModelSource::Folder(bundle.dir.clone());
    let pair = Pair::recorded(source, limits, red::options(Tiling::Never), options(&file)).await;
    fly(&pair, &pictures()[..1]).await;
    pair.stop().await;
    let report = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.different, report.looks), (0, 1));
    assert!(report.outcomes >= 3);
}

/// Setup: a recorded flight and `onboard replay`. Fault: one outcome in the record is another; the bundle is of another
/// model; the file is no record. Expected: the first difference with its place, or what does not fit, and exit code 1.
/// Invariant: exit code 0 only where every outcome is the same to the last bit, or loosely where that was asked for.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_alike_or_what_differs() {
    let bench = Bench::new();
    let root = tempfile::tempdir().unwrap();
    let (_, file) = recorded(root.path()).await;
    let (record, bundle) = (file.display().to_string(), root.path().join("bundle").display().to_string());
    let told = bench.onboard(&["replay", &record, "--bundle", &bundle]);
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stderr));
    let wanted = format!("replayed 5 frames and {} outcomes: identical", held(&file).outcomes);
    assert!(stdout.contains(&wanted), "{stdout}");

    let changed = root.path().join("changed.mcap");
    rewritten(&file, &changed, |topic, message| {
        if topic == "/outcomes" && message["look"] == 1 && message["query_id"] == "b" {
            message["outcome"]["verdict"]["reason"] = json!("too_dark");
        }
        true
    });
    let changed = changed.display().to_string();
    let told = bench.onboard(&["replay", &changed, "--bundle", &bundle]);
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{stdout}");
    let wanted = "frame 1, query b (\"blue square\"), reason: expected too_dark, got target_absent";
    assert!(stdout.contains(wanted), "{stdout}");
    let told = bench.onboard(&["replay", &changed, "--bundle", &bundle, "--json"]);
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&report["different"], &report["first_difference"]["field"]), (&json!(1), &json!("reason")));

    let other = red::write(&root.path().join("other"), "2", None).dir.display().to_string();
    assert_clear(&bench.onboard(&["replay", &record, "--bundle", &other]), 1, "model: expected red@1");
    let told = bench.onboard(&["replay", &record, "--bundle", &other, "--loose"]);
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
    assert_clear(&bench.onboard(&["replay", &bench.path("red.png"), "--bundle", &bundle]), 1, "expected an MCAP file");
    assert_clear(&bench.onboard(&["replay", "none.mcap", "--bundle", &bundle]), 1, "none.mcap");
}

/// Setup: a record of that name is there. Fault: a flight is to be recorded under it. Expected: the drone does not start,
/// and says why. Invariant: the old record stays.
#[test]
fn a_flight_does_not_start_over_an_old_record() {
    let bench = Bench::new();
    let config = bench.path("drone.toml");
    let text = "[model]\nbundle = \"bundle\"\n[engine]\nname = \"tract\"\n[camera]\npath = \"red.png\"\n\
        [link]\nlisten = []\n";
    std::fs::write(&config, text).unwrap();
    std::fs::write(bench.path("old.mcap"), b"an old flight").unwrap();
    let output = bench.onboard(&["run", "--config", &config, "--record", "old.mcap"]);
    assert_clear(&output, 1, "old.mcap: expected a new file");
    assert_eq!(std::fs::read(bench.path("old.mcap")).unwrap(), b"an old flight");
}

/// Setup: a recorded flight with a query that stands and single ones. Fault: a look in its middle is not in the record.
/// Expected: the query that stands is asked again about each frame, in the order in which queries were put, and goes on
/// from what was kept of it. Invariant: behind a gap that is not known, and is not compared.
///
/// Promise: P11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standing_queries_replay_with_each_of_their_frames() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let file = root.path().join("flight.mcap");
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let source = ModelSource::Folder(bundle.dir.clone());
    let pair = Pair::recorded(source, limits, red::options(Tiling::Never), options(&file)).await;
    pair.node.frames().put(pictures().remove(0), 1).unwrap();
    pair.ask(&Query { frames: 0, ..query("s", "red square") }).await.unwrap();
    fly(&pair, &pictures()[3..]).await;
    pair.stop().await;
    let report = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.different, report.unasked_outcomes), (3, 0, 0), "{:?}", report.first);
    assert!(report.outcomes >= 9, "three of the standing query, six of the others: {}", report.outcomes);

    let (gapped, mut kept) = (root.path().join("gapped.mcap"), Vec::new());
    rewritten(&file, &gapped, |topic, message| {
        if topic == "/outcomes" && message["query_id"] == "s" {
            let age = &message["standing"]["verified_frames_ago"];
            kept.push((message["turn"].as_u64(), age.as_u64(), message["outcome"]["masks"][0]["track"]["id"].as_u64()));
        }
        !matches!(topic, "/looks" | "/queries" | "/outcomes") || message["look"] != 1
    });
    let turns: Vec<Option<u64>> = kept.iter().map(|(turn, ..)| *turn).collect();
    assert_eq!(turns, [Some(0), Some(1), Some(2)]);
    assert!(kept.iter().all(|(_, age, id)| age.is_some() && id.is_some()), "{kept:?}");
    let report = replayed(&gapped, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.different, report.unasked_outcomes), (2, 0, 1), "{:?}", report.first);
}
