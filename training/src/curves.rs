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
    panels: Panels,
    points: Vec<Point>,
}

/// Name, colour and path within an entry of a curve.
pub type Curve = (&'static str, &'static str, &'static [&'static str]);

/// What is drawn of a run, in one panel or two.
#[derive(Debug, Clone, Copy)]
pub struct Panels {
    /// The first on a logarithmic axis of its own, the others as shares from 0 to 1.
    pub shares: &'static [Curve],
    /// Values of any size, together over a range of their own in a panel below; without any there is no such panel.
    pub values: &'static [Curve],
}

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
    pub fn open(folder: &Path, step: usize, panels: Panels) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let text = if path.is_file() {
            std::fs::read_to_string(&path).map_err(TrainError::io("reading", &path))?
        } else {
            String::new()
        };
        let mut log = Self { path, panels, points: Vec::new() };
        let mut kept = String::new();
        for line in text.lines() {
            // A line cut by a kill is no JSON; it is dropped with the rest.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            if value["step"].as_u64().is_some_and(|s| s as usize <= step) {
                log.points.push(point(&value, &panels));
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
        self.points.push(point(&value, &self.panels));
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
        std::fs::write(&path, svg(&self.points, &self.panels)).map_err(TrainError::io("writing", &path))
    }
}

/// The values of a step, those of the upper panel first.
fn point(value: &serde_json::Value, panels: &Panels) -> Point {
    let number = |(_, _, keys): &Curve| keys.iter().fold(value, |v, key| &v[*key]).as_f64();
    let values = panels.shares.iter().chain(panels.values).map(number).collect();
    Point { step: value["step"].as_f64().unwrap_or_default(), values }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 46.0;
const LEGEND: f64 = 170.0;
/// Neighbouring steps averaged in a drawn curve of many points.
const DRAWN: usize = 300;

/// A run's panels, one below the other.
fn svg(points: &[Point], panels: &Panels) -> String {
    let last = points.last().map_or(1.0, |p| p.step.max(1.0));
    let height = if panels.values.is_empty() { HEIGHT } else { 2.0 * HEIGHT };
    let mut out = beginning(height);
    Panel { top: 0.0, last }.shares(&mut out, points, panels.shares);
    if !panels.values.is_empty() {
        Panel { top: HEIGHT, last }.values(&mut out, points, panels);
    }
    let (right, bottom) = (Panel { top: 0.0, last }.x(last), height - MARGIN / 2.0);
    let _ = write!(out, "<text x=\"{right:.1}\" y=\"{bottom:.1}\" text-anchor=\"end\">step {last}</text></svg>");
    out
}

fn beginning(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"
    )
}

/// Steps and values of the curve of this number, without those that are no number.
fn series(points: &[Point], number: usize) -> Vec<(f64, f64)> {
    points.iter().filter_map(|p| Some((p.step, p.values[number].filter(|v| v.is_finite())?))).collect()
}

/// Where a panel lies: steps from 0 to `last` across, shares of its height from the bottom up.
struct Panel {
    top: f64,
    last: f64,
}

impl Panel {
    fn x(&self, step: f64) -> f64 {
        MARGIN + step / self.last * (WIDTH - 2.0 * MARGIN - LEGEND)
    }

    /// What is beyond the panel is drawn on its edge.
    fn y(&self, share: f64) -> f64 {
        self.top + HEIGHT - MARGIN - share.clamp(0.0, 1.0) * (HEIGHT - 2.0 * MARGIN)
    }

