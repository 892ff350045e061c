//! Heads, line by line: the parser stops behind the last whole line and goes on there when more has arrived.
//!
//! Own code instead of `httparse`, which takes bare LF and needs a second pass for every rule here; the inner loops
//! (line ends, control characters) are `memchr` and a fold that the compiler vectorises.

use memchr::memchr;

use super::Malformed;
use super::target::{parse_target, valid_host};
use crate::head::{
    Body, FieldSpan, Fields, Method, Name, RequestHead, ResponseHead, Span, Version, list,
};

/// Room for method and version beside the target.
const LINE_EXTRA: usize = 64;

/// The most a head may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head. Default 64 KiB.
    pub head: usize,
    /// Bytes of the request-target. Default 16 KiB.
    pub uri: usize,
    /// Fields. Default 256: spans of more would cost more memory than the bytes.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 64 << 10,
            uri: 16 << 10,
            fields: 256,
        }
    }
}

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is whole and takes this many bytes.
    Complete(usize),
    /// More bytes are needed.
    Partial,
}

/// Where parsing stands.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// Start of the line that is not yet whole.
    line: usize,
    /// Bytes of it already searched for its end.
    searched: usize,
    /// The first line is behind us.
    in_fields: bool,
    skipped_empty: bool,
    host: Option<Span>,
    length: Option<u64>,
    chunked: bool,
}

impl Cursor {
    /// The next whole line without its CRLF, as offsets.
    fn next_line(&mut self, bytes: &[u8]) -> Result<Option<Span>, Malformed> {
        let from = self.line + self.searched;
        let Some(at) = memchr(b'\n', &bytes[from..]) else {
            self.searched = bytes.len() - self.line;
            return Ok(None);
        };
        let lf = from + at;
        // RFC 9112 §2.2: a line ends in CRLF. That a recipient MAY take a bare LF is where two of them can disagree.
        if lf == self.line || bytes[lf - 1] != b'\r' {
            return Err(Malformed::BareLf);
        }
        let line = Span::new(self.line, lf - 1);
        self.line = lf + 1;
        self.searched = 0;
        Ok(Some(line))
    }
}

impl RequestHead {
    /// Goes on parsing: `bytes` begins where the head begins and has grown since the last call.
    ///
    /// # Errors
    /// The first rule that was broken. Nothing of the message is to be trusted then.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress, Malformed> {
        loop {
            let Some(line) = self.cursor.next_line(bytes)? else {
                return self
                    .over_limits(bytes, limits)
                    .map_or(Ok(Progress::Partial), Err);
            };
            if !self.cursor.in_fields {
                // RFC 9112 §2.2: a server SHOULD ignore at least one empty line before the request-line.
                if line.is_empty() {
                    if std::mem::replace(&mut self.cursor.skipped_empty, true) {
                        return Err(Malformed::RequestLine);
                    }
                    continue;
                }
                self.request_line(bytes, line, limits)?;
                self.cursor.in_fields = true;
                continue;
            }
            if self.cursor.line > limits.head {
                return Err(Malformed::HeadTooLarge);
            }
            if line.is_empty() {
                self.finish(bytes)?;
                return Ok(Progress::Complete(self.cursor.line));
            }
            let field = parse_field(bytes, line, false)?;
            self.note(bytes, &field)?;
            if self.fields.spans.len() == limits.fields {
                return Err(Malformed::TooManyFields);
            }
            self.fields.spans.push(field);
        }
    }

    /// Whether what is there is too much already, though no line has ended.
    fn over_limits(&self, bytes: &[u8], limits: &Limits) -> Option<Malformed> {
        if !self.cursor.in_fields && bytes.len() - self.cursor.line > limits.uri + LINE_EXTRA + 1 {
            return Some(Malformed::UriTooLong);
        }
        (bytes.len() > limits.head).then_some(Malformed::HeadTooLarge)
    }

    fn request_line(&mut self, bytes: &[u8], line: Span, limits: &Limits) -> Result<(), Malformed> {
        let text = line.of(bytes);
        if text.len() > limits.uri + LINE_EXTRA {
            return Err(Malformed::UriTooLong);
        }
        // RFC 9112 §3: request-line = method SP request-target SP HTTP-version
        let first = memchr(b' ', text).ok_or(Malformed::RequestLine)?;
        let last = memchr::memrchr(b' ', text).ok_or(Malformed::RequestLine)?;
        if text.contains(&b'\r') {
            return Err(Malformed::BareCr);
        }
        let start = line.start as usize;
        self.method = Span::new(start, start + first);
        if !is_token(&text[..first]) {
            return Err(Malformed::Method);
        }
        if first == last {
            // HTTP/0.9, or the version is missing.
            return Err(Malformed::RequestLine);
        }
        if last - first - 1 > limits.uri {
            return Err(Malformed::UriTooLong);
        }
        self.version = version(&text[last + 1..])?;
        self.kind = Method::of(&text[..first]);
        if self.kind == Method::Connect {
            return Err(Malformed::ConnectMethod);
        }
        self.target = Span::new(start + first + 1, start + last);
        let target = parse_target(bytes, self.target, self.kind)?;
        self.authority = target.authority;
        self.authority_in_target = target.authority.is_some();
        self.path = target.path;
        self.query = target.query;
        Ok(())
    }

    fn note(&mut self, bytes: &[u8], field: &FieldSpan) -> Result<(), Malformed> {
        let value = field.value.of(bytes);
        match field.id {
            Name::Other => {}
            Name::Host => {
                // RFC 9112 §3.2: 400 to a request with more than one Host field line or an invalid value.
                if self.cursor.host.replace(field.value).is_some() {
                    return Err(Malformed::HostTwice);
                }
                if !valid_host(value) {
                    return Err(Malformed::Host);
                }
            }
            _ => note_framing(&mut self.cursor, &mut self.fields, field.id, value)?,
        }
        Ok(())
    }

    fn finish(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.version == Version::Http11 && self.cursor.host.is_none() {
            return Err(Malformed::HostMissing);
        }
        // RFC 9112 §3.2.2: with absolute-form the Host field is ignored.
        if !self.authority_in_target {
            self.authority = self.cursor.host.filter(|s| !s.of(bytes).is_empty());
        }
        check_framing(&self.cursor, self.version)?;
        // RFC 9112 §6.3: rules 5, 6 and 7 for requests.
        self.body = match (self.cursor.chunked, self.cursor.length) {
            (true, _) => Body::Chunked,
            (_, Some(n)) if n > 0 => Body::Length(n),
            _ => Body::None,
        };
        Ok(())
    }
}

