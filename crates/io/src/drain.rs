//! "Finish what is in flight, then close": a flag per worker with as many listeners as connections.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The flag; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Drain(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    started: Cell<bool>,
    waiting: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<u32>>,
}

impl Drain {
    /// A drain not yet started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts draining; every [`Draining`] ends.
    pub fn start(&self) {
        if !self.0.started.replace(true) {
            let waiting: Vec<Waker> = self
                .0
                .waiting
                .borrow_mut()
                .iter_mut()
                .filter_map(Option::take)
                .collect();
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether it has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.0.started.get()
    }

    /// A handle to wait for the start: one per connection, polled as often as one likes for next
    /// to nothing.
    #[must_use]
    pub fn started(&self) -> Draining {
        Draining {
            shared: Rc::clone(&self.0),
            index: None,
        }
    }
}

/// A future that ends when the drain starts. May be polled again after that.
#[derive(Debug)]
pub struct Draining {
    shared: Rc<Shared>,
    index: Option<u32>,
}

impl Future for Draining {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.started.get() {
            return Poll::Ready(());
        }
        let this = &mut *self;
        let mut waiting = this.shared.waiting.borrow_mut();
        let index = *this.index.get_or_insert_with(|| {
            this.shared.free.borrow_mut().pop().unwrap_or_else(|| {
                waiting.push(None);
                u32::try_from(waiting.len() - 1).expect("fewer than 2^32 connections")
            })
        });
        let slot = &mut waiting[index as usize];
        let old = match slot {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => slot.replace(cx.waker().clone()),
        };
        drop(waiting);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let old = self.shared.waiting.borrow_mut()[index as usize].take();
            self.shared.free.borrow_mut().push(index);
            drop(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_all_and_forgets_the_dropped() {
        crate::block_on(crate::Driver::Epoll, async {
            let drain = Drain::new();
            let tasks: Vec<_> = (0..10).map(|_| crate::spawn(drain.started())).collect();
            for _ in 0..3 {
                let mut gone = drain.started();
                std::future::poll_fn(|cx| {
                    assert!(Pin::new(&mut gone).poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            tokio::task::yield_now().await;
            assert!(!drain.is_started());
            assert!(drain.0.waiting.borrow().len() <= 11);
            drain.start();
            for task in tasks {
                task.await.unwrap();
            }
            drain.started().await;
        });
    }
}
