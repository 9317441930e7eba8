//! What people say around a request: words that ask for nothing, so that a way of asking that training never saw is no
//! reason to stop understanding.
//!
//! Drawn at random, one by one, they make no sentences and none of the held-out ways of asking; the words that carry
//! those ways are not in the list (a test holds this).

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

const WORDS: &str = "a, again, ah, all right, also, and, anyway, ask, at once, be, bring, but, by the way, camera, can, \
    capture, catch, check, choose, command, confirm, contact, control, copy, could, deal, detect, did, \
    direct, do, does, drone, easy, er, even, everyone, exactly, feed, fetch, fine, first of all, focus, \
    follow, for, from here, get, give, go, good, got, had, have, heads up, hello, help, here we go, hey, \
    hm, hold, how about, hurry, i, i guess, i think, if possible, image, in view, inspect, is, it, just, \
    kestrel, kindly, know, let, like, listen, lock, maybe, me, might, monitor, must, my, need, next, \
    nice, note, notice, now, obtain, of course, ok, okay, on, one more time, operator, our, out, over, \
    perhaps, picture, please, point, pull, put, quickly, ready, really, report, request, return, \
    right away, roger, say, screen, send, should, sir, so, somehow, sure, take, team, thanks, then, to, \
    track, try, view, we, well";
/// Adjectives that tell nothing apart.
const MODIFIERS: &str = "parked, visible, old, new, nearby, single, lonely, strange, interesting, suspicious, modern, dirty, \
    clean, wooden, metal, public, private, empty, typical, ordinary";

/// Words before and after a request, often none.
fn around(rng: &mut ChaCha8Rng) -> (String, String) {
    let before = some(rng);
    let after = some(rng);
    let comma = |rng: &mut ChaCha8Rng| if rng.random_bool(0.25) { "," } else { "" };
    let before = if before.is_empty() { before } else { format!("{before}{} ", comma(rng)) };
    let after = if after.is_empty() { after } else { format!("{} {after}", comma(rng)) };
    (before, after)
}

fn some(rng: &mut ChaCha8Rng) -> String {
    let count = [0, 0, 0, 1, 1, 2, 3, 4][rng.random_range(0..8)];
    (0..count).map(|_| pick(WORDS, rng)).collect::<Vec<_>>().join(" ")
}

fn pick(list: &'static str, rng: &mut ChaCha8Rng) -> &'static str {
    list.split(", ").collect::<Vec<_>>().choose(rng).copied().unwrap_or_default()
}

/// A request with chatter around it, a modifier after its first article perhaps, and its senseless byte ranges moved
/// along.
pub fn chat(text: &str, nonsense: &[(usize, usize)], rng: &mut ChaCha8Rng) -> (String, Vec<(usize, usize)>) {
    let (before, after) = around(rng);
    let mut said = text.to_owned();
    if nonsense.is_empty()
        && rng.random_bool(0.1)
        && let Some(at) = said.find("the ").map(|at| at + 4)
    {
        said.insert_str(at, &format!("{} ", pick(MODIFIERS, rng)));
    }
    let moved = nonsense.iter().map(|(from, to)| (from + before.len(), to + before.len())).collect();
    (format!("{before}{said}{after}"), moved)
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;
    use crate::sample::{Category, Colour};
    use rand::SeedableRng;

    #[test]
    fn chatter_holds_nothing_that_is_asked_for_and_no_held_out_verb() {
        let verbs = ["spot", "identify", "isolate", "pick", "eyes", "cut", "tell", "would", "want", "see", "mark"];
        let nouns: Vec<&str> = Category::ALL.iter().flat_map(|c| words::nouns(*c)).map(|w| w.singular).collect();
        for word in [WORDS, MODIFIERS].iter().flat_map(|list| list.split([' ', ','])) {
            assert!(!verbs.contains(&word), "{word} carries a held-out way of asking");
            assert!(!nouns.contains(&word), "{word} is asked for");
            assert!(Colour::ALL.iter().all(|c| !words::colour_words(*c).contains(&word)), "{word} is a colour");
        }
    }

    #[test]
    fn senseless_words_stay_marked() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let (text, ranges) = chat("find the florp car", &[(9, 14)], &mut rng);
            assert_eq!(ranges.iter().map(|(a, b)| &text[*a..*b]).collect::<Vec<_>>(), ["florp"]);
        }
    }
}
