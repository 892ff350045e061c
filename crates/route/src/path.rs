//! Paths made safe to match on.
//!
//! Servers decode and resolve paths before they act on them, so a route for `/admin/*` must also see
//! `/x/../admin/`, `/%61dmin/`, `//admin/`, `/x/%2e%2e/admin/` and `/admin%2Fkeys`. Matching therefore uses the
//! path with
//!
//! - every percent-escape decoded, `%2F` too (a server that decodes it sees a slash; one that does not sees a
//!   name that no other route was meant for),
//! - runs of slashes made one,
//! - `.` and `..` segments resolved (RFC 3986 §5.2.4), never above the root.
//!
//! The server still receives the path as it came, unless the route rewrites it; a rewrite keeps the escapes
//! that the client wrote (`group%2Fproject` stays one segment) but not the dot segments.

/// A path as received, and as matched.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    original: &'a [u8],
    /// `None`: the same bytes.
    cleaned: Option<Box<Cleaned>>,
}

#[derive(Clone, Debug)]
struct Cleaned {
    bytes: Vec<u8>,
    /// Where in the original each byte came from.
    from: Vec<u32>,
}

impl<'a> Path<'a> {
    /// Of a path without its query. What does not begin with a slash (`*`, nothing) is left as it is.
    #[must_use]
    pub fn new(original: &'a [u8]) -> Self {
        let cleaned = needs_cleaning(original).then(|| Box::new(clean(original)));
        Self { original, cleaned }
    }

    /// As matched.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.cleaned.as_ref().map_or(self.original, |c| &c.bytes)
    }

    /// As received.
    #[must_use]
    pub fn original(&self) -> &'a [u8] {
        self.original
    }

    /// Appends what the client wrote for the bytes `start..end` of the matched form, made safe for a URI.
    pub(crate) fn write_part(&self, start: usize, end: usize, out: &mut Vec<u8>) {
        match &self.cleaned {
            None => self.original[start..end]
                .iter()
                .for_each(|&b| push_uri_byte(b, out)),
            Some(cleaned) => {
                for &from in &cleaned.from[start..end] {
                    let from = from as usize;
                    match escape(&self.original[from..]) {
                        Some(_) => out.extend_from_slice(&self.original[from..from + 3]),
                        None => push_uri_byte(self.original[from], out),
                    }
                }
            }
        }
    }
}

/// The byte that a leading percent-escape stands for.
pub(crate) fn escape(text: &[u8]) -> Option<u8> {
    match *text {
        [b'%', high, low, ..] => {
            let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
            Some(digit(high)? << 4 | digit(low)?)
        }
        _ => None,
    }
}

/// Bytes that RFC 3986 does not allow in a path are escaped; a backslash among them, since browsers read `/\host`
/// in a `Location` as another host.
fn push_uri_byte(b: u8, out: &mut Vec<u8>) {
    if b.is_ascii_graphic()
        && !matches!(
            b,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' | b'?'
        )
    {
        out.push(b);
    } else {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
}

fn needs_cleaning(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    memchr::memchr2_iter(b'/', b'%', path).any(|at| {
        path[at] == b'%'
            || matches!(
                &path[at + 1..],
                [b'/', ..] | [b'.'] | [b'.', b'/' | b'.' | b'%', ..]
            )
    })
}

fn clean(path: &[u8]) -> Cleaned {
    let mut bytes = Vec::with_capacity(path.len());
    let mut from = Vec::with_capacity(path.len());
    bytes.push(b'/');
    from.push(0);
    // Where the segment that is being read begins in `bytes`.
    let mut segment = 1;
    let mut at = 1;
    loop {
        let (byte, width) = match path.get(at) {
            None => (None, 0),
            Some(&b) => match escape(&path[at..]) {
                Some(decoded) => (Some(decoded), 3),
                None => (Some(b), 1),
            },
        };
        match byte {
            Some(b) if b != b'/' => {
                bytes.push(b);
                from.push(at as u32);
            }
            end_of_segment => {
                let keep = match &bytes[segment..] {
                    b"" => segment,
                    b"." => segment,
                    b".." => {
                        let parent = bytes[..segment - 1].iter().rposition(|&b| b == b'/');
                        parent.map_or(1, |slash| slash + 1)
                    }
                    _ => {
                        if end_of_segment.is_some() {
                            bytes.push(b'/');
                            from.push(at as u32);
                        }
                        bytes.len()
                    }
                };
                bytes.truncate(keep);
                from.truncate(keep);
                segment = keep;
                if end_of_segment.is_none() {
                    return Cleaned { bytes, from };
                }
            }
        }
        at += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    fn matched(path: &str) -> String {
        String::from_utf8_lossy(Path::new(path.as_bytes()).as_bytes()).into_owned()
    }

    #[test]
    fn table() {
        for (raw, want) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/.c", "/a..b/.c"),
            ("/...", "/..."),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/./a/./", "/a/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/../c", "/a/c"),
            ("/..", "/"),
            ("/../../admin", "/admin"),
            ("/x/%2e%2e/admin", "/admin"),
            ("/x/.%2E/admin", "/admin"),
            ("/x/%2e./admin", "/admin"),
            ("/x%2F..%2fadmin", "/admin"),
            ("/admin%2Fkeys", "/admin/keys"),
            ("/%61dmin", "/admin"),
            ("/%2f%2fadmin", "/admin"),
            ("/a%20b", "/a b"),
            ("/100%", "/100%"),
            ("/%zz/../a", "/a"),
            ("/%252e%252e/a", "/%2e%2e/a"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(matched(raw), want, "{raw}");
        }
    }

    #[test]
    fn parts_keep_the_clients_escapes() {
        let path = Path::new(b"/api/./v4/group%2Fproject/x y\\");
        let mut out = Vec::new();
        assert_eq!(path.as_bytes(), b"/api/v4/group/project/x y\\");
        path.write_part(4, path.as_bytes().len(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "/v4/group%2Fproject/x%20y%5C"
        );
    }

    proptest! {
        #![proptest_config(Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

        #[test]
        fn matching_form_is_a_fixed_point(path in "/[/.%2eEfFa]{0,24}") {
            let first = Path::new(path.as_bytes());
            let once = first.as_bytes();
            prop_assert_eq!(once[0], b'/');
            prop_assert!(!once.windows(2).any(|w| w == b"//"));
            prop_assert!(!once.split(|&b| b == b'/').any(|s| s == b"." || s == b".."));
            let mut written = Vec::new();
            first.write_part(0, once.len(), &mut written);
            // What a rewrite would send means the same path.
            let again = Path::new(&written);
            prop_assert_eq!(again.as_bytes(), once);
        }

        #[test]
        fn never_panics(path in prop::collection::vec(any::<u8>(), 0..64)) {
            let path = Path::new(&path);
            let mut out = Vec::new();
            path.write_part(0, path.as_bytes().len(), &mut out);
        }
    }
}
