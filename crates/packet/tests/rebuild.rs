//! The committed object is what `bpf/` says: rebuilt and compared where Debian's clang 14 is.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

#[test]
fn the_committed_object_is_built_from_the_committed_source() {
    let bpf = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf");
    let version = Command::new("clang-14").arg("--version").output();
    let version = version
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    if !version.contains("Debian clang version 14.0.6") {
        eprintln!("SKIPPED: needs Debian's clang 14.0.6");
        return;
    }
    let out = std::env::temp_dir().join(format!("fathom-rebuild-{}.o", std::process::id()));
    let bpf = std::fs::canonicalize(bpf).unwrap();
    let done = Command::new("clang-14")
        .current_dir(&bpf)
        .args([
            "--target=bpf",
            "-mcpu=v3",
            "-O2",
            "-g",
            "-nostdinc",
            "-Wall",
            "-Wextra",
            "-Werror",
        ])
        .arg("-fdebug-compilation-dir=.")
        .arg(format!("-ffile-prefix-map={}=.", bpf.display()))
        .args(["-c", "fathom.bpf.c", "-o"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let built = std::fs::read(&out).unwrap();
    let _ = std::fs::remove_file(&out);
    assert!(
        built == std::fs::read(bpf.join("fathom.bpf.o")).unwrap(),
        "run `cargo xtask bpf`"
    );
}
