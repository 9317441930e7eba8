//! A small whole bundle for tests: real in every check, with graphs that no engine would take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{Bundle, seal};
use kestrel_link::signature::SigningKey;
use kestrel_link::{AnswerTokens, CanarySpec, Manifest, Mask, Presence, Query, Thresholds};
use std::path::Path;

const TOKENS: [&str; 7] =
    ["<pad>", "<answer>", "[SEG]", "<none:absent>", "<none:ambiguous>", "<none:not_understood>", "<none:unseeable>"];

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub(crate) fn manifest(version: &str) -> Manifest {
    Manifest {
        format: 1,
        name: "tiny".into(),
        version: version.into(),
        created: "2026-01-01T00:00:00Z".into(),
        minimum_runtime: "0.1.0".into(),
        input_size: 512,
        vocabulary: 512,
        language_width: 256,
        mask_width: 128,
        fine_width: 32,
        max_tokens: 48,
        answer_tokens: AnswerTokens {
            pad: 0,
            answer: 1,
            seg: 2,
            absent: 3,
            ambiguous: 4,
            not_understood: 5,
            unseeable: 6,
        },
        files: Default::default(),
        provenance: Default::default(),
    }
}

fn query(text: &str) -> Query {
    Query::new("canary", text)
}

/// Writes the files of a bundle, all but the manifest.
pub(crate) fn write_files(dir: &Path, version: &str) {
    std::fs::create_dir_all(dir.join("canary")).unwrap();
    let graphs = ["vision", "language", "mask"].map(|name| format!("{name} {version}").into_bytes());
    for (name, bytes) in ["vision.onnx", "language.onnx", "mask.onnx"].iter().zip(&graphs) {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let added: Vec<_> =
        TOKENS.iter().enumerate().map(|(id, content)| serde_json::json!({ "id": id, "content": content })).collect();
    let tokenizer = serde_json::json!({ "added_tokens": added, "model": { "vocab": { "a": 7 } } });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let thresholds = Thresholds {
        model_hash: Thresholds::hash_graphs(&graphs[0], &graphs[1], &graphs[2]),
        presence: Presence { weights: [-1.0, 1.0, 1.0], bias: 0.0 },
        presence_threshold: 0.5,
        mask_threshold: 0.5,
        doubt_threshold: 0.5,
        min_area_pixels: 16,
        data: "none".into(),
        seed: 0,
        date: "2026-01-01".into(),
    };
    std::fs::write(dir.join("thresholds.json"), serde_json::to_vec(&thresholds).unwrap()).unwrap();
    std::fs::write(dir.join("MODEL_CARD.md"), format!("# tiny {version}\n")).unwrap();
    let expected = Mask::from_fn(16, 12, |x, y| x > 4 && y > 4).unwrap();
    for (i, expected) in [Some(expected), None].into_iter().enumerate() {
        let picture = image::RgbImage::from_fn(16, 12, |x, y| image::Rgb([x as u8, y as u8, 9]));
        picture.save(dir.join(format!("canary/{i:02}.png"))).unwrap();
        let spec = CanarySpec { query: query("the boat"), expected, min_iou: 0.9 };
        let json = serde_json::to_vec(&spec).unwrap();
        std::fs::write(dir.join(format!("canary/{i:02}.json")), json).unwrap();
    }
}

/// A signed bundle in `dir`.
pub(crate) fn bundle(dir: &Path, version: &str) -> Bundle {
    write_files(dir, version);
    seal(dir, manifest(version), Some(&key())).unwrap()
}
