//! A program of the machine, run by a test and ended with it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fathom_testbed::{need, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::run;

/// Dropped, it is asked to end, and after a while made to.
pub(super) struct Program {
    child: Child,
    ends_by: Signal,
}

impl Program {
    #[track_caller]
    pub(super) fn start(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self {
            child,
            ends_by: Signal::TERM,
        }
    }

    /// Starts it and gives the first line it prints.
    #[track_caller]
    pub(super) fn start_and_hear(command: &mut Command) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let program = Self {
            child,
            ends_by: Signal::TERM,
        };
        (program, line.trim().to_owned())
    }

    pub(super) fn ended_by(mut self, signal: Signal) -> Self {
        self.ends_by = signal;
        self
    }

    /// Waits until it accepts connections.
    #[track_caller]
    pub(super) fn accepts(mut self, at: SocketAddr) -> Self {
        wait::until("the program to accept", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended at once: {status}");
            }
            TcpStream::connect(at).is_ok()
        });
        self
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), self.ends_by);
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs as somebody who is not root, if this is root: some programs insist. `directory` is given to
/// that user. `None`, said aloud, where that cannot be done.
pub(super) fn unprivileged(program: &Path, directory: &Path) -> Option<Command> {
    if !need::is_root() {
        return Some(Command::new(program));
    }
    let setpriv = need::program("setpriv")?;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = ["postgres", "nobody"]
        .into_iter()
        .find(|user| passwd.lines().any(|l| l.starts_with(&format!("{user}:"))));
    let Some(user) = user else {
        need::skip("neither a user postgres nor a user nobody");
        return None;
    };
    run(Command::new("chown").arg(user).arg(directory)).ok();
    let mut command = Command::new(setpriv);
    command
        .args(["--reuid", user, "--clear-groups", "--"])
        .arg(program);
    Some(command)
}
