//! The built `fathom`, running on ports of its own.
//!
//! ```no_run
//! use fathom_testbed::{client, fathom::Fathom, http1::Server};
//! # let binary = "fathom"; // in fathom's own tests: env!("CARGO_BIN_EXE_fathom")
//! let server = Server::named("a");
//! let fathom = Fathom::start(binary, &format!(r#"
//!     [listeners.web]
//!     bind = "127.0.0.1:{{web}}"
//!     depth = "http"
//!     pool = "app"
//!     [pools.app]
//!     servers = ["{}"]
//! "#, server.address()));
//! assert_eq!(client::get(fathom.address("web"), "/").text(), "a");
//! fathom.stop();
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::client::{self, Response};
use crate::ports::Port;
use crate::wait;

/// A running `fathom run`. Dropped, it is killed; on a failing test, what it wrote to stderr is shown.
#[derive(Debug)]
pub struct Fathom {
    child: Child,
    directory: TempDir,
    ports: BTreeMap<String, Port>,
    stdout: Lines,
    stderr: Lines,
}

type Lines = Arc<Mutex<String>>;

/// How a [`Fathom`] is started.
#[derive(Debug)]
pub struct Builder {
    binary: PathBuf,
    directory: TempDir,
    ports: BTreeMap<String, Port>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
}

impl Builder {
    /// Starts that binary.
    ///
    /// # Panics
    /// If no temporary directory can be made.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            directory: tempfile::Builder::new()
                .prefix("fathom-test-")
                .tempdir()
                .unwrap(),
            ports: BTreeMap::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
        }
    }

    /// The directory that the configuration is written to and that the process runs in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it through another program, as in `prlimit --nofile=64 fathom run ...`.
    #[must_use]
    pub fn through(mut self, program_and_args: &[&str]) -> Self {
        self.prefix = program_and_args.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Starts it with this configuration and waits until it serves.
    ///
    /// `{name}` stands for a port of its own, the same for the same name. An `[admin]` section on `{admin}` is
    /// added if there is none; with one of your own, bind it to `127.0.0.1:{admin}` too.
    ///
    /// # Panics
    /// If it does not come up; with what it wrote to stderr.
    #[must_use]
    #[track_caller]
    pub fn start(mut self, config: &str) -> Fathom {
        let text = fill(config, &mut self.ports);
        let file = self.directory.path().join("fathom.toml");
        std::fs::write(&file, text).unwrap();

        let mut words = self
            .prefix
            .iter()
            .map(String::as_str)
            .map(Into::into)
            .collect::<Vec<std::ffi::OsString>>();
        words.extend([
            self.binary.into_os_string(),
            "run".into(),
            "-c".into(),
            file.into_os_string(),
        ]);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .envs(self.environment)
            .env("RUST_BACKTRACE", "1")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", words[0].display()));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let mut fathom = Fathom {
            child,
            directory: self.directory,
            ports: self.ports,
            stdout,
            stderr,
        };
        fathom.wait_until_serving();
        fathom
    }
}

impl Fathom {
    /// Starts `binary` with this configuration; see [`Builder::start`].
    #[must_use]
    #[track_caller]
    pub fn start(binary: impl Into<PathBuf>, config: &str) -> Self {
        Builder::new(binary).start(config)
    }

    #[track_caller]
    fn wait_until_serving(&mut self) {
        let admin = self.address("admin");
        wait::until("fathom to serve", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("fathom ended at once: {status}\n{}", self.stderr());
            }
            // Any answer will do (401 with a token): it has listened to everything before that.
            std::net::TcpStream::connect(admin)
                .is_ok_and(|s| client::Connection::over(s).get("/api/v1/status").is_ok())
        });
    }

    /// `127.0.0.1` with the port that `{name}` stood for.
    ///
    /// # Panics
    /// If the configuration had no such name.
    #[must_use]
    #[track_caller]
    pub fn address(&self, name: &str) -> SocketAddr {
        self.port(name).v4()
    }

    /// The port that `{name}` stood for.
    ///
    /// # Panics
    /// If the configuration had no such name.
    #[must_use]
    #[track_caller]
    pub fn port(&self, name: &str) -> &Port {
        self.ports
            .get(name)
            .unwrap_or_else(|| panic!("no {{{name}}} in the configuration"))
    }

    /// The directory that the configuration is in and that the process runs in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file of the configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("fathom.toml")
    }

    /// Writes another configuration (names keep their ports); nothing re-reads it yet.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_config(&mut self, config: &str) {
        let text = fill(config, &mut self.ports);
        std::fs::write(self.config_file(), text).unwrap();
    }

    /// Asks the admin side.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    #[track_caller]
    pub fn admin(&self, path: &str) -> Response {
        // A foreign Host would be refused: it could be a browser led there by a foreign page.
        client::Connection::open(self.address("admin"))
            .exchange(format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ))
            .unwrap_or_else(|e| panic!("GET {path} from the admin side: {e}"))
    }

    /// Its process id (of the program it was started through, if any).
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and its exit.
    ///
    /// # Panics
    /// If it does not exit, or not with 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_for_exit();
        assert!(
            status.success(),
            "fathom ended with {status}\n{}",
            self.stderr()
        );
    }

    /// Waits until it has exited.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait::some("fathom to exit", || self.child.try_wait().unwrap())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written to stdout.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What it has written to stderr.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Fathom {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- fathom's stderr ---\n{}", self.stderr());
        }
    }
}

/// Puts ports where `{name}` stands; adds the admin side if it is not spoken of.
fn fill(config: &str, ports: &mut BTreeMap<String, Port>) -> String {
    let mut text = config.to_owned();
    if !text.contains("[admin]") {
        text.push_str("\n[admin]\nbind = \"127.0.0.1:{admin}\"\n");
    }
    let mut filled = String::new();
    let mut rest = text.as_str();
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        let name: String = after[1..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        // "{ weight = 1 }" and "${VAR}" are not ours.
        if !name.is_empty() && after[1 + name.len()..].starts_with('}') && !before.ends_with('$') {
            let port = ports.entry(name.clone()).or_insert_with(Port::reserve);
            filled.push_str(&port.number().to_string());
            rest = &after[name.len() + 2..];
        } else {
            filled.push('{');
            rest = &after[1..];
        }
    }
    filled.push_str(rest);
    filled
}

/// Reads along in a thread, or the process would stop at a full pipe.
fn collect(from: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let into = Arc::clone(&lines);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ports() {
        let mut ports = BTreeMap::new();
        let text = fill(
            "bind = \":{web}\" x = { y = \"${V}\" } again = \"{web}\" e = {}",
            &mut ports,
        );
        let web = ports["web"].number();
        let admin = ports["admin"].number();
        let expected = format!(
            "bind = \":{web}\" x = {{ y = \"${{V}}\" }} again = \"{web}\" e = {{}}\n[admin]\nbind = \"127.0.0.1:{admin}\"\n"
        );
        assert_eq!(text, expected);
    }
}
