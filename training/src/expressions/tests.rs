#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use image::{Rgb, RgbImage};
use kestrel_link::Mask;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use rand::{RngExt, SeedableRng};

use super::meaning::{Extreme, Fit};
use super::space::{Position, Relation, Side};
use super::*;
use crate::sample::{Category, Colour, Instance, Origin};

const SIZE: u32 = 128;

fn block(category: Category, colour: Option<Colour>, [x, y, w, h]: [u32; 4]) -> Instance {
    let inside = |px: u32, py: u32| (x..x + w).contains(&px) && (y..y + h).contains(&py);
    let bits: Vec<bool> = (0..SIZE * SIZE).map(|i| inside(i % SIZE, i / SIZE)).collect();
    let bounding_box = [x as f32, y as f32, w as f32, h as f32];
    let mask = Some(Mask::from_bits(SIZE, SIZE, &bits).unwrap());
    Instance { category, colour, bounding_box, mask, visible: 1.0 }
}

fn picture(instances: Vec<Instance>) -> Picture {
    let mut image = RgbImage::from_pixel(SIZE, SIZE, Rgb([90, 92, 88]));
    for instance in &instances {
        let [x, y, w, h] = instance.bounding_box.map(|v| v as u32);
        let paint = match instance.colour {
            Some(Colour::Red) => [200, 20, 20],
            Some(Colour::Blue) => [20, 40, 200],
            Some(Colour::White) => [240, 240, 240],
            // Between red and orange: neither is sure, blue is impossible.
            _ => [190, 60, 15],
        };
        for py in y..y + h {
            for px in x..x + w {
                image.put_pixel(px, py, Rgb(paint));
            }
        }
    }
    let exhaustive = vec![Category::Car, Category::Truck, Category::Van, Category::Bus, Category::Boat, Category::Pool];
    let origin = Origin { dataset: "scenes".into(), scene: "test".into(), frame: "0".into() };
    Picture { image, instances, exhaustive, origin }
}

fn noun(category: Category) -> Expression {
    Expression { categories: vec![category], ..Expression::default() }
}

fn answer(picture: &Picture, expression: &Expression) -> Option<Target> {
    let facts = Facts::of(picture);
    target(&facts, expression, &evaluate(&facts, expression))
}

#[test]
fn one_is_found_several_are_ambiguous_none_is_absent() {
    let cars = picture(vec![
        block(Category::Car, Some(Colour::Red), [5, 5, 20, 10]),
        block(Category::Car, Some(Colour::Blue), [60, 60, 20, 10]),
        block(Category::Truck, Some(Colour::White), [30, 5, 30, 12]),
    ]);
    assert_eq!(answer(&cars, &noun(Category::Truck)), Some(Target::Masks(vec![2])));
    assert_eq!(answer(&cars, &noun(Category::Car)), Some(Target::Ambiguous(vec![0, 1])));
    assert_eq!(answer(&cars, &noun(Category::Boat)), Some(Target::Absent));
    let red = Expression { colour: Some(Colour::Red), ..noun(Category::Car) };
    assert_eq!(answer(&cars, &red), Some(Target::Masks(vec![0])));
    let all = Expression { plural: true, ..noun(Category::Car) };
    assert_eq!(answer(&cars, &all), Some(Target::Masks(vec![0, 1])));
    let vehicles = Expression { categories: meaning::ROAD.to_vec(), plural: true, ..Expression::default() };
    assert_eq!(answer(&cars, &vehicles), Some(Target::Masks(vec![0, 1, 2])));
}

#[test]
fn what_a_thing_is_told_from_is_of_its_kind_and_colour() {
    let pictured = picture(vec![
        block(Category::Car, Some(Colour::Red), [5, 5, 20, 10]),
        block(Category::Car, Some(Colour::Blue), [60, 60, 20, 10]),
        block(Category::Truck, Some(Colour::White), [30, 5, 30, 12]),
    ]);
    let facts = Facts::of(&pictured);
    let first = Expression { ordinal: Some((1, Side::Left)), ..noun(Category::Car) };
    assert_eq!(alike(&facts, &first), Some(vec![0, 1]));
    assert_eq!(alike(&facts, &Expression { colour: Some(Colour::Blue), ..first }), Some(vec![1]));
    assert_eq!(alike(&facts, &noun(Category::Boat)), Some(vec![]));
    assert_eq!(alike(&facts, &Expression { position: Some(Position::Left), ..Expression::default() }), None);
}

#[test]
fn what_is_not_labelled_exhaustively_is_never_denied() {
    let cars = picture(vec![block(Category::Car, Some(Colour::Red), [5, 5, 20, 10])]);
    assert_eq!(answer(&cars, &noun(Category::Tree)), None, "trees are not labelled in this picture");
}

#[test]
fn an_unclear_colour_blocks_only_the_colours_it_may_be() {
    let cars = picture(vec![
        block(Category::Car, Some(Colour::Blue), [5, 5, 20, 10]),
        block(Category::Car, None, [60, 60, 20, 10]),
    ]);
    let of = |colour| Expression { colour: Some(colour), ..noun(Category::Car) };
    assert_eq!(answer(&cars, &of(Colour::Blue)), Some(Target::Masks(vec![0])));
    assert_eq!(answer(&cars, &of(Colour::Red)), None, "the second car may be called red");
    assert_eq!(answer(&cars, &of(Colour::Green)), Some(Target::Absent));
}

