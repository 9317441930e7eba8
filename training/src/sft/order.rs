//! Which sample comes when, as a function of the seed and the position alone, so that a resumed run goes on exactly.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// An endless order over samples: one permutation after the other.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    epoch: Option<usize>,
    permutation: Vec<usize>,
}

impl Order {
    /// An order over `samples` samples (at least one).
    pub fn new(seed: u64, samples: usize) -> Self {
        Self { seed, epoch: None, permutation: (0..samples.max(1)).collect() }
    }

    /// The sample at a position, and the seed of what is drawn for it.
    pub fn at(&mut self, position: usize) -> (usize, u64) {
        let count = self.permutation.len();
        let epoch = position / count;
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.permutation = (0..count).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ (epoch as u64).rotate_left(40));
            self.permutation.shuffle(&mut rng);
        }
        (self.permutation[position % count], self.seed.rotate_left(17) ^ position as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn every_epoch_shows_every_sample_once_and_any_start_gives_the_same() {
        let mut order = Order::new(7, 10);
        let all: Vec<(usize, u64)> = (0..30).map(|p| order.at(p)).collect();
        for epoch in all.chunks(10) {
            let mut seen: Vec<usize> = epoch.iter().map(|a| a.0).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(all[..10], all[10..20]);
        let mut resumed = Order::new(7, 10);
        assert!((17..30).all(|p| resumed.at(p) == all[p]));
        let mut seeds: Vec<u64> = all.iter().map(|a| a.1).collect();
        seeds.dedup();
        assert_eq!(seeds.len(), 30);
    }
}
