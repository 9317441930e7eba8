//! Manifests, thresholds and signatures: only what this runtime can fly, signed by whom it trusts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kestrel_link::signature::{
    SigningKey, key_id, parse_public_key, parse_secret_key, public_key_text, secret_key_text, sign_manifest,
    verify_manifest,
};
use kestrel_link::*;
use proptest::prelude::*;

fn manifest() -> Manifest {
    let file = |path: &str| (path.to_owned(), FileEntry::of(path.as_bytes()));
    Manifest {
        format: 1,
        name: "kestrel-s".into(),
        version: "0.1.0".into(),
        created: "2026-01-01T00:00:00Z".into(),
        minimum_runtime: "0.1.0".into(),
        input_size: 512,
        vocabulary: 2048,
        language_width: 256,
        mask_width: 128,
        fine_width: 32,
        max_tokens: 48,
        answer_tokens: AnswerTokens {
            seg: 2,
            absent: 3,
            ambiguous: 4,
            not_understood: 5,
            unseeable: 6,
            answer: 1,
            pad: 0,
        },
        files: [
            "vision.onnx",
            "language.onnx",
            "mask.onnx",
            "tokenizer.json",
            "thresholds.json",
            "canary/00.png",
            "canary/00.json",
            "canary/odd.json",
        ]
        .map(file)
        .into(),
        provenance: [("recipe".to_owned(), "kestrel-s-sft".to_owned())].into(),
    }
}

fn thresholds() -> Thresholds {
    Thresholds {
        model_hash: Thresholds::hash_graphs(b"v", b"l", b"m"),
        presence: Presence { weights: [-1.0, 0.5, 0.25], bias: 0.1 },
        presence_threshold: 0.5,
        mask_threshold: 0.5,
        doubt_threshold: 0.6,
        min_area_pixels: 16,
        data: "scenes-tune".into(),
        seed: 7,
        date: "2026-01-01".into(),
    }
}

#[test]
fn a_manifest_comes_back() {
    let manifest = manifest();
    let bytes = manifest.to_json().unwrap();
    assert_eq!(Manifest::from_json(&bytes).unwrap(), manifest);
    assert_eq!(manifest.model(), "kestrel-s@0.1.0");
    // A canary is a picture and its question; one without the other is none.
    assert_eq!(manifest.canaries(), ["canary/00"]);
}

#[test]
fn hashes_are_sha256_and_the_model_hash_is_of_the_graphs_in_order() {
    // FIPS 180-2, example B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_hex(b"abc"), abc);
    assert_eq!(Thresholds::hash_graphs(b"a", b"b", b"c"), abc);
}

