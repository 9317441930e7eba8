//! Words that mean nothing, and which bytes they are.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::meaning::Expression;
use super::phrase::{Phrasing, noun_phrase};
use super::slips::is_known;
use super::words;
use crate::sample::{Category, Colour};

const STARTS: [&str; 30] = [
    "bl", "fl", "gn", "kr", "pl", "qu", "sn", "tw", "v", "z", "dr", "gl", "sm", "sk", "w", "j", "m", "n", "th", "sh",
    "zw", "vr", "b", "d", "f", "g", "h", "k", "p", "t",
];
const MIDDLES: [&str; 14] = ["a", "e", "i", "o", "u", "oo", "ee", "ou", "ar", "or", "ur", "im", "on", "az"];
const ENDS: [&str; 20] = [
    "rp", "zzik", "bber", "mph", "xt", "nk", "dle", "ggle", "sp", "vix", "lm", "rf", "tch", "ng", "zz", "p", "b", "th",
    "k", "m",
];
/// Real words that ask for nothing one could see.
const ABSTRACT: [&str; 18] = [
    "justice of tomorrow",
    "seven of why",
    "the sadness inside",
    "because never maybe",
    "how much is three",
    "sing me a song",
    "what time is it",
    "the idea of wednesday",
    "hello hello",
    "tell me a joke",
    "yesterday was nice",
    "two plus two",
    "i am hungry",
    "if only then",
    "very much although",
    "play some music",
    "the meaning of life",
    "good morning",
];

/// A text with its senseless byte ranges: all of it, or one word in an otherwise sensible request.
pub(super) fn nonsense(
    sensible: &Expression,
    phrasing: Phrasing,
    rng: &mut ChaCha8Rng,
) -> (String, Vec<(usize, usize)>) {
    let templates = if phrasing == Phrasing::Train { words::TEMPLATES } else { words::HELD_OUT_TEMPLATES };
    let template = templates.choose(rng).copied().unwrap_or("{}").replace("[is]", "is");
    let kind = rng.random::<f32>();
    if kind < 0.12 && phrasing == Phrasing::Train {
        let text = ABSTRACT.choose(rng).copied().unwrap_or("hello").to_owned();
        let all = (0, text.len());
        return (text, vec![all]);
    }
    if kind < 0.45 {
        // "the florp car": the noun is sound, one word is not.
        let word = pseudo(rng);
        let plain =
            Expression { categories: sensible.categories.clone(), plural: sensible.plural, ..Expression::default() };
        let phrase = noun_phrase(&plain, phrasing, true, rng);
        let at = phrase.find(' ').map_or(0, |i| i + 1);
        let phrase = format!("{}{word} {}", &phrase[..at], &phrase[at..]);
        return marked(&template, &phrase, &[word]);
    }
    let count = rng.random_range(1..=3);
    let made: Vec<String> = (0..count).map(|_| pseudo(rng)).collect();
    let article = if rng.random_bool(0.6) { "the " } else { "" };
    let phrase = format!("{article}{}", made.join(" "));
    marked(&template, &phrase, &made)
}

fn marked(template: &str, phrase: &str, senseless: &[String]) -> (String, Vec<(usize, usize)>) {
    let text = template.replace("{}", phrase);
    let mut from = text.find(phrase).unwrap_or(0);
    let mut ranges = Vec::new();
    for word in senseless {
        if let Some(at) = text[from..].find(word.as_str()) {
            ranges.push((from + at, from + at + word.len()));
            from += at + word.len();
        }
    }
    (text, ranges)
}

/// An invented word, or keys struck at random; never close to a known word.
fn pseudo(rng: &mut ChaCha8Rng) -> String {
    loop {
        let word = if rng.random_bool(0.25) {
            let length = rng.random_range(5..9);
            (0..length).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
        } else {
            let mut word = String::new();
            for _ in 0..rng.random_range(1..=2) {
                word.push_str(STARTS.choose(rng).copied().unwrap_or("z"));
                word.push_str(MIDDLES.choose(rng).copied().unwrap_or("o"));
            }
            word.push_str(ENDS.choose(rng).copied().unwrap_or("rp"));
            word
        };
        if word.len() >= 4 && !is_known(&word) && !near_known(&word) {
            return word;
        }
    }
}

/// Within an edit or two of a noun or colour: that would be a typing slip.
fn near_known(word: &str) -> bool {
    let nouns = Category::ALL.iter().flat_map(|c| words::nouns(*c)).flat_map(|w| w.singular.split(' '));
    let colours = Colour::ALL.iter().flat_map(|c| words::colour_words(*c)).copied();
    nouns.chain(colours).any(|known| distance(word, known) <= 2.min(known.len() / 2))
}

/// Levenshtein distance of two ASCII words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
