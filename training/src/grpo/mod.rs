//! Reinforcement: a model and a recipe in, a better model out, or an honest record that it is not.
//!
//! The way of a step: [`bake`] has turned pictures into [`episode`]s, which are read while the step before is under way;
//! [`rollout`] asks, samples and judges ([`crate::rewards`], [`advantage`]), [`mod@improve`] follows the [`objective`]'s
//! gradient, and the optimiser and checkpoints of [`crate::sft`] do the rest. [`record`] judges the outcome on frozen sets.

pub mod advantage;
mod ahead;
pub mod bake;
pub mod episode;
pub mod improve;
mod log;
mod memory;
pub mod objective;
pub mod reasoned;
pub mod recipe;
pub mod record;
pub mod rollout;
pub mod spoken;
mod start;
mod tokens;

pub use bake::{Baker, Episodes};
pub use log::Entry;
pub use recipe::Recipe;
pub use start::{Start, load, load_to};

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::Tensor;
use kestrel_models::candle::{Params, lora};
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::QueryTokenizer;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::curves::Log;
use crate::sft::checkpoint::{self, Meta, Parameter};
use crate::sft::example::ids;
use crate::sft::idle::{Idle, Waited, share};
use crate::sft::optimiser::AdamW;
use crate::sft::order::Order;
use crate::sft::{GIBIBYTE, Result, Summary, TrainError, workers};
use crate::threads::Threads;
use ahead::{Ahead, Drawn, Source};
use improve::{Batch, Improved, improve, turns};
use log::{CURVES, Measured};
use objective::units;
use rollout::{Actor, Played, choose, play};

/// Where a run reads and writes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Folder of runs; a run lives in `runs/<recipe name>`, episodes in `runs/episodes`.
    pub runs: PathBuf,
    /// Folder of the data sets, if there is one.
    pub data: Option<PathBuf>,
    /// Folder of the model to begin from, with `model.safetensors` and `tokenizer.json`; a resumed run has its own.
    pub from: Option<PathBuf>,
    /// Go on from the last checkpoint.
    pub resume: bool,
}

/// What a run tells while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Pictures seen, of all.
    Episodes(usize, usize),
    /// Anything else worth saying, in words.
    Doing(&'a str),
    /// A step is done.
    Step(&'a Entry),
}

/// Trains a recipe. `progress` may stop the run with [`ControlFlow::Break`]; a checkpoint is written then.
///
/// # Errors
/// When data, disk or model fail, or the numbers diverge; the last checkpoint stays.
pub fn train(
    recipe: &Recipe,
    options: &Options,
    progress: &(dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync),
) -> Result<Summary> {
    let device = recipe.device.device()?;
    let recipe = &settled(recipe, options, progress)?;
    let folder = options.runs.join(&recipe.name);
    let resumes = start::prepare(&folder, options)?;
    let Start { params, config, tokenizer } = load_to(&folder, start::BEGINNING, &device)?;
    let needed = memory::check(recipe, &params, &config)? as f64 / GIBIBYTE;
    // Nothing can be stopped yet: there is no state to keep.
    let _ = progress(Progress::Doing(&format!("about {needed:.1} GiB of memory are needed beside the model")));
    let tell = |done: usize, all: usize| {
        // Seeing pictures cannot be stopped: what is done is kept, and another start goes on from there.
        let _ = progress(Progress::Episodes(done, all));
    };
    let baker = Baker {
        params: &params,
        config: &config,
        runs: &options.runs,
        data: options.data.as_deref(),
        workers: recipe.workers,
        progress: &tell,
    };
    let episodes = match recipe.tasks.off() {
        true => baker.training(&recipe.data)?,
        false => baker.with_tasks(&recipe.data)?,
    };
    let reference = match recipe.objective.kl > 0.0 {
        true => Some(Params::from_tensors(params.tensors())?),
        false => None,
    };
    if let Some(adapters) = &recipe.policy.lora {
        let lora = lora::Lora { rank: adapters.rank, alpha: adapters.alpha };
        if params.adapt(|name| recipe::matches(&adapters.on, name), lora)? == 0 {
            return Err(start::nothing(
                recipe,
                "policy.lora.on",
                "patterns of matrices that the model has",
                &adapters.on,
            ));
        }
    }
    params.freeze(|name| !recipe.policy.moves(name));
    let adam = AdamW::new(&params, &recipe.optimiser)?;
    if adam.slots.is_empty() {
        return Err(start::nothing(
            recipe,
            "policy.trainable",
            "patterns of parameters that the model has",
            &recipe.policy.trainable,
        ));
    }
    let (samples, updates) = (episodes.len(), Vec::new());
    let meta = Meta { step: 0, samples, recipe: recipe.clone(), updates, optimiser_steps: None };
    // What a resumed run keeps of its log is decided with its checkpoint.
    let log = Log::open(&folder, if resumes { usize::MAX } else { 0 }, CURVES)?;
    let (params, reference, config, tokenizer) = (&params, reference.as_ref(), &config, &tokenizer);
    let waited = Waited::default();
    let mut run = Run { recipe, params, reference, config, tokenizer, episodes, adam, meta, log, folder, waited };
    if resumes {
        run.resume()?;
    }
    let stopped = run.steps(progress)?;
    run.save()?;
    run.log.plot()?;
    Ok(Summary { folder: run.folder, step: run.meta.step, finished: !stopped, waiting: run.waited.share() })
}

/// The recipe with its data sets read: how many pictures they give, and of what.
fn settled(
    recipe: &Recipe,
    options: &Options,
    progress: &(dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync),
) -> Result<Recipe> {
    let tell = |words: &str| {
        // Nothing can be stopped yet: there is no state to keep.
        let _ = progress(Progress::Doing(words));
    };
    let pictures = recipe.data.pictures.settled(options.data.as_deref(), &tell)?;
    let data = recipe::Data { pictures, ..recipe.data.clone() };
    Ok(Recipe { data, ..recipe.clone() })
}

/// Sums of gradients, one array for each parameter that moves.
type Sums = Vec<Vec<f32>>;

struct Run<'a> {
    recipe: &'a Recipe,
    params: &'a Params,
    reference: Option<&'a Params>,
    config: &'a Config,
    tokenizer: &'a QueryTokenizer,
    episodes: Episodes,
    adam: AdamW,
    meta: Meta<Recipe>,
    log: Log,
    folder: PathBuf,
    waited: Waited,
}

