//! The section on answers with reasons.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::node::ExplainOptions;

/// Most tokens of a thought, and most milliseconds, that make sense.
const MOST_TOKENS: usize = 1024;
const MOST_MILLIS: u64 = 600_000;

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainSection {
    enabled: bool,
    threads: usize,
    thought_tokens: usize,
    deadline_millis: u64,
    time_to_live_millis: u64,
    give_way_millis: u64,
}

impl ExplainSection {
    /// How answers are explained; `None` explains none.
    pub(super) fn options(self) -> Result<Option<ExplainOptions>, ConfigError> {
        let wrong = |key, expected: String, got: String| Err(ConfigError::Value { key, expected, got });
        if self.thought_tokens > MOST_TOKENS {
            return wrong("explain.thought_tokens", format!("0 to {MOST_TOKENS}"), self.thought_tokens.to_string());
        }
        for (key, millis, least) in [
            ("explain.deadline_millis", self.deadline_millis, 1),
            ("explain.time_to_live_millis", self.time_to_live_millis, 1),
            ("explain.give_way_millis", self.give_way_millis, 0),
        ] {
            if !(least..=MOST_MILLIS).contains(&millis) {
                return wrong(key, format!("{least} to {MOST_MILLIS}"), millis.to_string());
            }
        }
        let millis = Duration::from_millis;
        Ok(self.enabled.then_some(ExplainOptions {
            threads: self.threads,
            thought_tokens: self.thought_tokens,
            deadline: millis(self.deadline_millis),
            time_to_live: millis(self.time_to_live_millis),
            give_way: millis(self.give_way_millis),
        }))
    }
}
