//! Tasks with answers in words: a whole run that teaches one after the other, and what the model then writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::generate::{Prompt, Sampling, generate};
use kestrel_models::kestrel::{Choice, Config, Seen, vision};
use kestrel_models::tokenizer;
use kestrel_training::cache::{Kind, Sources, Spec, make};
use kestrel_training::expressions::corpus;
use kestrel_training::grpo;
use kestrel_training::rewards::TaskKind;
use kestrel_training::sample::Sample;
use kestrel_training::sft::example::{Example, Maker};
use kestrel_training::sft::explain::Model;
use kestrel_training::sft::perform::{Plan, perform};
use kestrel_training::sft::{Options, Phase, Recipe, checkpoint, train, untrained};
use kestrel_training::tasks::{TAUGHT, TextGrammar, TextLimits, parse, spoken};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn recipe() -> Recipe {
    toml::from_str(include_str!("../recipes/smoke-tasks.toml")).unwrap()
}

/// Rendered scenes, clear or degraded.
fn scenes(degraded_share: f32, seeds: std::ops::Range<u64>) -> Vec<Sample> {
    let spec = Spec { degraded_share, ..recipe().data };
    let sources = Sources::open(&spec, None).unwrap();
    seeds.map(|seed| make(&spec, &sources, Kind::Scene, seed).unwrap()).collect()
}

fn look(params: &Params, config: &Config, pixels: &[f32]) -> Seen<Tensor> {
    let side = config.image;
    let image = Tensor::from_slice(pixels, (1, side, side, 3), &Device::Cpu).unwrap();
    vision(&mut Candle::evaluating(params), config, &image).unwrap()
}

#[test]
fn tasks_are_taught_one_after_the_other_and_judged_beside_a_constant_answer() {
    let runs = tempfile::tempdir().unwrap();
    let recipe = recipe();
    let options = Options { runs: runs.path().to_path_buf(), ..Options::default() };
    let done = train(&recipe, &options, &|_| ControlFlow::Continue(())).unwrap();
    assert!(done.finished);

    let text = std::fs::read_to_string(done.folder.join("log.jsonl")).unwrap();
    let log: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(log.len(), recipe.steps());
    assert!(log.iter().all(|entry| entry["values"]["total"].as_f64().is_some_and(f64::is_finite)), "{text}");
    for entry in &log[..2] {
        let tasks = &entry["values"]["tasks"];
        let place = &tasks["classification"];
        assert_eq!(place["taught"].as_f64().unwrap() + place["long"].as_f64().unwrap(), 1.0, "{tasks}");
        assert!(place["loss"].as_f64().unwrap() > 0.0 && place["right"].as_f64().unwrap() <= 1.0, "{tasks}");
        assert!(tasks.get("multi_label").is_none() && tasks.get("grounding_description").is_none(), "{tasks}");
    }
    for kind in [TaskKind::MultiLabel, TaskKind::GroundingDescription] {
        let of = |entry: &serde_json::Value| entry["values"]["tasks"][kind.name()]["loss"].as_f64().unwrap_or_default();
        assert!(log[2..].iter().any(|entry| of(entry) > 0.0), "{}: {text}", kind.name());
    }

    let judged = &log.last().unwrap()["evaluation"]["tasks"]["classification"];
    for figure in ["reward", "constant", "gain", "completed", "tokens"] {
        assert_eq!(judged[figure]["n"].as_u64(), Some(2), "{figure}: {judged}");
    }

    let start = grpo::load(&done.folder, checkpoint::MODEL).unwrap();
    let phase = &recipe.phases[1];
    let config = recipe.model_of(phase);
    let mut maker = Maker::new(&config, phase, &start.tokenizer);
    let model = Model { params: &start.params, config: &config, tokenizer: &start.tokenizer, limits: phase.limits() };
    let plan = Plan { kinds: BTreeSet::from(TAUGHT), count: 2, constants: BTreeMap::new() };
    let sample = &scenes(0.0, 0..1)[0];
    let seen = look(&start.params, &config, &maker.all(sample).unwrap().pixels);
    let answers = perform(&model, sample, &seen, &plan, 1).unwrap();
    assert!(answers.iter().filter(|answer| answer.kind == TaskKind::Classification).count() == 2, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.reward.is_some_and(|reward| (0.0..=1.0).contains(&reward))));
    assert_eq!(answers, perform(&model, sample, &seen, &plan, 1).unwrap(), "greed draws nothing");
    let degraded = &scenes(1.0, 0..1)[0];
    assert!(perform(&model, degraded, &seen, &plan, 1).unwrap().is_empty());
}

