//! Which images show the same ground: difference hashes, neighbouring file numbers, colour signatures.
//!
//! Used once to freeze `nwpu_clusters.json` (example `freeze_benchmark`); a test holds the table against the images.

use std::collections::BTreeMap;

use image::RgbImage;
use image::imageops::{FilterType, resize};

use crate::sample::Category;

/// What is compared of one image.
#[derive(Debug, Clone)]
pub struct Signature {
    /// File number.
    pub number: u32,
    /// 64-bit difference hash.
    pub hash: u64,
    /// Mean and deviation of the three channels, 0..=255.
    pub colours: [f32; 6],
    /// Categories labelled in it.
    pub categories: Vec<Category>,
}

/// Difference hash (9×8 grey, sign of the horizontal step) and colour statistics of an image.
pub fn signature(number: u32, image: &RgbImage, categories: Vec<Category>) -> Signature {
    let small = resize(image, 9, 8, FilterType::Triangle);
    let grey = |x: u32, y: u32| small.get_pixel(x, y).0.iter().map(|v| u32::from(*v)).sum::<u32>();
    let mut hash = 0u64;
    for y in 0..8 {
        for x in 0..8 {
            hash = hash << 1 | u64::from(grey(x, y) > grey(x + 1, y));
        }
    }
    let fine = resize(image, 64, 64, FilterType::Triangle);
    let mut colours = [0f32; 6];
    let n = (64 * 64) as f32;
    for c in 0..3 {
        let mean = fine.pixels().map(|p| f32::from(p.0[c])).sum::<f32>() / n;
        let variance = fine.pixels().map(|p| (f32::from(p.0[c]) - mean).powi(2)).sum::<f32>() / n;
        colours[c] = mean;
        colours[c + 3] = variance.sqrt();
    }
    Signature { number, hash, colours, categories }
}

/// Whether two images may show the same ground: near-equal hashes, or neighbouring numbers with like colours and a
/// shared category (crops of one large image were numbered one after the other).
pub fn related(a: &Signature, b: &Signature) -> bool {
    let differing = (a.hash ^ b.hash).count_ones();
    let colour = a.colours.iter().zip(&b.colours).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    let shared = a.categories.iter().any(|c| b.categories.contains(c));
    let neighbours = a.number.abs_diff(b.number) <= 2;
    differing <= 6 || (differing <= 14 && colour < 10.0) || (neighbours && shared && colour < 14.0)
}

/// Connected components of [`related`], each sorted, in order of their lowest number.
pub fn clusters(signatures: &[Signature]) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..signatures.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for i in 0..signatures.len() {
        for j in 0..i {
            if related(&signatures[i], &signatures[j]) {
                let (a, b) = (root(&mut parent, i), root(&mut parent, j));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in 0..signatures.len() {
        let r = root(&mut parent, i);
        groups.entry(r).or_default().push(i);
    }
    groups.into_values().collect()
}

/// Assigns clusters to train, tune and test (72 : 8 : 20), each to the split that lacks its categories most.
///
/// Clusters larger than a twelfth of all images train; the others go in order of a fixed hash.
pub fn assign(signatures: &[Signature], clusters: &[Vec<usize>]) -> Vec<usize> {
    const SHARES: [f32; 3] = [0.72, 0.08, 0.20];
    let mut totals: BTreeMap<Category, f32> = BTreeMap::new();
    for signature in signatures {
        for c in &signature.categories {
            *totals.entry(*c).or_default() += 1.0;
        }
    }
    let mut order: Vec<usize> = (0..clusters.len()).collect();
    let scramble = |i: usize| (signatures[clusters[i][0]].number.wrapping_mul(2_654_435_761)).rotate_left(7);
    order.sort_by_key(|i| (std::cmp::Reverse(clusters[*i].len() / 4), scramble(*i)));
    let mut held: [BTreeMap<Category, f32>; 3] = Default::default();
    let mut splits = vec![0; clusters.len()];
    for i in order {
        let lack = |split: usize| -> f32 {
            let of = |c: &Category| held[split].get(c).copied().unwrap_or(0.0) / (totals[c] * SHARES[split]);
            let members = clusters[i].iter().flat_map(|m| &signatures[*m].categories);
            let (sum, n) = members.fold((0.0, 0.0), |(s, n), c| (s + of(c), n + 1.0));
            if n > 0.0 { sum / n } else { 0.0 }
        };
        let large = clusters[i].len() * 12 > signatures.len();
        let best = if large { 0 } else { (0..3).min_by(|a, b| lack(*a).total_cmp(&lack(*b))).unwrap_or(0) };
        splits[i] = best;
        for m in &clusters[i] {
            for c in &signatures[*m].categories {
                *held[best].entry(*c).or_default() += 1.0;
            }
        }
    }
    splits
}