    /// The first curve on a logarithmic left axis, shares on a right axis from 0 to 1.
    fn shares(&self, out: &mut String, points: &[Point], curves: &[Curve]) {
        let losses: Vec<f64> =
            points.iter().filter_map(|p| *p.values.first()?).filter(|v| *v > 0.0).map(f64::log10).collect();
        let low = losses.iter().copied().fold(f64::INFINITY, f64::min).min(0.0).floor();
        let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max).max(low + 1.0).ceil();
        self.grid(out, |share| [format!("{:.3}", 10f64.powf(low + share * (high - low))), format!("{share:.1}")]);
        for (k, curve) in curves.iter().enumerate() {
            let mut seen = series(points, k);
            if k == 0 {
                seen.retain(|p| p.1 > 0.0);
                seen.iter_mut().for_each(|p| p.1 = (p.1.log10() - low) / (high - low));
            }
            self.line(out, k, curve, &seen);
        }
    }

    /// Values over the range that they have together, which 0 is always part of.
    fn values(&self, out: &mut String, points: &[Point], panels: &Panels) {
        let first = panels.shares.len();
        let mut lines: Vec<Vec<(f64, f64)>> = (0..panels.values.len()).map(|k| series(points, first + k)).collect();
        let all = || lines.iter().flatten().map(|p| p.1);
        let (low, high) = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
        let high = if high > low { high } else { low + 1.0 };
        self.grid(out, |share| [format!("{:.3}", low + share * (high - low)), String::new()]);
        for (k, (curve, seen)) in panels.values.iter().zip(&mut lines).enumerate() {
            seen.iter_mut().for_each(|p| p.1 = (p.1 - low) / (high - low));
            self.line(out, k, curve, seen);
        }
    }

    /// Eleven lines across, with what their share of the height means on the left and on the right.
    fn grid(&self, out: &mut String, meaning: impl Fn(f64) -> [String; 2]) {
        for tenth in 0..=10 {
            let share = f64::from(tenth) / 10.0;
            let ([before, behind], at) = (meaning(share), self.y(share));
            let (left, right) = (self.x(0.0), self.x(self.last));
            let _ = write!(
                out,
                "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">{before}</text>\
                 <text x=\"{:.1}\" y=\"{at:.1}\">{behind}</text>",
                left - 4.0,
                right + 4.0,
            );
        }
    }

    /// A curve of steps and shares of the height, and its name in the legend.
    fn line(&self, out: &mut String, number: usize, (name, colour, _): &Curve, seen: &[(f64, f64)]) {
        let chunk = seen.len().div_ceil(DRAWN).max(1);
        let mean = |c: &[(f64, f64)], f: fn(&(f64, f64)) -> f64| c.iter().map(f).sum::<f64>() / c.len() as f64;
        let drawn: Vec<String> = seen
            .chunks(chunk)
            .map(|c| format!("{:.1},{:.1}", self.x(mean(c, |p| p.0)), self.y(mean(c, |p| p.1))))
            .collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            drawn.join(" "),
            WIDTH - LEGEND,
            self.top + MARGIN + 16.0 * number as f64,
        );
    }
}

/// Name, colour and points of a line in the unit square.
pub type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// An SVG of lines over a share from 0 to 1, each value a share too; what is not finite is left out.
pub fn square(across: &str, lines: &[Line<'_>]) -> String {
    let x = |share: f64| MARGIN + share * (WIDTH - 2.0 * MARGIN - LEGEND);
    let y = |share: f64| HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN);
    let mut out = beginning(HEIGHT);
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

    const CURVES: Panels = Panels { shares: &[("loss", "#444444", &["values", "total"])], values: &[] };

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

    /// The points of every line of a picture.
    fn drawn(svg: &str) -> Vec<Vec<(f64, f64)>> {
        let lines = svg.split("<polyline points=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let number = |text: &str| text.parse::<f64>().unwrap();
        let pair = |text: &str| text.split_once(',').map(|(x, y)| (number(x), number(y))).unwrap();
        lines.map(|line| line.split_whitespace().map(pair).collect()).collect()
    }

    /// What would break: rewards below 0 and divergences above 1 would be drawn over the legend, or nowhere.
    #[test]
    fn values_of_any_size_have_a_panel_of_their_own_and_none_leaves_it() {
        const BOTH: Panels = Panels {
            shares: &[("loss", "#444444", &["loss"]), ("share", "#1f77b4", &["share"])],
            values: &[
                ("reward", "#2ca02c", &["reward"]),
                ("KL", "#d62728", &["kl"]),
                ("nothing", "#7f7f7f", &["none"]),
            ],
        };
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), 0, BOTH).unwrap();
        for (step, share, reward, kl) in [(1, 0.5, -2.0, 0.0), (2, 1.7, 1.0, 38.0), (3, -0.4, 0.0, 3.0)] {
            let entry = serde_json::json!({ "step": step, "loss": 0.1, "share": share, "reward": reward, "kl": kl });
            log.push(&entry).unwrap();
        }
        log.plot().unwrap();
        let svg = std::fs::read_to_string(folder.path().join("curves.svg")).unwrap();
        for name in ["loss", "share", "reward", "KL", "nothing"] {
            assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        }
        let lines = drawn(&svg);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 3, 0]);
        for (line, top) in lines.iter().zip([0.0, 0.0, HEIGHT, HEIGHT, HEIGHT]) {
            let (left, right) = (MARGIN, WIDTH - MARGIN - LEGEND);
            let inside =
                |(x, y): &(f64, f64)| (left..=right).contains(x) && (top + MARGIN..=top + HEIGHT - MARGIN).contains(y);
            assert!(line.iter().all(inside), "{line:?}");
        }
        // The least and the greatest of all values are the lower panel's edges, and its labels say so.
        assert_eq!((lines[2][0].1, lines[3][1].1), (2.0 * HEIGHT - MARGIN, HEIGHT + MARGIN));
        assert!(svg.contains(">-2.000</text>") && svg.contains(">38.000</text>"), "{svg}");
    }

    #[test]
    fn lines_stay_in_the_square_and_leave_out_what_is_no_number() {
        let svg = square("coverage", &[("risk", "#444444", vec![(0.0, 0.0), (0.5, f64::NAN), (1.0, 1.0)])]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && svg.contains("coverage"), "{svg}");
        assert!(svg.contains("points=\"46.0,374.0 684.0,46.0\"") && !svg.contains("NaN"), "{svg}");
    }
}
