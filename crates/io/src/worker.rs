//! A worker: one thread's runtime with its driver, clock and timers.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::JoinHandle;

use crate::{Driver, clock, timer, uring};

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// What a worker is made with.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Its number, from 0.
    pub id: usize,
    /// How it drives its sockets.
    pub driver: Driver,
}

/// A single-threaded runtime; stays on the thread that made it. One at a time per thread.
#[derive(Debug)]
pub struct Worker {
    /// Dropped before the ring, which its tasks use.
    runtime: LocalRuntime,
    ring: Option<RingGuard>,
}

/// Ready tasks run before the runtime looks at its own epoll. On the ring that is only timers and
/// other threads' wakes.
const TASKS_PER_LOOK: u32 = 128;

impl Worker {
    /// Sets up runtime and driver.
    ///
    /// # Errors
    /// When the machine lacks descriptors or memory for it.
    pub fn new(options: WorkerOptions) -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        builder
            .enable_all()
            .thread_name(format!("fathom-{}", options.id))
            .on_thread_unpark(clock::turn);
        let mut ring = None;
        if options.driver == Driver::Uring {
            builder.event_interval(TASKS_PER_LOOK);
            ring = Some(RingGuard {
                announce: Some(uring::install()?),
            });
        }
        Ok(Self {
            runtime: builder.build_local(LocalOptions::default())?,
            ring,
        })
    }

    /// Runs `future`, and what it [spawns](spawn), until `future` is done. Tasks still running
    /// then are dropped.
    pub fn run<F: Future>(mut self, future: F) -> F::Output {
        let _running = Running::start();
        let announce = self.ring.as_mut().and_then(|r| r.announce.take());
        self.runtime.block_on(async {
            spawn(timer::tick());
            if let Some(announce) = announce {
                spawn(async {
                    if let Err(e) = uring::pump(announce).await {
                        tracing::error!("the ring's eventfd cannot be polled: {e}");
                    }
                });
            }
            future.await
        })
    }
}

/// This thread's ring, to be ended after the runtime.
#[derive(Debug)]
struct RingGuard {
    announce: Option<OwnedFd>,
}

impl Drop for RingGuard {
    fn drop(&mut self) {
        uring::uninstall();
    }
}

/// Marks the thread as running a worker; also when a panic ends it.
struct Running;

impl Running {
    fn start() -> Self {
        RUNNING.set(true);
        clock::set_turning(true);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(false);
        clock::set_turning(false);
    }
}

/// Spawns a task on this thread's worker.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(future)
}

/// Whether [`spawn`] works: false while a worker's remaining tasks are dropped.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

/// Runs `future` on a worker of its own made for it: for tests and tools.
///
/// # Panics
/// When the worker cannot be made.
pub fn block_on<F: Future>(driver: Driver, future: F) -> F::Output {
    Worker::new(WorkerOptions { id: 0, driver })
        .expect("a worker for this thread")
        .run(future)
}
