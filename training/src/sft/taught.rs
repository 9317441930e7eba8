//! What a step measured of answers to tasks.

use std::ops::AddAssign;

use serde::{Serialize, Serializer};

use crate::rewards::TaskKind;

/// What was measured of the answers to every task, in the order of [`TaskKind::ALL`]; written as a map of those that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tasks([Taught; TaskKind::ALL.len()]);

/// What was measured of one task's answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Taught {
    /// Answers that were taught.
    pub taught: f32,
    /// Right answers that were longer than an answer may be.
    pub long: f32,
    /// Loss of their tokens.
    pub loss: f32,
    /// Share of tokens, of those that the grammar leaves open, that are the likeliest; summed over answers.
    pub right: f32,
}

impl Tasks {
    pub(super) fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Changes what was measured of a task.
    pub fn add(&mut self, kind: TaskKind, change: impl FnOnce(&mut Taught)) {
        if let Some((_, taught)) = TaskKind::ALL.iter().zip(&mut self.0).find(|(of, _)| **of == kind) {
            change(taught);
        }
    }

    /// Means over `n` pictures; shares of tokens are over the answers themselves.
    pub(super) fn mean(&self, n: f32) -> Self {
        Self(self.0.map(|taught| taught.mean(n)))
    }
}

impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let measured = TaskKind::ALL.iter().zip(&self.0).filter(|(_, taught)| !taught.none());
        serializer.collect_map(measured.map(|(kind, taught)| (kind.name(), taught)))
    }
}

impl AddAssign for Tasks {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(to, from)| *to += from);
    }
}

impl Taught {
    fn none(&self) -> bool {
        *self == Self::default()
    }

    fn mean(&self, n: f32) -> Self {
        let [taught, long, loss] = [self.taught, self.long, self.loss].map(|sum| sum / n);
        Self { taught, long, loss, right: self.right / self.taught.max(1.0) }
    }
}

impl AddAssign for Taught {
    fn add_assign(&mut self, other: Self) {
        self.taught += other.taught;
        self.long += other.long;
        self.loss += other.loss;
        self.right += other.right;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_task_has_its_own_sums_and_those_without_any_are_not_written() {
        let mut sums = Tasks::default();
        assert!(sums.none());
        for (at, kind) in TaskKind::ALL.into_iter().enumerate() {
            sums.add(kind, |taught| (taught.taught, taught.loss) = (2.0, at as f32));
        }
        let mut more = Tasks::default();
        more.add(TaskKind::ShortVqa, |taught| (taught.taught, taught.right) = (2.0, 3.0));
        sums += more;
        let written = serde_json::to_value(sums.mean(2.0)).unwrap();
        for (at, kind) in TaskKind::ALL.into_iter().enumerate() {
            let counted = if kind == TaskKind::ShortVqa { (2.0, 0.75) } else { (1.0, 0.0) };
            let of = &written[kind.name()];
            assert_eq!((of["taught"].as_f64(), of["right"].as_f64()), (Some(counted.0), Some(counted.1)), "{of}");
            assert_eq!(of["loss"].as_f64(), Some(at as f64 / 2.0), "{of}");
        }
        assert_eq!(serde_json::to_value(more).unwrap().as_object().unwrap().len(), 1);
    }
}
