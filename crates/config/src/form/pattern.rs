//! Patterns, names and the small languages inside strings.

use fathom_core::plan::{HashOn, JsonStep, PathPattern, Regex, RetryOn, ValuePattern};

use super::Wrong;

pub(crate) fn regex(text: &str) -> Result<Regex, Wrong> {
    Regex::new(text).map_err(|why| {
        // The engine draws its own carets; its last line says what is wrong.
        let last = why
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        Wrong::new(format!("not a regular expression: {last}"))
    })
}

/// `/healthz`, `/api/*`, `~^/v[0-9]+/`.
pub(crate) fn path(text: &str) -> Result<PathPattern, Wrong> {
    if let Some(expression) = text.strip_prefix('~') {
        return regex(expression).map(PathPattern::Regex);
    }
    plain_path(text.trim_end_matches('*'))?;
    match text.split_once('*') {
        None => Ok(PathPattern::Exact(text.into())),
        Some((prefix, "")) if prefix.ends_with('/') => Ok(PathPattern::Prefix(prefix.into())),
        Some((prefix, "")) => {
            let message = format!("`{text}`: a `*` stands only behind a slash");
            Err(Wrong::help(
                message,
                format!("write \"{prefix}/*\", or the regular expression \"~^{prefix}\""),
            ))
        }
        Some((prefix, rest)) => {
            let message = format!("`{text}`: a `*` stands only at the end");
            let rest = rest.replace('*', "([^/]*)");
            Err(Wrong::help(
                message,
                format!("write the regular expression \"~^{prefix}([^/]*){rest}$\""),
            ))
        }
    }
}

/// Begins with a slash and is only a path.
pub(crate) fn plain_path(text: &str) -> Result<(), Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::help(
            format!("`{text}` does not begin with `/`"),
            format!("write \"/{text}\""),
        ));
    }
    if text.contains(['?', '#']) {
        return Err(Wrong::help(
            "a path has no `?` and no `#`",
            "queries are matched by `query = { name = \"value\" }`",
        ));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(_) => Err(Wrong::new("a path has no control characters")),
        None => Ok(()),
    }
}

/// `prod`, `~expr`, `*`.
pub(crate) fn value(text: &str) -> Result<ValuePattern, Wrong> {
    match text.strip_prefix('~') {
        Some(expression) => regex(expression).map(ValuePattern::Regex),
        None if text == "*" => Ok(ValuePattern::Present),
        None => Ok(ValuePattern::Exact(text.into())),
    }
}

fn is_token(text: &str) -> bool {
    // RFC 9110 §5.6.2.
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

pub(crate) fn method(text: &str) -> Result<String, Wrong> {
    if !is_token(text) {
        return Err(Wrong::new(format!("`{text}` is not a method")));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let help = format!("write \"{}\"", text.to_ascii_uppercase());
        return Err(Wrong::help(
            format!("methods are written in capitals, and `{text}` is not"),
            help,
        ));
    }
    Ok(text.into())
}

pub(crate) fn header_name(text: &str) -> Result<String, Wrong> {
    match is_token(text) {
        true => Ok(text.into()),
        false => Err(Wrong::new(format!("`{text}` is not a header name"))),
    }
}

/// One that may be edited: those that frame a message or belong to one connection are Fathom's own.
pub(crate) fn edited_header(text: &str) -> Result<String, Wrong> {
    const OWN: &[&str] = &[
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = header_name(text)?;
    match OWN.iter().any(|own| own.eq_ignore_ascii_case(text)) {
        true => Err(Wrong::new(format!(
            "`{text}` belongs to one connection and is written by Fathom itself"
        ))),
        false => Ok(name),
    }
}

pub(crate) fn header_value(text: &str) -> Result<String, Wrong> {
    // RFC 9110 §5.5: CR, LF and NUL are invalid and dangerous; so are other controls but the tab.
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Wrong::new("a header value has no control characters"));
    }
    Ok(text.trim().into())
}

/// Of a listener or pool: it becomes a label, and part of paths.
pub(crate) fn name(text: &str) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !text.is_empty() && text.len() <= 128 && text.chars().all(fits) {
        true => Ok(text.into()),
        false => Err(Wrong::new(format!(
            "`{text}`: a name has 1 to 128 letters, digits, `.`, `_` or `-`"
        ))),
    }
}

