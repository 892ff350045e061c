//! Content given to the `h2` crate, which queues without bound: what it has not sent yet is counted here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use fathom_io::Chunk;

/// More than this of one stream not yet sent, and its source is not read.
pub(crate) const ROOM: usize = 64 << 10;
/// Smaller pieces are copied: in the buffer they came in, a slow reader would hold far more memory than content.
const COPY_BELOW: usize = 4 << 10;

/// What one stream has queued.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    queued: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

/// A piece of content.
#[derive(Debug)]
pub(crate) struct Payload {
    data: Data,
    flow: Option<Rc<Flow>>,
}

#[derive(Debug)]
enum Data {
    Small(Bytes),
    Chunk(Chunk),
}

impl Flow {
    /// Counts a piece until the connection has taken it.
    pub(crate) fn payload(self: &Rc<Self>, chunk: Chunk) -> Payload {
        self.queued.set(self.queued.get() + chunk.len());
        let data = if chunk.len() < COPY_BELOW {
            Data::Small(Bytes::copy_from_slice(&chunk))
        } else {
            Data::Chunk(chunk)
        };
        Payload {
            data,
            flow: Some(Rc::clone(self)),
        }
    }

    /// Waits until there is room.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.queued.get() < ROOM {
            return Poll::Ready(());
        }
        let mut slot = self.waker.borrow_mut();
        let old = match &*slot {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => slot.replace(cx.waker().clone()),
        };
        drop(slot);
        drop(old);
        Poll::Pending
    }

    fn took(&self, n: usize) {
        let left = self.queued.get() - n;
        self.queued.set(left);
        // Half, so that a slow reader does not cost a turn for each of its window updates.
        if left < ROOM / 2
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

impl Payload {
    /// Nothing: only ends a stream.
    pub(crate) fn empty() -> Self {
        Self {
            data: Data::Small(Bytes::new()),
            flow: None,
        }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match &self.data {
            Data::Small(bytes) => bytes,
            Data::Chunk(chunk) => chunk,
        }
    }

    fn advance(&mut self, n: usize) {
        match &mut self.data {
            Data::Small(bytes) => bytes.advance(n),
            Data::Chunk(chunk) => chunk.advance(n),
        }
        if let Some(flow) = &self.flow {
            flow.took(n);
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.took(self.remaining());
        }
    }
}
