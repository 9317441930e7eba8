//! Ways to ask for a task's answer, and those that training never sees.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::expressions::Phrasing;
use crate::rewards::TaskKind;

const PLACE: &[&str] = &[
    "what kind of place is this?",
    "what kind of place is this",
    "what sort of place is this?",
    "which kind of place do you see?",
    "what kind of place is shown here?",
    "name the kind of place",
    "classify this scene",
    "please classify the scene",
    "what place is this?",
];
const HELD_OUT_PLACE: &[&str] =
    &["what type of place is this?", "which scene is this?", "tell me the kind of place below you"];

const LABELS: &[&str] = &[
    "which kinds of things are there?",
    "which kinds of things are there",
    "what kinds of things do you see?",
    "what kinds of things are in the picture?",
    "list the kinds of things in the image",
    "list the kinds of things",
    "name every kind of thing that you see",
    "please name the kinds of things here",
];
const HELD_OUT_LABELS: &[&str] =
    &["what types of things are there?", "enumerate the kinds of things", "tell me which kinds of things are below"];

const DESCRIPTION: &[&str] = &[
    "describe the picture",
    "describe the image",
    "please describe the picture",
    "describe the picture with boxes",
    "describe what you see",
    "describe what you see and where it is",
    "say what is where",
    "what do you see, and where?",
];
const HELD_OUT_DESCRIPTION: &[&str] =
    &["summarise the picture with boxes", "give me a description of the view", "what is there, and where?"];

/// The ways to ask of a phrasing; none for tasks that are not taught.
pub(super) fn requests(kind: TaskKind, phrasing: Phrasing) -> &'static [&'static str] {
    match (kind, phrasing) {
        (TaskKind::Classification, Phrasing::Train) => PLACE,
        (TaskKind::Classification, Phrasing::HeldOut) => HELD_OUT_PLACE,
        (TaskKind::MultiLabel, Phrasing::Train) => LABELS,
        (TaskKind::MultiLabel, Phrasing::HeldOut) => HELD_OUT_LABELS,
        (TaskKind::GroundingDescription, Phrasing::Train) => DESCRIPTION,
        (TaskKind::GroundingDescription, Phrasing::HeldOut) => HELD_OUT_DESCRIPTION,
        _ => &[],
    }
}

/// The words of a request, one of the ways to ask; `None` for tasks that are not taught.
pub fn request(kind: TaskKind, phrasing: Phrasing, rng: &mut ChaCha8Rng) -> Option<&'static str> {
    requests(kind, phrasing).choose(rng).copied()
}