impl Run<'_> {
    /// Reads the last checkpoint; all but the number of steps, how often to save and what computes must be as it was.
    fn resume(&mut self) -> Result<()> {
        let recipe = self.recipe;
        let same = |was: &Recipe| {
            let Recipe { steps, checkpoint_steps, device, .. } = *recipe;
            Recipe { steps, checkpoint_steps, device, ..was.clone() } == *recipe
        };
        self.meta = checkpoint::read(&self.folder, same, &mut self.adam)?;
        self.meta.recipe = recipe.clone();
        self.log = Log::open(&self.folder, self.meta.step, CURVES)?;
        Ok(())
    }

    /// Runs the remaining steps; true when `progress` stopped them.
    fn steps(&mut self, progress: &(dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync)) -> Result<bool> {
        let recipe = self.recipe;
        let threads = Threads::new(recipe.workers)?;
        let mut sums = vec![self.adam.sums(&[]); recipe.workers];
        let source = Source {
            episodes: self.episodes.clone(),
            config: self.config,
            device: self.params.device().clone(),
            order: Order::new(recipe.seed, self.meta.samples),
            batch: recipe.batch,
            steps: self.meta.step..recipe.steps,
        };
        std::thread::scope(|scope| -> Result<bool> {
            let mut ahead = Ahead::begin(scope, source)?;
            while self.meta.step < recipe.steps {
                let entry = self.step(&threads, &mut sums, &mut ahead)?;
                self.meta.step += 1;
                self.log.push(&entry)?;
                if self.meta.step.is_multiple_of(recipe.checkpoint_steps) {
                    self.save()?;
                    self.log.plot()?;
                }
                if progress(Progress::Step(&entry)).is_break() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn step(&mut self, threads: &Threads, sums: &mut [Sums], ahead: &mut Ahead) -> Result<Entry> {
        let (recipe, clock, idle) = (self.recipe, Instant::now(), Idle::new());
        let pictures = ahead.next_step()?;
        let (count, sample) = (pictures.len(), pictures.first().map_or(0, |drawn| drawn.index));
        let played = self.play(threads, pictures, &idle)?;
        let play_seconds = clock.elapsed().as_secs_f32();
        let all: Vec<objective::Turn> = played.iter().flat_map(turns).collect();
        let better = played.iter().flat_map(|p| &p.taken).filter(|t| t.advantage.is_some_and(|a| a > 0.0)).count();
        let units = units(&all, &recipe.objective);
        let batch = Batch { units, better: better as f32, pictures: count as f32 };
        let rate = recipe.rate(self.meta.step);
        let (mut sum, mut norm) = (Improved::default(), 0.0);
        for _ in 0..recipe.updates {
            let improved = self.improve(threads, sums, &played, batch, &idle)?;
            // A batch that teaches nothing must not be moved on by the optimiser's memory.
            if sums[0].iter().flatten().any(|slope| *slope != 0.0) {
                norm = idle.busy(|| self.adam.step(&sums[0], 1.0, rate))?;
            }
            for (what, value) in [("the gradient's norm", norm), ("the loss", improved.loss)] {
                if !value.is_finite() {
                    let step = self.meta.step + 1;
                    return Err(TrainError::Diverged { step, what, value, sample });
                }
            }
            sum += improved;
        }
        let measured = Measured::of(&played, &sum, recipe);
        let (step, steps) = (self.meta.step + 1, recipe.steps);
        let (waited, seconds) = (idle.seconds(), clock.elapsed().as_secs_f32());
        self.waited.add(waited, seconds);
        let waiting = share(waited, seconds);
        Ok(Entry { step, steps, rate, norm, measured, play_seconds, seconds, waited, waiting })
    }

    /// Every picture played, by as many threads as there are workers; which thread plays which is fixed.
    fn play(&self, threads: &Threads, pictures: Vec<Drawn>, idle: &Idle) -> Result<Vec<Played>> {
        let progress = self.meta.step as f32 / self.recipe.steps.max(1) as f32;
        let one = |Drawn { seed, episode, .. }: Drawn| -> Result<Played> {
            let special = self.tokenizer.special();
            let actor = Actor { params: self.params, config: self.config, special };
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut tokens = |ask: &crate::sample::Ask| {
                ids(self.tokenizer, self.config.max_tokens, &ask.text, ask.hint.as_ref(), &ask.nonsense)
            };
            let asked = choose(&episode, &self.recipe.questions, &mut tokens, &mut rng)?;
            let mut played = idle.busy(|| play(&actor, self.recipe, episode, asked, progress, &mut rng))?;
            if self.recipe.reasoning.questions > 0 {
                let done = self.meta.step as f64 / self.recipe.steps as f64;
                let (words, episode) = (self.tokenizer, &played.episode);
                played.written = idle.busy(|| reasoned::play(&actor, words, self.recipe, episode, done, &mut rng))?;
            }
            if self.recipe.questions.chains > 0 {
                let (words, room) = (self.tokenizer, self.config.max_tokens);
                played.chains = reasoned::draw(words, room, self.recipe, &played.episode, &mut rng)?;
            }
            if !self.recipe.tasks.off() {
                let (words, episode) = (self.tokenizer, &played.episode);
                played.spoken = idle.busy(|| spoken::play(&actor, words, self.recipe, episode, &mut rng))?;
            }
            Ok(played)
        };
        let (all, count) = (pictures.len(), threads.count());
        let mut parts: Vec<Vec<Drawn>> = (0..count).map(|_| Vec::new()).collect();
        for (number, drawn) in pictures.into_iter().enumerate() {
            parts[number % count].push(drawn);
        }
        let parts = threads.each(parts, |_, mine| mine.into_iter().map(&one).collect::<Result<Vec<Played>>>())?;
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        Ok((0..all).filter_map(|i| parts[i % count].next()).collect())
    }

    /// Gradients of everything played; the sums end up in the first of `sums`, added in a fixed order.
    fn improve(
        &self,
        threads: &Threads,
        sums: &mut [Sums],
        played: &[Played],
        batch: Batch,
        idle: &Idle,
    ) -> Result<Improved> {
        let count = sums.len();
        let special = self.tokenizer.special();
        let actor = Actor { params: self.params, config: self.config, special };
        let parts = threads.each(sums.iter_mut(), |number, sums| {
            sums.iter_mut().for_each(|sum| sum.fill(0.0));
            let mut total = Improved::default();
            for played in played.iter().skip(number).step_by(count) {
                let (stores, improved) = idle.busy(|| improve(&actor, self.reference, self.recipe, played, batch))?;
                total += improved;
                for store in &stores {
                    for (slot, sum) in self.adam.slots.iter().zip(sums.iter_mut()) {
                        if let Some(gradient) = store.get(slot.var.as_tensor()) {
                            workers::add(sum, gradient)?;
                        }
                    }
                }
            }
            Ok(total)
        })?;
        workers::gather(sums.iter_mut());
        let mut total = Improved::default();
        parts.into_iter().for_each(|part| total += part);
        Ok(total)
    }

    fn save(&mut self) -> Result<()> {
        self.meta.updates = self.adam.slots.iter().map(|s| s.updates).collect();
        self.meta.optimiser_steps = Some(self.adam.steps);
        checkpoint::write(&self.folder, &self.meta, self.config, &self.adam, self.model()?)
    }

    /// The whole model with the averages of what moves, adapters added to their matrices.
    fn model(&self) -> Result<Vec<Parameter>> {
        let mut tensors = self.params.tensors();
        for (name, shape, values) in self.adam.averages() {
            tensors.insert(name, Tensor::from_vec(values, shape, self.params.device())?);
        }
        if let Some(lora) = self.recipe.policy.adapters() {
            tensors = lora::merge(tensors, lora)?;
        }
        let plain = |(name, tensor): (String, Tensor)| -> Result<Parameter> {
            Ok((name, tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?))
        };
        let mut model = tensors.into_iter().map(plain).collect::<Result<Vec<_>>>()?;
        model.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(model)
    }
}
