//! Heads for reuse, per worker: a request then allocates nothing for its fields, and moving what holds a head moves a
//! pointer.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use fathom_codec::head::{RequestHead, ResponseHead};

/// As many as there are requests in flight on a busy worker.
const KEEP: usize = 512;

/// A head that goes back to its pool.
#[derive(Debug)]
pub(crate) struct Pooled<T: Reused>(Option<Box<T>>);

/// What can be emptied and used again.
pub(crate) trait Reused: Default + 'static {
    fn empty(&mut self);
    fn pool<R>(f: impl FnOnce(&mut Vec<Box<Self>>) -> R) -> Option<R>;
}

impl<T: Reused> Pooled<T> {
    pub(crate) fn new() -> Self {
        Self(Some(T::pool(Vec::pop).flatten().unwrap_or_default()))
    }
}

impl<T: Reused> Deref for Pooled<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().expect("only dropping takes it out")
    }
}

impl<T: Reused> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect("only dropping takes it out")
    }
}

impl<T: Reused> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(mut head) = self.0.take() {
            head.empty();
            T::pool(|pool| {
                if pool.len() < KEEP {
                    pool.push(head);
                }
            });
        }
    }
}

macro_rules! reused {
    ($($head:ty),*) => { $(
        impl Reused for $head {
            fn empty(&mut self) {
                self.clear();
            }

            fn pool<R>(f: impl FnOnce(&mut Vec<Box<Self>>) -> R) -> Option<R> {
                thread_local! {
                    static POOL: RefCell<Vec<Box<$head>>> = const { RefCell::new(Vec::new()) };
                }
                // At the end of a thread the pool may be gone before what is given back to it.
                POOL.try_with(|pool| f(&mut pool.borrow_mut())).ok()
            }
        }
    )* };
}

reused!(RequestHead, ResponseHead);
