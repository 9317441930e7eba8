//! What is kept of all queries that stand.

use kestrel_link::Query;

use super::{StandingOptions, StandingQuery};

/// What is kept of all queries that stand; bounded.
pub struct StandingQueries {
    options: StandingOptions,
    most: usize,
    /// Who was asked longest ago comes first.
    all: Vec<StandingQuery>,
}

impl StandingQueries {
    /// Nothing yet, and at most `most` queries later: who was asked longest ago makes room.
    #[must_use]
    pub fn new(options: StandingOptions, most: usize) -> Self {
        Self { options, most: most.max(1), all: Vec::new() }
    }

    /// What is kept of a query, to ask about its next frame; nothing where it `begins`, or asks for something else than the
    /// one with its id.
    pub fn of(&mut self, query: &Query, begins: bool) -> &mut StandingQuery {
        let known = self.taken(&query.id).filter(|known| !begins && known.query.asks_as(query));
        let standing = known.unwrap_or_else(|| StandingQuery::new(query, &self.options));
        self.put(standing)
    }

    /// What was kept of a query after it was answered `turn` times; `None` where that is not known.
    pub fn at(&mut self, query: &Query, turn: u32) -> Option<&mut StandingQuery> {
        if turn == 0 {
            return Some(self.of(query, true));
        }
        let known = self.taken(&query.id).filter(|known| known.turn == turn && known.query.asks_as(query))?;
        Some(self.put(known))
    }

    /// Lets go of what is kept of a query.
    pub fn forget(&mut self, id: &str) {
        self.all.retain(|known| known.query.id != id);
    }

    /// How many queries something is kept of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn taken(&mut self, id: &str) -> Option<StandingQuery> {
        let index = self.all.iter().position(|known| known.query.id == id)?;
        Some(self.all.remove(index))
    }

    fn put(&mut self, standing: StandingQuery) -> &mut StandingQuery {
        if self.all.len() >= self.most {
            self.all.remove(0);
        }
        self.all.push(standing);
        let last = self.all.len() - 1;
        &mut self.all[last]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn query(id: &str, text: &str) -> Query {
        Query { frames: 0, ..Query::new(id, text) }
    }

    fn queries(most: usize) -> StandingQueries {
        StandingQueries::new(StandingOptions::default(), most)
    }

    #[test]
    fn a_query_finds_its_own_until_it_is_replaced() {
        let mut kept = queries(4);
        kept.of(&query("a", "the car"), true).turn = 7;
        assert_eq!(kept.of(&query("a", "the car"), false).turn(), 7);
        let renewed = Query { time_to_live_millis: Some(5), ..query("a", "the car") };
        assert_eq!(kept.of(&renewed, false).turn(), 7, "the same, for longer");
        assert_eq!(kept.of(&query("a", "the boat"), false).turn(), 0, "other words");
        kept.of(&query("a", "the boat"), false).turn = 3;
        assert_eq!(kept.of(&query("a", "the boat"), true).turn(), 0, "asked anew");
        kept.forget("a");
        assert!(kept.is_empty());
    }

    #[test]
    fn who_was_asked_longest_ago_makes_room() {
        let mut kept = queries(2);
        for id in ["a", "b", "a", "c"] {
            kept.of(&query(id, "the car"), false).turn += 1;
        }
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.of(&query("a", "the car"), false).turn(), 2);
        assert_eq!(kept.of(&query("b", "the car"), false).turn(), 0);
    }

    /// What would break: a replay behind a gap that compares with another state.
    #[test]
    fn a_turn_is_found_only_where_it_follows() {
        let mut kept = queries(2);
        assert!(kept.at(&query("a", "the car"), 1).is_none());
        kept.at(&query("a", "the car"), 0).unwrap().turn = 1;
        assert!(kept.at(&query("a", "the car"), 1).is_some());
        assert!(kept.at(&query("a", "the car"), 3).is_none(), "two answers are missing");
        assert!(kept.is_empty(), "and it cannot be followed from there on");
    }
}
