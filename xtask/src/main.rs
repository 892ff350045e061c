//! The project's chores behind one command: `cargo xtask ...`.
//!
//! This crate stays light on purpose (std and `serde_json`): it is built before anything else is tested.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command's data goes to stdout")]

mod bench;
mod bpf;
mod fuzz;
mod packages;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--no-install] [--only STEP]
                         everything: packages, tidy, rustfmt, clippy, build, tests, doc tests;
                         ends with `N passed, N failed, N skipped`.
                         STEP is one of tidy, fmt, clippy, tests, doc
  tidy                   the rules no compiler checks: floors, unsafe code, licences, paths, file sizes
  bench [CASE...] [--rounds N] [--json FILE] [--list]
                         Fathom beside its peers; see bench/README.md
  bpf [--check]          builds bpf/ with Debian's clang 14 and writes the committed objects, or compares
  fuzz-smoke [SECONDS]   each fuzz target for a few seconds (needs cargo-fuzz and a nightly toolchain)
  packages               the Debian packages that tests and benches use, and what is missing here
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("tidy") => tidy::command(),
        Some("bench") => bench::run(rest),
        Some("bpf") => bpf::command(rest),
        Some("fuzz-smoke") => fuzz::run(rest),
        Some("packages") => packages::list(),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("no such command: {other}\n\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            if !why.is_empty() {
                eprintln!("{}", why.trim_end());
            }
            ExitCode::FAILURE
        }
    }
}
