//! Acting: questions chosen, answers and `[SEG]` states sampled from the policy, masks drawn and judged.

use candle_core::Tensor;
use kestrel_models::candle::overlap::Drawn;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::pack::{Packed, pack};
use kestrel_models::kestrel::{Config, Said, Seen, compare, decode, language};
use kestrel_models::tokenizer::Special;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::advantage::advantages;
use super::episode::Episode;
use super::objective::{categorical, deviation, gaussian};
use super::reasoned::{Taught, Written};
use super::recipe::{Questions, Recipe};
use super::spoken::Spoken;
use crate::rewards::position::{self, Coherence, Extent};
use crate::rewards::views::{self, Branch, PARTS, Rollout, Scored};
use crate::sft::example::{Goal, Question, Words};
use crate::sft::pass::host;
use crate::sft::{Result, propose};

/// Masks that are drawn at once: what they need together stays under half a gigabyte.
pub(super) const AT_ONCE: usize = 24;

/// A model with what reading and answering need.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The parameters.
    pub params: &'a Params,
    /// The model at its input size.
    pub config: &'a Config,
    /// Special tokens.
    pub special: &'a Special,
}

/// A question that is asked in this step.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which view.
    pub sight: usize,
    /// Its words as tokens, with what is right.
    pub question: Question,
    /// What its answers are judged as.
    pub branch: Branch,
    /// Questions of one group are judged together: a clean view and the degraded one of the same picture.
    pub group: usize,
}

impl Asked {
    /// The right answer among the five.
    pub fn right(&self) -> usize {
        self.question.pointers.class
    }

    /// Coverage of the target; empty where nothing should be shown.
    pub fn target(&self) -> &[f32] {
        match &self.question.goal {
            Goal::Mask(cells) => cells,
            Goal::Candidates(_) | Goal::Boxes(..) | Goal::Empty => &[],
        }
    }
}

/// A sampled `[SEG]` state.
#[derive(Debug, Clone)]
pub struct State {
    /// The state.
    pub sample: Vec<f32>,
    /// Deviation of each of its dimensions around the policy's.
    pub deviation: f32,
    /// Log-density when it was sampled; `None` where the answer alone is an action.
    pub log: Option<f32>,
}

/// What one rollout did.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Index among the questions.
    pub asked: usize,
    /// The answer among the five.
    pub answer: usize,
    /// Its log-probability when it was sampled; `None` where the answer is forced.
    pub answer_log: Option<f32>,
    /// The state that the mask was drawn from.
    pub state: Option<State>,
    /// Its reward; `None` where it could not be scored.
    pub scored: Option<Scored>,
    /// How much better than its group it was; `None` where it teaches nothing.
    pub advantage: Option<f32>,
}

/// Everything done about one picture.
#[derive(Debug)]
pub struct Played {
    /// The picture's views.
    pub episode: Episode,
    /// The questions.
    pub asked: Vec<Asked>,
    /// The rollouts, those of a question one after the other.
    pub taken: Vec<Taken>,
    /// Reasoned rollouts, those of a question one after the other.
    pub written: Vec<Written>,
    /// Chains that are taught beside.
    pub chains: Vec<Taught>,
    /// Answers to tasks, those to a request one after the other.
    pub spoken: Vec<Spoken>,
    /// Entropy of the answer to every question that was asked, in nats.
    pub entropies: Vec<f32>,
    /// Mean ω of every group whose advantages were scaled by how far its masks agree.
    pub coherence: Vec<f32>,
}

