//! Supervised fine-tuning: a recipe in, checkpoints out.
//!
//! [`train`] reads samples from the cache, runs them through the model one per thread ([`pass`]), sums their gradients
//! ([`workers`]), steps AdamW ([`optimiser`]) and keeps everything needed to go on exactly ([`checkpoint`]). A teacher may
//! stand beside the labels ([`distil`]).

mod aim;
pub mod chain;
pub mod checkpoint;
pub(crate) mod coverage;
pub mod distil;
mod error;
pub mod evaluate;
pub mod example;
pub mod explain;
pub(crate) mod idle;
mod kept;
mod layouts;
pub mod log;
pub mod measured;
pub mod memory;
pub mod optimiser;
pub mod order;
pub mod pass;
pub mod perform;
mod point;
pub mod propose;
pub mod reading;
pub mod recipe;
mod settle;
mod start;
mod tasks;
mod taught;
pub(crate) mod teach;
mod words;
pub mod workers;

pub(crate) use error::GIBIBYTE;
pub use error::{Result, TrainError};
pub use evaluate::Evaluation;
pub use log::Entry;
pub use recipe::{Distil, Phase, Recipe};
pub use start::{TOKENIZER, initialise, locate, untrained};

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kestrel_models::candle::Params;
use kestrel_models::quantise::FakeQuant;
use kestrel_models::tokenizer::QueryTokenizer;

use crate::cache::Cache;
use crate::curves::Log;
use crate::sample::Sample;
use crate::threads::Threads;
use checkpoint::Meta;
use distil::{Teacher, Tutor};
use example::Maker;
use idle::{Waited, share};
use kept::Kept;
use log::CURVES;
use optimiser::AdamW;
use order::Order;
use pass::Setup;
use perform::Plan;
use workers::Worker;

/// What a training program should have in its environment from its start.
///
/// Samples are what is handled in parallel: matrix products that start threads of their own inside a worker wait for
/// each other (half of the time on two cores). And an allocator that hands freed tensors back to the system at once
/// spends a fifth of the time on clearing pages.
pub const ENVIRONMENT: [(&str, &str); 2] = [("RAYON_NUM_THREADS", "1"), ("MIMALLOC_PURGE_DELAY", "-1")];

/// Where a run reads and writes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Folder of runs; a run lives in `runs/<recipe name>`, caches in `runs/cache`.
    pub runs: PathBuf,
    /// Folder of the data sets, if there is one.
    pub data: Option<PathBuf>,
    /// Pretrained trunk (safetensors, names `trunk.…`).
    pub trunk: Option<PathBuf>,
    /// Folder of a model to begin from instead, with `model.safetensors` and `tokenizer.json`.
    pub from: Option<PathBuf>,
    /// Go on from the last checkpoint.
    pub resume: bool,
    /// Train on what the cache holds already instead of completing it.
    pub partial_cache: bool,
}

