//! `cargo xtask fuzz-smoke`: each fuzz target for a few seconds.
//!
//! The same properties run as ordinary tests in each crate; this digs deeper where cargo-fuzz and a nightly
//! toolchain are at hand.

use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let seconds: u32 = match args.first() {
        Some(text) => text
            .parse()
            .map_err(|_| format!("fuzz-smoke: not a number of seconds: {text}"))?,
        None => 10,
    };
    let fuzz = || {
        // Not the cargo that runs us: the choice of toolchain is rustup's.
        let mut command = std::process::Command::new("cargo");
        command
            .current_dir(shell::root())
            .args(["+nightly", "fuzz"])
            .env_remove("RUSTUP_TOOLCHAIN");
        command
    };
    let targets = shell::output(fuzz().arg("list")).map_err(|why| {
        format!("fuzz-smoke needs cargo-fuzz and a nightly toolchain (cargo install cargo-fuzz; rustup toolchain install nightly)\n{why}")
    })?;
    for target in targets.lines() {
        eprintln!("==> {target}");
        shell::run(fuzz().args(["run", target, "--", &format!("-max_total_time={seconds}")]))?;
    }
    Ok(())
}