impl ResponseHead {
    /// Goes on parsing: `bytes` begins where the head begins and has grown since the last call.
    ///
    /// # Errors
    /// The first rule that was broken. Nothing of the message is to be trusted then.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress, Malformed> {
        loop {
            let Some(line) = self.cursor.next_line(bytes)? else {
                let too_large = bytes.len() > limits.head;
                return if too_large {
                    Err(Malformed::HeadTooLarge)
                } else {
                    Ok(Progress::Partial)
                };
            };
            if self.cursor.line > limits.head {
                return Err(Malformed::HeadTooLarge);
            }
            if !self.cursor.in_fields {
                self.status_line(bytes, line)?;
                self.cursor.in_fields = true;
                continue;
            }
            if line.is_empty() {
                check_framing(&self.cursor, self.version)?;
                self.length = self.cursor.length;
                self.chunked = self.cursor.chunked;
                return Ok(Progress::Complete(self.cursor.line));
            }
            let field = parse_field(bytes, line, true)?;
            // RFC 9112 §5.1: a proxy MUST remove whitespace between name and colon from a response.
            self.mended |= bytes[field.start as usize + usize::from(field.name_len)] != b':';
            if !matches!(field.id, Name::Other | Name::Host) {
                note_framing(
                    &mut self.cursor,
                    &mut self.fields,
                    field.id,
                    field.value.of(bytes),
                )?;
            }
            if self.fields.spans.len() == limits.fields {
                return Err(Malformed::TooManyFields);
            }
            self.fields.spans.push(field);
        }
    }

    fn status_line(&mut self, bytes: &[u8], line: Span) -> Result<(), Malformed> {
        let text = line.of(bytes);
        // RFC 9112 §4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. Servers that leave out the
        // last SP are too many to be refused.
        let (head, rest) = text.split_at_checked(12).ok_or(Malformed::StatusLine)?;
        if head[8] != b' '
            || !head[9..].iter().all(u8::is_ascii_digit)
            || !matches!(rest.first(), None | Some(b' '))
        {
            return Err(Malformed::StatusLine);
        }
        self.version = version(&head[..8]).map_err(|_| Malformed::StatusLine)?;
        self.status = head[9..]
            .iter()
            .fold(0, |n, d| n * 10 + u16::from(d - b'0'));
        self.mended |= rest.is_empty();
        if self.status < 100 || !is_text(rest) {
            return Err(Malformed::StatusLine);
        }
        self.reason = Span::new(
            (line.start as usize + 13).min(line.end as usize),
            line.end as usize,
        );
        Ok(())
    }
}