/// What a run tells while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Samples made, of all.
    Cache(usize, usize),
    /// Anything else that takes long, in words.
    Doing(&'a str),
    /// A step is done.
    Step(&'a Entry),
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its folder, with `model.safetensors`, `tokenizer.json`, `checkpoint.safetensors`, `log.jsonl`, `curves.svg`.
    pub folder: PathBuf,
    /// Steps done in all.
    pub step: usize,
    /// Whether the recipe is finished.
    pub finished: bool,
    /// Share of the time of its steps in which nothing was computed on the device; `None` where no step was done now.
    pub waiting: Option<f32>,
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
    // Read before anything that takes long is made.
    let scheme = recipe.quantisation.as_ref().map(|record| start::scheme(recipe, record)).transpose()?;
    let teacher = Teacher::of(recipe, &options.runs.join(&recipe.name))?;
    let needed = memory::check(recipe, teacher.as_ref())? as f64 / GIBIBYTE;
    progress_words(progress, &format!("about {needed:.1} GiB of memory are needed"));
    let recipe = &start::settled(recipe, options, progress)?;
    let written = words::written(recipe, options.data.as_deref())?;
    let folder = options.runs.join(&recipe.name);
    std::fs::create_dir_all(&folder).map_err(TrainError::io("creating", &folder))?;
    if !options.resume && folder.join(checkpoint::STATE).is_file() {
        return Err(TrainError::Checkpoint {
            path: folder.join(checkpoint::STATE),
            expected: "none yet, or --resume".to_owned(),
            got: "a run of this name".to_owned(),
        });
    }
    let cache = start::cache(recipe, options, progress)?;
    let resumes = options.resume && folder.join(checkpoint::STATE).is_file();
    // A student hears what its teacher hears.
    let taught = || recipe.distil.as_ref().and_then(Distil::files).map(|(_, words)| words);
    let words = options.from.as_ref().map(|from| from.join(TOKENIZER)).or_else(taught);
    if let Some(words) = words.filter(|_| !resumes) {
        start::tokenizer_of(&words, &folder)?;
    }
    let tokenizer = start::tokenizer(recipe, written, &folder, progress)?;
    let mut params = initialise(recipe, options.trunk.as_deref())?;
    match &options.from {
        _ if resumes => {}
        Some(from) => start::begin_from(&params, from, progress)?,
        None => start::settle(recipe, &params, &cache, &tokenizer)?,
    }
    if recipe.location_codes && !resumes {
        start::locate(&params, &recipe.model)?;
    }
    if let (Some(record), Some(scheme)) = (&recipe.quantisation, scheme) {
        start::same_layers(recipe, record, &scheme, &params)?;
        params.set_places(FakeQuant(scheme));
    }
    if let (Some(teacher), Some(distil)) = (&teacher, &recipe.distil) {
        distil::same_words(distil, &tokenizer)?;
        teacher.note(&folder, resumes)?;
        teacher.maps(&params, &recipe.model, &distil.weights)?;
    }
    let mut adam = AdamW::new(&params, &recipe.optimiser)?;
    let mut meta =
        Meta { step: 0, samples: cache.len(), recipe: recipe.clone(), updates: Vec::new(), optimiser_steps: None };
    if resumes {
        let same = |was: &Recipe| (&was.model, was.seed, &was.data) == (&recipe.model, recipe.seed, &recipe.data);
        let was = checkpoint::read(&folder, same, &mut adam)?;
        meta.step = was.step;
        if !options.partial_cache {
            meta.samples = was.samples.min(cache.len());
        }
    }
    progress_words(progress, "making the evaluation's pictures");
    let tune = match recipe.evaluate_steps {
        0 => Vec::new(),
        _ => evaluate::samples(recipe, options.data.as_deref())?,
    };
    let plan = match recipe.evaluate_steps {
        0 => Plan::default(),
        _ => Plan::of(recipe, &cache)?,
    };
    let log = Log::open(&folder, meta.step, CURVES)?;
    let (cache, tokenizer, params, teacher) = (&cache, &tokenizer, &params, teacher.as_ref());
    let waited = Waited::default();
    let mut run = Run { recipe, cache, tokenizer, params, teacher, tune, plan, adam, meta, log, folder, waited };
    let stopped = run.phases(progress)?;
    run.save()?;
    run.log.plot()?;
    Ok(Summary { folder: run.folder, step: run.meta.step, finished: !stopped, waiting: run.waited.share() })
}

fn progress_words(progress: &(dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync), words: &str) {
    // Nothing can be stopped yet: there is no state to keep.
    let _ = progress(Progress::Doing(words));
}

struct Run<'a> {
    recipe: &'a Recipe,
    cache: &'a Cache,
    tokenizer: &'a QueryTokenizer,
    params: &'a Params,
    teacher: Option<&'a Teacher>,
    tune: Vec<(String, Sample)>,
    plan: Plan,
    adam: AdamW,
    meta: Meta,
    log: Log,
    folder: PathBuf,
    waited: Waited,
}

