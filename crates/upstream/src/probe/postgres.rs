//! `postgres = "user=..."`: a startup message is answered.
//!
//! The server is fine when it asks for authentication, or lets the user in, or refuses just this user or database:
//! it serves clients, which is all that was asked (`pg_isready` sees it so too). It is not when it is starting up,
//! shutting down, in recovery without standby connections, or out of connections.
//!
//! Message formats: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use fathom_core::plan::ProbePlan;

use super::wire::Wire;
use super::{Checking, Failure, Kind, Probe, Target};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Postgres { parameters } => Some(Box::new(Postgres {
            startup: startup(parameters),
        })),
        _ => None,
    },
};

const LIMIT: usize = 64 * 1024;
/// Protocol version 3.0.
const VERSION: u32 = 196_608;
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

struct Postgres {
    startup: Vec<u8>,
}

impl Probe for Postgres {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            let mut wire = Wire::open(target, LIMIT).await?;
            wire.send(&self.startup).await?;
            loop {
                let head = wire.take(5).await?;
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if !(4..=LIMIT).contains(&length) {
                    return Err(Failure::quoted("not a postgres answer", &head));
                }
                let body = wire.take(length - 4).await?;
                match head[0] {
                    // AuthenticationOk: whether the server has a slot for the session is only known after it.
                    b'R' if body == [0, 0, 0, 0] => {}
                    b'R' => return Ok(()),
                    b'Z' => {
                        wire.farewell(&TERMINATE).await;
                        return Ok(());
                    }
                    b'E' => return refused(&body),
                    // ParameterStatus, BackendKeyData, NoticeResponse, NegotiateProtocolVersion.
                    b'S' | b'K' | b'N' | b'v' => {}
                    _ => return Err(Failure::quoted("not a postgres answer", &head)),
                }
            }
        })
    }
}

fn startup(parameters: &[(String, String)]) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend_from_slice(&VERSION.to_be_bytes());
    for (name, value) in parameters {
        // `dbname` is what connection strings call it; the protocol says `database`.
        let name = if name == "dbname" { "database" } else { name };
        for text in [name, value] {
            message.extend_from_slice(text.as_bytes());
            message.push(0);
        }
    }
    message.push(0);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// ErrorResponse: fields of a type byte and a string, each ended by NUL.
fn refused(body: &[u8]) -> Result<(), Failure> {
    let field = |kind: u8| {
        body.split(|&b| b == 0)
            .find(|f| f.first() == Some(&kind))
            .map_or(b"".as_slice(), |f| &f[1..])
    };
    let (code, message) = (field(b'C'), field(b'M'));
    match code {
        // Class 28: invalid authorization; 3D000: no such database.
        [b'2', b'8', ..] | b"3D000" => Ok(()),
        _ => Err(Failure::quoted(
            &format!("postgres {}", code.escape_ascii()),
            message,
        )),
    }
}
