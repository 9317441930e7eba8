//! `onboard segment`: one picture, one question.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use image::RgbImage;
use kestrel_link::{Hint, Outcome, Query, Unplaced, Verdict};
use kestrel_onboard::camera;
use kestrel_onboard::gate_table::GateTable;
use kestrel_onboard::pipeline::{Answer, Concluded, Explanation, Look, SegmentError, Segmenter, SegmenterOptions};
use kestrel_onboard::position::{pose_beside, read_camera, read_pose};
use kestrel_perception::geo::Bounds;
use kestrel_perception::overlay::draw_outcome;
use kestrel_perception::{Bitmap, GateThresholds, Georeferencer, Limits, Pose};
use serde_json::json;

use super::tiling::TilingArguments;
use super::{ModelArguments, hinted};

/// A refusal is an answer, but scripts must be able to tell it from a mask.
const REFUSED: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Segment {
    /// The picture: PNG or JPEG.
    image: PathBuf,
    /// What to look for, in plain words. May be empty beside --point or --box.
    query: String,
    #[command(flatten)]
    model: ModelArguments,
    /// Write the picture with the masks drawn in.
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
    /// Print the answer as one JSON object.
    #[arg(long)]
    json: bool,
    /// Say first what the model thinks and where that leads, token by token; the bundle must hold explain.onnx.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    tiling: TilingArguments,
    /// Let degraded pictures pass.
    #[arg(long)]
    no_gate: bool,
    /// Refuse degraded pictures by the bounds of this gate.json, which `ground calibrate gate` writes.
    #[arg(long, value_name = "FILE", conflicts_with = "no_gate")]
    gate_table: Option<PathBuf>,
    /// Say where on the earth the answer lies: the camera's calibration.
    #[arg(long, value_name = "FILE")]
    camera: Option<PathBuf>,
    /// The camera's pose [default: PICTURE.pose.json beside the picture].
    #[arg(long, value_name = "FILE", requires = "camera")]
    pose: Option<PathBuf>,
    /// A point on the target: fractions of width and height.
    #[arg(long, value_name = "X,Y", value_parser = numbers::<2>, conflicts_with = "bounding_box")]
    point: Option<[f32; 2]>,
    /// A box around the target: fractions of width and height.
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = numbers::<4>)]
    bounding_box: Option<[f32; 4]>,
}

fn numbers<const N: usize>(text: &str) -> Result<[f32; N], String> {
    let wrong = || format!("expected {N} numbers between 0 and 1 with commas between them");
    let values: Vec<f32> =
        text.split(',').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    values.try_into().map_err(|_| wrong())
}

impl Segment {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let query = Query { hint: self.hint(), ..Query::new("segment", &self.query) };
        // What is wrong with question or picture is said before seconds go into opening a model.
        query
            .validate()
            .map_err(|error| hinted(&error, "ask in one short sentence, for example: the red car left of the truck"))?;
        let (tiling, tiles) = self.tiling.options()?;
        let picture = camera::load(&self.image).map_err(|error| hinted(&error, error.hint()))?;
        let placing = self.placing()?;
        let bundle = self.model.open_bundle()?;
        let options =
            SegmenterOptions { tiling, tiles, gate: self.gate()?, explain: self.explain, ..Default::default() };
        let mut segmenter = Segmenter::open(&bundle, &self.model.engine(self.json), options)
            .map_err(|error| hinted(&error, error.hint()))?;
        let mut look = segmenter.look_still(&picture).map_err(|error| hinted(&error, error.hint()))?;
        let mut answer = look.ask(&query).map_err(|error| hinted(&error, error.hint()))?;
        if let Some((georeferencer, pose)) = placing {
            georeferencer.annotate(&mut answer.outcome, pose.as_ref().ok_or(Unplaced::PoseUnknown))?;
        }
        let reasoned = match self.explain {
            true => Some(reasons(&mut look, &query, self.json).map_err(|error| hinted(&error, error.hint()))?),
            false => None,
        };
        if let Some(path) = &self.out {
            let mut drawn = picture.clone();
            draw_outcome(&mut drawn, &answer.outcome)?;
            drawn.save(path).with_context(|| format!("write {}", path.display()))?;
        }
        if self.json {
            let mut all = describe(&answer, &picture, &segmenter);
            if let Some(reasoned) = &reasoned {
                all["reasoned"] = describe_reasons(reasoned);
            }
            println!("{all}");
        } else {
            print(&answer, &segmenter, self.out.as_deref());
        }
        Ok(match answer.outcome {
            Outcome::Segmented { .. } => ExitCode::SUCCESS,
            Outcome::Refused(_) => ExitCode::from(REFUSED),
        })
    }

    /// The gate's bounds; `None` lets every picture pass.
    fn gate(&self) -> anyhow::Result<Option<GateThresholds>> {
        match &self.gate_table {
            Some(path) => Ok(Some(GateTable::read(path).map_err(|error| hinted(&error, error.hint()))?.bounds)),
            None => Ok((!self.no_gate).then(GateThresholds::default)),
        }
    }

    /// The camera and its pose, where the answer shall be placed on the earth.
    fn placing(&self) -> anyhow::Result<Option<(Georeferencer, Option<Pose>)>> {
        let Some(path) = &self.camera else { return Ok(None) };
        let georeferencer = read_camera(path, Bounds::default()).map_err(|error| hinted(&error, error.hint()))?;
        let pose = match &self.pose {
            Some(path) => read_pose(path).map(Some),
            None => pose_beside(&self.image),
        };
        Ok(Some((georeferencer, pose.map_err(|error| hinted(&error, error.hint()))?)))
    }

    fn hint(&self) -> Option<Hint> {
        let point = self.point.map(|[x, y]| Hint::Point { x, y });
        point.or(self.bounding_box.map(|[x0, y0, x1, y1]| Hint::Box { x0, y0, x1, y1 }))
    }
}

