//! How much memory a phase will need, counted on the model's definition before anything is allocated.

use kestrel_models::candle::free_memory;
use kestrel_models::cost::{Cost, Extents};
use kestrel_models::kestrel::{
    Config, PackedTensors, Proposals, Said, Seen, compare, decode, keys, language, likeness, names_of_places,
    names_of_tokens, vision, wishes,
};
use kestrel_perception::proposals::{CODE, MOST, NAMES};

use super::distil::Teacher;
use super::recipe::{Distil, Phase, Processor, Recipe};
use super::{Result, TrainError};
use crate::tasks::TextLimits;

/// Bytes of a number.
pub(crate) const WORD: u64 = 4;
/// Copies of every parameter beside a worker's sums: itself, two moments, the average that is exported.
pub(crate) const COPIES: u64 = 4;

/// Results that operations put together from candle's own keep, for each that one of our kernels keeps: assumed, since no GPU
/// has measured it.
const COMPOSED: u64 = 3;

/// Results of the largest size that a pass without gradients holds at once: assumed.
const HELD: usize = 4;
/// Channels of the largest map: the expansion at stride 2 (`kestrel::trunk`).
const WIDEST: usize = 96;

/// What needs less, to be tried.
const LESS: &str = "fewer workers, a smaller image, fewer queries or masks";

/// Bytes that a phase needs at its fullest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Parameters, their moments and average.
    pub state: u64,
    /// Gradients: a sum for each worker, and those of the picture that it is at.
    pub gradients: u64,
    /// Results that the backward passes of all workers keep.
    pub results: u64,
    /// Views of pictures that are kept.
    pub views: u64,
    /// A teacher: its parameters, what it keeps of pictures, and what its passes hold.
    pub teacher: u64,
}

impl Estimate {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.state + self.gradients + self.results + self.views + self.teacher
    }
}

/// Counts a phase whose `workers` handle one picture each at the same time, with as many questions, words and masks as the
/// recipe allows. Frozen parts are counted as if they moved.
///
/// # Errors
/// When the configuration is no model.
pub fn estimate(config: &Config, phase: &Phase, workers: usize) -> Result<Estimate> {
    let mut cost = Cost::default();
    let (side, questions) = (config.image, phase.queries.max(1));
    let seen = vision(&mut cost, config, &vec![1, side, side, 3])?;
    let view = view(&seen);
    read_tasks(&mut cost, config, phase, &seen)?;
    let keys = keys(&mut cost, config, &seen)?;
    names_of_places(&mut cost, config, &keys)?;
    names_of_tokens(&mut cost, config, &seen)?;
    let said = read(&mut cost, config, &seen, questions * config.max_tokens, questions)?;
    let wishes = wishes(&mut cost, config, &said.seg)?;
    likeness(&mut cost, config, &keys, &wishes)?;
    draw(&mut cost, config, &seen, questions, phase.masks.clamp(1, questions))?;
    let (parameters, workers) = (cost.parameters() * WORD, workers as u64);
    Ok(Estimate {
        state: COPIES * parameters,
        gradients: 2 * workers * parameters,
        results: workers * (cost.results + cost.inner) * WORD,
        views: (phase.kept * view) as u64 * WORD,
        teacher: 0,
    })
}

/// Reads so many tokens of text behind a picture's, and gives what is said at `rows` of them.
pub(crate) fn read(
    cost: &mut Cost,
    config: &Config,
    seen: &Seen<Extents>,
    texts: usize,
    rows: usize,
) -> Result<Said<Extents>> {
    let (all, half) = (config.token_side().pow(2) + texts, config.language_width / config.heads / 2);
    let packed = PackedTensors {
        ids: vec![1, texts],
        index: vec![1, rows],
        mask: vec![1, all, all],
        cos: vec![1, all, half],
        sin: vec![1, all, half],
    };
    Ok(language(cost, config, &seen.tokens, &packed)?)
}

/// Compares what stands out for so many questions, and draws the masks of the first of them.
pub(crate) fn draw(
    cost: &mut Cost,
    config: &Config,
    seen: &Seen<Extents>,
    questions: usize,
    masks: usize,
) -> Result<()> {
    let proposals = Proposals {
        names: vec![1, MOST, NAMES],
        codes: vec![1, MOST, CODE],
        extents: vec![1, 2 * config.embed_side() + 2 * config.mask_side(), MOST],
        attention: vec![1, MOST + 1, MOST + 1],
    };
    let mut first = compare(cost, config, &proposals, &vec![questions, 1, config.mask_width], questions)?;
    for part in [&mut first.meant, &mut first.found, &mut first.summary] {
        part[0] = masks;
    }
    decode(cost, config, seen, &proposals, &first, &vec![masks, 1, config.mask_width], masks)?;
    Ok(())
}

/// Numbers that a pass without gradients holds at once which looks at a picture, or draws so many masks.
pub(crate) fn held(config: &Config, masks: usize) -> usize {
    let map = (config.image / 2).pow(2) * WIDEST;
    HELD * map.max(masks * config.mask_side().pow(2) * config.fine_width)
}

/// Numbers of a view.
pub(crate) fn view(seen: &Seen<Extents>) -> usize {
    [&seen.tokens, &seen.embed, &seen.fine, &seen.spots].map(|part| part.iter().product::<usize>()).iter().sum()
}

