//! A number with its uncertainty.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Record;

/// Bootstrap resamples.
pub const RESAMPLES: usize = 1000;
/// Resamples of statistics that are not functions of sums.
const COSTLY_RESAMPLES: usize = 200;

/// A statistic with its 95 % bootstrap interval (percentile method, Efron 1979), resampled by scene.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The statistic; not a number where nothing contributes.
    pub value: f64,
    /// 2.5th percentile of the resamples.
    pub low: f64,
    /// 97.5th percentile of the resamples.
    pub high: f64,
    /// Records that contribute.
    pub n: usize,
}

/// A statistic that is a function of sums: each record adds a vector or nothing, `value` reads the totals.
///
/// Questions of one scene share its picture, so whole scenes are drawn, never questions.
pub fn sums<const N: usize>(
    records: &[&Record],
    seed: u64,
    contribution: impl Fn(&Record) -> Option<[f64; N]>,
    value: impl Fn([f64; N]) -> f64,
) -> Figure {
    let contributions = records.iter().filter_map(|record| Some((record.scene.as_str(), contribution(record)?)));
    scene_sums(contributions, seed, value)
}

/// [`sums`] of anything that belongs to a scene: its name with what is added.
pub fn scene_sums<'a, const N: usize>(
    contributions: impl Iterator<Item = (&'a str, [f64; N])>,
    seed: u64,
    value: impl Fn([f64; N]) -> f64,
) -> Figure {
    let mut scenes: BTreeMap<&str, [f64; N]> = BTreeMap::new();
    let mut n = 0;
    for (scene, added) in contributions {
        n += 1;
        let total = scenes.entry(scene).or_insert([0.0; N]);
        total.iter_mut().zip(added).for_each(|(t, a)| *t += a);
    }
    let scenes: Vec<[f64; N]> = scenes.into_values().collect();
    let total = |of: &mut dyn Iterator<Item = &[f64; N]>| {
        let mut total = [0.0; N];
        for scene in of {
            total.iter_mut().zip(scene).for_each(|(t, s)| *t += s);
        }
        value(total)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = || total(&mut (0..scenes.len()).map(|_| &scenes[rng.random_range(0..scenes.len())]));
    interval(total(&mut scenes.iter()), n, RESAMPLES, scenes.len(), draw)
}

/// Any statistic of records, resampled by scene.
pub fn resampled(records: &[&Record], seed: u64, value: impl Fn(&[&Record]) -> f64) -> Figure {
    let mut scenes: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        scenes.entry(&record.scene).or_default().push(record);
    }
    let scenes: Vec<Vec<&Record>> = scenes.into_values().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = || {
        let drawn: Vec<&Record> =
            (0..scenes.len()).flat_map(|_| scenes[rng.random_range(0..scenes.len())].iter().copied()).collect();
        value(&drawn)
    };
    interval(value(records), records.len(), COSTLY_RESAMPLES, scenes.len(), draw)
}

/// Mean of values that do not hang together, each drawn for itself.
pub fn mean(values: &[f64], seed: u64) -> Figure {
    let n = values.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = || (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64;
    interval(values.iter().sum::<f64>() / n as f64, n, RESAMPLES, n, draw)
}

fn interval(value: f64, n: usize, resamples: usize, scenes: usize, mut draw: impl FnMut() -> f64) -> Figure {
    if n == 0 || scenes == 0 {
        return Figure { value: f64::NAN, low: f64::NAN, high: f64::NAN, n };
    }
    let mut drawn: Vec<f64> = (0..resamples).map(|_| draw()).filter(|v| v.is_finite()).collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * drawn.len().saturating_sub(1) as f64).round() as usize;
        drawn.get(rank).copied().unwrap_or(f64::NAN)
    };
    Figure { value, low: at(0.025), high: at(0.975), n }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, example};
    use super::*;

    fn mean_iou(records: &[&Record]) -> Figure {
        sums(records, 1, |r| Some([r.iou(), 1.0]), |[s, n]| s / n)
    }

    #[test]
    fn scenes_are_the_unit_of_resampling() {
        // 400 records, but of two scenes only, one all right and one all wrong: we know next to nothing.
        let two: Vec<Record> =
            (0..400).map(|i| example(i % 2, Kind::Mask, 10, 10, if i % 2 == 0 { 10 } else { 0 })).collect();
        let many: Vec<Record> =
            (0..400).map(|i| example(i, Kind::Mask, 10, 10, if i % 2 == 0 { 10 } else { 0 })).collect();
        let (two, many) = (mean_iou(&two.iter().collect::<Vec<_>>()), mean_iou(&many.iter().collect::<Vec<_>>()));
        assert_eq!((two.value, two.low, two.high), (0.5, 0.0, 1.0));
        assert!(many.low > 0.42 && many.high < 0.58 && many.low < 0.47 && many.high > 0.53, "{many:?}");
    }

    #[test]
    fn both_ways_agree_and_nothing_gives_no_number() {
        let records: Vec<Record> = (0..60).map(|i| example(i / 3, Kind::Mask, 10, 10, (i % 11) as u64)).collect();
        let records: Vec<&Record> = records.iter().collect();
        let other = resampled(&records, 1, |r| r.iter().map(|r| r.iou()).sum::<f64>() / r.len() as f64);
        let figure = mean_iou(&records);
        assert!((figure.value - other.value).abs() < 1e-12);
        assert!((figure.low - other.low).abs() < 0.03 && (figure.high - other.high).abs() < 0.03);
        assert!(mean_iou(&[]).value.is_nan());
    }

    #[test]
    fn intervals_repeat_for_a_seed() {
        let records: Vec<Record> = (0..30).map(|i| example(i, Kind::Mask, 10, 10, (i % 7) as u64)).collect();
        let records: Vec<&Record> = records.iter().collect();
        assert_eq!(mean_iou(&records), mean_iou(&records));
    }
    #[test]
    fn a_mean_of_few_values_is_uncertain() {
        let few = mean(&[0.0, 1.0], 1);
        let many = mean(&[0.0, 1.0].repeat(200), 1);
        assert_eq!((few.value, few.low, few.high, few.n), (0.5, 0.0, 1.0, 2));
        assert!(many.value == 0.5 && many.low > 0.42 && many.high < 0.58, "{many:?}");
        assert!(mean(&[], 1).value.is_nan());
    }
}
