//! What a model's text says: its answer, the boxes in it, and the words beside them.
//!
//! Three ways of writing a box are read, all of left, top, right and bottom:
//! - four numbers in a tag, with any commas, semicolons and brackets between them: `<box>0.1 0.2 0.3 0.4</box>`;
//! - a JSON list of four numbers, alone or within other JSON: `[0.1, 0.2, 0.3, 0.4]`;
//! - four location tokens of the model: `<box><loc_6><loc_13><loc_19><loc_26>`, with or without `</box>`.
//!
//! Numbers are fractions of the picture; a location token stands for the middle of its bin.

use kestrel_models::tokenizer::LOCATIONS;

use super::boxes::Edges;

const OPEN: &str = "<box>";
const CLOSE: &str = "</box>";

/// What an answer says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// Its boxes in order; their edges may be any numbers, NaN and infinities too.
    pub boxes: Vec<Edges>,
    /// The answer without its boxes.
    pub words: String,
}

/// The answer within a model's text, if need be from a text of the wrong form.
///
/// It stands behind the last `</think>`, between the first `<answer>` and the next `</answer>` or the end.
/// Without these tags it is all that stands behind the thoughts.
/// Thoughts that never end hold no answer.
pub fn answer(text: &str) -> &str {
    let spoken = match text.rsplit_once("</think>") {
        Some((_, behind)) => behind,
        None => text.split_once("<think>").map_or(text, |(before, _)| before),
    };
    match spoken.split_once("<answer>") {
        Some((_, inside)) => inside.split_once("</answer>").map_or(inside, |(inside, _)| inside),
        None => spoken,
    }
}

/// Parts boxes from words. What opens like a box and is none stays among the words.
pub fn read(answer: &str) -> Said {
    let mut said = Said::default();
    let (mut from, mut at) = (0, 0);
    while let Some(next) = answer[at..].find(['<', '[']) {
        let start = at + next;
        match read_box(&answer[start..]) {
            Some((edges, length)) => {
                said.words.push_str(&answer[from..start]);
                said.words.push(' ');
                said.boxes.push(edges);
                (from, at) = (start + length, start + length);
            }
            None => at = start + 1,
        }
    }
    said.words.push_str(&answer[from..]);
    said
}

/// The box at the beginning of `text`, and how many bytes it takes.
fn read_box(text: &str) -> Option<(Edges, usize)> {
    let mut rest = text;
    let edges = if take(&mut rest, OPEN) {
        if let Some(edges) = four(&mut rest, location, char::is_whitespace) {
            let mut behind = rest.trim_start();
            if take(&mut behind, CLOSE) {
                rest = behind;
            }
            edges
        } else {
            let between = |c: char| c.is_whitespace() || ",;()[]".contains(c);
            let edges = four(&mut rest, number, between)?;
            take(&mut rest, CLOSE).then_some(edges)?
        }
    } else {
        take(&mut rest, "[").then_some(())?;
        let edges = four(&mut rest, number, |c| c.is_whitespace() || c == ',')?;
        take(&mut rest, "]").then_some(edges)?
    };
    Some((edges, text.len() - rest.len()))
}

fn take(rest: &mut &str, prefix: &str) -> bool {
    let behind = rest.strip_prefix(prefix);
    if let Some(behind) = behind {
        *rest = behind;
    }
    behind.is_some()
}

/// Four values with only `between` around them; `rest` moves on only where all are there.
fn four(rest: &mut &str, value: impl Fn(&mut &str) -> Option<f32>, between: impl Fn(char) -> bool) -> Option<Edges> {
    let mut ahead = rest.trim_start_matches(&between);
    let mut edges = [0.0; 4];
    for edge in &mut edges {
        *edge = value(&mut ahead)?;
        ahead = ahead.trim_start_matches(&between);
    }
    *rest = ahead;
    Some(edges)
}

fn number(rest: &mut &str) -> Option<f32> {
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
    let value = rest[..end].parse().ok()?;
    *rest = &rest[end..];
    Some(value)
}

