#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use kestrel_link::Hint;
use kestrel_perception::{Conclusion, parse};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::chain::{Verdict, read, spell};
use super::cues::{Cue, cues};
use super::*;
use crate::expressions::meaning::{Extreme, ROAD};
use crate::expressions::space::{POSITIONS, Position, RELATIONS, Relation, Side};
use crate::expressions::{Options, Proposed, generate_about};
use crate::sample::{Category, Colour, Picture, Stratum};
use crate::scenes::render;
use crate::views::View;

const SIDE: u32 = 160;

/// The tokenizer that flies: chains must be short in its pieces.
fn tokenizer() -> QueryTokenizer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/released/kestrel-s/tokenizer.json");
    QueryTokenizer::load(&file).unwrap()
}

fn limits() -> Limits {
    Limits::roomy(96, LISTED)
}

fn asked(facts: &Facts<'_>, seed: u64) -> Vec<Proposed> {
    let options = Options { count: 24, ..Options::default() };
    generate_about(facts, &options, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn question<'a>(facts: &'a Facts<'a>, proposed: &'a Proposed) -> Question<'a> {
    Question { facts, ask: &proposed.ask, expression: proposed.expression.as_ref(), view: None }
}

/// The chain in one line, with boxes in brackets.
fn line(steps: &[Step]) -> String {
    let shown = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Box(bins) => format!("{bins:?}"),
    };
    spell(steps).iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_cue_is_read_as_it_is_said() {
    let kinds = [vec![Category::StorageTank], ROAD.to_vec(), vec![Category::TennisCourt, Category::BasketballCourt]];
    let mut all = vec![Cue::This, Cue::Here, Cue::All, Cue::Size(Extreme::Largest), Cue::Ordinal(5, Side::Bottom)];
    for kind in kinds {
        all.extend(RELATIONS.map(|relation| Cue::Related(relation, Some(Colour::Grey), kind.clone())));
        all.push(Cue::Related(Relation::Closest, None, kind.clone()));
        all.push(Cue::Kind(kind));
    }
    all.extend(Category::ALL.into_iter().filter(|c| *c != Category::Vehicle).map(|c| Cue::Kind(vec![c])));
    all.extend(POSITIONS.map(Cue::Position));
    all.extend(Colour::ALL.map(Cue::Colour));
    all.extend((0..crate::expressions::words::FOREIGN.len()).map(Cue::Foreign));
    for cue in all {
        assert_eq!(Cue::read(&cue.phrase()), Some(cue.clone()), "{}", cue.phrase());
    }
    assert_eq!(Cue::read("left of"), None);
    assert_eq!(Cue::read(""), None);
    let far = Expression { categories: vec![Category::Car], ordinal: Some((9, Side::Left)), ..Expression::default() };
    assert_eq!(cues(&far), None, "there is no word for the ninth");
    let none = Expression { ordinal: Some((0, Side::Left)), ..far };
    assert_eq!(cues(&none), None);
}

#[test]
fn steps_are_read_as_they_are_spelt() {
    let truck = || Cue::Kind(vec![Category::Truck]);
    let bus = Cue::Related(Relation::RightOf, Some(Colour::Red), vec![Category::Bus]);
    let chains = [
        vec![
            Step::Cues(vec![truck(), Cue::Colour(Colour::White), bus.clone()]),
            Step::Count { colour: None, noun: truck(), count: 7, listed: vec![] },
            Step::Count {
                colour: Some(Colour::White),
                noun: truck(),
                count: 2,
                listed: vec![[1, 2, 3, 4], [5, 6, 7, 8]],
            },
            Step::Keep { cue: bus, anchor: Some([0, 0, 63, 63]), kept: vec![0, 1] },
            Step::Keep { cue: Cue::Position(Position::Left), anchor: None, kept: vec![] },
            Step::So(Verdict::Not(Cue::Position(Position::Left))),
        ],
        vec![
            Step::Cues(vec![truck(), Cue::Ordinal(2, Side::Top)]),
            Step::Count { colour: None, noun: truck(), count: 2, listed: vec![[1, 2, 3, 4], [5, 6, 7, 8]] },
            Step::Keep { cue: Cue::Ordinal(2, Side::Top), anchor: None, kept: vec![1, 0] },
            Step::So(Verdict::These(vec![0])),
        ],
        vec![Step::View("dark".into()), Step::See(vec![]), Step::So(Verdict::Hidden)],
        vec![Step::See(vec![[1, 1, 2, 2]; 3]), Step::So(Verdict::Either(vec![0, 1, 2]))],
        vec![Step::Unknown("florp and the sadness inside".into())],
    ];
    for steps in chains {
        assert_eq!(read(&spell(&steps)).unwrap(), steps, "{}", line(&steps));
    }
    let text = |text: &str| read(&[Piece::Text(text.into())]);
    for wrong in
        ["", ".", "truck", "so a", "truck. so", "truck. truck none so not truck", "truck. so a or", "what florp"]
    {
        assert!(text(wrong).is_err(), "{wrong}");
    }
    assert!(text("truck. truck none. so not truck").is_ok());
}

