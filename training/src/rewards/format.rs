//! Whether an answer has the form that was asked for, and guards against answers that only play for the reward.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

const TAGS: [&str; 4] = ["<think>", "</think>", "<answer>", "</answer>"];
/// Share of distinct runs of three words that plain speech has; below it the guard bites.
const DISTINCT: f64 = 0.8;

/// 1 if the whole text is `<think>…</think>` then `<answer>…</answer>`, else 0 (GeoVLM-R1, arXiv 2509.25026).
///
/// Only blanks may stand around and between the two, and each tag stands once: answers within answers are not paid.
pub fn format(text: &str) -> f64 {
    f64::from(u8::from(well_formed(text)))
}

fn well_formed(text: &str) -> bool {
    let once = TAGS.iter().all(|tag| text.matches(tag).count() == 1);
    let inside = text.trim().strip_prefix(TAGS[0]).and_then(|rest| rest.strip_suffix(TAGS[3]));
    // Once each, so that the first of a tag is the only one.
    let between = inside.and_then(|inside| inside.split_once(TAGS[1])).and_then(|(_, rest)| rest.split_once(TAGS[2]));
    once && between.is_some_and(|(between, _)| between.trim().is_empty())
}

/// A guard against repetition (derived): the share of distinct runs of three words, of the share that plain speech has.
///
/// In 0..=1; 1 for fewer than three words.
pub fn repetition(words: &[String]) -> f64 {
    let runs = words.windows(3);
    let all = runs.len();
    if all == 0 {
        return 1.0;
    }
    let distinct = runs.collect::<HashSet<_>>().len();
    (distinct as f64 / all as f64 / DISTINCT).min(1.0)
}

/// A guard against length (derived; its shape is DAPO's soft punishment of overlong answers, arXiv 2503.14476).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Length {
    /// Words up to which length costs nothing.
    pub free: usize,
    /// Words from which nothing is paid.
    pub most: usize,
}

impl Default for Length {
    fn default() -> Self {
        Self { free: 384, most: 768 }
    }
}

impl Length {
    /// 1 up to `free` words, falling on a line to 0 at `most`, in 0..=1.
    pub fn guard(&self, words: usize) -> f64 {
        if words <= self.free {
            return 1.0;
        }
        let room = self.most.saturating_sub(self.free);
        let left = self.most.saturating_sub(words);
        if room == 0 { 0.0 } else { left as f64 / room as f64 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::super::text::words;
    use super::*;

    #[test]
    fn the_whole_text_has_the_form() {
        for good in [
            "<think>it is red</think><answer>car</answer>",
            "\n<think>\nred\n</think>\n\n<answer>\ncar\n</answer>\n",
            "<think></think><answer></answer>",
            "<think>a < b > c</think> <answer><box>0 0 1 1</box></answer>",
        ] {
            assert_eq!(format(good), 1.0, "{good:?}");
        }
    }

    #[test]
    fn anything_else_has_not() {
        for bad in [
            "",
            "car",
            "<answer>car</answer>",
            "<think>red</think>",
            "<think>red</think><answer>car",
            "<think>red<answer>car</answer>",
            "<think>red</think><answer>car</answer> indeed",
            "Well: <think>red</think><answer>car</answer>",
            "<think>red</think> so <answer>car</answer>",
            "<answer>car</answer><think>red</think>",
            "<think>red</think><answer>car</answer><answer>bus</answer>",
            "<think>red <answer>car</answer></think>",
            "<think><think>red</think><answer>car</answer>",
            "<think></answer></think><answer></answer>",
            "<THINK>red</THINK><ANSWER>car</ANSWER>",
            "</answer><answer></think><think>",
        ] {
            assert_eq!(format(bad), 0.0, "{bad:?}");
        }
        assert_eq!(format(&"<think>".repeat(20_000)), 0.0);
    }

    #[test]
    fn repetition_costs_and_plain_speech_does_not() {
        let plain = words("The red car stands next to the white house, and the blue car stands in front of it.");
        assert_eq!(repetition(&plain), 1.0);
        let parrot = words(&"the red car ".repeat(40));
        assert!(repetition(&parrot) < 0.05, "{}", repetition(&parrot));
        assert_eq!(repetition(&words("car car")), 1.0);
        assert_eq!(repetition(&[]), 1.0);
    }

    #[test]
    fn length_is_free_then_falls_to_nothing() {
        let length = Length { free: 10, most: 20 };
        assert_eq!([0, 10, 15, 20, usize::MAX].map(|words| length.guard(words)), [1.0, 1.0, 0.5, 0.0, 0.0]);
        assert_eq!(Length { free: 10, most: 5 }.guard(11), 0.0);
    }

    proptest! {
        #[test]
        fn guards_are_bounded_and_fall(
            text in any::<String>(), free in 0usize..50, most in 0usize..50, n in 0usize..60,
        ) {
            prop_assert!((0.0..=1.0).contains(&repetition(&words(&text))));
            let length = Length { free, most };
            prop_assert!((0.0..=1.0).contains(&length.guard(n)));
            prop_assert!(length.guard(n + 1) <= length.guard(n));
            prop_assert!([0.0, 1.0].contains(&format(&text)));
        }

        #[test]
        fn parts_without_tags_make_the_form(
            think in "[a-z <>/]{0,20}", answer in "[a-z <>/]{0,20}", junk in "[a-z]{1,4}",
        ) {
            prop_assume!(TAGS.iter().all(|tag| !think.contains(tag) && !answer.contains(tag)));
            let text = format!("<think>{think}</think><answer>{answer}</answer>");
            prop_assert_eq!(format(&text), 1.0);
            prop_assert_eq!(format(&format!("{text}{junk}")), 0.0);
        }
    }
}
