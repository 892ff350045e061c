//! `redis = "PING"`: an inline command is answered without an error; `PING` by a simple string.
//!
//! Redis serialization protocol: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use fathom_core::plan::ProbePlan;

use super::wire::Wire;
use super::{Checking, Failure, Kind, Probe, Target};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Redis { command } => Some(Box::new(Redis {
            request: format!("{command}\r\n").into_bytes(),
            ping: command.trim().eq_ignore_ascii_case("ping"),
        })),
        _ => None,
    },
};

/// Of the answer only the first line matters.
const LIMIT: usize = 16 * 1024;

struct Redis {
    request: Vec<u8>,
    ping: bool,
}

impl Probe for Redis {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            let mut wire = Wire::open(target, LIMIT).await?;
            wire.send(&self.request).await?;
            let answer = wire.line().await?;
            match answer.first() {
                // `-LOADING`, `-NOAUTH`, `-MASTERDOWN`: there, but of no use to clients.
                Some(b'-' | b'!') => Err(Failure::quoted("redis", &answer[1..])),
                Some(b'+') => Ok(()),
                // The other types of RESP2 and RESP3.
                Some(
                    b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'=' | b'%' | b'~' | b'>',
                ) if !self.ping => Ok(()),
                _ => Err(Failure::quoted("not a redis answer", &answer)),
            }
        })
    }
}
