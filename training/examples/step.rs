//! Steps of the trainer on one fixed batch, for a driver that holds them against another implementation of the same
//! model: `training/peers/compare.py` runs it (see the README beside that).
//!
//! The batch is rendered scenes with the questions of the recipe's last phase, without what that phase reads beside
//! pictures. Into FOLDER go `batch.json` (all that the losses are computed from) and `outputs.safetensors` (what the
//! model answers before the first step). Then every line on standard input asks for one step, which is answered by a
//! line of JSON: milliseconds, losses, times by part, peak memory. DEVICE is `cpu` or `cuda`, which needs
//! `--features cuda`; the clock is read when the device has done what it was asked for.
//!
//! ```text
//! RAYON_NUM_THREADS=1 MIMALLOC_PURGE_DELAY=-1 \
//!     cargo run --release -p kestrel-training --example step -- FOLDER [IMAGE [BATCH [THREADS [DEVICE]]]]
//! ```

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use kestrel_models::candle::Candle;
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Config, compare, language, mask, vision};
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_models::weights::checkpoint;
use kestrel_training::cache::{Cache, Spec};
use kestrel_training::losses::proposals::owners;
use kestrel_training::resident;
use kestrel_training::sample::{Category, Colour};
use kestrel_training::sft::example::{Example, Goal, Maker, Question};
use kestrel_training::sft::optimiser::AdamW;
use kestrel_training::sft::order::Order;
use kestrel_training::sft::pass::Setup;
use kestrel_training::sft::recipe::Processor;
use kestrel_training::sft::workers::{Worker, step};
use kestrel_training::sft::{ENVIRONMENT, Phase, Recipe, TOKENIZER, propose};
use kestrel_training::threads::Threads;
use serde_json::{Value, json};

/// As in `ground`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const RECIPE: &str = "training/recipes/kestrel-s-sft.toml";
const MODEL: &str = "models/start/kestrel-s";

/// What the command line asks for.
struct Asked {
    folder: PathBuf,
    image: usize,
    batch: usize,
    threads: usize,
    device: Device,
}

impl Asked {
    fn read() -> Result<Self, Failure> {
        for (name, value) in ENVIRONMENT {
            if std::env::var(name).as_deref() != Ok(value) {
                return Err(format!("expected {name}={value} in the environment, as in training").into());
            }
        }
        let mut arguments = std::env::args().skip(1);
        let folder = arguments.next().ok_or("usage: step FOLDER [IMAGE [BATCH [THREADS [DEVICE]]]]")?;
        let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
        let (image, batch, threads) = (number(512)?, number(4)?.max(1), number(2)?.max(1));
        let device = match arguments.next().as_deref() {
            None | Some("cpu") => Processor::Cpu.device()?,
            Some("cuda") => Processor::Cuda.device()?,
            Some(other) => return Err(format!("DEVICE: expected cpu or cuda, got {other}").into()),
        };
        Ok(Self { folder: folder.into(), image, batch, threads, device })
    }
}

fn main() -> Result<(), Failure> {
    let asked = Asked::read()?;
    let recipe = Recipe::load(Path::new(RECIPE))?;
    let last = recipe.phases.last().ok_or("expected a recipe with phases")?;
    let phase =
        Phase { image: asked.image, batch: asked.batch, texts: 0, layouts: 0, teacher_forcing: 0.0, ..last.clone() };
    let config = recipe.model_of(&phase);
    let tokenizer = QueryTokenizer::load(&Path::new(MODEL).join(TOKENIZER))?;
    let params = checkpoint::load(&Path::new(MODEL).join("model.safetensors"))?.0.to_params(&asked.device)?;
    let mut adam = AdamW::new(&params, &recipe.optimiser)?;
    params.freeze(|name| phase.frozen.iter().any(|prefix| name.starts_with(prefix.as_str())));
    let special = tokenizer.special();
    let setup =
        Setup { params: &params, config: &config, weights: &recipe.loss, answers: special.answers(), pad: special.pad };
    let cache = scenes(&asked)?;
    let mut order = Order::new(recipe.seed, cache.len());
    let pictures: Vec<(usize, u64)> = (0..phase.batch).map(|at| order.at(at)).collect();
    write_batch(&asked.folder, &setup, &recipe, Maker::new(&config, &phase, &tokenizer), &cache, &pictures)?;

    let threads = Threads::new(asked.threads)?;
    let maker = || Maker::new(&config, &phase, &tokenizer);
    let mut workers: Vec<Worker<'_>> =
        (0..asked.threads).map(|_| Worker::new(maker(), adam.sums(&phase.frozen))).collect();
    // The peak that is told is the steps' own.
    resident::forget_peak();
    tell(&json!({ "ready": true, "resident_mib": resident::mebibytes() }))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let clock = Instant::now();
        let ((values, times), _) = step(&threads, &mut workers, &setup, &adam.slots, &cache, &pictures)?;
        let optimiser = Instant::now();
        let norm = adam.step(&workers[0].sums, 1.0 / phase.batch as f32, phase.learning_rate)?;
        asked.device.synchronize()?;
        tell(&json!({
            "millis": clock.elapsed().as_secs_f64() * 1e3,
            "optimiser_millis": optimiser.elapsed().as_secs_f64() * 1e3,
            "norm": norm,
            "values": values.mean(),
            "thread_millis": times,
            "peak_mib": resident::peak_mebibytes(),
        }))?;
    }
    Ok(())
}

