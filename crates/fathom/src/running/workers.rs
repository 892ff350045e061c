//! The data-path threads and who watches over them.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fathom_io::{Driver, WorkerOptions};
use tokio::sync::{mpsc, oneshot};

use crate::snapshot::Snapshot;
use crate::sockets::{Key, Open, Sockets};
use crate::worker::{self, Command};

/// How long a worker may take to say that it serves a new configuration.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Before a worker that could not be started again is given another try.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// All workers.
pub(super) struct Workers {
    driver: Driver,
    threads: Mutex<Vec<Thread>>,
    died: mpsc::UnboundedSender<usize>,
    panics: Arc<AtomicU64>,
}

struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    handle: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads; the id of each that dies is sent to the receiver.
    pub(super) fn start(
        count: usize,
        driver: Driver,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<usize>)> {
        let (died, deaths) = mpsc::unbounded_channel();
        let panics = Arc::new(AtomicU64::new(0));
        let workers = Self {
            driver,
            threads: Mutex::default(),
            died,
            panics,
        };
        for id in 0..count {
            let thread = workers.spawn(id)?;
            workers.threads().push(thread);
        }
        Ok((workers, deaths))
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<Thread>> {
        self.threads.lock().expect("no panic while held")
    }

    fn spawn(&self, id: usize) -> io::Result<Thread> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (driver, died, panics) = (self.driver, self.died.clone(), self.panics.clone());
        let body = move || {
            let options = WorkerOptions { id, driver };
            match catch_unwind(AssertUnwindSafe(|| worker::run(options, inbox))) {
                Ok(Ok(())) => return, // told to end
                Ok(Err(error)) => tracing::error!("worker {id} could not start: {error}"),
                Err(_) => {
                    panics.fetch_add(1, Relaxed);
                    tracing::error!(
                        "worker {id} panicked; its connections are closed and it is started again"
                    );
                }
            }
            let _ = died.send(id); // nobody listens any more: the process is ending
        };
        let handle = std::thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(body)?;
        Ok(Thread {
            commands,
            handle: Some(handle),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.threads().len()
    }

    pub(super) fn driver(&self) -> Driver {
        self.driver
    }

    /// Panics of whole workers so far.
    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// Has every worker serve `snapshot`; [`settled`] waits until all do.
    pub(super) fn begin(&self, snapshot: &Arc<Snapshot>, sockets: &Sockets) -> io::Result<Pending> {
        // All of them first: what can fail, fails before the first worker is told.
        let shares: Vec<_> = (0..self.count())
            .map(|id| sockets.of_worker(id))
            .collect::<io::Result<_>>()?;
        Ok(shares
            .into_iter()
            .enumerate()
            .map(|(id, share)| (id, self.send(id, snapshot, share)))
            .collect())
    }

    fn send(
        &self,
        id: usize,
        snapshot: &Arc<Snapshot>,
        sockets: HashMap<Key, Open>,
    ) -> oneshot::Receiver<io::Result<()>> {
        let (done, answer) = oneshot::channel();
        let command = Command::Apply {
            snapshot: snapshot.clone(),
            sockets,
            done,
        };
        let _ = self.threads()[id].commands.send(command); // a dead worker's answer is dropped with the command
        answer
    }

    /// Starts a dead worker again.
    pub(super) fn restart(
        &self,
        id: usize,
        snapshot: &Arc<Snapshot>,
        sockets: &Sockets,
    ) -> io::Result<()> {
        let share = sockets.of_worker(id)?;
        let thread = self.spawn(id)?;
        if let Some(old) = std::mem::replace(&mut self.threads()[id], thread).handle {
            let _ = old.join(); // it has already said why it ended
        }
        drop(self.send(id, snapshot, share));
        Ok(())
    }

    /// Has the worker that could not be started be tried again, after a pause.
    pub(super) fn retry(&self, id: usize) {
        let died = self.died.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RESTART_PAUSE).await;
            let _ = died.send(id); // the process may be ending
        });
    }

    /// Has every worker stop accepting, and waits until their connections have ended, or for `grace`.
    /// Returns whether all had.
    pub(super) async fn finish(&self, grace: Duration) -> bool {
        let answers: Vec<_> = self
            .threads()
            .iter()
            .map(|thread| {
                let (done, answer) = oneshot::channel();
                let _ = thread.commands.send(Command::Finish { done });
                answer
            })
            .collect();
        let all = async {
            for answer in answers {
                let _ = answer.await; // a worker that died has no connections
            }
        };
        tokio::time::timeout(grace, all).await.is_ok()
    }

    /// Ends the threads; what connections are left are closed.
    pub(super) fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            drop(thread.commands);
            if let Some(handle) = thread.handle {
                let _ = handle.join(); // panics were counted where they happened
            }
        }
    }
}

/// Workers that have been told, and their answers.
pub(super) type Pending = Vec<(usize, oneshot::Receiver<io::Result<()>>)>;

/// Waits until every worker serves what it was told to.
pub(super) async fn settled(pending: Pending) -> Result<(), String> {
    for (id, answer) in pending {
        match tokio::time::timeout(APPLY_TIMEOUT, answer).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(format!("worker {id}: {error}")),
            // It died in the middle; its successor is given the newest snapshot.
            Ok(Err(_)) => {}
            Err(_) => return Err(format!("worker {id} did not answer in {APPLY_TIMEOUT:?}")),
        }
    }
    Ok(())
}
