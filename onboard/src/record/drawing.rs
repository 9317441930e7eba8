//! Outcomes drawn over the picture that they are about, for Foxglove.

use kestrel_link::{Outcome, Query, Refusal, Segment, Verdict};
use kestrel_perception::overlay::COLOURS;

use super::foxglove::{Color, ImageAnnotations, KeyValuePair, LINE_LOOP, Point2, PointsAnnotation, TextAnnotation};
use super::messages::{Answered, Seen, Time};
use super::outline::outline;

/// Outcomes drawn at once; questions about one picture may go on without end, its drawing may not grow so.
const MOST_DRAWN: usize = 16;
/// Edges of a mask beyond which only its box is drawn.
const MOST_EDGES: usize = 8192;
const WHITE: Color = Color { r: 1.0, g: 1.0, b: 1.0, a: 1.0 };
const SHADE: Color = Color { r: 0.0, g: 0.0, b: 0.0, a: 0.7 };
const NOTHING: Color = Color { r: 0.0, g: 0.0, b: 0.0, a: 0.0 };

/// All that is drawn over one picture so far.
pub(super) struct Drawing {
    timestamp: Time,
    font_size: f64,
    drawn: usize,
    /// Lines of text at the top of the picture.
    lines: usize,
    points: Vec<PointsAnnotation>,
    texts: Vec<TextAnnotation>,
}

impl Drawing {
    /// The drawing of a look: nothing yet, or why the gate refused the frame.
    pub(super) fn of(seen: &Seen) -> Self {
        let mut drawing = Self {
            timestamp: seen.timestamp,
            font_size: f64::from(seen.height / 36).clamp(10.0, 48.0),
            drawn: 0,
            lines: 0,
            points: Vec::new(),
            texts: Vec::new(),
        };
        if let Some(refusal) = &seen.refusal {
            drawing.line(format!("frame refused: {}", told(refusal)), "");
        }
        drawing
    }

    /// Draws one more outcome.
    pub(super) fn add(&mut self, query: &Query, answered: &Answered) {
        if self.drawn >= MOST_DRAWN {
            (self.drawn, self.lines) = (0, 0);
            self.points.clear();
            self.texts.clear();
        }
        let color = numbered(self.drawn);
        self.drawn += 1;
        let id = query.id.as_str();
        if answered.late {
            let millis = answered.latency_micros / 1000;
            return self.line(format!("{}: refused: deadline missed after {millis} ms", query.text), id);
        }
        match &answered.outcome {
            Outcome::Segmented { masks } => {
                for segment in masks {
                    self.segment(segment, color, id);
                    let name = segment.track.map(|track| format!(" #{}", track.id)).unwrap_or_default();
                    self.label(segment, format!("{}{name} {:.2}", query.text, segment.presence), id);
                }
            }
            Outcome::Refused(refusal) => {
                if let Verdict::TargetAmbiguous { candidates } = &refusal.verdict {
                    for (index, candidate) in candidates.iter().enumerate() {
                        self.segment(candidate, color, id);
                        self.label(candidate, format!("{}?", index + 1), id);
                    }
                }
                self.line(format!("{}: refused: {}", query.text, told(refusal)), id);
            }
        }
    }

    /// The message that draws it.
    pub(super) fn annotations(&self) -> ImageAnnotations<'_> {
        ImageAnnotations { circles: [], points: &self.points, texts: &self.texts }
    }

    /// The outline and the box of a mask.
    fn segment(&mut self, segment: &Segment, color: Color, id: &str) {
        // A mask that is not whole has no outline; what is wrong with it is said where it is compared.
        let lines = outline(&segment.mask, MOST_EDGES).ok().flatten().unwrap_or_default();
        for line in lines {
            let corners = line.into_iter().map(|(x, y)| Point2 { x: f64::from(x), y: f64::from(y) }).collect();
            let shape = self.closed(corners, color, 2.0, id);
            self.points.push(shape);
        }
        let [x, y, width, height] = segment.bounding_box.map(f64::from);
        let corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)];
        let corners = corners.map(|(x, y)| Point2 { x, y }).to_vec();
        let shape = self.closed(corners, Color { a: 0.6, ..color }, 1.0, id);
        self.points.push(shape);
    }

    fn closed(&self, points: Vec<Point2>, color: Color, thickness: f64, id: &str) -> PointsAnnotation {
        PointsAnnotation {
            timestamp: self.timestamp,
            kind: LINE_LOOP,
            points,
            outline_color: color,
            outline_colors: Vec::new(),
            fill_color: NOTHING,
            thickness,
            metadata: note(id),
        }
    }

    /// Words above a mask.
    fn label(&mut self, segment: &Segment, text: String, id: &str) {
        let [x, y, ..] = segment.bounding_box.map(f64::from);
        self.text(text, Point2 { x, y: y.max(self.font_size) }, id);
    }

    /// Words in the next line at the top of the picture.
    fn line(&mut self, text: String, id: &str) {
        self.lines += 1;
        let y = self.lines as f64 * 1.5 * self.font_size;
        self.text(text, Point2 { x: 0.5 * self.font_size, y }, id);
    }

    fn text(&mut self, text: String, position: Point2, id: &str) {
        self.texts.push(TextAnnotation {
            timestamp: self.timestamp,
            position,
            text,
            font_size: self.font_size,
            text_color: WHITE,
            background_color: SHADE,
            metadata: note(id),
        });
    }
}

