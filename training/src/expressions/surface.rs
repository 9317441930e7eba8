//! What a sentence that people wrote shows on its surface: its noun, and by which cue it singles its target out.
//!
//! Annotators' sentences come without a meaning. This reads no more than a fixed order of words (modifiers, noun, tail) and,
//! where it is not sure, says [`Stratum::Relation`]: of such a sentence nothing else is concluded. (A rule of our own, derived
//! from how the phrases of [`super::phrase`] are built.)

use std::sync::OnceLock;

use super::words;
use crate::sample::{Category, Colour, Stratum};

/// What is read off a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surface {
    /// The noun of what is asked for: a category's commonest noun where it is a known one, else the word in its place.
    pub noun: String,
    /// The category that the noun names.
    pub category: Option<Category>,
    /// By what the target is told: category, colour, size, position, ordinal, or anything else as a relation.
    pub stratum: Stratum,
}

impl Surface {
    /// Whether the sentence stays true when the picture is cut or turned: it speaks of kind and colour alone.
    pub fn holds_in_parts(&self) -> bool {
        matches!(self.stratum, Stratum::Category | Stratum::Colour)
    }
}

/// Words after which no noun of the target can come.
const LINKS: [&str; 48] = [
    "on",
    "in",
    "at",
    "near",
    "nearest",
    "next",
    "to",
    "of",
    "from",
    "by",
    "beside",
    "behind",
    "under",
    "underneath",
    "above",
    "below",
    "beneath",
    "along",
    "alongside",
    "around",
    "between",
    "among",
    "across",
    "over",
    "inside",
    "outside",
    "with",
    "without",
    "within",
    "against",
    "adjacent",
    "close",
    "closest",
    "farthest",
    "opposite",
    "toward",
    "towards",
    "through",
    "beyond",
    "before",
    "after",
    "is",
    "are",
    "that",
    "which",
    "who",
    "where",
    "and",
];
const PLACES: [&str; 12] =
    ["left", "right", "top", "bottom", "upper", "lower", "middle", "center", "centre", "central", "corner", "edge"];
/// What else the tail of a position may hold.
const FRAMES: [&str; 16] = [
    "on", "at", "in", "to", "the", "of", "side", "part", "half", "hand", "area", "image", "picture", "frame", "photo",
    "scene",
];
const ORDINALS: [&str; 18] = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "last",
    "leftmost",
    "rightmost",
    "topmost",
    "bottommost",
    "uppermost",
    "lowermost",
    "most",
];
const SIZES: [&str; 15] = [
    "largest", "biggest", "smallest", "tiniest", "longest", "shortest", "widest", "tallest", "larger", "bigger",
    "smaller", "longer", "shorter", "wider", "taller",
];

/// Reads a sentence.
pub fn read(text: &str) -> Surface {
    // What comes before a colon asks, what comes after it is asked for.
    let asked = text.rsplit(':').next().unwrap_or(text).to_lowercase();
    let words: Vec<&str> = asked.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let Some((from, to, category)) = head(&words) else {
        let end = words.iter().position(|w| LINKS.contains(w)).unwrap_or(words.len());
        let noun = words[..end].last().copied().unwrap_or_default().to_owned();
        return Surface { noun, category: None, stratum: Stratum::Relation };
    };
    let noun = words::nouns(category).first().map_or("", |word| word.singular).to_owned();
    let stratum = stratum(&words[..from], &words[to..]);
    Surface { noun, category: Some(category), stratum }
}

fn stratum(modifiers: &[&str], tail: &[&str]) -> Stratum {
    let any = |list: &[&str]| modifiers.iter().any(|word| list.contains(word));
    let place = |word: &&str| PLACES.contains(word);
    let framed = tail.iter().all(|word| FRAMES.contains(word) || PLACES.contains(word));
    let counted = any(&ORDINALS);
    let from =
        matches!(tail, ["from", "the", word] | ["from", word] | ["counting", "from", "the", word] if place(word));
    // "On the left of" begins a relation, whatever it ends with.
    let related = tail.windows(2).any(|pair| matches!(pair, [word, "of"] if place(word)));
    match () {
        () if counted && (tail.is_empty() || from) => Stratum::Ordinal,
        () if !tail.is_empty() && (!framed || !tail.iter().any(place) || related && !of_picture(tail)) => {
            Stratum::Relation
        }
        () if any(&SIZES) => Stratum::Size,
        () if !tail.is_empty() || any(&PLACES) => Stratum::Position,
        () if modifiers.iter().any(|word| is_colour(word)) => Stratum::Colour,
        () => Stratum::Category,
    }
}

