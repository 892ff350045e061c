//! Commands that print a text and are done.

use std::io::{self, Write as _};

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::exit::{Failure, Outcome};

/// Writes to stdout; a reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::machine(format_args!("stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// `fathom schema`.
pub(crate) fn schema() -> Outcome {
    let text = serde_json::to_string_pretty(&fathom_config::schema()).map_err(Failure::machine)?;
    print(&format!("{text}\n"))
}

/// `fathom completions SHELL`.
pub(crate) fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fathom", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `fathom version`.
pub(crate) fn version() -> Outcome {
    print(&format!("fathom {}\n", env!("CARGO_PKG_VERSION")))
}
