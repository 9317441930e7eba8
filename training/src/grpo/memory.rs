//! How much memory a run will need, counted on the model's definition before a picture is seen.

use kestrel_models::candle::Params;
use kestrel_models::cost::{Cost, Extents};
use kestrel_models::kestrel::{Config, Seen, keys, likeness, vision, wishes};
use kestrel_perception::Limits;

use super::recipe::{Recipe, matches};
use super::{rollout, tokens};
use crate::reasoning::LISTED;
use crate::sft::memory::{COPIES, WORD, draw, held, read, room, view};
use crate::sft::{Result, TrainError};
use crate::tasks::TextLimits;

/// Numbers of the size of a matrix that its adapter makes before it is added: their product, that scaled, and the sum.
const ADAPTED: u64 = 3;
/// Steps whose episodes are there at once: the one that is played, and the next.
const STEPS: u64 = 2;
/// What needs less, to be tried.
const LESS: &str = "fewer workers, questions, rollouts, or pictures a step; fewer parameters in `policy.trainable`, or \
                    adapters (`policy.lora`) in their place; `objective.kl = 0` needs no second model";

/// Numbers of the model that a run begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sizes {
    /// All of them.
    whole: u64,
    /// Those that move.
    moving: u64,
    /// Those of adapters, which come to them.
    adapters: u64,
    /// Those of the matrices that have one.
    adapted: u64,
}

impl Sizes {
    fn of(recipe: &Recipe, params: &Params) -> Self {
        let mut sizes = Self::default();
        for (name, tensor) in params.tensors() {
            let (numbers, sides) = (tensor.elem_count() as u64, tensor.dims());
            sizes.whole += numbers;
            // Matrices alone get one, see `kestrel_models::candle::lora`.
            let adapters = recipe
                .policy
                .lora
                .as_ref()
                .filter(|lora| name.ends_with(".weight") && sides.len() == 2 && matches(&lora.on, &name));
            match adapters {
                Some(lora) => {
                    sizes.adapted += numbers;
                    sizes.adapters += (lora.rank * sides.iter().sum::<usize>()) as u64;
                }
                None if recipe.policy.moves(&name) => sizes.moving += numbers,
                None => {}
            }
        }
        sizes
    }

    /// Numbers that the optimiser knows.
    fn learnt(&self) -> u64 {
        self.moving + self.adapters
    }
}

/// Bytes that a run needs at its fullest beside the model that it begins with, which is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    /// The model that divergence is measured from, adapters, and the optimiser's copies of what moves.
    state: u64,
    /// Gradients: a sum for each worker, and those of all passes about the picture that it is at.
    gradients: u64,
    /// What the workers' passes keep.
    results: u64,
    /// Features and targets of the pictures that are there.
    episodes: u64,
}

impl Estimate {
    /// Counts a run where each pass keeps `kept` results for each that is counted.
    fn of(recipe: &Recipe, config: &Config, sizes: &Sizes, kept: u64) -> Result<Self> {
        let (workers, sights) = (recipe.workers as u64, 1 + recipe.data.views);
        let seen = vision(&mut Cost::default(), config, &vec![1, config.image, config.image, 3])?;
        let reference = if recipe.objective.kl > 0.0 { sizes.whole } else { 0 };
        let results = (passes(recipe, config, &seen)? + ADAPTED * sizes.adapted).max(played(recipe, config) as u64);
        let picture = sights * (view(&seen) + recipe.data.asks * config.mask_side().pow(2));
        // Whatever a recipe says, it is a number that is too large, not one that has come round.
        let bytes = |factors: [u64; 3]| factors.into_iter().fold(WORD, u64::saturating_mul);
        Ok(Self {
            state: bytes([1, 1, reference + sizes.adapters + COPIES * sizes.learnt()]),
            gradients: bytes([workers, 1 + stores(recipe, sights) as u64, sizes.learnt()]),
            results: bytes([workers, kept, results]),
            episodes: bytes([STEPS, recipe.batch as u64, picture as u64]),
        })
    }

