//! One data-path thread: it takes connections from its sockets and hands them to the front.
//!
//! It is told what to serve by [`Command`]s and shares nothing with other workers but the snapshot.
//! When it panics, its supervisor starts another on the same sockets; a panic inside a connection's task
//! ends only that connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fathom_core::stats;
use fathom_io::{Drain, Listener, Worker, WorkerOptions, timer};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::front::{Door, Slot};
use crate::snapshot::Snapshot;
use crate::sockets::{Key, Open, Transport};

/// How long `accept` pauses when the machine has no descriptors or memory left: the kernel keeps clients waiting.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The most connections taken from a socket that is being closed: its backlog.
const LAST_CLIENTS: usize = 4096;

/// What a worker is told.
pub(crate) enum Command {
    /// Serve this from now on; the answer comes when it does.
    Apply {
        snapshot: Arc<Snapshot>,
        sockets: HashMap<Key, Open>,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Stop accepting and finish; the answer comes when no connection is left.
    Finish { done: oneshot::Sender<()> },
}

/// Runs a worker on the calling thread until its commands end.
pub(crate) fn run(
    options: WorkerOptions,
    commands: mpsc::UnboundedReceiver<Command>,
) -> io::Result<()> {
    stats::set_worker(options.id);
    let worker = Worker::new(options)?;
    worker.run(serve(commands));
    Ok(())
}

async fn serve(mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut state = State::default();
    loop {
        let command = tokio::select! {
            biased;
            () = state.fatal.notified() => panic!("a listener's task panicked"),
            command = commands.recv() => command,
        };
        let Some(command) = command else { return };
        match command {
            Command::Apply {
                snapshot,
                sockets,
                done,
            } => {
                let _ = done.send(state.apply(&snapshot, sockets)); // nobody waits during a shutdown
            }
            Command::Finish { done } => {
                state.finish();
                let tally = state.tally.clone();
                drop(fathom_io::spawn(async move {
                    tally.none_left().await;
                    let _ = done.send(());
                }));
            }
        }
    }
}

/// How many connections this worker has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Rc<TallyInner>);

#[derive(Debug, Default)]
struct TallyInner {
    open: std::cell::Cell<usize>,
    none: tokio::sync::Notify,
}

impl Tally {
    /// One more, until the guard is dropped.
    pub(crate) fn enter(&self) -> Present {
        self.0.open.set(self.0.open.get() + 1);
        Present(self.0.clone())
    }

    async fn none_left(&self) {
        while self.0.open.get() > 0 {
            self.0.none.notified().await;
        }
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Present(Rc<TallyInner>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.none.notify_one();
        }
    }
}

/// What one worker serves.
#[derive(Default)]
struct State {
    /// By listener name.
    slots: HashMap<Arc<str>, Rc<Slot>>,
    sockets: HashMap<Key, Serving>,
    tally: Tally,
    /// A listener's task has panicked. Unlike a connection's, nobody would notice but its clients: the worker goes
    /// down with it, and is started again.
    fatal: Rc<Notify>,
}

/// A socket with the task that takes connections from it.
struct Serving {
    door: Rc<RefCell<Door>>,
    task: JoinHandle<()>,
    stop: Drain,
}

impl State {
    fn apply(
        &mut self,
        snapshot: &Arc<Snapshot>,
        mut sockets: HashMap<Key, Open>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        let mut slots = HashMap::new();
        let mut gone = Vec::new();
        for front in &snapshot.fronts {
            // A listener that only changed its routes keeps its slot: open connections see the change at their next
            // request. One that changed what it is gets a new slot, and the old one drains.
            let slot = match self.slots.remove(front.name()) {
                Some(slot) if slot.front().same_kind(front) => {
                    slot.replace(front.clone());
                    slot
                }
                old => {
                    gone.extend(old);
                    Rc::new(Slot::new(front.clone(), self.tally.clone()))
                }
            };
            slots.insert(front.name().clone(), slot);
        }
        gone.extend(std::mem::replace(&mut self.slots, slots).into_values());

        let mut kept = HashMap::new();
        for bound in &snapshot.bound {
            let front = &snapshot.fronts[bound.listener];
            let slot = self.slots[front.name()].clone();
            let door = Door {
                slot,
                tls: bound.tls,
            };
            let serving = match self.sockets.remove(&bound.key) {
                Some(serving)
                    if bound.key.transport == Transport::Tcp || serving.is_of(&door.slot) =>
                {
                    *serving.door.borrow_mut() = door;
                    serving
                }
                old => {
                    let Some(open) = sockets.remove(&bound.key) else {
                        // Left out where the machine lacks the address family.
                        continue;
                    };
                    if let Some(old) = old {
                        old.stop.start();
                    }
                    match start(open, Rc::new(RefCell::new(door)), self.fatal.clone()) {
                        Ok(serving) => serving,
                        Err(error) => {
                            // The others are served all the same.
                            result = Err(error);
                            continue;
                        }
                    }
                }
            };
            kept.insert(bound.key, serving);
        }
        for (_, serving) in std::mem::replace(&mut self.sockets, kept) {
            serving.stop.start();
        }
        for slot in gone {
            slot.drain();
        }
        result
    }

    fn finish(&mut self) {
        for (_, serving) in self.sockets.drain() {
            serving.stop.start();
        }
        for slot in std::mem::take(&mut self.slots).into_values() {
            slot.drain();
        }
    }
}

impl Serving {
    /// Whether the socket goes on serving that slot. A UDP socket belongs to one slot for its flows' sake.
    fn is_of(&self, slot: &Rc<Slot>) -> bool {
        Rc::ptr_eq(&self.door.borrow().slot, slot)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.stop.is_started() {
            self.task.abort();
        }
    }
}

fn start(open: Open, door: Rc<RefCell<Door>>, fatal: Rc<Notify>) -> io::Result<Serving> {
    let stop = Drain::new();
    let task = match open {
        Open::Tcp(socket) => {
            let listener = Listener::new(socket)?;
            fathom_io::spawn(or_fatal(
                accept(listener, door.clone(), stop.clone()),
                fatal,
            ))
        }
        Open::Udp(socket) => {
            let (slot, stop) = (door.borrow().slot.clone(), stop.clone());
            fathom_io::spawn(or_fatal(slot.datagrams(socket, stop), fatal))
        }
    };
    Ok(Serving { door, task, stop })
}

async fn or_fatal(task: impl Future<Output = ()>, fatal: Rc<Notify>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        fatal.notify_one();
    }
}

async fn accept(listener: Listener, door: Rc<RefCell<Door>>, stop: Drain) {
    let _present = door.borrow().present();
    let mut stopped = stop.started();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => door.borrow().enter(stream, peer),
            Err(error) => {
                door.borrow().accept_failed(&error);
                timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections that the kernel has completed already are clients like any other: they are not refused for
    // having come a moment before the end.
    // As many as a backlog holds: whoever keeps coming does not keep it open.
    for _ in 0..LAST_CLIENTS {
        match listener.try_accept() {
            Ok(Some((stream, peer))) => door.borrow().enter(stream, peer),
            _ => break,
        }
    }
}
