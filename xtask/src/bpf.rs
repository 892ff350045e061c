//! `cargo xtask bpf`: the packet depth's kernel program, built from `bpf/` so that its bytes are the same everywhere.
//!
//! The built objects are committed (`cargo build` needs no clang). Debian's clang 14 is the one that counts: another
//! version makes other bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

const CLANG: &str = "clang-14";

/// Object, and what is defined to build it: the program, and the program as `bench packet` runs it.
const OBJECTS: &[(&str, &[&str])] = &[
    ("bpf/fathom.bpf.o", &[]),
    ("bench/fathom.bench.bpf.o", &["-DFATHOM_BENCH"]),
];

/// `cargo xtask bpf [--check]`: writes `bpf/fathom.h` and the objects, or says whether they are what they should be.
pub(crate) fn command(args: &[String]) -> Result<(), String> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: cargo xtask bpf [--check]".into()),
    };
    if !shell::has(CLANG) {
        return Err(format!(
            "{CLANG} is missing (Debian package {CLANG}): another version builds other bytes"
        ));
    }
    let header = shell::output(shell::cargo().args([
        "run",
        "--quiet",
        "-p",
        "fathom-wire",
        "--example",
        "packet_header",
    ]))?;
    let mut stale = Vec::new();
    let header_path = shell::root().join("bpf/fathom.h");
    put(&header_path, header.as_bytes(), check, &mut stale)?;
    for (object, defines) in OBJECTS {
        let built = build(defines)?;
        put(&shell::root().join(object), &built, check, &mut stale)?;
    }
    if stale.is_empty() {
        println!("bpf: everything is as it should be");
        Ok(())
    } else if check {
        Err(format!(
            "bpf: out of date: {}: run `cargo xtask bpf`",
            stale.join(", ")
        ))
    } else {
        println!("bpf: wrote {}", stale.join(", "));
        Ok(())
    }
}

fn put(path: &Path, bytes: &[u8], check: bool, stale: &mut Vec<String>) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    stale.push(
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
    );
    if check {
        return Ok(());
    }
    std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// The object's bytes. Paths are kept out of them, and no header but those in `bpf/` is read.
fn build(defines: &[&str]) -> Result<Vec<u8>, String> {
    let directory = shell::root().join("bpf");
    let out: PathBuf = std::env::temp_dir().join(format!("fathom-bpf-{}.o", std::process::id()));
    let mut clang = Command::new(CLANG);
    clang
        .current_dir(&directory)
        .args(["--target=bpf", "-mcpu=v3", "-O2", "-g", "-nostdinc"])
        .args(["-Wall", "-Wextra", "-Werror", "-fdebug-compilation-dir=."])
        .arg(format!("-ffile-prefix-map={}=.", directory.display()))
        .args(defines)
        .args(["-c", "fathom.bpf.c", "-o"])
        .arg(&out);
    let built = shell::run(&mut clang)
        .and_then(|()| std::fs::read(&out).map_err(|e| format!("{}: {e}", out.display())));
    let _ = std::fs::remove_file(&out);
    built
}
