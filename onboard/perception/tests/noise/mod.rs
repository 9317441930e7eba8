//! Repeatable normal random numbers.

/// SplitMix64 (Steele, Lea, Flood 2014) under a Box–Muller transform.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// Evenly in 0..1, never 0.
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::MIN_POSITIVE
    }

    /// Normal with mean 0 and this standard deviation.
    pub(crate) fn normal(&mut self, sigma: f64) -> f64 {
        let radius = (-2.0 * self.even().ln()).sqrt();
        sigma * radius * (std::f64::consts::TAU * self.even()).cos()
    }
}