/// A cache of as many scenes as the batch has pictures. Later frames would be a second batch: there are none.
fn scenes(asked: &Asked) -> Result<Cache, Failure> {
    let none = Spec { nwpu: 0, pasted: 0, kit: 0, auair: 0, buildings: 0, trees: 0, unlabelled: 0, ..Spec::default() };
    let spec = Spec { scenes: asked.batch, later_share: 0.0, ..none };
    let folder = Cache::folder(&asked.folder, &spec);
    match Cache::open(&folder) {
        Ok(cache) if cache.complete() => Ok(cache),
        _ => Ok(Cache::build(&spec, None, &folder, asked.threads, &|_, _| ())?),
    }
}

fn tell(line: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn write_batch(
    folder: &Path,
    setup: &Setup<'_>,
    recipe: &Recipe,
    mut maker: Maker<'_>,
    cache: &Cache,
    pictures: &[(usize, u64)],
) -> Result<(), Failure> {
    let mut outputs = HashMap::new();
    let mut described = Vec::with_capacity(pictures.len());
    for (number, &(index, seed)) in pictures.iter().enumerate() {
        let example = maker.draw(&cache.get(index)?, seed)?;
        described.push(picture(setup, &example, number, &mut outputs)?);
    }
    candle_core::safetensors::save(&outputs, folder.join("outputs.safetensors"))?;
    let batch = json!({
        "config": setup.config,
        "weights": recipe.loss,
        "optimiser": recipe.optimiser,
        "rate": maker.phase.learning_rate,
        "frozen": maker.phase.frozen,
        "answers": setup.answers,
        "pad": setup.pad,
        "categories": Category::ALL,
        "colours": Colour::ALL,
        "pictures": described,
    });
    Ok(std::fs::write(folder.join("batch.json"), serde_json::to_vec(&batch)?)?)
}

/// One picture with its labels and proposals; what the model answers goes to `outputs`.
fn picture(
    setup: &Setup<'_>,
    example: &Example,
    number: usize,
    outputs: &mut HashMap<String, Tensor>,
) -> Result<Value, Failure> {
    let Setup { params, config, pad, .. } = *setup;
    let mut ops = Candle::evaluating(params);
    let side = config.image;
    let pixels = Tensor::from_slice(&example.pixels, (1, side, side, 3), params.device())?;
    let seen = vision(&mut ops, config, &pixels)?;
    let picked = propose::found(&seen, config)?;
    let proposals = propose::tensors(&mut ops, config, &seen, &picked)?;

    let ids = example.questions.iter().map(|question| question.ids.clone()).collect::<Vec<_>>();
    let packed = pack(&[ids], config.token_side().pow(2), pad, None);
    let said = language(&mut ops, config, &seen.tokens, &packed.tensors(head(config), params.device())?)?;
    let (asked, decoded) = (example.questions.len(), example.masks);
    let seg = said.seg.reshape((asked, 1, config.mask_width))?;
    let compared = compare(&mut ops, config, &proposals, &seg, asked)?;
    let shown = mask(&mut ops, config, &seen, &proposals, &seg.narrow(0, 0, decoded)?, decoded)?;
    let named = [
        ("spots", &seen.spots),
        ("logits", &said.logits),
        ("doubt", &said.doubt),
        ("pointer", &compared.pointer),
        ("choice", &compared.choice),
        ("found", &compared.found),
        ("mask", &shown.mask),
        ("iou", &shown.iou),
        ("object", &shown.object),
    ];
    outputs.extend(named.map(|(name, tensor)| (format!("{number}.{name}"), tensor.clone())));
    Ok(json!({
        "pixels": example.pixels,
        "masks": decoded,
        "grid": example.grid,
        "fine_grid": example.fine_grid,
        "spots": example.spots,
        "questions": example.questions.iter().map(question).collect::<Result<Vec<_>, _>>()?,
        "proposals": {
            "cells": picked.iter().map(|proposal| proposal.cell).collect::<Vec<_>>(),
            "owners": owners(&picked, &example.things),
            "codes": proposals.codes.flatten_all()?.to_vec1::<f32>()?,
            "extents": proposals.extents.flatten_all()?.to_vec1::<f32>()?,
        },
    }))
}

fn head(config: &Config) -> usize {
    config.language_width / config.heads
}

fn question(question: &Question) -> Result<Value, Failure> {
    if matches!(question.goal, Goal::Boxes(..)) {
        return Err("expected masks, got a weak box: scenes have none".into());
    }
    let pointers = &question.pointers;
    Ok(json!({
        "ids": question.ids,
        "doubt": question.doubt,
        "goal": question.goal,
        "anchor_heat": question.anchor,
        "plain": question.plain,
        "compared": question.compared,
        "class": pointers.class,
        "targets": pointers.targets,
        // Related to a thing, to nothing (an empty list), or nobody knows (null).
        "related": pointers.anchor.map(|of| of.into_iter().collect::<Vec<_>>()),
        "alike": pointers.alike,
    }))
}
