//! A thought as people read it: sentences, in which boxes are numbers.
//!
//! A model spells a box as `<box><loc_16><loc_32><loc_48><loc_56>`. Each box that is another than those before it has a
//! number of its own, from 1, and stands in the text as `[1]`.

use crate::answer::edges;
use crate::tokens::LOCATIONS;

const BOX: &str = "<box>";
const LOCATION: &str = "<loc_";
/// Where the thought ends.
const END: &str = "</think>";

/// Most boxes that are told apart; more share the last number.
pub const MOST_BOXES: usize = kestrel_link::explanation::MAX_BOXES;

/// A thought that is read as it is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thought {
    /// What was read, with numbers for boxes.
    text: String,
    /// What may be the beginning of a box or of the end.
    pending: String,
    boxes: Vec<[u32; 4]>,
    ended: bool,
}

impl Thought {
    /// Reads on; gives what can be shown by now.
    ///
    /// Control characters become blanks, so that no thought moves the cursor of who reads it.
    pub fn add(&mut self, piece: &str) -> String {
        let mut shown = String::new();
        for character in piece.chars() {
            if self.ended {
                break;
            }
            self.pending.push(if character.is_control() { ' ' } else { character });
            self.settle(&mut shown);
        }
        self.text.push_str(&shown);
        shown
    }

    /// Moves what can be nothing else than text from `pending` to `shown`, and whole boxes as their numbers.
    fn settle(&mut self, shown: &mut String) {
        loop {
            match read(&self.pending) {
                Read::More => return,
                Read::End => {
                    self.pending.clear();
                    self.ended = true;
                    return;
                }
                Read::Box(bins) => {
                    self.pending.clear();
                    let number = self.number(bins);
                    let before = shown.chars().next_back().or_else(|| self.text.chars().next_back());
                    if before.is_some_and(|before| !before.is_whitespace()) {
                        shown.push(' ');
                    }
                    shown.push_str(&format!("[{number}]"));
                    return;
                }
                Read::Text => match self.pending.chars().next() {
                    Some(first) => {
                        shown.push(first);
                        self.pending.drain(..first.len_utf8());
                    }
                    None => return,
                },
            }
        }
    }

    /// The number of a box, from 1.
    fn number(&mut self, bins: [u32; 4]) -> usize {
        if let Some(index) = self.boxes.iter().position(|known| *known == bins) {
            return index + 1;
        }
        if self.boxes.len() < MOST_BOXES {
            self.boxes.push(bins);
        }
        self.boxes.len()
    }

    /// Whether the thought has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// All that was read, with numbers for boxes; a box that is not whole is left out.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The boxes by their numbers: left, top, right, bottom in fractions of the model's input.
    #[must_use]
    pub fn boxes(&self) -> Vec<[f32; 4]> {
        self.boxes.iter().map(|bins| edges(*bins)).collect()
    }

    /// The sentences of the thought, at most `most` of at most `bytes` bytes each.
    ///
    /// A sentence ends behind a full stop before a blank. One that is too long is cut.
    #[must_use]
    pub fn statements(&self, most: usize, bytes: usize) -> Vec<String> {
        let sentences = self.text.split_inclusive(". ").map(str::trim).filter(|sentence| !sentence.is_empty());
        sentences.take(most).map(|sentence| sentence[..sentence.floor_char_boundary(bytes)].to_owned()).collect()
    }
}

/// What the beginning of a text is.
enum Read {
    /// Nothing, or what may become a box or the end.
    More,
    /// A whole box.
    Box([u32; 4]),
    /// The end of the thought.
    End,
    /// Its first character is text.
    Text,
}

