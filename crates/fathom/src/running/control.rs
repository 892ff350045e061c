//! What the admin side sees of the process, and what it may ask of it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fathom_admin::{
    AccessLog, Answer, Bound, Certificate, Change, Control, ExplainRequest, Name, PlanReport,
    PlanRequest, Refusal, Reloads, State,
};
use fathom_config::ChangeKind;
use fathom_core::plan::{AdminPlan, Plan};
use fathom_io::clock;

use super::Running;

/// Opens the admin side's socket; before privileges are dropped.
pub(super) fn bind(plan: &AdminPlan) -> Result<Bound, String> {
    fathom_admin::bind(&plan.bind).map_err(|e| format!("{}: admin: {e}", plan.origin))
}

impl Running {
    /// Serves the admin side until the process ends.
    pub(super) fn serve_admin(self: &Arc<Self>, bound: Bound) {
        let control: Arc<dyn Control> = self.clone();
        tokio::spawn(async move {
            if let Err(error) = bound.serve(control).await {
                tracing::error!("the admin side ended: {error}");
            }
        });
    }

    fn certificates(&self) -> Vec<Certificate> {
        let snapshot = self.snapshot.load();
        let of = |(listener, acceptor): (&Arc<str>, &Arc<fathom_tls::Acceptor>)| {
            let listener = listener.to_string();
            acceptor
                .certificates()
                .into_iter()
                .map(move |c| Certificate {
                    listener: listener.clone(),
                    path: c.path.display().to_string(),
                    names: c.names,
                    not_after_unix_seconds: c.not_after,
                    error: c.error,
                })
        };
        snapshot.acceptors().flat_map(of).collect()
    }
}

impl Control for Running {
    fn state(&self) -> State {
        let snapshot = self.snapshot.load_full();
        let names = |pool: &Arc<fathom_core::plan::PoolPlan>| {
            let name = pool.name.to_string();
            self.upstream.names(pool).into_iter().map(move |n| Name {
                pool: name.clone(),
                host: n.host,
                addresses: n.addresses,
                problem: n.problem,
            })
        };
        State {
            version: env!("CARGO_PKG_VERSION"),
            now: clock::precise(),
            started: self.started_unix,
            uptime: self.since.elapsed(),
            workers: self.workers.count(),
            driver: self.workers.driver().as_str(),
            driver_note: self.driver_note.clone(),
            worker_panics: self.workers.panics(),
            plan: snapshot.plan.clone(),
            pools: snapshot.pool_list(),
            stats: self.stats.clone(),
            reloads: self.reloads.report(),
            access_log: snapshot.log.as_ref().map(|log| AccessLog {
                written: log.written(),
                dropped: log.dropped(),
                last_error: log.last_error(),
            }),
            certificates: self.certificates(),
            names: snapshot.plan.pools.iter().flat_map(names).collect(),
            packet: self.packet_status(),
        }
    }

    fn token(&self) -> Option<String> {
        let opened = self.admin.as_ref()?;
        match &self.plan().admin {
            // A token that the new file leaves out may be left out only where the file says it listens.
            Some(new) if new.bind == opened.bind => new.token.clone(),
            _ => opened.token.clone(),
        }
    }

    fn reload(self: Arc<Self>) -> Answer<PlanReport> {
        Box::pin(async move {
            let reloaded = Running::reload(&self).await.map_err(Refusal)?;
            Ok(PlanReport {
                changes: reloaded.changes,
                warnings: reloaded.warnings,
            })
        })
    }

    fn plan(self: Arc<Self>, request: PlanRequest) -> Answer<PlanReport> {
        Box::pin(async move {
            let own = self.config.clone();
            let load = move || match request {
                PlanRequest {
                    text: Some(text), ..
                } => fathom_config::load_str("(text)", &text),
                PlanRequest {
                    path: Some(path), ..
                } => fathom_config::load(path),
                PlanRequest { .. } => fathom_config::load(own),
            };
            let loaded = tokio::task::spawn_blocking(load)
                .await
                .map_err(|e| e.to_string())?;
            // Without a token whoever asks may be any user of the machine, and is not shown the lines of files that this
            // process can read and they cannot.
            let shown = self.token().is_some();
            let new = loaded
                .map_err(|errors| match shown {
                    true => errors.render(false),
                    false => format!(
                        "the configuration is not valid ({} errors); `fathom check` shows them",
                        errors.len()
                    ),
                })?
                .plan;
            let old = self.snapshot.load().plan.clone();
            Ok(PlanReport {
                changes: changes(&old, &new),
                warnings: super::reload::needs_restart(&old, &new),
            })
        })
    }

    fn explain(self: Arc<Self>, request: ExplainRequest) -> Answer<serde_json::Value> {
        Box::pin(async move { explain(&self, request).map_err(Refusal) })
    }
}

impl super::Reloads {
    fn report(&self) -> Reloads {
        let last = self.last.lock().expect("no panic while held");
        Reloads {
            ok: self.done.load(Relaxed),
            failed: self.failed.load(Relaxed),
            last_unix_seconds: last.at.map(|at| at.as_secs()),
            last_error: last.error.clone(),
        }
    }
}

/// What differs between two plans, for people and machines.
pub(super) fn changes(old: &Plan, new: &Plan) -> Vec<Change> {
    let verb = |kind| match kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    };
    fathom_config::diff(old, new)
        .into_iter()
        .map(|c| Change {
            verb: verb(c.kind).to_owned(),
            what: c.what,
            details: c.details,
        })
        .collect()
}

/// The file's explanation, and behind it what only the process knows: health, load and drains of the pool's servers.
fn explain(running: &Running, request: ExplainRequest) -> Result<serde_json::Value, String> {
    let ExplainRequest {
        method,
        url,
        headers,
        from,
        listener,
        body: _,
    } = request;
    let asked = fathom_config::ExplainRequest {
        method,
        url,
        headers,
        from,
        listener,
    };
    let snapshot = running.snapshot.load_full();
    let explanation = fathom_config::explain(&snapshot.plan, &asked).map_err(|e| e.to_string())?;
    let mut document = explanation.to_json();
    let mut text = explanation.to_text();
    let pool = match &explanation.outcome {
        fathom_config::Outcome::Forward(forwarding) => snapshot.pool(&forwarding.pool),
        _ => None,
    };
    if let Some(pool) = pool {
        let servers = pool.servers(clock::precise());
        text.push_str("\nnow\n");
        let line = |s: &fathom_core::ServerStatus| {
            let state = if s.draining {
                "draining"
            } else {
                s.health.map_or("unchecked", |h| h.as_str())
            };
            let _ = writeln!(
                text,
                "  {:<20} {state:<9} {} in flight, {:.0} % of the new work",
                s.name,
                s.in_flight,
                s.share * 100.0
            );
            serde_json::json!({ "name": &*s.name, "state": state, "in_flight": s.in_flight, "share": s.share })
        };
        document["live"] = servers.iter().map(line).collect();
    }
    document["text"] = text.into();
    Ok(document)
}
