//! `onboard`: what runs on the drone.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    cli::log(&arguments);
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = cli::hint(&error) {
                eprintln!("hint: {hint}");
            }
            cli::code(&error)
        }
    }
}
