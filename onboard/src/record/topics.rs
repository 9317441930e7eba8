//! What a record's messages are called, and their JSON schemas.

use serde_json::{Value, json};

/// Encoding of all schemas, by MCAP's registry.
pub(super) const SCHEMA_ENCODING: &str = "jsonschema";
/// Encoding of all messages, by MCAP's registry.
pub(super) const MESSAGE_ENCODING: &str = "json";
/// Name of the metadata that says which flight it is.
pub(super) const FLIGHT: &str = "kestrel.flight";
/// Name of the metadata that says which model flies from there on.
pub(super) const MODEL: &str = "kestrel.model";
/// Name of the metadata that ends a record.
pub(super) const END: &str = "kestrel.end";

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// Pictures.
    Camera,
    /// What is drawn over them.
    Drawings,
    /// Looks.
    Looks,
    /// Queries as they were put to a frame.
    Queries,
    /// Outcomes.
    Outcomes,
    /// Refusals in which perception had no part.
    Refusals,
    /// What did not fit into the record.
    Losses,
}

impl Topic {
    /// All of them.
    pub(super) const ALL: [Self; 7] =
        [Self::Camera, Self::Drawings, Self::Looks, Self::Queries, Self::Outcomes, Self::Refusals, Self::Losses];

    /// Its topic in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Camera => "/camera",
            Self::Drawings => "/camera/annotations",
            Self::Looks => "/looks",
            Self::Queries => "/queries",
            Self::Outcomes => "/outcomes",
            Self::Refusals => "/refusals",
            Self::Losses => "/losses",
        }
    }

    /// The kind of message with this topic.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Name of its schema.
    pub(super) fn schema_name(self) -> &'static str {
        match self {
            Self::Camera => "foxglove.CompressedImage",
            Self::Drawings => "foxglove.ImageAnnotations",
            Self::Looks => "kestrel.Look",
            Self::Queries => "kestrel.Query",
            Self::Outcomes => "kestrel.Outcome",
            Self::Refusals => "kestrel.Refusal",
            Self::Losses => "kestrel.Losses",
        }
    }

    /// Its JSON schema.
    pub(super) fn schema(self) -> Value {
        let (about, properties) = match self {
            Self::Camera => ("A picture of the camera that was looked at.", picture()),
            Self::Drawings => ("What is drawn over a picture.", drawings()),
            Self::Looks => ("A frame that was looked at.", look()),
            Self::Queries => ("A query as it was put to a frame.", asked()),
            Self::Outcomes => ("What perception answered to a query.", answered()),
            Self::Refusals => ("A refusal in which perception had no part.", unperceived()),
            Self::Losses => ("What did not fit into the record so far.", losses()),
        };
        object(self.schema_name(), about, &properties)
    }
}

fn object(title: &str, about: &str, properties: &Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
    json!({ "title": title, "description": about, "type": "object", "properties": properties, "required": required })
}

