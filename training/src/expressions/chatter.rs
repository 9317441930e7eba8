//! What people say around a request: words that ask for nothing, so that a way of asking that training never saw is no
//! reason to stop understanding.
//!
//! Drawn at random, one by one, they make no sentences and none of the held-out ways of asking; the words that carry
//! those ways are not in the list (a test holds this).

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::words;

const WORDS: &str = "a, able, about, after, again, ah, aim, all right, along, already, also, always, analyse, and, annotate, answer, \
    any chance, anything, anyway, approach, around, as soon as you can, ask, assess, at once, attend, attention, \
    await, aware, be, because, been, before, begin, believe, best, bet, bit, bother, box, bracket, brief, bring, \
    but, by the way, call, came, camera, can, capture, care, carefully, carry, cast, catch, chase, check, choose, \
    circle, claim, classify, clearly, close in, collect, come, command, concentrate, concern, confirm, consider, \
    contact, control, copy, could, count, cover, crop, curious, deal, delineate, describe, detect, determine, did, \
    direct, discover, distinguish, do, does, draw, drone, easy, emphasise, engage, enough, ensure, er, even, \
    everyone, exactly, examine, expect, explore, extract, fast, favour, feed, feel, fetch, figure out, fill, fine, \
    first of all, flag, fly, focus, follow, for, form, forward, frame, from here, get, give, glance, go, going, \
    good, got, grab, guess, guide, had, happen, has, have, have a look, he, head, heads up, hear, hello, help, here \
    we go, hey, hm, hold, how, how about, hunt, hurry, i, i guess, i think, i'd, i'll, i'm, if possible, if you can, \
    image, important, in view, include, indicate, information, inspect, interested, into, introduce, is, it, job, \
    join, just, keep, kestrel, kind, kindly, know, label, later, lead, learn, let, like, list, listen, lock, \
    looking, looks, love, made, make, mask, matter, may, maybe, me, mean, meet, mention, might, mind, moment, \
    monitor, more, move, must, my, name, need, next, nice, note, notice, now, observe, obtain, obviously, of course, \
    often, ok, okay, on, one more time, only, open, operator, or, order, our, out, outlines, over, own, paint, part, \
    patrol, pay, perfect, perhaps, picture, pilot, pinpoint, place, plan, please, pleased, point, position, \
    possibly, prefer, present, probably, proceed, provide, pull, put, quick, quickly, quiet, rather, reach, ready, \
    really, recognise, refer, regard, register, remember, render, report, request, require, return, reveal, right \
    away, right now, roger, run, save, say, scan, screen, search, seek, seem, segmenting, send, set, shade, share, \
    she, shoot, should, showing, signal, simply, since, sir, so, somehow, soon, sort, speak, specify, start, state, \
    still, stop, study, such, suppose, sure, surely, survey, tag, take, target, task, team, than, thanks, that's it, \
    then, there, they, thing is, think, thought, thread, time, to, today, together, took, touch, toward, trace, \
    track, trail, try, trying, turn, under control, understand, until, up, urgent, use, very, view, visit, wait, \
    walk me through, was, watching, way, we, well, were, what we need, whatever, when, whether, while, who, why, \
    will, wish, with, without, wonder, work, worth, write, yes, yet, you, your, zoom";
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

/// Share of requests whose trained way of asking gives way to the chatter: what is asked for must be enough.
const BARE_SHARE: f64 = 0.4;

/// Bytes before and after what is asked for, in the longest trained way of asking that fits.
fn asking(text: &str) -> (usize, usize) {
    let fits = |template: &&str| {
        let (before, after) = template.split_once("{}")?;
        let matches = |part: Option<&str>, with: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(with));
        let (end, long) = (text.len().checked_sub(after.len())?, before.len() + after.len() < text.len());
        (long && matches(text.get(..before.len()), before) && matches(text.get(end..), after))
            .then_some((before.len(), after.len()))
    };
    words::TEMPLATES.iter().filter_map(fits).max_by_key(|(b, a)| b + a).unwrap_or_default()
}

/// A request with chatter around it or instead of its way of asking, a modifier after its first article perhaps, and its
/// senseless byte ranges moved along.
pub fn chat(text: &str, nonsense: &[(usize, usize)], rng: &mut ChaCha8Rng) -> (String, Vec<(usize, usize)>) {
    let (from, left) = if rng.random_bool(BARE_SHARE) { asking(text) } else { (0, 0) };
    let inside = |range: &&(usize, usize)| range.0 >= from && range.1 <= text.len() - left;
    let (from, left) = if nonsense.iter().all(|range| inside(&range)) { (from, left) } else { (0, 0) };
    let (before, after) = around(rng);
    let mut said = text[from..text.len() - left].to_owned();
    if nonsense.is_empty()
        && rng.random_bool(0.1)
        && let Some(at) = said.find("the ").map(|at| at + 4)
    {
        said.insert_str(at, &format!("{} ", pick(MODIFIERS, rng)));
    }
    let moved = nonsense.iter().map(|(start, end)| (start - from + before.len(), end - from + before.len())).collect();
    (format!("{before}{said}{after}"), moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Category, Colour};
    use rand::SeedableRng;

    #[test]
    fn chatter_holds_nothing_that_is_asked_for_and_no_held_out_verb() {
        let verbs = ["spot", "identif", "isolat", "pick", "eye", "cut", "tell", "told", "would", "want", "mark"];
        let nouns: Vec<&str> = Category::ALL.iter().flat_map(|c| words::nouns(*c)).map(|w| w.singular).collect();
        for word in [WORDS, MODIFIERS].iter().flat_map(|list| list.split([' ', ','])) {
            let carries = word == "see" || verbs.iter().any(|verb| word.starts_with(verb));
            assert!(!carries, "{word} carries a held-out way of asking");
            assert!(!nouns.contains(&word), "{word} is asked for");
            assert!(Colour::ALL.iter().all(|c| !words::colour_words(*c).contains(&word)), "{word} is a colour");
        }
    }

    #[test]
    fn the_way_of_asking_is_found() {
        for (text, asked) in [
            ("Show me the red car", "the red car"),
            ("the red car, please", "the red car"),
            ("please segment the specific vehicle: the car", "the car"),
            ("red cars", "red cars"),
        ] {
            let (from, left) = asking(text);
            assert_eq!(&text[from..text.len() - left], asked);
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
