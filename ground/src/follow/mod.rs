//! `ground follow`: films scenes and follows things in them, with the runtime that flies.
//!
//! Every frame is looked at twice: once by queries that stand, and once by the same queries asked anew. What the first way
//! saves, and what it costs in masks, is told as a ratio of the same run.

mod subject;

use crate::engine::EngineArguments;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_link::{Outcome, Query};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::pipeline::{Answer, Segmenter, SegmenterOptions, StandingOptions, StandingQuery, Timings, union};
use kestrel_perception::Bitmap;
use kestrel_training::benchmark::TEST_SEED;
use kestrel_training::metrics::{Tracked, Tracking, iou, tracking};
use kestrel_training::scenes::Course;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use subject::{Subject, Truth, subjects};

/// First seed of the scenes that are filmed: behind those of every test set.
const FIRST_SEED: u64 = TEST_SEED + 900_000;
/// Scenes that are looked through for each that is filmed.
const TRIES: u64 = 20;
/// Side of the frames in pixels: the model's input, so that there are no tiles.
const SIDE: u32 = 512;
/// A thing is found where its mask overlaps this much.
const LEAST_IOU: f64 = 0.5;
/// Parts of a film whose masks are told apart.
const PARTS: usize = 10;
/// Capture time of the first frame in nanoseconds: 0 would be a camera without a clock.
const START_NANOS: u64 = 1_000_000_000;

/// Arguments of `ground follow`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the bundle; by default the released one.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Scenes to film.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    scenes: u32,
    /// Frames of each film.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=300))]
    frames: u32,
    /// Frames in a second of flight.
    #[arg(long, value_name = "RATE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    frames_per_second: u32,
    /// Frames after which a query that stands has its words read again.
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    verify_frames: u32,
    /// Another seed films other scenes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Runs `ground follow`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bundle = Bundle::open(&crate::engine::bundle_folder(arguments.bundle.as_deref())?)?;
    // Each frame is looked at twice, which a gate would take for a frozen camera.
    let options = SegmenterOptions { gate: None, standing: standing(arguments), ..SegmenterOptions::default() };
    let mut segmenter = Segmenter::open(&bundle, &arguments.engine.options(arguments.json), options)
        .map_err(|error| anyhow!("{error}\nhint: {}", error.hint()))?;
    let bar = if arguments.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{spinner} {pos} frames, {msg} ({elapsed})")?);
    let first = FIRST_SEED + (arguments.seed % 10) * 10_000;
    let mut filmed = Filmed::default();
    for seed in first..first + u64::from(arguments.scenes) * TRIES {
        if filmed.scenes == arguments.scenes {
            break;
        }
        bar.set_message(format!("{} films", filmed.scenes));
        film(seed, arguments, &mut segmenter, &mut filmed, &bar).with_context(|| format!("filming scene {seed}"))?;
    }
    bar.finish_and_clear();
    if filmed.scenes == 0 {
        bail!("no scene from {first} on shows something to follow\nhint: try more --scenes, or another --seed");
    }
    let report = Report::of(&filmed, arguments, segmenter.model(), segmenter.engine());
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn standing(arguments: &Arguments) -> StandingOptions {
    StandingOptions { verify_frames: arguments.verify_frames, ..StandingOptions::default() }
}

/// What one way of answering cost and gave.
#[derive(Debug, Clone, Default)]
struct Way {
    time: Duration,
    runs: [u64; 3],
    /// Sum and number of IoUs by part of the film.
    iou: [(f64, u64); PARTS],
}

impl Way {
    fn spend(&mut self, timings: &Timings) {
        self.time += timings.total();
        for (sum, runs) in self.runs.iter_mut().zip(timings.runs) {
            *sum += u64::from(runs);
        }
    }

    fn mean_iou(&self) -> f64 {
        let sum: f64 = self.iou.iter().map(|(sum, _)| sum).sum();
        let count: u64 = self.iou.iter().map(|(_, count)| count).sum();
        sum / count.max(1) as f64
    }
}

/// All films so far.
#[derive(Debug, Clone, Default)]
struct Filmed {
    scenes: u32,
    questions: u32,
    frames: u64,
    /// Queries that stand, and the same ones asked anew.
    ways: [Way; 2],
    /// One thing each, and all things of a kind.
    tracking: [Tracking; 2],
}

/// A question of a film.
struct Following {
    subject: Subject,
    query: Query,
    kept: StandingQuery,
    frames: Vec<Tracked>,
}

