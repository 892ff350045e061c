//! From the thread that wrote a record to the file: buffers, one bounded queue, one writer thread.
//!
//! Every thread that writes has a [`Slot`] with a buffer. A full buffer is handed over by the queue; a buffer
//! that fills slowly is fetched by the writer, which looks at all slots ten times a second. The two meet in a
//! mutex that the data path only tries: if the writer holds it (for the length of a swap) the record travels in
//! a buffer of its own.

mod sink;

use std::cell::RefCell;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use fathom_core::plan::{AccessFormat, LogPlan};

use crate::encode::encode;
use crate::record::Record;
use crate::time::TimeText;
use sink::Sink;

/// A buffer of this size is handed to the writer.
const HAND_OVER: usize = 32 * 1024;
/// Buffers in the queue: with [`HAND_OVER`], 8 MiB wait for a slow disk before records are dropped.
const QUEUE: usize = 256;
/// How often the writer fetches what threads have not handed over.
const SWEEP: Duration = Duration::from_millis(100);
/// How long [`Log::close`] waits: a reader of the pipe that has stopped must not hold up the shutdown.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// The access log of one configuration.
///
/// Dropping it ends the writer once everything pending is written, without waiting for that.
pub struct Log {
    /// Tells the thread-local slots of different logs apart.
    id: u64,
    format: AccessFormat,
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    /// The writer until it is started.
    idle: Mutex<Option<Writer>>,
}

/// What the writing threads and the writer share.
#[derive(Default)]
struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    written: AtomicU64,
    dropped: AtomicU64,
    last_error: Mutex<Option<String>>,
    finished: Mutex<bool>,
    on_finish: Condvar,
}

/// One thread's part.
#[derive(Default)]
struct Slot {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    time: TimeText,
}

enum Message {
    Lines(Vec<u8>),
    Reopen,
    Close,
}

thread_local! {
    /// The slot of the log this thread wrote to last; there is one log but for the moment of a reload.
    static SLOT: RefCell<Option<(u64, Arc<Slot>)>> = const { RefCell::new(None) };
}

impl Log {
    /// Opens the log and starts its writer; `None` for `access = "off"`.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread can be started.
    pub fn open(plan: &LogPlan) -> io::Result<Option<Arc<Self>>> {
        let log = Self::open_idle(plan)?;
        if let Some(log) = &log {
            log.start()?;
        }
        Ok(log)
    }

