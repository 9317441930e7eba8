//! `ground doctor`: what is there, what is missing, what to do about it.

use crate::session::{Link, block_on};
use anyhow::Result;
use clap::Args;
use kestrel_link::key::{ALL_ALIVE, drone_of};
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::library;
use kestrel_onboard::released;
use serde::Serialize;
use std::process::ExitCode;

/// Arguments of `ground doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    link: Link,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// Whether work can go on without it being mended.
    fine: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Runs `ground doctor`; fails when something must be mended.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let findings = vec![released(), runtime(), data(), runs(), drones(&arguments.link)];
    if arguments.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        for finding in &findings {
            println!("{} {:<16} {}", if finding.fine { "ok  " } else { "FIX " }, finding.what, finding.found);
            if let Some(hint) = &finding.hint {
                println!("     hint: {hint}");
            }
        }
    }
    Ok(if findings.iter().all(|finding| finding.fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn released() -> Finding {
    let what = "released model";
    let hint = "run from the checkout, or set KESTREL_BUNDLE to a bundle's folder";
    match released::find().map(|folder| (Bundle::open(&folder), folder)) {
        Some((Ok(bundle), folder)) => Finding {
            what,
            fine: true,
            found: format!("{} in {}", bundle.manifest.model(), folder.display()),
            hint: None,
        },
        Some((Err(error), _)) => Finding { what, fine: false, found: error.to_string(), hint: Some(hint.to_owned()) },
        None => Finding { what, fine: false, found: "none".to_owned(), hint: Some(hint.to_owned()) },
    }
}

fn runtime() -> Finding {
    let what = "ONNX Runtime";
    match library::candidates(None).into_iter().next() {
        Some(found) => {
            Finding { what, fine: true, found: format!("{} ({})", found.path.display(), found.origin), hint: None }
        }
        None => Finding {
            what,
            fine: true,
            found: "not found; tract answers, several times slower".to_owned(),
            hint: Some("`ground demo` fetches it, or set ORT_DYLIB_PATH".to_owned()),
        },
    }
}

fn data() -> Finding {
    let what = "real images";
    match std::env::var("KESTREL_DATA") {
        Ok(folder) if std::path::Path::new(&folder).is_dir() => Finding { what, fine: true, found: folder, hint: None },
        Ok(folder) => Finding {
            what,
            fine: false,
            found: format!("KESTREL_DATA names {folder}, which is no folder"),
            hint: Some("unset it, or make it name the folder that holds the data sets".to_owned()),
        },
        Err(_) => Finding {
            what,
            fine: true,
            found: "KESTREL_DATA is not set; training uses scenes only".to_owned(),
            hint: None,
        },
    }
}

fn runs() -> Finding {
    let what = "runs";
    match crate::train::runs(std::env::var_os("KESTREL_RUNS").map(Into::into)) {
        Ok(folder) => Finding { what, fine: true, found: folder.display().to_string(), hint: None },
        Err(error) => Finding { what, fine: false, found: error.to_string(), hint: None },
    }
}

fn drones(link: &Link) -> Finding {
    let what = "drones";
    let alive = block_on(async {
        let session = link.open().await?;
        let tokens = session.liveliness().get(ALL_ALIVE).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut names = Vec::new();
        while let Ok(reply) = tokens.recv_async().await {
            if let Ok(sample) = reply.into_result() {
                names.push(drone_of(sample.key_expr().as_str())?.to_string());
            }
        }
        Ok(names)
    });
    match alive {
        Ok(names) if names.is_empty() => {
            Finding { what, fine: true, found: format!("none alive at {}", link.connect.join(", ")), hint: None }
        }
        Ok(names) => Finding { what, fine: true, found: names.join(", "), hint: None },
        // An operator without a drone in reach is an ordinary state.
        Err(error) => Finding {
            what,
            fine: true,
            found: format!("{:#}", error).lines().next().unwrap_or_default().to_owned(),
            hint: Some("--connect names a drone's listen address".to_owned()),
        },
    }
}
