//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that no compiler checks.
//!
//! Floors (imports run downward only), where unsafe code may stand and that it is explained, licences,
//! no path of somebody's machine, modules as `x.rs` + `x/`, and files a reader can hold in the head.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::shell;

/// Each crate's floor, and its step on it: an import must lead to a lower (floor, step).
/// Only floor 0 has steps: algorithms and wire formats, the words built from them, and routing over the words.
const FLOORS: &[(&str, (u8, u8))] = &[
    ("fathom", (4, 0)),
    ("fathom-config", (3, 0)),
    ("fathom-admin", (3, 0)),
    ("fathom-packet", (2, 0)),
    ("fathom-stream", (2, 0)),
    ("fathom-http", (2, 0)),
    ("fathom-upstream", (2, 0)),
    ("fathom-io", (1, 0)),
    ("fathom-tls", (1, 0)),
    ("fathom-codec", (1, 0)),
    ("fathom-access", (1, 0)),
    ("fathom-route", (0, 2)),
    ("fathom-core", (0, 1)),
    ("fathom-balance", (0, 0)),
    ("fathom-wire", (0, 0)),
];

/// Members that are no part of the program: they may use what they like; the program may use only the
/// testbed, and only in its tests.
const BESIDE: &[&str] = &["fathom-testbed", "fathom-bench", "xtask"];
const TESTBED: &str = "fathom-testbed";

/// Crates that may hold unsafe code, each block with its SAFETY comment.
const UNSAFE: &[&str] = &["fathom-io", "fathom-wire", "fathom-packet"];

/// Lines beyond which a source file is split; tables of tests may be longer.
const LONGEST_FILE: usize = 800;
const LONGEST_TESTS: usize = 1200;

/// `cargo xtask tidy`.
pub(crate) fn command() -> Result<(), String> {
    check()?;
    println!("tidy");
    Ok(())
}

/// All rules; every breach is one line of the error.
pub(crate) fn check() -> Result<(), String> {
    let text =
        shell::output(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;

    let mut breaches = Vec::new();
    for package in packages {
        floors(package, &mut breaches);
        manifest(package, &mut breaches);
        unsafe_code(package, &mut breaches);
    }
    for file in tracked_files()? {
        source_file(&file, &mut breaches);
    }
    if breaches.is_empty() {
        Ok(())
    } else {
        Err(breaches.join("\n"))
    }
}

fn floor(name: &str) -> Option<(u8, u8)> {
    FLOORS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, floor)| *floor)
}

/// Imports run downward only.
fn floors(package: &Value, breaches: &mut Vec<String>) {
    let name = package["name"].as_str().unwrap_or_default();
    if BESIDE.contains(&name) {
        return;
    }
    let Some(here) = floor(name) else {
        breaches.push(format!("{name}: has no floor in xtask/src/tidy.rs"));
        return;
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let Some(to) = dependency["name"]
            .as_str()
            .filter(|_| dependency["path"].is_string())
        else {
            continue;
        };
        let only_in_tests = dependency["kind"].as_str() == Some("dev");
        let allowed = match floor(to) {
            Some(there) => there < here,
            None => to == TESTBED && only_in_tests,
        };
        if !allowed {
            breaches.push(format!(
                "{name}: may not import {to}: imports run downward only, and never within a floor"
            ));
        }
    }
}

/// Every member takes licence and lints from the workspace.
fn manifest(package: &Value, breaches: &mut Vec<String>) {
    let name = package["name"].as_str().unwrap_or_default();
    if package["license"].as_str() != Some("MIT OR Apache-2.0") {
        breaches.push(format!(
            "{name}: its licence is not MIT OR Apache-2.0 (license.workspace = true)"
        ));
    }
    let path = package["manifest_path"].as_str().unwrap_or_default();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if !text.contains("[lints]\nworkspace = true") {
        breaches.push(format!("{name}: does not take the workspace's lints"));
    }
}

/// Unsafe code stands in three crates only.
fn unsafe_code(package: &Value, breaches: &mut Vec<String>) {
    let name = package["name"].as_str().unwrap_or_default();
    if UNSAFE.contains(&name) {
        return;
    }
    for target in package["targets"].as_array().into_iter().flatten() {
        let is_program = target["kind"].as_array().is_some_and(|kinds| {
            kinds
                .iter()
                .any(|k| matches!(k.as_str(), Some("lib" | "bin")))
        });
        let root = target["src_path"].as_str().unwrap_or_default();
        if is_program
            && !std::fs::read_to_string(root)
                .unwrap_or_default()
                .contains("#![forbid(unsafe_code)]")
        {
            breaches.push(format!(
                "{name}: {} lacks #![forbid(unsafe_code)]",
                relative(root)
            ));
        }
    }
}

