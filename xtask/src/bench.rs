//! `cargo xtask bench`: builds the release binaries and hands over to `fathom-bench`.

use std::path::PathBuf;
use std::process::Command;

use crate::packages::{self, Use};
use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    packages::install(Use::Bench);
    for (name, purpose) in packages::missing(Use::Bench) {
        eprintln!("packages: {name} is missing ({purpose}): its columns stay empty");
    }
    shell::run(shell::cargo().args(["build", "--release", "-p", "fathom", "-p", "fathom-bench"]))?;
    let binaries = target_directory()?.join("release");
    let mut bench = Command::new(binaries.join("fathom-bench"));
    bench
        .arg("--fathom")
        .arg(binaries.join("fathom"))
        .args(args)
        .env("PATH", shell::search_path());
    shell::run(&mut bench)
}

fn target_directory() -> Result<PathBuf, String> {
    let text =
        shell::output(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let path = metadata["target_directory"]
        .as_str()
        .ok_or("cargo metadata names no target directory")?;
    Ok(path.into())
}
