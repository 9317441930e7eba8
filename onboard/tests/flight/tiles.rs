//! Large frames within a budget of views: grids, coarse and then fine, and what a record keeps of it.

use image::RgbImage;
use kestrel_link::{Outcome, Refusal, Verdict};
use kestrel_onboard::engine::{self, Engine, EngineError, Graph, Input, Opener, Tensor};
use kestrel_onboard::node::{Limits, ModelSource};
use kestrel_onboard::pipeline::{Answer, Segmenter, SegmenterOptions, union};
use kestrel_onboard::record::Agreement;
use kestrel_perception::{Bitmap, TileOptions, Tiling};
use serde_json::json;

use crate::command_line::{Bench, assert_clear};
use crate::network::{PATIENCE, Pair};
use crate::record;
use crate::red::{self, RED, picture, query};

/// Where the target is, and its side.
const PLACE: [u32; 3] = [3000, 1700, 40];

/// A frame of 3840×2160 pixels whose target is too small for the overview.
fn frame() -> RgbImage {
    let [x, y, side] = PLACE;
    picture(3840, 2160, &[(x, y, side, RED)])
}

pub(crate) fn options(tiling: Tiling, most_views: u32) -> SegmenterOptions {
    let tiles = TileOptions { budget_millis: 0, most_views, ..TileOptions::default() };
    SegmenterOptions { tiles, ..red::options(tiling) }
}

fn segmenter(options: SegmenterOptions) -> Segmenter {
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    Segmenter::open(&bundle, &red::tract(), options).unwrap()
}

fn ask(segmenter: &mut Segmenter, shown: &RgbImage, text: &str) -> Answer {
    segmenter.segment(shown, &query("q", text)).unwrap()
}

fn assert_found(answer: &Answer, shown: &RgbImage, [x, y, side]: [u32; 3]) {
    let truth =
        Bitmap::from_fn(shown.width(), shown.height(), |u, v| (x..x + side).contains(&u) && (y..y + side).contains(&v));
    let found = union(&answer.outcome).unwrap().expect("a mask");
    let iou = found.iou(&truth).unwrap();
    assert!(iou > 0.5, "IoU {iou}");
}

fn refusal(answer: Answer) -> Refusal {
    match answer.outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn evidence(refusal: &Refusal, name: &str) -> f32 {
    refusal.evidence.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}: {refusal:?}")).1
}

/// What would break: a deadline that is missed because a frame is large.
#[test]
fn a_large_frame_costs_no_more_views_than_the_budget_allows() {
    let shown = frame();
    for (tiling, most) in [(Tiling::Grid, 9), (Tiling::CoarseToFine, 3)] {
        let mut segmenter = segmenter(options(tiling, most));
        for text in ["red square", "red squares all", "green tree"] {
            let answer = ask(&mut segmenter, &shown, text);
            let [seen, asked, drawn] = answer.timings.runs;
            assert!(seen <= most && asked <= most && drawn <= most, "{tiling:?} {text}: {:?}", answer.timings.runs);
            if text.starts_with("red") {
                assert_found(&answer, &shown, PLACE);
            }
        }
    }
    let overview = ask(&mut segmenter(options(Tiling::Never, 9)), &shown, "red square");
    assert!(matches!(refusal(overview).verdict, Verdict::TargetTooSmall | Verdict::TargetAbsent));
}

/// What would break: "it is not there" after a look at a part of the frame, said as if it were the whole.
#[test]
fn a_refusal_says_how_closely_the_frame_was_looked_at() {
    let shown = frame();
    let refused = refusal(ask(&mut segmenter(options(Tiling::Grid, 9)), &shown, "green tree"));
    assert_eq!((evidence(&refused, "tiles_asked"), evidence(&refused, "tiles_left")), (8.0, 0.0));
    // Four columns and two rows: the longest side of a tile is 1152 pixels.
    assert_eq!(evidence(&refused, "smallest_pixels"), 36.0);
    let refused = refusal(ask(&mut segmenter(options(Tiling::CoarseToFine, 3)), &shown, "green tree"));
    assert_eq!((evidence(&refused, "tiles_asked"), evidence(&refused, "tiles_left")), (2.0, 13.0));
    assert!(evidence(&refused, "smallest_pixels") <= 32.0);
}

#[test]
fn what_depends_on_a_place_in_the_frame_is_not_asked_of_tiles() {
    let mut segmenter = segmenter(options(Tiling::Grid, 9));
    let answer = ask(&mut segmenter, &frame(), "red square on the left");
    assert_eq!(answer.timings.runs, [1, 1, 1]);
}

#[test]
fn what_the_overview_sees_is_drawn_again_by_the_tiles_that_hold_it() {
    let place = [1000, 500, 150];
    let shown = picture(3840, 2160, &[(place[0], place[1], place[2], RED)]);
    let mut segmenter = segmenter(options(Tiling::CoarseToFine, 4));
    let answer = ask(&mut segmenter, &shown, "red square");
    assert!((2..=4).contains(&answer.timings.runs[1]), "{:?}", answer.timings.runs);
    assert_found(&answer, &shown, place);
}

