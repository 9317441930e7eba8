//! How alike two captions are word by word: ROUGE-1, ROUGE-L, METEOR and their mean.
//!
//! All take words as [`super::text::words`] gives them.

use std::collections::{BTreeSet, HashMap};

use rapidfuzz::distance::lcs_seq;
use snowball_stemmers_rs::{Algorithm, Stemmer};

/// Places of the same word that are tried for one word of the candidate.
const TRIED: usize = 64;
/// Words looked ahead when a place is chosen.
const AHEAD: usize = 8;

/// The three measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lexical {
    /// [`rouge_1`].
    pub rouge_1: f64,
    /// [`rouge_l`].
    pub rouge_l: f64,
    /// [`meteor`].
    pub meteor: f64,
}

impl Lexical {
    /// Compares a candidate with a reference.
    pub fn of(candidate: &[String], reference: &[String]) -> Self {
        Self {
            rouge_1: rouge_1(candidate, reference),
            rouge_l: rouge_l(candidate, reference),
            meteor: meteor(candidate, reference),
        }
    }

    /// Mean of the three, in 0..=1 (the lexical reward of GeoVLM-R1, arXiv 2509.25026).
    pub fn mean(&self) -> f64 {
        (self.rouge_1 + self.rouge_l + self.meteor) / 3.0
    }
}

/// F1 of words, each as often as it stands in both (ROUGE-1, Lin 2004), in 0..=1; both empty are equal: 1.
pub fn rouge_1(candidate: &[String], reference: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in reference {
        *left.entry(word).or_default() += 1;
    }
    let shared = candidate.iter().filter(|word| match left.get_mut(word.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    f_measure(shared.count(), candidate.len(), reference.len())
}

/// F1 of the longest common subsequence of words (ROUGE-L, Lin 2004), in 0..=1; both empty are equal: 1.
pub fn rouge_l(candidate: &[String], reference: &[String]) -> f64 {
    let mut ids = HashMap::new();
    let (a, b) = (numbered(candidate, &mut ids), numbered(reference, &mut ids));
    let common = lcs_seq::similarity(a.iter().copied(), b.iter().copied());
    f_measure(common, candidate.len(), reference.len())
}

/// Each word as a number of its own, the same for the same word.
fn numbered<'a>(words: &'a [String], ids: &mut HashMap<&'a str, u32>) -> Vec<u32> {
    let mut number = |word: &'a String| {
        let next = ids.len() as u32;
        *ids.entry(word).or_insert(next)
    };
    words.iter().map(&mut number).collect()
}

/// 2·shared/(candidate + reference), the F1 of shared/candidate and shared/reference.
fn f_measure(shared: usize, candidate: usize, reference: usize) -> f64 {
    let all = candidate + reference;
    if all == 0 { 1.0 } else { 2.0 * shared as f64 / all as f64 }
}

/// METEOR (Banerjee & Lavie 2005): `10PR/(R+9P)·(1 − 0.5·(chunks/matches)³)`, in 0..=1; both empty are equal: 1.
///
/// Words match exactly, then by their Snowball English stems; the stage of WordNet synonyms is left out.
/// A text matched whole and in order has no penalty, as in the authors' own program.
/// Which of several equal words is matched is chosen from left to right, so that chunks may be more than the fewest.
pub fn meteor(candidate: &[String], reference: &[String]) -> f64 {
    if candidate.is_empty() && reference.is_empty() {
        return 1.0;
    }
    let places = align(candidate, reference);
    let matches = places.iter().flatten().count();
    if matches == 0 {
        return 0.0;
    }
    let breaks = (1..places.len()).filter(|&i| places[i].is_some() && !follows(&places, i)).count();
    let chunks = breaks + usize::from(places[0].is_some());
    let whole = chunks == 1 && matches == candidate.len() && matches == reference.len();
    let matches = matches as f64;
    let (precision, recall) = (matches / candidate.len() as f64, matches / reference.len() as f64);
    let mean = 10.0 * precision * recall / (recall + 9.0 * precision);
    let penalty = if whole { 0.0 } else { 0.5 * (chunks as f64 / matches).powi(3) };
    mean * (1.0 - penalty)
}

/// Whether word `i` is matched right behind where the word before it is.
fn follows(places: &[Option<usize>], i: usize) -> bool {
    places[i - 1].is_some_and(|before| places[i] == Some(before + 1))
}

/// For each word of the candidate, the place in the reference that it is matched with.
fn align(candidate: &[String], reference: &[String]) -> Vec<Option<usize>> {
    let mut places = vec![None; candidate.len()];
    let mut taken = vec![false; reference.len()];
    stage(candidate, reference, &mut places, &mut taken);
    let stemmer = Stemmer::create(Algorithm::English);
    let stems = |words: &[String]| words.iter().map(|word| stemmer.stem(word).into_owned()).collect::<Vec<_>>();
    stage(&stems(candidate), &stems(reference), &mut places, &mut taken);
    places
}

