//! Counts of byte values.

/// Values that are counted side by side: where neighbours are alike, one count would wait for the other.
const LANES: usize = 4;

/// How often each byte value occurred.
#[derive(Debug)]
pub(super) struct Histogram {
    lanes: [[u32; 256]; LANES],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { lanes: [[0; 256]; LANES] }
    }
}

impl Histogram {
    pub(super) fn add_all(&mut self, values: &[u8]) {
        for values in values.chunks(LANES) {
            for (lane, &value) in self.lanes.iter_mut().zip(values) {
                lane[usize::from(value)] += 1;
            }
        }
    }

    fn counts(&self) -> impl Iterator<Item = u32> + '_ {
        (0..256_usize).map(|value| self.lanes.iter().map(|lane| lane[value]).sum::<u32>())
    }

    fn total(&self) -> u32 {
        self.counts().sum()
    }

    /// Mean in 0..=1.
    pub(super) fn mean(&self) -> f32 {
        let sum: u64 = (0..).zip(self.counts()).map(|(value, count): (u64, _)| value * u64::from(count)).sum();
        sum as f32 / (255.0 * self.total().max(1) as f32)
    }

    /// The value in 0..=1 that a `share` of all values does not exceed.
    pub(super) fn percentile(&self, share: f32) -> f32 {
        let wanted = (self.total() as f32 * share).ceil().max(1.0) as u32;
        let mut seen = 0;
        let value = self.counts().position(|count| {
            seen += count;
            seen >= wanted
        });
        value.unwrap_or(255) as f32 / 255.0
    }

    /// Share of values of at least `least`.
    pub(super) fn share_from(&self, least: u8) -> f32 {
        let count: u32 = self.counts().skip(usize::from(least)).sum();
        count as f32 / self.total().max(1) as f32
    }
}