    /// All of it.
    fn total(&self) -> u64 {
        let parts = [self.state, self.gradients, self.results, self.episodes];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// Most questions about one view, and about all views of a picture, see [`rollout::choose`].
fn questions(recipe: &Recipe) -> (usize, usize) {
    let questions = &recipe.questions;
    let view = questions.low + questions.high.max(questions.degraded) + questions.absent;
    // What a view hides is asked about the clean one too.
    let all = 2 * questions.low + questions.high + questions.degraded + questions.absent;
    (view.min(recipe.data.asks).max(1), all)
}

/// Most passes with gradients about one picture: the gradients of all of them are there before the first is added up.
fn stores(recipe: &Recipe, sights: usize) -> usize {
    let mut passes = sights;
    if recipe.terms.policy > 0.0 {
        passes += recipe.reasoning.questions * recipe.policy.rollouts.div_ceil(tokens::AT_ONCE);
        if !recipe.tasks.off() {
            passes += recipe.tasks.requests * recipe.tasks.rollouts.div_ceil(tokens::AT_ONCE);
        }
    }
    if recipe.terms.supervised > 0.0 {
        passes += sights.min(recipe.questions.chains);
    }
    passes
}

/// Numbers that the largest pass with gradients keeps.
fn passes(recipe: &Recipe, config: &Config, seen: &Seen<Extents>) -> Result<u64> {
    let ((asked, _), terms) = (questions(recipe), &recipe.terms);
    let mut most = 0;
    let mut ends = |cost: &Cost| most = most.max(cost.results + cost.inner);
    let mut fast = Cost::default();
    let said = read(&mut fast, config, seen, asked * config.max_tokens, asked)?;
    if terms.regression > 0.0 {
        let masks = asked * recipe.policy.rollouts;
        draw(&mut fast, config, seen, masks, masks)?;
    }
    if terms.supervised > 0.0 {
        find(&mut fast, config, seen, &said.seg, asked)?;
    }
    ends(&fast);
    let answer = |targets| config.max_tokens + Limits::roomy(recipe.reasoning.thought_tokens, targets).tokens;
    if terms.policy > 0.0 && recipe.reasoning.questions > 0 {
        // Any of their tokens may be one that the grammar left open.
        let tokens = tokens::AT_ONCE.min(recipe.reasoning.questions * recipe.policy.rollouts) * answer(1);
        let mut written = Cost::default();
        read(&mut written, config, seen, tokens, tokens)?;
        ends(&written);
    }
    let longest = recipe.tasks.kinds.keys().map(|kind| TextLimits::of(*kind).most()).max();
    if let Some(longest) = longest.filter(|_| terms.policy > 0.0) {
        let lines = tokens::AT_ONCE.min(recipe.tasks.requests * recipe.tasks.rollouts);
        let tokens = lines * (config.max_tokens + longest);
        let mut spoken = Cost::default();
        read(&mut spoken, config, seen, tokens, tokens)?;
        ends(&spoken);
    }
    let chains = recipe.questions.chains;
    if terms.supervised > 0.0 && chains > 0 {
        let tokens = chains * answer(LISTED);
        let mut taught = Cost::default();
        read(&mut taught, config, seen, tokens, tokens)?;
        find(&mut taught, config, seen, &vec![1, chains, config.mask_width], chains)?;
        ends(&taught);
    }
    Ok(most)
}

/// What so many `[SEG]` states find, all their masks decoded.
fn find(cost: &mut Cost, config: &Config, seen: &Seen<Extents>, seg: &Extents, masks: usize) -> Result<()> {
    let (keys, wishes) = (keys(cost, config, seen)?, wishes(cost, config, seg)?);
    likeness(cost, config, &keys, &wishes)?;
    draw(cost, config, seen, masks, masks)
}

/// Numbers that a worker holds while it sees a picture for the first time, or plays one: those of a pass without gradients,
/// and the masks of all rollouts.
fn played(recipe: &Recipe, config: &Config) -> usize {
    let (asked, all) = questions(recipe);
    let rollouts = if recipe.terms.needs_rollouts() { recipe.policy.rollouts } else { 0 };
    held(config, rollout::AT_ONCE.min(asked * rollouts)) + all * rollouts * config.mask_side().pow(2)
}

/// Bytes that a recipe needs beside its model, which `params` are; refused where that is more than is there, as far as the
/// system tells.
///
/// # Errors
/// [`TrainError::Memory`], with what would need less; what keeps a GPU from being asked.
pub(super) fn check(recipe: &Recipe, params: &Params, config: &Config) -> Result<u64> {
    let (there, kept) = room(recipe.device)?;
    let needed = Estimate::of(recipe, config, &Sizes::of(recipe, params), kept)?.total();
    match there.filter(|there| needed > *there) {
        Some(there) => Err(TrainError::Memory { what: format!("recipe {}", recipe.name), less: LESS, needed, there }),
        None => Ok(needed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device, Tensor};

    use super::super::recipe::merged;
    use super::*;

    fn recipe(more: &str) -> Recipe {
        let smoke = include_str!("../../recipes/grpo/smoke.toml").parse().unwrap();
        Recipe::of(merged(smoke, &more.parse().unwrap())).unwrap()
    }

    fn params() -> Params {
        let params = Params::new(&Device::Cpu, 1);
        for (name, shape) in [("language.a.weight", vec![30, 50]), ("language.a.bias", vec![30]), ("trunk.b", vec![99])]
        {
            params.insert(name, &Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()).unwrap();
        }
        params
    }

    #[test]
    fn what_moves_is_counted_by_its_names() {
        let sizes = Sizes::of(&recipe(""), &params());
        assert_eq!(sizes, Sizes { whole: 1629, moving: 1530, ..Sizes::default() });
        let lora = "[policy]\ntrainable = []\n[policy.lora]\non = [\"language.*\", \"trunk.*\"]\nrank = 2\nalpha = 4.0";
        let sizes = Sizes::of(&recipe(lora), &params());
        assert_eq!(sizes, Sizes { whole: 1629, moving: 0, adapters: 2 * (30 + 50), adapted: 1500 });
    }

    #[test]
    fn more_of_anything_needs_more() {
        let of = |more: &str, image: usize| {
            let (recipe, config) = (recipe(more), Config { image, ..Config::tiny() });
            Estimate::of(&recipe, &config, &Sizes::of(&recipe, &params()), 1).unwrap().total()
        };
        let least = of("", 64);
        assert!(of("", 128) > least);
        for more in [
            "workers = 3",
            "batch = 3",
            "[data]\nviews = 2",
            "[data]\nasks = 9",
            "[policy]\nrollouts = 5",
            "[questions]\nabsent = 3",
            "[objective]\nkl = 0.1",
            "[policy]\ntrainable = [\"*\"]",
        ] {
            assert!(of(more, 64) > least, "{more}");
        }
        // The optimiser's copies, the workers' sums and the passes' gradients are of adapters alone; the sums are results.
        let lora = "[policy]\ntrainable = []\n[policy.lora]\non = [\"language.*\"]\nrank = 2\nalpha = 4.0";
        assert!(of(lora, 64) < least);
    }

    #[test]
    fn passes_grow_with_what_is_taught_in_them() {
        let config = Config::tiny();
        let seen = vision(&mut Cost::default(), &config, &vec![1, config.image, config.image, 3]).unwrap();
        let of = |more: &str| passes(&recipe(more), &config, &seen).unwrap();
        let policy = of("");
        assert!(of("[questions]\nhigh = 3") > policy);
        assert_eq!(of("[data]\nasks = 5\n[questions]\nhigh = 3"), of("[data]\nasks = 5"), "no view has more questions");
        let (regression, supervised) = ("[terms]\nregression = 1.0", "[terms]\nsupervised = 1.0");
        assert!(of(supervised) > policy && of(regression) > of(supervised), "rollouts are more masks than questions");
        assert!(of(&format!("{regression}\n[policy]\nrollouts = 8")) > of(regression));
        assert!(of("[reasoning]\nquestions = 1") > policy);
        assert_eq!(of("[reasoning]\nquestions = 1\n[terms]\npolicy = 0.0"), policy, "nothing learns from them");
        assert!(of(&format!("{supervised}\n[questions]\nchains = 4")) > of(supervised));
    }

    /// What would break: the recipe that is shipped would be refused where it runs, or a count would be off by a thousand.
    #[test]
    fn the_shipped_recipe_needs_about_a_gibibyte() {
        let text = include_str!("../../recipes/grpo/kestrel-s.toml");
        let recipe = Recipe::of(text.parse().unwrap()).unwrap();
        let sizes = Sizes { whole: 7_000_000, moving: 4_000_000, ..Sizes::default() };
        let needed = Estimate::of(&recipe, &Config::kestrel_s(), &sizes, 1).unwrap().total();
        assert!((200 << 20..3 << 30).contains(&needed), "{needed} bytes");
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_needs_less() {
        let error = check(&recipe("workers = 2000000"), &params(), &Config::tiny()).unwrap_err().to_string();
        for part in ["recipe grpo-smoke", "expected at least", "can be had", "hint: fewer workers", "policy.lora"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(check(&recipe(""), &params(), &Config::tiny()).unwrap() > 0);
    }
}
