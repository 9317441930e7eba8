//! Chains of reasons: laid out for training as they are decoded, taught, and then written by the model itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::generate::{Constraint, Prompt, Sampling, generate};
use kestrel_models::kestrel::{Choice, Config, Seen, location_codes, vision};
use kestrel_models::tokenizer::{self, FIRST_LOCATION, LOCATIONS, QueryTokenizer};
use kestrel_training::cache::{Kind, Sources, Spec, make};
use kestrel_training::expressions::corpus;
use kestrel_training::grpo;
use kestrel_training::sample::Sample;
use kestrel_training::sft::chain::{Before, Laid};
use kestrel_training::sft::example::{Chain, Example, Maker};
use kestrel_training::sft::explain::{Model, explain};
use kestrel_training::sft::measured::{Chains, Times};
use kestrel_training::sft::pass::{Setup, pass};
use kestrel_training::sft::propose;
use kestrel_training::sft::recipe::Weights;
use kestrel_training::sft::{Options, Phase, Recipe, checkpoint, locate, train, untrained};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn recipe() -> Recipe {
    toml::from_str(include_str!("../recipes/smoke.toml")).unwrap()
}

/// The same of a model that is told of what stands out.
fn told() -> Recipe {
    let mut recipe = recipe();
    recipe.model = Config { language_width: 128, things: true, ..recipe.model };
    recipe
}

fn taught(recipe: &Recipe) -> Phase {
    Phase { queries: 16, masks: 4, chains: 4, thought_tokens: 240, ..recipe.phases[2].clone() }
}

fn words(config: &Config) -> QueryTokenizer {
    tokenizer::train(corpus(1, 300), config.vocabulary).unwrap()
}

/// Rendered scenes, clear or degraded.
fn scenes(degraded_share: f32, seeds: std::ops::Range<u64>) -> Vec<Sample> {
    let spec = Spec { degraded_share, later_share: 0.0, ..recipe().data };
    let sources = Sources::open(&spec, None).unwrap();
    seeds.map(|seed| make(&spec, &sources, Kind::Scene, seed).unwrap()).collect()
}

/// A scene with several chains, one of which shows something.
fn example(maker: &mut Maker<'_>) -> Example {
    let fits = |e: &Example| e.reasons.chains.len() > 2 && e.reasons.chains.iter().any(|c| !c.shown.is_empty());
    scenes(0.0, 0..20).iter().map(|s| maker.draw(s, 5).unwrap()).find(fits).expect("a scene with chains")
}

fn look(params: &Params, config: &Config, pixels: &[f32]) -> Seen<Tensor> {
    let side = config.image;
    let image = Tensor::from_slice(pixels, (1, side, side, 3), &Device::Cpu).unwrap();
    vision(&mut Candle::evaluating(params), config, &image).unwrap()
}

/// Writes what it is told, and keeps the logits that each token was chosen from.
struct Dictated<'a> {
    ids: &'a [u32],
    at: usize,
    heard: RefCell<Vec<Vec<f32>>>,
}

impl Constraint for Dictated<'_> {
    fn restrict(&self, logits: &mut [f32]) {
        self.heard.borrow_mut().push(logits.to_vec());
        let next = self.ids[self.at] as usize;
        logits.iter_mut().enumerate().filter(|(id, _)| *id != next).for_each(|(_, z)| *z = f32::NEG_INFINITY);
    }

    fn push(&mut self, id: u32) {
        assert_eq!(id, self.ids[self.at]);
        self.at += 1;
    }

    fn finished(&self) -> bool {
        self.at == self.ids.len()
    }
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
}

/// What would break: training on a layout that no answer is ever decoded in.
#[test]
fn a_chain_is_taught_by_the_logits_that_it_is_decoded_with() {
    decodes_as_taught(&recipe());
}

#[test]
fn so_is_one_behind_things() {
    decodes_as_taught(&told());
}

