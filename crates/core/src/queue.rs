//! Waiting, in order, for a server to have room.
//!
//! No wake-up is lost: a waiter joins first and looks for room afterwards; who gives room back
//! does so first and looks for waiters afterwards (both sequentially consistent, so at least one of
//! them sees the other). Room that was found is handed down the line: when a woken waiter leaves, served
//! or not, the next one is woken to see whether there is more.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The line of one pool.
#[derive(Debug, Default)]
pub struct Queue {
    /// Length of the line, to be read without the lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
}

#[derive(Debug, Default)]
struct Waiter {
    /// There may be room; set by who wakes, cleared by the waiter before it looks.
    woken: bool,
    waker: Option<Waker>,
}

/// The line is as long as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A place in the line. As a future it resolves each time there may be room, and may be awaited again:
/// the place is kept until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Arc<Queue>,
    number: u64,
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the line if fewer than `length` are in it.
    ///
    /// # Errors
    /// The line is full.
    pub fn join(self: &Arc<Self>, length: usize) -> Result<Ticket, QueueFull> {
        let mut line = self.line();
        if line.waiters.len() >= length {
            return Err(QueueFull);
        }
        let number = line.next;
        line.next += 1;
        // The first is woken from the start: room may have come up between looking and joining. The others
        // must not look before their turn; who is before them wakes them when leaving.
        let woken = line.waiters.is_empty();
        line.waiters.insert(number, Waiter { woken, waker: None });
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
        drop(line);
        Ok(Ticket {
            queue: Arc::clone(self),
            number,
        })
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Tells the first who does not know yet that there may be room.
    pub fn wake_one(&self) {
        if self.waiting() == 0 {
            return;
        }
        let waker = self.line().wake_after(None);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Tells everyone: a server came up or went away.
    pub fn wake_all(&self) {
        if self.waiting() == 0 {
            return;
        }
        let wakers: Vec<_> = {
            let mut line = self.line();
            let wake = |waiter: &mut Waiter| {
                waiter.woken = true;
                waiter.waker.take()
            };
            line.waiters.values_mut().filter_map(wake).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Line {
    /// Marks the first sleeper, of those behind `number` if given.
    fn wake_after(&mut self, number: Option<u64>) -> Option<Waker> {
        let from = number.map_or(0, |n| n + 1);
        let sleeper = self
            .waiters
            .range_mut(from..)
            .map(|(_, w)| w)
            .find(|w| !w.woken)?;
        sleeper.woken = true;
        sleeper.waker.take()
    }
}

impl Ticket {
    /// Hands on what it was woken for and has no use for.
    pub fn pass_on(&self) {
        let waker = self.queue.line().wake_after(Some(self.number));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether nobody is before it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.queue.line().waiters.keys().next() == Some(&self.number)
    }
}

impl Future for Ticket {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.queue.line();
        let Some(waiter) = line.waiters.get_mut(&self.number) else {
            return Poll::Ready(());
        };
        if std::mem::take(&mut waiter.woken) {
            return Poll::Ready(());
        }
        match &mut waiter.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let waker = {
            let mut line = self.queue.line();
            line.waiters.remove(&self.number);
            self.queue
                .waiting
                .store(line.waiters.len(), Ordering::SeqCst);
            line.wake_after(None)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU32);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Client {
        ticket: Ticket,
        woken: Arc<Woken>,
    }

    impl Client {
        /// Joined, looked once, and went to sleep.
        fn asleep(queue: &Arc<Queue>) -> Self {
            let mut client = Self {
                ticket: queue.join(10).unwrap(),
                woken: Arc::default(),
            };
            let first = client.ticket.is_first();
            assert_eq!(
                client.poll(),
                first,
                "the first of the line may look at once"
            );
            assert!(!first || !client.poll());
            client
        }

        fn poll(&mut self) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            Pin::new(&mut self.ticket)
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        }

        fn wakes(&self) -> u32 {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn first_come_first_woken() {
        let queue = Arc::new(Queue::default());
        let (mut a, mut b) = (Client::asleep(&queue), Client::asleep(&queue));
        queue.wake_one();
        assert_eq!((a.wakes(), b.wakes()), (1, 0));
        assert!(a.poll());
        queue.wake_one();
        assert!(a.poll(), "room that comes while it looks is not lost");
        assert_eq!(b.wakes(), 0);
        drop(a);
        assert!(b.poll(), "who leaves wakes the next");
    }

    #[test]
    fn two_places_wake_two() {
        let queue = Arc::new(Queue::default());
        let (a, b) = (Client::asleep(&queue), Client::asleep(&queue));
        queue.wake_one();
        queue.wake_one();
        assert_eq!((a.wakes(), b.wakes()), (1, 1));
    }

    #[test]
    fn who_is_woken_and_gives_up_passes_it_on() {
        let queue = Arc::new(Queue::default());
        let (a, mut b) = (Client::asleep(&queue), Client::asleep(&queue));
        queue.wake_one();
        drop(a);
        assert_eq!(b.wakes(), 1);
        assert!(b.poll());
        assert_eq!(queue.waiting(), 1);
        drop(b);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn the_line_is_bounded() {
        let queue = Arc::new(Queue::default());
        let _a = queue.join(1).unwrap();
        assert_eq!(queue.join(1).unwrap_err(), QueueFull);
        assert_eq!(queue.join(0).unwrap_err(), QueueFull);
    }
}