pub(crate) fn server_name(text: &str) -> Result<String, Wrong> {
    let wrong = |c: char| c.is_control() || c.is_whitespace();
    match text.is_empty() || text.len() > 128 || text.contains(wrong) {
        true => Err(Wrong::new("a name has 1 to 128 characters and no spaces")),
        false => Ok(text.into()),
    }
}

pub(crate) fn not_empty(text: &str) -> Result<String, Wrong> {
    match text.is_empty() || text.contains('\0') {
        true => Err(Wrong::new("it must not be empty")),
        false => Ok(text.into()),
    }
}

pub(crate) fn any_text(text: &str) -> Result<String, Wrong> {
    Ok(text.into())
}

pub(crate) fn glob_pattern(text: &str) -> Result<String, Wrong> {
    not_empty(text)?;
    match glob::Pattern::new(text) {
        Ok(_) => Ok(text.into()),
        Err(e) => Err(Wrong::new(format!(
            "`{text}` is not a file pattern: {}",
            e.msg
        ))),
    }
}

/// `200`, `200-299`, `200,204,300-399`: inclusive ranges.
pub(crate) fn status_ranges(text: &str) -> Result<Vec<(u16, u16)>, Wrong> {
    let help = "such as \"200-299\" or \"200,204\"";
    let status = |t: &str| match t.trim().parse::<u16>() {
        Ok(s @ 100..=599) => Ok(s),
        _ => Err(Wrong::help(
            format!("`{}` is not a status from 100 to 599", t.trim()),
            help,
        )),
    };
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (status(from)?, status(to)?);
        match from <= to {
            true => Ok((from, to)),
            false => Err(Wrong::new(format!(
                "`{}` ends before it begins",
                part.trim()
            ))),
        }
    };
    text.split(',').map(range).collect()
}

/// `source-ip`, `query:NAME`...
pub(crate) fn hash_on(text: &str) -> Result<HashOn, Wrong> {
    let plain = match text {
        "source-ip" => Some(HashOn::SourceIp),
        "source-ip-port" => Some(HashOn::SourceIpPort),
        "path" => Some(HashOn::Path),
        "sni" => Some(HashOn::Sni),
        _ => None,
    };
    if let Some(plain) = plain {
        return Ok(plain);
    }
    match text.split_once(':') {
        Some((_, "")) => Err(Wrong::new(format!("`{text}` lacks a name"))),
        Some(("query", name)) => Ok(HashOn::Query(name.into())),
        Some(("header", name)) => Ok(HashOn::Header(header_name(name)?.to_ascii_lowercase())),
        Some(("cookie", name)) => Ok(HashOn::Cookie(name.into())),
        _ => {
            let known = [
                "source-ip",
                "source-ip-port",
                "path",
                "query:",
                "header:",
                "cookie:",
                "sni",
            ];
            let message = format!("`{text}` cannot be hashed on");
            Err(match crate::suggest::nearest(text, known) {
                Some(near) => Wrong::help(message, format!("did you mean `{near}`?")),
                None => Wrong::help(
                    message,
                    "one of source-ip, source-ip-port, path, query:NAME, header:NAME, cookie:NAME, sni",
                ),
            })
        }
    }
}

pub(crate) fn retry_on(text: &str) -> Result<RetryOn, Wrong> {
    match text {
        "connect-failure" => return Ok(RetryOn::ConnectFailure),
        "reset" => return Ok(RetryOn::Reset),
        "timeout" => return Ok(RetryOn::Timeout),
        "unavailable" => return Ok(RetryOn::GrpcUnavailable),
        _ => {}
    }
    if let Ok(status @ 400..=599) = text.parse() {
        return Ok(RetryOn::Status(status));
    }
    let known = ["connect-failure", "reset", "timeout", "unavailable"];
    let message = format!("`{text}` is no reason to retry");
    Err(match crate::suggest::nearest(text, known) {
        Some(near) => Wrong::help(message, format!("did you mean `{near}`?")),
        None => Wrong::help(
            message,
            "one of connect-failure, reset, timeout, unavailable, or a status such as 503",
        ),
    })
}