type Change = (&'static str, fn(&mut Manifest));

/// Promise: P6
#[test]
fn manifests_this_runtime_cannot_fly_are_refused_by_name() {
    let changes: Vec<Change> = vec![
        ("manifest.format", |m| m.format = 2),
        ("manifest.name", |m| m.name = "../x".into()),
        ("manifest.version", |m| m.version = String::new()),
        ("manifest.minimum_runtime", |m| m.minimum_runtime = "99.0.0".into()),
        ("manifest.minimum_runtime", |m| m.minimum_runtime = "1".into()),
        ("manifest.input_size", |m| m.input_size = 384),
        ("manifest.language_width", |m| m.language_width = 8192),
        ("manifest.mask_width", |m| m.mask_width = 0),
        ("manifest.fine_width", |m| m.fine_width = 4),
        ("manifest.max_tokens", |m| m.max_tokens = u32::MAX),
        ("manifest.vocabulary", |m| m.vocabulary = 5),
        ("manifest.answer_tokens", |m| m.answer_tokens.seg = 2048),
        ("manifest.answer_tokens", |m| m.answer_tokens.seg = m.answer_tokens.pad),
        ("manifest.files", |m| drop(m.files.remove("mask.onnx"))),
        ("manifest.files", |m| drop(m.files.insert("vision.onnx/x".into(), FileEntry::of(b"")))),
        ("manifest.files", |m| {
            m.files.extend((0..64).map(|i| (format!("f{i}"), FileEntry::of(b""))));
        }),
        ("manifest.files", |m| m.files.get_mut("mask.onnx").unwrap().bytes = u64::MAX),
        ("manifest.files.mask.onnx.sha256", |m| {
            m.files.get_mut("mask.onnx").unwrap().sha256 = "AB".repeat(32);
        }),
        ("manifest.provenance", |m| drop(m.provenance.insert("x".into(), "y".repeat(5000)))),
    ];
    for (field, change) in changes {
        let mut manifest = manifest();
        change(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let error = Manifest::from_json(&bytes).unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
}

/// Promise: P6, P13
#[test]
fn paths_cannot_leave_the_bundle() {
    for path in [
        "../x",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "",
        ".hidden",
        "a/.b",
        "C:\\x",
        "a\\b",
        "a/b/c/d/e",
        "manifest.json",
        "manifest.sig",
        "a\0b",
        "a b",
        "*",
        "a?b",
    ] {
        let mut manifest = manifest();
        manifest.files.insert(path.into(), FileEntry::of(b""));
        assert!(manifest.validate().is_err(), "{path:?}");
    }
}

#[test]
fn unknown_fields_are_refused() {
    let text = String::from_utf8(manifest().to_json().unwrap()).unwrap();
    let more = text.replacen('{', "{\"backdoor\": 1,", 1);
    assert!(Manifest::from_json(more.as_bytes()).unwrap_err().to_string().contains("backdoor"));
}

#[test]
fn thresholds_must_be_probabilities() {
    let good = serde_json::to_vec(&thresholds()).unwrap();
    assert_eq!(Thresholds::from_json(&good).unwrap(), thresholds());
    let changes: Vec<fn(&mut Thresholds)> = vec![
        |t| t.model_hash.truncate(10),
        |t| t.presence.bias = f32::INFINITY,
        |t| t.presence.weights[1] = f32::NAN,
        |t| t.presence_threshold = 1.5,
        |t| t.mask_threshold = 0.0,
        |t| t.doubt_threshold = -0.1,
    ];
    for change in changes {
        let mut wrong = thresholds();
        change(&mut wrong);
        assert!(wrong.validate().is_err(), "{wrong:?}");
    }
}

/// Promise: P6
#[test]
fn a_signature_holds_for_these_bytes_and_this_key_only() {
    let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
    let bytes = manifest().to_json().unwrap();
    let signature = sign_manifest(&bytes, &key);
    let trusted = [other.verifying_key(), key.verifying_key()];
    assert_eq!(verify_manifest(&bytes, &signature, &trusted).unwrap(), key_id(&key.verifying_key()));

    let unknown = verify_manifest(&bytes, &signature, &trusted[..1]).unwrap_err().to_string();
    assert!(unknown.contains("not trusted"), "{unknown}");
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    assert!(verify_manifest(&flipped, &signature, &trusted).is_err());
    // The other key's id before this key's signature.
    let hex = signature.split_once(' ').unwrap().1;
    let forged = format!("{} {hex}", key_id(&other.verifying_key()));
    let error = verify_manifest(&bytes, &forged, &trusted).unwrap_err().to_string();
    assert!(error.contains("does not hold"), "{error}");
    for text in ["", "abc", "abc def", &"x".repeat(300), &signature[..signature.len() - 2]] {
        assert!(verify_manifest(&bytes, text, &trusted).is_err(), "{text:?}");
    }
}

#[test]
fn keys_come_back_and_a_wrong_secret_is_not_repeated() {
    let key = SigningKey::from_bytes(&[9; 32]);
    assert_eq!(parse_secret_key(&secret_key_text(&key)).unwrap().to_bytes(), key.to_bytes());
    let public = key.verifying_key();
    assert_eq!(parse_public_key(&format!("{}\n", public_key_text(&public))).unwrap(), public);
    let error = parse_secret_key("deadbeef-secret").unwrap_err().to_string();
    assert!(!error.contains("deadbeef"), "{error}");
    // The identity: a signature under it could be made by anyone.
    let weak = format!("01{}", "00".repeat(31));
    assert!(parse_public_key(&weak).is_err());
}

proptest! {
    /// Promise: P6
    #[test]
    fn one_flipped_bit_breaks_the_signature(at in 0usize..2000, bit in 0u8..8) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut bytes = manifest().to_json().unwrap();
        let signature = sign_manifest(&bytes, &key);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(verify_manifest(&bytes, &signature, &[key.verifying_key()]).is_err());
    }
}