fn read(text: &str) -> Read {
    if text.is_empty() || (END.starts_with(text) && text != END) {
        return Read::More;
    }
    if text == END {
        return Read::End;
    }
    let Some(mut rest) = text.strip_prefix(BOX) else {
        return if BOX.starts_with(text) { Read::More } else { Read::Text };
    };
    let mut bins = [0; 4];
    for bin in &mut bins {
        let Some(behind) = rest.strip_prefix(LOCATION) else {
            return if LOCATION.starts_with(rest) { Read::More } else { Read::Text };
        };
        let Some((number, behind)) = behind.split_once('>') else {
            let is_number = behind.len() <= 2 && behind.bytes().all(|byte| byte.is_ascii_digit());
            return if is_number { Read::More } else { Read::Text };
        };
        match number.parse::<u32>().ok().filter(|bin| *bin < LOCATIONS) {
            Some(number) => *bin = number,
            None => return Read::Text,
        }
        rest = behind;
    }
    Read::Box(bins)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const A: &str = "<box><loc_16><loc_32><loc_48><loc_56>";
    const B: &str = "<box><loc_0><loc_0><loc_63><loc_63>";

    fn whole(text: &str) -> Thought {
        let mut thought = Thought::default();
        thought.add(text);
        thought
    }

    #[test]
    fn boxes_become_numbers_and_sentences_statements() {
        let thought = whole(&format!(" see two trucks{A}{B}. white{B}. so{B}</think><answer>{A}[SEG]</answer>"));
        assert_eq!(thought.text(), " see two trucks [1] [2]. white [2]. so [2]");
        assert_eq!(thought.statements(9, 99), ["see two trucks [1] [2].", "white [2].", "so [2]"]);
        assert_eq!(thought.statements(2, 5), ["see t", "white"]);
        assert_eq!(thought.boxes(), [edges([16, 32, 48, 56]), edges([0, 0, 63, 63])]);
        assert!(thought.ended());
    }

    #[test]
    fn what_is_no_box_is_text() {
        for text in ["<box", "<box><loc_16><loc_32>", "<box><loc_7"] {
            assert_eq!(whole(text).text(), "", "{text} may become one");
        }
        for text in ["<bo x", "<box><loc_64>", "<box>red", "<box><loc_1x>", "<box><loc_>"] {
            assert_eq!(whole(text).text(), text);
            assert!(whole(text).boxes().is_empty());
        }
        assert_eq!(whole("a\u{1b}[2J\nb").text(), "a [2J b", "nothing moves a cursor");
    }

    #[test]
    fn boxes_without_end_share_a_number() {
        let mut thought = Thought::default();
        for box_number in 0..200_u32 {
            let (x, y) = (box_number % 64, box_number / 64);
            thought.add(&format!("<box><loc_{x}><loc_{y}><loc_63><loc_63>"));
        }
        assert_eq!(thought.boxes().len(), MOST_BOXES);
        assert!(thought.text().ends_with(&format!("[{MOST_BOXES}]")));
    }

    proptest! {
        /// What would break: a thought that reads otherwise when it comes token by token.
        #[test]
        fn how_a_thought_is_cut_into_pieces_changes_nothing(
            parts in prop::collection::vec(prop_oneof![
                Just(A.to_owned()), Just(B.to_owned()), "[a-z .<>_0-9é]{0,9}", Just("<box><loc_1".to_owned()),
            ], 0..12),
            cuts in prop::collection::vec(0usize..9, 0..60),
        ) {
            let text = parts.concat();
            let expected = whole(&text);
            let (mut thought, mut shown, mut rest) = (Thought::default(), String::new(), text.as_str());
            for cut in cuts.into_iter().chain(std::iter::once(usize::MAX)) {
                let (piece, behind) = rest.split_at(rest.floor_char_boundary(cut.min(rest.len())));
                shown.push_str(&thought.add(piece));
                rest = behind;
            }
            prop_assert_eq!(&thought, &expected);
            prop_assert_eq!(shown, thought.text(), "what was shown is what was read");
        }

        #[test]
        fn any_text_is_read(text in any::<String>()) {
            let thought = whole(&text);
            prop_assert!(!thought.text().chars().any(char::is_control));
            prop_assert!(thought.statements(4, 10).iter().all(|statement| statement.len() <= 10));
        }
    }
}
