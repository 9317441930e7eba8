#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use image::RgbImage;
use kestrel_models::tokenizer;
use kestrel_perception::answer::bins;
use kestrel_perception::tokens::LOCATIONS;
use proptest::prelude::*;
use rand::SeedableRng;

use super::*;
use crate::rewards::text::normalise;
use crate::rewards::{Options, score};
use crate::sample::{Category, Instance, Origin, Picture, Spoken};
use crate::scenes::render;

const SIDE: u32 = 160;

/// The tokenizer that flies: answers must be short in its pieces.
fn released() -> QueryTokenizer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/released/kestrel-s/tokenizer.json");
    QueryTokenizer::load(&file).unwrap()
}

/// One with hardly any piece but the bytes.
static BYTES: LazyLock<QueryTokenizer> =
    LazyLock::new(|| tokenizer::train(["a b".to_owned()].into_iter(), 332).unwrap());

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn instance(category: Category, bounding_box: [f32; 4], visible: f32) -> Instance {
    Instance { category, colour: None, bounding_box, mask: None, visible }
}

fn picture(instances: Vec<Instance>) -> Picture {
    let origin = Origin { dataset: "drawn".into(), scene: "1".into(), frame: "0".into() };
    Picture { image: RgbImage::new(512, 512), instances, exhaustive: scenes::categories().collect(), origin }
}

#[test]
fn every_right_answer_is_allowed_and_earns_all_there_is() {
    let tokenizer = released();
    let mut found: BTreeMap<TaskKind, usize> = BTreeMap::new();
    for seed in 0..40 {
        let picture = render(seed, SIDE);
        let facts = Facts::of(&picture);
        for kind in TAUGHT {
            let Some(task) = task(&facts, kind, Phrasing::Train, &mut rng(seed)) else { continue };
            let written = written(&task.answer, &tokenizer).unwrap();
            let said = parse(&written, &TextGrammar::new(&tokenizer, TextLimits::of(kind))).unwrap().to_vec();
            let spoken = spoken(&said, &tokenizer).unwrap();
            let boxes = task.answer.iter().filter_map(|piece| match piece {
                Piece::Box(bins) => Some(edges(*bins)),
                Piece::Text(_) => None,
            });
            let own = task.truth.boxes.is_some().then(|| boxes.collect());
            let itself = Truth { boxes: own, ..task.truth.clone() };
            let worth = |truth: &Truth| score(kind, &spoken, truth, &Options::default(), None).unwrap();
            let scored = worth(&itself);
            assert!((scored.reward - 1.0).abs() < 1e-9 && scored.format == 1.0, "{spoken}: {scored:?}");
            let scored = worth(&task.truth);
            assert!(scored.reward > 0.75 - 1e-6, "locations come near to labels: {spoken}: {scored:?}");
            *found.entry(kind).or_default() += 1;
        }
    }
    assert_eq!(found[&TaskKind::Classification], 40);
    assert!(TAUGHT.iter().all(|kind| found.get(kind).is_some_and(|count| *count > 2)), "{found:?}");
}

#[test]
fn labels_name_what_is_annotated_and_only_where_everything_is() {
    for seed in 0..40 {
        let mut picture = render(seed, SIDE);
        let Some((_, truth)) = right(&Facts::of(&picture), TaskKind::MultiLabel) else { continue };
        let annotated: BTreeSet<&str> = picture.instances.iter().map(|i| nouns(i.category)[0].singular).collect();
        assert!(truth.labels.iter().all(|label| annotated.contains(label.as_str())), "{:?}", truth.labels);
        picture.exhaustive.pop();
        for kind in TAUGHT {
            assert_eq!(right(&Facts::of(&picture), kind), None, "a kind is not labelled: {kind:?}");
        }
    }
}

