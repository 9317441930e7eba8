//! What a rollout does and what it is worth, without a model.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::grpo::improve::{Improved, turns};
use crate::grpo::log::Measured;
use crate::sample::Origin;
use crate::sft::example::Pointers;
use candle_core::Device;
use rand::SeedableRng;

fn smoke() -> Recipe {
    Recipe::of(include_str!("../../recipes/grpo/smoke.toml").parse().unwrap()).unwrap()
}

/// What would break: hidden targets would go on pulling at the presence that tells what is absent.
#[test]
fn where_the_answer_alone_counts_no_state_is_an_action() {
    let mut recipe = smoke();
    let logits = [30.0, 0.0, 0.0, 0.0, 0.0];
    let logs = |recipe: &Recipe, branch| {
        let taken = act(recipe, 0, branch, &logits, &[0.5; 4], &mut ChaCha8Rng::seed_from_u64(1));
        (taken.answer_log.is_some(), taken.state.unwrap().log.is_some())
    };
    assert_eq!(logs(&recipe, Branch::Low), (true, true));
    recipe.policy.hidden_by_answer = true;
    assert_eq!(logs(&recipe, Branch::Low), (true, false));
    assert_eq!(logs(&recipe, Branch::Absent), (true, true));
}

const SIDE: usize = 8;

/// A mask of these cells, sure of each of them.
fn mask(cells: &[usize]) -> Option<Vec<f32>> {
    Some((0..SIDE * SIDE).map(|cell| f32::from(cells.contains(&cell))).collect())
}

/// One question about a visible target of four cells, answered by these masks and judged.
fn judged(recipe: &Recipe, masks: &[Option<Vec<f32>>]) -> Played {
    let goal = Goal::Mask(mask(&[0, 1, 2, 3]).unwrap());
    let pointers = Pointers { class: 0, targets: vec![0], anchor: None, alike: None };
    let (ids, doubt) = (Vec::new(), Vec::new());
    let question = Question { ids, doubt, goal, pointers, anchor: None, plain: true, compared: false };
    let asked = vec![Asked { sight: 0, question, branch: Branch::High, group: 0 }];
    let answer_log = Some(-0.1);
    let state = |of: &Option<Vec<f32>>| of.as_ref().map(|_| State { sample: Vec::new(), deviation: 0.1, log: None });
    let taken = |of| Taken { asked: 0, answer: 0, answer_log, state: state(of), scored: None, advantage: None };
    let mut taken: Vec<Taken> = masks.iter().map(taken).collect();
    // As the decoder gives them: logits of the masks of those that have a state.
    let logits = |mask: &Vec<f32>| mask.iter().map(|p| 60.0 * (p - 0.5)).collect::<Vec<f32>>();
    let drawn: Vec<f32> = masks.iter().flatten().flat_map(logits).collect();
    let drawn = Tensor::from_vec(drawn, (masks.iter().flatten().count(), SIDE * SIDE), &Device::Cpu).unwrap();
    let coherence = judge(recipe, &asked, &mut taken, &Drawn::new(&[drawn]).unwrap(), 0.0).unwrap();
    let origin = Origin { dataset: "scenes".into(), scene: "1".into(), frame: "0".into() };
    let episode = Episode { origin, sights: Vec::new() };
    let (written, chains, spoken) = (Vec::new(), Vec::new(), Vec::new());
    Played { episode, asked, taken, written, chains, spoken, entropies: Vec::new(), coherence }
}

fn measured(played: Played, recipe: &Recipe) -> Measured {
    Measured::of(&[played], &Improved::default(), recipe)
}

/// What would break: one number that is none would turn a step's rewards and the whole model into such numbers, or teach as
/// a reward of 0.
#[test]
fn a_mask_that_is_no_number_is_counted_and_moves_nothing() {
    let (right, half, mut broken) = (mask(&[0, 1, 2, 3]), mask(&[0, 1]), mask(&[0, 1, 2, 3]));
    broken.as_mut().unwrap()[5] = f32::NAN;
    let recipe = smoke();
    let without = judged(&recipe, &[right.clone(), half.clone()]);
    let with = judged(&recipe, &[right, half, broken]);
    for (a, b) in with.taken.iter().zip(&without.taken) {
        assert!(b.advantage.unwrap().abs() > 0.5, "{b:?}");
        assert_eq!((a.scored, a.advantage), (b.scored, b.advantage));
    }
    assert_eq!((with.taken[2].scored, with.taken[2].advantage), (None, None));
    assert_eq!(turns(&with).len(), 2, "no gradient comes from it");
    let (without, with) = (measured(without, &recipe), measured(with, &recipe));
    assert_eq!((with.rollouts, with.unscorable, without.unscorable), (3, 1, 0));
    assert_eq!((with.reward, with.iou), (without.reward, without.iou));
    assert_eq!((with.parts, with.advantages), (without.parts, without.advantages));
}

/// What would break: whether a group's places agree, which scales its updates, could not be read in the log.
#[test]
fn how_far_masks_agree_scales_their_advantages_and_is_logged() {
    let (near, far) = (mask(&[0, 1]), mask(&[62, 63]));
    let mut recipe = smoke();
    let masks = [near, far];
    let plain = judged(&recipe, &masks);
    recipe.coherence = Some(Coherence::default());
    let damped = judged(&recipe, &masks);
    let weight = damped.taken[0].advantage.unwrap() / plain.taken[0].advantage.unwrap();
    assert!((0.5..0.51).contains(&weight), "{weight}");
    let logged = measured(damped, &recipe).coherence.unwrap();
    assert!((logged - weight).abs() < 1e-5, "{logged} {weight}");
    assert_eq!(measured(plain, &recipe).coherence, None);
}

#[test]
fn advantages_are_told_by_what_rollouts_look_at() {
    let recipe = smoke();
    let measured = measured(judged(&recipe, &[mask(&[0, 1, 2, 3]), mask(&[0]), mask(&[0])]), &recipe);
    let all = measured.advantages;
    // One of three is better: 2/√3 above the mean, the others 1/√3 below.
    let near = |a: f32, b: f32| (a - b).abs() < 1e-3;
    assert!(near(all.most, 1.1547) && near(all.least, -0.5774) && near(all.positive, 1.0 / 3.0), "{all:?}");
    assert!(near(all.rms, (2.0f32 / 3.0).sqrt()), "{all:?}");
    assert_eq!(measured.advantages_by_branch.into_iter().collect::<Vec<_>>(), [(Branch::High, all)]);
}
