//! Milliseconds a decoded token at kestrel-s's size: the exported graph in ONNX Runtime on the processor against the
//! candle sampler, in one run and with one thread each. The model is untrained; speed does not ask what it says.
//!
//! As in training, `RAYON_NUM_THREADS` must be 1: without it candle reads `/proc/cpuinfo` before every matrix product,
//! which takes longer than the product.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --release -p kestrel-models --example decode_speed -- [TOKENS]
//! ```

use std::time::Instant;

use candle_core::{Device, Tensor};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::export::{Room, explain};
use kestrel_models::kestrel::generate::{Constraint, Prompt, Sampling, generate};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Choice, Config, language};
use kestrel_models::weights::Weights;
use kestrel_onboard::engine::library;
use kestrel_perception::decoding::{Cache, Row};
use ort::session::Session;
use ort::value::TensorRef;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

type Failure = Box<dyn std::error::Error>;

/// Words of the question.
const QUESTION: [u32; 12] = [40, 41, 300, 7, 90, 91, 92, 500, 1000, 3, 4, 9];
/// Each figure is the best of this many.
const TIMES: usize = 3;

/// Allows everything and never ends.
struct Free;

impl Constraint for Free {
    fn restrict(&self, _: &mut [f32]) {}
    fn push(&mut self, _: u32) {}
    fn finished(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Failure> {
    let config = Config::kestrel_s();
    let answer = std::env::args().nth(1).map_or(Ok(96), |text| text.parse::<usize>())?;
    let answer = answer.clamp(2, Room::of(&config).answer);
    let params = Params::new(&Device::Cpu, 1);
    let images = config.token_side().pow(2);
    let tokens: Vec<f32> = (0..images * config.language_width).map(|i| (i as f32 * 0.7).sin() * 1.4).collect();
    let picture = Tensor::from_slice(&tokens, (1, images, config.language_width), &Device::Cpu)?;
    let packed = pack(&[vec![vec![1, 2]]], images, 0, None);
    let packed = packed.tensors(config.language_width / config.heads, &Device::Cpu)?;
    language(&mut Candle::evaluating(&params), &config, &picture, &packed)?;

    println!("{images} image tokens, {} words, {answer} tokens of answer", QUESTION.len());
    println!("{:34} {:>12} {:>12} {:>16}", "", "prefill ms", "step ms", "ms a token");
    let prompt = Prompt { tokens: &picture, things: None, ids: &QUESTION };
    for rollouts in [1, 8, 32] {
        row(&format!("candle, {rollouts} rollouts"), in_candle(&params, &config, &prompt, rollouts, answer)?, rollouts);
    }
    let Some(found) = library::candidates(None).into_iter().next() else {
        println!("SKIPPED: ONNX Runtime, because no library was found (set ORT_DYLIB_PATH)");
        return Ok(());
    };
    let environment = ort::init_from(found.path)?.build()?;
    let weights = Weights::from_params(&params)?;
    for rows in [1, 4, 8, 16, 32] {
        let room = Room { rows, ..Room::of(&config) };
        let graph = explain(&config, &weights, &room)?;
        let mut session = Session::builder(&environment)?.with_intra_threads(1)?.commit_from_memory(&graph)?;
        let name = format!("ONNX Runtime, {rows} rows, {:.1} MB", graph.len() as f64 / 1e6);
        row(&name, in_runtime(&mut session, &config, room, &tokens, answer)?, 1);
    }
    Ok(())
}

/// Milliseconds of reading picture and question, and of one step.
type Took = (f64, f64);

fn row(name: &str, (prefill, step): Took, rollouts: usize) {
    println!("{name:34} {prefill:12.1} {step:12.2} {:16.2}", step / rollouts as f64);
}

fn in_candle(
    params: &Params,
    config: &Config,
    prompt: &Prompt<'_>,
    rollouts: usize,
    answer: usize,
) -> Result<Took, kestrel_models::error::Error> {
    let took = |most: usize| {
        let mut best = f64::INFINITY;
        for _ in 0..TIMES {
            let mut free: Vec<Free> = (0..rollouts).map(|_| Free).collect();
            // No token of the vocabulary is `[SEG]` here, so that the last one is not read.
            let sampling = Sampling { choice: Choice::Sampled { temperature: 1.0 }, most, seg: u32::MAX };
            let start = Instant::now();
            generate(params, config, prompt, &mut free, sampling, &mut ChaCha8Rng::seed_from_u64(1))?;
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok::<_, kestrel_models::error::Error>(best)
    };
    // The first token costs no step.
    let (first, all) = (took(1)?, took(answer)?);
    Ok((first, (all - first) / (answer - 1) as f64))
}

fn in_runtime(
    session: &mut Session,
    config: &Config,
    room: Room,
    tokens: &[f32],
    answer: usize,
) -> Result<Took, Failure> {
    let sizes = room.sizes(config);
    let mut cache = Cache::new(sizes);
    let picture = tokens.chunks(sizes.width).map(Row::Picture);
    let read: Vec<Row<'_>> = picture.chain(QUESTION.iter().map(|&id| Row::Word(id))).collect();
    let (mut prefill, mut step) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TIMES {
        cache.clear();
        let start = Instant::now();
        let mut last = 0;
        for rows in read.chunks(sizes.rows) {
            last = run(session, &mut cache, config, rows)?;
        }
        prefill = prefill.min(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        for _ in 1..answer {
            last = run(session, &mut cache, config, &[Row::Word(last)])?;
        }
        step = step.min(start.elapsed().as_secs_f64() * 1e3 / (answer - 1) as f64);
    }
    Ok((prefill, step))
}

/// Reads rows, keeps them and gives the likeliest next token.
fn run(session: &mut Session, cache: &mut Cache, config: &Config, read: &[Row<'_>]) -> Result<u32, Failure> {
    cache.stage(read)?;
    let rows = cache.ids.len();
    let (width, columns) = (config.language_width, cache.mask.len() / rows);
    let (planes, kv_width) = (2 * config.language_layers, config.kv_width());
    let outputs = session.run(ort::inputs![
        "tokens" => TensorRef::from_array_view(([1, rows, width], cache.tokens.as_slice()))?,
        "ids" => TensorRef::from_array_view(([1, rows], cache.ids.as_slice()))?,
        "spoken" => TensorRef::from_array_view(([1, rows, 1], cache.spoken.as_slice()))?,
        "positions" => TensorRef::from_array_view(([1, rows], cache.positions.as_slice()))?,
        "mask" => TensorRef::from_array_view(([1, rows, columns], cache.mask.as_slice()))?,
        "past" => TensorRef::from_array_view(([planes, columns - rows, kv_width], cache.past.as_slice()))?,
    ])?;
    let new = outputs["new"].try_extract_tensor::<f32>()?.1.to_vec();
    let logits = outputs["logits"].try_extract_tensor::<f32>()?.1;
    let logits = &logits[(read.len() - 1) * config.vocabulary..][..config.vocabulary];
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id as u32);
    cache.keep(&new)?;
    Ok(best)
}
