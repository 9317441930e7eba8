//! A model small enough to write by hand that does what a real one does: it finds what is red, or blue.
//!
//! Its first word decides: `red` and `blue` are answered with a mask of that colour, a word without sense is doubted,
//! anything else is absent. Pixels decide how sure it is. Shapes and names are those of every model that flies.

use std::path::Path;

use image::{Rgb, RgbImage};
use kestrel_link::manifest::{EXPLAIN_FILE, FINE_WIDTH, INPUT_SIZE, LANGUAGE_WIDTH, MASK_WIDTH, MAX_TOKENS};
use kestrel_link::signature::SigningKey;
use kestrel_link::{AnswerTokens, CanarySpec, Manifest, Outcome, Presence, Query, Thresholds};
use kestrel_models::tokenizer::{self, QueryTokenizer};
use kestrel_onboard::bundle::{Bundle, seal};
use kestrel_onboard::engine::{EngineChoice, EngineOptions};
use kestrel_onboard::pipeline::{Segmenter, SegmenterOptions};
use kestrel_perception::Tiling;
use kestrel_perception::geo::{
    Attitude, Bounds, Camera, Distortion, Georeferencer, GimbalReference, Ground, Pose, PoseSigma,
};
use kestrel_perception::proposals::{CODE, MOST, NAMES, SPOT};

use crate::graphs::Builder;

const VOCABULARY: usize = 512;
const SIDE: usize = INPUT_SIZE as usize;
const L: usize = MAX_TOKENS as usize;
const D: usize = LANGUAGE_WIDTH as usize;
const C: usize = MASK_WIDTH as usize;
const F: usize = FINE_WIDTH as usize;

/// Rows of one run of the graph that answers with reasons, and its room for an answer to the longest question.
const ROWS: usize = 8;
pub(crate) const ROOM: usize = 64;

/// A word that the model doubts.
pub(crate) const NONSENSE: &str = "zqxj";

pub(crate) const RED: Rgb<u8> = Rgb([255, 0, 0]);
pub(crate) const BLUE: Rgb<u8> = Rgb([0, 0, 255]);

/// A grey picture with coloured squares: `(x, y, side, colour)`.
pub(crate) fn picture(width: u32, height: u32, squares: &[(u32, u32, u32, Rgb<u8>)]) -> RgbImage {
    let mut picture = RgbImage::from_pixel(width, height, Rgb([114; 3]));
    for &(x, y, side, colour) in squares {
        for (u, v) in (x..x + side).flat_map(|u| (y..y + side).map(move |v| (u, v))) {
            picture.put_pixel(u, v, colour);
        }
    }
    picture
}