/// `$.status`, `$.checks[0].ok`, `$["a key"]`.
pub(crate) fn json_path(text: &str) -> Result<Vec<JsonStep>, Wrong> {
    let wrong = || {
        Wrong::help(
            format!("`{text}` is not a JSON path"),
            "such as \"$.status\" or \"$.checks[0].ok\"",
        )
    };
    let mut rest = text.strip_prefix('$').ok_or_else(wrong)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let (key, tail) = tail.split_at(end);
            if key.is_empty() {
                return Err(wrong());
            }
            steps.push(JsonStep::Key(key.into()));
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('[') {
            let (inside, tail) = tail.split_once(']').ok_or_else(wrong)?;
            let quoted = ['"', '\'']
                .iter()
                .find_map(|q| inside.strip_prefix(*q)?.strip_suffix(*q));
            steps.push(match quoted {
                Some(key) => JsonStep::Key(key.into()),
                None => JsonStep::Index(inside.parse().map_err(|_| wrong())?),
            });
            rest = tail;
        } else {
            return Err(wrong());
        }
    }
    Ok(steps)
}

/// `user=monitor dbname=app`.
pub(crate) fn postgres(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    let help = "such as \"user=monitor\" or \"user=monitor dbname=app\"";
    let pair = |word: &str| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() && !word.contains('\0') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(Wrong::help(format!("`{word}` is not a parameter"), help)),
    };
    let pairs = text
        .split_whitespace()
        .map(pair)
        .collect::<Result<Vec<_>, _>>()?;
    match pairs.iter().any(|(key, _)| key == "user") {
        true => Ok(pairs),
        false => Err(Wrong::help("the parameter `user` is missing", help)),
    }
}

pub(crate) fn alpn(text: &str) -> Result<String, Wrong> {
    match (1..=255).contains(&text.len()) {
        true => Ok(text.into()),
        false => Err(Wrong::new("a protocol name has 1 to 255 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(path("/api/*"), Ok(PathPattern::Prefix("/api/".into())));
        assert_eq!(path("/*"), Ok(PathPattern::Prefix("/".into())));
        assert_eq!(path("/a"), Ok(PathPattern::Exact("/a".into())));
        assert!(matches!(path("~^/v[0-9]+/"), Ok(PathPattern::Regex(_))));
        for text in [
            "", "a", "*", "/a*", "/a/*/b", "/a?b", "/a/**", "~(", "/a\nb",
        ] {
            assert!(path(text).is_err(), "{text}");
        }
        let help = path("/a/*/b/*").unwrap_err().help.unwrap();
        assert_eq!(
            help,
            "write the regular expression \"~^/a/([^/]*)/b/([^/]*)$\""
        );
    }

    #[test]
    fn json_paths() {
        let key = |k: &str| JsonStep::Key(k.into());
        assert_eq!(
            json_path("$.a[0].b['c d']"),
            Ok(vec![key("a"), JsonStep::Index(0), key("b"), key("c d")])
        );
        assert_eq!(json_path("$"), Ok(vec![]));
        for text in ["", "a", "$a", "$.", "$..a", "$[", "$[x]"] {
            assert!(json_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn statuses_and_reasons() {
        assert_eq!(
            status_ranges("200-299, 304"),
            Ok(vec![(200, 299), (304, 304)])
        );
        assert!(
            status_ranges("").is_err()
                && status_ranges("299-200").is_err()
                && status_ranges("99").is_err()
        );
        assert_eq!(retry_on("503"), Ok(RetryOn::Status(503)));
        assert_eq!(
            retry_on("rest").unwrap_err().help.unwrap(),
            "did you mean `reset`?"
        );
        assert_eq!(
            hash_on("header:X-User"),
            Ok(HashOn::Header("x-user".into()))
        );
        assert!(hash_on("header:").is_err() && hash_on("client-ip").is_err());
        assert!(postgres("dbname=x").is_err() && postgres("user=").is_err());
        assert!(edited_header("Content-Length").is_err() && edited_header("X Y").is_err());
    }
}