/// Two cars to the left of a truck, the farther one red.
fn row() -> Picture {
    let mut picture = render(1, 64);
    picture.instances.clear();
    for (category, colour, x) in [
        (Category::Car, Some(Colour::Red), 2.0),
        (Category::Car, Some(Colour::White), 20.0),
        (Category::Truck, Some(Colour::White), 44.0),
    ] {
        let bounding_box = [x, 30.0, 8.0, 4.0];
        picture.instances.push(crate::sample::Instance { category, colour, bounding_box, mask: None, visible: 1.0 });
    }
    picture
}

#[test]
fn a_chain_says_what_each_cue_leaves() {
    let picture = row();
    let facts = Facts::of(&picture);
    let truck = Expression { categories: vec![Category::Truck], ..Expression::default() };
    let car = |target: Target, rest: Expression| {
        let expression = Expression { categories: vec![Category::Car], ..rest };
        let ask = Ask {
            text: "x".into(),
            hint: expression.hint,
            stratum: Stratum::Relation,
            target,
            nonsense: vec![],
            held_out_phrasing: false,
            slipped: false,
            written: false,
        };
        let question = Question { facts: &facts, ask: &ask, expression: Some(&expression), view: None };
        let steps = write(&question).unwrap();
        verify(&steps, &question).unwrap();
        line(&steps)
    };
    let nothing = Expression::default();
    let closest = Expression { relation: Some((Relation::Closest, Box::new(truck))), ..nothing.clone() };
    let (red, white) = ("a [2, 30, 10, 34]", "b [20, 30, 28, 34]");
    assert_eq!(
        car(Target::Boxes(vec![1]), closest),
        "car, closest to truck. car two a [20, 30, 28, 34] b [2, 30, 10, 34] \
         closest to truck [44, 30, 52, 34] a then b. so a"
    );
    let colour = |colour| Expression { colour: Some(colour), ..nothing.clone() };
    let listed = format!("car two {red} {white}");
    assert_eq!(car(Target::Boxes(vec![0]), colour(Colour::Red)), format!("car, red. {listed} red a. so a"));
    assert_eq!(car(Target::Absent, colour(Colour::Blue)), format!("car, blue. {listed} blue none. so not blue"));
    assert_eq!(car(Target::Ambiguous(vec![0, 1]), nothing.clone()), format!("car. {listed} so a or b"));
    let all = Expression { plural: true, ..nothing.clone() };
    assert_eq!(car(Target::Boxes(vec![0, 1]), all), format!("car, all. {listed} so a and b"));
    let pointed = Expression { hint: Some(Hint::Point { x: 0.1, y: 0.5 }), ..nothing.clone() };
    assert_eq!(car(Target::Boxes(vec![0]), pointed), format!("car, here. {listed} here a. so a"));
    let second = Expression { ordinal: Some((2, Side::Left)), ..nothing };
    assert_eq!(
        car(Target::Boxes(vec![1]), second),
        format!("car, second from left. {listed} second from left a then b. so b")
    );
}

