//! `onboard bench`: time per frame, beside bare runs of the same graphs in the same process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use image::RgbImage;
use kestrel_link::Query;
use kestrel_onboard::camera;
use kestrel_onboard::pipeline::{Millis, Segmenter, SegmenterOptions, Timings};
use kestrel_perception::{GateHistory, GateThresholds, Tiling};
use serde::Serialize;

use super::{ModelArguments, hinted};

/// Frames that are run before anything is measured.
const WARM_UP: usize = 2;

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
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let bundle = self.model.open_bundle()?;
        // Measured apart, so that a frame which the gate would refuse is measured to the end.
        let options = SegmenterOptions { tiling: Tiling::Never, gate: None, ..Default::default() };
        let mut segmenter = Segmenter::open(&bundle, &self.model.engine(self.json), options)
            .map_err(|error| hinted(&error, error.hint()))?;
        let picture = match &self.image {
            Some(path) => camera::load(path).map_err(|error| hinted(&error, error.hint()))?,
            None => drawn(1920, 1080),
        };
        let report = self.measure(&mut segmenter, &picture)?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn measure(&self, segmenter: &mut Segmenter, picture: &RgbImage) -> anyhow::Result<Report> {
        let query = Query {
            id: "bench".into(),
            text: "the red car next to the building".into(),
            hint: None,
            frames: 1,
            explain: false,
        };
        let thresholds = GateThresholds::default();
        let (mut stages, mut frames, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.frames as usize + WARM_UP {
            let start = Instant::now();
            let gated = kestrel_perception::gate(picture, &thresholds, &GateHistory::default());
            let gate = start.elapsed();
            std::hint::black_box(&gated);
            let answer = segmenter.segment(picture, &query).map_err(|error| hinted(&error, error.hint()))?;
            let frame = start.elapsed();
            // Turn by turn, so that heat and other programs weigh on both alike.
            let run = segmenter.run_bare().map_err(|error| hinted(&error, error.hint()))?;
            if index >= WARM_UP {
                stages.push(Timings { gate, ..answer.timings });
                frames.push(frame);
                bare.push(run.engine());
            }
        }
        let (frame, bare) = (median(frames), median(bare));
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
        })
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
    println!("overhead over the bare graphs: {:.1} %", report.overhead * 100.0);
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
