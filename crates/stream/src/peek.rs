//! A first look at a connection: the ClientHello, if it is one, and every byte that was read for it.
//!
//! Called by [`serve`](crate::serve) where a listener routes by what a hello says, and by the front of `http` listeners
//! that pass some names through. Bounded in bytes (by `wire`) and in time, however slowly the hello comes.

use std::time::Duration;

use fathom_core::Reason;
use fathom_io::{Stream, timer};
use fathom_wire::client_hello::{self, Hello, Parsed};

/// What was seen. The bytes belong to whoever takes the connection: nobody else has them.
#[derive(Debug)]
pub struct Peeked {
    /// What the client said; `None` when it does not speak TLS.
    pub hello: Option<Hello>,
    /// Everything read so far.
    pub bytes: Vec<u8>,
}

/// Why there is nothing to route on.
#[derive(Debug)]
pub enum PeekError {
    /// It did not come in time.
    Timeout,
    /// The client closed before it was complete.
    Closed,
    /// The connection broke.
    Broken(std::io::Error),
    /// It is TLS, and malformed.
    Invalid(client_hello::Reason),
}

impl PeekError {
    /// How it is counted and logged.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Timeout => Reason::TlsHandshakeTimeout,
            Self::Closed | Self::Broken(_) => Reason::ClientGone,
            Self::Invalid(_) => Reason::TlsHandshakeFailed,
        }
    }
}

/// Reads until the ClientHello is complete or cannot become one, for `limit` at most.
///
/// # Errors
/// See [`PeekError`]; the connection is of no further use then.
pub async fn peek(conn: &Stream, limit: Duration) -> Result<Peeked, PeekError> {
    timer::timeout(limit, read(conn))
        .await
        .unwrap_or(Err(PeekError::Timeout))
}

async fn read(conn: &Stream) -> Result<Peeked, PeekError> {
    let mut bytes = fathom_io::scratch();
    let mut progress = client_hello::Peek::default();
    loop {
        let chunk = conn.read().await.map_err(PeekError::Broken)?;
        if chunk.is_empty() {
            return Err(PeekError::Closed);
        }
        bytes.extend_from_slice(&chunk);
        match progress.parse(&bytes) {
            Parsed::Incomplete => {}
            Parsed::Complete(hello) => {
                return Ok(Peeked {
                    hello: Some(hello),
                    bytes,
                });
            }
            Parsed::NotTls => return Ok(Peeked { hello: None, bytes }),
            Parsed::Invalid(reason) => return Err(PeekError::Invalid(reason)),
        }
    }
}