/// What a corruption must be noticed for.
fn corrupted(steps: &[Step], rng: &mut ChaCha8Rng) -> Option<(&'static str, Vec<Step>)> {
    let mut steps = steps.to_vec();
    let at = rng.random_range(0..steps.len());
    let shift = |bins: &mut Bins, rng: &mut ChaCha8Rng| {
        let edge = rng.random_range(0..4usize);
        bins[edge] = (bins[edge] + rng.random_range(1..64)) % 64;
    };
    let flipped = |cue: &Cue| match cue {
        Cue::Related(Relation::LeftOf, c, k) => Some(Cue::Related(Relation::RightOf, *c, k.clone())),
        Cue::Related(Relation::RightOf, c, k) => Some(Cue::Related(Relation::LeftOf, *c, k.clone())),
        Cue::Related(Relation::Above, c, k) => Some(Cue::Related(Relation::Below, *c, k.clone())),
        Cue::Related(Relation::NextTo, c, k) => Some(Cue::Related(Relation::Below, *c, k.clone())),
        Cue::Position(Position::Left) => Some(Cue::Position(Position::Right)),
        Cue::Position(_) => Some(Cue::Position(Position::Left)),
        Cue::Ordinal(n, Side::Left) => Some(Cue::Ordinal(*n, Side::Right)),
        Cue::Ordinal(n, _) => Some(Cue::Ordinal(*n, Side::Left)),
        Cue::Size(Extreme::Largest) => Some(Cue::Size(Extreme::Smallest)),
        Cue::Size(Extreme::Smallest) => Some(Cue::Size(Extreme::Largest)),
        _ => None,
    };
    let what = match &mut steps[at] {
        Step::Count { listed, .. } | Step::See(listed) if !listed.is_empty() && rng.random_bool(0.5) => {
            let box_at = rng.random_range(0..listed.len());
            shift(&mut listed[box_at], rng);
            "a box was moved"
        }
        Step::Count { count, .. } => {
            *count = (*count + rng.random_range(1..=LISTED)) % (LISTED + 2);
            "a count was changed"
        }
        Step::Keep { anchor: Some(anchor), .. } if rng.random_bool(0.3) => {
            shift(anchor, rng);
            "the anchor was moved"
        }
        Step::Keep { cue, .. } if rng.random_bool(0.5) => {
            *cue = flipped(cue)?;
            "a side was flipped"
        }
        Step::Keep { kept, .. } | Step::So(Verdict::These(kept) | Verdict::Either(kept)) => {
            let letter = rng.random_range(0..LISTED);
            match kept.iter().position(|k| *k == letter) {
                Some(at) => drop(kept.remove(at)),
                None => kept.push(letter),
            }
            "a candidate was added or taken"
        }
        Step::View(word) => {
            *word = "clear".into();
            "the view was changed"
        }
        Step::Unknown(words) => {
            words.push('s');
            "a word was changed"
        }
        Step::Cues(cues) => {
            cues.remove(rng.random_range(0..cues.len()));
            "a cue was left out"
        }
        Step::See(_) | Step::So(_) => {
            steps[at] = Step::So(Verdict::These(vec![0]));
            "the conclusion was changed"
        }
    };
    Some((what, steps))
}