/// The reason in words, and the advice.
fn told(refusal: &Refusal) -> String {
    format!("{}. {}", reason(&refusal.verdict).replace('_', " "), refusal.advice)
}

/// The verdict's name on the wire.
pub(super) fn reason(verdict: &Verdict) -> String {
    let value = serde_json::to_value(verdict).unwrap_or_default();
    value.get("reason").and_then(|reason| reason.as_str()).unwrap_or("unknown").to_owned()
}

/// Which query it belongs to.
fn note(id: &str) -> Vec<KeyValuePair> {
    if id.is_empty() { Vec::new() } else { vec![KeyValuePair { key: "query", value: id.to_owned() }] }
}

fn numbered(index: usize) -> Color {
    let [r, g, b] = COLOURS[index % COLOURS.len()].map(|part| f64::from(part) / 255.0);
    Color { r, g, b, a: 1.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::messages::History;
    use super::*;
    use kestrel_link::Mask;

    fn seen(refusal: Option<Refusal>) -> Seen {
        let history = History { fingerprint: None, repeats: 0 };
        Seen {
            timestamp: Time::of(5),
            look: 0,
            frame: 0,
            width: 40,
            height: 30,
            model: "m@1".into(),
            model_hash: String::new(),
            history_before: history.clone(),
            history_after: history,
            refusal,
            most_views: None,
            steady: None,
            capture_doubt: None,
        }
    }

    fn refusal(verdict: Verdict) -> Refusal {
        Refusal { verdict, evidence: Vec::new(), advice: "come closer".into() }
    }

    fn answered(outcome: Outcome) -> Answered {
        let (timestamp, query_id) = (Time::of(5), "q".into());
        Answered {
            timestamp,
            look: 0,
            order: 0,
            frame: 0,
            query_id,
            late: false,
            latency_micros: 9000,
            outcome,
            untold: false,
            pose: None,
            unplaced: None,
            turn: 0,
            standing: None,
        }
    }

    fn query() -> Query {
        Query::new("q", "the car")
    }

    fn mask() -> Segment {
        Segment::of(Mask::from_fn(40, 30, |x, y| x < 4 && y < 4).unwrap(), 0.75, 0.5).unwrap()
    }

    #[test]
    fn a_mask_is_an_outline_a_box_and_a_label() {
        let mut drawing = Drawing::of(&seen(None));
        assert!(drawing.annotations().texts.is_empty(), "an empty drawing wipes the one before");
        drawing.add(&query(), &answered(Outcome::Segmented { masks: vec![mask()] }));
        assert_eq!((drawing.points.len(), drawing.texts.len()), (2, 1));
        assert_eq!(drawing.texts[0].text, "the car 0.75");
        assert_eq!(drawing.points[0].timestamp, Time::of(5), "drawings are matched to pictures by their times");
    }

    #[test]
    fn refusals_are_written_line_by_line() {
        let mut drawing = Drawing::of(&seen(Some(refusal(Verdict::TooDark))));
        let outcome = Outcome::Refused(refusal(Verdict::TargetAmbiguous { candidates: vec![mask(), mask()] }));
        drawing.add(&query(), &answered(outcome.clone()));
        drawing.add(&query(), &Answered { late: true, ..answered(outcome) });
        let texts: Vec<&str> = drawing.texts.iter().map(|text| text.text.as_str()).collect();
        assert_eq!(texts[0], "frame refused: too dark. come closer");
        assert_eq!(texts[1..3], ["1?", "2?"]);
        assert_eq!(texts[3], "the car: refused: target ambiguous. come closer");
        assert_eq!(texts[4], "the car: refused: deadline missed after 9 ms");
        assert!(drawing.texts[4].position.y > drawing.texts[3].position.y);
    }

    /// What would break: memory, when questions about one picture go on without end.
    ///
    /// Promise: P5
    #[test]
    fn a_drawing_does_not_grow_without_end() {
        let mut drawing = Drawing::of(&seen(None));
        for _ in 0..1000 {
            drawing.add(&query(), &answered(Outcome::Segmented { masks: vec![mask()] }));
        }
        assert!(drawing.texts.len() <= MOST_DRAWN);
    }
}