/// Chooses the questions of a step about an episode; `tokens` turns one into ids and the doubt about its words.
///
/// # Errors
/// When a question cannot be tokenised.
pub fn choose(
    episode: &Episode,
    questions: &Questions,
    tokens: &mut dyn FnMut(&crate::sample::Ask) -> Result<Words>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Asked>> {
    let of = |keep: &dyn Fn(usize, Branch) -> bool, rng: &mut ChaCha8Rng| {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (s, sight) in episode.sights.iter().enumerate() {
            found.extend((0..sight.asked.len()).filter(|&q| keep(s, sight.asked[q].branch())).map(|q| (s, q)));
        }
        found.shuffle(rng);
        found
    };
    let mut groups: Vec<Vec<(usize, usize)>> = Vec::new();
    for (s, q) in of(&|_, branch| branch == Branch::Low, rng).into_iter().take(questions.low) {
        let clean = episode.sights[s].asked[q].clean.map(|number| (0, number));
        groups.push(clean.into_iter().chain([(s, q)]).collect());
    }
    let taken: Vec<(usize, usize)> = groups.concat();
    let mut high = of(&|s, branch| s == 0 && branch == Branch::High, rng);
    high.retain(|place| !taken.contains(place));
    groups.extend(high.into_iter().take(questions.high).map(|place| vec![place]));
    let degraded = of(&|s, branch| s > 0 && branch == Branch::High, rng);
    groups.extend(degraded.into_iter().take(questions.degraded).map(|place| vec![place]));
    let absent = of(&|_, branch| branch == Branch::Absent, rng);
    groups.extend(absent.into_iter().take(questions.absent).map(|place| vec![place]));
    let mut asked = Vec::new();
    for (group, places) in groups.into_iter().enumerate() {
        for (sight, q) in places {
            let Some(posed) = episode.sights[sight].asked.get(q) else { continue };
            let question = Question::stored(&posed.ask, tokens(&posed.ask)?, posed.goal.clone());
            asked.push(Asked { sight, question, branch: posed.branch(), group });
        }
    }
    Ok(asked)
}

/// What the model says to each question about one view.
pub(super) struct Heard {
    /// Where the questions stand.
    pub(super) pack: Packed,
    /// As the model gives it, with its history where the interpreter keeps one.
    pub(super) said: Said<Tensor>,
    /// Logits `[Q, vocabulary]` and `[SEG]` states `[Q, mask_width]` of it.
    pub(super) logits: Tensor,
    pub(super) seg: Tensor,
}

/// Reads questions about a view.
pub(super) fn hear(ops: &mut Candle<'_>, actor: &Actor<'_>, seen: &Seen<Tensor>, asked: &[&Asked]) -> Result<Heard> {
    let (config, count) = (actor.config, asked.len());
    let ids: Vec<Vec<u32>> = asked.iter().map(|asked| asked.question.ids.clone()).collect();
    let pack = pack(&[ids], config.token_side().pow(2), actor.special.pad, None);
    let tensors = pack.tensors(config.language_width / config.heads, actor.params.device())?;
    let said = language(ops, config, &seen.tokens, &tensors)?;
    let logits = said.logits.reshape((count, config.vocabulary))?;
    let seg = said.seg.reshape((count, config.mask_width))?;
    Ok(Heard { pack, said, logits, seg })
}

/// The logits of the five answers of every question.
pub(super) fn answers(actor: &Actor<'_>, logits: &Tensor) -> Result<Vec<[f32; 5]>> {
    let rows = host(logits)?;
    let pick = |row: &[f32]| actor.special.answers().map(|id| row[id as usize]);
    Ok(rows.chunks_exact(actor.config.vocabulary).map(pick).collect())
}

/// Asks the chosen questions, samples `rollouts` answers to each and judges them; a share `progress` of training is done.
///
/// # Errors
/// When the model fails.
pub fn play(
    actor: &Actor<'_>,
    recipe: &Recipe,
    episode: Episode,
    asked: Vec<Asked>,
    progress: f32,
    rng: &mut ChaCha8Rng,
) -> Result<Played> {
    let (mut taken, mut entropies) = (Vec::new(), Vec::new());
    let mut masks: Vec<Tensor> = Vec::new();
    // Supervision alone learns from no rollout.
    let rollouts = if recipe.terms.needs_rollouts() { recipe.policy.rollouts } else { 0 };
    for (s, sight) in episode.sights.iter().enumerate() {
        let here: Vec<usize> = (0..asked.len()).filter(|&q| asked[q].sight == s).collect();
        if here.is_empty() {
            continue;
        }
        let mut ops = Candle::evaluating(actor.params);
        let questions: Vec<&Asked> = here.iter().map(|&q| &asked[q]).collect();
        let heard = hear(&mut ops, actor, &sight.seen, &questions)?;
        let (answers, states) = (answers(actor, &heard.logits)?, host(&heard.seg)?);
        let from = taken.len();
        for ((&q, logits), state) in here.iter().zip(&answers).zip(states.chunks_exact(actor.config.mask_width)) {
            entropies.push(entropy(logits, recipe.policy.temperature));
            for _ in 0..rollouts {
                taken.push(act(recipe, q, asked[q].branch, logits, state, rng));
            }
        }
        masks.extend(draw(actor, &sight.seen, &taken[from..])?);
    }
    let coherence = judge(recipe, &asked, &mut taken, &Drawn::new(&masks)?, progress)?;
    let (written, chains, spoken) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Played { episode, asked, taken, written, chains, spoken, entropies, coherence })
}

/// Samples one answer, and a state where it is a mask.
fn act(recipe: &Recipe, asked: usize, branch: Branch, logits: &[f32; 5], state: &[f32], rng: &mut ChaCha8Rng) -> Taken {
    let policy = &recipe.policy;
    let free = !policy.answer_alone(branch);
    let (answer, answer_log) = if policy.forced_answer {
        (0, None)
    } else {
        let answer = sample(logits, policy.temperature, rng);
        (answer, Some(categorical(logits, answer, policy.temperature).0))
    };
    let state = (answer == 0).then(|| {
        let deviation = deviation(state, policy.latent_deviation);
        let sample: Vec<f32> = state.iter().map(|e| e + deviation * normal(rng)).collect();
        let log = free.then(|| gaussian(&sample, state, deviation).0);
        State { sample, deviation, log }
    });
    Taken { asked, answer, answer_log, state, scored: None, advantage: None }
}

