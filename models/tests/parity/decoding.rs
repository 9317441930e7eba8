//! The graph that decodes, small: picture and question in runs of a few rows, then an answer token by token, against
//! one whole pass in candle.

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::export::{Room, explain};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Config, language, language_told, told};
use kestrel_models::weights::Weights;
use kestrel_perception::decoding::{Cache, Row};
use kestrel_perception::proposals::{MOST, NAMES, THING, thing};

use super::runtimes::{Data, Feed, Outputs, has_onnx_runtime, onnx_runtime, tract};
use super::{TOLERANCE, difference, moved, noises};

const QUESTION: usize = 5;
/// The question, then an answer with two `[SEG]`.
const WORDS: [u32; 11] = [40, 41, 300, 7, 20, 9, 63, 2, 11, 2, 10];
const ROOM: Room = Room { question: QUESTION, answer: WORDS.len() - QUESTION, rows: 3 };

fn config() -> Config {
    Config { image: 128, ..Config::tiny() }
}

/// The same, told of what stands out.
fn told_config() -> Config {
    Config { language_width: 128, things: true, ..config() }
}

/// Things as the model reads them, where it is told of any.
fn things(config: &Config) -> Vec<f32> {
    let boxes = [[0.1, 0.2, 0.3, 0.6], [0.4, 0.45, 0.52, 0.55], [0.5, 0.7, 0.9, 1.0]];
    match config.things {
        true => (0..).zip(&boxes).flat_map(|(seed, edges)| thing(&noises(seed, NAMES, 3.0), edges)).collect(),
        false => Vec::new(),
    }
}

/// Logits and `[SEG]` states at every word but the last, from one pass over all of them.
fn reference(config: &Config, params: &Params, tokens: &[f32]) -> [Vec<f32>; 2] {
    let images = config.token_side().pow(2);
    let tokens = Tensor::from_slice(tokens, (1, images, config.language_width), &Device::Cpu).unwrap();
    let things = things(config);
    let count = things.len() / THING;
    let packed = pack(&[vec![WORDS.to_vec()]], images + count, 0, None);
    let mut packed = packed.tensors(config.language_width / config.heads, &Device::Cpu).unwrap();
    let all: Vec<u32> = (0..WORDS.len() as u32 - 1).collect();
    packed.index = Tensor::from_slice(&all, (1, all.len()), &Device::Cpu).unwrap();
    let mut ops = Candle::evaluating(params);
    let said = match config.things {
        true => {
            let things = Tensor::from_vec(things, (1, count, THING), &Device::Cpu).unwrap();
            let told = told(&mut ops, config, &tokens, Some(&things)).unwrap();
            language_told(&mut ops, config, &told, &packed).unwrap()
        }
        false => language(&mut ops, config, &tokens, &packed).unwrap(),
    };
    [&said.logits, &said.seg].map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
}

/// The same by the graph: logits at every word but the last; states are those of one row further.
fn decoded(config: &Config, graph: &[u8], tokens: &[f32], run: impl Fn(&[u8], &[Feed]) -> Outputs) -> [Vec<f32>; 2] {
    let sizes = ROOM.sizes(config);
    let mut cache = Cache::new(sizes);
    let picture = tokens.chunks(config.language_width).map(Row::Picture);
    let things = things(config);
    let seen = picture.chain(things.chunks(THING).map(Row::Thing));
    let rows: Vec<Row<'_>> = seen.chain(WORDS.iter().map(|&id| Row::Word(id))).collect();
    let (read, answer) = rows.split_at(rows.len() - ROOM.answer);
    // 16 image tokens and 5 words in threes: one run is of both kinds.
    let runs = read.chunks(sizes.rows).chain(answer.chunks(1));
    let [mut logits, mut segs] = [Vec::new(), Vec::new()];
    for rows in runs {
        cache.stage(rows).unwrap();
        // What a row does not use must not matter.
        for (at, row) in rows.iter().enumerate() {
            match row {
                Row::Word(_) => cache.tokens[at * sizes.width..][..sizes.width].fill(1e3),
                Row::Picture(_) | Row::Thing(_) => cache.ids[at] = 77,
            }
        }
        let outputs = run(graph, &feeds(&cache, config));
        for (at, _) in rows.iter().enumerate().filter(|(_, row)| matches!(row, Row::Word(_))) {
            logits.extend_from_slice(&outputs[0][at * config.vocabulary..][..config.vocabulary]);
            segs.extend_from_slice(&outputs[1][at * config.mask_width..][..config.mask_width]);
        }
        cache.keep(&outputs[2]).unwrap();
    }
    let rest = if config.things { MOST - things.len() / THING } else { 0 };
    assert_eq!(cache.used() + rest, sizes.length, "the cache is just large enough");
    logits.truncate((WORDS.len() - 1) * config.vocabulary);
    [logits, segs.split_off(config.mask_width)]
}

