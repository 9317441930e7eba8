//! `ground eval --large`: ways of tiling beside each other on 4K scenes, by the size of what is asked for.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_link::Query;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::pipeline::{Answer, Segmenter, SegmenterOptions, union};
use kestrel_perception::{Bitmap, TileOptions, Tiling};
use kestrel_training::benchmark::{HEIGHT, LARGE_SCENES, WIDTH, large_scenes};
use kestrel_training::metrics::{Figure, Found, Size, Tiled, TiledReport, Wanted, iou, tiled};
use kestrel_training::sample::{Ask, Sample, Target};
use serde_json::{Value, json};

use super::{Arguments, line, overlap};

/// Flags that belong to `--large`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LargeArguments {
    /// Instead of a set: draw scenes of 3840×2160 pixels and compare ways of tiling by the size of what is asked for.
    #[arg(long, conflicts_with_all = ["set", "format", "records", "beside", "reasoned", "salient"])]
    pub(super) large: bool,
    /// With --large: views of one answer at most, where a budget bounds them: the overview and its tiles.
    #[arg(long, requires = "large", value_name = "COUNT", default_value_t = 9)]
    most_views: u32,
    /// With --large: milliseconds that these may take together; 0 sets no bound, so that figures do not depend on the machine.
    #[arg(long, requires = "large", value_name = "MILLIS", default_value_t = 0)]
    budget_millis: u32,
    /// With --large: side in pixels of the frame of the smallest thing that tiles shall show large enough.
    #[arg(long, requires = "large", value_name = "PIXELS", default_value_t = TileOptions::default().smallest_pixels)]
    smallest_pixels: f32,
}

/// The ways, the one that the others are compared with first.
const WAYS: [(&str, Tiling); 4] = [
    ("overview", Tiling::Never),
    ("fixed_2x2", Tiling::Always),
    ("grid", Tiling::Grid),
    ("coarse_to_fine", Tiling::CoarseToFine),
];

/// A thing that was asked for, cut out of its frame.
struct Thing {
    left: u32,
    top: u32,
    mask: Bitmap,
    area: u64,
}

