//! What people wrote for a run's pictures: whether the tasks that its phases name are asked at all, and the texts that its
//! tokenizer is trained on beside our own.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Recipe, Result, TrainError};
use crate::datasets::Split;
use crate::datasets::formats::Format;
use crate::sample::Spoken;
use crate::tasks::SPOKEN;

/// Requests and right answers of the phases' tasks that people wrote, from what trains of the recipe's sets; none where no
/// phase names one.
///
/// # Errors
/// When a set cannot be read, or a phase names a task that none of them asks; `data` is the folder of data sets.
pub(super) fn written(recipe: &Recipe, data: Option<&Path>) -> Result<Vec<String>> {
    let named = recipe.phases.iter().flat_map(|phase| phase.tasks.keys().copied().map(move |kind| (kind, phase)));
    let named: Vec<_> = named.filter(|(kind, _)| SPOKEN.contains(kind)).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let (mut words, mut asked) = (Vec::new(), BTreeSet::new());
    for set in recipe.data.sets.iter().filter(|set| set.format == Format::Spoken) {
        for Spoken { task, request, texts } in set.part(data, Split::Train)?.records.into_iter().flat_map(|r| r.spoken)
        {
            asked.insert(task);
            if named.iter().any(|(kind, _)| *kind == task) {
                words.push(request);
                words.extend(texts);
            }
        }
    }
    match named.iter().find(|(kind, _)| !asked.contains(kind)) {
        None => Ok(words),
        Some((kind, phase)) => Err(TrainError::Setting {
            recipe: recipe.name.clone(),
            setting: format!("phases.{}.tasks.{}", phase.name, kind.name()),
            expected: "a task that a set in the format `spoken` asks about a picture that trains".to_owned(),
            got: format!("sets that ask {}", asked.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")),
        }),
    }
}
