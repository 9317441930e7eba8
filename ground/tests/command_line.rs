//! What every command says of itself, as docs/reference holds it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

const COMMANDS: [&[&str]; 26] = [
    &[],
    &["demo"],
    &["ask"],
    &["data"],
    &["data", "check"],
    &["data", "show"],
    &["train"],
    &["grpo"],
    &["ablate"],
    &["export"],
    &["eval"],
    &["follow"],
    &["score"],
    &["quantise"],
    &["calibrate"],
    &["calibrate", "begin"],
    &["calibrate", "apply"],
    &["calibrate", "gate"],
    &["bundle"],
    &["reproduce"],
    &["keys"],
    &["keys", "new"],
    &["keys", "show"],
    &["push"],
    &["simulate"],
    &["doctor"],
];

/// What would break: documentation of flags that are no more. `KESTREL_WRITE=1` writes the page anew.
#[test]
fn the_reference_says_what_the_commands_say() {
    let mut page =
        String::from("# ground\n\nWhat `ground --help` and its commands say; a test holds this page to it.\n");
    for arguments in COMMANDS {
        let output = Command::new(env!("CARGO_BIN_EXE_ground"))
            .args(arguments)
            .arg("--help")
            .env_remove("KESTREL_CONNECT")
            .env_remove("KESTREL_DATA")
            .env_remove("KESTREL_RUNS")
            .env_remove("KESTREL_SBERT")
            .output()
            .unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let name = ["ground"].iter().chain(arguments).copied().collect::<Vec<_>>().join(" ");
        page += &format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    }
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let file = Path::new(&manifest).join("../docs/reference/ground.md");
    if std::env::var_os("KESTREL_WRITE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(held == page, "docs/reference/ground.md is out of date: run this test once with KESTREL_WRITE=1");
}
