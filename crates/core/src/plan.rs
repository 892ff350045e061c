//! What a configuration means, resolved and checked: plain data.
//!
//! `config` makes a [`Plan`] from text; the planes, probes and the admin side are built from it.
//! Everything in it is already valid: names resolve, regular expressions compile, defaults are filled in.

mod http;
mod listener;
mod pool;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use http::*;
pub use listener::*;
pub use pool::*;
pub use tls::*;

/// Where in the user's files something was written; shown as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file's path as the user gave it (or as `include` matched it).
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The admin side; `None` without an `[admin]` section.
    pub admin: Option<AdminPlan>,
    /// Threads, driver, user, shutdown.
    pub runtime: RuntimePlan,
    /// The program's log and the access log.
    pub log: LogPlan,
    /// Listeners in file order; names are unique, binds do not collide.
    pub listeners: Vec<ListenerPlan>,
    /// Pools in file order; names are unique.
    pub pools: Vec<Arc<PoolPlan>>,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
}

impl Plan {
    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Arc<PoolPlan>> {
        self.pools.iter().find(|p| &*p.name == name)
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlan {
    /// Where the dashboard, API and metrics are served.
    pub bind: AdminBind,
    /// Bearer token; always present unless bound to loopback or a unix socket.
    pub token: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// An address of the admin side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminBind {
    /// `"127.0.0.1:9400"`.
    Tcp(SocketAddr),
    /// `"unix:/run/fathom.sock"`.
    Unix(PathBuf),
}

/// `[runtime]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimePlan {
    /// Data-path threads; `None` = one per usable core.
    pub workers: Option<NonZeroUsize>,
    /// Which driver carries the sockets.
    pub io: IoChoice,
    /// User to become after binding.
    pub user: Option<String>,
    /// How long SIGTERM waits for connections to finish. Default 30 s.
    pub shutdown_grace: Duration,
}

/// `[runtime] io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring, or refuse to start.
    Uring,
    /// epoll.
    Epoll,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// Of the program's own log, to stderr. Default info.
    pub level: LogLevel,
    /// Where the access log goes. Default stdout.
    pub access: AccessTarget,
    /// Its format. Default json.
    pub format: AccessFormat,
}

/// `[log] level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `[log] access`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AccessTarget {
    Off,
    #[default]
    Stdout,
    Stderr,
    File(PathBuf),
}

/// `[log] format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The Apache/nginx "combined" format.
    Combined,
    /// `key=value` pairs.
    Logfmt,
}

/// A regular expression that is known to compile; equality is by its text.
///
/// Matching is by [`regex_automata`]: linear time, no back-references.
#[derive(Clone)]
pub struct Regex {
    text: Arc<str>,
    regex: Arc<regex_automata::meta::Regex>,
}

impl Regex {
    /// Compiles `text` for matching on bytes (a value need not be UTF-8).
    ///
    /// # Errors
    /// What is wrong with the expression, or that it compiles to more than 1 MiB.
    pub fn new(text: &str) -> Result<Self, String> {
        use regex_automata::meta;
        let regex = meta::Builder::new()
            .configure(
                meta::Config::new()
                    .nfa_size_limit(Some(1 << 20))
                    .utf8_empty(false),
            )
            .syntax(regex_automata::util::syntax::Config::new().utf8(false))
            .build(text)
            .map_err(|e| match e.syntax_error() {
                Some(s) => s.to_string(),
                None => e.to_string(),
            })?;
        Ok(Self {
            text: text.into(),
            regex: Arc::new(regex),
        })
    }

    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches anywhere in `value`.
    #[must_use]
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }

    /// The compiled expression, for captures.
    #[must_use]
    pub fn compiled(&self) -> &regex_automata::meta::Regex {
        &self.regex
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Regex {}
impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~{}", self.text)
    }
}
