//! Tests of the grammar of reasoned answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

const SPECIAL: SpecialIds = SpecialIds { pad: 0, answer: 1, seg: 2, point: 7, bounding_box: 8, first_location: 12 };
const IDS: ReasonedIds = ReasonedIds { special: SPECIAL, none: [3, 4, 5, 6], think: 9, think_end: 10, answer_end: 11 };
const VOCABULARY: u32 = 90;
const LOC: u32 = SPECIAL.first_location;
const TEXT: u32 = LOC + LOCATIONS;

fn grammar(thought: usize, targets: usize, tokens: usize) -> Grammar {
    Grammar::new(IDS, VOCABULARY, Limits { thought, targets, tokens })
}

/// The rules once more, as one would read them aloud: a recogniser that shares nothing with the automaton.
fn well_formed(ids: &[u32], limits: Limits) -> bool {
    fn boxed(ids: &[u32]) -> Option<&[u32]> {
        let [8, a, b, c, d, rest @ ..] = ids else { return None };
        let bins = [a, b, c, d].map(|id| id.wrapping_sub(LOC));
        (bins.iter().all(|bin| *bin < 64) && bins[2] >= bins[0] && bins[3] >= bins[1]).then_some(rest)
    }
    if ids.len() > limits.tokens.max(9) {
        return false;
    }
    let Some(end) = ids.iter().position(|id| *id == 10) else { return false };
    let (mut thought, mut rest) = (&ids[..end], &ids[end + 1..]);
    // What must still fit behind the thought.
    if thought.len() > limits.thought || (!thought.is_empty() && thought.len() + 9 > limits.tokens.max(9)) {
        return false;
    }
    while let [first, others @ ..] = thought {
        thought = match boxed(thought) {
            Some(behind) => behind,
            None if (TEXT..VOCABULARY).contains(first) => others,
            None => return false,
        };
    }
    match rest {
        [1, 3..=6, 11] => true,
        [1, targets @ ..] => {
            rest = targets;
            let mut count = 0;
            while let Some([2, behind @ ..]) = boxed(rest) {
                (rest, count) = (behind, count + 1);
            }
            (1..=limits.targets.max(1)).contains(&count) && rest == [11]
        }
        _ => false,
    }
}

/// A walk through what is allowed; `choose` picks among so many.
fn walk(mut grammar: Grammar, mut choose: impl FnMut(usize) -> usize) -> Vec<u32> {
    let mut written = Vec::new();
    while !grammar.finished() {
        let allowed: Vec<u32> = (0..VOCABULARY).filter(|id| grammar.allows(*id)).collect();
        assert!(!allowed.is_empty(), "stuck behind {written:?}");
        let id = allowed[choose(allowed.len())];
        grammar.push(id).unwrap();
        written.push(id);
    }
    written
}

fn target(bins: [u32; 4]) -> Vec<u32> {
    [vec![8], bins.map(|b| LOC + b).to_vec(), vec![2]].concat()
}

#[test]
fn a_prompt_is_the_request_up_to_its_answer() {
    assert_eq!(prompt(&[50, 51, 1, 2], &IDS), [50, 51, 9]);
    // A request that only points has no words; one without an answer is whole.
    assert_eq!(prompt(&[7, 12, 13, 1, 2], &IDS), [7, 12, 13, 9]);
    assert_eq!(prompt(&[50], &IDS), [50, 9]);
}

#[test]
fn an_answer_is_read() {
    let thought = [vec![80, 81], target([1, 2, 3, 4])[..5].to_vec(), vec![82]].concat();
    let written = [&thought[..], &[10, 1], &target([0, 0, 63, 31]), &target([5, 5, 5, 6]), &[11]].concat();
    let answer = parse(&written, &grammar(20, 3, 100)).unwrap();
    assert_eq!(answer.thought, thought);
    let (half, last) = (0.5 / 64.0, 63.5 / 64.0);
    let second = [5.0 / 64.0, 5.5 / 64.0, 6.0 / 64.0, 6.5 / 64.0];
    assert_eq!(answer.outcome, Conclusion::Boxes(vec![[half, half, last, 31.5 / 64.0], second]));
    let refused = parse(&[10, 1, 5, 11], &grammar(20, 3, 100)).unwrap();
    assert_eq!(refused, Answer { thought: vec![], outcome: Conclusion::None(2) });
}

