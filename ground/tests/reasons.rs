//! Answers with reasons: what flies writes what candle writes, and a bundle without the graph says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};
use kestrel_link::Query;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::{Choice, Config, Seen, vision};
use kestrel_models::tokenizer::{self, QueryTokenizer};
use kestrel_models::weights::{Weights, checkpoint};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::{EngineChoice, EngineError, EngineOptions, Provider};
use kestrel_onboard::pipeline::{Look, SegmentError, Segmenter, SegmenterOptions, Written};
use kestrel_onboard::released::RELEASED;
use kestrel_perception::{Grammar, Limits, layout, prompt};
use kestrel_training::benchmark;
use kestrel_training::expressions::corpus;
use kestrel_training::expressions::meaning::Facts;
use kestrel_training::metrics::Kind;
use kestrel_training::reasoning::{Asked, judge, reasoned_ids};
use kestrel_training::sample::{Ask, Sample};
use kestrel_training::sft::example::{Maker, special};
use kestrel_training::sft::explain::{Model, explain};
use kestrel_training::sft::propose;
use kestrel_training::sft::{self, Recipe, TOKENIZER};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const QUESTIONS: usize = 2;
const SEED: u64 = 5;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model that nobody taught, whose words are as loud as its image tokens: otherwise neither picture nor question would
/// change what it writes. Rounded as the graphs store it.
fn weights(config: &Config) -> Weights {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32 * 0.2 - 0.1
    };
    let mut loud = Weights::new();
    for (name, (shape, data)) in Weights::from_params(&sft::untrained(config, 0).unwrap()).unwrap() {
        let data = match name.starts_with("language.") {
            true => data.iter().map(|value| value + noise()).collect(),
            false => data,
        };
        loud.insert(name, shape, data).unwrap();
    }
    loud.round_f16().unwrap();
    loud
}

/// The bundle of a checkpoint, by the command that makes it.
fn exported(dir: &Path, config: &Config, weights: &Weights, tokenizer: &QueryTokenizer) -> Bundle {
    let (checkpoint, out) = (dir.join("model.safetensors"), dir.join("bundle"));
    let metadata = [("config".to_owned(), serde_json::to_string(config).unwrap())];
    checkpoint::save(&checkpoint, weights, &metadata.into()).unwrap();
    tokenizer.save(&dir.join(TOKENIZER)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    let output = command.args(["export", text(&checkpoint), "--explain", "--out", text(&out)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Bundle::open(&out).unwrap()
}

fn flown(look: &mut Look<'_>, ask: &Ask, limits: Limits) -> (Kind, Written) {
    let query = Query { hint: ask.hint, ..Query::new("reasons", &ask.text) };
    let fast = look.ask(&query).unwrap().whole.unwrap().observation.answers.likeliest();
    let explanation = look.explain(&query, limits, &mut |_, _| true).unwrap();
    (Kind::ANSWERS[fast], explanation.written.unwrap())
}

/// The tokens that candle writes.
fn written(model: &Model<'_>, seen: &Seen<Tensor>, ask: &Ask, grammar: Grammar) -> Vec<u32> {
    let things = propose::things(model.config, seen, &propose::found(seen, model.config).unwrap()).unwrap();
    assert_eq!(things.is_some(), model.config.things);
    let words: Vec<u32> = model.tokenizer.encode(&ask.text).unwrap().into_iter().map(|(id, _)| id).collect();
    let laid = layout(&words, ask.hint.as_ref(), &special(model.tokenizer), model.config.max_tokens);
    let request: Vec<u32> = laid.ids[..laid.used()].iter().map(|&id| id as u32).collect();
    let ids = prompt(&request, &reasoned_ids(model.tokenizer));
    let asked = Prompt { tokens: &seen.tokens, things: things.as_ref(), ids: &ids };
    let seg = model.tokenizer.special().seg;
    let sampling = Sampling { choice: Choice::Greedy, most: model.limits.tokens, seg };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    generate(model.params, model.config, &asked, &mut [grammar], sampling, &mut rng).unwrap().remove(0).ids
}

/// What candle sees in a sample.
fn seen(params: &Params, config: &Config, tokenizer: &QueryTokenizer, sample: &Sample) -> Seen<Tensor> {
    let recipe: Recipe = toml::from_str(include_str!("../../training/recipes/smoke.toml")).unwrap();
    let pixels = Maker::new(config, &recipe.phases[2], tokenizer).all(sample).unwrap().pixels;
    let image = Tensor::from_slice(&pixels, (1, config.image, config.image, 3), &Device::Cpu).unwrap();
    vision(&mut Candle::evaluating(params), config, &image).unwrap()
}

/// What would break: a model that says one thing where it is trained and another where it flies.
#[test]
fn every_engine_writes_what_candle_writes() {
    writes_alike(&Config::kestrel_s(), &[EngineChoice::Tract, EngineChoice::Ort(Provider::Cpu)]);
}

/// What would break: a model that is told of other things, or of things in another order, where it flies.
#[test]
fn a_model_that_is_told_of_things_hears_of_the_same_where_it_flies() {
    writes_alike(&Config { things: true, ..Config::kestrel_s() }, &[EngineChoice::Tract]);
}

fn writes_alike(config: &Config, engines: &[EngineChoice]) {
    let dir = tempfile::tempdir().unwrap();
    let weights = weights(config);
    let tokenizer = tokenizer::train(corpus(1, 300), config.vocabulary).unwrap();
    let bundle = exported(dir.path(), config, &weights, &tokenizer);
    let params = weights.to_params(&Device::Cpu).unwrap();
    let limits = Limits::roomy(24, 2);
    let model = Model { params: &params, config, tokenizer: &tokenizer, limits };
    let sample = benchmark::set("scenes-tune", 0, Some(1), None).unwrap().next().unwrap().unwrap();
    let seen = seen(&params, config, &tokenizer, &sample);
    let expected = explain(&model, &sample, &seen, QUESTIONS, SEED).unwrap();
    assert_eq!(expected.len(), QUESTIONS);
    assert!(expected.iter().all(|answer| answer.given.is_some()), "{expected:?}");

    let facts = Facts::of(&sample.picture);
    let asked = Asked::of(&sample, &facts, QUESTIONS, SEED);
    for &choice in engines {
        let engine = EngineOptions { fetch: false, ..EngineOptions::of(choice) };
        let options = SegmenterOptions { explain: true, gate: None, ..SegmenterOptions::default() };
        let mut segmenter = match Segmenter::open(&bundle, &engine, options) {
            Ok(segmenter) => segmenter,
            Err(SegmentError::Engine(error @ EngineError::NoLibrary { .. })) => {
                eprintln!("SKIPPED {choice}: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let mut look = segmenter.look_still(&sample.picture.image).unwrap();
        for (question, expected) in asked.questions().zip(&expected) {
            let (fast, flew) = flown(&mut look, question.ask, limits);
            assert_eq!(flew.ids, written(&model, &seen, question.ask, flew.grammar), "{choice}: {}", question.ask.text);
            let judged = judge(&tokenizer, &question, &flew.ids, &flew.grammar, fast).unwrap();
            assert_eq!(&judged, expected, "{choice}");
        }
    }
}

#[test]
fn a_bundle_without_the_graph_is_one_clear_error() {
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(RELEASED);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    let output = command.args(["eval", "--reasoned", "1", "--bundle", text(&released)]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !error.contains("panicked"), "{error}");
    assert!(error.contains("explain.onnx") && error.contains("hint: ") && error.contains("--explain"), "{error}");
}
