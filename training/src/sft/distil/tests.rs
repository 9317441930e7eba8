//! What lessons say, and what is learnt from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::backprop::GradStore;
use kestrel_models::tokenizer;

use super::*;
use crate::cache::{Kind, Sources, Spec, make};
use crate::expressions::corpus;
use crate::sample::Sample;
use crate::sft::example::{Example, Maker};
use crate::sft::measured::{Distilled, Times, Values};
use crate::sft::pass::{Setup, pass};
use crate::sft::recipe::Weights;
use crate::sft::{Phase, untrained};

const SEED: u64 = 3;

/// A student of the recipe's sizes, and what it is shown.
struct Bench {
    config: Config,
    phase: Phase,
    tokenizer: QueryTokenizer,
    params: Params,
}

impl Bench {
    fn new() -> Self {
        let recipe: Recipe = toml::from_str(include_str!("../../../recipes/smoke-distil.toml")).unwrap();
        let phase = Phase { queries: 16, masks: 4, chains: 4, teacher_forcing: 1.0, ..recipe.phases[0].clone() };
        let config = recipe.model_of(&phase);
        let tokenizer = tokenizer::train(corpus(1, 300), config.vocabulary).unwrap();
        Self { params: untrained(&recipe.model, 5).unwrap(), config, phase, tokenizer }
    }

    fn words(&self) -> ([u32; 5], u32) {
        (self.tokenizer.special().answers(), self.tokenizer.special().pad)
    }

    fn scenes(&self, degraded_share: f32, seeds: std::ops::Range<u64>) -> Vec<Sample> {
        let spec = Spec { scenes: 1, degraded_share, later_share: 0.0, size: 256, ..Spec::default() };
        let spec = Spec { nwpu: 0, pasted: 0, kit: 0, auair: 0, buildings: 0, trees: 0, unlabelled: 0, ..spec };
        let sources = Sources::open(&spec, None).unwrap();
        seeds.map(|seed| make(&spec, &sources, Kind::Scene, seed).unwrap()).collect()
    }

    fn draw(&self, sample: &Sample) -> Example {
        Maker::new(&self.config, &self.phase, &self.tokenizer).draw(sample, 5).unwrap()
    }

    /// A scene with chains, one of which shows one thing.
    fn example(&self) -> (Sample, Example) {
        let fits = |e: &Example| e.masks > 1 && e.reasons.chains.iter().any(|chain| chain.shown.len() == 1);
        let mut drawn = self.scenes(0.0, 0..20).into_iter().map(|sample| {
            let example = self.draw(&sample);
            (sample, example)
        });
        drawn.find(|(_, example)| fits(example)).expect("a scene with chains")
    }

    fn lesson(&self, teacher: &Teacher, distil: &Distil, sample: &Sample, example: &Example) -> Lesson {
        let tutor = Tutor::new(teacher, &self.params, distil, &self.phase, self.words());
        tutor.lesson(&mut tutor.glasses(), &self.config, (sample, None), example, SEED).unwrap()
    }

    /// Nothing but the lesson is learnt.
    fn learn(&self, example: &Example) -> (GradStore, Values) {
        let (answers, pad) = self.words();
        let weights = unweighted();
        let setup = Setup { params: &self.params, config: &self.config, weights: &weights, answers, pad };
        pass(&setup, example, SEED, &mut Times::default()).unwrap()
    }
}

fn unweighted() -> Weights {
    Weights {
        answer: 0.0,
        focal: 0.0,
        dice: 0.0,
        projection: 0.0,
        empty: 0.0,
        matching: 0.0,
        object: 0.0,
        iou: 0.0,
        doubt: 0.0,
        auxiliary: 0.0,
        anchor: 0.0,
        proposals: 0.0,
        pointing: 0.0,
        reading: 0.0,
        later: 0.0,
        chain: 0.0,
        ..Weights::default()
    }
}

/// A wider model with one more layer, at an input of its own.
fn wider() -> Teacher {
    let config = Config { language_layers: 2, heads: 4, kv_heads: 2, ..Config::tiny() };
    Teacher { params: Some(untrained(&config, 8).unwrap()), config, record: None }
}

fn itself(bench: &Bench) -> Teacher {
    Teacher { params: None, config: bench.config.clone(), record: None }
}

