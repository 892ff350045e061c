//! What a test needs from the machine; without it the test is skipped, aloud.
//!
//! ```
//! use fathom_testbed::need;
//! # fn a_test() {
//! let Some(nginx) = need::program("nginx") else { return };
//! if !need::root() { return }
//! # }
//! ```
//! `cargo xtask test` reads what was skipped from the file named by `FATHOM_SKIPPED`, lists it, and counts it
//! as skipped rather than passed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Debian's own Python, where its `python3-*` packages live (`PATH` may have another one first).
pub const PYTHON: &str = "/usr/bin/python3";

/// Notes that the calling test did not run and why. The test then returns.
pub fn skip(why: &str) {
    let test = std::env::var("NEXTEST_TEST_NAME")
        .ok()
        .or_else(|| std::thread::current().name().map(str::to_owned))
        .unwrap_or_else(|| "a test".to_owned());
    eprintln!("skipped: {test}: {why}");
    if let Some(log) = std::env::var_os("FATHOM_SKIPPED")
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(log)
    {
        // One write, so that tests running at once do not mix their lines.
        let _ = file.write_all(format!("{test}: {why}\n").as_bytes());
    }
}

/// The path of a program; skips if it is not installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Where a program is, in `PATH` or where Debian keeps system programs and PostgreSQL's.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        dirs.extend(versions.flatten().map(|v| v.path().join("bin")));
    }
    dirs.into_iter()
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// Debian's Python with that module; skips if either is missing.
pub fn python(module: &str) -> Option<&'static Path> {
    let there = std::process::Command::new(PYTHON)
        .args(["-c", &format!("import {module}")])
        .output()
        .is_ok_and(|o| o.status.success());
    if !there {
        skip(&format!("{PYTHON} has no module {module}"));
    }
    there.then_some(Path::new(PYTHON))
}

/// Whether the test runs as root; skips if not.
#[must_use]
pub fn root() -> bool {
    let is_root = is_root();
    if !is_root {
        skip("not root");
    }
    is_root
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
}