fn feeds(cache: &Cache, config: &Config) -> [Feed; 6] {
    let sizes = ROOM.sizes(config);
    let rows = sizes.rows;
    let floats = |name, shape: &[usize], v: &[f32]| Feed { name, shape: shape.into(), data: Data::Floats(v.into()) };
    let integers = |name, v: &[i64]| Feed { name, shape: vec![1, rows], data: Data::Integers(v.into()) };
    [
        floats("tokens", &[1, rows, sizes.width], &cache.tokens),
        integers("ids", &cache.ids),
        floats("spoken", &[1, rows, sizes.kinds()], &cache.spoken),
        integers("positions", &cache.positions),
        floats("mask", &[1, rows, sizes.length + rows], &cache.mask),
        floats("past", &[sizes.planes, sizes.length, sizes.kv_width], &cache.past),
    ]
}

fn compare(runtime: &str, expected: &[Vec<f32>; 2], got: &[Vec<f32>; 2]) {
    for ((name, a), b) in ["logits", "seg"].iter().zip(expected).zip(got) {
        let apart = difference(a, b);
        println!("{runtime} {name}: {apart:e}");
        assert!(apart < TOLERANCE, "{runtime}: {name} is {apart} apart");
        assert!(a.iter().any(|v| (v - a[0]).abs() > 1e-2), "{name} is constant and proves nothing");
    }
}

#[test]
fn decoding_row_by_row_is_one_whole_pass() {
    row_by_row(&config());
}

/// What would break: a model that points at one thing where it is trained and at another where it flies.
#[test]
fn decoding_behind_things_is_one_whole_pass() {
    row_by_row(&told_config());
}

fn row_by_row(config: &Config) {
    let tokens = noises(3, config.token_side().pow(2) * config.language_width, 1.7);
    let made = Params::new(&Device::Cpu, 11);
    reference(config, &made, &tokens);
    // Words as loud as image tokens.
    let weights = moved(&made, 0.1);

    let expected = reference(config, &weights.to_params(&Device::Cpu).unwrap(), &tokens);
    let graph = explain(config, &weights, &ROOM).unwrap();
    assert_eq!(graph, explain(config, &weights, &ROOM).unwrap(), "export is not reproducible");
    compare("tract", &expected, &decoded(config, &graph, &tokens, tract));
    if has_onnx_runtime() {
        let run = |model: &[u8], feeds: &[Feed]| onnx_runtime(model, feeds).unwrap();
        compare("ONNX Runtime", &expected, &decoded(config, &graph, &tokens, run));
    }
}

#[test]
fn a_graph_without_room_is_refused() {
    let weights = Weights::new();
    for room in [Room { rows: 0, ..ROOM }, Room { question: 0, answer: 0, ..ROOM }] {
        let error = explain(&config(), &weights, &room).unwrap_err().to_string();
        assert!(error.contains("at least one row and one word"), "{error}");
    }
}
