//! Rollouts that are sampled token by token, against one teacher-forced pass over each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::generate::{Constraint, Prompt, Rollout, Sampling, generate};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Choice, Config, language};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const IMAGES: usize = 9;
const PROMPT: [u32; 4] = [40, 41, 300, 7];
const SEG: u32 = 2;
const END: u32 = 11;
const WARM: Choice = Choice::Sampled { temperature: 0.7 };

/// A small grammar: what may come depends on what came. Complete after [`END`] or `most` tokens.
#[derive(Debug, Clone)]
struct Grammar {
    ids: Vec<u32>,
    most: usize,
}

impl Grammar {
    fn of(most: usize) -> Self {
        Self { ids: Vec::new(), most }
    }

    fn allows(&self, id: u32) -> bool {
        match self.ids.last() {
            // Every second token is one of a few, `[SEG]` among them; the end comes sixth at the earliest.
            Some(last) if last % 2 == 1 => [SEG, 4, 6].contains(&id) || id == END && self.ids.len() > 4,
            _ => (100..200).contains(&id) && id % 2 == 1,
        }
    }
}

impl Constraint for Grammar {
    fn restrict(&self, logits: &mut [f32]) {
        for (id, logit) in logits.iter_mut().enumerate() {
            if !self.allows(id as u32) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn push(&mut self, id: u32) {
        assert!(self.allows(id) && !self.finished(), "{id} after {:?}", self.ids);
        self.ids.push(id);
    }

    fn finished(&self) -> bool {
        self.ids.len() >= self.most || self.ids.last() == Some(&END)
    }
}

fn numbers(count: usize, spread: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0) * spread
    };
    (0..count).map(|_| next()).collect()
}

fn tokens(config: &Config) -> Tensor {
    let width = config.language_width;
    Tensor::from_vec(numbers(IMAGES * width, 1.7), (1, IMAGES, width), &Device::Cpu).unwrap()
}

