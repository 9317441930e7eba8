//! How alike two texts are as sets of words or labels, and letter by letter.
//!
//! Source of the measures: the reward table of GeoVLM-R1 (arXiv 2509.25026).
//! F1 beside its recall is derived: recall alone rewards an answer that names everything.

use std::collections::BTreeSet;

use rapidfuzz::distance::levenshtein;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// A set of words or of labels.
pub type Set = BTreeSet<String>;

/// The words of a text: compatibility forms folded (NFKC), lower case, no punctuation (Unicode Annex 29).
///
/// An underscore parts words, as label sets write `baseball_field`.
pub fn words(text: &str) -> Vec<String> {
    let folded: String = text.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    // A mark behind a blank takes the blank into its word.
    folded.split('_').flat_map(str::unicode_words).map(str::trim).map(str::to_owned).collect()
}

/// The words of a text with single blanks between them.
pub fn normalise(text: &str) -> String {
    words(text).join(" ")
}

/// The labels that a text names, normalised: a JSON list of strings, or what commas, semicolons and line ends part.
pub fn labels(text: &str) -> Set {
    match serde_json::from_str::<Vec<String>>(text.trim()) {
        Ok(list) => label_set(&list),
        Err(_) => text.split([',', ';', '\n']).map(normalise).filter(|label| !label.is_empty()).collect(),
    }
}

/// Labels, normalised; those without a word are left out.
pub fn label_set(labels: &[String]) -> Set {
    labels.iter().map(|label| normalise(label)).filter(|label| !label.is_empty()).collect()
}

/// 1 if the two are the same after normalisation, else 0.
pub fn accuracy(answer: &str, truth: &str) -> f64 {
    f64::from(u8::from(normalise(answer) == normalise(truth)))
}

/// |P∩G|/|G|, in 0..=1; nothing to find is found: 1.
pub fn recall(predicted: &Set, truth: &Set) -> f64 {
    share(predicted.intersection(truth).count(), truth.len())
}

/// 2·|P∩G|/(|P|+|G|), the harmonic mean of precision and recall, in 0..=1; both empty are equal: 1.
pub fn f1(predicted: &Set, truth: &Set) -> f64 {
    share(2 * predicted.intersection(truth).count(), predicted.len() + truth.len())
}

/// |A∩B|/|A∪B|, in 0..=1; both empty are equal: 1.
pub fn jaccard(a: &Set, b: &Set) -> f64 {
    share(a.intersection(b).count(), a.union(b).count())
}