/// Setup: a budget of one millisecond, in which no view fits. Expected: the overview, and nothing else.
#[test]
fn a_budget_in_which_nothing_fits_leaves_the_overview() {
    let shown = frame();
    let tiles = TileOptions { budget_millis: 1, ..TileOptions::default() };
    let mut segmenter = segmenter(SegmenterOptions { tiles, ..red::options(Tiling::Grid) });
    assert_eq!(segmenter.look_still(&shown).unwrap().most_views(), Some(1));
    assert_eq!(ask(&mut segmenter, &shown, "red square").timings.runs, [1, 1, 1]);
    segmenter.set_most_views(Some(5));
    assert_eq!(segmenter.look_still(&shown).unwrap().most_views(), Some(5), "as another flight had it");
}

/// tract, for any number of views at once.
struct Several {
    inner: Box<dyn Engine>,
    /// By what part of itself each number changes for each view that is seen beside it.
    beside: f32,
}

/// Opens an engine that sees three views in one run. With `beside` other than 0 what it says of a view depends on how many are
/// seen beside it, as the last bits of an engine may.
pub(crate) fn several(beside: f32) -> Opener {
    Opener::new(move |graphs, _| {
        let inner = engine::open(graphs, &red::tract())?;
        Ok(Box::new(Several { inner, beside }) as Box<dyn Engine>)
    })
}

impl Engine for Several {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.inner.input_shapes(graph)
    }

    fn views_per_run(&self) -> usize {
        3
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        let (Graph::Vision, [Input::F32(shape, data)]) = (graph, inputs) else {
            return self.inner.run(graph, inputs, outputs);
        };
        let count = shape[0];
        let mut all = vec![Tensor::default(); outputs.len()];
        for view in data.chunks_exact(data.len() / count) {
            self.inner.run(graph, &[Input::F32(&[1, shape[1], shape[2], shape[3]], view)], outputs)?;
            for (all, one) in all.iter_mut().zip(outputs.iter()) {
                all.shape.clone_from(&one.shape);
                all.shape[0] = count;
                let factor = 1.0 + self.beside * (count - 1) as f32;
                all.data.extend(one.data.iter().map(|number| number * factor));
            }
        }
        outputs.iter_mut().zip(all).for_each(|(output, all)| *output = all);
        Ok(())
    }
}

#[test]
fn tiles_seen_together_are_what_they_are_alone() {
    let shown = frame();
    let folder = tempfile::tempdir().unwrap();
    let bundle = red::write(folder.path(), "1", None);
    let mut together = Segmenter::open_with(&bundle, &several(0.0), &red::tract(), options(Tiling::Grid, 9)).unwrap();
    let mut alone = segmenter(options(Tiling::Grid, 9));
    for text in ["red square", "green tree"] {
        let (one, other) = (ask(&mut together, &shown, text), ask(&mut alone, &shown, text));
        assert_eq!(one.outcome, other.outcome);
        assert_eq!(one.timings.runs, [4, 9, 9], "the overview, and eight tiles by threes");
        assert_eq!(other.timings.runs, [9, 9, 9]);
    }
}

/// What would break (promise P11): a replay that looks at other tiles than the flight did, because views take another time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flight_replays_with_the_views_that_it_had() {
    let root = tempfile::tempdir().unwrap();
    let bundle = red::write(&root.path().join("bundle"), "1", None);
    let (file, other) = (root.path().join("flight.mcap"), root.path().join("other.mcap"));
    let limits = Limits { reuse_frame: PATIENCE, ..Limits::default() };
    let source = ModelSource::Folder(bundle.dir.clone());
    let segmenter = options(Tiling::CoarseToFine, 4);
    let pair = Pair::recorded(source, limits, segmenter, record::options(&file)).await;
    record::fly(&pair, &[picture(1600, 1200, &[(1300, 900, 13, RED)])]).await;
    pair.stop().await;
    let report = record::replayed(&file, &bundle, Agreement::Exact);
    assert_eq!((report.looks, report.different), (1, 0), "{:?}", report.first);

    record::rewritten(&file, &other, |topic, message| {
        if topic == "/looks" {
            assert_eq!(message["most_views"], 4);
            message["most_views"] = json!(1);
        }
        true
    });
    let report = record::replayed(&other, &bundle, Agreement::Exact);
    assert!(report.different > 0, "with fewer views the target is not seen");
}

#[test]
fn the_command_line_bounds_views_too() {
    let bench = Bench::new();
    picture(1600, 1200, &[(1300, 900, 13, RED)]).save(bench.path("large.png")).unwrap();
    let (image, bundle) = (bench.path("large.png"), bench.path("bundle"));
    let segment = |more: &[&str]| {
        let mut arguments =
            vec!["segment", &image, "red square", "--bundle", &bundle, "--engine", "tract", "--no-gate"];
        arguments.extend(more);
        bench.onboard(&arguments)
    };
    let found = segment(&["--tiling", "coarse-to-fine", "--most-views", "3", "--json"]);
    assert_eq!(found.status.code(), Some(0), "{}", String::from_utf8_lossy(&found.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&answer["outcome"]["kind"], &answer["views"]), (&json!("segmented"), &json!(3)));
    assert_clear(&segment(&["--tiling", "grid", "--most-views", "0"]), 1, "--most-views: expected 1 to 49, got 0");
    assert_clear(&segment(&["--tiling", "grid", "--smallest-pixels", "2"]), 1, "--seen-pixels");
}