#[test]
fn hardly_visible_things_prove_nothing() {
    let mut cars = picture(vec![
        block(Category::Car, Some(Colour::Red), [5, 5, 20, 10]),
        block(Category::Boat, None, [0, 60, 3, 8]),
    ]);
    cars.instances[1].visible = 0.2;
    assert_eq!(answer(&cars, &noun(Category::Boat)), None);
    cars.instances[1].mask = Some(Mask::from_bits(SIZE, SIZE, &vec![false; (SIZE * SIZE) as usize]).unwrap());
    cars.instances[1].bounding_box = [0.0; 4];
    assert_eq!(answer(&cars, &noun(Category::Boat)), Some(Target::Absent), "an instance of another frame is not here");
}

#[test]
fn superlatives_ordinals_and_relations_follow_geometry() {
    let row = picture(vec![
        block(Category::Car, None, [5, 20, 12, 8]),
        block(Category::Car, None, [40, 19, 24, 12]),
        block(Category::Car, None, [90, 22, 12, 8]),
        block(Category::Truck, Some(Colour::White), [70, 20, 16, 12]),
    ]);
    let with = |size, ordinal, relation| Expression { size, ordinal, relation, ..noun(Category::Car) };
    assert_eq!(answer(&row, &with(Some(Extreme::Largest), None, None)), Some(Target::Masks(vec![1])));
    assert_eq!(answer(&row, &with(Some(Extreme::Smallest), None, None)), None, "two are equally small");
    assert_eq!(answer(&row, &with(None, Some((2, Side::Left)), None)), Some(Target::Masks(vec![1])));
    assert_eq!(answer(&row, &with(None, Some((1, Side::Right)), None)), Some(Target::Masks(vec![2])));
    assert_eq!(answer(&row, &with(None, Some((1, Side::Top)), None)), None, "nearly level");
    let truck = || Box::new(noun(Category::Truck));
    assert_eq!(answer(&row, &with(None, None, Some((Relation::RightOf, truck())))), Some(Target::Masks(vec![2])));
    assert_eq!(
        answer(&row, &with(None, None, Some((Relation::Below, truck())))),
        None,
        "level: neither sure nor denied"
    );
    assert_eq!(space::at(Position::TopLeft, &[0.0, 0.0, 20.0, 20.0], 128.0), Fit::Yes);
    assert_eq!(space::at(Position::Left, &[54.0, 0.0, 60.0, 9.0], 128.0), Fit::Unsure);
}

#[test]
fn generation_is_deterministic_and_held_out_words_stay_out_of_training() {
    let scene = crowd(7);
    let run = |options: &Options| generate(&scene, options, &mut ChaCha8Rng::seed_from_u64(3));
    let train = Options::default();
    assert_eq!(run(&train), run(&train));
    assert!(run(&train).iter().all(|p| !p.ask.held_out_phrasing));
    let kept: Vec<&str> = words::HELD_OUT_TEMPLATES.iter().map(|t| t.split('{').next().unwrap().trim()).collect();
    for text in corpus(1, 3000) {
        let text = text.to_lowercase();
        let opens = |t: &&&str| !t.is_empty() && text.starts_with(**t);
        assert_eq!(kept.iter().find(opens), None, "held-out phrasing in the tokenizer's corpus: {text}");
    }
}

#[test]
fn slips_change_the_text_but_never_into_another_known_noun() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for text in corpus(2, 500) {
        if let Some(wrong) = slips::slip(&text, Phrasing::Train, &mut rng) {
            assert_ne!(wrong, text);
        }
    }
}

/// A random picture of coloured blocks that do not overlap.
fn crowd(seed: u64) -> Picture {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let kinds = [Category::Car, Category::Truck, Category::Van, Category::Boat];
    let colours = [Some(Colour::Red), Some(Colour::Blue), Some(Colour::White), None];
    let mut blocks = Vec::new();
    for cell in 0..9u32 {
        if rng.random_bool(0.6) {
            let (x, y) = (cell % 3 * 42 + rng.random_range(0..10), cell / 3 * 42 + rng.random_range(0..10));
            let sides = [x, y, rng.random_range(5..28), rng.random_range(5..28)];
            blocks.push(block(kinds[rng.random_range(0..4)], colours[rng.random_range(0..4)], sides));
        }
    }
    picture(blocks)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// What would break: a question whose words and answer disagree, or one text with two answers.
    #[test]
    fn every_question_means_exactly_its_answer(seed in 0u64..1_000_000, held_out in 0.0f32..1.0) {
        let scene = crowd(seed);
        let facts = Facts::of(&scene);
        let options = Options { held_out_share: held_out, ..Options::default() };
        let mut said: HashMap<String, Target> = HashMap::new();
        for Proposed { ask, expression, needs, .. } in generate(&scene, &options, &mut ChaCha8Rng::seed_from_u64(seed)) {
            prop_assert!(ask.text.len() <= 512);
            prop_assert!(!ask.text.trim().is_empty() || ask.hint.is_some());
            for (from, to) in &ask.nonsense {
                prop_assert!(from < to && ask.text.get(*from..*to).is_some_and(|w| !w.trim().is_empty()));
            }
            prop_assert_eq!(ask.nonsense.is_empty(), ask.target != Target::NotUnderstood);
            if let Some(expression) = expression {
                let meaning = evaluate(&facts, &expression);
                prop_assert_eq!(&target(&facts, &expression, &meaning), &Some(ask.target.clone()));
                prop_assert!(meaning.yes.iter().all(|i| needs.contains(i)));
            }
            if let Target::Masks(list) = &ask.target {
                let fits = |i: &usize| scene.instances[*i].mask.as_ref().is_some_and(|m| m.area().is_ok_and(|a| a > 0));
                prop_assert!(!list.is_empty() && list.iter().all(fits));
            }
            let key = format!("{}|{:?}", ask.text.to_lowercase(), ask.hint);
            if let Some(before) = said.insert(key, ask.target.clone()) {
                prop_assert_eq!(before, ask.target);
            }
        }
    }
}