fn relative(path: &str) -> String {
    let root = shell::root();
    Path::new(path)
        .strip_prefix(&root)
        .map_or_else(|_| path.to_owned(), |p| p.display().to_string())
}

/// What git knows of, relative to the root; without git (a source archive), nothing to check.
fn tracked_files() -> Result<Vec<String>, String> {
    let mut git = Command::new("git");
    git.current_dir(shell::root()).args(["ls-files", "-z"]);
    match shell::output(&mut git) {
        Ok(list) => Ok(list
            .split('\0')
            .filter(|f| !f.is_empty())
            .map(str::to_owned)
            .collect()),
        Err(why) => {
            eprintln!(
                "tidy: not a git checkout, so files are not looked at ({})",
                why.lines().next().unwrap_or("")
            );
            Ok(Vec::new())
        }
    }
}

fn source_file(file: &str, breaches: &mut Vec<String>) {
    // Not UTF-8, or gone: nothing for these rules.
    let Ok(text) = std::fs::read_to_string(shell::root().join(file)) else {
        return;
    };
    for (number, line) in text.lines().enumerate() {
        if let Some(path) = machine_path(line) {
            breaches.push(format!(
                "{file}:{}: names a path of one machine: {path}",
                number + 1
            ));
        }
    }
    if !file.ends_with(".rs") {
        return;
    }
    if file.ends_with("/mod.rs") && !file.contains("/tests/") {
        breaches.push(format!("{file}: modules are x.rs + x/, not x/mod.rs"));
    }
    let lines = text.lines().count();
    let tests = file.contains("/tests/") || file.ends_with("tests.rs");
    let most = if tests { LONGEST_TESTS } else { LONGEST_FILE };
    if lines > most {
        breaches.push(format!("{file}: {lines} lines; split it (at most {most})"));
    }
    for number in unexplained_unsafe(&text) {
        breaches.push(format!(
            "{file}:{number}: an unsafe block without a SAFETY comment"
        ));
    }
}

/// A path that can only be right on the machine it was written on.
fn machine_path(line: &str) -> Option<&'static str> {
    // In pieces, or this file would be the first to break the rule.
    const PATHS: &[&str] = &[
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/ho", "me/"),
    ];
    PATHS.iter().copied().find(|path| {
        line.match_indices(path).any(|(at, _)| {
            // "/x/home/y" is a path in a URL or below another directory.
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-*/:".contains(c))
        })
    })
}

/// Lines (from 1) with an unsafe block that no SAFETY comment within the lines above explains.
fn unexplained_unsafe(text: &str) -> Vec<usize> {
    const REACH: usize = 8;
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let opens =
            code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " impl"));
        let explained = lines[number.saturating_sub(REACH)..=number]
            .iter()
            .any(|l| l.contains("SAFETY"));
        if opens && !explained && !code.trim_start().starts_with('"') {
            found.push(number + 1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_run_downward_only() {
        let package = |name: &str, to: &str, kind: Option<&str>| serde_json::json!({ "name": name, "dependencies": [{ "name": to, "path": "/x", "kind": kind }] });
        let table = [
            ("fathom-http", "fathom-io", None, true),
            ("fathom-http", "fathom-stream", None, false),
            ("fathom-core", "fathom-balance", None, true),
            ("fathom-balance", "fathom-core", None, false),
            ("fathom-http", "fathom-config", None, false),
            ("fathom-http", "fathom-testbed", Some("dev"), true),
            ("fathom-http", "fathom-testbed", None, false),
            ("fathom-new", "fathom-core", None, false),
            ("xtask", "fathom-config", None, true),
        ];
        for (from, to, kind, allowed) in table {
            let mut breaches = Vec::new();
            floors(&package(from, to, kind), &mut breaches);
            assert_eq!(breaches.is_empty(), allowed, "{from} -> {to}: {breaches:?}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        assert!(machine_path(concat!("cd /ho", "me/me/src")).is_some());
        assert!(machine_path(concat!("\"/ro", "ot/x\"")).is_some());
        assert!(machine_path(concat!("https://example.com/ho", "me/x")).is_none());
        assert!(machine_path("/etc/fathom.toml").is_none());
    }

    #[test]
    fn unsafe_blocks_are_explained() {
        let block = concat!("let x = unsafe", " { y() };");
        assert_eq!(unexplained_unsafe(&format!("a\n{block}\n")), [2]);
        assert!(
            unexplained_unsafe(&format!("// SAFETY: y has no preconditions.\n{block}\n"))
                .is_empty()
        );
    }
}
