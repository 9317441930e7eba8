//! `ground data show`: a page of pictures with what is labelled and said, and of what training makes of them.

use crate::html::{STYLE, escape};
use anyhow::{Context, Result};
use clap::Args;
use kestrel_training::cache::{Own, Spec};
use kestrel_training::datasets::crop::{Region, cut_indexed};
use kestrel_training::datasets::folder::Folder;
use kestrel_training::datasets::formats::{ALL, Format};
use kestrel_training::datasets::{Record, Split};
use kestrel_training::sample::{Ask, Picture, Sample, Spoken, Target};
use kestrel_training::sheet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Side of the pictures of the page that show everything.
const SIDE: u32 = 768;

/// Arguments of `ground data show`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The annotations' format, as for `ground data check`.
    format: Format,
    /// The folder.
    folder: PathBuf,
    /// The annotation file in it, where a COCO file has another name than the usual ones.
    #[arg(long)]
    annotations: Option<PathBuf>,
    /// One of the set's own splits, train, tune, test or all.
    #[arg(long, default_value = ALL)]
    split: String,
    /// Pictures at most, taken evenly from all.
    #[arg(long, default_value_t = 24)]
    limit: usize,
    /// Draws other crops and questions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder of the page; made if it is not there.
    #[arg(long, default_value = "target/data")]
    out: PathBuf,
}

/// A picture of the page: all of it, and a sample that training could make of it.
struct Shown {
    record: Record,
    whole: Picture,
    sample: Sample,
}

/// Runs `ground data show`.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = std::path::absolute(&arguments.folder)?;
    let set = Folder {
        annotations: arguments.annotations.clone(),
        split: Some(arguments.split.clone()),
        ..Folder::new(arguments.format, &folder)
    };
    let part = set.part(None, Split::Train)?;
    part.told().iter().for_each(|line| eprintln!("{line}"));
    let out = &arguments.out;
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let all = part.records.len();
    let (things, said, tasks) = (part.instances(), part.expressions(), part.spoken());
    let title = format!("{set}: {all} pictures, {things} things, {said} expressions, {tasks} tasks");
    let mut html = head(&title);
    let count = arguments.limit.min(all);
    for number in 0..count {
        let record = part.records[number * all / count].clone();
        let name = record.path.display().to_string();
        match shown(record, arguments.seed ^ number as u64) {
            Ok(shown) => article(&mut html, out, number, &shown)?,
            Err(error) => eprintln!("left out: {name}: {error}"),
        }
    }
    html.push_str("</main></html>\n");
    let page = out.join("index.html");
    std::fs::write(&page, html).with_context(|| format!("writing {}", page.display()))?;
    println!("{}", page.display());
    Ok(ExitCode::SUCCESS)
}

fn shown(record: Record, seed: u64) -> Result<Shown> {
    let (whole, _) = cut_indexed(&record, &record.image()?, &Region::whole(&record), SIDE)?;
    let sample = Own::new(vec![record.clone()]).sample(&Spec::default(), seed)?;
    Ok(Shown { record, whole, sample })
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Kestrel data</title><style>{STYLE}main{{grid-template-columns:repeat(auto-fill,minmax(520px,1fr))}}</style>\
         <header><h1>Kestrel</h1><p>{}</p><p>Left the whole picture with its labels, right a sample as training sees it: \
         masks outlined, boxes framed.</p></header><main>",
        escape(title)
    )
}

fn article(html: &mut String, out: &Path, number: usize, shown: &Shown) -> Result<()> {
    let files =
        [(format!("{number:03}-labels.jpg"), &shown.whole), (format!("{number:03}-sample.jpg"), &shown.sample.picture)];
    html.push_str("<article><figure>");
    for (name, picture) in &files {
        let path = out.join(name);
        sheet::numbered(picture)?.save(&path).with_context(|| format!("writing {}", path.display()))?;
        let _ = write!(html, "<img src=\"{name}\" alt=\"\">");
    }
    let record = &shown.record;
    let _ = write!(html, "</figure><h2>{}</h2><ul>", escape(&record.frame()));
    let _ = write!(html, "<li>{} × {} pixels, scene {}</li>", record.width, record.height, escape(&record.scene));
    let _ = write!(html, "<li>labelled: <b>{}</b></li>", escape(&kinds(&shown.whole)));
    for said in &record.expressions {
        let _ = write!(html, "<li>said: <b>{}</b></li>", escape(&said.text));
    }
    for Spoken { task, request, texts } in &record.spoken {
        let right = texts.iter().map(|text| format!("“{text}”")).collect::<Vec<_>>().join(" or ");
        let _ = write!(html, "<li>{}: <b>{}</b> {}</li>", task.name(), escape(request), escape(&right));
    }
    html.push_str("</ul><h2>Asked in the sample</h2><ol>");
    for ask in &shown.sample.asks {
        let _ = write!(html, "<li><b>{}</b> {}</li>", escape(&words(ask)), escape(&answer(&ask.target)));
    }
    let _ =
        write!(html, "</ol><footer>{} things in the sample</footer></article>", shown.sample.picture.instances.len());
    Ok(())
}

/// The numbers of the things, by category.
fn kinds(picture: &Picture) -> String {
    let mut kinds: std::collections::BTreeMap<String, Vec<usize>> = std::collections::BTreeMap::new();
    for (number, instance) in (1..).zip(&picture.instances) {
        kinds.entry(format!("{:?}", instance.category)).or_default().push(number);
    }
    let listed = kinds.iter().map(|(kind, numbers)| format!("{kind} {}", list(numbers)));
    listed.collect::<Vec<_>>().join("; ")
}

fn list(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn words(ask: &Ask) -> String {
    match &ask.hint {
        Some(hint) if ask.text.is_empty() => format!("{hint:?}"),
        Some(hint) => format!("{} ({hint:?})", ask.text),
        None => ask.text.clone(),
    }
}

fn answer(target: &Target) -> String {
    let numbers = |of: &[usize]| list(&of.iter().map(|index| index + 1).collect::<Vec<_>>());
    match target {
        Target::Masks(of) => format!("→ mask of {}", numbers(of)),
        Target::Boxes(of) => format!("→ somewhere in the box of {}", numbers(of)),
        Target::Ambiguous(of) => format!("→ refused: {} fit", numbers(of)),
        Target::Absent => "→ refused: not there".to_owned(),
        Target::NotUnderstood => "→ refused: no sense".to_owned(),
        Target::Unseeable => "→ refused: cannot be seen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_things_by_the_numbers_drawn() {
        assert_eq!(answer(&Target::Masks(vec![0, 2])), "→ mask of 1, 3");
        assert_eq!(answer(&Target::Boxes(vec![4])), "→ somewhere in the box of 5");
    }
}
