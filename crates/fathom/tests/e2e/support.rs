//! Starting the binary on a driver, running its commands, reading what it counts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use fathom_testbed::client::Connection;
use fathom_testbed::fathom::{Builder, Fathom};
use fathom_testbed::need;
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_fathom");

/// What carries the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    Uring,
    Epoll,
}

/// Each test once on either driver.
macro_rules! on_both_drivers {
    ($($test:ident),* $(,)?) => {
        mod on_uring {
            $(#[test] fn $test() {
                if crate::support::uring_works() {
                    super::$test(crate::support::Io::Uring);
                }
            })*
        }
        mod on_epoll {
            $(#[test] fn $test() {
                super::$test(crate::support::Io::Epoll);
            })*
        }
    };
}

/// Whether the kernel lets us have rings; skips aloud if not.
pub(crate) fn uring_works() -> bool {
    match fathom_io::choose(fathom_core::plan::IoChoice::Uring) {
        Ok(_) => true,
        Err(error) => {
            need::skip(&error.to_string());
            false
        }
    }
}

impl Io {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }

    /// Starts the binary with `config` on this driver; `<name>` stands for what `fills` says of it.
    #[track_caller]
    pub(crate) fn start(self, config: &str, fills: &[(&str, &dyn ToString)]) -> Fathom {
        self.start_by(Builder::new(BINARY), config, fills)
    }

    /// The same, by a builder with more to it.
    #[track_caller]
    pub(crate) fn start_by(
        self,
        builder: Builder,
        config: &str,
        fills: &[(&str, &dyn ToString)],
    ) -> Fathom {
        builder.start(&self.config(config, fills))
    }

    /// `config` with this driver and two workers, and its `<name>`s filled.
    pub(crate) fn config(self, config: &str, fills: &[(&str, &dyn ToString)]) -> String {
        let runtime = format!("[runtime]\nio = \"{}\"\nworkers = 2", self.name());
        let config = filled(config, fills);
        if config.contains("[runtime]") {
            config.replacen("[runtime]", &runtime, 1)
        } else {
            format!("{runtime}\n{config}")
        }
    }
}

/// `text` with each `<name>` replaced.
pub(crate) fn filled(text: &str, fills: &[(&str, &dyn ToString)]) -> String {
    fills.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("<{name}>"), &value.to_string())
    })
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `fathom` with these words in that directory.
#[track_caller]
pub(crate) fn fathom_in(directory: &Path, words: &[&str]) -> Said {
    run(Command::new(BINARY).args(words).current_dir(directory))
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command
        .env_remove("FATHOM_ADMIN")
        .env_remove("FATHOM_TOKEN")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Said {
    /// Stdout of a command that must have gone well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Stderr of a command that must have ended with `code`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.stderr
    }
}

/// What tests ask of the running binary.
pub(crate) trait Ask {
    /// Runs a command against it.
    fn command(&self, words: &[&str]) -> Said;
    /// `GET /api/v1/status`.
    fn status(&self) -> Value;
    /// The sum of the metric's series that have all these labels; 0 if there is none.
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64;
    /// Reloads through the API; status and body of the answer.
    fn reload(&self) -> (u16, String);
    /// What the status says of a server.
    fn server(&self, pool: &str, server: &str) -> Value;
}

impl Ask for Fathom {
    #[track_caller]
    fn command(&self, words: &[&str]) -> Said {
        let admin = self.address("admin").to_string();
        let mut all = words.to_vec();
        all.extend(["--admin", &admin]);
        fathom_in(self.directory(), &all)
    }

    #[track_caller]
    fn status(&self) -> Value {
        let response = self.admin("/api/v1/status");
        assert_eq!(response.status, 200, "{}", response.text());
        serde_json::from_str(&response.text()).unwrap()
    }

    #[track_caller]
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let response = self.admin("/metrics");
        assert_eq!(response.status, 200, "{}", response.text());
        sum_of(&response.text(), name, labels)
    }

    #[track_caller]
    fn reload(&self) -> (u16, String) {
        let response = Connection::open(self.address("admin"))
            .exchange(
                "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 2\r\nConnection: close\r\n\r\n{}",
            )
            .unwrap();
        (response.status, response.text())
    }

    #[track_caller]
    fn server(&self, pool: &str, server: &str) -> Value {
        let status = self.status();
        let of = |list: &Value, name: &str| {
            let found = list
                .as_array()
                .unwrap()
                .iter()
                .find(|v| v["name"] == name)
                .cloned();
            found.unwrap_or_else(|| panic!("no {name} in {list:#}"))
        };
        of(&of(&status["pools"], pool)["servers"], server)
    }
}

fn sum_of(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let of_series = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (its_name, its_labels) = series.split_once('{').unwrap_or((series, ""));
        let has = |(key, value): &(&str, &str)| its_labels.contains(&format!("{key}=\"{value}\""));
        (its_name == name && labels.iter().all(has)).then(|| value.parse::<f64>().unwrap())
    };
    text.lines().filter_map(of_series).sum()
}

/// Set when dropped, also by a panic: threads that run until then end, and the scope they are in can be left.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
