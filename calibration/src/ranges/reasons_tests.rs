//! What answers with reasons add to the ranges.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use kestrel_models::kestrel::vision;
use kestrel_models::tokenizer::{self, Special};

use super::*;
use crate::ranges::{FEWEST_FRAMES, observe};

/// The smallest models: told of nothing, and told of things.
fn configs() -> [Config; 2] {
    let told = Config { language_width: 128, heads: 4, kv_heads: 2, things: true, ..Config::tiny() };
    [Config::tiny(), told]
}

fn words(config: &Config) -> QueryTokenizer {
    let texts = ["the white truck", "a red car", "all boats"].into_iter().cycle().take(300);
    tokenizer::train(texts.map(str::to_owned), config.vocabulary).unwrap()
}

fn frames(config: &Config, special: &Special) -> Vec<Prepared> {
    let question = |words: &[u32]| [words, &[special.answer, special.seg][..]].concat();
    let side = config.image;
    let frame = |number: usize| {
        let pixels: Vec<f32> = (0..side * side * 3).map(|i| ((i * 7 + number * 13) % 41) as f32 / 20.0 - 1.0).collect();
        let image = Tensor::from_vec(pixels, (1, side, side, 3), &Device::Cpu).unwrap();
        Prepared { image, questions: vec![question(&[140, 141, 300]), question(&[150]), question(&[200, 160])] }
    };
    (0..FEWEST_FRAMES).map(frame).collect()
}

fn look(params: &Params, config: &Config, frame: &Prepared) -> Seen<Tensor> {
    vision(&mut Candle::evaluating(params), config, &frame.image).unwrap()
}

/// How often a place of so many numbers a row was read.
fn rows(observer: &Observer, place: &str, width: usize) -> usize {
    observer.seen().get(place).map_or(0, |seen| seen.values as usize / width)
}

/// What would break: scales of the graph that decodes which never saw a thought, so that what it reads there is cut.
#[test]
fn thoughts_widen_the_ranges_of_the_layers_that_they_share_and_add_no_layer() {
    for config in configs() {
        let (tokenizer, params) = (words(&config), Params::new(&Device::Cpu, 3));
        let (reasons, special) = (Reasons::of(&tokenizer), tokenizer.special());
        let frames = frames(&config, special);
        assert_eq!(thoughts(&frames), 2 * FEWEST_FRAMES);
        let observed = |reasons| observe(&params, &config, &frames, special.pad, reasons, &mut |_| {}).unwrap();
        let (fast, both) = (observed(None), observed(Some(&reasons)));
        assert_eq!(fast.kernels(), both.kernels(), "what points stays wide");
        let (before, after) = (fast.seen(), both.seen());
        assert_eq!(before["trunk.stem"], after["trunk.stem"], "nothing is looked at twice");
        let (width, inner) = (config.language_width, config.feed_forward);
        for (place, width) in [
            ("language.layers.0.self_attn.q_proj", width),
            ("language.layers.1.mlp.down_proj", inner),
            ("language.embed_tokens", width),
        ] {
            let (before, after) = (&before[place], &after[place]);
            // The shortest answer has no thought and refuses: four tokens.
            assert!(after.values >= before.values + (thoughts(&frames) * 4 * width) as u64, "{place}");
            assert!(after.max >= before.max && after.min <= before.min, "{place}");
        }
    }
}

/// What would break: a pass that watches other numbers than those that are decoded.
#[test]
fn an_answer_is_read_as_it_was_written() {
    for config in configs() {
        let (tokenizer, params, observer) = (words(&config), Params::new(&Device::Cpu, 3), Observer::default());
        let reasons = Reasons::of(&tokenizer);
        let watch = Watch { observer: &observer, params: &params, config: &config, reasons: &reasons };
        let frame = frames(&config, tokenizer.special()).remove(0);
        let seen = look(&params, &config, &frame);
        let things = propose::things(&config, &seen, &propose::found(&seen, &config).unwrap()).unwrap();
        assert_eq!(things.is_some(), config.things, "an untrained model finds something everywhere");
        let before = Before { tokens: &seen.tokens, things: things.as_ref() };
        let asked = prompt(&frame.questions[0], &reasons.ids);
        let written = watch.written(&before, &asked).unwrap();
        let ids = [asked.as_slice(), written.as_slice()].concat();
        let chosen = (asked.len() - 1..ids.len() - 1).map(|row| row as u32).collect();
        let said = watch.pass(&before, &ids, chosen, &observer).unwrap();
        let logits: Vec<Vec<f32>> = said.logits.squeeze(0).unwrap().to_vec2().unwrap();
        let mut grammar = reasons.grammar;
        for (row, &id) in logits.iter().zip(&written) {
            let allowed = (0_u32..).zip(row).filter(|(id, _)| grammar.allows(*id));
            let best = allowed.map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max);
            assert!(row[id as usize] > best - 1e-3, "token {id} is {} below the likeliest", best - row[id as usize]);
            grammar.push(id).unwrap();
        }
        assert!(grammar.finished(), "every token was held against its logits");
    }
}

#[test]
fn states_are_those_of_seg_and_what_they_draw_is_watched() {
    let config = Config::tiny();
    let (tokenizer, params, observer) = (words(&config), Params::new(&Device::Cpu, 3), Observer::default());
    let (reasons, special) = (Reasons::of(&tokenizer), tokenizer.special());
    let watch = Watch { observer: &observer, params: &params, config: &config, reasons: &reasons };
    let frame = frames(&config, special).remove(0);
    let seen = look(&params, &config, &frame);
    let before = Before { tokens: &seen.tokens, things: None };
    let asked = prompt(&frame.questions[0], &reasons.ids);
    let width = config.language_width;

    let refused = [special.think_end, special.answer, special.none[0], special.answer_end];
    assert!(watch.read(&before, &asked, &refused).unwrap().is_none());
    assert_eq!((rows(&observer, "language.embed_tokens", width), rows(&observer, "seg.in", width)), (4, 0));

    let mut written = vec![300, special.think_end, special.answer];
    for bin in [3, 20] {
        written.push(special.bounding_box);
        written.extend([bin, 4, 40, 41].map(|bin| special.first_location + bin));
        written.push(special.seg);
    }
    written.push(special.answer_end);
    let states = watch.read(&before, &asked, &written).unwrap().unwrap();
    assert_eq!(states.dims(), [2, 1, config.mask_width]);
    assert_eq!(rows(&observer, "language.embed_tokens", width), 4 + written.len());
    assert_eq!(rows(&observer, "seg.in", width), 2, "rows that are no [SEG] prompt nothing");

    assert!(observer.seen().keys().all(|place| !place.starts_with("mask.")));
    watch.drawn(&seen, &propose::found(&seen, &config).unwrap(), &states).unwrap();
    assert!(observer.seen().keys().any(|place| place.starts_with("mask.")));
}
