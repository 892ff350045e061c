//! Who may ask: the bearer token, and browsers that are led here by a foreign page.
//!
//! Without a token the admin side is bound to loopback or a unix socket, so that only this machine reaches it. What
//! remains is the browser on this machine: a foreign page may send requests to loopback (cross-site request forgery),
//! or be served from a name that suddenly resolves to loopback (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Control;

/// Paths that show nothing of the configuration: the page that asks for the token, and the liveness check.
const OPEN: [&str; 2] = ["/", "/healthz"];

/// Largest request: a configuration sent as text to `plan`.
pub(crate) const MAX_BODY: usize = 4 << 20;
/// For a whole request and its answer.
const TIME: Duration = Duration::from_secs(120);

/// What the guard knows of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Tcp,
    Unix,
}

/// The middleware.
pub(crate) async fn guard(
    State((control, via)): State<(Arc<dyn Control>, Via)>,
    request: Request,
    next: Next,
) -> Response {
    let open = OPEN.contains(&request.uri().path());
    let token = control.token();
    let checked = check(
        request.method(),
        request.headers(),
        via,
        token.as_deref(),
        open,
    );
    let mut response = match checked.and_then(|()| size(request.headers())) {
        // The longest wait is for a body that does not come: every answer is made sooner.
        Ok(()) => match tokio::time::timeout(TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refused::Time.into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Token,
    Host,
    Origin,
    ContentType,
    Size,
    Time,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "a bearer token is required: Authorization: Bearer TOKEN",
            ),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "this Host is not served here; use localhost or an address, or set admin.token",
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "requests from other origins are refused",
            ),
            Self::ContentType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json",
            ),
            Self::Size => (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
            Self::Time => (StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        };
        let mut response = (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            crate::api::error_body(text),
        )
            .into_response();
        if self == Self::Token {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn check(
    method: &Method,
    headers: &HeaderMap,
    via: Via,
    token: Option<&str>,
    open: bool,
) -> Result<(), Refused> {
    match token {
        Some(token) => {
            if !open
                && !bearer(headers).is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
            {
                return Err(Refused::Token);
            }
        }
        // A page under a rebound name does not know the token, so only the tokenless need this.
        None => {
            if via == Via::Tcp && !text(headers, header::HOST).is_some_and(is_local) {
                return Err(Refused::Host);
            }
        }
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    // Fetch Metadata: a browser says by itself where a request comes from.
    if text(headers, header::HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| !matches!(site, "same-origin" | "none"))
    {
        return Err(Refused::Origin);
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let host = text(headers, header::HOST);
        let origin = origin
            .to_str()
            .ok()
            .and_then(|o| o.split_once("://"))
            .map(|(_, rest)| rest);
        if origin.is_none() || origin != host {
            return Err(Refused::Origin);
        }
    }
    // A type that a plain form cannot send: a foreign page would have to ask first (CORS), and is told nothing.
    let json = text(headers, header::CONTENT_TYPE).is_some_and(|value| {
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json")
    });
    if json {
        Ok(())
    } else {
        Err(Refused::ContentType)
    }
}

/// What says it is too large is not waited for.
fn size(headers: &HeaderMap) -> Result<(), Refused> {
    let length = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if length.unwrap_or(0) > MAX_BODY {
        Err(Refused::Size)
    } else {
        Ok(())
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && std::hint::black_box(
            a.iter()
                .zip(b)
                .fold(0, |difference, (x, y)| difference | (x ^ y)),
        ) == 0
}

/// Names that no DNS can rebind: addresses, and `localhost` (RFC 6761 §6.3).
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(n, v)| {
                (
                    header::HeaderName::from_static(n),
                    HeaderValue::from_static(v),
                )
            })
            .collect()
    }

    const LOCAL: (&str, &str) = ("host", "127.0.0.1:9400");
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn the_token_opens_what_is_not_open() {
        for (fields, open, wanted) in [
            (&[][..], false, Err(Refused::Token)),
            (&[], true, Ok(())),
            (&[("authorization", "Bearer secret")], false, Ok(())),
            (&[("authorization", "bearer  secret ")], false, Ok(())),
            (
                &[("authorization", "Bearer secre")],
                false,
                Err(Refused::Token),
            ),
            (
                &[("authorization", "Bearer secret2")],
                false,
                Err(Refused::Token),
            ),
            (
                &[("authorization", "Basic secret")],
                false,
                Err(Refused::Token),
            ),
            (
                &[
                    ("authorization", "Bearer secret"),
                    ("host", "lb.example:9400"),
                ],
                false,
                Ok(()),
            ),
        ] {
            assert_eq!(
                check(
                    &Method::GET,
                    &headers(fields),
                    Via::Tcp,
                    Some("secret"),
                    open
                ),
                wanted,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn without_a_token_only_names_that_cannot_be_rebound_are_served() {
        for (host, wanted) in [
            ("127.0.0.1:9400", Ok(())),
            ("[::1]:9400", Ok(())),
            ("[::1]", Ok(())),
            ("localhost", Ok(())),
            ("LOCALHOST:9400", Ok(())),
            ("app.localhost:9400", Ok(())),
            ("evil.example:9400", Err(Refused::Host)),
            ("evil.example", Err(Refused::Host)),
            ("localhost.evil.example", Err(Refused::Host)),
            ("127.0.0.1.evil.example:9400", Err(Refused::Host)),
            ("", Err(Refused::Host)),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::HOST, host.parse().unwrap());
            assert_eq!(
                check(&Method::GET, &fields, Via::Tcp, None, true),
                wanted,
                "{host}"
            );
            assert_eq!(
                check(&Method::GET, &fields, Via::Unix, None, true),
                Ok(()),
                "{host}"
            );
        }
        assert_eq!(
            check(&Method::GET, &HeaderMap::new(), Via::Tcp, None, false),
            Err(Refused::Host)
        );
    }

    #[test]
    fn a_change_must_come_from_here() {
        for (fields, wanted) in [
            (&[LOCAL, JSON][..], Ok(())),
            (&[LOCAL], Err(Refused::ContentType)),
            (
                &[LOCAL, ("content-type", "text/plain")],
                Err(Refused::ContentType),
            ),
            (
                &[LOCAL, ("content-type", "application/x-www-form-urlencoded")],
                Err(Refused::ContentType),
            ),
            (&[LOCAL, JSON, ("origin", "http://127.0.0.1:9400")], Ok(())),
            (
                &[LOCAL, JSON, ("origin", "http://127.0.0.1:8080")],
                Err(Refused::Origin),
            ),
            (
                &[LOCAL, JSON, ("origin", "https://evil.example")],
                Err(Refused::Origin),
            ),
            (&[LOCAL, JSON, ("origin", "null")], Err(Refused::Origin)),
            (
                &[LOCAL, JSON, ("sec-fetch-site", "cross-site")],
                Err(Refused::Origin),
            ),
            (
                &[LOCAL, JSON, ("sec-fetch-site", "same-site")],
                Err(Refused::Origin),
            ),
            (&[LOCAL, JSON, ("sec-fetch-site", "same-origin")], Ok(())),
        ] {
            assert_eq!(
                check(&Method::POST, &headers(fields), Via::Tcp, None, false),
                wanted,
                "{fields:?}"
            );
        }
    }
}
