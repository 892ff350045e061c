//! What a TLS client says first, in the clear: the name it wants (SNI) and the protocols it offers (ALPN).
//!
//! Nothing is decrypted and nothing is taken from the connection: the bytes are looked at, and go on to the server (or to
//! our own TLS) as they came. A hello may be spread over several records (RFC 8446 §5.1) and may come byte by byte.
//!
//! ```text
//!            record complete           message complete
//!  records ────────────────► gather ─────────────────────► read extensions ──► Complete
//!     │  wrong first bytes      │ over MAX_LEN, empty or foreign record  │ malformed
//!     └──► NotTls               └──► Invalid                             └──► Invalid
//! ```

mod message;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// Most bytes looked at. A hello with post-quantum shares and a padded extension or two is about 2 KiB.
pub const MAX_LEN: usize = 64 * 1024;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole ClientHello.
    Complete(Hello),
    /// A good beginning: more is needed.
    Incomplete,
    /// Not TLS at all (some other protocol, or SSL 2).
    NotTls,
    /// TLS, and wrong.
    Invalid(Reason),
}

/// What a ClientHello says that is worth routing on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// `server_name`: lower case, without a trailing dot. `None` too where a client names an IP address, which RFC 6066 §3
    /// forbids.
    pub sni: Option<Box<str>>,
    /// `application_layer_protocol_negotiation` as it stood: one length byte before each name.
    alpn: Box<[u8]>,
}

impl Hello {
    /// The protocols offered, the client's favourite first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> + Clone {
        Protocols(&self.alpn)
    }
}

/// Why a hello is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Longer than [`MAX_LEN`].
    TooLong,
    /// A record without content, longer than the protocol allows, or of another kind before the hello was complete.
    Record,
    /// A length that reaches past what encloses it, or leaves bytes over.
    Length,
    /// The same extension twice.
    Duplicate,
    /// A server name that cannot be a host's.
    ServerName,
    /// An empty protocol name or list.
    Protocols,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the ClientHello is too long",
            Self::Record => "a record that cannot stand inside a ClientHello",
            Self::Length => "a length in the ClientHello is wrong",
            Self::Duplicate => "an extension is there twice",
            Self::ServerName => "the server name is malformed",
            Self::Protocols => "the list of protocols is malformed",
        })
    }
}

impl core::error::Error for Reason {}

/// Reads a ClientHello from the start of `bytes`. To look again and again while bytes come in, keep a [`Peek`].
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    Peek::default().parse(bytes)
}

/// Remembers which records were seen, so that a hello that comes byte by byte costs no more than one that comes at once.
#[derive(Clone, Debug, Default)]
pub struct Peek {
    /// Where the next record starts.
    at: usize,
    /// Message bytes in the records before it.
    have: usize,
    /// Records before it.
    records: usize,
}

const RECORD_HEAD: usize = 5;
const MESSAGE_HEAD: usize = 4;
/// RFC 8446 §5.1: "The length MUST NOT exceed 2^14 bytes."
const MAX_RECORD: usize = 1 << 14;

impl Peek {
    /// Looks at `bytes`: everything since the connection began, at least as much as the last time.
    pub fn parse(&mut self, bytes: &[u8]) -> Parsed {
        let window = &bytes[..bytes.len().min(MAX_LEN)];
        match self.look(window) {
            Parsed::Incomplete if bytes.len() >= MAX_LEN => Parsed::Invalid(Reason::TooLong),
            other => other,
        }
    }

    fn look(&mut self, bytes: &[u8]) -> Parsed {
        loop {
            let record = &bytes[self.at.min(bytes.len())..];
            if let Some(wrong) = self.wrong_head(record) {
                return wrong;
            }
            let Some((head, content)) = record.split_first_chunk::<RECORD_HEAD>() else {
                return Parsed::Incomplete;
            };
            let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if len == 0 || len > MAX_RECORD {
                return Parsed::Invalid(Reason::Record);
            }
            // Handshake type client_hello(1).
            if self.records == 0 && content.first().is_some_and(|&b| b != 1) {
                return Parsed::NotTls;
            }
            let arrived = len.min(content.len());
            // Only records that were looked at count: what follows them may be anything.
            if self.have + arrived >= MESSAGE_HEAD {
                let need = message_len(bytes);
                if need > MAX_LEN {
                    return Parsed::Invalid(Reason::TooLong);
                }
                if self.have + arrived >= need {
                    return match message::read(&gather(bytes, need)[MESSAGE_HEAD..]) {
                        Ok(hello) => Parsed::Complete(hello),
                        Err(reason) => Parsed::Invalid(reason),
                    };
                }
            }
            if arrived < len {
                return Parsed::Incomplete;
            }
            self.at += RECORD_HEAD + len;
            self.have += len;
            self.records += 1;
        }
    }

    /// Looks at as much of a record's head as has come: content type handshake(22), a version of 3.x.
    fn wrong_head(&self, record: &[u8]) -> Option<Parsed> {
        let wrong =
            record.first().is_some_and(|&b| b != 22) || record.get(1).is_some_and(|&b| b != 3);
        wrong.then_some(if self.records == 0 {
            Parsed::NotTls
        } else {
            Parsed::Invalid(Reason::Record)
        })
    }
}

/// Length of the handshake message with its head, which has arrived; it may itself be split over records.
fn message_len(bytes: &[u8]) -> usize {
    let mut head = [0; MESSAGE_HEAD];
    let mut filled = 0;
    for content in records(bytes) {
        let n = content.len().min(MESSAGE_HEAD - filled);
        head[filled..filled + n].copy_from_slice(&content[..n]);
        filled += n;
        if filled == MESSAGE_HEAD {
            break;
        }
    }
    MESSAGE_HEAD + usize::from(head[1]) * 65536 + usize::from(head[2]) * 256 + usize::from(head[3])
}

/// The message's `need` bytes, without the heads of the records; copied only where it is split.
fn gather(bytes: &[u8], need: usize) -> Cow<'_, [u8]> {
    let mut contents = records(bytes);
    let first = contents.next().unwrap_or_default();
    if let Some(whole) = first.get(..need) {
        return Cow::Borrowed(whole);
    }
    let mut message = Vec::with_capacity(need);
    message.extend_from_slice(first);
    for content in contents {
        let n = content.len().min(need - message.len());
        message.extend_from_slice(&content[..n]);
    }
    Cow::Owned(message)
}

/// What each record carries, the last one as far as it has come.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD>()?;
        let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let (content, rest) = rest.split_at(len.min(rest.len()));
        bytes = rest;
        Some(content)
    })
}

#[derive(Clone)]
struct Protocols<'a>(&'a [u8]);

impl<'a> Iterator for Protocols<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(name)
    }
}
