//! Whether a quantised bundle says in its engine what fake quantisation says in candle, on the model that it was made of.
//!
//! `cargo run --release -p ground --example quantised_readings -- BUNDLE MODEL [--frames 8] [--engine ort/cpu] [--json]`
//!
//! BUNDLE is what `ground quantise` made, with its quantisation.json; MODEL the `model.safetensors` that it was made of,
//! with the tokenizer beside it. Three readings of the same questions are held against each other: candle in full
//! precision, candle rounding by the record, and the engine on the bundle's graphs. The engine is also given what candle saw,
//! so that what its language and mask graphs add is told apart from what its vision graph does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use ground::engine::EngineArguments;
use ground::export::trained;
use ground::quantise::RECORD_FILE;
use kestrel_calibration::ranges::{Apart, Prepared, Preparer, Reading, parameters, say, see};
use kestrel_link::Thresholds;
use kestrel_link::manifest::GRAPH_FILES;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::export::export_quantised;
use kestrel_models::kestrel::{Config, Seen};
use kestrel_models::quantise::{FakeQuant, Scheme};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::{self, Engine, Graph, GraphBytes, Input, Tensor};
use kestrel_perception::proposals::{CODE, GEOMETRY, MOST, NAMES, ProposalInputs, SPOT, pick};
use kestrel_training::benchmark;
use serde::Serialize;

/// What is compared, and where.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the quantised bundle.
    bundle: PathBuf,
    /// `model.safetensors` that it was made of.
    model: PathBuf,
    /// The set whose frames are shown.
    #[arg(long, default_value = "scenes-tune")]
    set: String,
    /// Another seed than that of the ranges, 7, draws other scenes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Frames.
    #[arg(long, default_value_t = 8)]
    frames: usize,
    #[command(flatten)]
    engine: EngineArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    engine: String,
    frames: usize,
    /// Whether the weights and the record give the bundle's very graphs; otherwise other weights are compared.
    same_graphs: bool,
    /// Full precision and fake quantisation, both in candle: what rounding moves.
    rounding: Apart,
    /// Fake quantisation and the engine.
    engine_from_fake: Apart,
    /// The same, where the engine is given what fake quantisation saw.
    engine_from_fake_on_the_same_sight: Apart,
    /// Full precision and the engine.
    engine_from_full: Apart,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let bundle = Bundle::open(&arguments.bundle)?;
    let scheme = scheme(&bundle.path(RECORD_FILE))?;
    let (config, mut weights, tokenizer) = trained(&arguments.model)?;
    weights.round_f16()?;
    let made = export_quantised(&config, &weights, &scheme)?;
    let hash = Thresholds::hash_graphs(&made.vision, &made.language, &made.mask);
    let params = parameters(&weights)?;
    let graphs = GRAPH_FILES.map(|name| std::fs::read(bundle.path(name)));
    let [vision, language, mask] = graphs;
    let (vision, language, mask) = (vision?, language?, mask?);
    let bytes = GraphBytes { vision: &vision, language: &language, mask: &mask, explain: None };
    let mut engine = engine::open(&bytes, &arguments.engine.options(arguments.json))?;

    let pad = bundle.manifest.answer_tokens.pad;
    let data = std::env::var_os("KESTREL_DATA").map(PathBuf::from);
    let mut preparer = Preparer::new(&config, &tokenizer);
    let mut readings = Readings::default();
    let mut frames = 0;
    for sample in benchmark::set(&arguments.set, arguments.seed, Some(arguments.frames), data.as_deref())? {
        let frame = preparer.prepare(&sample?)?;
        readings.add(engine.as_mut(), &params, &config, &scheme, pad, &frame)?;
        frames += 1;
    }
    ensure!(frames > 0, "the set `{}` gives no frame", arguments.set);
    let report = Report {
        model: bundle.manifest.model(),
        engine: engine.name().to_owned(),
        frames,
        same_graphs: hash == bundle.thresholds.model_hash,
        rounding: Apart::of(&readings.full, &readings.fake),
        engine_from_fake: Apart::of(&readings.fake, &readings.flown),
        engine_from_fake_on_the_same_sight: Apart::of(&readings.fake, &readings.shown),
        engine_from_full: Apart::of(&readings.full, &readings.flown),
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// The scheme of a bundle's record.
fn scheme(path: &Path) -> Result<Scheme> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("reading {}\nhint: name a bundle that `ground quantise` made", path.display()))?;
    let mut record: serde_json::Value = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
    let Some(scheme) = record.get_mut("scheme") else { bail!("{}: expected a scheme, got none", path.display()) };
    let scheme: Scheme = serde_json::from_value(scheme.take()).with_context(|| path.display().to_string())?;
    scheme.check()?;
    Ok(scheme)
}

/// Readings of all questions so far.
#[derive(Default)]
struct Readings {
    /// Candle in full precision.
    full: Vec<Reading>,
    /// Candle, rounding.
    fake: Vec<Reading>,
    /// The engine.
    flown: Vec<Reading>,
    /// The engine's language and mask on what candle saw, rounding.
    shown: Vec<Reading>,
}