/// What would break: a student that is pulled away from a teacher that it equals.
#[test]
fn of_a_teacher_that_says_the_same_nothing_is_learnt() {
    let bench = Bench::new();
    let (sample, mut example) = bench.example();
    let weights = Terms { features: 0.0, reasoned: 0.0, ..Terms::default() };
    let distil = Distil { itself: true, weights, ..Distil::default() };
    example.lesson = Some(bench.lesson(&itself(&bench), &distil, &sample, &example));
    let (_, values) = bench.learn(&example);
    let Distilled { answer, chain, seg, mask, presence, .. } = values.distil;
    for (name, loss) in [("answer", answer), ("chain", chain), ("seg", seg), ("mask", mask), ("presence", presence)] {
        assert!((0.0..1e-3).contains(&loss), "{name}: {loss}");
    }
    // What it says with reasons is not what it says fast.
    let weights = Terms { reasoned: 1.0, ..Terms::NONE };
    example.lesson = Some(bench.lesson(&itself(&bench), &Distil { weights, ..distil }, &sample, &example));
    let (_, values) = bench.learn(&example);
    assert!(values.distil.reasoned > 1e-3, "{:?}", values.distil);
    assert!((values.total - values.distil.total()).abs() < 1e-4, "{values:?}");
}

/// What would break: a step that does not lower what it says it lowers, or a teacher that moves.
#[test]
fn what_is_learnt_is_the_derivative_and_the_teacher_gets_none() {
    let bench = Bench::new();
    let (sample, mut example) = bench.example();
    let teacher = wider();
    let distil = Distil { image: Some(128), weights: Terms { features: 1.0, ..Terms::default() }, ..Distil::default() };
    teacher.maps(&bench.params, &bench.config, &distil.weights).unwrap();
    let before = host_all(teacher.params(&bench.params));
    example.lesson = Some(bench.lesson(&teacher, &distil, &sample, &example));
    let (grads, values) = bench.learn(&example);
    let Distilled { answer, chain, seg, mask, presence, features, reasoned, .. } = values.distil;
    let all = [answer, chain, seg, mask, presence, features, reasoned];
    assert!(all.iter().all(|loss| *loss > 0.0 && loss.is_finite()), "{:?}", values.distil);
    assert!((values.total - all.iter().sum::<f32>()).abs() < 1e-3 * values.total, "{values:?}");

    for (name, var) in teacher.params(&bench.params).vars() {
        assert!(grads.get(var.as_tensor()).is_none(), "the teacher's {name} has a gradient");
    }
    assert_eq!(before, host_all(teacher.params(&bench.params)));

    let vars: std::collections::HashMap<_, _> = bench.params.vars().into_iter().collect();
    for name in [
        "distil.seg.weight",
        "distil.embed.weight",
        "distil.tokens.weight",
        "distil.fine.weight",
        "neck.embed.weight",
        "language.layers.0.self_attn.q_proj.weight",
        "language.embed_tokens.weight",
        "seg.out.weight",
        "mask.object.in.weight",
        "mask.up.mix4.weight",
    ] {
        let grad: Vec<f32> = host(grads.get(vars[name].as_tensor()).unwrap_or_else(|| panic!("{name} learns nothing")));
        let norm = grad.iter().map(|g| g * g).sum::<f32>().sqrt();
        assert!(norm > 0.0, "{name} learns nothing");
        let original = bench.params.tensors()[name].copy().unwrap();
        let loss = |step: f32| {
            let moved: Vec<f32> = grad.iter().map(|g| step * g / norm).collect();
            let moved = Tensor::from_vec(moved, original.dims(), &Device::Cpu).unwrap();
            bench.params.insert(name, &(&original + moved).unwrap()).unwrap();
            f64::from(bench.learn(&example).1.total)
        };
        let step = (0.02 / norm).clamp(1e-6, 4e-3);
        let slope = ((loss(step) - loss(-step)) / f64::from(2.0 * step)) as f32;
        bench.params.insert(name, &original).unwrap();
        assert!((slope - norm).abs() < 0.08 * norm + 2e-3, "{name}: differences give {slope}, the gradient {norm}");
    }
}

