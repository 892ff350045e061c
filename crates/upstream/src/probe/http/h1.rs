//! The request over HTTP/1.1, on a connection of its own that is closed afterwards.

use fathom_core::plan::HttpProbePlan;

use super::super::wire::Wire;
use super::{BODY_LIMIT, Failure, Response, Target, USER_AGENT};

/// Header sections of all answers, interim ones included.
const HEAD_LIMIT: usize = 32 * 1024;
/// Chunk headers make the message longer than its body.
const LIMIT: usize = HEAD_LIMIT + 2 * BODY_LIMIT;
const MAX_FIELDS: usize = 128;

/// Asks, and reads as much of the answer as the plan looks at.
pub(super) async fn exchange(plan: &HttpProbePlan, target: &Target) -> Result<Response, Failure> {
    let mut wire = Wire::open(target, LIMIT).await?;
    wire.send(&request(plan, target)).await?;
    let head = loop {
        let head = head(&mut wire).await?;
        // RFC 9110 §15.2: interim answers precede the final one.
        if !(100..200).contains(&head.status) || head.status == 101 {
            break head;
        }
    };
    let looks_at_body = plan.expect_body.is_some() || plan.expect_json.is_some();
    // RFC 9112 §6.3: these have no body, whatever their fields say.
    let has_body = !(plan.method == "HEAD" || matches!(head.status, 204 | 304));
    let body = if looks_at_body && has_body {
        body(&mut wire, head.framing).await?
    } else {
        Vec::new()
    };
    Ok(Response {
        status: head.status,
        body,
    })
}

fn request(plan: &HttpProbePlan, target: &Target) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", plan.method, plan.path);
    let given = |name: &str| {
        plan.headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    if !given("host") {
        let host = plan.host.clone().unwrap_or_else(|| target.authority());
        text += &format!("Host: {host}\r\n");
    }
    if !given("user-agent") {
        text += &format!("User-Agent: {USER_AGENT}\r\n");
    }
    for (name, value) in &plan.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "Connection: close\r\n\r\n";
    text.into_bytes()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    status: u16,
    framing: Framing,
}

/// Takes one header section off the wire.
async fn head(wire: &mut Wire) -> Result<Head, Failure> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&wire.received) {
            Ok(httparse::Status::Complete(n)) => {
                let head = Head {
                    status: response.code.unwrap_or(0),
                    framing: framing(response.headers)?,
                };
                wire.received.drain(..n);
                return Ok(head);
            }
            Ok(httparse::Status::Partial) if wire.received.len() >= HEAD_LIMIT => {
                return Err(Failure::new("the header section is too long"));
            }
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Err(Failure::quoted("not an HTTP answer", &wire.received)),
        }
        if !wire.more().await? {
            return Err(wire.closed());
        }
    }
}

fn framing(fields: &[httparse::Header<'_>]) -> Result<Framing, Failure> {
    let value = |name: &str| {
        fields
            .iter()
            .find(|f| f.name.eq_ignore_ascii_case(name))
            .map(|f| f.value)
    };
    if let Some(coding) = value("transfer-encoding") {
        return if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            Ok(Framing::Chunked)
        } else {
            Err(Failure::quoted("transfer coding", coding))
        };
    }
    match value("content-length") {
        None => Ok(Framing::UntilClose),
        Some(length) => std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(Framing::Length)
            .ok_or_else(|| Failure::quoted("content length", length)),
    }
}

/// The body, or its first [`BODY_LIMIT`] bytes.
async fn body(wire: &mut Wire, framing: Framing) -> Result<Vec<u8>, Failure> {
    match framing {
        Framing::Length(length) => wire.take(length.min(BODY_LIMIT)).await,
        Framing::UntilClose => {
            while wire.received.len() < BODY_LIMIT && wire.more().await? {}
            wire.received.truncate(BODY_LIMIT);
            Ok(std::mem::take(&mut wire.received))
        }
        Framing::Chunked => {
            let mut body = Vec::new();
            while body.len() < BODY_LIMIT {
                // RFC 9112 §7.1: the size in hexadecimal, extensions after a semicolon.
                let line = wire.line().await?;
                let size = line
                    .split(|&b| b == b';')
                    .next()
                    .unwrap_or_default()
                    .trim_ascii();
                let size = std::str::from_utf8(size)
                    .ok()
                    .and_then(|size| usize::from_str_radix(size, 16).ok())
                    .ok_or_else(|| Failure::quoted("chunk size", &line))?;
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&wire.take(size.min(BODY_LIMIT - body.len())).await?);
                if body.len() < BODY_LIMIT && !wire.line().await?.is_empty() {
                    return Err(Failure::new("a chunk is longer than its size"));
                }
            }
            Ok(body)
        }
    }
}
