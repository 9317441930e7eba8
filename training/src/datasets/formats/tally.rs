//! Counts by reason.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;

/// How often, and where first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How often.
    pub count: usize,
    /// The first place: a file and an entry in it.
    pub first: String,
}

/// How often something came up, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally(BTreeMap<&'static str, Count>);

impl Tally {
    /// Counts one more; the place is kept for the first one only.
    pub(super) fn add(&mut self, reason: &'static str, place: impl Display) {
        let entry = self.0.entry(reason).or_insert_with(|| Count { count: 0, first: place.to_string() });
        entry.count += 1;
    }

    /// Reasons with their counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Count)> {
        self.0.iter().map(|(reason, count)| (*reason, count))
    }

    /// How often for one reason.
    pub fn of(&self, reason: &str) -> usize {
        self.0.get(reason).map_or(0, |count| count.count)
    }

    /// How often in all.
    pub fn total(&self) -> usize {
        self.0.values().map(|count| count.count).sum()
    }
}
