//! From pictures to episodes: views drawn, questions asked, features computed once by the frozen vision part.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::{Config, vision};
use kestrel_perception::Scratch;
use ndarray::Array4;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::episode::{self, Episode, Known, Posed, Sight};
use super::recipe::Data;
use crate::benchmark;
use crate::cache::{Sources, Spec, make, through};
use crate::expressions::meaning::Facts;
use crate::expressions::{self, Options, Proposed};
use crate::reasoning::{Question, Settled};
use crate::sample::{Ask, Picture, Sample, Target};
use crate::sft::coverage::Coverage;
use crate::sft::example::{Goal, normalised, things};
use crate::sft::pass::image;
use crate::sft::recipe::VISION;
use crate::sft::{Result, TrainError};
use crate::tasks::{TAUGHT, right};
use crate::threads::Threads;
use crate::views::{View, unseeable};

/// Draws of a view until it hides something that is asked for.
const DRAWS: usize = 12;
/// Sets what is drawn for an episode apart from what drew its picture.
const VIEWS: u64 = 0x7669_6577;

/// A question, its number among those about the clean picture, and its chain.
type Told = (Ask, Option<usize>, Option<Settled>);

/// Episodes of one kind in a folder.
#[derive(Debug, Clone)]
pub struct Episodes {
    folder: PathBuf,
    count: usize,
}

impl Episodes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where they lie.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The first `count` of a folder.
    #[cfg(test)]
    pub(super) fn of(folder: PathBuf, count: usize) -> Self {
        Self { folder, count }
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn get(&self, index: usize, config: &Config) -> Result<Episode> {
        Ok(episode::read(&path(&self.folder, index), config)?)
    }
}

/// The file of one of a folder's episodes.
pub(super) fn path(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("{index:05}.safetensors"))
}

