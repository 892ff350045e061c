//! The task that keeps one name of one pool true.

use std::sync::Arc;
use std::time::Instant;

use super::{Names, Resolver};
use crate::upstream::Members;

/// Asks for `host` whenever it is due, and publishes what changed; runs until aborted.
pub(crate) async fn watch(
    host: String,
    resolver: Arc<Resolver>,
    names: Arc<Names>,
    members: Arc<Members>,
) {
    let mut last_problem = None;
    loop {
        // Another pool's task may have asked in the meantime: what it found is good for all.
        let known = names.known(&host, Instant::now());
        members.publish(&host, &known.addresses());
        tokio::time::sleep_until(known.due.into()).await;
        if names.known(&host, Instant::now()).due > Instant::now() {
            continue;
        }
        let answers = resolver.lookup(&host).await;
        let known = names.update(&host, answers, Instant::now());
        let addresses = known.addresses();
        let problem = known.problem();
        if problem.is_some() && problem != last_problem.as_deref() {
            let why = problem.unwrap_or_default();
            tracing::warn!(%host, kept = addresses.len(), "cannot resolve: {why}");
        }
        last_problem = problem.map(str::to_owned);
        if members.publish(&host, &addresses) {
            tracing::info!(%host, pool = %members.pool_name(), ?addresses, "resolved");
        }
    }
}
