//! What the process says when it ends: one of four codes, and for whom the message is.

use std::fmt::Display;
use std::process::ExitCode;

/// Why a command ended without doing its work.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The user's input is wrong (exit code 1).
    pub(crate) fn input(message: impl Display) -> Self {
        Self {
            code: 1,
            message: message.to_string(),
        }
    }

    /// The machine refused (exit code 2).
    pub(crate) fn machine(message: impl Display) -> Self {
        Self {
            code: 2,
            message: message.to_string(),
        }
    }

    /// No running process could be reached (exit code 3).
    pub(crate) fn unreachable(message: impl Display) -> Self {
        Self {
            code: 3,
            message: message.to_string(),
        }
    }

    /// Whether the machine refused.
    pub(crate) fn is_of_machine(&self) -> bool {
        self.code == 2
    }

    /// Says the message on stderr and gives the code to the shell.
    pub(crate) fn report(self) -> ExitCode {
        let text = self.message.trim_end();
        if !text.is_empty() {
            // A rendered configuration error brings its own "error:" and carets.
            if text.starts_with("error") || text.starts_with('\u{1b}') {
                eprintln!("{text}");
            } else {
                eprintln!("fathom: {text}");
            }
        }
        ExitCode::from(self.code)
    }
}

/// How a command ends.
pub(crate) type Outcome = Result<(), Failure>;