/// What would break: answers that nobody can read, or that never end.
#[test]
fn whatever_is_sampled_is_an_answer() {
    let recipe = recipe();
    let phase = &recipe.phases[1];
    let config = recipe.model_of(phase);
    let tokenizer = tokenizer::train(corpus(1, 300), config.vocabulary).unwrap();
    let params = untrained(&recipe.model, 5).unwrap();
    let example = Maker::new(&config, phase, &tokenizer).all(&scenes(0.0, 0..1)[0]).unwrap();
    let seen = look(&params, &config, &example.pixels);
    let special = tokenizer.special();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for kind in TAUGHT {
        let limits = TextLimits::of(kind);
        let grammar = TextGrammar::new(&tokenizer, limits);
        let choice = Choice::Sampled { temperature: 1.0 };
        let sampling = Sampling { choice, most: limits.most(), seg: special.seg };
        let prompt = Prompt { tokens: &seen.tokens, things: None, ids: &[80, 81, special.answer] };
        let drawn = generate(&params, &config, &prompt, &mut [grammar; 4], sampling, &mut rng).unwrap();
        assert_eq!(drawn.len(), 4);
        for rollout in drawn {
            let said = parse(&rollout.ids, &grammar).unwrap();
            let text = spoken(said, &tokenizer).unwrap();
            assert!(text.starts_with("<think></think><answer>") && text.ends_with("</answer>"), "{text}");
        }
    }
}

/// What would break: results of recipes that were made before there were tasks.
#[test]
fn tasks_change_nothing_else_about_an_example() {
    let recipe = recipe();
    let with = Phase { tasks: TAUGHT.map(|kind| (kind, 2.0)).into(), ..recipe.phases[1].clone() };
    let without = Phase { tasks: BTreeMap::new(), ..with.clone() };
    let config = recipe.model_of(&with);
    let tokenizer = tokenizer::train(corpus(1, 300), config.vocabulary).unwrap();
    let mut places = 0;
    for sample in scenes(0.5, 0..8) {
        let draw = |phase: &Phase| Maker::new(&config, phase, &tokenizer).draw(&sample, 7).unwrap();
        let (a, b) = (draw(&with), draw(&without));
        let ids = |e: &Example| e.questions.iter().map(|q| q.ids.clone()).collect::<Vec<_>>();
        let chains = |e: &Example| e.reasons.chains.iter().map(|c| c.ids.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&a), chains(&a), a.masks, &a.pixels), (ids(&b), chains(&b), b.masks, &b.pixels));
        assert!(b.tasks.is_empty() && (a.tasks.is_empty() || sample.degradation.is_none()));
        for (kind, answer) in a.tasks.kinds.iter().zip(&a.tasks.answers) {
            let (prompt, written) = answer.ids.split_at(answer.prompt);
            assert_eq!(prompt.last(), Some(&tokenizer.special().answer));
            assert!(!prompt.contains(&tokenizer.special().seg) && prompt.len() < config.max_tokens);
            parse(written, &answer.grammar).unwrap();
            places += usize::from(*kind == TaskKind::Classification);
        }
    }
    assert!(places >= 2, "{places}");
}
