//! The gate on drawn and on real pictures: clean ones pass, spoilt ones are refused for the right reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod degrade;

use degrade::{Family, degrade};
use image::{Rgb, RgbImage, imageops};
use kestrel_link::Verdict;
use kestrel_perception::{GateHistory, GateThresholds, gate};
use std::path::{Path, PathBuf};

fn verdict(frame: &RgbImage) -> Option<Verdict> {
    gate(frame, &GateThresholds::default(), &GateHistory::default()).verdict
}

/// A number in 0..1 that looks random and depends on a cell only.
fn cell(x: u32, y: u32, salt: u32) -> f32 {
    let mut bits = x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ salt.wrapping_mul(0xc2b2_ae3d);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
    bits = (bits ^ (bits >> 12)).wrapping_mul(0x297a_2d39);
    ((bits ^ (bits >> 15)) & 0xffff) as f32 / 65535.0
}

/// Fields of grass and earth with a fine texture, a road and roofs.
fn landscape(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let field = cell((x + y / 3) / 90, (y + x / 4) / 70, 1);
        let grain = 9.0 * (cell(x, y, 2) + cell(x / 2, y / 2, 3) + cell(x / 5, y / 5, 4) - 1.5);
        let mut colour = [50.0 + 90.0 * field, 80.0 + 70.0 * field, 45.0 + 50.0 * field];
        if (x + y / 2) % 300 < 24 {
            colour = [120.0, 122.0, 125.0];
        }
        if x % 130 < 26 && y % 110 < 20 {
            colour = [190.0 - 80.0 * cell(x / 130, y / 110, 5), 90.0, 80.0];
        }
        Rgb(colour.map(|value| (value + grain) as u8))
    })
}

/// Promise: P4
#[test]
fn a_clean_landscape_passes_at_every_size() {
    for (width, height) in [(512, 512), (640, 480), (1920, 1080)] {
        assert_eq!(verdict(&landscape(width, height)), None, "{width}×{height}");
    }
}

/// Promise: P4, P12
#[test]
fn every_family_is_refused_at_its_harshest_for_its_own_reason() {
    let clean = landscape(512, 384);
    for (family, expected) in [
        (Family::Dark, Verdict::TooDark),
        (Family::Overexposed, Verdict::Overexposed),
        (Family::Blur, Verdict::Blurred),
        (Family::Motion, Verdict::Blurred),
        (Family::Pixelate, Verdict::Blurred),
        (Family::Noise, Verdict::Noisy),
        (Family::Haze, Verdict::Hazy),
        (Family::Truncate, Verdict::Truncated),
        (Family::Tear, Verdict::Truncated),
        (Family::Grey, Verdict::WrongModality),
    ] {
        let report = gate(&degrade(&clean, family, 1.0, 3), &GateThresholds::default(), &GateHistory::default());
        assert_eq!(report.verdict.as_ref(), Some(&expected), "{family:?}: {:?}", report.statistics);
        let refusal = report.refusal().unwrap();
        assert!(refusal.evidence.len() >= 2 && !refusal.advice.is_empty(), "{family:?}");
    }
}

#[test]
fn severity_zero_changes_no_verdict() {
    let clean = landscape(512, 384);
    for family in degrade::FAMILIES.into_iter().filter(|family| *family != Family::Grey && *family != Family::Tear) {
        assert_eq!(verdict(&degrade(&clean, family, 0.0, 3)), None, "{family:?}");
    }
}

#[test]
fn a_mild_blur_is_left_to_the_model() {
    assert_eq!(verdict(&imageops::fast_blur(&landscape(512, 384), 1.2)), None);
}

/// Promise: P4
#[test]
fn water_and_sand_without_texture_are_no_defect() {
    let water = RgbImage::from_fn(640, 480, |x, y| {
        let ripple = 3.0 * cell(x / 3, y / 2, 1);
        Rgb([(40.0 + ripple) as u8, (80.0 + ripple + y as f32 / 40.0) as u8, (110.0 + ripple) as u8])
    });
    assert_eq!(verdict(&water), None);
    let sand = RgbImage::from_fn(640, 480, |x, y| {
        let grain = 5.0 * cell(x, y, 1) + x as f32 / 60.0;
        Rgb([(150.0 + grain) as u8, (125.0 + grain) as u8, (95.0 + grain) as u8])
    });
    assert_eq!(verdict(&sand), None);
}

#[test]
fn a_shore_along_the_rows_is_no_tear() {
    let mut shore = landscape(512, 384);
    for (_, y, pixel) in shore.enumerate_pixels_mut() {
        if y >= 200 {
            pixel.0 = pixel.0.map(|value| value / 3);
        }
    }
    assert_eq!(verdict(&shore), None);
}

/// The frame between two grey bars, as video players and square data sets show a wide picture.
fn between_bars(frame: &RgbImage) -> RgbImage {
    let (width, height) = frame.dimensions();
    let mut barred = RgbImage::from_pixel(width, width.max(height), Rgb([114; 3]));
    imageops::replace(&mut barred, frame, 0, i64::from(width.saturating_sub(height) / 2));
    barred
}