fn list(items: &Value, about: &str) -> Value {
    json!({ "type": "array", "items": items, "description": about })
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn number(about: &str) -> Value {
    json!({ "type": "number", "description": about })
}

fn count(about: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": about })
}

fn time(about: &str) -> Value {
    json!({
        "title": "time",
        "type": "object",
        "properties": {
            "sec": { "type": "integer", "minimum": 0 },
            "nsec": { "type": "integer", "minimum": 0, "maximum": 999_999_999 },
        },
        "description": about,
    })
}

fn picture() -> Value {
    json!({
        "timestamp": time("When the picture was taken."),
        "frame_id": text("Frame of reference of the camera."),
        "data": { "type": "string", "contentEncoding": "base64", "description": "The picture's file." },
        "format": text("Format of the picture's file."),
    })
}

fn color(about: &str) -> Value {
    let part = number("0 to 1");
    object("foxglove.Color", about, &json!({ "r": part, "g": part, "b": part, "a": part }))
}

fn point(about: &str) -> Value {
    object("foxglove.Point2", about, &json!({ "x": number("Pixels to the right."), "y": number("Pixels down.") }))
}

fn notes() -> Value {
    let pair =
        object("foxglove.KeyValuePair", "A note.", &json!({ "key": text("Its key."), "value": text("Its value.") }));
    list(&pair, "Notes.")
}

fn drawings() -> Value {
    let circle = json!({
        "timestamp": time("Of the picture."),
        "position": point("Middle."),
        "diameter": number("In pixels."),
        "thickness": number("In pixels."),
        "fill_color": color("Inside."),
        "outline_color": color("Line."),
        "metadata": notes(),
    });
    let kinds = ["UNKNOWN", "POINTS", "LINE_LOOP", "LINE_STRIP", "LINE_LIST"];
    let kinds: Vec<Value> =
        kinds.iter().enumerate().map(|(value, title)| json!({ "title": title, "const": value })).collect();
    let points = json!({
        "timestamp": time("Of the picture."),
        "type": { "title": "foxglove.PointsAnnotationType", "description": "How they are joined.", "oneOf": kinds },
        "points": list(&point("A corner."), "Corners."),
        "outline_color": color("Line."),
        "outline_colors": list(&color("Line."), "A colour for each line."),
        "fill_color": color("Inside."),
        "thickness": number("In pixels."),
        "metadata": notes(),
    });
    let label = json!({
        "timestamp": time("Of the picture."),
        "position": point("Bottom-left corner."),
        "text": text("What is written."),
        "font_size": number("In pixels."),
        "text_color": color("Letters."),
        "background_color": color("Behind them."),
        "metadata": notes(),
    });
    json!({
        "circles": list(&object("foxglove.CircleAnnotation", "A circle.", &circle), "Circles."),
        "points": list(&object("foxglove.PointsAnnotation", "Points or lines.", &points), "Points and lines."),
        "texts": list(&object("foxglove.TextAnnotation", "A label.", &label), "Labels."),
    })
}

/// What every message about a look begins with.
fn about_look(more: Value) -> Value {
    let mut fields = json!({
        "timestamp": time("The camera's capture time."),
        "look": count("Which look, counted from 0."),
        "frame": count("The frame's number, counted from 0 by the drone."),
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

fn look() -> Value {
    let history = json!({
        "fingerprint": { "type": ["string", "null"], "description": "Hash of the last frame, in hex." },
        "repeats": count("How many frames in a row have repeated the one before."),
    });
    let history = |about| object("kestrel.GateHistory", about, &history);
    about_look(json!({
        "width": count("In pixels."),
        "height": count("In pixels."),
        "model": text("name@version of the model."),
        "model_hash": text("SHA-256 of its manifest, in hex."),
        "history_before": history("What the gate remembered before."),
        "history_after": history("What the gate remembers after."),
        "refusal": { "type": ["object", "null"], "description": "Why the gate refused the frame, or null." },
        "most_views": {
            "type": ["integer", "null"],
            "description": "How many views one answer might use, or null where the tiling has no budget.",
        },
        "steady": {
            "type": ["object", "null"],
            "description": "The frame's time by a clock that nobody sets, by which things are followed, or null.",
        },
        "capture_doubt": { "type": ["string", "null"], "description": "Why the capture time is not believed, or null." },
    }))
}

fn question() -> Value {
    let query = json!({
        "id": text("Chosen by the asker."),
        "text": text("Plain words."),
        "frames": count("Answers wanted; 0 for as long as it lives."),
    });
    let also = "The query; it may also have a `hint`, `explain`, `deadline_millis` and `time_to_live_millis`.";
    object("kestrel.Question", also, &query)
}

fn asked() -> Value {
    about_look(json!({
        "order": count("Which query about this look, counted from 0."),
        "query": question(),
    }))
}

fn answered() -> Value {
    about_look(json!({
        "order": count("Which query about this look, counted from 0."),
        "query_id": text("Id of the query."),
        "late": { "type": "boolean", "description": "Whether the deadline had passed and the asker was told so instead." },
        "latency_micros": count("From when frame and query were there to the outcome, in microseconds."),
        "outcome": {
            "type": "object",
            "description": "`kind` segmented with `masks`, or refused with `verdict`, `evidence` and `advice`.",
            "properties": { "kind": text("segmented or refused.") },
            "required": ["kind"],
        },
        "turn": count("How often a query that stands was answered before; 0 for others."),
        "standing": {
            "type": ["object", "null"],
            "description": "How it stands to the answers before: `verified_frames_ago`, `refused` and `lost` ids, or null.",
        },
        "untold": { "type": "boolean", "description": "Whether a refusal of /refusals was given in its place." },
        "pose": { "type": ["object", "null"], "description": "The pose that masks were placed with, or null." },
        "unplaced": { "type": ["object", "null"], "description": "Why there was no pose, or null." },
    }))
}

fn unperceived() -> Value {
    json!({
        "timestamp": time("When it was given, by the drone's wall clock."),
        "frame": { "type": ["integer", "null"], "description": "Number of the frame that it is about, or null." },
        "query": question(),
        "refusal": { "type": "object", "description": "`verdict`, `evidence` and `advice`." },
        "latency_micros": count("How long the query or its frame had waited, in microseconds."),
        "instead": { "type": "boolean", "description": "Whether it was given instead of an answer that is in the record as in time." },
    })
}

fn losses() -> Value {
    json!({
        "frames": count("Frames that were looked at and are not in the record."),
        "outcomes": count("Outcomes that are not in the record."),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn topics_are_found_by_their_names_and_schemas_bear_theirs() {
        for topic in Topic::ALL {
            assert_eq!(Topic::named(topic.name()), Some(topic));
            assert_eq!(topic.schema()["title"], topic.schema_name());
        }
        assert_eq!(Topic::named("/elsewhere"), None);
    }

    #[test]
    fn every_field_of_a_schema_is_required() {
        let schema = Topic::Looks.schema();
        let required = schema["required"].as_array().unwrap();
        assert_eq!(required.len(), schema["properties"].as_object().unwrap().len());
        assert!(required.iter().any(|name| name == "timestamp"), "{schema}");
    }
}
