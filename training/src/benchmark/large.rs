//! Scenes as a 4K camera sees them: much of what is asked for is too small for an overview at the model's input size.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Samples;
use crate::expressions::{self, Options};
use crate::sample::{Ask, Sample, Stratum, Target};
use crate::scenes;

/// Width of every picture in pixels.
pub const WIDTH: u32 = 3840;
/// Height of every picture in pixels.
pub const HEIGHT: u32 = 2160;
/// First seed of these scenes.
pub const LARGE_SEED: u64 = 6_000_000;
/// Scenes when no limit is given.
pub const LARGE_SCENES: usize = 24;

/// Large scenes with questions that name a kind, a colour or all things of a kind, and for a third of them nothing that is
/// there. None depends on a place in the picture: a tile has a left and a largest of its own.
///
/// What is asked for covers at least [`MIN_AREA_PIXELS`](crate::expressions::meaning::MIN_AREA_PIXELS) of an overview 512
/// pixels wide. `seed` 0 is the frozen set, as in [`set`](super::set).
pub fn large_scenes(seed: u64, count: usize) -> Samples {
    let first = LARGE_SEED + (seed % 40) * 10_000;
    Box::new((0..count as u64).map(move |n| Ok(large_scene(first + n, WIDTH, HEIGHT))))
}

fn large_scene(seed: u64, width: u32, height: u32) -> Sample {
    let picture = scenes::render_wide(seed, width, height);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let proposed = expressions::generate(&picture, &options(), &mut rng);
    let placeless = |proposed: &expressions::Proposed| {
        proposed.expression.as_ref().is_some_and(|expression| expression.position.is_none())
    };
    let told = |ask: &Ask| matches!(ask.target, Target::Masks(_) | Target::Absent);
    let asks = proposed.into_iter().filter(placeless).map(|proposed| proposed.ask).filter(told).collect();
    Sample { picture, asks, degradation: None, later: None, spoken: Vec::new() }
}

fn options() -> Options {
    let weights = vec![
        (Stratum::Category, 2.0),
        (Stratum::Colour, 2.5),
        (Stratum::Plural, 1.5),
        (Stratum::AbsentCategory, 2.0),
        (Stratum::AbsentColour, 1.0),
    ];
    Options { count: 8, held_out_share: 0.3, slip_share: 0.0, weights }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::benchmark::TEST_SEED;

    /// What would break: questions that no tile can answer, or whose answer is not in the picture.
    #[test]
    fn questions_are_about_things_and_not_about_places() {
        let (mut masks, mut absent) = (0, 0);
        for seed in 0..4 {
            let sample = large_scene(LARGE_SEED + seed, 256, 144);
            assert_eq!(sample.picture.image.dimensions(), (256, 144));
            for ask in &sample.asks {
                assert!(ask.hint.is_none());
                match &ask.target {
                    Target::Masks(which) => {
                        masks += 1;
                        assert!(which.iter().all(|&index| sample.picture.instances[index].mask.is_some()));
                    }
                    Target::Absent => absent += 1,
                    other => panic!("{}: {other:?}", ask.text),
                }
            }
        }
        assert!(masks > 3 && absent > 1, "{masks} with a target, {absent} without");
    }

    #[test]
    fn large_scenes_are_nobody_elses() {
        let all_of_a_set = 40 * 10_000;
        assert!(LARGE_SEED >= TEST_SEED + 500_000 + all_of_a_set);
    }
}
