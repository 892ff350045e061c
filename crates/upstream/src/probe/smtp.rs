//! `smtp = true`: a 220 greeting, EHLO answered by 250, QUIT.

use fathom_core::plan::ProbePlan;

use super::wire::Wire;
use super::{Checking, Failure, Kind, Probe, Target};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Smtp => Some(Box::new(Smtp)),
        _ => None,
    },
};

/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets; a server announces some dozens of extensions.
const LIMIT: usize = 32 * 1024;

struct Smtp;

impl Probe for Smtp {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            let mut wire = Wire::open(target, LIMIT).await?;
            expect(&mut wire, b"220", "greeting").await?;
            wire.send(b"EHLO localhost\r\n").await?;
            expect(&mut wire, b"250", "EHLO").await?;
            // RFC 5321 §4.1.1.10: a client says QUIT before it closes.
            wire.farewell(b"QUIT\r\n").await;
            Ok(())
        })
    }
}

/// Reads a whole reply, which may have several lines (RFC 5321 §4.2.1), and compares its code.
async fn expect(wire: &mut Wire, code: &[u8], what: &str) -> Result<(), Failure> {
    loop {
        let line = wire.line().await?;
        if !line.starts_with(code) {
            return Err(Failure::quoted(&format!("smtp {what}"), &line));
        }
        if line.get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
