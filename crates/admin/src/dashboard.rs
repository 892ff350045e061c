//! `/`: the dashboard, one page without anything from elsewhere.

use std::hash::{BuildHasher, RandomState};

use axum::http::header;
use axum::response::{Html, IntoResponse};

const PAGE: &str = include_str!("dashboard.html");

/// The page. Its own script and style carry a nonce; nothing else may run, load or be sent anywhere.
pub(crate) async fn page() -> impl IntoResponse {
    // Keys drawn from the system for each page: nobody can foretell it.
    let nonce = format!(
        "{:016x}{:016x}",
        RandomState::new().hash_one(0),
        RandomState::new().hash_one(1)
    );
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let html = PAGE.replace("NONCE", &nonce);
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html))
}