/// Whether a tail ends with the picture itself: "at the top of the image".
fn of_picture(tail: &[&str]) -> bool {
    matches!(tail, [.., "of", "the", "image" | "picture" | "frame" | "photo" | "scene"])
}

fn is_colour(word: &str) -> bool {
    Colour::ALL.iter().any(|colour| words::colour_words(*colour).contains(&word))
}

/// The first noun after which the phrase may end, before any linking word: its range and category.
fn head(words: &[&str]) -> Option<(usize, usize, Category)> {
    for from in 0..words.len() {
        if LINKS.contains(&words[from]) {
            return None;
        }
        if let Some((length, category)) = noun_at(&words[from..]) {
            let to = from + length;
            let Some(next) = words.get(to) else { return Some((from, to, category)) };
            let participle = (next.ends_with("ed") || next.ends_with("ing")) && noun_at(&words[to..]).is_none();
            if LINKS.contains(next) || PLACES.contains(next) || participle || ["here", "please"].contains(next) {
                return Some((from, to, category));
            }
        }
    }
    None
}

/// The longest known noun at the front of some words.
fn noun_at(words: &[&str]) -> Option<(usize, Category)> {
    static NOUNS: OnceLock<Vec<(Vec<&'static str>, Category)>> = OnceLock::new();
    let nouns = NOUNS.get_or_init(|| {
        let mut all = Vec::new();
        for category in Category::ALL {
            for word in words::nouns(category) {
                all.push((word.singular.split(' ').collect(), category));
                all.push((word.plural.split(' ').collect::<Vec<_>>(), category));
            }
        }
        all.sort_by_key(|(noun, _)| std::cmp::Reverse(noun.len()));
        all
    });
    nouns.iter().find(|(noun, _)| words.starts_with(noun)).map(|(noun, category)| (noun.len(), *category))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::expressions::{Options, generate};
    use crate::scenes;

    #[test]
    fn sentences_of_the_fields_sets_are_read() {
        use Stratum as S;
        let cases = [
            ("The white vans parked on the left side of the road.", "van", S::Relation),
            ("3 airplanes at the right", "airplane", S::Position),
            ("vehicle along the road", "vehicle", S::Relation),
            ("road", "road", S::Relation),
            ("the road next to the building", "road", S::Relation),
            ("low vegetation", "vegetation", S::Relation),
            ("A green and brown golf field", "", S::Relation),
            ("The large yellow vehicle situated closest to the green area.", "vehicle", S::Relation),
            ("the red car", "car", S::Colour),
            ("the largest storage tank", "storage tank", S::Size),
            ("a ship in the upper left corner of the image", "boat", S::Position),
            ("the car on the left of the bus", "car", S::Relation),
            ("the second truck from the left", "truck", S::Ordinal),
            ("the leftmost tennis court", "tennis court", S::Ordinal),
            ("Please segment the specific vehicle: the white bus", "bus", S::Colour),
            ("swimming pools", "pool", S::Category),
            ("car park", "park", S::Relation),
        ];
        for (text, noun, stratum) in cases {
            let surface = read(text);
            assert_eq!(surface.stratum, stratum, "{text}");
            assert!(noun.is_empty() || surface.noun == noun, "{text}: {}", surface.noun);
        }
    }

    #[test]
    fn every_noun_is_a_name_that_data_sets_use() {
        for category in Category::ALL {
            for word in words::nouns(category) {
                let surface = read(&format!("the {} on the left", word.plural));
                assert_eq!(surface.category, Some(category), "{}", word.plural);
                assert_eq!(crate::datasets::labels::category(&surface.noun), Ok(Some(category)), "{}", surface.noun);
            }
        }
    }

    /// What would break: a relation taken for a plain name, which teaches that nothing else was spoken of, and cut pictures
    /// in which "the left car" is another one.
    #[test]
    fn generated_sentences_are_never_taken_for_less_than_they_say() {
        let mut seen = 0;
        for seed in 0..8 {
            let picture = scenes::render(seed, 192);
            let options = Options { count: 40, slip_share: 0.0, ..Options::default() };
            for proposed in generate(&picture, &options, &mut ChaCha8Rng::seed_from_u64(seed)) {
                let Some(expression) = proposed.expression.filter(|e| !e.categories.is_empty()) else { continue };
                let plain = expression.relation.is_none()
                    && expression.ordinal.is_none()
                    && expression.position.is_none()
                    && expression.size.is_none();
                let surface = read(&proposed.ask.text);
                assert!(plain || !surface.holds_in_parts(), "{}", proposed.ask.text);
                assert!(expression.relation.is_none() || surface.stratum == Stratum::Relation, "{}", proposed.ask.text);
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen} sentences");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,60}") {
            let _ = read(&text);
        }
    }
}
