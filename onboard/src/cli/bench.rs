//! `onboard bench`: time per frame, one after the other and with the next prepared ahead, beside bare runs of the same
//! graphs in the same process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use image::RgbImage;
use kestrel_link::Query;
use kestrel_onboard::camera;
use kestrel_onboard::pipeline::{Look, Millis, Prepared, Preparer, SegmentError, Segmenter, SegmenterOptions, Timings};
use kestrel_perception::{GateThresholds, Tiling};
use serde::Serialize;

use super::{ModelArguments, hinted};

/// Frames that are run before anything is measured.
const WARM_UP: usize = 2;
/// Turns that each way of running takes, so that heat and other programs weigh on all alike.
const ROUNDS: u32 = 4;
/// Frames under way at once: one is prepared while the engine works on the other.
const IN_FLIGHT: usize = 2;

/// What our own stages may cost on a frame of 1920×1080.
const WANTED: Wanted = Wanted { gate_millis: 1.0, preprocess_millis: 4.0, overhead: 0.05 };

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(flatten)]
    model: ModelArguments,
    /// Frames to measure.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// A picture to use [default: a drawn one of 1920×1080 pixels].
    #[arg(long, value_name = "IMAGE")]
    image: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    engine: String,
    frames: u32,
    width: u32,
    height: u32,
    /// Medians over all frames, whole frame without tiles.
    stages_millis: Millis,
    /// Median wall time of the whole way of a frame.
    frame_millis: f64,
    /// Median wall time of bare runs of the three graphs.
    bare_millis: f64,
    /// What our own stages add, as a share of the bare runs.
    overhead: f64,
    throughput: Throughput,
    wanted: Wanted,
}

/// Many frames as fast as they go, in one process and turn by turn.
#[derive(Debug, Serialize)]
struct Throughput {
    /// Frames per second, one after the other.
    sequential_per_second: f64,
    /// Frames per second, the next prepared while the engine works.
    overlapped_per_second: f64,
    /// Frames per second that bare runs of the three graphs would give.
    bare_per_second: f64,
    /// What a frame costs beyond the bare runs, as a share of these: one after the other.
    sequential_overhead: f64,
    /// The same with the next frame prepared while the engine works.
    overlapped_overhead: f64,
}

#[derive(Debug, Serialize)]
struct Wanted {
    gate_millis: f64,
    preprocess_millis: f64,
    /// As a share of the bare runs.
    overhead: f64,
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let bundle = self.model.open_bundle()?;
        let options = SegmenterOptions { tiling: Tiling::Never, gate: Some(admitting()), ..Default::default() };
        let mut segmenter = Segmenter::open(&bundle, &self.model.engine(self.json), options.clone()).map_err(told)?;
        let picture = match &self.image {
            Some(path) => camera::load(path).map_err(|error| hinted(&error, error.hint()))?,
            None => drawn(1920, 1080),
        };
        let report = self.measure(&mut segmenter, &options, &picture)?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn measure(
        &self,
        segmenter: &mut Segmenter,
        options: &SegmenterOptions,
        picture: &RgbImage,
    ) -> anyhow::Result<Report> {
        let query = Query::new("bench", "the red car next to the building");
        let (mut stages, mut frames, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.frames as usize + WARM_UP {
            let start = Instant::now();
            let timings = answered(segmenter.look(picture).map_err(told)?, &query)?;
            let frame = start.elapsed();
            // Turn by turn, so that heat and other programs weigh on both alike.
            let run = segmenter.run_bare().map_err(told)?;
            if index >= WARM_UP {
                stages.push(timings);
                frames.push(frame);
                bare.push(run.engine());
            }
        }
        let (frame, bare) = (median(frames), median(bare));
        let throughput = self.throughput(segmenter, options, picture, &query)?;
        Ok(Report {
            model: segmenter.model().to_owned(),
            engine: segmenter.engine().to_owned(),
            frames: self.frames,
            width: picture.width(),
            height: picture.height(),
            stages_millis: medians(&stages).millis(),
            frame_millis: frame.as_secs_f64() * 1e3,
            bare_millis: bare.as_secs_f64() * 1e3,
            overhead: frame.as_secs_f64() / bare.as_secs_f64() - 1.0,
            throughput,
            wanted: WANTED,
        })
    }

    fn throughput(
        &self,
        segmenter: &mut Segmenter,
        options: &SegmenterOptions,
        picture: &RgbImage,
        query: &Query,
    ) -> anyhow::Result<Throughput> {
        let frames = self.frames.div_ceil(ROUNDS);
        let [mut sequential, mut overlapping, mut bare] = [Duration::ZERO; 3];
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..frames {
                answered(segmenter.look(picture).map_err(told)?, query)?;
            }
            sequential += start.elapsed();
            overlapping += overlapped(segmenter, options, (picture, query), frames)?;
            for _ in 0..frames {
                bare += segmenter.run_bare().map_err(told)?.engine();
            }
        }
        let per_second = |time: Duration| f64::from(frames) * f64::from(ROUNDS) / time.as_secs_f64();
        let beyond = |time: Duration| time.as_secs_f64() / bare.as_secs_f64() - 1.0;
        Ok(Throughput {
            sequential_per_second: per_second(sequential),
            overlapped_per_second: per_second(overlapping),
            bare_per_second: per_second(bare),
            sequential_overhead: beyond(sequential),
            overlapped_overhead: beyond(overlapping),
        })
    }
}

