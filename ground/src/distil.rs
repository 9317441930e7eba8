//! `ground distil`: a recipe with a teacher in, a student out; and both judged side by side, beside other runs.
//!
//! Training is that of `ground train`: checkpoints, log and `--resume` are the same.

use crate::ablate::{Arm, Cost, compared, seconds, write};
use crate::teller::Teller;
use crate::train::{Way, follow, with_environment};
use anyhow::{Context, Result, bail};
use clap::Args;
use kestrel_training::benchmark::SIZE;
use kestrel_training::grpo::{self, Start};
use kestrel_training::metrics::Record;
use kestrel_training::sample::Sample;
use kestrel_training::sft::checkpoint::MODEL;
use kestrel_training::sft::evaluate::{self, Extent};
use kestrel_training::sft::perform::Plan;
use kestrel_training::sft::{Distil, Recipe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground distil`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file with a `[distil]` section.
    recipe: PathBuf,
    /// The teacher in the place of the recipe's: a folder with `model.safetensors` and `tokenizer.json`, or that model's file.
    #[arg(long)]
    teacher: Option<PathBuf>,
    #[command(flatten)]
    way: Way,
    /// At the end, judge teacher and student on the recipe's evaluation sets and write one table into the run's folder.
    #[arg(long)]
    table: bool,
    /// Judge this run's model in the table too, such as a student from scratch; may be given several times.
    #[arg(long, value_name = "FOLDER")]
    beside: Vec<PathBuf>,
    /// Pictures that the table is made from, shared evenly among the sets.
    #[arg(long, default_value_t = 200)]
    pictures: usize,
}

/// Runs `ground distil`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut recipe = Recipe::load(&arguments.recipe)?;
    let Some(distil) = &mut recipe.distil else {
        bail!(
            "{}: expected a recipe with a [distil] section, got none\n\
             hint: `ground train` follows recipes without a teacher",
            arguments.recipe.display()
        );
    };
    if let Some(teacher) = &arguments.teacher {
        (distil.teacher, distil.itself) = (Some(teacher.clone()), false);
    }
    with_environment()?;
    let summary = follow(&recipe, &arguments.way)?;
    if summary.finished && (arguments.table || !arguments.beside.is_empty()) {
        table(arguments, &recipe, &summary.folder)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A model that is judged.
struct Judged {
    name: String,
    about: String,
    /// Folder and file of the model.
    folder: PathBuf,
    file: String,
    /// Side of its input in pixels.
    image: usize,
}

fn table(arguments: &Arguments, recipe: &Recipe, folder: &Path) -> Result<()> {
    let (Some(phase), Some(distil)) = (recipe.phases.last(), &recipe.distil) else { return Ok(()) };
    let mut judged = vec![teacher(distil, folder, phase.image)?];
    for run in &arguments.beside {
        let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let about = format!("A run beside it, at {} px.", phase.image);
        judged.push(Judged { name, about, folder: run.clone(), file: MODEL.to_owned(), image: phase.image });
    }
    let about = format!("The student of this recipe, at {} px.", phase.image);
    let (folder, file) = (folder.to_path_buf(), MODEL.to_owned());
    judged.push(Judged { name: recipe.name.clone(), about, folder: folder.clone(), file, image: phase.image });
    for (at, model) in judged.iter().enumerate() {
        if judged[..at].iter().any(|other| other.name == model.name) {
            bail!("--beside: expected a run of each name once, got two called {}", model.name);
        }
    }
    // Others are there to be compared with; without any, the teacher is.
    let reference = judged[usize::from(!arguments.beside.is_empty())].name.clone();

    let teller = Teller::new(arguments.way.json);
    teller.words("making the pictures to judge on");
    let asked = Recipe { evaluate_pictures: arguments.pictures, ..recipe.clone() };
    let samples = evaluate::samples(&asked, arguments.way.folders.data.as_deref())?;
    if samples.is_empty() {
        bail!("{}: expected `evaluate_sets` to judge on, got none", arguments.recipe.display());
    }
    let mut arms = Vec::with_capacity(judged.len());
    for model in judged {
        teller.words(&format!("judging {} on {} pictures", model.name, samples.len()));
        let records = records(recipe, &model, &samples)?;
        let log = model.folder.join("log.jsonl");
        let seconds = if log.is_file() { seconds(&log)? } else { 0.0 };
        // How many workers trained another run, this recipe does not say.
        let workers = (model.folder == folder).then_some(recipe.workers);
        let cost = Cost { seconds, workers, ..Cost::default() };
        arms.push(Arm { name: model.name, about: model.about, cost, records });
    }
    let (markdown, json) = compared(arms, &reference)?;
    write(&folder.join("table.md"), &markdown)?;
    write(&folder.join("table.json"), &serde_json::to_string_pretty(&json)?)?;
    println!("{}", if arguments.way.json { json.to_string() } else { markdown });
    Ok(())
}

/// The teacher as it is judged, the student at the teacher's input where that taught itself.
fn teacher(distil: &Distil, student: &Path, image: usize) -> Result<Judged> {
    let image = distil.image.unwrap_or(image);
    let model = match distil.files() {
        Some((model, _)) => model,
        None => student.join(MODEL),
    };
    let (Some(folder), Some(file)) = (model.parent(), model.file_name()) else {
        bail!("{}: expected a model's file, got none", model.display());
    };
    Ok(Judged {
        name: "teacher".to_owned(),
        about: format!("What taught, at {image} px."),
        folder: folder.to_path_buf(),
        file: file.to_string_lossy().into_owned(),
        image,
    })
}

/// A model's records by its likeliest answers: no threshold enters.
fn records(recipe: &Recipe, model: &Judged, samples: &[(String, Sample)]) -> Result<Vec<Record>> {
    let Some(phase) = recipe.phases.last() else { return Ok(Vec::new()) };
    let Start { params, config, tokenizer } = grpo::load(&model.folder, &model.file)?;
    let config = config.at(model.image);
    let extent = Extent { workers: recipe.workers, chains: 0, tasks: &Plan::default(), like: &params };
    let (_, records) = evaluate::judged(&params, &config, phase, &tokenizer, samples, &extent).with_context(|| {
        format!(
            "judging {} at {} px\nhint: a quarter of the input must divide the pictures of the sets ({SIZE} px; scenes {} px)",
            model.name,
            model.image,
            recipe.data.size.max(SIZE)
        )
    })?;
    Ok(records)
}
