//! `send_expect = { send = "...", expect = "..." }`: bytes are sent, and what comes back matches.

use fathom_core::plan::{ProbePlan, Regex};

use super::wire::Wire;
use super::{Checking, Failure, Kind, Probe, Target};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::SendExpect { send, expect } => Some(Box::new(SendExpect {
            send: send.clone(),
            expect: expect.clone(),
        })),
        _ => None,
    },
};

/// What does not match by then will not.
const LIMIT: usize = 64 * 1024;

struct SendExpect {
    send: Vec<u8>,
    expect: Regex,
}

impl Probe for SendExpect {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            let mut wire = Wire::open(target, LIMIT).await?;
            if !self.send.is_empty() {
                wire.send(&self.send).await?;
            }
            while !self.expect.is_match(&wire.received) {
                if wire.is_full() || !wire.more().await? {
                    return Err(if wire.received.is_empty() {
                        wire.closed()
                    } else {
                        Failure::quoted(
                            &format!("does not match {:?}", self.expect.as_str()),
                            &wire.received,
                        )
                    });
                }
            }
            Ok(())
        })
    }
}
