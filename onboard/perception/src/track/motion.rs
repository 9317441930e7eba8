//! Where a piece will be: its box, moved at constant velocity.

use super::Shape;

/// Time between two frames whose clock stands still or goes backwards, in seconds.
const NOMINAL_SECONDS: f32 = 0.1;
/// Share of a surprise that becomes velocity: the gain h of a g-h filter whose g is 1, because masks are exact places
/// (Brookner, Tracking and Kalman Filtering Made Easy, 1998).
const GAIN: f32 = 0.5;
/// A box that changes its area by more than this factor was merged, split or covered: its middle says nothing of motion.
const STEADY: f32 = 1.5;
/// How far from its predicted place a piece is looked for, in diagonals of its box.
const REACH: f32 = 2.0;
/// By how much that grows with each frame in which it was not seen, and to what at most.
const GROWTH: f32 = 0.25;
const MOST_GROWTH: f32 = 3.0;

/// A box that moves; all lengths in pixels of the frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Motion {
    /// `[x, y, width, height]` when it was last seen.
    seen: [f32; 4],
    pub(super) seen_nanos: u64,
    /// Pixels per second; `None` until it was seen twice.
    velocity: Option<[f32; 2]>,
}

/// Seconds between two times of frames that are `frames` apart.
fn seconds(from_nanos: u64, to_nanos: u64, frames: u32) -> f32 {
    match to_nanos.checked_sub(from_nanos) {
        Some(nanos) if nanos > 0 => (nanos as f32 / 1e9).clamp(1e-3, 10.0),
        _ => NOMINAL_SECONDS * frames.max(1) as f32,
    }
}

fn middle(of: &[f32; 4]) -> [f32; 2] {
    [of[0] + of[2] / 2.0, of[1] + of[3] / 2.0]
}

impl Motion {
    pub(super) fn new(seen: [f32; 4], nanos: u64) -> Self {
        Self { seen, seen_nanos: nanos, velocity: None }
    }

    /// Its box at a time, `frames` after the one in which it was last seen.
    pub(super) fn predict(&self, nanos: u64, frames: u32) -> [f32; 4] {
        let [vx, vy] = self.velocity.unwrap_or_default();
        let time = seconds(self.seen_nanos, nanos, frames);
        let [x, y, width, height] = self.seen;
        [x + vx * time, y + vy * time, width, height]
    }

    /// Takes in where it is.
    pub(super) fn update(&mut self, seen: [f32; 4], nanos: u64, frames: u32) {
        let time = seconds(self.seen_nanos, nanos, frames);
        let (predicted, now) = (middle(&self.predict(nanos, frames)), middle(&seen));
        let surprise = [(now[0] - predicted[0]) / time, (now[1] - predicted[1]) / time];
        let (before, after) = (self.seen[2] * self.seen[3], seen[2] * seen[3]);
        if after < before * STEADY && before < after * STEADY {
            self.velocity = Some(match self.velocity {
                Some([vx, vy]) => [vx + GAIN * surprise[0], vy + GAIN * surprise[1]],
                None => surprise,
            });
        }
        self.seen = seen;
        self.seen_nanos = nanos;
    }
}

/// How well a piece lies where it is expected, 0..=1: half the IoU of its mask with the one that was moved there, half the
/// nearness of the middles of their boxes; `None` out of reach.
///
/// `unseen` is the number of frames in which it was looked for in vain.
pub(super) fn nearness(expected: (&Shape, &[f32; 4]), found: (&Shape, &[f32; 4]), unseen: u32) -> Option<f32> {
    let ([ax, ay], [bx, by]) = (middle(expected.1), middle(found.1));
    let distance = (ax - bx).hypot(ay - by);
    let diagonal = |of: &[f32; 4]| of[2].hypot(of[3]);
    let growth = (1.0 + GROWTH * unseen as f32).min(MOST_GROWTH);
    let reach = REACH * growth * (diagonal(expected.1) + diagonal(found.1)) / 2.0;
    (distance < reach).then(|| 0.5 * Shape::iou(expected, found) + 0.5 * (1.0 - distance / reach))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_steady_course_is_predicted_also_over_a_gap() {
        let mut motion = Motion::new([0.0, 10.0, 8.0, 4.0], SECOND);
        motion.update([5.0, 8.0, 8.0, 4.0], 2 * SECOND, 1);
        motion.update([10.0, 6.0, 8.0, 4.0], 3 * SECOND, 1);
        assert_eq!(motion.predict(5 * SECOND, 2), [20.0, 2.0, 8.0, 4.0]);
    }

    #[test]
    fn a_camera_without_a_clock_counts_frames() {
        let mut motion = Motion::new([0.0, 0.0, 8.0, 4.0], 0);
        motion.update([5.0, 0.0, 8.0, 4.0], 0, 1);
        let [x, ..] = motion.predict(0, 3);
        assert!((x - 20.0).abs() < 1e-3, "{x}");
    }

    #[test]
    fn half_a_thing_behind_a_tree_is_not_thrown_aside() {
        let mut motion = Motion::new([0.0, 0.0, 10.0, 10.0], SECOND);
        motion.update([2.0, 0.0, 10.0, 10.0], 2 * SECOND, 1);
        // Its right half is covered: the middle jumps back by five pixels.
        motion.update([4.0, 0.0, 5.0, 10.0], 3 * SECOND, 1);
        let [x, ..] = motion.predict(4 * SECOND, 1);
        assert_eq!(x, 6.0, "it goes on as it went");
    }

    #[test]
    fn nearness_falls_with_distance_and_ends() {
        let whole = Shape::default();
        let near =
            |x: f32, unseen: u32| nearness((&whole, &[0.0, 0.0, 10.0, 10.0]), (&whole, &[x, 0.0, 10.0, 10.0]), unseen);
        assert_eq!(near(0.0, 0), Some(1.0));
        let falling: Vec<f32> = [0.0, 5.0, 12.0, 20.0].into_iter().filter_map(|x| near(x, 0)).collect();
        assert!(falling.len() == 4 && falling.windows(2).all(|pair| pair[1] < pair[0]), "{falling:?}");
        assert_eq!(near(40.0, 0), None);
        assert!(near(40.0, 4).is_some(), "who was not seen for long is looked for farther away");
    }
}