impl Following {
    /// `None` where the words ask for all in a way that pieces are not told apart by.
    fn of(subject: Subject, number: usize, options: &StandingOptions) -> Option<Self> {
        let query = Query { frames: 0, ..Query::new(format!("follow-{number}"), &subject.text) };
        let kept = StandingQuery::new(&query, options);
        let told_apart = kept.asks_for_all() == subject.is_plural();
        told_apart.then(|| Self { subject, query, kept, frames: Vec::new() })
    }
}

/// Films one scene, if it shows something to follow.
fn film(
    seed: u64,
    arguments: &Arguments,
    segmenter: &mut Segmenter,
    filmed: &mut Filmed,
    bar: &ProgressBar,
) -> Result<()> {
    let rate = arguments.frames_per_second as f32;
    let course = Course { frames_per_second: rate, ..Course::new(seed, SIDE) };
    let options = standing(arguments);
    let found = subjects(&course.frame(0), seed).into_iter().enumerate();
    let mut all: Vec<Following> =
        found.filter_map(|(number, subject)| Following::of(subject, number, &options)).collect();
    if all.is_empty() {
        return Ok(());
    }
    for number in 0..arguments.frames {
        let picture = course.frame(number);
        let part = (number as usize * PARTS / arguments.frames as usize).min(PARTS - 1);
        let truths = all.iter().map(|following| following.subject.truth(&picture)).collect::<Result<Vec<_>>>()?;
        // Who looks first finds colder caches, so both take turns.
        let order = if number.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for way in order {
            let mut look = segmenter.look(&picture.image)?;
            for (following, truth) in all.iter_mut().zip(&truths) {
                let answer = match way {
                    0 => look.ask_standing(&mut following.kept, START_NANOS + course.nanos(number))?,
                    _ => look.ask(&following.query)?,
                };
                let cost = &mut filmed.ways[way];
                cost.spend(&answer.timings);
                let (sum, count) = &mut cost.iou[part];
                *sum += overlap(&answer, truth)?;
                *count += 1;
                if way == 0 {
                    following.frames.push(tracked(&answer, truth)?);
                }
            }
        }
        bar.inc(1);
    }
    filmed.scenes += 1;
    filmed.questions += all.len() as u32;
    filmed.frames += u64::from(arguments.frames);
    for following in &all {
        let kind = &mut filmed.tracking[usize::from(following.subject.is_plural())];
        *kind = kind.with(&tracking(&following.frames, LEAST_IOU));
    }
    Ok(())
}

/// IoU of everything shown with everything meant, without what is doubtful; nothing against nothing is 1.
fn overlap(answer: &Answer, truth: &Truth) -> Result<f64> {
    let mut meant = Bitmap::new(SIDE, SIDE);
    for (_, mask) in &truth.things {
        meant.unite(mask)?;
    }
    let shown = truth.certain(union(&answer.outcome)?.unwrap_or_else(|| Bitmap::new(SIDE, SIDE)));
    let both = shown.bits().iter().zip(meant.bits()).filter(|(one, two)| **one && **two).count() as u64;
    Ok(iou(shown.area(), both, meant.area()))
}

/// One frame as the measures of identity want it; what is shown without an identity, or of something doubtful for more
/// than half, does not count.
fn tracked(answer: &Answer, truth: &Truth) -> Result<Tracked> {
    let things = &truth.things;
    let mut frame = Tracked { truth: things.iter().map(|(id, _)| *id).collect(), ..Tracked::default() };
    frame.overlap.resize(things.len(), Vec::new());
    let Outcome::Segmented { masks } = &answer.outcome else { return Ok(frame) };
    for segment in masks {
        let Some(track) = segment.track else { continue };
        let whole = Bitmap::from_mask(&segment.mask)?;
        let area = whole.area();
        let shown = truth.certain(whole);
        if 2 * shown.area() < area {
            continue;
        }
        frame.shown.push(track.id);
        for (row, (_, mask)) in frame.overlap.iter_mut().zip(things) {
            row.push(f64::from(shown.iou(mask)?));
        }
    }
    Ok(frame)
}

/// What is told of one way.
#[derive(Debug, Serialize)]
struct Told {
    /// Time of all stages over the frames, all queries of a frame together.
    millis_per_frame: f64,
    vision_runs: u64,
    language_runs: u64,
    mask_runs: u64,
    mean_iou: f64,
    /// Mean IoU in each tenth of the films.
    iou_over_time: Vec<f64>,
}