#[test]
fn bars_above_and_below_are_no_tear_and_hide_none() {
    // Light and dark columns: where the picture begins, some get lighter than the bar and some darker.
    let plain = landscape(512, 300);
    let striped = RgbImage::from_fn(512, 300, |x, y| {
        let Rgb([r, g, b]) = *plain.get_pixel(x, y);
        let shift = if x / 40 % 2 == 0 { 60 } else { 0 };
        Rgb([r, g, b].map(|v: u8| v.saturating_sub(30).saturating_add(shift)))
    });
    let barred = between_bars(&striped);
    assert_eq!(verdict(&barred), None);
    let torn = degrade(&landscape(512, 300), Family::Tear, 1.0, 5);
    assert_eq!(verdict(&between_bars(&torn)), Some(Verdict::Truncated));
}

/// Promise: P4
#[test]
fn false_colour_is_refused_and_red_earth_is_not() {
    let mut infrared = landscape(512, 384);
    for pixel in infrared.pixels_mut() {
        let [red, green, blue] = pixel.0;
        pixel.0 = [green.saturating_add(50), blue, red.saturating_add(20)];
    }
    assert_eq!(verdict(&infrared), Some(Verdict::WrongModality));
    let mut earth = landscape(512, 384);
    for pixel in earth.pixels_mut() {
        let [_, green, _] = pixel.0;
        pixel.0 = [green.saturating_add(60), green, green - green / 3];
    }
    assert_eq!(verdict(&earth), None);
}

/// Promise: P4
#[test]
fn the_same_picture_again_and_again_is_frozen() {
    let (frame, other) = (landscape(320, 240), landscape(322, 240));
    let bounds = GateThresholds::default();
    let mut history = GateHistory::default();
    for repeat in 0..=bounds.most_repeats {
        let report = gate(&frame, &bounds, &history);
        let expected = (repeat == bounds.most_repeats).then_some(Verdict::Frozen);
        assert_eq!(report.verdict, expected, "repeat {repeat}");
        history = report.history;
    }
    let report = gate(&other, &bounds, &history);
    assert_eq!((report.verdict, report.history.repeats), (None, 0));
    let never = GateThresholds { most_repeats: 0, ..bounds };
    assert_eq!(gate(&frame, &never, &history).verdict, None);
}

/// Promise: P13
#[test]
fn frames_of_any_size_get_a_verdict_and_no_panic() {
    assert_eq!(verdict(&RgbImage::new(0, 0)), Some(Verdict::Truncated));
    for (width, height) in [(1, 1), (1, 400), (400, 1), (31, 33), (97, 5000)] {
        let _ = verdict(&landscape(width, height));
    }
}

/// Pictures of a folder of `$KESTREL_DATA`, every n-th; `None`, said loudly, where the data is not.
fn real(set: &str, every: usize) -> Option<Vec<(PathBuf, RgbImage)>> {
    let folder = std::env::var_os("KESTREL_DATA").map(|root| Path::new(&root).join(set).join("images"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        eprintln!("SKIPPED: {set} is not in $KESTREL_DATA");
        return None;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let pictures = files.into_iter().step_by(every).map(|file| {
        let picture = image::open(&file).unwrap().to_rgb8();
        (file, picture)
    });
    Some(pictures.collect())
}

/// Promise: P4
#[test]
fn real_colour_photographs_pass() {
    for (set, every) in [("brighton_beach_drone", 4), ("auair", 12), ("kit_ais_munich", 9), ("nwpu_vhr10", 30)] {
        let Some(pictures) = real(set, every) else { continue };
        let refused: Vec<_> = pictures.iter().filter_map(|(file, picture)| Some((file, verdict(picture)?))).collect();
        assert!(refused.len() * 50 <= pictures.len(), "{set}: {refused:?}");
        let barred = |(file, picture)| Some((file, verdict(&between_bars(picture))?));
        let refused: Vec<_> = pictures.iter().map(|(file, picture)| (file, picture)).filter_map(barred).collect();
        assert!(refused.len() * 50 <= pictures.len(), "{set} between bars: {refused:?}");
    }
}

/// Promise: P4
#[test]
fn real_pictures_of_another_modality_are_refused() {
    for (set, every) in [("hit_uav_thermal", 10), ("odm_seneca_nir", 4)] {
        let Some(pictures) = real(set, every) else { continue };
        for (file, picture) in pictures {
            assert_eq!(verdict(&picture), Some(Verdict::WrongModality), "{}", file.display());
        }
    }
}

/// Promise: P4
#[test]
fn real_photographs_spoilt_beyond_use_are_refused() {
    for (set, every) in [("brighton_beach_drone", 9), ("auair", 30), ("nwpu_vhr10", 173)] {
        let Some(pictures) = real(set, every) else { continue };
        for (file, picture) in pictures {
            let small = imageops::thumbnail(&picture, 512, 512 * picture.height() / picture.width());
            for family in [Family::Dark, Family::Overexposed, Family::Blur, Family::Noise, Family::Truncate] {
                let spoilt = degrade(&small, family, 1.0, 5);
                assert!(verdict(&spoilt).is_some(), "{family:?} of {}", file.display());
            }
        }
    }
}