pub(crate) fn query(id: &str, text: &str) -> Query {
    Query::new(id, text)
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// tract: always there, the same on every machine.
pub(crate) fn tract() -> EngineOptions {
    EngineOptions::of(EngineChoice::Tract)
}

/// No gate: drawn pictures are not photographs.
pub(crate) fn options(tiling: Tiling) -> SegmenterOptions {
    SegmenterOptions { tiling, gate: None, ..SegmenterOptions::default() }
}

/// A camera of 320×240 pixels.
pub(crate) fn camera() -> Camera {
    Camera {
        width_pixels: 320,
        height_pixels: 240,
        focal_pixels: [300.0, 300.0],
        centre_pixels: [160.0, 120.0],
        distortion: Distortion::default(),
        focal_sigma: 0.01,
        centre_sigma_pixels: 1.0,
    }
}

pub(crate) fn georeferencer() -> Georeferencer {
    Georeferencer::new(camera(), Bounds::default()).unwrap()
}

/// 30 m up, looking straight down with the top of the picture to the north.
pub(crate) fn pose() -> Pose {
    Pose {
        latitude_degrees: 56.2,
        longitude_degrees: 10.19,
        height_above_ground_metres: 30.0,
        vehicle: Attitude::default(),
        gimbal: Attitude::new(0.0, -90.0, 0.0),
        gimbal_reference: GimbalReference::Horizon,
        sigma: PoseSigma {
            position_metres: 1.0,
            height_metres: 1.0,
            vehicle: Attitude::new(2.0, 1.0, 1.0),
            gimbal: Attitude::default(),
        },
        ground: Ground::default(),
    }
}

/// Writes the bundle; `version` makes one model differ from another, and with a key it is signed and has canaries.
pub(crate) fn write(dir: &Path, version: &str, signer: Option<&SigningKey>) -> Bundle {
    std::fs::create_dir_all(dir.join("canary")).unwrap();
    let words = words();
    words.save(&dir.join("tokenizer.json")).unwrap();
    let graphs = [vision(), language(&words), mask()];
    for (name, bytes) in ["vision.onnx", "language.onnx", "mask.onnx"].iter().zip(&graphs) {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let thresholds = Thresholds {
        model_hash: Thresholds::hash_graphs(&graphs[0], &graphs[1], &graphs[2]),
        presence: Presence { weights: [-1.0, 1.0, 0.0], bias: 0.0 },
        presence_threshold: 0.5,
        mask_threshold: 0.5,
        doubt_threshold: 0.9,
        min_area_pixels: 40,
        data: "none: written by hand".into(),
        seed: 0,
        date: "2026-01-01".into(),
    };
    std::fs::write(dir.join("thresholds.json"), serde_json::to_vec(&thresholds).unwrap()).unwrap();
    let bundle = seal(dir, manifest(&words, version), None).unwrap();
    let Some(signer) = signer else { return bundle };
    let mut segmenter = Segmenter::open(&bundle, &tract(), options(Tiling::Auto)).unwrap();
    let shown = picture(64, 64, &[(10, 20, 24, RED)]);
    for (name, text) in [("00", "red square"), ("01", "blue square")] {
        let outcome = segmenter.segment(&shown, &query("canary", text)).unwrap().outcome;
        let expected = match outcome {
            Outcome::Segmented { masks } => Some(masks[0].mask.clone()),
            Outcome::Refused(_) => None,
        };
        assert_eq!(expected.is_some(), text.starts_with("red"));
        let spec = CanarySpec { query: query("canary", text), expected, min_iou: 0.9 };
        shown.save(dir.join(format!("canary/{name}.png"))).unwrap();
        std::fs::write(dir.join(format!("canary/{name}.json")), serde_json::to_vec(&spec).unwrap()).unwrap();
    }
    seal(dir, manifest(&words, version), Some(signer)).unwrap()
}

/// The model with a graph that answers with reasons: behind a token of the first column, what stands in the second has
/// this logit, and everything else 0.
pub(crate) fn write_thinking(dir: &Path, next: &[(&str, &str, f32)]) -> Bundle {
    write(dir, "1", None);
    let words = words();
    std::fs::write(dir.join(EXPLAIN_FILE), explain(&words, next)).unwrap();
    seal(dir, manifest(&words, "1"), None).unwrap()
}

/// The model with canaries that it cannot pass.
pub(crate) fn write_failing(dir: &Path, version: &str, signer: &SigningKey) -> Bundle {
    let bundle = write(dir, version, Some(signer));
    let path = dir.join("canary/01.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("blue square", "red square");
    std::fs::write(&path, text).unwrap();
    seal(dir, bundle.manifest, Some(signer)).unwrap()
}

fn manifest(words: &QueryTokenizer, version: &str) -> Manifest {
    let special = words.special();
    let [absent, ambiguous, not_understood, unseeable] = special.none;
    Manifest {
        format: 1,
        name: "red".into(),
        version: version.into(),
        created: "2026-01-01T00:00:00Z".into(),
        minimum_runtime: "0.1.0".into(),
        input_size: INPUT_SIZE,
        vocabulary: VOCABULARY as u32,
        language_width: LANGUAGE_WIDTH,
        mask_width: MASK_WIDTH,
        fine_width: FINE_WIDTH,
        max_tokens: MAX_TOKENS,
        answer_tokens: AnswerTokens {
            seg: special.seg,
            absent,
            ambiguous,
            not_understood,
            unseeable,
            answer: special.answer,
            pad: special.pad,
        },
        files: Default::default(),
        provenance: Default::default(),
    }
}

fn words() -> QueryTokenizer {
    let texts = ["red square", "blue square", "all red squares", "green tree"].into_iter().cycle().take(400);
    tokenizer::train(texts.map(str::to_owned), VOCABULARY).unwrap()
}

fn first(words: &QueryTokenizer, text: &str) -> usize {
    words.encode(text).unwrap()[0].0 as usize
}

/// Mean colours of blocks; the fourth feature is 1 everywhere.
fn vision() -> Vec<u8> {
    let mut colours = vec![0.0; 3 * F];
    for channel in 0..3 {
        colours[channel * F + channel] = 1.0;
    }
    let mut one = vec![0.0; F];
    one[3] = 1.0;
    let pool = |builder: Builder, name: &str, side: i64, rows: i64| {
        let (pooled, moved, flat) = (format!("{name}_pooled"), format!("{name}_moved"), format!("{name}_flat"));
        let shape = format!("{name}_shape");
        let square: &[i64] = &[side, side];
        builder
            .node_with("AveragePool", &["image"], &pooled, &[("kernel_shape", square, true), ("strides", square, true)])
            .node_with("Transpose", &[&pooled], &moved, &[("perm", &[0, 2, 3, 1], true)])
            .indices(&shape, &[1, rows, 3])
            .node("Reshape", &[&moved, &shape], &flat)
    };
    let builder = Builder::default()
        .input("image", &[1, 3, SIDE, SIDE])
        .floats("colours", &[3, F], &colours)
        .floats("one", &[F], &one)
        .floats("to_embed", &[3, C], &vec![0.1; 3 * C])
        .floats("to_tokens", &[3, D], &vec![0.1; 3 * D])
        .floats("to_spots", &[3, SPOT], &vec![0.1; 3 * SPOT]);
    let builder = pool(builder, "fine", 4, 16384);
    let builder = pool(builder, "spots", 8, 4096);
    let builder = pool(builder, "embed", 16, 1024);
    let builder = pool(builder, "tokens", 32, 256);
    builder
        .node("MatMul", &["fine_flat", "colours"], "fine_colours")
        .node("Add", &["fine_colours", "one"], "fine")
        .node("MatMul", &["embed_flat", "to_embed"], "embed")
        .node("MatMul", &["tokens_flat", "to_tokens"], "tokens")
        .node("MatMul", &["spots_flat", "to_spots"], "spots")
        .output("tokens", &[1, 256, D])
        .output("embed", &[1, 1024, C])
        .output("fine", &[1, 16384, F])
        .output("spots", &[1, 4096, SPOT])
        .bytes()
}

/// Tables by word: answers, `[SEG]` states and doubts.
fn language(words: &QueryTokenizer) -> Vec<u8> {
    let special = words.special();
    let mut answers = vec![0.0; VOCABULARY * VOCABULARY];
    let mut states = vec![0.0; VOCABULARY * C];
    let mut doubts = vec![-8.0; VOCABULARY];
    for row in answers.chunks_exact_mut(VOCABULARY) {
        row[special.none[0] as usize] = 4.0;
    }
    for (word, channel) in [("red", 0), ("blue", 2)] {
        let id = first(words, word);
        answers[id * VOCABULARY + special.seg as usize] = 5.0;
        answers[id * VOCABULARY + special.none[0] as usize] = 1.0;
        let state = &mut states[id * C..(id + 1) * C];
        state[..4].copy_from_slice(&[-2.0, -2.0, -2.0, -6.0]);
        state[channel] = 4.0;
    }
    for (id, _) in words.encode(NONSENSE).unwrap() {
        doubts[id as usize] = 8.0;
    }
    Builder::default()
        .input("tokens", &[1, 256, D])
        .integers("ids", &[1, L])
        .integers("index", &[1, 1])
        .floats("answers", &[VOCABULARY, VOCABULARY], &answers)
        .floats("states", &[VOCABULARY, C], &states)
        .floats("doubts", &[VOCABULARY], &doubts)
        .floats("nothing", &[1], &[0.0])
        .indices("begin", &[0])
        .indices("answer_shape", &[1, VOCABULARY as i64])
        .indices("row", &[1, -1])
        .node_with("Gather", &["ids", "begin"], "first", &[("axis", &[1], false)])
        .node("Gather", &["answers", "first"], "answer_rows")
        .node("Reshape", &["answer_rows", "answer_shape"], "answer_row")
        // What a real model would read of these two counts for nothing here.
        .node_with("ReduceMean", &["tokens"], "mean", &[("axes", &[1, 2], true), ("keepdims", &[0], false)])
        .node_with("Cast", &["index"], "place", &[("to", &[1], false)])
        .node("Reshape", &["mean", "row"], "mean_row")
        .node("Add", &["mean_row", "place"], "read")
        .node("Mul", &["read", "nothing"], "unread")
        .node("Add", &["answer_row", "unread"], "logits")
        .node("Gather", &["states", "first"], "seg")
        .node("Gather", &["doubts", "ids"], "doubt")
        .output("logits", &[1, VOCABULARY])
        .output("seg", &[1, 1, C])
        .output("doubt", &[1, L])
        .bytes()
}

/// The state's weights over the fine features; as sure as the surest pixel.
fn mask() -> Vec<u8> {
    let mut cut = vec![0.0; C * F];
    for feature in 0..F {
        cut[feature * F + feature] = 1.0;
    }
    Builder::default()
        .input("embed", &[1, 1024, C])
        .input("fine", &[1, 16384, F])
        .input("seg", &[1, 1, C])
        .input("names", &[1, MOST, NAMES])
        .input("codes", &[1, MOST, CODE])
        .input("extents", &[1, 320, MOST])
        .input("attention", &[1, MOST + 1, MOST + 1])
        .floats("cut", &[C, F], &cut)
        .floats("nothing", &[1], &[0.0])
        .floats("three", &[1], &[3.0])
        .indices("mask_shape", &[1, 128, 128])
        .indices("one_by_one", &[1, 1])
        .node("MatMul", &["seg", "cut"], "weights")
        .node_with("Transpose", &["weights"], "column", &[("perm", &[0, 2, 1], true)])
        .node("MatMul", &["fine", "column"], "pixels")
        .node_with("ReduceMean", &["embed"], "mean", &[("axes", &[1, 2], true), ("keepdims", &[1], false)])
        // What a real model would read of these counts for nothing here.
        .node("Mul", &["mean", "nothing"], "unread_embed")
        .node_with("ReduceMean", &["names"], "m0", &[("axes", &[1, 2], true), ("keepdims", &[1], false)])
        .node_with("ReduceMean", &["codes"], "m1", &[("axes", &[1, 2], true), ("keepdims", &[1], false)])
        .node_with("ReduceMean", &["extents"], "m2", &[("axes", &[1, 2], true), ("keepdims", &[1], false)])
        .node_with("ReduceMean", &["attention"], "m3", &[("axes", &[1, 2], true), ("keepdims", &[1], false)])
        .node("Add", &["m0", "m1"], "m01")
        .node("Add", &["m2", "m3"], "m23")
        .node("Add", &["m01", "m23"], "mean_proposals")
        .node("Mul", &["mean_proposals", "nothing"], "unread_proposals")
        .node("Add", &["unread_embed", "unread_proposals"], "unread")
        .node("Add", &["pixels", "unread"], "read")
        .node("Reshape", &["read", "mask_shape"], "mask")
        .node_with("ReduceMax", &["read"], "surest", &[("axes", &[1, 2], true), ("keepdims", &[0], false)])
        .node("Reshape", &["surest", "one_by_one"], "object")
        .node("Mul", &["object", "nothing"], "zero")
        .node("Add", &["zero", "three"], "iou")
        .output("mask", &[1, 128, 128])
        .output("iou", &[1, 1])
        .output("object", &[1, 1])
        .bytes()
}

/// A table of what follows each token; nothing that was read before counts. A `[SEG]` means what is red.
fn explain(words: &QueryTokenizer, next: &[(&str, &str, f32)]) -> Vec<u8> {
    let id = |text: &str| match text.starts_with(['<', '[']) {
        true => words.id(text).unwrap() as usize,
        false => first(words, text),
    };
    let mut table = vec![0.0; VOCABULARY * VOCABULARY];
    for &(from, to, logit) in next {
        table[id(from) * VOCABULARY + id(to)] = logit;
    }
    let mut states = vec![0.0; VOCABULARY * C];
    states[id("[SEG]") * C..][..4].copy_from_slice(&[4.0, -2.0, -2.0, -6.0]);
    let length = 256 + L + ROOM;
    let mean = |builder: Builder, input: &str, output: &str, axes: &[i64]| {
        builder.node_with("ReduceMean", &[input], output, &[("axes", axes, true), ("keepdims", &[1], false)])
    };
    let mut builder = Builder::default()
        .input("tokens", &[1, ROWS, D])
        .integers("ids", &[1, ROWS])
        .input("spoken", &[1, ROWS, 1])
        .integers("positions", &[1, ROWS])
        .input("mask", &[1, ROWS, length + ROWS])
        .input("past", &[2, length, 4])
        .floats("table", &[VOCABULARY, VOCABULARY], &table)
        .floats("states", &[VOCABULARY, C], &states)
        .floats("no_new", &[2, ROWS, 4], &[0.0; 8 * ROWS])
        .floats("nothing", &[1], &[0.0])
        .indices("one", &[1])
        .indices("logits_shape", &[ROWS as i64, VOCABULARY as i64])
        .indices("seg_shape", &[ROWS as i64, C as i64])
        .node("Gather", &["table", "ids"], "next")
        .node("Reshape", &["next", "logits_shape"], "likely")
        .node("Gather", &["states", "ids"], "meant")
        .node("Reshape", &["meant", "seg_shape"], "state")
        // What a real model would read of these counts for nothing here.
        .node_with("Cast", &["positions"], "places", &[("to", &[1], false)]);
    builder = mean(builder, "tokens", "m0", &[1, 2]);
    builder = mean(builder, "spoken", "m1", &[1, 2]);
    builder = mean(builder, "places", "m2", &[1]);
    builder = mean(builder, "mask", "m3", &[1, 2]);
    builder = mean(builder, "past", "m4", &[0, 1, 2]);
    builder
        .node("Add", &["m0", "m1"], "m01")
        .node("Add", &["m01", "m2"], "m012")
        .node("Add", &["m3", "m4"], "m34")
        .node("Add", &["m012", "m34"], "mean")
        .node("Reshape", &["mean", "one"], "flat")
        .node("Mul", &["flat", "nothing"], "unread")
        .node("Add", &["likely", "unread"], "logits")
        .node("Add", &["state", "unread"], "seg")
        .node("Add", &["no_new", "unread"], "new")
        .output("logits", &[ROWS, VOCABULARY])
        .output("seg", &[ROWS, C])
        .output("new", &[2, ROWS, 4])
        .bytes()
}