/// What would break: a student that learns to see from its teacher, but not when to be silent.
#[test]
fn clear_degraded_and_absent_are_all_in_the_lessons() {
    let bench = Bench::new();
    let (teacher, distil) = (wider(), Distil::default());
    let mut classes = std::collections::BTreeSet::new();
    for (degraded, seeds) in [(0.0, 0..3), (1.0, 3..6)] {
        for sample in bench.scenes(degraded, seeds) {
            assert_eq!(sample.degradation.is_some(), degraded > 0.0);
            let example = bench.draw(&sample);
            let lesson = bench.lesson(&teacher, &distil, &sample, &example);
            assert_eq!(lesson.answers.len(), example.questions.len());
            let cells = bench.config.mask_side().pow(2);
            assert_eq!((lesson.masks.len(), lesson.objects.len()), (example.masks * cells, example.masks));
            assert!(lesson.masks.iter().all(|share| (0.0..=1.0).contains(share)));
            classes.extend(example.questions.iter().map(|question| question.pointers.class));
        }
    }
    assert!(classes.contains(&0) && classes.contains(&1), "{classes:?}");
}

/// What would break: a resumed run that sees other views, or a view that what was written of a clear picture is asked in.
#[test]
fn a_view_is_its_seeds_and_of_clear_pictures_only() {
    let bench = Bench::new();
    let sample = &bench.scenes(0.0, 0..1)[0];
    let looked = |share: f32, seed: u64| viewed(sample.clone(), share, 8, seed).unwrap();
    let (same, changed) = looked(0.0, 1);
    assert!(!changed && same.degradation.is_none() && same.asks == sample.asks);
    let changed = (0..200).filter(|seed| looked(0.3, *seed).1).count();
    assert!((40..80).contains(&changed), "{changed}");
    let (first, second) = (looked(1.0, 7).0, looked(1.0, 7).0);
    assert!(first.degradation.is_some() && first.degradation == second.degradation && first.asks == second.asks);
    assert!(first.picture.image == second.picture.image && first.picture.image != sample.picture.image);
    let again = viewed(first.clone(), 1.0, 8, 8).unwrap();
    assert!(!again.1 && again.0.degradation == first.degradation);
    let mut written = sample.clone();
    written.asks[0].written = true;
    assert!(!viewed(written, 1.0, 8, 7).unwrap().1);
}

/// What would break: fast answers drawn to what the chains of other questions conclude.
#[test]
fn every_chain_is_concluded_and_belongs_to_its_question() {
    let bench = Bench::new();
    let (sample, example) = bench.example();
    let lesson = bench.lesson(&wider(), &Distil::default(), &sample, &example);
    let chains = &example.reasons.chains;
    let about: Vec<usize> = lesson.reasoned.iter().map(|reasoned| reasoned.question).collect();
    assert_eq!(about, example.reasons.about);
    for (reasoned, chain) in lesson.reasoned.iter().zip(chains) {
        assert_eq!(reasoned.state.is_some(), chain.shown.len() == 1);
        assert!(reasoned.answer.iter().all(|logit| logit.is_finite()));
    }
}

#[test]
fn maps_are_learnt_and_not_exported() {
    let params = untrained(&Config::tiny(), 1).unwrap();
    let same = Teacher { params: None, config: Config::tiny(), record: None };
    same.maps(&params, &Config::tiny(), &Terms::default()).unwrap();
    let maps: Vec<String> = params.tensors().into_keys().filter(|name| name.starts_with(MAPS)).collect();
    assert_eq!(maps.len(), 3, "states of equal width need none: {maps:?}");
    let fine = host(&params.tensors()["distil.fine.weight"]);
    let width = Config::tiny().fine_width;
    assert!(fine.iter().enumerate().all(|(at, v)| *v == f32::from(at / width == at % width)));
    let kept = without_maps(vec![("distil.fine.weight".into(), vec![1], vec![0.0]), ("a".into(), vec![1], vec![0.0])]);
    assert_eq!(kept.len(), 1);
}

fn host(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn host_all(params: &Params) -> std::collections::BTreeMap<String, Vec<f32>> {
    params.tensors().into_iter().map(|(name, tensor)| (name, host(&tensor))).collect()
}
