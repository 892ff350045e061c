//! `cargo xtask test`: all that has to hold, in one go, whatever the machine.
//!
//! Every step runs even if an earlier one failed; the last line says `N passed, N failed, N skipped`.
//! A test that cannot run here (not root, a program missing) says so through `fathom_testbed::skip`, which
//! appends to the file named by `FATHOM_SKIPPED`: those are listed and counted as skipped, not as passed.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::packages::{self, Use};
use crate::shell::{self, Tap};
use crate::tidy;

/// What came of the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// A check that is not a test: counted as one.
    fn check(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => {
                eprintln!("{name} FAILED: {}", why.trim_end());
                self.failed += 1;
            }
        }
    }

    fn skip(&mut self, name: &str, why: &str) {
        eprintln!("skipped: {name}: {why}");
        self.skipped += 1;
    }
}

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let mut install = true;
    let mut only = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--no-install" => install = false,
            "--only" => only = Some(args.next().ok_or("--only needs a step")?.as_str()),
            other => return Err(format!("test: unknown argument {other}")),
        }
    }
    if let Some(step) = only.filter(|s| !["tidy", "fmt", "clippy", "tests", "doc"].contains(s)) {
        return Err(format!("test: no such step: {step}"));
    }
    let wanted = |step: &str| only.is_none_or(|o| o == step);

    let mut count = Count::default();
    if wanted("tests") {
        step("packages");
        if install {
            packages::install(Use::Test);
        }
        for (name, purpose) in packages::missing(Use::Test) {
            eprintln!(
                "packages: {name} is missing ({purpose}): tests that need it will be skipped"
            );
        }
    }
    if wanted("tidy") {
        step("tidy");
        count.check("tidy", tidy::check());
    }
    if wanted("fmt") {
        step("rustfmt");
        if component("fmt") {
            count.check(
                "rustfmt",
                shell::run(shell::cargo().args(["fmt", "--all", "--check"])),
            );
        } else {
            count.skip(
                "rustfmt",
                "rustfmt is not installed (rustup component add rustfmt)",
            );
        }
    }
    if wanted("clippy") {
        step("clippy");
        if component("clippy") {
            count.check("clippy", clippy());
        } else {
            count.skip(
                "clippy",
                "clippy is not installed (rustup component add clippy)",
            );
        }
    }
    if wanted("tests") {
        step("build and test");
        tests(&mut count);
    }
    if wanted("doc") {
        step("doc tests");
        count.add(libtest(&["test", "--doc", "--workspace", "--quiet"]));
    }
    println!(
        "{} passed, {} failed, {} skipped",
        count.passed, count.failed, count.skipped
    );
    if count.failed == 0 {
        Ok(())
    } else {
        Err(String::new())
    }
}

fn step(name: &str) {
    eprintln!("==> {name}");
}

fn component(name: &str) -> bool {
    shell::output(shell::cargo().args([name, "--version"])).is_ok()
}

fn clippy() -> Result<(), String> {
    shell::run(shell::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Builds once, then runs every test but the doc tests.
fn tests(count: &mut Count) {
    let skipped = shell::root().join("target").join("skipped-tests");
    let _ = std::fs::create_dir_all(shell::root().join("target"));
    let _ = std::fs::remove_file(&skipped);
    let started = Instant::now();
    let mut ran = if component("nextest") {
        nextest(&skipped)
    } else {
        eprintln!(
            "cargo-nextest is not installed: using `cargo test`, one test at a time and without retries"
        );
        libtest(&[
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--quiet",
        ])
    };
    eprintln!("tests took {} s", started.elapsed().as_secs());
    // A retried test says the same twice: a set.
    let lines = std::fs::read_to_string(&skipped).unwrap_or_default();
    for line in lines.lines().collect::<BTreeSet<_>>() {
        eprintln!("skipped: {line}");
        ran.passed = ran.passed.saturating_sub(1);
        ran.skipped += 1;
    }
    count.add(ran);
}

fn nextest(skipped: &std::path::Path) -> Count {
    let mut command = shell::cargo();
    command
        .args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--color",
            "never",
        ])
        .args(["--status-level", "slow", "--final-status-level", "flaky"])
        .env("FATHOM_SKIPPED", skipped);
    let mut count = None;
    let ended = shell::tee(&mut command, Tap::Stderr, |line| {
        if let Some(found) = nextest_summary(line) {
            count = Some(found);
        }
    });
    settle(count, ended)
}