#[test]
fn what_is_malformed_is_refused_where_it_stands() {
    let grammar = grammar(20, 1, 100);
    let refused = |written: &[u32]| match parse(written, &grammar) {
        Err(ParseError::Refused { at, .. }) => Some(at),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[80, 2]), Some(1), "[SEG] in a thought");
    assert_eq!(refused(&[10, 80]), Some(1), "text in an answer");
    assert_eq!(refused(&[10, 1, 11]), Some(2), "an empty answer");
    assert_eq!(refused(&[10, 1, 3, 4]), Some(3), "two reasons");
    assert_eq!(refused(&[8, LOC + 9, LOC, LOC + 8]), Some(3), "a box that ends before it begins");
    assert_eq!(refused(&[&[10, 1][..], &target([0; 4]), &[8]].concat()), Some(8), "more targets than allowed");
    assert_eq!(refused(&[10, 1, 3, 11, 80]), Some(4), "something behind the end");
    assert_eq!(refused(&[VOCABULARY]), Some(0), "a token that no text has");
    let unfinished = parse(&[10, 1, 3], &grammar).unwrap_err();
    assert!(matches!(unfinished, ParseError::Unfinished { tokens: 3, expected: "</answer>" }), "{unfinished}");
}

#[test]
fn a_refused_token_changes_nothing() {
    let mut grammar = grammar(20, 1, 100);
    grammar.push(80).unwrap();
    let before = grammar;
    assert!(grammar.push(2).is_err());
    assert_eq!(grammar, before);
}

#[test]
fn low_limits_leave_room_to_answer_and_to_refuse() {
    // Nothing fits but the way out, and both ways out do.
    let mut grammar = grammar(50, 4, 0);
    assert!((0..VOCABULARY).filter(|id| grammar.allows(*id)).eq([10]));
    grammar.push(10).unwrap();
    grammar.push(1).unwrap();
    assert!(grammar.allows(8) && IDS.none.iter().all(|none| grammar.allows(*none)));
    for id in target([0; 4]) {
        grammar.push(id).unwrap();
    }
    assert!((0..VOCABULARY).filter(|id| grammar.allows(*id)).eq([11]), "no room for a second target");
    // Four more tokens are text, not a box of five.
    let grammar = self::grammar(50, 4, 13);
    assert!(grammar.allows(80) && !grammar.allows(8));
}

#[test]
fn mask_silences_exactly_what_is_not_allowed() {
    let grammar = grammar(20, 1, 100);
    let mut logits = vec![0.5; VOCABULARY as usize + 10];
    grammar.mask(&mut logits);
    for (id, logit) in (0..).zip(&logits) {
        assert_eq!(*logit == 0.5, grammar.allows(id), "{id}");
        assert!(*logit == 0.5 || *logit == f32::NEG_INFINITY);
    }
    grammar.mask(&mut []);
}

fn limits() -> impl Strategy<Value = Limits> {
    (0usize..24, 0usize..4, 0usize..60).prop_map(|(thought, targets, tokens)| Limits { thought, targets, tokens })
}

