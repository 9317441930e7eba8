//! `ground keys`: Ed25519 keys for signing bundles.

use anyhow::{Context, Result};
use clap::Subcommand;
use ed25519_dalek::SigningKey;
use kestrel_link::signature;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `ground keys`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a new secret key (readable by you only) and print its public key.
    New {
        /// File to write; an existing one is never overwritten.
        file: PathBuf,
    },
    /// Print the public key that belongs to a secret key; a drone's configuration lists it under `trusted_keys`.
    Show {
        /// Secret key file.
        file: PathBuf,
    },
}

/// Runs `ground keys`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let key = match &arguments.command {
        Command::New { file } => create(file)?,
        Command::Show { file } => read(file)?,
    };
    println!("{}", signature::public_key_text(&key.verifying_key()));
    Ok(ExitCode::SUCCESS)
}

/// Reads a secret key file.
pub fn read(file: &Path) -> Result<SigningKey> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading {}\nhint: `ground keys new {0}` makes one", file.display()))?;
    signature::parse_secret_key(&text).with_context(|| file.display().to_string())
}

fn create(file: &Path) -> Result<SigningKey> {
    let key = SigningKey::from_bytes(&random()?);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(file).with_context(|| {
        format!("writing {}\nhint: a key is never overwritten; choose another name", file.display())
    })?;
    writeln!(out, "{}", signature::secret_key_text(&key))?;
    out.sync_all()?;
    Ok(key)
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("operator.key");
        let key = create(&file).unwrap();
        assert_eq!(read(&file).unwrap().as_bytes(), key.as_bytes());
        assert!(create(&file).is_err(), "a key must never be overwritten");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_broken_key_says_what_was_expected() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k");
        std::fs::write(&file, "zz").unwrap();
        let error = format!("{:#}", read(&file).unwrap_err());
        assert!(error.contains("expected") && error.contains("64"), "{error}");
    }
}
