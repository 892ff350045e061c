//! The buffers lent to the kernel: it picks one when data arrives, so that idle connections hold
//! none.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Bytes the kernel may fill.
pub(super) const SLOT: usize = 16 << 10;
/// Neighbours start at different lines of the cache.
const STRIDE: usize = SLOT + 192;
const COUNT: u16 = 256;
pub(super) const GROUP: u16 = 0;
const PAGE: usize = 4096;

/// The ring of free buffers, and the memory they are in.
pub(super) struct Slots {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    /// Ours to advance; the kernel follows.
    tail: Cell<u16>,
}

impl Slots {
    pub(super) fn register(ring: &IoUring) -> io::Result<Rc<Self>> {
        let (entries, memory) = layouts();
        // SAFETY: neither layout is of size zero.
        let (entries_at, memory_at) = unsafe { (alloc_zeroed(entries), alloc_zeroed(memory)) };
        if entries_at.is_null() || memory_at.is_null() {
            handle_alloc_error(memory);
        }
        let slots = Self {
            entries: entries_at.cast(),
            memory: memory_at,
            tail: Cell::new(0),
        };
        // SAFETY: the entries are page-aligned, `COUNT` long, and live as long as `slots`, which
        // its owner keeps until the ring is gone.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries_at as u64, COUNT, GROUP, 0)?
        };
        for id in 0..COUNT {
            slots.give(id);
        }
        Ok(Rc::new(slots))
    }

    /// The buffer the kernel just filled.
    pub(super) fn slot(self: &Rc<Self>, id: u16) -> Slot {
        assert!(id < COUNT, "the kernel names a buffer it was given");
        Slot {
            slots: Rc::clone(self),
            id,
        }
    }

    /// Lends a buffer to the kernel.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (COUNT - 1));
        // SAFETY: `index` is within the `COUNT` entries; the kernel reads an entry only after the
        // tail has passed it, and this thread alone writes.
        unsafe {
            let entry = &mut *self.entries.add(index);
            entry.set_addr(self.memory.add(usize::from(id) * STRIDE) as u64);
            entry.set_len(SLOT as u32);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail lies in the first entry, is aligned for u16, and is only ever accessed
        // atomically once the kernel knows of it. (`give` writes other fields of that entry.)
        let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let (entries, memory) = layouts();
        // SAFETY: allocated in `register` with these layouts; the ring is gone and no slot is left.
        unsafe {
            dealloc(self.entries.cast(), entries);
            dealloc(self.memory, memory);
        }
    }
}

fn layouts() -> (Layout, Layout) {
    let entries = Layout::from_size_align(usize::from(COUNT) * size_of::<BufRingEntry>(), PAGE);
    let memory = Layout::from_size_align(usize::from(COUNT) * STRIDE, PAGE);
    (entries.expect("a page"), memory.expect("4 MiB"))
}

/// A buffer on loan from the ring to a chunk; goes back when dropped.
pub(crate) struct Slot {
    slots: Rc<Slots>,
    id: u16,
}

impl Slot {
    pub(crate) fn memory(&self) -> &[u8] {
        // SAFETY: the buffer lies within the memory, was initialised (zeroed) at first, and while
        // the slot lives the kernel does not have it.
        unsafe {
            std::slice::from_raw_parts(self.slots.memory.add(usize::from(self.id) * STRIDE), SLOT)
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.id)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give(self.id);
    }
}
