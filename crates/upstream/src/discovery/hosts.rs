//! `/etc/hosts`, read anew for each question: it is small, and an edit takes effect at once.

use std::net::IpAddr;
use std::path::Path;

/// A hosts file beyond this is read no further.
const LIMIT: usize = 4 << 20;

/// The addresses the file gives `host`; none if it has no line for it or cannot be read.
pub(super) fn lookup(path: &Path, host: &str) -> Vec<IpAddr> {
    match std::fs::read(path) {
        Ok(mut bytes) => {
            bytes.truncate(LIMIT);
            find(&String::from_utf8_lossy(&bytes), host)
        }
        Err(_) => Vec::new(),
    }
}

/// hosts(5): `address name [alias...]`, comments from `#`, names without regard to case.
fn find(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_in_any_case() {
        let text = "127.0.0.1 localhost\n# 10.9.9.9 app\n10.0.0.1\tApp app.internal # the app\n::1 app\nnonsense app\n";
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(find(text, "app.INTERNAL"), [v4]);
        assert_eq!(find(text, "app."), [v4, "::1".parse().unwrap()]);
        assert!(find(text, "other").is_empty());
        assert!(find(text, "the").is_empty());
    }
}
