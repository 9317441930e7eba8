//! Counts of byte values.

/// How often each byte value occurred.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: [u32; 256],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; 256] }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, value: u8) {
        self.counts[usize::from(value)] += 1;
    }

    fn total(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Mean in 0..=1.
    pub(super) fn mean(&self) -> f32 {
        let sum: u64 = (0..).zip(&self.counts).map(|(value, &count): (u64, _)| value * u64::from(count)).sum();
        sum as f32 / (255.0 * self.total().max(1) as f32)
    }

    /// The value in 0..=1 that a `share` of all values does not exceed.
    pub(super) fn percentile(&self, share: f32) -> f32 {
        let wanted = (self.total() as f32 * share).ceil().max(1.0) as u32;
        let mut seen = 0;
        let value = self.counts.iter().position(|&count| {
            seen += count;
            seen >= wanted
        });
        value.unwrap_or(255) as f32 / 255.0
    }

    /// Share of values of at least `least`.
    pub(super) fn share_from(&self, least: u8) -> f32 {
        let count: u32 = self.counts[usize::from(least)..].iter().sum();
        count as f32 / self.total().max(1) as f32
    }
}
