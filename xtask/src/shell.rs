//! Starting other programs, and finding out whether they are there.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).unwrap_or(here)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root())
        .stdin(Stdio::null())
        .env("PATH", search_path());
    command
}

/// `PATH` with the directories of Debian's system programs (nginx, haproxy, nft), which a normal user's lacks.
pub(crate) fn search_path() -> OsString {
    let mut dirs: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    for dir in ["/usr/sbin", "/sbin"] {
        if !dirs.iter().any(|d| d == Path::new(dir)) {
            dirs.push(dir.into());
        }
    }
    std::env::join_paths(dirs).unwrap_or_default()
}

/// Whether a program of that name can be found.
pub(crate) fn has(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
}

/// Runs to the end with our own stdout and stderr.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    let status = command
        .status()
        .map_err(|e| format!("cannot start {shown}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

/// What a program printed, if it ended well.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let out = command
        .output()
        .map_err(|e| format!("cannot start {shown}: {e}"))?;
    if !out.status.success() {
        return Err(format!(
            "{shown}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    String::from_utf8(out.stdout).map_err(|e| format!("{shown}: {e}"))
}

/// Which of a program's two outputs to read along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tap {
    Stdout,
    Stderr,
}

/// Runs to the end, passing everything on and handing each line of one output to `seen`. Says whether it ended well.
pub(crate) fn tee(
    command: &mut Command,
    tap: Tap,
    mut seen: impl FnMut(&str),
) -> Result<bool, String> {
    let shown = show(command);
    match tap {
        Tap::Stdout => command.stdout(Stdio::piped()),
        Tap::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command
        .spawn()
        .map_err(|e| format!("cannot start {shown}: {e}"))?;
    let mut pass_on = |source: &mut dyn BufRead, to: &mut dyn Write| {
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // Our own reader may have gone; the tests still have to run to the end.
            let _ = to.write_all(&line);
            seen(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    };
    if let Some(out) = child.stdout.take() {
        pass_on(&mut BufReader::new(out), &mut std::io::stdout());
    }
    if let Some(err) = child.stderr.take() {
        pass_on(&mut BufReader::new(err), &mut std::io::stderr());
    }
    Ok(child.wait().map_err(|e| format!("{shown}: {e}"))?.success())
}

fn show(command: &Command) -> String {
    let mut shown = Path::new(command.get_program())
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}