fn entropy(logits: &[f32; 5], temperature: f32) -> f32 {
    let log = |choice| categorical(logits, choice, temperature).0;
    (0..logits.len()).map(|choice| -log(choice).exp() * log(choice).max(-1e3)).sum()
}

/// Draws from the softmax of logits at a temperature.
fn sample(logits: &[f32; 5], temperature: f32, rng: &mut ChaCha8Rng) -> usize {
    let mut at: f32 = rng.random();
    for choice in 0..logits.len() {
        at -= categorical(logits, choice, temperature).0.exp();
        if at < 0.0 {
            return choice;
        }
    }
    logits.len() - 1
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let mut unit = || (f64::from(rng.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
    ((-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()) as f32
}

/// Logits `[n, cells]` of the masks of those rollouts that answered with one, in their order; they stay where they are.
fn draw(actor: &Actor<'_>, seen: &Seen<Tensor>, taken: &[Taken]) -> Result<Vec<Tensor>> {
    let config = actor.config;
    let states: Vec<&State> = taken.iter().filter_map(|t| t.state.as_ref()).collect();
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let mut ops = Candle::evaluating(actor.params);
    let picked = propose::found(seen, config)?;
    let proposals = propose::tensors(&mut ops, config, seen, &picked)?;
    let mut drawn = Vec::with_capacity(states.len().div_ceil(AT_ONCE));
    for some in states.chunks(AT_ONCE) {
        let flat: Vec<f32> = some.iter().flat_map(|s| s.sample.iter().copied()).collect();
        let seg = Tensor::from_vec(flat, (some.len(), 1, config.mask_width), actor.params.device())?;
        let compared = compare(&mut ops, config, &proposals, &seg, some.len())?;
        let shown = decode(&mut ops, config, seen, &proposals, &compared, &seg, some.len())?;
        let cells = shown.mask.elem_count() / some.len();
        drawn.push(shown.mask.reshape((some.len(), cells))?.detach());
    }
    Ok(drawn)
}

/// Rewards and advantages of every group, and the mean ω of those that were scaled; `drawn` are the masks of those rollouts
/// that have a state, in their order.
fn judge(recipe: &Recipe, asked: &[Asked], taken: &mut [Taken], drawn: &Drawn, progress: f32) -> Result<Vec<f32>> {
    let mut weights = Vec::new();
    let mut numbers = 0..drawn.len();
    let masks: Vec<Option<usize>> = taken.iter().map(|t| t.state.as_ref().and_then(|_| numbers.next())).collect();
    let groups = asked.iter().map(|a| a.group + 1).max().unwrap_or(0);
    for group in 0..groups {
        let members: Vec<usize> = (0..taken.len()).filter(|&i| asked[taken[i].asked].group == group).collect();
        let rollouts: Vec<Rollout<'_, usize>> = members
            .iter()
            .map(|&i| {
                let (of, mask) = (&asked[taken[i].asked], masks[i]);
                Rollout { branch: of.branch, answer: taken[i].answer, right: of.right(), mask, target: of.target() }
            })
            .collect();
        let scored = views::score_drawn(drawn, &rollouts, &recipe.reward, progress)?;
        let parts: Vec<Option<[f32; PARTS]>> = scored.iter().map(|s| s.map(|s| s.parts)).collect();
        let branches: Vec<Branch> = rollouts.iter().map(|r| recipe.reward.judged_as(r.branch, r.target)).collect();
        let mut advantages = advantages(&parts, &recipe.reward.weights(progress), &branches, &recipe.advantage);
        if let Some(coherence) = &recipe.coherence {
            weights.extend(damp(coherence, &branches, &scored, &mut advantages));
        }
        for ((&i, scored), advantage) in members.iter().zip(scored).zip(advantages) {
            (taken[i].scored, taken[i].advantage) = (scored, advantage);
        }
    }
    Ok(weights)
}

/// Advantages of a group that sees its target, scaled by how far its masks agree on where it is; the mean ω, if there is
/// such a group.
fn damp(
    coherence: &Coherence,
    branches: &[Branch],
    scored: &[Option<Scored>],
    advantages: &mut [Option<f32>],
) -> Option<f32> {
    let seeing: Vec<(usize, position::Rollout)> = (0..scored.len())
        .filter(|&i| branches[i] == Branch::High)
        .filter_map(|i| {
            let (scored, advantage) = (scored[i]?, f64::from(advantages[i]?));
            Some((i, position::Rollout { edges: scored.centre, iou: f64::from(scored.iou), advantage }))
        })
        .collect();
    let group: Vec<position::Rollout> = seeing.iter().map(|(_, rollout)| *rollout).collect();
    let (scaled, mean) = coherence.scale(&group, Extent::SQUARE);
    for ((i, _), advantage) in seeing.iter().zip(scaled) {
        advantages[*i] = Some(advantage as f32);
    }
    (!group.is_empty()).then_some(mean as f32)
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
