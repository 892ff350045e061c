//! Reload, plan and explain: the program's business, passed on.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;

use super::{Problem, Shared, body};
use crate::{ExplainRequest, PlanReport, PlanRequest, Reloads};

type Body<T> = Result<Json<T>, JsonRejection>;

/// What became of reloads, with the errors of the last one.
pub(super) async fn last_reload(State(control): Shared) -> Json<Reloads> {
    Json(control.state().reloads)
}

pub(super) async fn reload(State(control): Shared) -> Result<Json<PlanReport>, Problem> {
    Ok(Json(control.reload().await?))
}

pub(super) async fn plan(
    State(control): Shared,
    request: Body<PlanRequest>,
) -> Result<Json<PlanReport>, Problem> {
    Ok(Json(control.plan(body(request)?).await?))
}

pub(super) async fn explain(
    State(control): Shared,
    request: Body<ExplainRequest>,
) -> Result<Json<serde_json::Value>, Problem> {
    Ok(Json(control.explain(body(request)?).await?))
}