fn decodes_as_taught(recipe: &Recipe) {
    let phase = taught(recipe);
    let config = recipe.model_of(&phase);
    let tokenizer = words(&config);
    let params = untrained(&recipe.model, 5).unwrap();
    let example = example(&mut Maker::new(&config, &phase, &tokenizer));
    let seen = look(&params, &config, &example.pixels);
    let (chains, special) = (&example.reasons.chains, tokenizer.special());

    let picked = propose::found(&seen, &config).unwrap();
    let things = propose::things(&config, &seen, &picked).unwrap();
    assert_eq!(things.is_some(), config.things, "an untrained model finds something everywhere");
    let before = Before { tokens: &seen.tokens, things: things.as_ref() };
    let laid = Laid::of(chains, &config, &before, special.seg, special.pad).unwrap();
    let said = laid.say(&mut Candle::evaluating(&params), &config, &before).unwrap();
    let logits: Vec<f32> = said.logits.flatten_all().unwrap().to_vec1().unwrap();
    let states: Vec<Vec<f32>> = laid.states(&said).unwrap().squeeze(0).unwrap().to_vec2().unwrap();

    let (mut open, mut shown) = (laid.open.iter().peekable(), states.iter());
    for (number, Chain { ids, prompt, grammar, .. }) in chains.iter().enumerate() {
        let (prompt, written) = ids.split_at(*prompt);
        assert_eq!(prompt.last(), Some(&special.think));
        let mut dictated = [Dictated { ids: written, at: 0, heard: RefCell::default() }];
        let sampling = Sampling { choice: Choice::Greedy, most: written.len(), seg: special.seg };
        let prompt = Prompt { tokens: &seen.tokens, things: things.as_ref(), ids: prompt };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let told = generate(&params, &config, &prompt, &mut dictated, sampling, &mut rng).unwrap();
        let mut grammar = *grammar;
        for (id, heard) in written.iter().zip(dictated[0].heard.borrow().iter()) {
            let choices = (0..config.vocabulary as u32).filter(|id| grammar.allows(*id)).count();
            if let Some(next) = open.next_if(|_| choices > 1) {
                assert_eq!((next.chain, next.id, next.grammar), (number, *id, grammar));
                assert!(near(next.logits(&logits, config.vocabulary), heard), "chain {number}");
            }
            grammar.push(*id).unwrap();
        }
        assert!(grammar.finished());
        for seg in &told[0].segs {
            assert!(near(shown.next().unwrap(), seg), "a state of chain {number}");
        }
    }
    assert!(open.next().is_none() && shown.next().is_none());
}

const MOVED: [&str; 8] = [
    "language.embed_tokens.weight",
    "language.layers.0.self_attn.v_proj.weight",
    "language.layers.0.mlp.down_proj.weight",
    "projector.in.weight",
    "seg.out.weight",
    "mask.likeness.seg_fine.weight",
    "compare.choice.weight",
    "mask.prompt.weight",
];

#[test]
fn what_chains_teach_is_the_derivative_of_their_loss() {
    teaches_the_derivative(&recipe(), &Weights::default(), &MOVED);
}

#[test]
fn so_is_what_they_teach_of_things_and_near_misses() {
    let weights = Weights { location: 2.0, location_spread: 1.0, ..Weights::default() };
    let moved = [
        "language.embed_tokens.weight",
        "language.things.plain.weight",
        "language.things.in.weight",
        "language.things.out.weight",
        "language.things.norm.weight",
        "language.point.key.weight",
        "language.point.place.weight",
        "language.point.query.weight",
        "language.point.edge.weight",
    ];
    teaches_the_derivative(&told(), &weights, &moved);
}

/// What would break: a look that is taught by another slope than that of its loss, or at nothing at all.
#[test]
fn so_is_where_they_are_taught_to_look() {
    let mut recipe = told();
    // With the labels' help what is written is among what was told.
    recipe.phases[2].teacher_forcing = 1.0;
    let moved = ["language.point.key.weight", "language.point.place.weight", "language.point.query.weight"];
    let chains = teaches_the_derivative(&recipe, &Weights { aim: 4.0, ..Weights::default() }, &moved);
    assert!(chains.aims <= chains.taught && chains.aimed <= chains.aims, "{chains:?}");
    // What looking costs is beside what the tokens cost.
    let plain = teaches_the_derivative(&recipe, &Weights::default(), &[]);
    assert!(plain.aims == 0.0 && plain.aimed == 0.0, "{plain:?}");
}