fn describe(answer: &Answer, picture: &RgbImage, segmenter: &Segmenter) -> serde_json::Value {
    json!({
        "outcome": answer.outcome,
        "frame": { "width": picture.width(), "height": picture.height() },
        "model": segmenter.model(),
        "engine": segmenter.engine(),
        "tokens_cut": answer.words_cut,
        "views": answer.timings.runs[1],
        "timings_millis": answer.timings.millis(),
    })
}

/// Answers with reasons; prints the thought as it is written and what it comes to, unless that is to become JSON.
fn reasons(look: &mut Look<'_>, query: &Query, json: bool) -> Result<Explanation, SegmentError> {
    let mut tell = |_: u32, text: &str| {
        if !json {
            print!("{text}");
            // Who does not hear it token by token hears it at the end.
            let _ = std::io::stdout().flush();
        }
        true
    };
    let explanation = look.explain(query, Limits::default(), &mut tell)?;
    if json {
        return Ok(explanation);
    }
    if let Some(written) = &explanation.written {
        println!();
        let (read, wrote) = (millis(written.prefill), millis(written.decode));
        println!("{} tokens in {wrote:.0} ms, picture and question read in {read:.0} ms", written.ids.len());
    }
    match &explanation.conclusion {
        Concluded::Boxes(boxes) => {
            for ([x0, y0, x1, y1], mask) in boxes.iter().zip(&explanation.masks) {
                println!("reasoned box: {x0:.3},{y0:.3},{x1:.3},{y1:.3}, a mask of {} pixels", mask.area());
            }
        }
        Concluded::Refused(refusal) => println!("reasoned refusal: {}", reason(&refusal.verdict)),
        Concluded::Stopped => println!("stopped"),
    }
    Ok(explanation)
}

fn describe_reasons(explanation: &Explanation) -> serde_json::Value {
    let mut all = match &explanation.conclusion {
        Concluded::Boxes(boxes) => {
            json!({ "boxes": boxes, "area_pixels": explanation.masks.iter().map(Bitmap::area).collect::<Vec<_>>() })
        }
        Concluded::Refused(refusal) => json!({ "refused": refusal }),
        Concluded::Stopped => json!({}),
    };
    if let Some(written) = &explanation.written {
        all["thought"] = json!(written.thought.trim());
        all["tokens"] = json!(written.ids.len());
        let (prefill, decode) = (millis(written.prefill), millis(written.decode));
        all["timings_millis"] = json!({ "prefill": prefill, "decode": decode });
    }
    all
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print(answer: &Answer, segmenter: &Segmenter, out: Option<&std::path::Path>) {
    match &answer.outcome {
        Outcome::Segmented { masks } => {
            for segment in masks {
                let [x, y, width, height] = segment.bounding_box;
                println!(
                    "mask: {} pixels in {width}×{height} at ({x}, {y}), presence {:.2}, predicted IoU {:.2}",
                    segment.area_pixels, segment.presence, segment.predicted_iou
                );
                for position in &segment.positions {
                    println!("  {position}");
                }
            }
        }
        Outcome::Refused(refusal) => {
            println!("refused: {}", reason(&refusal.verdict));
            println!("  {}", refusal.advice);
            for (name, value) in &refusal.evidence {
                println!("  {name} = {value:.3}");
            }
            if let Verdict::TargetAmbiguous { candidates } = &refusal.verdict {
                for (index, candidate) in candidates.iter().enumerate() {
                    let [x, y, width, height] = candidate.bounding_box;
                    let area = candidate.area_pixels;
                    println!("  candidate {}: {area} pixels in {width}×{height} at ({x}, {y})", index + 1);
                    for position in &candidate.positions {
                        println!("    {position}");
                    }
                }
            }
        }
    }
    if let Some(path) = out {
        println!("written: {}", path.display());
    }
    let time = millis(answer.timings.total());
    println!("{} on {}, {time:.0} ms", segmenter.model(), segmenter.engine());
}

/// The verdict as its name on the wire.
fn reason(verdict: &Verdict) -> String {
    let value = serde_json::to_value(verdict).unwrap_or_default();
    value.get("reason").and_then(|reason| reason.as_str()).unwrap_or("unknown").replace('_', " ")
}
