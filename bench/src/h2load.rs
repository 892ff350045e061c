//! Load over HTTP/2: `h2load` from Debian's nghttp2-client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::peer::Door;

/// How many connections and streams on each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
}

/// What it reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
}

/// Sends so many requests and waits for the answers.
pub(crate) fn run(
    door: Door,
    to: SocketAddr,
    shape: Shape,
    requests: u64,
    directory: &Path,
) -> Result<Report, String> {
    let program = fathom_testbed::need::find("h2load").ok_or("nghttp2-client is not installed")?;
    let mut command = Command::new(program);
    command
        .args(["-t", "1", "-n", &requests.to_string()])
        .args([
            "-c",
            &shape.connections.to_string(),
            "-m",
            &shape.streams.to_string(),
        ])
        .stdin(Stdio::null());
    if door == Door::Grpc {
        // One message: not compressed, 32 bytes long.
        let body = directory.join("message");
        let message = [&[0, 0, 0, 0, 32][..], &[b'm'; 32]].concat();
        std::fs::write(&body, message).map_err(|e| e.to_string())?;
        command.arg("-d").arg(body).args([
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
        ]);
        command.arg(format!("http://{to}/bench.Echo/Unary"));
    } else {
        command
            .args(["--groups", "X25519"])
            .args(["--tls13-ciphers", "TLS_AES_128_GCM_SHA256"]);
        command.arg(format!("https://{to}/128"));
    }
    let output = command.output().map_err(|e| format!("h2load: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| {
        format!(
            "h2load: {}{}",
            text,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn parse(text: &str) -> Option<Report> {
    let finished = text.lines().find_map(|l| l.strip_prefix("finished in "))?;
    let requests = text.lines().find_map(|l| l.strip_prefix("requests: "))?;
    let count = |word: &str| -> Option<u64> {
        let part = requests.split(", ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Report {
        succeeded: count(" succeeded")?,
        failed: count(" failed")?,
        seconds: seconds(finished.split(',').next()?)?,
    })
}

/// `1.25s`, `870.50ms`, `95us`.
fn seconds(text: &str) -> Option<f64> {
    let (digits, scale) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1e-3)
    } else if let Some(digits) = text.strip_suffix("us") {
        (digits, 1e-6)
    } else {
        (text.strip_suffix('s')?, 1.0)
    };
    Some(digits.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_h2load_says() {
        let text = "\nfinished in 870.50ms, 11487.62 req/s, 2.1MB/s\n\
                    requests: 100 total, 100 started, 100 done, 98 succeeded, 2 failed, 0 errored, 0 timeout\n";
        assert_eq!(
            parse(text),
            Some(Report {
                succeeded: 98,
                failed: 2,
                seconds: 0.8705
            })
        );
        assert_eq!(parse("process ended early"), None);
    }
}
