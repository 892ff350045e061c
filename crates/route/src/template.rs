//! Templates of redirects and rewrites: `$1`, `$host`, `$path`.

use std::fmt;

use crate::host::Host;
use crate::router::Captures;
use crate::view::RequestView;

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `$name` that stands for nothing.
    Unknown(String),
    /// `$n`, but the pattern has fewer groups.
    NoGroup {
        /// The number asked for.
        asked: usize,
        /// How many there are.
        groups: usize,
    },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(
                f,
                "`${name}` stands for nothing (known: $1 to $9, $host, $path, $$)"
            ),
            Self::NoGroup { asked, groups: 0 } => {
                write!(f, "`${asked}`, but the pattern has no `*` and no groups")
            }
            Self::NoGroup { asked, groups } => {
                write!(f, "`${asked}`, but the pattern has only {groups}")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Group(usize),
    Host,
    Path,
    Unknown(&'t str),
}

/// Reads a template from the left.
fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(after) = rest.strip_prefix('$') else {
            let end = rest.find('$').unwrap_or(rest.len());
            let (text, tail) = rest.split_at(end);
            rest = tail;
            return Some(Piece::Text(text));
        };
        // One digit: `$10` is `$1` and a zero.
        if let Some(digit) = after.chars().next().filter(|c| ('1'..='9').contains(c)) {
            rest = &after[1..];
            return Some(Piece::Group(digit as usize - '0' as usize));
        }
        if let Some(tail) = after.strip_prefix('$') {
            rest = tail;
            return Some(Piece::Text("$"));
        }
        let end = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        rest = tail;
        Some(match name {
            "host" => Piece::Host,
            "path" => Piece::Path,
            other => Piece::Unknown(other),
        })
    })
}

/// The highest `$n` a template asks for; 0 for none.
pub(crate) fn highest_group(template: &str) -> usize {
    let group = |piece| if let Piece::Group(n) = piece { n } else { 0 };
    pieces(template).map(group).max().unwrap_or(0)
}

/// Checks a template for a pattern with that many groups.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_template(template: &str, groups: usize) -> Result<(), TemplateError> {
    for piece in pieces(template) {
        match piece {
            Piece::Unknown(name) => return Err(TemplateError::Unknown(name.into())),
            Piece::Group(asked) if asked > groups => {
                return Err(TemplateError::NoGroup { asked, groups });
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many `$n` a path pattern gives: one for a prefix, its groups for an expression.
#[must_use]
pub fn group_count(path: Option<&fathom_core::plan::PathPattern>) -> usize {
    use fathom_core::plan::PathPattern;
    match path {
        Some(PathPattern::Prefix(_)) => 1,
        Some(PathPattern::Regex(regex)) => regex.compiled().captures_len().saturating_sub(1),
        Some(PathPattern::Exact(_)) | None => 0,
    }
}

/// Fills in a template: `$1` to `$9` as the client wrote them, `$host` without port, `$path` with its query.
/// The result holds no byte that a header field or a request line must not.
#[must_use]
pub fn expand(template: &str, captures: &Captures<'_>, request: &RequestView<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len() + 32);
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Group(n) => captures.write_group(n, &mut out),
            Piece::Host => out.extend(
                Host::new(request.host)
                    .as_bytes()
                    .iter()
                    .filter(|b| b.is_ascii_graphic()),
            ),
            Piece::Path => {
                captures
                    .path
                    .write_part(0, captures.path.as_bytes().len(), &mut out);
                write_query(b'?', request.query, &mut out);
            }
            Piece::Unknown(_) => {}
        }
    }
    out
}

pub(crate) fn write_query(lead: u8, query: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(query) = query {
        out.push(lead);
        out.extend(query.iter().filter(|b| b.is_ascii_graphic() || **b >= 0x80));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_from_the_left() {
        let read: Vec<_> = pieces("a$1b$10$$x$host/$pathology$").collect();
        let want = [
            Piece::Text("a"),
            Piece::Group(1),
            Piece::Text("b"),
            Piece::Group(1),
            Piece::Text("0"),
            Piece::Text("$"),
            Piece::Text("x"),
            Piece::Host,
            Piece::Text("/"),
            Piece::Unknown("pathology"),
            Piece::Unknown(""),
        ];
        assert_eq!(read, want);
    }

    #[test]
    fn wrong_templates_are_named() {
        assert_eq!(check_template("/$1$host$path$$", 1), Ok(()));
        assert_eq!(
            check_template("/$2", 1),
            Err(TemplateError::NoGroup {
                asked: 2,
                groups: 1
            })
        );
        assert_eq!(
            check_template("$nope", 0),
            Err(TemplateError::Unknown("nope".into()))
        );
    }
}