/// Matches equal words that no stage before has matched.
fn stage(candidate: &[String], reference: &[String], places: &mut [Option<usize>], taken: &mut [bool]) {
    let mut free: HashMap<&str, BTreeSet<usize>> = HashMap::new();
    for (place, word) in reference.iter().enumerate().filter(|(place, _)| !taken[*place]) {
        free.entry(word).or_default().insert(place);
    }
    for i in 0..candidate.len() {
        if places[i].is_some() {
            continue;
        }
        let Some(open) = free.get_mut(candidate[i].as_str()) else { continue };
        let next = i.checked_sub(1).and_then(|before| places[before]).map(|place| place + 1);
        let run = |place: usize| {
            let ahead = candidate[i..].iter().zip(&reference[place..]).zip(&taken[place..]);
            ahead.take(AHEAD).take_while(|((a, b), taken)| a == b && !**taken).count()
        };
        let best = match next.filter(|place| open.contains(place)) {
            Some(place) => Some(place),
            // Of places as good as each other the first.
            None => open.iter().take(TRIED).copied().max_by_key(|&place| (run(place), std::cmp::Reverse(place))),
        };
        if let Some(place) = best {
            open.remove(&place);
            taken[place] = true;
            places[i] = Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::super::text::words;
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    fn measured(candidate: &str, reference: &str) -> Lexical {
        Lexical::of(&words(candidate), &words(reference))
    }

    /// The textbook's table, as the reference of the library.
    fn common(a: &[String], b: &[String]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut corner = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y { corner + 1 } else { above.max(row[j]) };
                corner = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn rouge_counts_what_both_say() {
        // Lin 2004, section 3: "police killed the gunman" against two candidates of the same words.
        let reference = "police killed the gunman";
        assert!(near(measured("police kill the gunman", reference).rouge_l, 0.75));
        assert!(near(measured("the gunman kill police", reference).rouge_l, 0.5));
        assert!(near(measured("the gunman kill police", reference).rouge_1, 0.75));
        // A word said twice counts as often as the reference says it.
        assert!(near(measured("car car car car", "a car").rouge_1, 2.0 / 6.0));
    }

    #[test]
    fn meteor_agrees_with_its_formula() {
        // 3 of 3 and of 4 words in one chunk.
        let (p, r) = (1.0, 0.75);
        let mean = 10.0 * p * r / (r + 9.0 * p);
        assert!(near(measured("police killed the", "police killed the gunman").meteor, mean * (1.0 - 0.5 / 27.0)));
        // "kill" matches "killed" by its stem; "gunmen" is not known to be several of "gunman".
        let expected = 0.75 * (1.0 - 0.5 / 27.0);
        assert!(near(measured("police kill the gunmen", "police killed the gunman").meteor, expected));
    }

    #[test]
    fn repeated_words_are_matched_where_the_chunk_is() {
        let (p, r) = (1.0, 0.4);
        let mean = 10.0 * p * r / (r + 9.0 * p);
        assert!(near(measured("the house", "the car near the house").meteor, mean * (1.0 - 0.5 / 8.0)));
        let (places, words_of) = (align(&words("a c"), &words("a b a c")), [Some(2), Some(3)]);
        assert_eq!(places, words_of);
    }

    #[test]
    fn order_costs_meteor_and_rouge_l_only() {
        let (told, turned) = (
            measured("two boats near the pier", "two boats near the pier"),
            measured("the pier near two boats", "two boats near the pier"),
        );
        assert_eq!((told.rouge_1, told.rouge_l, told.meteor, told.mean()), (1.0, 1.0, 1.0, 1.0));
        assert_eq!(turned.rouge_1, 1.0);
        assert!(turned.rouge_l < 1.0 && turned.meteor < 1.0);
        assert_eq!(measured("boat", "boat").meteor, 1.0);
        assert_eq!(measured("", "").mean(), 1.0);
        assert_eq!(measured("", "a boat").mean(), 0.0);
    }

    #[test]
    fn long_texts_are_compared_too() {
        let (a, b) = ("a b ".repeat(25_000), "b a a ".repeat(17_000));
        let both = measured(&a, &b);
        assert!(both.mean() > 0.3 && both.mean() <= 1.0, "{both:?}");
        let word = "x".repeat(100_000);
        assert_eq!(measured(&word, &word).mean(), 1.0);
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("(car|cars|boat|the|a|parking|parked)", 0..30)
    }

    proptest! {
        #[test]
        fn bounded_and_rouge_symmetric(a in texts(), b in texts()) {
            let (one, two) = (Lexical::of(&a, &b), Lexical::of(&b, &a));
            for value in [one.rouge_1, one.rouge_l, one.meteor, one.mean()] {
                prop_assert!((0.0..=1.0).contains(&value));
            }
            prop_assert_eq!((one.rouge_1, one.rouge_l), (two.rouge_1, two.rouge_l));
            prop_assert!(one.rouge_l <= one.rouge_1);
            prop_assert_eq!(Lexical::of(&a, &a).mean(), 1.0);
        }

        #[test]
        fn the_library_finds_the_longest_common_subsequence(a in texts(), b in texts()) {
            let expected = f_measure(common(&a, &b), a.len(), b.len());
            prop_assert!(near(rouge_l(&a, &b), expected));
        }

        #[test]
        fn each_word_is_matched_once_and_with_its_like(a in texts(), b in texts()) {
            let places = align(&a, &b);
            let used: BTreeSet<usize> = places.iter().flatten().copied().collect();
            prop_assert_eq!(used.len(), places.iter().flatten().count());
            let stemmer = Stemmer::create(Algorithm::English);
            for (word, place) in a.iter().zip(&places) {
                if let Some(place) = place {
                    prop_assert_eq!(stemmer.stem(word), stemmer.stem(&b[*place]));
                }
            }
        }

        #[test]
        fn hostile_text_stays_in_bounds(a in any::<String>(), b in any::<String>()) {
            let value = measured(&a, &b).mean();
            prop_assert!((0.0..=1.0).contains(&value));
        }
    }
}
