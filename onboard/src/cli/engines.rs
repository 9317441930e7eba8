//! `onboard engines`: TensorRT's engines, built before the flight.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use kestrel_link::manifest::EXPLAIN_FILE;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::prepared::{self, Built, Key, Readiness, Step};
use kestrel_onboard::engine::{Accelerator, EngineChoice, EngineOptions, GraphBytes, Provider};
use kestrel_onboard::pipeline;

use super::{choice, hinted};

#[derive(Debug, Subcommand)]
pub(super) enum Engines {
    /// Build engines for a bundle's graphs on this machine, unless they are there. Takes minutes.
    Build(Asked),
    /// Say whether engines are ready. Exit code 0: they are; 1: they are not, or an error.
    Check(Asked),
}

#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Folder of the model bundle.
    bundle: PathBuf,
    /// ort/tensorrt or ort/nv_tensorrt_rtx.
    #[arg(long, default_value = "ort/tensorrt", value_parser = choice)]
    engine: EngineChoice,
    /// Folder below which engines are kept [default: engines in the cache].
    #[arg(long, value_name = "DIR")]
    prepared: Option<PathBuf>,
    /// The library of the plugin provider, for ort/nv_tensorrt_rtx.
    #[arg(long, value_name = "LIBRARY")]
    plugin: Option<PathBuf>,
    /// ONNX Runtime's shared library [default: it is searched for].
    #[arg(long, value_name = "LIBRARY")]
    library: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Engines {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Build(asked) => asked.with_graphs(Asked::build),
            Self::Check(asked) => asked.with_graphs(Asked::check),
        }
    }
}

/// A bundle's graphs, and how to make engines of them.
struct Work<'a> {
    bundle: &'a Bundle,
    graphs: GraphBytes<'a>,
    provider: Provider,
    options: EngineOptions,
}

impl Asked {
    fn with_graphs(&self, act: impl Fn(&Self, &Work<'_>) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
        let provider = match self.engine {
            EngineChoice::Ort(provider @ (Provider::TensorRt | Provider::NvTensorRtRtx)) => provider,
            other => {
                let text = format!("engines: expected ort/tensorrt or ort/nv_tensorrt_rtx, got {other}");
                return Err(hinted(text, "other engines need nothing before the flight"));
            }
        };
        let bundle = Bundle::open(&self.bundle).map_err(|error| hinted(&error, error.hint()))?;
        let [vision, language, mask] = pipeline::graphs(&bundle).map_err(|error| hinted(&error, error.hint()))?;
        let has_reasons = bundle.manifest.files.contains_key(EXPLAIN_FILE);
        let explain = has_reasons.then(|| std::fs::read(bundle.path(EXPLAIN_FILE))).transpose()?;
        let graphs = GraphBytes { vision: &vision, language: &language, mask: &mask, explain: explain.as_deref() };
        let options = EngineOptions {
            library: self.library.clone(),
            // The wheel that would be fetched has no provider of a GPU.
            fetch: false,
            accelerator: Accelerator { prepared: self.prepared.clone(), plugin: self.plugin.clone() },
            ..EngineOptions::of(self.engine)
        };
        act(self, &Work { bundle: &bundle, graphs, provider, options })
    }

    fn build(&self, work: &Work<'_>) -> anyhow::Result<ExitCode> {
        let bar = if self.json || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}, {elapsed}")?);
        bar.enable_steady_tick(Duration::from_millis(200));
        let named = (work.bundle.manifest.model(), work.bundle.manifest_hash.as_str());
        let built =
            prepared::build(
                &work.graphs,
                work.provider,
                &work.options,
                (named.0.as_str(), named.1),
                |step| match step {
                    Step::Building { graph, number, of } => {
                        bar.reset_elapsed();
                        bar.set_message(format!(
                            "building {graph} ({number} of {of}): TensorRT tries kernels, which takes minutes"
                        ));
                    }
                    Step::Built { graph, time } => {
                        bar.suspend(|| {
                            if !self.json {
                                eprintln!("{graph}: built in {:.0} s", time.as_secs_f64());
                            }
                        });
                    }
                },
            );
        bar.finish_and_clear();
        let Built { folder, key, seconds } = built.map_err(|error| hinted(&error, error.hint()))?;
        if self.json {
            let report = serde_json::json!({ "folder": folder, "key": key, "build_seconds": seconds });
            println!("{report}");
        } else {
            let what = if seconds.is_empty() { "were ready already" } else { "are ready" };
            println!("engines for {} on {} {what} in {}", named.0, key.made_for(), folder.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self, work: &Work<'_>) -> anyhow::Result<ExitCode> {
        let (key, readiness) = prepared::check(&work.graphs, work.provider, &work.options)
            .map_err(|error| hinted(&error, error.hint()))?;
        let is_ready = matches!(readiness, Readiness::Ready(_));
        if self.json {
            let report = serde_json::json!({ "ready": is_ready, "detail": readiness.to_string(), "key": key });
            println!("{report}");
        } else {
            print(&key, &readiness, work.bundle, &self.bundle);
        }
        Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(key: &Key, readiness: &Readiness, bundle: &Bundle, folder: &Path) {
    println!(
        "engines for {} on {}, {} {}: {readiness}",
        bundle.manifest.model(),
        key.made_for(),
        key.provider,
        key.provider_version
    );
    if !matches!(readiness, Readiness::Ready(_)) {
        println!("hint: onboard engines build {}", folder.display());
    }
}
