//! Drain, undrain, weight: of one server of one pool.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use fathom_core::Pool;
use fathom_core::pool::UnknownServer;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, body};
use crate::status::{self, PoolStatus};

/// Which server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    pub(crate) pool: String,
    pub(crate) server: String,
}

/// Which server, and the weight it shall have; `null` goes back to the file's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Weigh {
    pub(crate) pool: String,
    pub(crate) server: String,
    pub(crate) weight: Option<u32>,
}

/// As in the file.
const MAX_WEIGHT: u32 = 65_535;

type Changed = Result<Json<PoolStatus>, Problem>;

pub(super) async fn drain(state: Shared, which: Result<Json<Which>, JsonRejection>) -> Changed {
    let Which { pool, server } = body(which)?;
    change(&state, &pool, &server, |pool| {
        pool.set_draining(&server, true)
    })
}

pub(super) async fn undrain(state: Shared, which: Result<Json<Which>, JsonRejection>) -> Changed {
    let Which { pool, server } = body(which)?;
    change(&state, &pool, &server, |pool| {
        pool.set_draining(&server, false)
    })
}

pub(super) async fn weight(state: Shared, request: Result<Json<Weigh>, JsonRejection>) -> Changed {
    let Weigh {
        pool,
        server,
        weight,
    } = body(request)?;
    if weight.is_some_and(|weight| weight > MAX_WEIGHT) {
        return Err(Problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("a weight is at most {MAX_WEIGHT}"),
        ));
    }
    change(&state, &pool, &server, |pool| {
        pool.set_weight(&server, weight)
    })
}

/// Changes a server and answers with its pool as it is then.
fn change(
    State(control): &Shared,
    pool_name: &str,
    server: &str,
    change: impl FnOnce(&Pool) -> Result<(), UnknownServer>,
) -> Changed {
    let state = control.state();
    let unknown = |what: String, known: Vec<Arc<str>>| {
        Problem(
            StatusCode::NOT_FOUND,
            format!("{what}; there are: {}", known.join(", ")),
        )
    };
    let Some(pool) = state.pools.iter().find(|pool| **pool.name() == *pool_name) else {
        let names = state
            .pools
            .iter()
            .map(|pool| Arc::clone(pool.name()))
            .collect();
        return Err(unknown(format!("there is no pool {pool_name:?}"), names));
    };
    if change(pool) == Err(UnknownServer) {
        let names = pool
            .servers(state.now)
            .into_iter()
            .map(|server| server.name)
            .collect();
        return Err(unknown(
            format!("pool {pool_name:?} has no server {server:?}"),
            names,
        ));
    }
    Ok(Json(status::pool(pool, &state)))
}