proptest! {
    #[test]
    fn every_walk_ends_within_the_limits_and_is_read(limits in limits(), choices in prop::collection::vec(0usize..1000, 80)) {
        let fresh = Grammar::new(IDS, VOCABULARY, limits);
        let mut at = 0;
        let written = walk(fresh, |count| { at += 1; choices[at % choices.len()] % count });
        prop_assert!(written.len() <= limits.tokens.max(9));
        prop_assert!(well_formed(&written, limits), "{:?}", written);
        let answer = parse(&written, &fresh).unwrap();
        prop_assert!(answer.thought.len() <= limits.thought);
        match answer.outcome {
            Conclusion::Boxes(boxes) => {
                prop_assert!((1..=limits.targets.max(1)).contains(&boxes.len()));
                prop_assert!(boxes.iter().all(|[x0, y0, x1, y1]| 0.0 <= *x0 && x0 < x1 && *x1 <= 1.0 && 0.0 <= *y0 && y0 < y1 && *y1 <= 1.0));
            }
            Conclusion::None(reason) => prop_assert!(reason < 4),
        }
    }

    /// Changes of a good answer, most of which make a bad one, are judged as the rules read aloud judge them.
    #[test]
    fn parse_takes_exactly_what_is_well_formed(
        limits in limits(),
        choices in prop::collection::vec(0usize..1000, 80),
        changes in prop::collection::vec((0usize..60, 0u32..VOCABULARY + 3, 0u8..3), 0..3),
    ) {
        let fresh = Grammar::new(IDS, VOCABULARY, limits);
        let mut at = 0;
        let mut written = walk(fresh, |count| { at += 1; choices[at % choices.len()] % count });
        for (place, id, how) in changes {
            let place = place % (written.len() + 1);
            match how {
                0 => written.insert(place, id),
                1 if place < written.len() => { written.remove(place); }
                _ if place < written.len() => written[place] = id,
                _ => {}
            }
        }
        prop_assert_eq!(parse(&written, &fresh).is_ok(), well_formed(&written, limits), "{:?}", written);
    }

    #[test]
    fn boxes_survive_their_locations(edges in prop::array::uniform4(0.0f32..1.0)) {
        let [a, b, c, d] = edges;
        let edges = [a.min(c), b.min(d), a.max(c), b.max(d)];
        let bins = super::bins(edges);
        let back = super::edges(bins);
        prop_assert_eq!(super::bins([a.min(c), b.min(d), a.min(c), b.min(d)])[..2].to_vec(), bins[..2].to_vec());
        for (k, (was, is)) in edges.iter().zip(back).enumerate() {
            let bound = if bins[k % 2] == bins[k % 2 + 2] { 1.0 / 64.0 } else { 1.0 / 128.0 };
            prop_assert!((was - is).abs() <= bound + 1e-6);
        }
    }

    #[test]
    fn hostile_edges_make_a_box_all_the_same(edges in prop::array::uniform4(prop::num::f32::ANY)) {
        let [x0, y0, x1, y1] = super::bins(edges);
        prop_assert!(x0 <= x1 && y0 <= y1 && x1 < 64 && y1 < 64);
    }
}

#[test]
fn greed_takes_the_likeliest_that_may_come() {
    let mut state = grammar(2, 1, 20);
    let mut logits = vec![0.0; VOCABULARY as usize];
    // A location may not begin a thought, however likely it is; of two equals the first counts.
    logits[(LOC + 3) as usize] = 9.0;
    logits[TEXT as usize + 1] = 5.0;
    logits[TEXT as usize + 2] = 5.0;
    assert_eq!(state.push_likeliest(&logits), Ok(TEXT + 1));
    assert_eq!(state.push_likeliest(&logits), Ok(TEXT + 1));
    assert_eq!(state.push_likeliest(&logits), Ok(10), "the thought is full");
    let before = state;
    assert!(state.push_likeliest(&[0.0]).unwrap_err().to_string().contains("<answer>"));
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        logits[40] = broken;
        assert!(matches!(state.push_likeliest(&logits), Err(Error::NotFinite { count: 1, .. })), "{broken}");
    }
    assert_eq!(state, before, "what failed leaves no trace");
}

#[test]
fn ids_are_found_by_their_spelling() {
    let spell = |id: u32| match id {
        0..=11 => {
            let named = ["<pad>", "<answer>", "[SEG]", "<none:absent>", "<none:ambiguous>", "<none:not_understood>"];
            let more = ["<none:unseeable>", "<point>", "<box>", "<think>", "</think>", "</answer>"];
            named.iter().chain(&more).nth(id as usize).unwrap().to_string()
        }
        _ => format!("<loc_{}>", id - 12),
    };
    let find = |token: &str| (0..76).find(|&id| spell(id) == token);
    assert_eq!(ReasonedIds::find(find), Ok(IDS));
    let error = ReasonedIds::find(|token| find(token).filter(|id| *id != 10)).unwrap_err().to_string();
    assert_eq!(error, "expected the token </think>, got a vocabulary without it");
    let error = ReasonedIds::find(|token| find(token).map(|id| id + u32::from(id > 20))).unwrap_err().to_string();
    assert_eq!(error, "expected <loc_9> at id 21, got 22");
}