/// Runs `ground eval --large`.
pub(super) fn run(arguments: &Arguments, bundle: &Bundle) -> Result<ExitCode> {
    let LargeArguments { most_views, budget_millis, smallest_pixels, .. } = arguments.large;
    let tiles = TileOptions { budget_millis, most_views, smallest_pixels, ..TileOptions::default() };
    tiles.check().map_err(|(field, expected, got)| {
        anyhow!("{field}: expected {expected}, got {got}\nhint: the flags of --large are in `ground eval --help`")
    })?;
    let table = arguments.gate_table()?;
    let mut ways = Vec::new();
    for (_, tiling) in WAYS {
        let gate = arguments.gate(table.as_ref());
        let options = SegmenterOptions { tiling, tiles, gate, ..SegmenterOptions::default() };
        let segmenter = Segmenter::open(bundle, &arguments.engine.options(arguments.json), options)
            .map_err(|error| anyhow!("{error}\nhint: {}", error.hint()))?;
        ways.push((segmenter, Vec::new()));
    }
    let scenes = arguments.limit.unwrap_or(LARGE_SCENES);
    ask_all(arguments, scenes, &mut ways)?;
    let (overview, rest) = ways.split_first().context("there is no way of tiling")?;
    let mut reports = vec![tiled(&overview.1, None, arguments.seed)];
    reports.extend(rest.iter().map(|(_, answers)| tiled(answers, Some(&overview.1), arguments.seed)));
    if arguments.json {
        println!("{}", described(arguments, &overview.0, &tiles, scenes, &reports)?);
    } else {
        print(&overview.0, &tiles, scenes, &reports);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks every question about every scene in every way.
fn ask_all(arguments: &Arguments, scenes: usize, ways: &mut [(Segmenter, Vec<Tiled>)]) -> Result<()> {
    let bar = if arguments.json { ProgressBar::hidden() } else { ProgressBar::new(scenes as u64) };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} scenes, {msg} ({elapsed}, {eta} left)")?);
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    bar.set_message("drawing");
    for sample in large_scenes(arguments.seed, scenes) {
        let sample = sample?;
        let targets = sample.asks.iter().map(|ask| things(&sample, ask)).collect::<Result<Vec<_>>>()?;
        for ((segmenter, answers), (name, _)) in ways.iter_mut().zip(WAYS) {
            bar.set_message(format!("asking, {name}"));
            let mut look = segmenter.look_still(&sample.picture.image)?;
            for (ask, things) in sample.asks.iter().zip(&targets) {
                let query = Query::new("eval", &ask.text);
                let answer = look.ask(&query).with_context(|| format!("asking “{}”", ask.text))?;
                answers.push(judged(&sample, things, &answer)?);
            }
        }
        bar.inc(1);
        bar.set_message("drawing");
    }
    bar.finish_and_clear();
    Ok(())
}

/// The things that a question asks for; none where the right answer is a refusal.
fn things(sample: &Sample, ask: &Ask) -> Result<Vec<Thing>> {
    let Target::Masks(which) = &ask.target else { return Ok(Vec::new()) };
    let mut things = Vec::new();
    for &index in which {
        let Some(mask) = &sample.picture.instances[index].mask else { continue };
        let whole = Bitmap::from_mask(mask)?;
        let Some([left, top, width, height]) = whole.bounding_box() else { continue };
        let mask = Bitmap::from_fn(width, height, |x, y| whole.get(left + x, top + y));
        things.push(Thing { left, top, area: mask.area(), mask });
    }
    Ok(things)
}

fn judged(sample: &Sample, things: &[Thing], answer: &Answer) -> Result<Tiled> {
    let (width, height) = sample.picture.image.dimensions();
    let shown = union(&answer.outcome)?.unwrap_or_else(|| Bitmap::new(width, height));
    let mut target = Bitmap::new(width, height);
    let mut wanted = Vec::new();
    for thing in things {
        let mut seen = 0;
        for (y, x) in (0..thing.mask.height()).flat_map(|y| (0..thing.mask.width()).map(move |x| (y, x))) {
            if thing.mask.get(x, y) {
                let (x, y) = (thing.left + x, thing.top + y);
                seen += u64::from(shown.get(x, y));
                target.bits_mut()[(y * width + x) as usize] = true;
            }
        }
        wanted.push(Wanted { size: size(thing.area as f64, width), found: 2 * seen >= thing.area });
    }
    let area: u64 = things.iter().map(|thing| thing.area).sum();
    let timings = &answer.timings;
    Ok(Tiled {
        scene: sample.picture.origin.scene.clone(),
        size: (!things.is_empty()).then(|| size(area as f64 / things.len() as f64, width)),
        things: wanted,
        iou: iou(shown.area(), overlap(&shown, &target), target.area()),
        shown: shown.area() > 0,
        vision_runs: timings.runs[0],
        views: timings.runs[1],
        millis: timings.total().as_secs_f64() * 1e3,
    })
}

/// Size in an overview at the model's input of so many pixels of a frame.
fn size(area: f64, frame_width: u32) -> Size {
    let scale = f64::from(kestrel_link::manifest::INPUT_SIZE) / f64::from(frame_width);
    Size::of((area * scale * scale).round() as u64)
}

fn described(
    arguments: &Arguments,
    segmenter: &Segmenter,
    tiles: &TileOptions,
    scenes: usize,
    reports: &[TiledReport],
) -> Result<Value> {
    let mut tilings = serde_json::Map::new();
    for ((name, _), report) in WAYS.iter().zip(reports) {
        tilings.insert((*name).to_owned(), serde_json::to_value(report)?);
    }
    Ok(json!({
        "model": segmenter.model(),
        "engine": segmenter.engine(),
        "frame_pixels": [WIDTH, HEIGHT],
        "scenes": scenes,
        "seed": arguments.seed,
        "tiles": tiles,
        "tilings": tilings,
    }))
}

fn print(segmenter: &Segmenter, tiles: &TileOptions, scenes: usize, reports: &[TiledReport]) {
    let questions = reports.first().map_or(0, |report| report.questions);
    println!(
        "{} on {scenes} scenes of {WIDTH}×{HEIGHT}, engine {}, {questions} questions; 95 % intervals resampled by scene",
        segmenter.model(),
        segmenter.engine()
    );
    let TileOptions { most_views, budget_millis, smallest_pixels, .. } = tiles;
    println!("grid and coarse_to_fine: at most {most_views} views an answer, {budget_millis} ms (0: no bound),");
    println!("things from {smallest_pixels} pixels; sizes are those in an overview at the model's input");
    for ((name, _), report) in WAYS.iter().zip(reports) {
        println!("\n{name}");
        for (size, found) in &report.sizes {
            sized(&format!("{size:?}").to_lowercase(), found);
        }
        sized("all", &report.all);
        line("  absent passed", &report.absent_passed);
        plain("  views asked an answer", &report.views);
        plain("  vision runs an answer", &report.vision_runs);
        plain("  milliseconds an answer", &report.millis);
    }
}

fn sized(size: &str, found: &Found) {
    line(&format!("  {size}: things found"), &found.recall);
    if let Some(gain) = &found.recall_gain {
        line(&format!("  {size}: gain over overview"), gain);
    }
    line(&format!("  {size}: gIoU"), &found.giou);
    line(&format!("  {size}: IoU from 0.5"), &found.right);
}

/// A figure that is no share.
fn plain(name: &str, figure: &Figure) {
    println!("{name:<32} {:>6.1}  [{:.1}, {:.1}]  n = {}", figure.value, figure.low, figure.high, figure.n);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::RgbImage;
    use kestrel_link::{Mask, Outcome, Segment};
    use kestrel_onboard::pipeline::Timings;
    use kestrel_training::sample::{Category, Instance, Origin, Picture, Stratum};

    fn square(x: u32, y: u32, side: u32) -> Mask {
        Mask::from_fn(1024, 576, |u, v| (x..x + side).contains(&u) && (y..y + side).contains(&v)).unwrap()
    }

    fn sample(masks: Vec<Mask>) -> Sample {
        let instances = masks.into_iter().map(|mask| Instance {
            category: Category::Car,
            colour: None,
            bounding_box: [0.0; 4],
            mask: Some(mask),
            visible: 1.0,
        });
        let picture = Picture {
            image: RgbImage::new(1024, 576),
            instances: instances.collect(),
            exhaustive: vec![],
            origin: Origin { dataset: "test".into(), scene: "7".into(), frame: "0".into() },
        };
        Sample { picture, asks: vec![], degradation: None, later: None, spoken: vec![] }
    }

    fn ask(target: Target) -> Ask {
        Ask {
            text: "all cars".into(),
            hint: None,
            stratum: Stratum::Plural,
            target,
            nonsense: vec![],
            held_out_phrasing: false,
            slipped: false,
            written: false,
        }
    }

    fn answer(masks: Vec<Mask>) -> Answer {
        let masks = masks.into_iter().map(|mask| Segment::of(mask, 0.9, 0.8).unwrap()).collect();
        Answer {
            outcome: Outcome::Segmented { masks },
            timings: Timings { runs: [1, 4, 4], ..Timings::default() },
            whole: None,
            words_cut: 0,
            failure: None,
            standing: None,
        }
    }

    /// What would break: a recall by size whose sizes are those of the frame, or that counts what was not shown.
    #[test]
    fn things_are_found_one_by_one_and_sized_as_the_overview_shows_them() {
        let sample = sample(vec![square(10, 10, 20), square(500, 300, 60)]);
        let things = things(&sample, &ask(Target::Masks(vec![0, 1]))).unwrap();
        let judged = |masks| judged(&sample, &things, &answer(masks)).unwrap();
        let half = judged(vec![square(500, 300, 60)]);
        assert_eq!((half.things[0].size, half.things[0].found), (Size::Tiny, false), "10 pixels in the overview");
        assert_eq!((half.things[1].size, half.things[1].found), (Size::Small, true), "30 pixels there");
        assert!((half.iou - 3600.0 / 4000.0).abs() < 1e-9 && half.views == 4 && half.shown);
        let both = judged(vec![square(10, 10, 20), square(500, 300, 60)]);
        assert!(both.things.iter().all(|thing| thing.found) && both.iou == 1.0);
    }

    #[test]
    fn a_refusal_where_nothing_is_there_has_no_size() {
        let sample = sample(vec![square(10, 10, 20)]);
        let none = things(&sample, &ask(Target::Absent)).unwrap();
        let judged = judged(&sample, &none, &answer(vec![])).unwrap();
        assert_eq!((judged.size, judged.shown, judged.iou), (None, false, 1.0));
    }
}
