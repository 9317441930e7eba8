//! Records that lack something, flown again: what is there is compared rightly, and what is not is said (promise P11).

use std::path::Path;

use kestrel_link::Query;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::Opener;
use kestrel_onboard::node::{Limits, ModelSource};
use kestrel_onboard::record::{Agreement, Report};
use kestrel_perception::Tiling;
use serde_json::{Value, json};

use crate::command_line::Bench;
use crate::network::{PATIENCE, Pair};
use crate::record::{self, held, recorded, replayed, replayed_on, rewritten};
use crate::red::{self, BLUE, RED, picture, query};
use crate::tiles::{options, several};

fn limits() -> Limits {
    Limits { reuse_frame: PATIENCE, deadline: PATIENCE, ..Limits::default() }
}

/// Flies over one large frame on an engine that sees three tiles in one run. The first question is about what the overview
/// sees and the first tile holds; the second about what only the last tile sees, for which all others are looked at too.
async fn fly_over_tiles(root: &Path, opener: &Opener) -> (Bundle, std::path::PathBuf) {
    let bundle = red::write(&root.join("bundle"), "1", None);
    let file = root.join("flight.mcap");
    let pair = Pair::with(ModelSource::Folder(bundle.dir.clone()), limits(), |config| {
        config.segmenter = options(Tiling::Grid, 9);
        config.record = record::options(&file);
        config.upkeep.opener = opener.clone();
    })
    .await;
    record::fly(&pair, &[picture(3840, 2160, &[(100, 100, 150, RED), (3000, 1700, 40, BLUE)])]).await;
    pair.stop().await;
    (bundle, file)
}

/// What each question came to, in their order.
fn kinds(file: &Path, copy: &Path) -> Vec<(u64, String)> {
    let mut kinds = Vec::new();
    rewritten(file, copy, |topic, message| {
        if topic == "/outcomes" {
            let kind = message["outcome"]["kind"].as_str().unwrap().to_owned();
            kinds.push((message["order"].as_u64().unwrap(), kind));
        }
        true
    });
    kinds
}

/// The first answer about each frame is not in the copy.
fn without_first_answers(file: &Path, copy: &Path) {
    rewritten(file, copy, |topic, message| !matches!(topic, "/queries" | "/outcomes") || message["order"] != 0);
}

fn counted(report: &Report) -> [u64; 4] {
    [report.outcomes, report.different, report.regrouped_outcomes, report.unasked_outcomes]
}

/// Setup: a flight with tiles on an engine that sees several in one run. Fault: an answer is not in the record, so that others
/// are seen together in the replay. Expected: the same bits where the engine gives the same however many it sees; where it does
/// not, what differs is said to do so for that, perhaps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_are_seen_together_replay_with_and_without_a_gap() {
    for (beside, differ) in [(0.0, 0), (-0.2, 1)] {
        let root = tempfile::tempdir().unwrap();
        let (opener, gapped) = (several(beside), root.path().join("gapped.mcap"));
        let (bundle, file) = fly_over_tiles(root.path(), &opener).await;
        let told = kinds(&file, &root.path().join("copy.mcap"));
        let told: Vec<(u64, &str)> = told.iter().map(|(order, kind)| (*order, kind.as_str())).collect();
        assert_eq!(told, [(0, "segmented"), (1, "segmented"), (2, "refused")]);

        let report = replayed_on(&opener, &file, &bundle, Agreement::Exact);
        assert_eq!((report.looks, counted(&report)), (1, [3, 0, 0, 0]), "{:?}", report.first);
        without_first_answers(&file, &gapped);
        let report = replayed_on(&opener, &gapped, &bundle, Agreement::Exact);
        assert_eq!((report.looks, counted(&report)), (1, [2, differ, differ, 0]), "{:?}", report.first);
        // An engine that sees one tile a run has no such excuse.
        let report = replayed(&gapped, &bundle, Agreement::Exact);
        assert_eq!(report.regrouped_outcomes, 0);
    }
}

/// Fault: answers of one frame did not fit into the record. Expected: what rests on them is not compared, the rest is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_leaves_out_what_rests_on_it_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let [file, gapped] = ["flight.mcap", "gapped.mcap"].map(|name| root.path().join(name));
    let source = ModelSource::Folder(bundle.dir.clone());
    let segmenter = red::options(Tiling::Auto);
    let pair = Pair::recorded(source, limits(), segmenter, record::options(&file)).await;
    let shown = |at: u32| picture(800, 600, &[(100 + 20 * at, 100, 90, RED)]);
    pair.node.frames().put(shown(0), 1).unwrap();
    pair.ask(&Query { frames: 0, ..query("s", "red square") }).await.unwrap();
    record::fly(&pair, &[shown(1), shown(2)]).await;
    pair.stop().await;
    let whole = replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((whole.looks, whole.different, whole.unasked_outcomes), (3, 0, 0), "{:?}", whole.first);

    rewritten(&file, &gapped, |topic, message| match topic {
        "/outcomes" => message["query_id"] != "s" || message["look"] != 1,
        "/queries" => message["query"]["id"] != "s" || message["look"] != 1,
        _ => true,
    });
    let report = replayed(&gapped, &bundle, Agreement::Exact);
    // The standing query's answer to the second frame is gone, and that to the third rests on it.
    assert_eq!(counted(&report), [whole.outcomes - 2, 0, 0, 1], "{:?}", report.first);
    assert_eq!((report.looks, report.missing_looks), (3, 0));
}

/// Fault: the disk was too slow for the last frame. Expected: though no number behind it shows the gap, it is said, and so are
/// its outcomes; a record of which nothing can be looked at again is not called alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_at_the_end_is_said() {
    let bench = Bench::new();
    let root = tempfile::tempdir().unwrap();
    let (bundle, file) = recorded(root.path()).await;
    let (short, empty) = (root.path().join("short.mcap"), root.path().join("empty.mcap"));
    let survey = held(&file);
    let (looks, mut lost) = (survey.looks, 0_u64);
    rewritten(&file, &short, |topic, message| match topic {
        "/looks" | "/queries" | "/outcomes" if message["look"] == looks - 1 => {
            lost += u64::from(topic == "/outcomes");
            false
        }
        "kestrel.end" => {
            message["looks"] = json!(looks - 1);
            message["outcomes"] = json!(survey.outcomes - lost);
            (message["lost_frames"], message["lost_outcomes"]) = (json!(1), json!(lost));
            true
        }
        _ => true,
    });
    assert!(lost >= 3);
    let report = replayed(&short, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.missing_looks), (looks - 1, 1));
    assert_eq!(counted(&report), [survey.outcomes - lost, 0, 0, 0], "{:?}", report.first);

    let [short, empty, bundle] = [&short, &empty, &bundle.dir].map(|path| path.display().to_string());
    let told = bench.onboard(&["replay", &short, "--bundle", &bundle]);
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stderr));
    for words in ["missing: 1 frames were looked at", &format!("missing: {lost} outcomes were given"), ": identical"] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
    let told = bench.onboard(&["replay", &short, "--bundle", &bundle, "--json"]);
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&report["missing_frames"], &report["missing_outcomes"]), (&json!(1), &json!(lost)));

    rewritten(&file, Path::new(&empty), |topic, message| {
        if topic == "/camera" {
            message["data"] = json!("AAAA");
        }
        true
    });
    let told = bench.onboard(&["replay", &empty, "--bundle", &bundle]);
    let stdout = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("replayed nothing") && !stdout.contains("identical"), "{stdout}");
}
