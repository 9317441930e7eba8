//! `ground data`: looks at a folder of annotated pictures before anything is trained on it.

mod show;

use anyhow::Result;
use clap::{Args, Subcommand};
use kestrel_training::datasets::formats::{self, Annotations, Format};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `ground data`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a folder holds, what was left out of it and why.
    Check(Check),
    /// Write a page of its pictures with what is labelled and said, and of what training makes of them.
    Show(show::Arguments),
}

/// Arguments of `ground data check`.
#[derive(Debug, Args)]
struct Check {
    /// The annotations' format: kestrel, coco, dota (also VSAI), vsai_ref, rrsis_d, refsegrs, vrsbench, dior_rsvg, opt_rsvg,
    /// geochat, refdrone, auair, hit_uav, visdrone, spoken.
    format: Format,
    /// The folder.
    folder: PathBuf,
    /// The annotation file in it, where a COCO file has another name than the usual ones.
    #[arg(long)]
    annotations: Option<PathBuf>,
    /// Do not ask for the pictures' files.
    #[arg(long)]
    annotations_only: bool,
    /// Only one of the set's own splits.
    #[arg(long)]
    split: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `ground data`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Check(check) => run_check(check),
        Command::Show(show) => show::run(show),
    }
}

fn run_check(check: &Check) -> Result<ExitCode> {
    let mut found = formats::read_file(check.format, &check.folder, check.annotations.as_deref())?;
    if let Some(split) = &check.split {
        found = found.of_split(split, &check.folder)?;
    }
    if !check.annotations_only {
        found = found.with_pictures();
    }
    if check.json {
        println!("{}", json(&found));
    } else {
        print(&found);
    }
    Ok(ExitCode::SUCCESS)
}

/// How many things there are of each category.
fn categories(found: &Annotations) -> BTreeMap<String, usize> {
    let mut categories = BTreeMap::new();
    for instance in found.records.iter().flat_map(|r| &r.instances) {
        *categories.entry(format!("{:?}", instance.category)).or_default() += 1;
    }
    categories
}

/// How many tasks of each kind people wrote.
fn tasks(found: &Annotations) -> BTreeMap<&'static str, usize> {
    let mut tasks = BTreeMap::new();
    for spoken in found.records.iter().flat_map(|r| &r.spoken) {
        *tasks.entry(spoken.task.name()).or_default() += 1;
    }
    tasks
}

/// How many things have no outline but a box.
fn boxes(found: &Annotations) -> usize {
    found.records.iter().flat_map(|r| &r.instances).filter(|i| i.outline.is_weak()).count()
}

fn json(found: &Annotations) -> serde_json::Value {
    serde_json::json!({
        "pictures": found.records.len(),
        "instances": found.instances(),
        "boxes": boxes(found),
        "categories": categories(found),
        "expressions": found.expressions(),
        "tasks": tasks(found),
        "splits": found.splits(),
        "parts": found.parts(),
        "left_out": found.skipped,
        "noted": found.noted,
        "unknown_categories": found.unknown,
    })
}

fn print(found: &Annotations) {
    println!("{} pictures, {} things, {} expressions", found.records.len(), found.instances(), found.expressions());
    let splits: Vec<&str> = found.splits().into_iter().collect();
    if !splits.is_empty() {
        println!("splits: {}", splits.join(", "));
    }
    let parts: Vec<String> = found.parts().iter().map(|(part, count)| format!("{count} {part}")).collect();
    println!("pictures by use: {}", parts.join(", "));
    if boxes(found) > 0 {
        println!("{} of the things have a box and no outline", boxes(found));
    }
    for (category, count) in categories(found) {
        println!("{count:8}  {category}");
    }
    for (task, count) in tasks(found) {
        println!("{count:8}  {task}");
    }
    found.told().iter().for_each(|line| println!("{line}"));
}
