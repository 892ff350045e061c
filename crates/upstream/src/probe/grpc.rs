//! `grpc = "service"`: the health service says SERVING.
//!
//! gRPC Health Checking Protocol, `grpc.health.v1.Health/Check`:
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>. Its two messages are so small that they are
//! written and read by hand.

use bytes::Bytes;
use fathom_core::plan::ProbePlan;
use http::HeaderMap;

use super::http::h2;
use super::{Checking, Failure, Kind, Probe, Target, wire};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Grpc { service } => Some(Box::new(Grpc {
            message: request(service),
        })),
        _ => None,
    },
};

const LIMIT: usize = 4096;
const SERVING: u64 = 1;

struct Grpc {
    /// The framed HealthCheckRequest.
    message: Bytes,
}

impl Probe for Grpc {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            let scheme = if target.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let request = ::http::Request::post(format!(
                "{scheme}://{}/grpc.health.v1.Health/Check",
                target.authority()
            ))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("fathom/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|e| Failure::new(format_args!("request: {e}")))?;
            let io = wire::connect_as_pool(target).await?;
            let answer = h2::exchange(io, request, Some(self.message.clone()), LIMIT).await?;
            let status = answer.head.status;
            if status != ::http::StatusCode::OK {
                return Err(Failure::new(format_args!(
                    "http status {}, wanted 200",
                    status.as_u16()
                )));
            }
            // A trailers-only answer has its status in the only header section.
            let trailers = answer.trailers.as_ref().unwrap_or(&answer.head.headers);
            succeeded(trailers)?;
            match serving_status(&answer.body) {
                Some(SERVING) => Ok(()),
                Some(0) => Err(Failure::new("grpc: UNKNOWN")),
                Some(2) => Err(Failure::new("grpc: NOT_SERVING")),
                Some(3) => Err(Failure::new("grpc: SERVICE_UNKNOWN")),
                Some(other) => Err(Failure::new(format_args!("grpc: serving status {other}"))),
                None => Err(Failure::quoted("not a HealthCheckResponse", &answer.body)),
            }
        })
    }
}

fn succeeded(trailers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        trailers
            .get(name)
            .map(|v| v.as_bytes().escape_ascii().to_string())
    };
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        Some("5") => Err(Failure::new(
            "grpc: the health service does not know this service (status 5)",
        )),
        Some("12") => Err(Failure::new(
            "grpc: the server has no health service (status 12)",
        )),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(Failure::new(
                format_args!("grpc: status {code} {message}")
                    .to_string()
                    .trim_end(),
            ))
        }
        None => Err(Failure::new("grpc: the answer has no grpc-status")),
    }
}

/// `message HealthCheckRequest { string service = 1; }` in a frame of the gRPC wire format.
fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// `status` of `message HealthCheckResponse { ServingStatus status = 1; }`; other fields are skipped.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (&[compressed, a, b, c, d], message) = frame.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 || message.len() < length {
        return None;
    }
    let mut rest = &message[..length];
    let mut status = 0; // proto3: a field with its default value is not sent
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_those_of_protoc() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        for (frame, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 2], Some(2)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0], None),
        ] {
            assert_eq!(serving_status(frame), status, "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(frame: Vec<u8>) {
            serving_status(&frame);
        }
    }
}