fn told(error: SegmentError) -> anyhow::Error {
    hinted(&error, error.hint())
}

/// Asks once, and gives the memory of the answer back, as a flying node does.
fn answered(mut look: Look<'_>, query: &Query) -> anyhow::Result<Timings> {
    let mut answer = look.ask(query).map_err(told)?;
    if let Some(whole) = answer.whole.take() {
        look.recycle(whole);
    }
    look.recycle_outcome(answer.outcome);
    Ok(answer.timings)
}

/// The time of frames of which each is prepared on another thread while the engine works on the one before, from when the
/// first is ready.
fn overlapped(
    segmenter: &mut Segmenter,
    options: &SegmenterOptions,
    (picture, query): (&RgbImage, &Query),
    frames: u32,
) -> anyhow::Result<Duration> {
    let mut preparer = Preparer::new(options);
    let (filled, ready) = sync_channel::<Box<Prepared>>(1);
    let (spent, empty) = sync_channel::<Box<Prepared>>(IN_FLIGHT);
    for _ in 0..IN_FLIGHT {
        spent.send(Box::default())?;
    }
    let preparing = std::thread::Builder::new().name("preparing".into());
    // Moved, so that the channels close when an error ends this, and with them the thread.
    std::thread::scope(move |scope| {
        let prepare = move || {
            for _ in 0..frames {
                let Ok(mut prepared) = empty.recv() else { return };
                preparer.prepare(picture, true, &mut prepared);
                if filled.send(prepared).is_err() {
                    return;
                }
            }
        };
        preparing.spawn_scoped(scope, prepare).context("start the thread that prepares")?;
        let mut start = None;
        for mut prepared in &ready {
            start.get_or_insert_with(Instant::now);
            let look = segmenter.look_prepared(picture, &mut prepared).map_err(told)?;
            // After the last frame nobody takes it.
            let _ = spent.send(prepared);
            answered(look, query)?;
        }
        Ok(start.map(|start| start.elapsed()).unwrap_or_default())
    })
}

/// A gate that reads every frame and refuses none, so that each is measured to the end, though it is always the same.
fn admitting() -> GateThresholds {
    GateThresholds {
        least_high_luma: 0.0,
        most_clipped_share: 1.0,
        most_constant_bottom: 1.0,
        most_tear: f32::MAX,
        most_repeats: 0,
        most_noise_levels: f32::MAX,
        least_contrast: 0.0,
        least_chroma: 0.0,
        most_magenta: f32::MAX,
        least_sharpness: [0.0; 2],
        least_directional_sharpness: 0.0,
        most_repeated_share: 1.0,
        ..GateThresholds::default()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn medians(all: &[Timings]) -> Timings {
    let of = |stage: fn(&Timings) -> Duration| median(all.iter().map(stage).collect());
    Timings {
        gate: of(|timings| timings.gate),
        preprocess: of(|timings| timings.preprocess),
        vision: of(|timings| timings.vision),
        words: of(|timings| timings.words),
        language: of(|timings| timings.language),
        mask: of(|timings| timings.mask),
        postprocess: of(|timings| timings.postprocess),
        runs: all.first().map(|timings| timings.runs).unwrap_or_default(),
    }
}

fn print(report: &Report) {
    println!(
        "{} on {}, {} frames of {}×{}, medians in ms",
        report.model, report.engine, report.frames, report.width, report.height
    );
    let stages = &report.stages_millis;
    for (name, value) in [
        ("gate", stages.gate),
        ("preprocess", stages.preprocess),
        ("vision", stages.vision),
        ("words", stages.words),
        ("language", stages.language),
        ("mask", stages.mask),
        ("postprocess", stages.postprocess),
        ("whole frame", report.frame_millis),
        ("bare graphs", report.bare_millis),
    ] {
        println!("  {name:<12} {value:>9.3}");
    }
    let Throughput { sequential_per_second, overlapped_per_second, bare_per_second, .. } = &report.throughput;
    let Throughput { sequential_overhead, overlapped_overhead, .. } = &report.throughput;
    println!("overhead over the bare graphs: {:.1} % of a frame alone", report.overhead * 100.0);
    println!(
        "  one after the other  {sequential_per_second:>8.2} frames/s, {:>5.1} % over the bare graphs",
        sequential_overhead * 100.0
    );
    println!(
        "  prepared ahead       {overlapped_per_second:>8.2} frames/s, {:>5.1} % over the bare graphs",
        overlapped_overhead * 100.0
    );
    println!("  bare graphs          {bare_per_second:>8.2} frames/s");
    let Wanted { gate_millis, preprocess_millis, overhead } = &report.wanted;
    println!(
        "wanted at 1920×1080: gate at most {gate_millis} ms, preprocess at most {preprocess_millis} ms, overhead at most {:.0} %",
        overhead * 100.0
    );
}

/// A picture with edges at every scale, the same every time.
fn drawn(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let cell = |side: u32| {
            ((x / side).wrapping_mul(0x9E37_79B9) ^ (y / side).wrapping_mul(0x85EB_CA6B)).wrapping_mul(0xC2B2_AE35)
                >> 24
        };
        let value = |shift: u32| ((cell(97 + shift) + cell(31 + shift) + cell(7)) / 3) as u8;
        image::Rgb([value(0), value(5), value(11)])
    })
}