/// What was measured of an example's chains, of which with `aim` at least one is about a thing that was told.
fn teaches_the_derivative(recipe: &Recipe, weights: &Weights, moved: &[&str]) -> Chains {
    let phase = taught(recipe);
    let config = recipe.model_of(&phase);
    let tokenizer = words(&config);
    let params = untrained(&recipe.model, 5).unwrap();
    // Predicted IoU has a target that jumps; everything but chains is taught elsewhere and weighs little here.
    let little = Weights { answer: 0.01, doubt: 0.01, auxiliary: 0.01, anchor: 0.01, ..weights.clone() };
    let weights = Weights { proposals: 0.01, reading: 0.01, iou: 0.0, chain: 2.0, ..little };
    let special = tokenizer.special();
    let setup =
        Setup { params: &params, config: &config, weights: &weights, answers: special.answers(), pad: special.pad };
    let mut maker = Maker::new(&config, &phase, &tokenizer);
    let aims = |e: &Example| {
        let some = e.reasons.chains.iter().any(|chain| !chain.shown.is_empty());
        some && pass(&setup, e, 3, &mut Times::default()).unwrap().1.chains.aims > 0.0
    };
    let example = match weights.aim > 0.0 {
        true => scenes(0.0, 0..20).iter().map(|s| maker.draw(s, 5).unwrap()).find(aims).expect("a thing that was told"),
        false => example(&mut maker),
    };
    let run = || pass(&setup, &example, 3, &mut Times::default()).unwrap();
    let (grads, values) = run();
    let chains = values.chains;
    assert_eq!(chains.taught as usize, example.reasons.chains.len());
    assert!(chains.nats > 1.0 && (0.0..=1.0).contains(&(chains.near / chains.taught)), "{chains:?}");
    assert!(chains.loss > 1.0 && chains.shown > 0.0 && chains.loss + chains.shown < values.total, "{values:?}");
    let vars: HashMap<_, _> = params.vars().into_iter().collect();
    for &name in moved {
        let grad: Vec<f32> = grads.get(vars[name].as_tensor()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let norm = grad.iter().map(|g| g * g).sum::<f32>().sqrt();
        let original = params.tensors()[name].copy().unwrap();
        let loss = |step: f32| {
            let moved: Vec<f32> = grad.iter().map(|g| step * g / norm).collect();
            let moved = Tensor::from_vec(moved, original.dims(), &Device::Cpu).unwrap();
            params.insert(name, &(&original + moved).unwrap()).unwrap();
            f64::from(run().1.total)
        };
        let step = (0.05 / norm).clamp(1e-6, 4e-3);
        let slope = ((loss(step) - loss(-step)) / f64::from(2.0 * step)) as f32;
        params.insert(name, &original).unwrap();
        assert!((slope - norm).abs() < 0.08 * norm + 2e-3, "{name}: differences give {slope}, the gradient {norm}");
    }
    chains
}

/// What would break: a reasoned answer whose `[SEG]` shows less than the fast answer to the same question.
#[test]
fn states_of_reasoned_answers_are_drawn_to_those_of_fast_ones() {
    let recipe = told();
    let phase = taught(&recipe);
    let config = recipe.model_of(&phase);
    let tokenizer = words(&config);
    let params = untrained(&recipe.model, 5).unwrap();
    let mut maker = Maker::new(&config, &phase, &tokenizer);
    let alone = |e: &Example| e.reasons.chains.iter().any(|chain| chain.shown.len() == 1);
    let example = scenes(0.0, 0..20).iter().map(|s| maker.draw(s, 5).unwrap()).find(alone).expect("one thing is shown");
    assert_eq!(example.reasons.about.len(), example.reasons.chains.len());
    let special = tokenizer.special();
    let run = |weights: &Weights| {
        let (answers, pad) = (special.answers(), special.pad);
        let setup = Setup { params: &params, config: &config, weights, answers, pad };
        pass(&setup, &example, 3, &mut Times::default()).unwrap().1
    };
    let plain = Weights { chain: 1.0, ..Weights::default() };
    let (without, with) = (run(&plain), run(&Weights { agreement: 3.0, ..plain.clone() }));
    assert!(without.chains.apart == 0.0 && with.chains.apart > 0.0, "{with:?}");
    assert!((with.total - without.total - with.chains.apart).abs() < 1e-3 * with.total, "{with:?}");
    assert_eq!((with.chains.loss, with.chains.shown), (without.chains.loss, without.chains.shown));
}

/// What would break: locations that begin as anything but places, or words that change with them.
#[test]
fn locations_begin_as_places_and_words_stay() {
    let recipe = recipe();
    let params = untrained(&recipe.model, 5).unwrap();
    let width = recipe.model.language_width;
    let name = "language.embed_tokens.weight";
    let values = |name: &str| params.tensors()[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let before = values(name);
    locate(&params, &recipe.model).unwrap();
    let after = values(name);
    let locations = FIRST_LOCATION as usize * width..(FIRST_LOCATION + LOCATIONS) as usize * width;
    let size = (before[locations.clone()].iter().map(|v| v * v).sum::<f32>() / locations.len() as f32).sqrt();
    assert_eq!(after[locations.clone()], location_codes(&values("projector.place.weight"), width, size));
    assert_eq!(after[..locations.start], before[..locations.start]);
    assert_eq!(after[locations.end..], before[locations.end..]);
    let tiny = Params::new(&Device::Cpu, 1);
    assert!(locate(&tiny, &recipe.model).unwrap_err().to_string().contains("embed_tokens"));
}

/// What would break: results of recipes that were made before there were chains.
#[test]
fn chains_change_nothing_else_about_an_example() {
    let recipe = recipe();
    let (with, without) = (taught(&recipe), Phase { chains: 0, ..taught(&recipe) });
    let config = recipe.model_of(&with);
    let tokenizer = words(&config);
    let mut chains = 0;
    for sample in scenes(0.5, 0..6) {
        let draw = |phase: &Phase| Maker::new(&config, phase, &tokenizer).draw(&sample, 7).unwrap();
        let (a, b) = (draw(&with), draw(&without));
        let ids = |e: &Example| e.questions.iter().map(|q| q.ids.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&a), a.masks, a.given, &a.pixels), (ids(&b), b.masks, b.given, &b.pixels));
        assert!(b.reasons.chains.is_empty() && a.reasons.chains.len() <= with.chains);
        chains += a.reasons.chains.len();
    }
    assert!(chains > 6, "{chains}");
    // Too long a chain is left out and counted.
    let short = Phase { thought_tokens: 8, ..with.clone() };
    let mut maker = Maker::new(&config, &short, &tokenizer);
    let drawn: Vec<Example> = scenes(0.0, 0..4).iter().map(|s| maker.draw(s, 7).unwrap()).collect();
    assert!(drawn.iter().map(|e| e.reasons.long).sum::<usize>() > 8);
    assert!(drawn.iter().flat_map(|e| &e.reasons.chains).all(|c| c.ids.len() - c.prompt <= 8 + 3 + 6 * 6));
}