impl Run<'_> {
    /// Runs the remaining steps; true when `progress` stopped them.
    fn phases(&mut self, progress: &(dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync)) -> Result<bool> {
        while let Some(position) = self.recipe.phase(self.meta.step) {
            if self.phase(position.phase, progress)?.is_break() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs the rest of one phase.
    fn phase(
        &mut self,
        phase: &Phase,
        progress: &(dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync),
    ) -> Result<ControlFlow<()>> {
        let (recipe, tokenizer, params) = (self.recipe, self.tokenizer, self.params);
        let config = recipe.model_of(phase);
        params.freeze(|name| phase.frozen.iter().any(|prefix| name.starts_with(prefix.as_str())));
        let threads = Threads::new(recipe.workers)?;
        let kept = Kept::new(phase.kept);
        let special = tokenizer.special();
        let words = (special.answers(), special.pad);
        let tutor = self.teacher.zip(recipe.distil.as_ref());
        let tutor = tutor.map(|(teacher, distil)| Tutor::new(teacher, params, distil, phase, words));
        let degraded = recipe.distil.as_ref().map_or(0.0, |distil| distil.degraded);
        let worker = |_| {
            let maker = Maker::new(&config, phase, tokenizer);
            let worker = Worker::new(maker, self.adam.sums(&phase.frozen)).degrading(degraded);
            let worker = if phase.kept > 0 { worker.keeping(&kept) } else { worker };
            match &tutor {
                Some(tutor) => worker.taught_by(tutor),
                None => worker,
            }
        };
        let mut workers: Vec<Worker<'_>> = (0..recipe.workers).map(worker).collect();
        let weights = &recipe.loss;
        let setup = Setup { params, config: &config, weights, answers: special.answers(), pad: special.pad };
        let mut order = Order::new(recipe.seed, self.meta.samples);
        while let Some(position) = recipe.phase(self.meta.step).filter(|p| std::ptr::eq(p.phase, phase)) {
            let clock = Instant::now();
            let first = position.pictures;
            let pictures: Vec<(usize, u64)> = (first..first + phase.batch).map(|p| order.at(p)).collect();
            let ((values, times), waited) =
                workers::step(&threads, &mut workers, &setup, &self.adam.slots, self.cache, &pictures)?;
            let rate = phase.rate(position.within);
            let step_clock = Instant::now();
            let norm = self.adam.step(&workers[0].sums, 1.0 / phase.batch as f32, rate)?;
            let optimiser_millis = step_clock.elapsed().as_secs_f32() * 1e3;
            let seconds = clock.elapsed().as_secs_f32();
            self.waited.add(waited, seconds);
            let mut entry = Entry {
                step: self.meta.step + 1,
                steps: recipe.steps(),
                phase: phase.name.clone(),
                rate,
                norm,
                values: values.mean(),
                times: times.mean(values.pictures),
                optimiser_millis,
                seconds,
                waited,
                waiting: share(waited, seconds),
                evaluation: None,
            };
            for (what, value) in [("the gradient's norm", norm), ("the loss", entry.values.total)] {
                if !value.is_finite() {
                    return Err(TrainError::Diverged { step: entry.step, what, value, sample: pictures[0].0 });
                }
            }
            self.meta.step += 1;
            if recipe.evaluate_steps > 0 && self.meta.step.is_multiple_of(recipe.evaluate_steps) {
                let (workers, chains, tasks) = (recipe.workers, recipe.evaluate_chains, &self.plan);
                let extent = evaluate::Extent { workers, chains, tasks, like: self.params };
                let found = evaluate::evaluate(&self.adam, &config, phase, tokenizer, &self.tune, &extent)?;
                entry.evaluation = Some(found.0);
            }
            self.log.push(&entry)?;
            if self.meta.step.is_multiple_of(recipe.checkpoint_steps) {
                self.save()?;
                self.log.plot()?;
            }
            if progress(Progress::Step(&entry)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn save(&mut self) -> Result<()> {
        self.meta.updates = self.adam.slots.iter().map(|s| s.updates).collect();
        self.meta.optimiser_steps = Some(self.adam.steps);
        let model = distil::without_maps(self.adam.averages());
        checkpoint::write(&self.folder, &self.meta, &self.recipe.model, &self.adam, model)
    }
}

/// The default folder of runs: `$KESTREL_RUNS`, else `kestrel/runs` in the user's cache folder.
pub fn default_runs(kestrel_runs: Option<&Path>, cache_home: Option<&Path>, home: Option<&Path>) -> PathBuf {
    match (kestrel_runs, cache_home, home) {
        (Some(runs), _, _) => runs.to_path_buf(),
        (None, Some(cache), _) => cache.join("kestrel/runs"),
        (None, None, Some(home)) => home.join(".cache/kestrel/runs"),
        (None, None, None) => PathBuf::from("runs"),
    }
}
