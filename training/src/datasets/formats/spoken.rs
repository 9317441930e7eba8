//! Tasks with answers in words, in a form of this project: `tasks.jsonl` beside `images/`, a line a task, in the shape that
//! `ground score` reads.
//!
//! ```text
//! {"image": "1.png", "task": "short_vqa", "request": "is the pool empty?", "truth": {"texts": ["yes"]}}
//! {"image": "1.png", "image_after": "2.png", "task": "change_caption", "request": "what has changed?",
//!  "truth": {"texts": ["a house was built", "there is a new building"]}}
//! ```
//!
//! (the second one in one line, too). Tasks are those of [`SPOKEN`]; each of the texts is right. `split` may name the set's own
//! split. A change has two pictures of one size, which are shown side by side, before and after; nothing else has. A region
//! is told by the request's words.

use std::path::Path;

use serde::Deserialize;

use super::files;
use super::gather::{Gather, Labels, Size, is_request};
use super::{Annotations, Format};
use crate::datasets::Result;
use crate::rewards::text::normalise;
use crate::rewards::{TaskKind, Truth};
use crate::sample::Spoken;
use crate::tasks::SPOKEN;

const NAME: &str = "tasks.jsonl";
/// Bytes of the longest right answer; far more than a task's limit of tokens lets a model write.
const MAX_ANSWER_BYTES: usize = 2048;
/// Right answers of a task at most.
const MAX_ANSWERS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    image: String,
    #[serde(default)]
    image_after: Option<String>,
    #[serde(default)]
    split: Option<String>,
    task: TaskKind,
    request: String,
    truth: Truth,
}

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::Spoken, folder, &[]);
    let path = files::first(folder, &[NAME])?;
    let text = files::text(&path)?;
    let mut read = false;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let at = format!("{NAME}:{number}");
        match serde_json::from_str::<Line>(line) {
            Ok(line) => {
                read = true;
                task(&mut gather, line, &at);
            }
            Err(error) => gather.skip("entry that is not of its form", format!("{at}: {error}")),
        }
    }
    if !read {
        return Err(files::form(&path, "a line of JSON a task", "no line that is one".to_owned()));
    }
    Ok(gather.finish(Labels::Named))
}

fn task(gather: &mut Gather, line: Line, at: &str) {
    let own = line.split.as_deref().filter(|split| !split.is_empty());
    let spoken = match spoken(line.task, line.image_after.is_some(), &line.request, &line.truth.texts) {
        Ok(spoken) => spoken,
        Err(reason) => return gather.skip(reason, at),
    };
    let picture = match &line.image_after {
        Some(after) => gather.pair([&line.image, after], own, at),
        None => gather.picture(&line.image, Size::Measured, own, at),
    };
    if let Some(picture) = picture {
        gather.task(picture, spoken);
    }
}

/// A task, or why it is none.
fn spoken(task: TaskKind, pair: bool, request: &str, texts: &[String]) -> std::result::Result<Spoken, &'static str> {
    if !SPOKEN.contains(&task) {
        return Err("task whose right answer is no text");
    }
    match (task == TaskKind::ChangeCaption, pair) {
        (true, false) => return Err("change without a second picture"),
        (false, true) => return Err("second picture of a task about one"),
        _ => {}
    }
    let request = request.trim();
    if !is_request(request) {
        return Err("request that is empty, over 512 bytes or with control characters");
    }
    // Scoring does not compare with texts without a word either.
    let texts: Vec<String> = texts.iter().map(|text| plain(text)).filter(|text| !normalise(text).is_empty()).collect();
    if texts.is_empty() {
        return Err("task without a right answer");
    }
    let short = |text: &String| text.len() <= MAX_ANSWER_BYTES && !text.chars().any(char::is_control);
    if texts.len() > MAX_ANSWERS || !texts.iter().all(short) {
        return Err("right answers that are over 64, over 2,048 bytes or with control characters");
    }
    Ok(Spoken { task, request: request.to_owned(), texts })
}

/// A text with single blanks for all that parts words, line ends too.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
