//! The forms a string can have: durations, sizes, addresses, patterns. Each is parsed by one function, which the
//! shape check, the builder and the schema share.

mod address;
mod pattern;
mod units;

pub(crate) use address::*;
pub(crate) use pattern::*;
pub(crate) use units::*;

/// Why a string does not have the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn help(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

/// A form: its name, an example and how it is recognised.
pub(crate) struct Form {
    /// With its article: `a duration`.
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
    /// For the schema (ECMA 262); `None` when an expression cannot say it.
    pub(crate) pattern: Option<&'static str>,
    pub(crate) check: fn(&str) -> Result<(), Wrong>,
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $example:literal, $pattern:expr, $parse:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: Form = Form {
            name: $text, example: $example, pattern: $pattern,
            check: |text| ($parse)(text).map(|_| ()),
        };)*
        /// For the tests: every form accepts its own example.
        #[cfg(test)]
        static ALL: &[&Form] = &[$(&$name),*];
    };
}

forms! {
    DURATION: "a duration", "250ms", Some("^([0-9]+(\\.[0-9]+)?(us|ms|s|m|h|d))+$"), duration_not_zero;
    DURATION_OR_ZERO: "a duration", "30s", Some("^([0-9]+(\\.[0-9]+)?(us|ms|s|m|h|d))+$|^0$"), duration;
    SIZE: "a size", "10MiB", Some("^[0-9]+ *(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)?$"), size;
    SHARE: "a share", "20%", Some("^[0-9]+(\\.[0-9]+)?%$"), share;
    PERCENTAGE: "a percentage of at least 100%", "125%", Some("^[0-9]+(\\.[0-9]+)?%$"), load_bound;
    RATE: "a rate", "100/s", Some("^[0-9]+/[smh]$"), rate;
    BIND: "an address to listen on", ":80", None, bind;
    ADMIN_BIND: "an address or a unix socket", "127.0.0.1:9400", None, admin_bind;
    SERVER: "an address of a server", "10.0.0.10:3000", None, server;
    NET: "an address prefix", "10.0.0.0/8", None, net;
    IP: "an IP address", "192.0.2.1", None, ip;
    HOST: "a host name or `*.` and a suffix", "*.example.com", None, host;
    HOST_NAME: "a host name", "api.internal", None, host_name;
    PATH: "a path", "/api/*", Some("^[/~]"), path;
    PLAIN_PATH: "a path", "/api", Some("^/"), plain_path;
    REGEX: "a regular expression", "^/v[0-9]+/", None, regex;
    VALUE: "a value, `~` and a regular expression, or `*`", "~Mobile|Android", None, value;
    METHOD: "a method", "GET", Some("^[A-Z0-9!#$%&'*+.^_`|~-]+$"), method;
    HEADER_NAME: "a header name", "X-Env", Some("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), header_name;
    EDITED_HEADER: "a header name", "X-Env", Some("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), edited_header;
    HEADER_VALUE: "a header value", "prod", None, header_value;
    NAME: "a name", "web", Some("^[A-Za-z0-9._-]+$"), name;
    SERVER_NAME: "a name", "api2", None, server_name;
    FILE: "a file", "example.pem", None, not_empty;
    GLOB: "a file pattern", "conf.d/*.toml", None, glob_pattern;
    TEXT: "a string", "text", None, any_text;
    WORD: "a string that is not empty", "text", None, not_empty;
    STATUS_RANGES: "status codes", "200-299", Some("^[0-9, -]+$"), status_ranges;
    HASH_ON: "what to hash", "source-ip", Some("^(source-ip|source-ip-port|path|sni|(query|header|cookie):.+)$"), hash_on;
    RETRY_ON: "a reason to retry", "connect-failure", Some("^(connect-failure|reset|timeout|unavailable|[45][0-9][0-9])$"), retry_on;
    JSON_PATH: "a JSON path", "$.status", None, json_path;
    POSTGRES: "connection parameters", "user=monitor", None, postgres;
    ALPN: "a protocol name", "h2", None, alpn;
    ACCESS: "`off`, `stdout`, `stderr` or a file", "stdout", None, not_empty;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_accepts_its_example() {
        for form in ALL {
            assert_eq!(
                (form.check)(form.example),
                Ok(()),
                "{} {}",
                form.name,
                form.example
            );
            if let Some(pattern) = form.pattern {
                let pattern = fathom_core::plan::Regex::new(pattern).unwrap();
                assert!(pattern.is_match(form.example.as_bytes()), "{}", form.name);
            }
        }
    }
}