impl Told {
    fn of(way: &Way, frames: u64) -> Self {
        let [vision_runs, language_runs, mask_runs] = way.runs;
        Self {
            millis_per_frame: way.time.as_secs_f64() * 1e3 / frames.max(1) as f64,
            vision_runs,
            language_runs,
            mask_runs,
            mean_iou: way.mean_iou(),
            iou_over_time: way.iou.iter().map(|(sum, count)| sum / (*count).max(1) as f64).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    engine: String,
    scenes: u32,
    questions: u32,
    frames: u64,
    verify_frames: u32,
    /// Queries that stand.
    standing: Told,
    /// The same queries asked anew about each frame.
    anew: Told,
    /// Time of the first over time of the second.
    time_ratio: f64,
    /// Identities of queries for one thing.
    one: Tracking,
    /// Identities of queries for all things of a kind.
    all: Tracking,
}

impl Report {
    fn of(filmed: &Filmed, arguments: &Arguments, model: &str, engine: &str) -> Self {
        let [standing, anew] = &filmed.ways;
        let [one, all] = filmed.tracking;
        Self {
            model: model.to_owned(),
            engine: engine.to_owned(),
            scenes: filmed.scenes,
            questions: filmed.questions,
            frames: filmed.frames,
            verify_frames: arguments.verify_frames,
            standing: Told::of(standing, filmed.frames),
            anew: Told::of(anew, filmed.frames),
            time_ratio: standing.time.as_secs_f64() / anew.time.as_secs_f64().max(1e-9),
            one,
            all,
        }
    }
}

fn print(report: &Report) {
    let Report { model, engine, scenes, questions, frames, verify_frames, .. } = report;
    println!("{model} on {engine}: {questions} questions in {scenes} films of {frames} frames together");
    println!("words read again after {verify_frames} frames\n");
    println!("{:<24} {:>10} {:>10}", "", "standing", "anew");
    let pair = |name: &str, one: f64, two: f64| println!("{name:<24} {one:>10.3} {two:>10.3}");
    pair("milliseconds a frame", report.standing.millis_per_frame, report.anew.millis_per_frame);
    pair("language runs a frame", per(&report.standing, *frames), per(&report.anew, *frames));
    pair("mean IoU", report.standing.mean_iou, report.anew.mean_iou);
    let parts = report.standing.iou_over_time.iter().zip(&report.anew.iou_over_time).enumerate();
    for (part, (one, two)) in parts {
        pair(&format!("  tenth {}", part + 1), *one, *two);
    }
    println!("\ntime, standing over anew: {:.3}", report.time_ratio);
    for (name, found) in [("one thing", &report.one), ("all things of a kind", &report.all)] {
        let Tracking { truths, matches, misses, false_positives, switches, fragments, mota, .. } = found;
        println!(
            "{name}: {matches} of {truths} found, {misses} missed, {false_positives} wrong, {switches} identity switches, \
             {fragments} fragments, MOTA {mota:.3}"
        );
    }
}

fn per(told: &Told, frames: u64) -> f64 {
    told.language_runs as f64 / frames.max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{Segment, Track, TrackEvent};

    fn square(x: u32) -> Bitmap {
        Bitmap::from_fn(SIDE, SIDE, |u, v| (x..x + 20).contains(&u) && v < 20)
    }

    fn answer(masks: &[(u32, Option<u64>)]) -> Answer {
        let masks = masks.iter().map(|&(x, id)| {
            let track = id.map(|id| Track { id, event: TrackEvent::New, age_frames: 0 });
            Segment { track, ..Segment::of(square(x).to_mask().unwrap(), 0.9, 0.8).unwrap() }
        });
        Answer {
            outcome: Outcome::Segmented { masks: masks.collect() },
            timings: Timings::default(),
            whole: None,
            words_cut: 0,
            failure: None,
            standing: None,
        }
    }

    #[test]
    fn masks_are_held_against_the_union_of_what_is_meant_and_ids_one_by_one() {
        let answer = answer(&[(0, Some(5)), (100, None), (210, Some(6)), (300, Some(7))]);
        let truth = Truth { things: vec![(1, square(0)), (2, square(200))], doubtful: square(300) };
        let frame = tracked(&answer, &truth).unwrap();
        assert_eq!((frame.truth, frame.shown), (vec![1, 2], vec![5, 6]));
        assert_eq!(frame.overlap[0], [1.0, 0.0]);
        assert!((frame.overlap[1][1] - 1.0 / 3.0).abs() < 1e-6);
        assert!((overlap(&answer, &truth).unwrap() - 600.0 / 1400.0).abs() < 1e-9);
    }
}