/// A location token as the middle of its bin.
fn location(rest: &mut &str) -> Option<f32> {
    let token = rest.strip_prefix("<loc_")?;
    let end = token.find(|c: char| !c.is_ascii_digit())?;
    let bin: u32 = token[..end].parse().ok().filter(|bin| *bin < LOCATIONS)?;
    *rest = token[end..].strip_prefix('>')?;
    Some((bin as f32 + 0.5) / LOCATIONS as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::super::text::normalise;
    use super::*;

    const EDGES: Edges = [0.1, 0.2, 0.3, 0.4];

    #[test]
    fn the_answer_is_found_in_any_form() {
        for (text, wanted) in [
            ("<think>is it a bus?</think><answer>a car</answer>", "a car"),
            ("<think>maybe <answer>a bus</answer></think><answer>a car</answer>", "a car"),
            ("<answer>a car</answer> or <answer>a bus</answer>", "a car"),
            ("<think>short</think>a car", "a car"),
            ("<answer>a car", "a car"),
            ("a car", "a car"),
            ("<think>a bus, a car, a truck", ""),
            ("<answer>a car</answer><think>a bus", "a car"),
            ("</answer></think>", ""),
            ("", ""),
        ] {
            assert_eq!(answer(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn boxes_are_read_in_each_way_of_writing_them() {
        for text in [
            "<box>0.1 0.2 0.3 0.4</box>",
            "<box>(0.1, 0.2), (0.3, 0.4)</box>",
            "<box>[0.1,0.2,0.3,0.4]</box>",
            "<box> 1e-1;.2;+0.3;0.40 </box>",
            "[0.1, 0.2, 0.3, 0.4]",
            "[[0.1,0.2,0.3,0.4]]",
            r#"[{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "label": "car"}]"#,
            "[1, 2] [0.1 0.2 0.3 0.4] [x]",
        ] {
            assert_eq!(read(text).boxes, [EDGES], "{text:?}");
        }
        let two = read("one <box>0.1 0.2 0.3 0.4</box>and[0.1,0.2,0.3,0.4] two");
        assert_eq!((two.boxes.as_slice(), normalise(&two.words).as_str()), ([EDGES; 2].as_slice(), "one and two"));
    }

    #[test]
    fn location_tokens_stand_for_the_middle_of_their_bin() {
        let wanted = [0.5 / 64.0, 1.5 / 64.0, 32.5 / 64.0, 63.5 / 64.0];
        for text in ["<box><loc_0><loc_1><loc_32><loc_63>", "a <box> <loc_0> <loc_1> <loc_32> <loc_63> </box>"] {
            assert_eq!(read(text).boxes, [wanted], "{text:?}");
            assert!(!read(text).words.contains("box"), "{text:?}");
        }
        let two = read("<box><loc_0><loc_1><loc_32><loc_63><box><loc_0><loc_1><loc_32><loc_63>");
        assert_eq!(two.boxes, [wanted; 2]);
    }

    #[test]
    fn what_is_no_box_stays_among_the_words() {
        for text in [
            "<box>0.1 0.2 0.3</box>",
            "<box>0.1 0.2 0.3 0.4 0.5</box>",
            "<box>0.1 0.2 0.3 0.4",
            "<box>a b c d</box>",
            "<box><loc_0><loc_1><loc_32><loc_64>",
            "<box><loc_-1><loc_1><loc_32><loc_6>",
            "[0.1, 0.2, 0.3]",
            "[0.1, 0.2, 0.3, 0.4",
            "[0.1, 0.2, 0.3, 0.4, 0.5]",
            "0.1 0.2 0.3 0.4",
            "",
        ] {
            assert_eq!(read(text), Said { boxes: vec![], words: text.to_owned() }, "{text:?}");
        }
    }

    #[test]
    fn numbers_that_are_no_place_are_kept_for_the_judge() {
        let boxes = read("<box>nan 0 1 1</box> [0, 0, 1e999, -inf]").boxes;
        assert!(boxes[0][0].is_nan());
        assert_eq!(boxes[1], [0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn long_and_unbalanced_text_is_read() {
        for piece in ["[", "<box>", "<box>[", "[0.1,", "<", "<box><loc_1>", "[1,1,1,1", "]", "</box>", "<loc_"] {
            let text = piece.repeat(100_000 / piece.len());
            assert_eq!(read(&text), Said { boxes: vec![], words: text.clone() }, "{piece:?}");
            assert!(answer(&text).len() <= text.len());
        }
        assert_eq!(read(&"[0.1,0.2,0.3,0.4]".repeat(6_000)).boxes.len(), 6_000);
        assert_eq!(read(&format!("[{}]", "1".repeat(100_000))).boxes, Vec::<Edges>::new());
    }

    fn any_edges() -> impl Strategy<Value = Edges> {
        proptest::array::uniform4(proptest::num::f32::ANY)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(boxes in proptest::collection::vec(any_edges(), 0..4), way in 0usize..3) {
            let written: Vec<String> = boxes.iter().map(|[a, b, c, d]| match way {
                0 => format!("<box>{a} {b} {c} {d}</box>"),
                1 => format!("[{a:e},{b:e}, {c:e},{d:e}]"),
                _ => format!("<box>({a:?},{b:?}),({c:?},{d:?})</box>"),
            }).collect();
            let said = read(&format!("a {} b", written.join(" c ")));
            let same = |(x, y): (&Edges, &Edges)| x.iter().zip(y).all(|(x, y)| x == y || (x.is_nan() && y.is_nan()));
            prop_assert_eq!(said.boxes.len(), boxes.len());
            prop_assert!(said.boxes.iter().zip(&boxes).all(same), "{:?} {:?}", said.boxes, boxes);
        }

        #[test]
        fn any_text_is_read(
            text in "(<box>|</box>|<loc_[0-9]{1,2}>|\\[|\\]|,| |0\\.[0-9]|nan|é|<|think>|<answer>|</answer>){0,40}",
        ) {
            let said = read(answer(&text));
            prop_assert!(said.boxes.len() * 8 <= text.len());
        }
    }
}