/// 1 − lev(a, b)/max(|a|, |b|) over characters (Levenshtein 1966), in 0..=1; both empty are equal: 1.
pub fn levenshtein_similarity(a: &str, b: &str) -> f64 {
    let longest = a.chars().count().max(b.chars().count());
    1.0 - if longest == 0 { 0.0 } else { levenshtein::distance(a.chars(), b.chars()) as f64 / longest as f64 }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn set(labels: &[&str]) -> Set {
        labels.iter().map(|&label| label.to_owned()).collect()
    }

    /// The textbook's table, as the reference of the library.
    fn edits(a: &[char], b: &[char]) -> usize {
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut corner = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let kept = corner + usize::from(x != y);
                corner = row[j + 1];
                row[j + 1] = kept.min(row[j] + 1).min(corner + 1);
            }
        }
        row[b.len()]
    }

    #[test]
    fn case_punctuation_and_width_do_not_matter() {
        assert_eq!(normalise("  The Baseball_Field,\tＮＯＷ!  "), "the baseball field now");
        assert_eq!(normalise("Cafe\u{301}"), normalise("CAFÉ"));
        assert_eq!(normalise("2.5 m, 1,000 cars; can't"), "2.5 m 1,000 cars can't");
        assert_eq!(normalise("<>&%$ 🚗 …"), "");
        assert_eq!(normalise("a\u{fe72}b"), "a \u{64c} b");
        assert_eq!(
            (accuracy("Storage tanks.", "storage_tanks"), accuracy("storage tank", "storage tanks")),
            (1.0, 0.0)
        );
    }

    #[test]
    fn labels_come_as_a_list_or_parted() {
        let wanted = set(&["harbour", "baseball field"]);
        for text in ["harbour, Baseball_field", "Harbour;\nbaseball field\n", r#"["baseball field", "harbour", ""]"#] {
            assert_eq!(labels(text), wanted, "{text}");
        }
        assert_eq!(labels(" ,;\n, "), set(&[]));
        assert_eq!(labels(&"[".repeat(100_000)), set(&[]));
    }

    #[test]
    fn naming_everything_pays_by_recall_and_not_by_f1() {
        let truth = set(&["bridge"]);
        let everything = set(&["airport", "beach", "bridge", "farm", "forest"]);
        assert_eq!(recall(&everything, &truth), 1.0);
        assert!((f1(&everything, &truth) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((f1(&truth, &truth), recall(&set(&[]), &truth), jaccard(&everything, &truth)), (1.0, 0.0, 0.2));
        assert_eq!(
            (f1(&set(&[]), &set(&[])), recall(&set(&[]), &set(&[])), jaccard(&set(&[]), &set(&[]))),
            (1.0, 1.0, 1.0)
        );
    }

    #[test]
    fn letters_count_as_characters() {
        assert!((levenshtein_similarity("kitten", "sitting") - (1.0 - 3.0 / 7.0)).abs() < 1e-12);
        assert!((levenshtein_similarity("weiß", "weit") - 0.75).abs() < 1e-12);
        assert_eq!((levenshtein_similarity("", ""), levenshtein_similarity("", "车")), (1.0, 0.0));
    }

    #[test]
    fn long_texts_are_compared_too() {
        let (a, b) = ("the car stands ".repeat(7000), "a car stood ".repeat(8500));
        let near = levenshtein_similarity(&a, &b);
        assert!(near > 0.4 && near < 1.0, "{near}");
        assert!(f1(&words(&a).into_iter().collect(), &words(&b).into_iter().collect()) > 0.0);
    }

    fn sets() -> impl Strategy<Value = Set> {
        proptest::collection::btree_set("[a-f]", 0..5)
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn sets_are_bounded_and_symmetric(a in sets(), b in sets()) {
            for value in [recall(&a, &b), f1(&a, &b), jaccard(&a, &b)] {
                prop_assert!((0.0..=1.0).contains(&value));
            }
            prop_assert_eq!(f1(&a, &b), f1(&b, &a));
            prop_assert_eq!(jaccard(&a, &b), jaccard(&b, &a));
            prop_assert_eq!((f1(&a, &a), recall(&a, &a), jaccard(&a, &a)), (1.0, 1.0, 1.0));
        }

        #[test]
        fn a_wrong_label_never_raises_and_a_right_one_never_lowers(a in sets(), truth in sets(), right in 0usize..5) {
            let mut more = a.clone();
            more.insert("wrong".to_owned());
            prop_assert!(f1(&more, &truth) <= f1(&a, &truth));
            prop_assert_eq!(recall(&more, &truth), recall(&a, &truth));
            if let Some(label) = truth.iter().nth(right) {
                let mut better = a.clone();
                better.insert(label.clone());
                prop_assert!(f1(&better, &truth) >= f1(&a, &truth));
                prop_assert!(recall(&better, &truth) >= recall(&a, &truth));
            }
        }

        #[test]
        fn the_library_counts_edits_as_the_table_does(a in "[ab é车]{0,90}", b in "[ab é车]{0,90}") {
            let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let longest = x.len().max(y.len()).max(1) as f64;
            let expected = 1.0 - edits(&x, &y) as f64 / longest;
            prop_assert!((levenshtein_similarity(&a, &b) - expected).abs() < 1e-12);
            prop_assert_eq!(levenshtein_similarity(&a, &b), levenshtein_similarity(&b, &a));
            prop_assert_eq!(levenshtein_similarity(&a, &a), 1.0);
        }

        #[test]
        fn hostile_text_stays_in_bounds(a in any::<String>(), b in any::<String>()) {
            let near = levenshtein_similarity(&a, &b);
            prop_assert!((0.0..=1.0).contains(&near));
            prop_assert!((0.0..=1.0).contains(&f1(&labels(&a), &labels(&b))));
            prop_assert!([0.0, 1.0].contains(&accuracy(&a, &b)));
        }
    }
}
