//! A bundle is opened whole or not at all, and the error names the file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::fixture::{bundle, key, manifest, write_files};
use super::*;
use kestrel_link::signature::SigningKey;
use kestrel_link::{Refusal, Segment, Verdict};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_sealed_bundle_opens() {
    let dir = folder();
    let sealed = bundle(dir.path(), "1.0.0");
    let opened = Bundle::open(dir.path()).unwrap();
    assert_eq!(opened.manifest, sealed.manifest);
    assert_eq!(opened.manifest_hash.len(), 64);
    assert_eq!(opened.canaries.len(), 2);
    assert!(opened.manifest.files.contains_key("MODEL_CARD.md"));
    opened.verify_signature(&[key().verifying_key()]).unwrap();
}

/// Without the check of every file, a bundle could fly with graphs nobody tried.
///
/// Promise: P6
#[test]
fn one_flipped_byte_in_any_file_is_found_and_named() {
    let dir = folder();
    let whole = bundle(dir.path(), "1.0.0");
    for name in whole.manifest.files.keys() {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let error = Bundle::open(dir.path()).unwrap_err();
            assert!(matches!(error, BundleError::Hash { .. }), "{error}");
            assert!(error.to_string().contains(name.as_str()), "{error}");
        }
        std::fs::write(&path, &good[1..]).unwrap();
        assert!(matches!(Bundle::open(dir.path()), Err(BundleError::Length { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Bundle::open(dir.path()), Err(BundleError::File { .. })));
        std::fs::write(&path, &good).unwrap();
    }
    Bundle::open(dir.path()).unwrap();
}

/// Promise: P6
#[test]
fn a_changed_manifest_loses_its_signature() {
    let dir = folder();
    bundle(dir.path(), "1.0.0");
    let path = dir.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("1.0.0", "1.0.1")).unwrap();
    let opened = Bundle::open(dir.path()).unwrap();
    let error = opened.verify_signature(&[key().verifying_key()]).unwrap_err().to_string();
    assert!(error.contains("manifest.sig") && error.contains("does not hold"), "{error}");
}

/// Promise: P6
#[test]
fn unsigned_and_foreign_bundles_are_not_trusted() {
    let dir = folder();
    bundle(dir.path(), "1.0.0");
    let foreign = SigningKey::from_bytes(&[1; 32]).verifying_key();
    let signed = Bundle::open(dir.path()).unwrap();
    assert!(signed.verify_signature(&[foreign]).unwrap_err().to_string().contains("not trusted"));
    assert!(signed.verify_signature(&[]).is_err());
    // Sealing anew without a key takes the old signature away.
    let unsigned = seal(dir.path(), manifest("1.0.0"), None).unwrap();
    assert!(!unsigned.is_signed());
    let trusted = [key().verifying_key()];
    assert!(matches!(unsigned.verify_signature(&trusted), Err(BundleError::Unsigned { .. })));
    assert!(unsigned.offer().is_err());
}

/// Promise: P6
#[test]
fn thresholds_of_another_model_are_refused() {
    let (dir, other) = (folder(), folder());
    write_files(dir.path(), "1.0.0");
    write_files(other.path(), "2.0.0");
    std::fs::copy(other.path().join("mask.onnx"), dir.path().join("mask.onnx")).unwrap();
    let error = seal(dir.path(), manifest("1.0.0"), None).unwrap_err();
    assert!(matches!(error, BundleError::ForeignThresholds { .. }), "{error}");
    assert!(error.to_string().contains("thresholds.json") && error.to_string().contains("model_hash"));
    assert!(error.hint().contains("ground calibrate"));
}

/// Promise: P6
#[test]
fn a_tokenizer_with_other_ids_is_refused() {
    let dir = folder();
    write_files(dir.path(), "1.0.0");
    let mut moved = manifest("1.0.0");
    std::mem::swap(&mut moved.answer_tokens.seg, &mut moved.answer_tokens.absent);
    let error = seal(dir.path(), moved, None).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("[SEG]"), "{error}");
    let mut small = manifest("1.0.0");
    small.vocabulary = 256;
    let path = dir.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"a\":7", "\"a\":256");
    std::fs::write(&path, text).unwrap();
    let error = seal(dir.path(), small, None).unwrap_err().to_string();
    assert!(error.contains("ids below 256"), "{error}");
}

/// Promise: P6
#[test]
fn a_manifest_for_other_shapes_is_refused() {
    let dir = folder();
    bundle(dir.path(), "1.0.0");
    let path = dir.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"input_size\": 512", "\"input_size\": 384")).unwrap();
    let error = Bundle::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("input_size") && error.contains("512") && error.contains("384"), "{error}");
}

#[test]
fn a_canary_picture_must_fit_its_mask() {
    let dir = folder();
    write_files(dir.path(), "1.0.0");
    image::RgbImage::new(8, 8).save(dir.path().join("canary/00.png")).unwrap();
    let error = seal(dir.path(), manifest("1.0.0"), None).unwrap_err().to_string();
    assert!(error.contains("canary") && error.contains("16x12"), "{error}");
}

#[test]
fn chunks_are_those_of_the_files() {
    let dir = folder();
    let bundle = bundle(dir.path(), "1.0.0");
    let request = |path: &str, offset, length| ChunkRequest {
        manifest_hash: bundle.manifest_hash.clone(),
        path: path.into(),
        offset,
        length,
    };
    assert_eq!(bundle.chunk(&request("vision.onnx", 7, 5)).unwrap().unwrap(), b"1.0.0");
    assert_eq!(bundle.chunk(&request("vision.onnx", 7, 6)).unwrap(), None);
    assert_eq!(bundle.chunk(&request("manifest.sig", 0, 1)).unwrap(), None);
    let other = ChunkRequest { manifest_hash: "0".repeat(64), ..request("vision.onnx", 0, 1) };
    assert_eq!(bundle.chunk(&other).unwrap(), None);
}

#[test]
fn canaries_are_judged() {
    let dir = folder();
    let bundle = bundle(dir.path(), "1.0.0");
    let (target, nothing) = (&bundle.canaries[0], &bundle.canaries[1]);
    let found = |least: u32| {
        let mask = Mask::from_fn(16, 12, |x, y| x > least && y > 4).unwrap();
        Outcome::Segmented { masks: vec![Segment::of(mask, 0.9, 0.9).unwrap()] }
    };
    let refused = Outcome::Refused(Refusal { verdict: Verdict::TargetAbsent, evidence: vec![], advice: String::new() });
    assert!((target.judge(&found(4)).unwrap() - 1.0).abs() < 1e-6);
    assert!(target.judge(&found(9)).unwrap_err().contains("IoU"));
    assert!(target.judge(&refused).unwrap_err().contains("expected a mask"));
    assert!(nothing.judge(&refused).is_ok());
    assert!(nothing.judge(&found(4)).unwrap_err().contains("expected a refusal"));
}
