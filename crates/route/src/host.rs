//! Host names: made comparable, and a table from host patterns to what belongs to them.

use fathom_core::plan::HostPattern;
use foldhash::fast::FixedState;
use smallvec::SmallVec;
use std::collections::HashMap;

/// A host made comparable: no port, no trailing dot, lower case.
///
/// RFC 9110 §4.2.3: scheme and host are case-insensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a>(Form<'a>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form<'a> {
    AsIs(&'a [u8]),
    Lowered(SmallVec<[u8; 64]>),
}

/// No name is longer (RFC 1035 §2.3.4: 255 octets on the wire), so nothing longer can match an exact name.
const LONGEST: usize = 255;

impl<'a> Host<'a> {
    /// From a `Host` field, an authority or an SNI. What is no host at all equals no pattern.
    #[must_use]
    pub fn new(raw: &'a [u8]) -> Self {
        let name = strip_port(raw);
        let name = name.strip_suffix(b".").unwrap_or(name);
        if name.len() > LONGEST {
            return Self(Form::AsIs(b""));
        }
        if name.iter().any(u8::is_ascii_uppercase) {
            let mut lowered = SmallVec::from_slice(name);
            lowered.make_ascii_lowercase();
            return Self(Form::Lowered(lowered));
        }
        Self(Form::AsIs(name))
    }

    /// Its bytes; empty for none.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::AsIs(b) => b,
            Form::Lowered(b) => b,
        }
    }
}

fn strip_port(raw: &[u8]) -> &[u8] {
    if raw.first() == Some(&b'[') {
        // An IPv6 literal: what follows the bracket is the port.
        return match memchr::memchr(b']', raw) {
            Some(end) => &raw[..=end],
            None => raw,
        };
    }
    match memchr::memrchr(b':', raw) {
        Some(at) if raw[at + 1..].iter().all(u8::is_ascii_digit) => &raw[..at],
        _ => raw,
    }
}

/// Whether `host` (already comparable) is one that `pattern` means.
pub(crate) fn host_matches(pattern: &HostPattern, host: &[u8]) -> bool {
    match pattern {
        HostPattern::Exact(name) => name.as_bytes() == host,
        HostPattern::Suffix(suffix) => {
            host.len() > suffix.len() && host.ends_with(suffix.as_bytes())
        }
    }
}

/// Shown as written.
pub(crate) fn show_host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    }
}

/// From host patterns to `T`; looked up in order of specificity.
#[derive(Clone, Debug)]
pub(crate) struct HostMap<T> {
    exact: HashMap<Box<[u8]>, T, FixedState>,
    suffix: HashMap<Box<[u8]>, T, FixedState>,
    longest_suffix: usize,
    any: T,
}

impl<T: Default> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            suffix: HashMap::default(),
            longest_suffix: 0,
            any: T::default(),
        }
    }
}

impl<T: Default> HostMap<T> {
    /// What belongs to `pattern` (`None`: to every host), made if missing.
    pub(crate) fn entry(&mut self, pattern: Option<&HostPattern>) -> &mut T {
        match pattern {
            None => &mut self.any,
            Some(HostPattern::Exact(name)) => self.exact.entry(name.as_bytes().into()).or_default(),
            Some(HostPattern::Suffix(suffix)) => {
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffix.entry(suffix.as_bytes().into()).or_default()
            }
        }
    }

    /// The first `Some` of `f` over exact, longest suffix, shorter suffixes, any.
    pub(crate) fn find<'s, R>(
        &'s self,
        host: &[u8],
        mut f: impl FnMut(&'s T) -> Option<R>,
    ) -> Option<R> {
        if !host.is_empty() {
            if !self.exact.is_empty()
                && let Some(found) = self.exact.get(host).and_then(&mut f)
            {
                return Some(found);
            }
            if !self.suffix.is_empty() {
                // A suffix pattern needs a label before it, so the first byte cannot be its dot.
                let from = host.len().saturating_sub(self.longest_suffix).max(1);
                for dot in memchr::memchr_iter(b'.', &host[from.min(host.len())..]) {
                    if let Some(found) = self.suffix.get(&host[from + dot..]).and_then(&mut f) {
                        return Some(found);
                    }
                }
            }
        }
        f(&self.any)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact
            .values_mut()
            .chain(self.suffix.values_mut())
            .chain(std::iter::once(&mut self.any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_made_comparable() {
        for (raw, want) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(
                Host::new(raw.as_bytes()).as_bytes(),
                want.as_bytes(),
                "{raw}"
            );
        }
        assert_eq!(Host::new(&[b'a'; 300]).as_bytes(), b"");
    }

    #[test]
    fn exact_then_longest_suffix_then_any() {
        let mut map = HostMap::<Vec<&str>>::default();
        map.entry(None).push("any");
        map.entry(Some(&HostPattern::Suffix(".com".into())))
            .push("com");
        map.entry(Some(&HostPattern::Suffix(".example.com".into())))
            .push("suffix");
        map.entry(Some(&HostPattern::Exact("a.example.com".into())))
            .push("exact");
        let order = |host: &str| {
            let mut seen = Vec::new();
            map.find(host.as_bytes(), |t| {
                seen.extend(t.iter().copied());
                None::<()>
            });
            seen
        };
        assert_eq!(order("a.example.com"), ["exact", "suffix", "com", "any"]);
        assert_eq!(order("x.y.example.com"), ["suffix", "com", "any"]);
        assert_eq!(order("example.com"), ["com", "any"]);
        assert_eq!(order(".com"), ["any"]);
        assert_eq!(order(""), ["any"]);
    }
}
