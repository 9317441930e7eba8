//! A run's log, one JSON object a line, and a picture of its curves.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::sft::{Result, TrainError};

/// The log file of a run with what its plot needs.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    curves: &'static [Curve],
    points: Vec<Point>,
}

/// Name, colour and path within an entry of a curve; the first of a run's is drawn on a logarithmic axis.
pub type Curve = (&'static str, &'static str, &'static [&'static str]);

#[derive(Debug, Clone)]
struct Point {
    step: f64,
    values: Vec<Option<f64>>,
}

impl Log {
    /// Opens a run's log and drops what was written after `step`: a resumed run does those steps again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(folder: &Path, step: usize, curves: &'static [Curve]) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let text = if path.is_file() {
            std::fs::read_to_string(&path).map_err(TrainError::io("reading", &path))?
        } else {
            String::new()
        };
        let mut log = Self { path, curves, points: Vec::new() };
        let mut kept = String::new();
        for line in text.lines() {
            // A line cut by a kill is no JSON; it is dropped with the rest.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            if value["step"].as_u64().is_some_and(|s| s as usize <= step) {
                log.points.push(point(&value, curves));
                kept.push_str(line);
                kept.push('\n');
            }
        }
        std::fs::write(&log.path, kept).map_err(TrainError::io("writing", &log.path))?;
        Ok(log)
    }

    /// Appends a step.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn push(&mut self, entry: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(entry).unwrap_or_default();
        self.points.push(point(&value, self.curves));
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(TrainError::io("opening", &self.path))?;
        writeln!(file, "{value}").map_err(TrainError::io("writing", &self.path))
    }

    /// Draws `curves.svg` beside the log.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn plot(&self) -> Result<()> {
        let path = self.path.with_file_name("curves.svg");
        std::fs::write(&path, svg(&self.points, self.curves)).map_err(TrainError::io("writing", &path))
    }
}

fn point(value: &serde_json::Value, curves: &[Curve]) -> Point {
    let values = curves.iter().map(|(_, _, keys)| keys.iter().fold(value, |v, key| &v[*key]).as_f64()).collect();
    Point { step: value["step"].as_f64().unwrap_or_default(), values }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 46.0;
const LEGEND: f64 = 170.0;
/// Neighbouring steps averaged in a drawn curve of many points.
const DRAWN: usize = 300;

/// The first curve on a logarithmic left axis, shares on a right axis from 0 to 1.
fn svg(points: &[Point], curves: &[Curve]) -> String {
    let last = points.last().map_or(1.0, |p| p.step.max(1.0));
    let losses: Vec<f64> =
        points.iter().filter_map(|p| *p.values.first()?).filter(|v| *v > 0.0).map(f64::log10).collect();
    let low = losses.iter().copied().fold(f64::INFINITY, f64::min).min(0.0).floor();
    let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max).max(low + 1.0).ceil();
    let x = |step: f64| MARGIN + step / last * (WIDTH - 2.0 * MARGIN - LEGEND);
    let y = |share: f64| HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    );
    for tenth in 0..=10 {
        let (share, at) = (f64::from(tenth) / 10.0, y(f64::from(tenth) / 10.0));
        let loss = 10f64.powf(low + share * (high - low));
        let (left, right) = (x(0.0), x(last));
        let _ = write!(
            out,
            "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">{loss:.3}</text>\
             <text x=\"{:.1}\" y=\"{at:.1}\">{share:.1}</text>",
            left - 4.0,
            right + 4.0,
        );
    }
    for (k, (name, colour, _)) in curves.iter().enumerate() {
        let mut seen: Vec<(f64, f64)> =
            points.iter().filter_map(|p| Some((p.step, p.values[k].filter(|v| v.is_finite())?))).collect();
        if k == 0 {
            seen.retain(|p| p.1 > 0.0);
            seen.iter_mut().for_each(|p| p.1 = (p.1.log10() - low) / (high - low));
        }
        let chunk = seen.len().div_ceil(DRAWN).max(1);
        let mean = |c: &[(f64, f64)], f: fn(&(f64, f64)) -> f64| c.iter().map(f).sum::<f64>() / c.len() as f64;
        let line: Vec<String> =
            seen.chunks(chunk).map(|c| format!("{:.1},{:.1}", x(mean(c, |p| p.0)), y(mean(c, |p| p.1)))).collect();
        let at = MARGIN + 16.0 * k as f64;
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{name}</text>",
            line.join(" "),
            WIDTH - LEGEND,
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">step {last}</text></svg>",
        x(last),
        HEIGHT - MARGIN / 2.0
    );
    out
}

/// Name, colour and points of a line in the unit square.
pub type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// An SVG of lines over a share from 0 to 1, each value a share too; what is not finite is left out.
pub fn square(across: &str, lines: &[Line<'_>]) -> String {
    let x = |share: f64| MARGIN + share * (WIDTH - 2.0 * MARGIN - LEGEND);
    let y = |share: f64| HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    );
    for tenth in 0..=10 {
        let share = f64::from(tenth) / 10.0;
        let _ = write!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{1:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{3:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{share:.1}</text>\
             <text x=\"{4:.1}\" y=\"{5:.1}\" text-anchor=\"middle\">{share:.1}</text>",
            x(0.0),
            x(1.0),
            y(share),
            x(0.0) - 4.0,
            x(share),
            HEIGHT - MARGIN + 14.0,
        );
    }
    for (k, (name, colour, points)) in lines.iter().enumerate() {
        let finite = points.iter().filter(|point| point.0.is_finite() && point.1.is_finite());
        let drawn: Vec<String> = finite.map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            drawn.join(" "),
            WIDTH - LEGEND,
            MARGIN + 16.0 * k as f64,
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{across}</text></svg>",
        x(1.0),
        HEIGHT - MARGIN / 4.0
    );
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CURVES: &[Curve] = &[("loss", "#444444", &["values", "total"])];

    fn entry(step: usize, total: f32) -> serde_json::Value {
        serde_json::json!({ "step": step, "values": { "total": total } })
    }

    #[test]
    fn reopening_drops_later_steps_and_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), 0, CURVES).unwrap();
        for step in 1..=5 {
            log.push(&entry(step, 10.0 / step as f32)).unwrap();
        }
        let path = folder.path().join("log.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"step\":6,\"val")).unwrap();
        let log = Log::open(folder.path(), 3, CURVES).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
        log.plot().unwrap();
        let svg = std::fs::read_to_string(folder.path().join("curves.svg")).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && svg.contains("polyline points=\"2"));
    }

    #[test]
    fn lines_stay_in_the_square_and_leave_out_what_is_no_number() {
        let svg = square("coverage", &[("risk", "#444444", vec![(0.0, 0.0), (0.5, f64::NAN), (1.0, 1.0)])]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && svg.contains("coverage"), "{svg}");
        assert!(svg.contains("points=\"46.0,374.0 684.0,46.0\"") && !svg.contains("NaN"), "{svg}");
    }
}
