//! The ClientHello message itself (RFC 8446 §4.1.2), as far as its extensions.

use alloc::boxed::Box;
use core::net::IpAddr;

use super::{Hello, Protocols, Reason};

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Reads the message's body (what follows its type and length).
pub(super) fn read(body: &[u8]) -> Result<Hello, Reason> {
    let mut body = Cursor(body);
    body.take(2 + 32)?; // legacy_version, random
    let session_id = body.u8()?;
    body.take(session_id)?;
    let suites = body.u16()?;
    body.take(suites)?;
    let compression = body.u8()?;
    body.take(compression)?;
    let mut hello = Hello::default();
    // TLS 1.2 and older: the extensions may be missing altogether.
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = body.vector16()?;
    body.end()?;
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()? as u16;
        let content = extensions.vector16()?;
        // RFC 8446 §4.2: "There MUST NOT be more than one extension of the same type". Checked where two readers could
        // take different ones.
        match kind {
            SERVER_NAME if core::mem::replace(&mut named, true) => return Err(Reason::Duplicate),
            ALPN if core::mem::replace(&mut offered, true) => return Err(Reason::Duplicate),
            SERVER_NAME => hello.sni = server_name(content)?,
            ALPN => hello.alpn = protocols(content)?,
            _ => {}
        }
    }
    Ok(hello)
}

/// RFC 6066 §3.
fn server_name(mut extension: Cursor<'_>) -> Result<Option<Box<str>>, Reason> {
    let mut list = extension.vector16()?;
    extension.end()?;
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?.0;
        if kind != 0 {
            continue;
        }
        // "The ServerNameList MUST NOT contain more than one name of the same name_type."
        if found.replace(name).is_some() {
            return Err(Reason::Duplicate);
        }
    }
    host_name(found.ok_or(Reason::ServerName)?)
}

fn host_name(name: &[u8]) -> Result<Option<Box<str>>, Reason> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let text = core::str::from_utf8(name).map_err(|_| Reason::ServerName)?;
    // "Literal IPv4 and IPv6 addresses are not permitted in 'HostName'"; some clients send them all the same, and mean
    // nobody in particular.
    if text.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(Reason::ServerName);
    }
    Ok(Some(text.to_ascii_lowercase().into()))
}

/// RFC 7301 §3.1.
fn protocols(mut extension: Cursor<'_>) -> Result<Box<[u8]>, Reason> {
    let list = extension.vector16()?.0;
    extension.end()?;
    let mut walk = Protocols(list);
    // "Empty strings MUST NOT be included"
    let empty = walk.by_ref().any(<[u8]>::is_empty);
    if list.is_empty() || empty || !walk.0.is_empty() {
        return Err(Reason::Protocols);
    }
    Ok(list.into())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Reason> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Reason::Length)?;
        self.0 = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<usize, Reason> {
        Ok(usize::from(self.take(1)?[0]))
    }

    fn u16(&mut self) -> Result<usize, Reason> {
        let b = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([b[0], b[1]])))
    }

    /// A vector with two bytes of length.
    fn vector16(&mut self) -> Result<Cursor<'a>, Reason> {
        let n = self.u16()?;
        Ok(Cursor(self.take(n)?))
    }

    fn end(&self) -> Result<(), Reason> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Reason::Length)
        }
    }
}