fn libtest(args: &[&str]) -> Count {
    let mut count = None;
    let mut command = shell::cargo();
    command.args(args).env("RUST_TEST_THREADS", "1");
    let ended = shell::tee(&mut command, Tap::Stdout, |line| {
        if let Some(found) = libtest_summary(line) {
            count.get_or_insert(Count::default()).add(found);
        }
    });
    settle(count, ended)
}

/// A run that ended badly without a failed test (it did not build, it was killed) is one failure.
fn settle(count: Option<Count>, ended: Result<bool, String>) -> Count {
    let mut count = count.unwrap_or_default();
    let fine = ended.unwrap_or_else(|why| {
        eprintln!("{why}");
        false
    });
    if !fine && count.failed == 0 {
        count.failed = 1;
    }
    count
}

/// `Summary [   1.2s] 9 tests run: 7 passed (1 flaky), 1 failed, 1 timed out, 2 skipped`
fn nextest_summary(line: &str) -> Option<Count> {
    let rest = line.trim_start().strip_prefix("Summary [")?;
    let (_, counts) = rest.split_once(" run: ")?;
    let mut count = Count::default();
    // What stands in brackets is part of what stands before them.
    for part in without_brackets(counts).split(',') {
        let Some((number, word)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match word.trim() {
            "passed" => count.passed += number,
            "skipped" => count.skipped += number,
            _ => count.failed += number,
        }
    }
    Some(count)
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn libtest_summary(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let mut count = Count::default();
    for part in counts.split(';') {
        let Some((number, word)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match word {
            "passed" => count.passed += number,
            "failed" => count.failed += number,
            "ignored" => count.skipped += number,
            _ => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_summary_of_nextest() {
        let table = [
            (
                "     Summary [   0.011s] 3 tests run: 3 passed, 0 skipped",
                (3, 0, 0),
            ),
            (
                "Summary [ 1.2s] 9 tests run: 7 passed (1 slow, 2 flaky), 1 failed, 1 timed out, 2 skipped",
                (7, 2, 2),
            ),
            (
                "Summary [ 1.2s] 5/9 tests run: 4 passed, 1 exec failed, 0 skipped",
                (4, 1, 0),
            ),
            ("Summary [ 0.0s] 1 test run: 1 passed, 0 skipped", (1, 0, 0)),
        ];
        for (line, (passed, failed, skipped)) in table {
            assert_eq!(
                nextest_summary(line),
                Some(Count {
                    passed,
                    failed,
                    skipped
                }),
                "{line}"
            );
        }
        assert_eq!(
            nextest_summary("PASS [ 0.1s] Summary [x] run: 3 passed"),
            None
        );
    }

    #[test]
    fn reads_the_summary_of_libtest() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0s";
        assert_eq!(
            libtest_summary(line),
            Some(Count {
                passed: 3,
                failed: 2,
                skipped: 1
            })
        );
    }

    #[test]
    fn a_run_that_ends_badly_without_a_failed_test_is_a_failure() {
        assert_eq!(settle(None, Ok(false)).failed, 1);
        assert_eq!(
            settle(
                Some(Count {
                    passed: 3,
                    ..Count::default()
                }),
                Ok(false)
            )
            .failed,
            1
        );
        assert_eq!(
            settle(
                Some(Count {
                    failed: 2,
                    ..Count::default()
                }),
                Ok(false)
            )
            .failed,
            2
        );
        assert_eq!(
            settle(
                Some(Count {
                    passed: 3,
                    ..Count::default()
                }),
                Ok(true)
            )
            .failed,
            0
        );
    }
}
