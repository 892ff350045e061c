//! The other end: what the command line asks a running process.
//!
//! Blocking and by hand: a command asks once or twice and ends. HTTP/1.0 keeps the answer free of chunks.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fathom_core::plan::AdminBind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::status::{PoolStatus, Status};
use crate::{ExplainRequest, PlanReport, PlanRequest};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A reload resolves names and builds every pool before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// More than any status is long.
const MAX_ANSWER: u64 = 256 << 20;

/// A running process, by its admin address.
#[derive(Clone, Debug)]
pub struct Client {
    address: AdminBind,
    token: Option<String>,
}

/// Why there is no answer, or not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The process could not be reached; where and why.
    Unreachable(String),
    /// It answered, and refused; in its words.
    Refused(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ClientError {}

type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// One that will ask at `address`. Nothing is connected yet.
    #[must_use]
    pub fn new(address: AdminBind, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// Where it asks, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.address {
            AdminBind::Tcp(address) => address.to_string(),
            AdminBind::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// The whole status.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub fn status(&self) -> Result<Status> {
        parse(&self.ask("GET", "/api/v1/status", None)?)
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn metrics(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.ask("GET", "/metrics", None)?).into_owned())
    }

    /// Makes it read its configuration again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] says what is wrong with the file.
    pub fn reload(&self) -> Result<PlanReport> {
        self.post("/api/v1/reload", &json!({}))
    }

    /// What another configuration would change.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn plan(&self, request: &PlanRequest) -> Result<PlanReport> {
        self.post("/api/v1/plan", request)
    }

    /// What would become of a request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn explain(&self, request: &ExplainRequest) -> Result<serde_json::Value> {
        self.post("/api/v1/explain", request)
    }

    /// Starts or ends draining; the answer is the pool as it is then.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn drain(&self, pool: &str, server: &str, draining: bool) -> Result<PoolStatus> {
        let path = if draining {
            "/api/v1/drain"
        } else {
            "/api/v1/undrain"
        };
        self.post(path, &json!({ "pool": pool, "server": server }))
    }

    /// Sets a weight, or goes back to the file's.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn weight(&self, pool: &str, server: &str, weight: Option<u32>) -> Result<PoolStatus> {
        self.post(
            "/api/v1/weight",
            &json!({ "pool": pool, "server": server, "weight": weight }),
        )
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_string(body).map_err(|e| ClientError::Refused(e.to_string()))?;
        parse(&self.ask("POST", path, Some(&body))?)
    }

    /// Sends a request and returns the body of a good answer.
    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Vec<u8>> {
        let unreachable =
            |e: std::io::Error| ClientError::Unreachable(format!("{}: {e}", self.address()));
        let host = match &self.address {
            AdminBind::Tcp(address) => address.to_string(),
            AdminBind::Unix(_) => "localhost".to_owned(),
        };
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n");
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            request += &format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        request += "\r\n";
        request += body.unwrap_or_default();
        let mut stream = self.connect().map_err(unreachable)?;
        stream.write_all(request.as_bytes()).map_err(unreachable)?;
        let mut answer = Vec::new();
        stream
            .take(MAX_ANSWER)
            .read_to_end(&mut answer)
            .map_err(unreachable)?;
        let (status, body) = split(&answer).ok_or_else(|| {
            ClientError::Unreachable(format!("{}: what answers is not fathom", self.address()))
        })?;
        if (200..300).contains(&status) {
            return Ok(body.to_vec());
        }
        let error = serde_json::from_slice::<serde_json::Value>(body).ok();
        let error = error
            .as_ref()
            .and_then(|e| e["error"].as_str())
            .map(str::to_owned);
        Err(ClientError::Refused(error.unwrap_or_else(|| {
            format!("{}: status {status}", self.address())
        })))
    }

    fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.address {
            AdminBind::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                Box::new(stream)
            }
            AdminBind::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                Box::new(stream)
            }
        })
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// The status code and the body.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let line = std::str::from_utf8(answer[..end].split(|&b| b == b'\r').next()?).ok()?;
    let status = line
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, &answer[end + 4..]))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| {
        ClientError::Refused(format!(
            "the answer cannot be read (is it another version?): {e}"
        ))
    })
}
