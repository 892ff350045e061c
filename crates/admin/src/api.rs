//! The API: one route table.

mod change;
mod servers;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};

use crate::guard::{MAX_BODY, Via, guard};
use crate::{Control, Refusal, dashboard, metrics, status};

type Shared = State<Arc<dyn Control>>;

/// Everything the admin side serves.
pub(crate) fn router(control: Arc<dyn Control>, via: Via) -> Router {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics_text))
        .route("/api/v1/status", get(status_now))
        .route(
            "/api/v1/reload",
            get(change::last_reload).post(change::reload),
        )
        .route("/api/v1/plan", post(change::plan))
        .route("/api/v1/explain", post(change::explain))
        .route("/api/v1/drain", post(servers::drain))
        .route("/api/v1/undrain", post(servers::undrain))
        .route("/api/v1/weight", post(servers::weight))
        .fallback(async || Problem(StatusCode::NOT_FOUND, "no such resource".into()))
        .method_not_allowed_fallback(async || {
            Problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "this resource does not take that method".into(),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(
            (Arc::clone(&control), via),
            guard,
        ))
        .with_state(control)
}

async fn status_now(State(control): Shared) -> Json<status::Status> {
    Json(status::status(&control.state()))
}

async fn metrics_text(State(control): Shared) -> impl IntoResponse {
    // Prometheus text exposition format 0.0.4.
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        metrics(&control.state()),
    )
}

/// An error: a status and `{"error": "..."}`.
struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (
            self.0,
            [(header::CONTENT_TYPE, "application/json")],
            error_body(&self.1),
        )
            .into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        // What was asked for is understood and cannot be done.
        Self(StatusCode::UNPROCESSABLE_ENTITY, refusal.0)
    }
}

pub(crate) fn error_body(text: &str) -> String {
    serde_json::json!({ "error": text }).to_string()
}

/// A JSON body, with errors in the API's own shape.
fn body<T>(body: Result<Json<T>, axum::extract::rejection::JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(value)| value)
        .map_err(|rejection| Problem(rejection.status(), rejection.body_text()))
}