#[test]
fn what_is_hardly_seen_is_not_named_and_what_is_vague_is_not_asked() {
    let building = || instance(Category::Building, [200.0, 200.0, 120.0, 90.0], 1.0);
    let labels = |more: Vec<Instance>| {
        let picture = picture([vec![building()], more].concat());
        right(&Facts::of(&picture), TaskKind::MultiLabel).map(|(_, truth)| truth.labels)
    };
    assert_eq!(labels(vec![]), Some(vec!["building".to_owned()]));
    let speck = instance(Category::Person, [5.0, 5.0, 2.0, 2.0], 1.0);
    assert_eq!(labels(vec![speck]), Some(vec!["building".to_owned()]));
    let hidden = instance(Category::Bus, [5.0, 5.0, 20.0, 10.0], 0.1);
    assert_eq!(labels(vec![hidden.clone()]), None, "is the bus there?");
    let bus = instance(Category::Bus, [50.0, 50.0, 60.0, 20.0], 1.0);
    assert_eq!(labels(vec![hidden, bus]), Some(vec!["bus".to_owned(), "building".to_owned()]));
    let vehicle = instance(Category::Vehicle, [50.0, 50.0, 60.0, 20.0], 1.0);
    assert_eq!(labels(vec![vehicle]), None, "of which kind?");
    let nothing = picture(vec![]);
    assert!(TAUGHT.iter().all(|kind| right(&Facts::of(&nothing), *kind).is_none()));
}

#[test]
fn a_description_counts_what_is_certain_and_shows_what_is_counted() {
    let boxed = |x: f32, y: f32, w: f32, h: f32| [x, y, w, h];
    let car = |x: f32| instance(Category::Car, boxed(x, 300.0, 40.0, 20.0), 1.0);
    let boat = |x: f32, visible: f32| instance(Category::Boat, boxed(x, 400.0, 30.0, 12.0), visible);
    let mut instances = vec![car(10.0), car(110.0), boat(300.0, 1.0), boat(350.0, 1.0), boat(400.0, 0.1)];
    instances.push(instance(Category::Building, boxed(200.0, 200.0, 120.0, 90.0), 1.0));
    instances.extend((0..8).map(|n| instance(Category::Tree, boxed(n as f32 * 50.0, 20.0, 16.0, 16.0), 1.0)));
    let picture = picture(instances);
    let (answer, truth) = right(&Facts::of(&picture), TaskKind::GroundingDescription).unwrap();
    let place = |x: f32, y: f32, w: f32, h: f32| [x, y, x + w, y + h].map(|edge| edge / 512.0);
    let places = [place(200.0, 200.0, 120.0, 90.0), place(10.0, 300.0, 40.0, 20.0), place(110.0, 300.0, 40.0, 20.0)];
    let [building, first, second] = places.map(|place| Piece::Box(bins(place)));
    let text = |words: &str| Piece::Text(words.to_owned());
    let wanted = [text("1 building"), building, text("; 2 cars"), first, second, text("; some boats; many trees")];
    assert_eq!(answer, wanted);
    assert_eq!(truth.texts, ["1 building; 2 cars; some boats; many trees"]);
    assert_eq!(truth.boxes.unwrap(), places);
}

#[test]
fn a_degraded_view_is_not_asked_about() {
    let sample =
        |degradation| Sample { picture: render(1, 64), asks: vec![], degradation, later: None, spoken: vec![] };
    assert!(facts(&sample(None)).is_some());
    assert!(facts(&sample(Some(("fog".to_owned(), 0.5)))).is_none());
}

/// What would break: unseen ways of asking that were seen.
#[test]
fn held_out_phrasings_are_never_trained_on() {
    let tokenizer = released();
    let picture = picture(vec![instance(Category::Building, [200.0, 200.0, 120.0, 90.0], 1.0)]);
    let facts = Facts::of(&picture);
    for kind in TAUGHT {
        let set = |phrasing| -> BTreeSet<String> {
            phrase::requests(kind, phrasing).iter().map(|request| normalise(request)).collect()
        };
        let (train, held_out) = (set(Phrasing::Train), set(Phrasing::HeldOut));
        assert!(train.len() > 4 && held_out.len() > 2 && train.is_disjoint(&held_out), "{kind:?}");
        for request in train.iter().chain(&held_out) {
            assert!(tokenizer.encode(request).unwrap().len() < 40, "{request} has no room in a prompt");
        }
        for seed in 0..50 {
            let Some(asked) = task(&facts, kind, Phrasing::Train, &mut rng(seed)) else { continue };
            assert!(train.contains(&normalise(&asked.request)) && !asked.held_out_phrasing);
            let asked = task(&facts, kind, Phrasing::HeldOut, &mut rng(seed)).unwrap();
            assert!(held_out.contains(&normalise(&asked.request)) && asked.held_out_phrasing);
        }
    }
}