/// Holds every promise of one reasoned answer.
fn hold(reasoner: &Reasoner<'_>, question: &Question<'_>, reasoned: &Reasoned, rng: &mut ChaCha8Rng) {
    let tokenizer = reasoner.tokenizer;
    let answer = parse(&reasoned.written, &reasoner.grammar()).unwrap();
    assert_eq!(answer.thought.len(), reasoned.thought);
    assert!(reasoned.thought <= reasoner.limits.thought);
    match (&answer.outcome, refusal(&question.ask.target)) {
        (Conclusion::Boxes(boxes), None) => {
            assert_eq!(boxes.len(), reasoned.targets.len());
            for (found, thing) in boxes.iter().zip(&reasoned.targets) {
                let exact = question.facts.things[*thing].edges.map(|v| v / question.facts.side);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1.0 / 64.0 + 1e-5;
                assert!(found.iter().zip(&exact).all(near), "{found:?} for {exact:?}");
            }
        }
        (Conclusion::None(reason), Some(expected)) => assert_eq!(*reason, expected),
        other => panic!("{other:?} for {:?}", question.ask),
    }
    let steps = read(&pieces(&answer.thought, tokenizer).unwrap()).unwrap();
    let sorted = |mut list: Vec<usize>| {
        list.sort_unstable();
        list
    };
    let told = sorted(verify(&steps, question).unwrap());
    if let Target::Masks(of) | Target::Boxes(of) = &question.ask.target {
        assert_eq!(told, sorted(of.clone()));
    }
    for _ in 0..6 {
        if let Some((what, wrong)) = corrupted(&steps, rng)
            && wrong != steps
        {
            assert!(verify(&wrong, question).is_err(), "{what}: {} became {}", line(&steps), line(&wrong));
        }
    }
    // One other token anywhere: other words, or no chain at all.
    for _ in 0..6 {
        let mut thought = answer.thought.clone();
        let at = rng.random_range(0..thought.len());
        thought[at] = rng.random_range(0..tokenizer.vocabulary() as u32);
        if let Ok(wrong) = read(&pieces(&thought, tokenizer).unwrap())
            && wrong != steps
        {
            assert!(verify(&wrong, question).is_err(), "{} became {}", line(&steps), line(&wrong));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What would break: a model that is taught to say what is not so.
    #[test]
    fn every_chain_of_a_scene_is_true_and_a_corrupted_one_is_noticed(seed in 0u64..1_000_000) {
        let (picture, tokenizer) = (render(seed, SIDE), tokenizer());
        let facts = Facts::of(&picture);
        let mut reasoner = Reasoner::new(&tokenizer, limits());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let asked = asked(&facts, seed);
        for proposed in &asked {
            let question = question(&facts, proposed);
            if let Some(reasoned) = reasoner.reason(&question).unwrap() {
                hold(&reasoner, &question, &reasoned, &mut rng);
            }
        }
        prop_assert_eq!(reasoner.tally.values().sum::<usize>(), asked.len());
    }

    /// Degraded pictures keep questions without their meaning: what is seen is said, or that the view hides it.
    #[test]
    fn a_degraded_view_is_named(seed in 0u64..1_000_000, hidden in proptest::bool::ANY) {
        let (picture, tokenizer) = (render(seed, SIDE), tokenizer());
        let facts = Facts::of(&picture);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let view = View::draw_training(&mut rng).family;
        let mut reasoner = Reasoner::new(&tokenizer, limits());
        for proposed in asked(&facts, seed) {
            let hides = hidden && matches!(proposed.ask.target, Target::Masks(_));
            let target = if hides { Target::Unseeable } else { proposed.ask.target.clone() };
            let ask = Ask { target, ..proposed.ask };
            let question = Question { facts: &facts, ask: &ask, expression: None, view: Some(view) };
            if let Some(reasoned) = reasoner.reason(&question).unwrap() {
                hold(&reasoner, &question, &reasoned, &mut rng);
                let words = tokenizer.decode(&reasoned.written[..reasoned.thought]).unwrap();
                let begins = format!(" view {}.", view.adjective());
                prop_assert!(words.starts_with(&begins), "{}", words);
                prop_assert_eq!(words.ends_with("hidden"), hides);
            }
        }
    }
}

/// What would break: chains that a small decoder cannot hold, or a stratum that reasons never reach.
#[test]
fn most_questions_of_every_stratum_get_a_short_chain() {
    let tokenizer = tokenizer();
    let mut reasoner = Reasoner::new(&tokenizer, limits());
    let mut lengths = Vec::new();
    let mut strata: BTreeMap<Stratum, (usize, usize)> = BTreeMap::new();
    for seed in 0..40 {
        let picture = render(seed, SIDE);
        let facts = Facts::of(&picture);
        for proposed in asked(&facts, seed) {
            let reasoned = reasoner.reason(&question(&facts, &proposed)).unwrap();
            let (written, all) = strata.entry(proposed.ask.stratum).or_default();
            (*written, *all) = (*written + usize::from(reasoned.is_some()), *all + 1);
            lengths.extend(reasoned.map(|r| r.thought));
        }
    }
    lengths.sort_unstable();
    let at = |share: f32| lengths[(share * (lengths.len() - 1) as f32) as usize];
    let shown = format!("{strata:?} {:?} lengths {} {} {}", reasoner.tally, at(0.5), at(0.9), at(1.0));
    assert!(strata.len() == Options::default().weights.len(), "{shown}");
    assert!(strata.values().all(|(written, all)| written * 5 > *all * 2), "{shown}");
    assert!(at(0.5) <= 40 && at(1.0) <= 96, "{shown}");
    let written = reasoner.tally[WRITTEN];
    assert!(written * 5 > reasoner.tally.values().sum::<usize>() * 4, "{shown}");
    assert!(!reasoner.tally.contains_key("meaning") && !reasoner.tally.contains_key("cues"), "{shown}");
}

#[test]
fn limits_drop_and_count() {
    let tokenizer = tokenizer();
    let (mut short, mut single) =
        (Reasoner::new(&tokenizer, Limits::roomy(12, LISTED)), Reasoner::new(&tokenizer, Limits::roomy(96, 1)));
    for seed in 0..6 {
        let picture = render(seed, SIDE);
        let facts = Facts::of(&picture);
        for proposed in asked(&facts, seed) {
            let question = question(&facts, &proposed);
            let thought = short.reason(&question).unwrap().map_or(0, |reasoned| reasoned.thought);
            let targets = single.reason(&question).unwrap().map_or(0, |reasoned| reasoned.targets.len());
            assert!(thought <= 12 && targets <= 1);
            // A clear picture's question whose meaning was not kept has no chain.
            let unknown = Question { expression: None, ..question };
            let known = short.attempt(&unknown).unwrap() != Err(Dropped::Meaning);
            assert_eq!(known, proposed.ask.stratum == Stratum::Nonsense);
        }
    }
    assert!(short.tally["long"] > 0 && single.tally["many"] > short.tally["many"], "{:?}", short.tally);
}