/// The frozen part of a model, with which episodes are made.
pub struct Baker<'a> {
    /// The parameters.
    pub params: &'a Params,
    /// The model.
    pub config: &'a Config,
    /// Folder of runs; episodes live in `runs/episodes`.
    pub runs: &'a Path,
    /// Folder of the data sets.
    pub data: Option<&'a Path>,
    /// Threads.
    pub workers: usize,
    /// Told how many are done, of all.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl Baker<'_> {
    /// Episodes to train on, made where they are not there yet.
    ///
    /// # Errors
    /// The first failure of any thread; finished episodes stay.
    pub fn training(&self, data: &Data) -> Result<Episodes> {
        self.pictures(data, self.folder(&format!("{data:?}"))?, |_| Vec::new())
    }

    /// The same with the tasks about each clean picture, kept apart from those without.
    ///
    /// # Errors
    /// As [`Baker::training`].
    pub fn with_tasks(&self, data: &Data) -> Result<Episodes> {
        self.pictures(data, self.folder(&format!("{data:?} {TAUGHT:?}"))?, known)
    }

    fn pictures(
        &self,
        data: &Data,
        folder: PathBuf,
        tasks: impl Fn(&Picture) -> Vec<Known> + Sync,
    ) -> Result<Episodes> {
        let spec = Spec { degraded_share: 0.0, later_share: 0.0, ..data.pictures.clone() };
        let plan = spec.plan();
        let episodes = Episodes { folder, count: plan.len() };
        if !episodes.complete() {
            let sources = Sources::open(&spec, self.data)?;
            self.all(&episodes, |index| {
                let (kind, seed) = plan[index];
                let picture = make(&spec, &sources, kind, seed)?.picture;
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ VIEWS ^ (kind.stream() << 40));
                let mut episode = self.hybrid(&picture, data, &mut rng)?;
                if let Some(clean) = episode.sights.first_mut() {
                    clean.tasks = tasks(&picture);
                }
                Ok(episode)
            })?;
        }
        Ok(episodes)
    }

    /// A set of the benchmark as episodes of one view each; seed 0 is the frozen one.
    ///
    /// # Errors
    /// As [`Baker::training`].
    pub fn set(&self, name: &str, seed: u64, pictures: usize) -> Result<Episodes> {
        let folder = self.folder(&format!("set {name} {seed}"))?;
        // Sets may hold fewer pictures than asked for; how many is known once they are made.
        let samples: Vec<Sample> = match self.made(&folder, pictures) {
            Some(count) => return Ok(Episodes { folder, count }),
            None => benchmark::set(name, seed, Some(pictures), self.data)?.collect::<crate::datasets::Result<_>>()?,
        };
        let episodes = Episodes { folder, count: samples.len() };
        self.all(&episodes, |index| self.plain(&samples[index]))?;
        let done = episodes.folder.join(format!("{pictures}.count"));
        std::fs::write(&done, episodes.count.to_string()).map_err(TrainError::io("writing", &done))?;
        Ok(episodes)
    }

    fn made(&self, folder: &Path, pictures: usize) -> Option<usize> {
        std::fs::read_to_string(folder.join(format!("{pictures}.count"))).ok()?.parse().ok()
    }

    /// The folder of episodes of this description, seen by this vision part.
    fn folder(&self, description: &str) -> Result<PathBuf> {
        let mut hasher = Sha256::new();
        hasher.update(description);
        // What is drawn for a description changes with the code that draws.
        hasher.update(Spec::default().generation.to_le_bytes());
        hasher.update(episode::FORMAT.to_le_bytes());
        hasher.update(self.config.image.to_le_bytes());
        let tensors = self.params.tensors();
        let mut names: Vec<&String> = tensors.keys().filter(|name| sees(name)).collect();
        names.sort_unstable();
        for name in names {
            hasher.update(name);
            for value in tensors[name].flatten_all()?.to_vec1::<f32>()? {
                hasher.update(value.to_le_bytes());
            }
        }
        let hash: String = hasher.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let folder = self.runs.join("episodes").join(hash);
        std::fs::create_dir_all(&folder).map_err(TrainError::io("creating", &folder))?;
        Ok(folder)
    }

    fn all(&self, episodes: &Episodes, one: impl Fn(usize) -> Result<Episode> + Sync) -> Result<()> {
        let (next, done, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let threads = Threads::new(self.workers)?;
        threads.each(0..threads.count(), |_, _| {
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= episodes.count {
                    break;
                }
                let path = path(&episodes.folder, index);
                if !path.is_file() {
                    let made = one(index).and_then(|made| Ok(episode::write(&path, &made)?));
                    made.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                }
                (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, episodes.count);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// A clean picture beside degraded views of it, the first of which hides something that is asked for, where one of
    /// [`DRAWS`] does.
    fn hybrid(&self, picture: &Picture, data: &Data, rng: &mut ChaCha8Rng) -> Result<Episode> {
        let options = Options { count: data.asks, ..Options::default() };
        let mut proposed = expressions::generate(picture, &options, rng);
        // What [`Baker::sight`] leaves out must not be numbered.
        let coverage = Coverage::of(picture, self.config.mask_side())?;
        proposed.retain(|p| match &p.ask.target {
            target @ Target::Masks(_) => matches!(coverage.goal(target), Goal::Mask(_)),
            target => !matches!(target, Target::Boxes(_)),
        });
        let facts = Facts::of(picture);
        let clean = proposed.iter().map(|p| {
            let (ask, expression) = (&p.ask, p.expression.as_ref());
            let settled = Settled::of(&Question { facts: &facts, ask, expression, view: None });
            (p.ask.clone(), None, settled.ok())
        });
        let clean = clean.collect();
        let mut sights = vec![self.sight(picture, None, clean)?];
        for number in 0..data.views {
            let mut drawn = None;
            for _ in 0..DRAWS {
                let view = View::draw_training(rng);
                let degraded = view.apply(&picture.image);
                let asked = seen_through(&proposed, &unseeable(picture, &degraded, &view)?, &view);
                let hides = asked.iter().any(|(ask, _)| ask.target == Target::Unseeable);
                let found = hides || number > 0;
                drawn = Some((degraded, view, asked));
                if found {
                    break;
                }
            }
            if let Some((degraded, view, asked)) = drawn {
                // What was meant by words whose answer a view has changed is not said.
                let settled = |ask: &Ask| {
                    Settled::of(&Question { facts: &facts, ask, expression: None, view: Some(view.family) }).ok()
                };
                let asked = asked.into_iter().map(|(ask, clean)| {
                    let settled = settled(&ask);
                    (ask, clean, settled)
                });
                let asked = asked.collect();
                let degraded = Picture { image: degraded, ..picture.clone() };
                sights.push(self.sight(&degraded, Some((view.family.name().to_owned(), view.severity)), asked)?);
            }
        }
        Ok(Episode { origin: picture.origin.clone(), sights })
    }

    fn plain(&self, sample: &Sample) -> Result<Episode> {
        let asked = sample.asks.iter().map(|ask| (ask.clone(), None, None)).collect();
        let sight = self.sight(&sample.picture, sample.degradation.clone(), asked)?;
        Ok(Episode { origin: sample.picture.origin.clone(), sights: vec![sight] })
    }

    /// Sees a picture. Questions about weak boxes are left out: a box is no outline to judge a mask by.
    fn sight(&self, picture: &Picture, degradation: Option<(String, f32)>, asked: Vec<Told>) -> Result<Sight> {
        let config = self.config;
        let mut buffer = Array4::zeros((1, 3, config.image, config.image));
        let pixels = normalised(config.image, picture, &mut buffer, &mut Scratch::default())?;
        let seen =
            vision(&mut Candle::evaluating(self.params), config, &image(&pixels, config.image, self.params.device())?)?;
        let coverage = Coverage::of(picture, config.mask_side())?;
        let posed = |(ask, clean, chain): Told| match coverage.goal(&ask.target) {
            // A target that is there with no visible pixel, or with a box only, is neither right nor wrong to draw.
            Goal::Boxes(..) => None,
            Goal::Empty if matches!(ask.target, Target::Masks(_)) => None,
            goal => Some(Posed { ask, clean, goal, chain }),
        };
        let asked = asked.into_iter().filter_map(posed).collect();
        Ok(Sight { degradation, asked, things: things(picture), tasks: Vec::new(), seen })
    }
}

impl Episodes {
    fn complete(&self) -> bool {
        (0..self.count).all(|index| path(&self.folder, index).is_file())
    }
}

/// The tasks that the labels of a picture tell the right answer to.
fn known(picture: &Picture) -> Vec<Known> {
    let facts = Facts::of(picture);
    let one = |kind| right(&facts, kind).map(|(_, truth)| Known { kind, truth });
    TAUGHT.into_iter().filter_map(one).collect()
}

/// Whether a parameter is of the part whose outputs are kept.
pub fn sees(name: &str) -> bool {
    VISION.iter().any(|prefix| name.starts_with(prefix))
}

/// The questions whose answers can be told in a view, each with its number among those about the clean picture.
fn seen_through(proposed: &[Proposed], hidden: &[bool], view: &View) -> Vec<(Ask, Option<usize>)> {
    let one = |(number, p): (usize, &Proposed)| Some((through(p.clone(), hidden, view)?, Some(number)));
    proposed.iter().enumerate().filter_map(one).collect()
}