#[test]
fn what_people_wrote_is_asked_as_it_is_and_never_twice() {
    let spoken = |task, request: &str, texts: &[&str]| Spoken {
        task,
        request: request.to_owned(),
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
    };
    let questions = [("is it day?", ["yes"]), ("how many cars?", ["2"])];
    let mut list: Vec<Spoken> = questions.iter().map(|(ask, texts)| spoken(TaskKind::ShortVqa, ask, texts)).collect();
    list.push(spoken(TaskKind::Caption, "describe it", &["a park", "a green park"]));
    let sample = Sample { picture: render(1, 64), asks: vec![], degradation: None, later: None, spoken: list };
    let mut written = BTreeSet::new();
    for seed in 0..30 {
        let tasks = told(&sample, TaskKind::ShortVqa, 5, &mut rng(seed));
        let asked: BTreeSet<&str> = tasks.iter().map(|task| task.request.as_str()).collect();
        assert!(tasks.len() == 2 && asked == BTreeSet::from(questions.map(|(ask, _)| ask)), "{tasks:?}");
        assert_eq!(told(&sample, TaskKind::ShortVqa, 1, &mut rng(seed)).len(), 1);
        let captions = told(&sample, TaskKind::Caption, 3, &mut rng(seed));
        let [caption] = captions.as_slice() else { panic!("one caption: {captions:?}") };
        assert_eq!(caption.truth.texts, ["a park", "a green park"], "all of them are right");
        written.insert(text(&caption.answer));
    }
    assert_eq!(written.len(), 2, "each is written at some time");
    assert!(told(&sample, TaskKind::RegionCaption, 3, &mut rng(1)).is_empty());
    assert!(TAUGHT.iter().all(|kind| told(&sample, *kind, 3, &mut rng(1)).is_empty()), "labels answer these");
    let (answer, truth) = first_told(&sample, TaskKind::ShortVqa).unwrap();
    assert_eq!((answer, truth.texts), (vec![Piece::Text("yes".into())], vec!["yes".to_owned()]));
}

#[test]
fn every_task_is_taught_or_says_what_it_lacks() {
    for kind in TaskKind::ALL {
        assert_eq!(missing(kind).is_none(), TAUGHT.contains(&kind), "{kind:?}");
        assert_eq!(phrase::requests(kind, Phrasing::Train).is_empty(), missing(kind).is_some(), "{kind:?}");
    }
}

#[test]
fn the_constant_answer_is_the_one_that_earns_most() {
    let one = |label: &str| {
        let truth = Truth { labels: vec![label.to_owned()], ..Truth::default() };
        (text(&[Piece::Text(label.to_owned())]), truth)
    };
    let answers = [one("river"), one("park"), one("park")];
    assert_eq!(constant(TaskKind::Classification, &answers), Some(answers[1].0.clone()));
    assert_eq!(constant(TaskKind::Classification, &[]), None);
    let several = |labels: &[&str]| {
        let truth = Truth { labels: labels.iter().map(|l| (*l).to_owned()).collect(), ..Truth::default() };
        (text(&[Piece::Text(labels.join(", "))]), truth)
    };
    // No set is there twice; that of the middle is most like the others.
    let answers = [several(&["car"]), several(&["car", "tree"]), several(&["tree"])];
    assert_eq!(constant(TaskKind::MultiLabel, &answers), Some(answers[1].0.clone()));
}

/// The rules once more, as one would read them aloud: a recogniser that shares nothing with the automaton.
fn well_formed(ids: &[u32], limits: TextLimits) -> bool {
    let special = BYTES.special();
    let pieces = special.first_location + LOCATIONS..BYTES.vocabulary() as u32;
    let Some((end, mut rest)) = ids.split_last() else { return false };
    if *end != special.answer_end || rest.is_empty() || ids.len() > limits.most() {
        return false;
    }
    let mut boxes = 0;
    while let [first, others @ ..] = rest {
        rest = others;
        if *first == special.bounding_box {
            let [a, b, c, d, behind @ ..] = others else { return false };
            let bins = [a, b, c, d].map(|id| id.wrapping_sub(special.first_location));
            if bins.iter().any(|bin| *bin >= LOCATIONS) || bins[2] < bins[0] || bins[3] < bins[1] {
                return false;
            }
            (rest, boxes) = (behind, boxes + 1);
        } else if !pieces.contains(first) {
            return false;
        }
    }
    boxes <= limits.boxes
}

