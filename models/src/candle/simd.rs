//! Functions compiled for several instruction sets, and the arithmetic inside them.
//!
//! The default x86-64 target knows SSE2 only. [`simd!`] compiles a body for AVX-512, for AVX2 and for the default,
//! and picks one at run time.

/// Declares `fn name(args) -> result` whose `body::<FMA>(args)` is compiled once for each instruction set.
///
/// `FMA` says whether a fused multiply-add is one instruction there; elsewhere it would be a library call.
macro_rules! simd {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident : $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$meta])*
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
            "x86_64+avx2+fma",
        ))]
        fn $name($($arg: $type),*) $(-> $result)? {
            if multiversion::target::target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
                $body::<true>($($arg),*)
            } else {
                $body::<false>($($arg),*)
            }
        }
    };
}
pub(super) use simd;

/// Independent partial sums of a reduction: one AVX-512 register, so that the order of additions does not depend on
/// the instruction set.
pub(super) const LANES: usize = 16;

/// `a · b + c`.
#[inline(always)]
pub(super) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `Σ a·b`.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (mut a_chunks, mut b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in a_chunks.by_ref().zip(b_chunks.by_ref()) {
        for i in 0..LANES {
            lanes[i] = madd::<FMA>(a[i], b[i], lanes[i]);
        }
    }
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + tail
}

/// `Σ a`.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = a.chunks_exact(LANES);
    for a in chunks.by_ref() {
        for i in 0..LANES {
            lanes[i] += a[i];
        }
    }
    lanes.iter().sum::<f32>() + chunks.remainder().iter().sum::<f32>()
}

/// The largest value; −∞ of nothing.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = a.chunks_exact(LANES);
    for a in chunks.by_ref() {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], a[i]);
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// `eˣ` to about two units in the last place, without branches so that it vectorises; saturates outside ±87.
///
/// Reduction `x = n·ln 2 + r`, then the polynomial of Cephes' `expf` (Moshier).
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding it leaves `n` in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = madd::<FMA>(n, -0.693_359_4, x);
    let r = madd::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_58e-2, 1.666_666_5e-1, 0.5] {
        p = madd::<FMA>(p, r, c);
    }
    let y = madd::<FMA>(p, r * r, r) + 1.0;
    y * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// Logistic.
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Error function to 1.5e-7 absolute (Abramowitz & Stegun, 7.1.26).
#[inline(always)]
pub(super) fn erf<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / madd::<FMA>(0.327_591_1, a, 1.0);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = madd::<FMA>(p, t, c);
    }
    (1.0 - p * t * exp::<FMA>(-a * a)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        for i in -860..=870 {
            let x = i as f32 * 0.1003;
            let expected = f64::from(x).exp();
            for got in [exp::<true>(x), exp::<false>(x)] {
                let relative = (f64::from(got) - expected).abs() / expected;
                assert!(relative < 4e-7, "exp({x}) = {got}, expected {expected}");
            }
        }
        assert!(exp::<true>(-1e4) < 1e-37, "a forbidden pair of attention gets no weight");
        assert!(exp::<true>(f32::NAN).is_nan(), "a broken number stays visible");
    }

    #[test]
    fn erf_matches_tables() {
        for (x, expected) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (-2.0, -0.995_322_3), (4.0, 1.0)] {
            assert!((erf::<true>(x) - expected).abs() < 5e-7, "erf({x}) = {}", erf::<true>(x));
        }
    }

    #[test]
    fn reductions_count_the_tail() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(sum(&a), 666.0);
        assert_eq!(max(&a), 36.0);
        assert_eq!(dot::<true>(&a, &a), 16_206.0);
    }
}
