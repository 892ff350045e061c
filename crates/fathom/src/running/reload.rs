//! From one configuration to the next: all of it or nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fathom_admin::Change;
use fathom_core::plan::Plan;

use super::Running;
use super::workers::settled;
use crate::snapshot::Snapshot;
use crate::sockets::{self, Wanted};

/// How long a reload waits for addresses that only Fathom itself still uses.
const OWN_PORTS_WAIT: Duration = Duration::from_secs(5);

/// What a reload did.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// What changed, a line each.
    pub(crate) changes: Vec<Change>,
    /// What the file asks for that only a restart can do.
    pub(crate) warnings: Vec<String>,
}

impl Running {
    /// Reads the file again and serves what it says; on any error the old configuration goes on serving.
    ///
    /// # Errors
    /// Everything that is wrong, rendered for a person.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Reloaded, String> {
        let _one_at_a_time = self.reloading.lock().await;
        let result = self.try_reload().await;
        let mut last = self.reloads.last.lock().expect("no panic while held");
        last.at = Some(fathom_io::clock::unix_now());
        match &result {
            Ok(reloaded) => {
                self.reloads.done.fetch_add(1, Relaxed);
                last.error = None;
                tracing::info!("reloaded: {}", summary(&reloaded.changes));
                for warning in &reloaded.warnings {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => {
                self.reloads.failed.fetch_add(1, Relaxed);
                tracing::error!(
                    "reload refused, the old configuration goes on serving:\n{}",
                    error.trim_end()
                );
                last.error = Some(error.clone());
            }
        }
        result
    }

    async fn try_reload(self: &Arc<Self>) -> Result<Reloaded, String> {
        let path = self.config.clone();
        let loaded = tokio::task::spawn_blocking(move || fathom_config::load(&path))
            .await
            .map_err(|e| e.to_string())?
            .map_err(|errors| errors.render(false))?;
        let plan = Arc::new(loaded.plan);
        let before = self.snapshot.load_full();
        let changes = super::control::changes(&before.plan, &plan);
        let warnings = needs_restart(&before.plan, &plan);
        self.switch(&before, plan).await?;
        Ok(Reloaded { changes, warnings })
    }

    async fn switch(
        self: &Arc<Self>,
        before: &Arc<Snapshot>,
        plan: Arc<Plan>,
    ) -> Result<(), String> {
        let wanted = sockets::wanted(&plan);
        let join = |errors: Vec<String>| errors.join("\n");
        let snapshot = Snapshot::build(plan.clone(), Some(before), &self.endpoints, &self.stats)
            .map_err(join)?;
        let snapshot = Arc::new(snapshot);
        snapshot
            .start_log()
            .map_err(|e| format!("log.access: {e}"))?;
        self.open_sockets(&wanted).await?;
        // From here on nothing is refused any more: the new sockets exist, the files were read.
        self.upstream.apply(&snapshot.pool_list());
        if let Err(error) = self.apply_packets(&snapshot) {
            self.back_to(before);
            return Err(error);
        }
        crate::logging::set(plan.log.level);
        let begun = {
            let open = self.sockets.lock().expect("no panic while held");
            self.workers.begin(&snapshot, &open)
        };
        let pending = match begun {
            Ok(pending) => pending,
            Err(error) => {
                self.back_to(before);
                return Err(format!("the machine refused: {error}"));
            }
        };
        self.snapshot.store(snapshot.clone());
        if let Err(error) = settled(pending).await {
            tracing::error!("the new configuration is in force, but {error}");
        }
        self.sockets
            .lock()
            .expect("no panic while held")
            .close_unwanted(&wanted);
        self.stats.keep(&plan);
        self.watch_certificates(&snapshot);
        self.warn_of_expiry();
        Ok(())
    }

    /// Undoes what was prepared for a configuration that does not come into force.
    fn back_to(&self, before: &Arc<Snapshot>) {
        self.upstream.apply(&before.pool_list());
        if let Err(error) = self.apply_packets(before) {
            tracing::error!("{error}");
        }
        let old = sockets::wanted(&before.plan);
        self.sockets
            .lock()
            .expect("no panic while held")
            .close_unwanted(&old);
    }

    /// Opens what is wanted and not open yet. A listener that a reload took away and the next brings back finds its
    /// own last clients still being taken out: that is waited for.
    async fn open_sockets(&self, wanted: &[Wanted]) -> Result<(), String> {
        let began = Instant::now();
        loop {
            {
                let mut sockets = self.sockets.lock().expect("no panic while held");
                let Err(errors) = sockets.open(wanted, self.workers.count()) else {
                    return Ok(());
                };
                if began.elapsed() > OWN_PORTS_WAIT || !sockets.will_be_free(&errors) {
                    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    return Err(lines.join("\n"));
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn summary(changes: &[Change]) -> String {
    let line = |c: &Change| format!("{} {}", c.what, c.verb);
    match changes {
        [] => "nothing changed".to_owned(),
        few if few.len() <= 5 => few.iter().map(line).collect::<Vec<_>>().join("; "),
        many => {
            let some = many[..4].iter().map(line).collect::<Vec<_>>().join("; ");
            format!("{} changes, among them {some}", many.len())
        }
    }
}

/// What is fixed at the start.
pub(super) fn needs_restart(old: &Plan, new: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut fixed = |same: bool, key: &str| {
        if !same {
            warnings.push(format!(
                "{key} changed: it takes a restart, the old value stays in force until then"
            ));
        }
    };
    fixed(
        old.runtime.workers == new.runtime.workers,
        "runtime.workers",
    );
    fixed(old.runtime.io == new.runtime.io, "runtime.io");
    fixed(old.runtime.user == new.runtime.user, "runtime.user");
    fixed(
        old.admin.as_ref().map(|a| &a.bind) == new.admin.as_ref().map(|a| &a.bind),
        "admin.bind",
    );
    warnings
}