/// Parameters of which no bias is zero, and whose logits differ enough that a mistake would show.
fn params(config: &Config) -> Params {
    let params = Params::new(&Device::Cpu, 5);
    let packed = pack(&[vec![vec![1, 2]]], IMAGES, 0, None).tensors(head(config), &Device::Cpu).unwrap();
    language(&mut Candle::evaluating(&params), config, &tokens(config), &packed).unwrap();
    for (name, var) in params.vars() {
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let spread = if name == "language.embed_tokens.weight" { 0.5 } else { 0.1 };
        let moved: Vec<f32> = values.iter().zip(numbers(values.len(), spread)).map(|(v, n)| v + n).collect();
        params.insert(&name, &Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    params
}

fn head(config: &Config) -> usize {
    config.language_width / config.heads
}

fn drawn(
    config: &Config,
    params: &Params,
    grammars: &mut [Grammar],
    choice: Choice,
    most: usize,
    seed: u64,
) -> Vec<Rollout> {
    let prompt = Prompt { tokens: &tokens(config), things: None, ids: &PROMPT };
    let sampling = Sampling { choice, most, seg: SEG };
    generate(params, config, &prompt, grammars, sampling, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
}

/// The same rollouts as one batch of whole sequences: log-probabilities and `[SEG]` states.
fn teacher_forced(config: &Config, params: &Params, rollouts: &[Rollout], tau: f32) -> Vec<Rollout> {
    let sequence = |rollout: &Rollout| vec![[&PROMPT[..], &rollout.ids].concat()];
    let pictures: Vec<_> = rollouts.iter().map(sequence).collect();
    let mut packed = pack(&pictures, IMAGES, 0, None).tensors(head(config), &Device::Cpu).unwrap();
    let longest = rollouts.iter().map(|rollout| rollout.ids.len()).max().unwrap();
    let before: Vec<u32> = (0..longest as u32).map(|i| PROMPT.len() as u32 - 1 + i).collect();
    packed.index = Tensor::from_vec(before.repeat(rollouts.len()), (rollouts.len(), longest), &Device::Cpu).unwrap();
    let images = tokens(config).repeat((rollouts.len(), 1, 1)).unwrap();
    let said = language(&mut Candle::evaluating(params), config, &images, &packed).unwrap();
    let (logits, segs) = (said.logits.to_vec3::<f32>().unwrap(), said.seg.to_vec3::<f32>().unwrap());
    rollouts
        .iter()
        .enumerate()
        .map(|(b, rollout)| {
            let mut grammar = Grammar::of(usize::MAX);
            let mut again = Rollout { ids: rollout.ids.clone(), ..Rollout::default() };
            for (i, &id) in rollout.ids.iter().enumerate() {
                let mut allowed = logits[b][i].clone();
                grammar.restrict(&mut allowed);
                let sum: f64 = allowed.iter().map(|z| f64::from(z / tau).exp()).sum();
                again.log_probabilities.push((f64::from(allowed[id as usize] / tau) - sum.ln()) as f32);
                grammar.push(id);
                if id == SEG {
                    again.segs.push(segs[b][i].clone());
                }
            }
            again
        })
        .collect()
}

/// Same tokens, and numbers that only another order of sums sets apart.
fn assert_same(a: &[Rollout], b: &[Rollout]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.ids, b.ids);
        assert_eq!((a.log_probabilities.len(), a.segs.len()), (a.ids.len(), b.segs.len()));
        let numbers = |r: &Rollout| [r.log_probabilities.clone(), r.segs.concat()].concat();
        let (x, y) = (numbers(a), numbers(b));
        assert_eq!(x.len(), y.len());
        let apart = x.iter().zip(&y).fold(0f32, |most, (x, y)| most.max((x - y).abs()));
        assert!(apart < 1e-4, "{apart} apart: {a:?} {b:?}");
    }
}

#[test]
fn what_was_sampled_is_what_a_whole_pass_says() {
    let config = Config::tiny();
    let params = params(&config);
    let mut grammars: Vec<Grammar> = [1, 30, 4, 30, 13, 30].map(Grammar::of).into();
    let rollouts = drawn(&config, &params, &mut grammars, WARM, 24, 3);
    for (rollout, grammar) in rollouts.iter().zip(&grammars) {
        assert_eq!(rollout.ids, grammar.ids, "a constraint hears what was chosen");
        assert!(grammar.finished() || rollout.ids.len() == 24);
    }
    let lengths: Vec<usize> = rollouts.iter().map(|rollout| rollout.ids.len()).collect();
    assert!(lengths.iter().any(|&l| l != lengths[1]) && lengths.contains(&1), "{lengths:?}");
    assert!(rollouts.iter().map(|rollout| rollout.segs.len()).sum::<usize>() > 2, "{rollouts:?}");
    assert!(rollouts.iter().flat_map(|r| &r.log_probabilities).any(|&l| l < -0.5), "nothing was left to chance");
    assert_same(&rollouts, &teacher_forced(&config, &params, &rollouts, 0.7));
}

#[test]
fn greed_is_deterministic_and_takes_the_likeliest() {
    let config = Config::tiny();
    let params = params(&config);
    let greedy = |seed| drawn(&config, &params, &mut [10, 10, 3].map(Grammar::of), Choice::Greedy, 12, seed);
    let rollouts = greedy(1);
    assert_eq!(rollouts, greedy(2), "no draw enters");
    assert_eq!(rollouts[0].ids, rollouts[1].ids);
    assert_eq!(rollouts[2].ids, rollouts[0].ids[..3], "and a shorter one is its beginning");
    assert_same(&rollouts, &teacher_forced(&config, &params, &rollouts, 1.0));
    let sampled = drawn(&config, &params, &mut [Grammar::of(10)], WARM, 12, 1);
    let total = |rollout: &Rollout| rollout.log_probabilities[0];
    let again = teacher_forced(&config, &params, &sampled, 1.0);
    assert!(total(&rollouts[0]) >= total(&again[0]));
}

#[test]
fn a_rollout_does_not_hear_of_the_others() {
    let config = Config::tiny();
    let params = params(&config);
    let of = |most: &[usize]| {
        let mut grammars: Vec<Grammar> = most.iter().map(|&most| Grammar::of(most)).collect();
        drawn(&config, &params, &mut grammars, WARM, 40, 8)
    };
    let all = of(&[2, 5, 9, 3]);
    assert!(all[2].ids.len() > 5, "{all:?}");
    // Others go on longer, finish earlier, or are not there.
    assert_same(&all[..2], &of(&[2, 5, 30, 30])[..2]);
    assert_same(&all[2..3], &of(&[0, 0, 9])[2..]);
    assert_same(&all[..1], &of(&[2]));
    assert_ne!(all[1].ids, all[2].ids[..all[1].ids.len()], "each has draws of its own");
}

#[test]
fn a_cut_rollout_still_has_its_last_state() {
    let config = Config::tiny();
    let params = params(&config);
    /// Says nothing but `[SEG]`.
    struct Pointer(usize);
    impl Constraint for Pointer {
        fn restrict(&self, logits: &mut [f32]) {
            let seg = logits[SEG as usize];
            logits.fill(f32::NEG_INFINITY);
            logits[SEG as usize] = seg;
        }
        fn push(&mut self, _: u32) {
            self.0 -= 1;
        }
        fn finished(&self) -> bool {
            self.0 == 0
        }
    }
    let prompt = Prompt { tokens: &tokens(&config), things: None, ids: &PROMPT };
    let sampling = Sampling { choice: WARM, most: 2, seg: SEG };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut pointers = [Pointer(0), Pointer(1), Pointer(9)];
    let rollouts = generate(&params, &config, &prompt, &mut pointers, sampling, &mut rng).unwrap();
    let counts: Vec<usize> = rollouts.iter().map(|rollout| rollout.segs.len()).collect();
    assert_eq!(counts, [0, 1, 2], "one state for each [SEG], whether its rollout was finished or cut");
    assert!(rollouts[2].log_probabilities.iter().all(|&l| l == 0.0), "what is forced is certain");
    assert_eq!(rollouts[2].segs[0].len(), config.mask_width);
    assert_ne!(rollouts[2].segs[0], rollouts[2].segs[1]);
}

#[test]
fn what_cannot_be_continued_is_an_error() {
    let config = Config::tiny();
    let params = params(&config);
    let attempt = |tokens: &Tensor, ids: &[u32], choice, grammars: &mut [Grammar]| {
        let sampling = Sampling { choice, most: 4, seg: SEG };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        generate(&params, &config, &Prompt { tokens, things: None, ids }, grammars, sampling, &mut rng)
    };
    let tokens = tokens(&config);
    let one = || [Grammar::of(3)];
    assert!(attempt(&tokens, &PROMPT, WARM, &mut []).unwrap().is_empty());
    assert!(attempt(&tokens, &[], WARM, &mut one()).is_ok(), "a picture alone can be continued");
    assert!(attempt(&tokens.narrow(2, 0, 8).unwrap(), &PROMPT, WARM, &mut one()).is_err());
    assert!(attempt(&tokens.repeat((2, 1, 1)).unwrap(), &PROMPT, WARM, &mut one()).is_err());
    assert!(attempt(&tokens, &[config.vocabulary as u32], WARM, &mut one()).is_err(), "no such word");
    assert!(attempt(&tokens, &PROMPT, Choice::Sampled { temperature: 0.0 }, &mut one()).is_err());
    struct Mute;
    impl Constraint for Mute {
        fn restrict(&self, logits: &mut [f32]) {
            logits.fill(f32::NEG_INFINITY);
        }
        fn push(&mut self, _: u32) {}
        fn finished(&self) -> bool {
            false
        }
    }
    let sampling = Sampling { choice: Choice::Greedy, most: 4, seg: SEG };
    let prompt = Prompt { tokens: &tokens, things: None, ids: &PROMPT };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let error = generate(&params, &config, &prompt, &mut [Mute], sampling, &mut rng).unwrap_err().to_string();
    assert!(error.contains("constraint allows"), "{error}");
}