/// Bytes that a teacher of these sizes needs in a phase, whose parameters are its own where it is `another` model.
///
/// # Errors
/// When the configuration is no model.
pub fn taught(config: &Config, another: bool, distil: &Distil, phase: &Phase, workers: usize) -> Result<u64> {
    let config = Config { image: distil.image.unwrap_or(phase.image), ..config.clone() };
    let own = match another {
        true => estimate(&config, phase, workers)?.state / COPIES,
        false => 0,
    };
    let seen = vision(&mut Cost::default(), &config, &vec![1, config.image, config.image, 3])?;
    let numbers = distil.kept * view(&seen) + workers * (view(&seen) + held(&config, phase.masks.max(1)));
    Ok(own + numbers as u64 * WORD)
}

/// Reads the right answers to as many tasks as the phase teaches about a picture, each as long as it may be.
fn read_tasks(cost: &mut Cost, config: &Config, phase: &Phase, seen: &Seen<Extents>) -> Result<()> {
    let answers = || phase.tasks.iter().map(|(kind, count)| (count.ceil() as usize, TextLimits::of(*kind).most()));
    let written: usize = answers().map(|(count, most)| count * most).sum();
    if written == 0 {
        return Ok(());
    }
    let texts = written + answers().map(|(count, _)| count * config.max_tokens).sum::<usize>();
    read(cost, config, seen, texts, written)?;
    Ok(())
}

/// Bytes that Linux says can be had without swapping, from the text of `/proc/meminfo`.
pub fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes that can be had where a recipe computes, as far as the system tells, and how many results a pass there keeps for
/// each that is counted.
///
/// # Errors
/// What keeps a GPU from being asked.
pub(crate) fn room(processor: Processor) -> Result<(Option<u64>, u64)> {
    let host = || std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    Ok(match processor {
        Processor::Cpu => (host(), 1),
        Processor::Cuda | Processor::CudaTf32 => (free_memory(&processor.device()?)?, COMPOSED),
    })
}

/// Bytes that a recipe's fullest phase needs; refused where that is more than is there, as far as the system tells.
///
/// # Errors
/// [`TrainError::Memory`], with what would need less; what keeps a GPU from being asked.
pub(super) fn check(recipe: &Recipe, teacher: Option<&Teacher>) -> Result<u64> {
    let (there, kept) = room(recipe.device)?;
    let mut most = 0;
    for phase in recipe.phases.iter().filter(|phase| !phase.blind) {
        let mut estimate = estimate(&recipe.model_of(phase), phase, recipe.workers)?;
        estimate.results *= kept;
        if let (Some(teacher), Some(distil)) = (teacher, &recipe.distil) {
            estimate.teacher = taught(teacher.config(), teacher.is_another(), distil, phase, recipe.workers)?;
        }
        let needed = estimate.total();
        most = most.max(needed);
        if let Some(there) = there.filter(|there| needed > *there) {
            return Err(TrainError::Memory { what: format!("phase {}", phase.name), less: LESS, needed, there });
        }
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn phase(more: &str) -> Phase {
        let text = "name = \"a\"\nimage = 64\nsteps = 1\nbatch = 1\nlearning_rate = 1e-3\nwarm_up_steps = 1\n";
        toml::from_str(&format!("{text}{more}")).unwrap()
    }

    #[test]
    fn more_of_anything_needs_more() {
        let of = |image: usize, more: &str, workers: usize| {
            estimate(&Config { image, ..Config::tiny() }, &phase(more), workers).unwrap().total()
        };
        let least = of(64, "queries = 4\nmasks = 2", 1);
        assert!(of(128, "queries = 4\nmasks = 2", 1) > least);
        assert!(of(64, "queries = 8\nmasks = 2", 1) > least);
        assert!(of(64, "queries = 4\nmasks = 4", 1) > least);
        assert!(of(64, "queries = 4\nmasks = 2", 2) > least);
        let told = |tasks: &str| of(64, &format!("queries = 4\nmasks = 2\ntasks = {{ {tasks} }}"), 1);
        assert!(told("caption = 0.5") > least && told("caption = 2") > told("caption = 0.5"));
        assert!(of(64, "queries = 4\nmasks = 2\nkept = 1000", 1) > least + 1000 * 27_000);
    }

    #[test]
    fn a_larger_teacher_needs_more() {
        let phase = phase("queries = 4\nmasks = 2");
        let of = |distil: Distil, another: bool| taught(&Config::tiny(), another, &distil, &phase, 2).unwrap();
        let least = of(Distil::default(), false);
        assert!(least > 0 && of(Distil::default(), true) > least + 1_000_000);
        assert!(of(Distil { image: Some(128), ..Distil::default() }, false) > 3 * least);
        assert!(of(Distil { kept: 1000, ..Distil::default() }, false) > least + 1000 * 27_000);
    }

    #[test]
    fn the_systems_word_is_read() {
        assert_eq!(available("MemTotal: 8 kB\nMemAvailable:    2048 kB\n"), Some(2_097_152));
        for other in ["", "MemAvailable: many kB", "MemAvailable: 5", "MemAvailable: 99999999999999999999 kB"] {
            assert_eq!(available(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_before_it_begins() {
        let text = include_str!("../../recipes/smoke.toml").replace("workers = 2", "workers = 2000000");
        let error = check(&toml::from_str(&text).unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("phase small") && error.contains("hint"), "{error}");
    }
}