#[test]
fn a_few_steps_teach_chains_and_the_model_writes_its_own() {
    let runs = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    recipe.data.scenes = 2;
    recipe.checkpoint_steps = 1000;
    recipe.loss.chain = 4.0;
    let phase = Phase { steps: 40, warm_up_steps: 2, learning_rate: 4e-3, final_share: 0.5, ..taught(&recipe) };
    recipe.phases = vec![phase];
    (recipe.evaluate_steps, recipe.evaluate_pictures, recipe.evaluate_chains) = (40, 2, 3);
    recipe.evaluate_sets = vec!["scenes-tune".into()];
    let options = Options { runs: runs.path().to_path_buf(), ..Options::default() };
    let done = train(&recipe, &options, &|_| ControlFlow::Continue(())).unwrap();

    let text = std::fs::read_to_string(done.folder.join("log.jsonl")).unwrap();
    let log: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let chains = |key: &str| log.iter().map(|e| e["values"]["chains"][key].as_f64().unwrap()).collect::<Vec<_>>();
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    // A picture that keeps its stored questions has no chains and no loss.
    let loss: Vec<f64> = chains("loss").iter().zip(chains("taught")).map(|(loss, n)| loss / n.max(1.0)).collect();
    let right = chains("right");
    assert!(mean(&loss[32..]) < 0.9 * mean(&loss[..8]), "{loss:?}");
    assert!(mean(&right[32..]) > mean(&right[..8]), "{right:?}");

    // The end's evaluation judges reasoned answers beside the fast ones.
    let reasoned = &log.last().unwrap()["evaluation"]["reasoned"];
    for figure in ["completed", "confirmed", "agreement"] {
        assert_eq!(reasoned[figure]["n"].as_u64(), Some(6), "{figure}: {reasoned}");
    }
    assert!(reasoned["accuracy_50"]["n"].as_u64() > Some(0), "{reasoned}");

    let start = grpo::load(&done.folder, checkpoint::MODEL).unwrap();
    let phase = &recipe.phases[0];
    let config = recipe.model_of(phase);
    let mut maker = Maker::new(&config, phase, &start.tokenizer);
    let model = Model { params: &start.params, config: &config, tokenizer: &start.tokenizer, limits: phase.limits() };
    let sample = &scenes(0.0, 0..1)[0];
    let seen = look(&start.params, &config, &maker.all(sample).unwrap().pixels);
    let answers = explain(&model, sample, &seen, 4, 1).unwrap();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|a| a.given.is_some() && a.confirmed.is_some()), "{answers:?}");
    assert_eq!(answers, explain(&model, sample, &seen, 4, 1).unwrap(), "greed draws nothing");
}