/// A walk through what is allowed; `choices` pick in turn.
fn walk(limits: TextLimits, choices: &[usize]) -> Vec<u32> {
    let mut grammar = TextGrammar::new(&BYTES, limits);
    let mut written = Vec::new();
    while !grammar.finished() {
        let allowed: Vec<u32> = (0..BYTES.vocabulary() as u32 + 3).filter(|id| grammar.allows(*id)).collect();
        assert!(!allowed.is_empty(), "stuck behind {written:?}");
        // Boxes are few among so many pieces: every third choice takes the lowest id, which is theirs.
        let choice = choices[written.len() % choices.len()];
        let id = if choice.is_multiple_of(3) { allowed[0] } else { allowed[choice % allowed.len()] };
        grammar.push(id).unwrap();
        written.push(id);
    }
    written
}

#[test]
fn a_refused_token_changes_nothing() {
    let special = *BYTES.special();
    let mut grammar = TextGrammar::new(&BYTES, TextLimits { tokens: 8, boxes: 1 });
    assert!(grammar.push(special.answer_end).is_err(), "an empty answer");
    grammar.push(special.bounding_box).unwrap();
    let before = grammar;
    for id in [special.answer_end, special.bounding_box, special.think_end, special.seg, 100] {
        assert!(grammar.push(id).is_err());
        assert_eq!(grammar, before);
    }
    let unfinished = parse(&[special.bounding_box], &grammar).unwrap_err().to_string();
    assert!(unfinished.contains("a location"), "{unfinished}");
}

#[test]
fn mask_silences_exactly_what_is_not_allowed() {
    let grammar = TextGrammar::new(&BYTES, TextLimits { tokens: 8, boxes: 1 });
    let mut logits = vec![0.5; BYTES.vocabulary() + 10];
    grammar.mask(&mut logits);
    for (id, logit) in (0..).zip(&logits) {
        assert_eq!(*logit == 0.5, grammar.allows(id), "{id}");
        assert!(*logit == 0.5 || *logit == f32::NEG_INFINITY);
    }
    grammar.mask(&mut []);
}

fn limits() -> impl Strategy<Value = TextLimits> {
    (0usize..40, 0usize..4).prop_map(|(tokens, boxes)| TextLimits { tokens, boxes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_walk_ends_within_the_limits_and_is_read(
        limits in limits(),
        choices in prop::collection::vec(0usize..1000, 1..60),
    ) {
        let written = walk(limits, &choices);
        prop_assert!(well_formed(&written, limits), "{:?}", written);
        let said = parse(&written, &TextGrammar::new(&BYTES, limits)).unwrap();
        prop_assert_eq!(said.len() + 1, written.len());
        let text = spoken(said, &BYTES).unwrap();
        prop_assert!(text.starts_with("<think></think><answer>") && text.ends_with("</answer>"), "{}", text);
    }

    /// Changes of a good answer, most of which make a bad one, are judged as the rules read aloud judge them.
    #[test]
    fn parse_takes_exactly_what_is_well_formed(
        limits in limits(),
        choices in prop::collection::vec(0usize..1000, 1..60),
        changes in prop::collection::vec((0usize..60, 0u32..340, 0u8..3), 0..3),
    ) {
        let mut written = walk(limits, &choices);
        for (place, id, how) in changes {
            let place = place % (written.len() + 1);
            match how {
                0 => written.insert(place, id),
                1 if place < written.len() => { written.remove(place); }
                _ if place < written.len() => written[place] = id,
                _ => {}
            }
        }
        let read = parse(&written, &TextGrammar::new(&BYTES, limits)).is_ok();
        prop_assert_eq!(read, well_formed(&written, limits), "{:?}", written);
    }
}
