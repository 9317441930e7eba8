//! `onboard doctor`: what is there, and what is wrong with it.

use std::process::ExitCode;

use clap::Args;
use kestrel_onboard::bundle::Bundle;
use kestrel_onboard::engine::{self, EngineChoice, EngineOptions, library};
use kestrel_onboard::pipeline::{Segmenter, SegmenterOptions};
use kestrel_onboard::{camera, registry};
use serde::Serialize;

use super::ModelArguments;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    model: ModelArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Good,
    /// Works without it.
    Missing,
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    health: Health,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.into(), health: Health::Good, detail: detail.into(), hint: None }
    }

    fn not(health: Health, name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), health, detail: detail.into(), hint: Some(hint.into()) }
    }
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut checks = vec![system(), cache(), libraries(), ffmpeg(), devices()];
        match self.model.open_bundle() {
            Ok(bundle) => {
                checks.push(Check::good("bundle", format!("{} in {}", bundle.manifest.model(), bundle.dir.display())));
                for choice in self.choices() {
                    checks.extend(self.engine(&bundle, choice));
                }
            }
            Err(error) => {
                let hint = super::hint(&error).unwrap_or_default().to_owned();
                checks.push(Check::not(Health::Bad, "bundle", error.to_string(), hint));
            }
        }
        let bad = checks.iter().any(|check| matches!(check.health, Health::Bad));
        if self.json {
            println!("{}", serde_json::json!({ "healthy": !bad, "checks": checks }));
        } else {
            for check in &checks {
                let mark = match check.health {
                    Health::Good => "ok     ",
                    Health::Missing => "missing",
                    Health::Bad => "BAD    ",
                };
                println!("{mark} {}: {}", check.name, check.detail);
                if let Some(hint) = &check.hint {
                    println!("        hint: {hint}");
                }
            }
        }
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn choices(&self) -> Vec<EngineChoice> {
        match self.model.engine {
            EngineChoice::Auto => vec![EngineChoice::Ort(engine::Provider::Cpu), EngineChoice::Tract],
            choice => vec![choice],
        }
    }

    /// Opens an engine and asks it the bundle's canaries.
    fn engine(&self, bundle: &Bundle, choice: EngineChoice) -> Vec<Check> {
        let name = format!("engine {choice}");
        // A check-up changes nothing: it does not download.
        let options = EngineOptions { choice, fetch: false, ..self.model.engine(true) };
        let mut segmenter = match Segmenter::open(bundle, &options, SegmenterOptions::default()) {
            Ok(segmenter) => segmenter,
            Err(error) => {
                let optional = self.model.engine == EngineChoice::Auto && choice != EngineChoice::Tract;
                let health = if optional { Health::Missing } else { Health::Bad };
                return vec![Check::not(health, &name, error.to_string(), error.hint())];
            }
        };
        let version = match choice {
            EngineChoice::Tract => None,
            _ => engine::runtime_version(),
        };
        let mut checks = vec![Check::good(&name, version.unwrap_or_else(|| "opens and runs the graphs".into()))];
        let mut passed = 0;
        for canary in &bundle.canaries {
            let outcome = camera::load(&canary.image)
                .map_err(|error| error.to_string())
                .and_then(|picture| segmenter.segment(&picture, &canary.query).map_err(|error| error.to_string()))
                .and_then(|answer| canary.judge(&answer.outcome));
            match outcome {
                Ok(_) => passed += 1,
                Err(why) => checks.push(Check::not(
                    Health::Bad,
                    &format!("canary on {choice}"),
                    why,
                    "this engine does not give the bundle's own answers: compare with another engine",
                )),
            }
        }
        checks.push(Check::good(
            &format!("canaries on {choice}"),
            format!("{passed} of {} as expected", bundle.canaries.len()),
        ));
        checks
    }
}

fn system() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let detail = format!(
        "onboard {} on {} {}, {cores} cores",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    Check::good("system", detail)
}

fn cache() -> Check {
    match registry::cache_folder() {
        Some(folder) => Check::good("cache", folder.display().to_string()),
        None => Check::not(Health::Missing, "cache", "none", "set KESTREL_CACHE to a folder that can be written"),
    }
}

fn libraries() -> Check {
    let found = library::candidates(None);
    if found.is_empty() {
        return Check::not(
            Health::Missing,
            "ONNX Runtime libraries",
            "none found",
            "`onboard segment` fetches one into the cache; or set ORT_DYLIB_PATH",
        );
    }
    let list: Vec<String> =
        found.iter().map(|candidate| format!("{} ({})", candidate.path.display(), candidate.origin)).collect();
    Check::good("ONNX Runtime libraries", list.join(", "))
}

/// Whether videos and streams can be played.
fn ffmpeg() -> Check {
    const NAME: &str = "camera sources video: and rtsp:";
    match camera::find_ffmpeg(None) {
        Ok(program) => match camera::ffmpeg_version(&program) {
            Some(version) => Check::good(NAME, format!("{version} at {}", program.display())),
            None => Check::not(
                Health::Missing,
                NAME,
                format!("{} does not run", program.display()),
                "try it with -version, or name another one in camera.ffmpeg",
            ),
        },
        Err(error) => Check::not(Health::Missing, NAME, error.to_string(), error.hint()),
    }
}

/// Which devices of Linux can be used.
fn devices() -> Check {
    const NAME: &str = "camera source v4l2:";
    let devices = camera::v4l2_devices();
    let list: Vec<String> = devices.iter().map(|(path, name)| format!("{} ({name})", path.display())).collect();
    if let Err(error) = camera::CameraOptions::of(camera::Origin::V4l2("/dev/video0".into())).check() {
        let detail = if list.is_empty() { error.to_string() } else { format!("{error}; here are {}", list.join(", ")) };
        return Check::not(Health::Missing, NAME, detail, error.hint());
    }
    if list.is_empty() {
        return Check::not(Health::Missing, NAME, "no device", "plug in a camera, and see that its driver is loaded");
    }
    Check::good(NAME, list.join(", "))
}
