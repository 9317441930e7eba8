//! Tasks that people wrote: captions of pictures and regions, short questions, changes.

use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::Task;
use crate::reasoning::Piece;
use crate::rewards::{TaskKind, Truth};
use crate::sample::{Sample, Spoken};

/// The tasks whose right answers people wrote.
pub const SPOKEN: [TaskKind; 4] =
    [TaskKind::Caption, TaskKind::RegionCaption, TaskKind::ChangeCaption, TaskKind::ShortVqa];

/// Up to `count` requests of this kind that people wrote about a sample's picture, none of them twice, each with one of its
/// right answers to be written; all of them count when an answer is scored.
pub fn told(sample: &Sample, kind: TaskKind, count: usize, rng: &mut ChaCha8Rng) -> Vec<Task> {
    let mut spoken: Vec<&Spoken> = sample.spoken.iter().filter(|spoken| spoken.task == kind).collect();
    spoken.shuffle(rng);
    spoken.truncate(count);
    let task = |spoken: &Spoken| {
        let text = spoken.texts.choose(rng)?;
        let (request, answer) = (spoken.request.clone(), vec![Piece::Text(text.clone())]);
        Some(Task { kind, request, held_out_phrasing: false, answer, truth: truth(spoken) })
    };
    spoken.into_iter().filter_map(task).collect()
}

/// The first right answer to the first request of this kind about a sample's picture, and what it is scored against.
pub fn first_told(sample: &Sample, kind: TaskKind) -> Option<(Vec<Piece>, Truth)> {
    let spoken = sample.spoken.iter().find(|spoken| spoken.task == kind)?;
    Some((vec![Piece::Text(spoken.texts.first()?.clone())], truth(spoken)))
}

fn truth(spoken: &Spoken) -> Truth {
    Truth { texts: spoken.texts.clone(), ..Truth::default() }
}