/// What both kinds of message say about framing and connection.
fn note_framing(
    cursor: &mut Cursor,
    fields: &mut Fields,
    id: Name,
    value: &[u8],
) -> Result<(), Malformed> {
    match id {
        Name::ContentLength => {
            // RFC 9110 §8.6, RFC 9112 §6.3 rule 5: a list of equal numbers MAY be taken; it is not.
            let again = cursor.length.replace(content_length(value)?).is_some();
            if again {
                return Err(Malformed::ContentLengthTwice);
            }
        }
        Name::TransferEncoding => {
            // RFC 9112 §6.1: chunked is the only coding spoken here, and must not be applied twice.
            let again = std::mem::replace(&mut cursor.chunked, true);
            if again || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
        }
        Name::Connection => fields.note_connection(value),
        Name::Te => fields.te_trailers |= list(value).any(|t| t.eq_ignore_ascii_case(b"trailers")),
        Name::Expect => fields.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
        _ => {}
    }
    Ok(())
}

fn check_framing(cursor: &Cursor, version: Version) -> Result<(), Malformed> {
    if cursor.chunked && cursor.length.is_some() {
        // RFC 9112 §6.1, §11.2: a server MAY reject a request that contains both; an intermediary has every reason to.
        return Err(Malformed::LengthAndCoding);
    }
    if cursor.chunked && version == Version::Http10 {
        // RFC 9112 §6.1: MUST treat the message as if the framing is faulty.
        return Err(Malformed::CodingInHttp10);
    }
    Ok(())
}

/// One field line; `lenient` takes whitespace before the colon.
pub(super) fn parse_field(bytes: &[u8], line: Span, lenient: bool) -> Result<FieldSpan, Malformed> {
    let text = line.of(bytes);
    // RFC 9112 §5.2: a server MUST reject obs-fold or replace it; a proxy may answer 502 to it in a response.
    if matches!(text.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::ObsFold);
    }
    let colon = memchr(b':', text).ok_or(Malformed::FieldName)?;
    let mut name = &text[..colon];
    if matches!(name.last(), Some(b' ' | b'\t')) {
        // RFC 9112 §5.1: MUST reject in a request, MUST remove from a response.
        if !lenient {
            return Err(Malformed::SpaceBeforeColon);
        }
        name = name.trim_ascii_end();
    }
    if !is_token(name) || name.len() > usize::from(u16::MAX) {
        return Err(Malformed::FieldName);
    }
    let value = &text[colon + 1..];
    if !is_text(value) {
        return Err(if value.contains(&b'\r') {
            Malformed::BareCr
        } else {
            Malformed::FieldValue
        });
    }
    let start = line.start as usize;
    let lead = value
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    let trail = value[lead..]
        .iter()
        .rev()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    Ok(FieldSpan {
        start: line.start,
        value: Span::new(start + colon + 1 + lead, line.end as usize - trail),
        line_end: line.end + 2,
        name_len: name.len() as u16,
        id: Name::of(name),
    })
}

/// RFC 9112 §2.3. A higher minor version is understood as the highest spoken here.
fn version(text: &[u8]) -> Result<Version, Malformed> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'0' | b'2'..=b'9',
            b'.',
            b'0'..=b'9',
        ] => Err(Malformed::VersionUnsupported),
        _ => Err(Malformed::Version),
    }
}

/// RFC 9110 §8.6: Content-Length = 1*DIGIT
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() {
        return Err(Malformed::ContentLength);
    }
    value.iter().try_fold(0_u64, |n, b| {
        let digit = b
            .is_ascii_digit()
            .then(|| u64::from(b - b'0'))
            .ok_or(Malformed::ContentLength)?;
        n.checked_mul(10)
            .and_then(|n| n.checked_add(digit))
            .ok_or(Malformed::ContentLength)
    })
}

/// RFC 9110 §5.6.2: token = 1*tchar
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| TOKEN[usize::from(*b)])
}

/// RFC 9110 §5.5: field-content is visible characters, SP, HTAB and obs-text: no control characters.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |ok, b| {
        ok & ((*b >= 0x20 && *b != 0x7f) | (*b == b'\t'))
    })
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0_usize;
    while b < 256 {
        table[b] = matches!(b as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        b += 1;
    }
    table
};
