//! One step of a tiny model: every parameter is taught, and what it is taught is the derivative of the loss.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use kestrel_models::candle::Params;
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::{self, QueryTokenizer};
use kestrel_training::cache::{Kind, Sources, Spec, make};
use kestrel_training::expressions::corpus;
use kestrel_training::sample::Sample;
use kestrel_training::sft::example::{Example, Maker};
use kestrel_training::sft::measured::{Times, Values};
use kestrel_training::sft::pass::{Setup, pass};
use kestrel_training::sft::recipe::Weights;
use kestrel_training::sft::{Phase, Recipe, reading, untrained};

const REQUESTS: u64 = 12;

struct Bench {
    config: Config,
    phase: Phase,
    tokenizer: QueryTokenizer,
    params: Params,
    weights: Weights,
}

impl Bench {
    fn new() -> Self {
        let recipe: Recipe = toml::from_str(include_str!("../recipes/smoke.toml")).unwrap();
        let phase = Phase { queries: 16, masks: 6, texts: 24, teacher_forcing: 1.0, ..recipe.phases[1].clone() };
        let config = recipe.model_of(&phase);
        let tokenizer = tokenizer::train(corpus(1, 300), config.vocabulary).unwrap();
        // Weak masks and predicted IoU have targets that jump; their gradients are held by tests of their own.
        let weights = Weights { iou: 0.0, ..Weights::default() };
        Self { params: untrained(&recipe.model, 5).unwrap(), config, phase, tokenizer, weights }
    }

    fn setup<'a>(&'a self, weights: &'a Weights) -> Setup<'a> {
        let special = self.tokenizer.special();
        Setup { params: &self.params, config: &self.config, weights, answers: special.answers(), pad: special.pad }
    }

    /// A scene with a later frame, asked something with a relation.
    fn example(&self, maker: &mut Maker<'_>) -> Example {
        let spec = Spec {
            scenes: 1,
            nwpu: 0,
            pasted: 0,
            kit: 0,
            auair: 0,
            buildings: 0,
            trees: 0,
            unlabelled: 0,
            ..Spec::default()
        };
        let spec = Spec { later_share: 1.0, degraded_share: 0.0, size: 256, ..spec };
        let sources = Sources::open(&spec, None).unwrap();
        let samples = (0..20).map(|seed| make(&spec, &sources, Kind::Scene, seed).unwrap());
        let drawn = |sample: Sample| (0..6).map(|s| maker.draw(&sample, s).unwrap()).find(|e| self.fits(e));
        samples.map(drawn).find_map(|e| e).expect("a scene with a relation, a mask and a later frame")
    }

    fn fits(&self, example: &Example) -> bool {
        let nonsense = example.questions.iter().any(|q| q.doubt.contains(&1.0));
        example.later.is_some() && nonsense && example.questions.iter().any(|q| q.anchor.is_some())
    }
}

fn store(grads: &GradStore, params: &Params, into: &mut HashMap<String, Vec<f32>>) {
    for (name, var) in params.vars() {
        if let Some(grad) = grads.get(var.as_tensor()) {
            let grad: Vec<f32> = grad.flatten_all().unwrap().to_vec1().unwrap();
            let sum = into.entry(name).or_insert_with(|| vec![0.0; grad.len()]);
            sum.iter_mut().zip(grad).for_each(|(s, g)| *s += g);
        }
    }
}

/// Both passes: the picture's and the requests'.
fn both(bench: &Bench, weights: &Weights, maker: &Maker<'_>, example: &Example) -> (Vec<GradStore>, Values) {
    let (setup, mut times) = (bench.setup(weights), Times::default());
    let (seen, mut values) = pass(&setup, example, REQUESTS, &mut times).unwrap();
    let (read, more) = reading::pass(&setup, maker, REQUESTS, &mut times).unwrap();
    values += more;
    (vec![seen, read], values)
}

#[test]
fn every_parameter_is_taught_the_derivative_of_the_loss() {
    let bench = Bench::new();
    let mut maker = Maker::new(&bench.config, &bench.phase, &bench.tokenizer);
    let example = bench.example(&mut maker);

    let all = Weights::default();
    let mut taught = HashMap::new();
    for grads in both(&bench, &all, &maker, &example).0 {
        store(&grads, &bench.params, &mut taught);
    }
    for (name, _) in bench.params.vars() {
        let grad = taught.get(&name).unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(grad.iter().all(|g| g.is_finite()), "{name} has a gradient that is no number");
        assert!(grad.iter().any(|g| *g != 0.0), "{name} has a gradient of zeros");
    }

    let mut grads = HashMap::new();
    for part in both(&bench, &bench.weights, &maker, &example).0 {
        store(&part, &bench.params, &mut grads);
    }
    let checked = [
        "trunk.blocks.9.project.weight",
        "neck.mix4.weight",
        "projector.in.weight",
        "language.embed_tokens.weight",
        "language.layers.0.self_attn.q_proj.weight",
        "language.layers.0.mlp.down_proj.weight",
        "seg.out.weight",
        "mask.likeness.image.weight",
        "mask.likeness.seg_fine.weight",
        "mask.prompt.weight",
        "mask.layers.0.token_to_image.v_proj.weight",
        "mask.up.mix4.weight",
        "mask.object.in.weight",
        "auxiliary.names_coarse.weight",
        "auxiliary.reading.weight",
        "mask.likeness.anchor.weight",
        "proposals.out.weight",
        "compare.wanted.weight",
        "compare.layers.0.q_proj.weight",
        "compare.pointer.weight",
        "compare.choice.weight",
        "compare.ranks.anchor.weight",
        "compare.ranks.learnt.weight",
        "mask.prompt_pointed.weight",
    ];
    for name in checked {
        let grad = &grads[name];
        let norm = grad.iter().map(|g| g * g).sum::<f32>().sqrt();
        // A copy: the tensor itself shares its storage with the parameter.
        let original = bench.params.tensors()[name].copy().unwrap();
        // Along the gradient itself the loss must rise by its norm.
        let loss = |step: f32| {
            let move_by: Vec<f32> = grad.iter().map(|g| step * g / norm).collect();
            let move_by = Tensor::from_vec(move_by, original.dims(), &Device::Cpu).unwrap();
            bench.params.insert(name, &(&original + move_by).unwrap()).unwrap();
            f64::from(both(&bench, &bench.weights, &maker, &example).1.total)
        };
        // So that the loss moves by a tenth: enough beside its rounding, too little for its curvature to matter.
        let step = (0.05 / norm).clamp(1e-6, 4e-3);
        let slope = ((loss(step) - loss(-step)) / f64::from(2.0 * step)) as f32;
        bench.params.insert(name, &original).unwrap();
        assert!((slope - norm).abs() < 0.08 * norm + 2e-3, "{name}: differences give {slope}, the gradient {norm}");
    }
}