    /// Opens the log; nothing is written before [`Log::start`]. For a process that drops privileges in between: a thread
    /// keeps those that it was started with.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open_idle(plan: &LogPlan) -> io::Result<Option<Arc<Self>>> {
        Ok(Sink::open(&plan.access)?.map(|sink| Self::idle(sink, plan.format, QUEUE)))
    }

    fn idle(sink: Sink, format: AccessFormat, queue: usize) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let (sender, receiver) = mpsc::sync_channel(queue);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            sink,
            receiver,
            shared: Arc::clone(&shared),
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            id,
            format,
            queue: sender,
            shared,
            idle: Mutex::new(Some(writer)),
        })
    }

    /// Starts the writer; once it runs, this does nothing.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(&self) -> io::Result<()> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = idle.take() {
            thread::Builder::new()
                .name("fathom-access".into())
                .spawn(move || writer.run())?;
        }
        Ok(())
    }

    /// Logs one record. Never waits: when the writer is too far behind, the record is dropped and counted.
    pub fn write(&self, record: &Record<'_>) {
        SLOT.with_borrow_mut(|mine| {
            let slot = match mine {
                Some((id, slot)) if *id == self.id => slot,
                _ => &mine.insert((self.id, self.new_slot())).1,
            };
            match slot.pending.try_lock() {
                Ok(pending) => self.append(pending, record),
                Err(TryLockError::Poisoned(poisoned)) => self.append(poisoned.into_inner(), record),
                Err(TryLockError::WouldBlock) => self.send_alone(record),
            }
        });
    }

    fn append(&self, mut pending: MutexGuard<'_, Pending>, record: &Record<'_>) {
        if pending.bytes.len() >= HAND_OVER && !self.hand_over(&mut pending) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Pending { bytes, time } = &mut *pending;
        encode(self.format, bytes, record, time);
        if bytes.len() >= HAND_OVER {
            self.hand_over(&mut pending);
        }
    }

    /// Whether the buffer could be handed over and is empty now.
    fn hand_over(&self, pending: &mut Pending) -> bool {
        match self
            .queue
            .try_send(Message::Lines(mem::take(&mut pending.bytes)))
        {
            Ok(()) => {
                pending.bytes.reserve(HAND_OVER + HAND_OVER / 8);
                true
            }
            Err(
                mpsc::TrySendError::Full(Message::Lines(bytes))
                | mpsc::TrySendError::Disconnected(Message::Lines(bytes)),
            ) => {
                pending.bytes = bytes;
                false
            }
            Err(_) => false,
        }
    }

    #[cold]
    fn send_alone(&self, record: &Record<'_>) {
        let mut bytes = Vec::with_capacity(512);
        encode(self.format, &mut bytes, record, &mut TimeText::default());
        if self.queue.try_send(Message::Lines(bytes)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn new_slot(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        lock(&self.shared.slots).push(Arc::clone(&slot));
        slot
    }

    /// Opens the file again under its name, for rotated files; keeps the old one when that fails (see
    /// [`Log::last_error`]). May wait for the queue: for the control path.
    pub fn reopen(&self) {
        let _ = self.queue.send(Message::Reopen); // fails only after `close`
    }

    /// Writes what is pending and ends the writer; waits at most 5 s. Records written later are lost.
    pub fn close(&self) {
        // A full queue means a stuck reader, or a writer that will come round to the message it finds here.
        let deadline = Instant::now() + CLOSE_WAIT;
        let mut message = Message::Close;
        while let Err(mpsc::TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(5));
        }
        let finished = lock(&self.shared.finished);
        let left = deadline.saturating_duration_since(Instant::now());
        drop(
            self.shared
                .on_finish
                .wait_timeout_while(finished, left, |finished| !*finished),
        );
    }

    /// Records that reached the target.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Records lost: the writer was too far behind, or writing failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// The last failure to write or reopen; cleared by the next success.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        lock(&self.shared.last_error).clone()
    }
}

/// The thread that owns the file.
struct Writer {
    sink: Sink,
    receiver: Receiver<Message>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        let mut next_sweep = Instant::now() + SWEEP;
        loop {
            let left = next_sweep.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left) {
                Ok(Message::Lines(bytes)) => self.write(&bytes),
                Ok(Message::Reopen) => {
                    self.sweep();
                    let result = self.sink.reopen();
                    self.note(result);
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_sweep {
                self.sweep();
                next_sweep = Instant::now() + SWEEP;
            }
        }
        while let Ok(Message::Lines(bytes)) = self.receiver.try_recv() {
            self.write(&bytes);
        }
        self.sweep();
        *lock(&self.shared.finished) = true;
        self.shared.on_finish.notify_all();
    }

    /// Fetches what the threads have not handed over, and forgets the slots of threads that ended.
    fn sweep(&mut self) {
        let slots: Vec<_> = lock(&self.shared.slots).clone();
        for slot in &slots {
            let bytes = mem::take(&mut lock(&slot.pending).bytes);
            if !bytes.is_empty() {
                self.write(&bytes);
            }
        }
        drop(slots);
        // A slot that only the list holds belongs to no thread any more; it was emptied above or is kept for
        // the next sweep.
        lock(&self.shared.slots)
            .retain(|slot| Arc::strong_count(slot) > 1 || !lock(&slot.pending).bytes.is_empty());
    }

    fn write(&mut self, lines: &[u8]) {
        let records = lines.iter().filter(|&&b| b == b'\n').count() as u64;
        let result = self.sink.write(lines);
        let counter = if result.is_ok() {
            &self.shared.written
        } else {
            &self.shared.dropped
        };
        counter.fetch_add(records, Ordering::Relaxed);
        self.note(result);
    }

    fn note(&self, result: io::Result<()>) {
        *lock(&self.shared.last_error) = result.err().map(|e| e.to_string());
    }
}

/// A panic while the lock was held leaves at worst half a line: better than a second panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