impl Readings {
    fn add(
        &mut self,
        engine: &mut dyn Engine,
        params: &Params,
        config: &Config,
        scheme: &Scheme,
        pad: u32,
        frame: &Prepared,
    ) -> Result<()> {
        let (_, full) = in_candle(&|| Candle::evaluating(params), config, pad, frame)?;
        let places = FakeQuant(scheme);
        let (seen, fake) = in_candle(&|| Candle::evaluating(params).with_places(&places), config, pad, frame)?;
        let side = config.image;
        let planes: Vec<f32> = frame.image.permute((0, 3, 1, 2))?.contiguous()?.flatten_all()?.to_vec1()?;
        let mut sight: [Tensor; 4] = Default::default();
        engine.run(Graph::Vision, &[Input::F32(&[1, 3, side, side], &planes)], &mut sight)?;
        for question in &frame.questions {
            self.flown.push(in_engine(engine, config, pad, &sight, question)?);
            self.shown.push(in_engine(engine, config, pad, &seen, question)?);
        }
        self.full.extend(full);
        self.fake.extend(fake);
        Ok(())
    }
}

/// What candle sees and says, as the engine would hand it on.
fn in_candle<'a>(
    ops: &dyn Fn() -> Candle<'a>,
    config: &Config,
    pad: u32,
    frame: &Prepared,
) -> Result<([Tensor; 4], Vec<Reading>)> {
    let seen = see(ops(), config, frame)?;
    let (said, shown) = say(ops(), config, pad, frame, &seen)?;
    let count = frame.questions.len();
    let numbers = |x: &candle_core::Tensor| x.flatten_all()?.to_vec1::<f32>();
    let (logits, mask) = (numbers(&said.logits)?, numbers(&shown.mask)?);
    ensure!(count > 0 && !logits.is_empty() && !mask.is_empty(), "the model says nothing");
    let rows = logits.chunks_exact(logits.len() / count).zip(mask.chunks_exact(mask.len() / count));
    let readings = rows.map(|(logits, mask)| Reading { logits: logits.to_vec(), mask: mask.to_vec() }).collect();
    let Seen { tokens, embed, fine, spots } = &seen;
    let tensor =
        |x: &candle_core::Tensor| -> Result<Tensor> { Ok(Tensor { shape: x.dims().to_vec(), data: numbers(x)? }) };
    Ok(([tensor(tokens)?, tensor(embed)?, tensor(fine)?, tensor(spots)?], readings))
}

/// What the engine's language and mask graphs say of what was seen.
fn in_engine(
    engine: &mut dyn Engine,
    config: &Config,
    pad: u32,
    [tokens, embed, fine, spots]: &[Tensor; 4],
    question: &[u32],
) -> Result<Reading> {
    let mut ids: Vec<i64> = question.iter().map(|&id| i64::from(id)).collect();
    // A question ends with `<answer>` and `[SEG]`.
    let answer = [ids.len() as i64 - 2];
    ids.resize(config.max_tokens, i64::from(pad));
    let mut said: [Tensor; 3] = Default::default();
    let inputs = [tokens.as_input(), Input::I64(&[1, ids.len()], &ids), Input::I64(&[1, 1], &answer)];
    engine.run(Graph::Language, &inputs, &mut said)?;

    let picked = pick(&spots.data, config.spot_side())?;
    let boxes: Vec<[f32; 4]> = picked.iter().map(|proposal| proposal.edges).collect();
    let mut proposed = ProposalInputs::default();
    proposed.fill(&boxes, &[config.embed_side(), config.mask_side()]);
    let mut names = vec![0.0; MOST * NAMES];
    for (names, proposal) in names.chunks_exact_mut(NAMES).zip(&picked) {
        names.copy_from_slice(&spots.data[proposal.cell * SPOT + GEOMETRY..][..NAMES]);
    }
    let mut drawn: [Tensor; 3] = Default::default();
    let inputs = [
        embed.as_input(),
        fine.as_input(),
        Input::F32(&[1, 1, said[1].data.len()], &said[1].data),
        Input::F32(&[1, MOST, NAMES], &names),
        Input::F32(&[1, MOST, CODE], &proposed.codes),
        Input::F32(&[1, proposed.extents.len() / MOST, MOST], &proposed.extents),
        Input::F32(&[1, MOST + 1, MOST + 1], &proposed.attention),
    ];
    engine.run(Graph::Mask, &inputs, &mut drawn)?;
    let ([logits, ..], [mask, ..]) = (said, drawn);
    Ok(Reading { logits: logits.data, mask: mask.data })
}

impl Report {
    fn print(&self) {
        println!("{} on {}, {} frames, {} questions", self.model, self.engine, self.frames, self.rounding.questions);
        if !self.same_graphs {
            println!("warning: the weights and the record do not give the bundle's graphs: other weights are compared");
        }
        println!("{:<46} {:>9} {:>9} {:>9} {:>8} {:>8}", "", "logits", "most", "share", "IoU", "least");
        for (name, apart) in [
            ("full precision, fake quantisation", &self.rounding),
            ("fake quantisation, engine", &self.engine_from_fake),
            ("the same, engine given what was seen", &self.engine_from_fake_on_the_same_sight),
            ("full precision, engine", &self.engine_from_full),
        ] {
            let Apart { logits_mean, logits_most, logits_share, mask_iou, mask_iou_least, .. } = apart;
            let iou = |value: &Option<f64>| value.map_or("—".to_owned(), |value| format!("{value:.4}"));
            println!(
                "{name:<46} {logits_mean:>9.5} {logits_most:>9.5} {logits_share:>9.5} {:>8} {:>8}",
                iou(mask_iou),
                iou(mask_iou_least)
            );
        }
    }
}
