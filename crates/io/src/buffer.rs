//! Buffers that are lent: a read gives a [`Chunk`], and its memory goes back to the thread's pool
//! when it is dropped. Nothing idle holds one.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::uring::Slot;

/// Sizes of read buffers: a transfer that proves long climbs from one to the next.
pub(crate) const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// How many of each are kept for reuse.
const KEEP: [usize; 3] = [128, 32, 16];
/// What [`scratch`] gives has at least this capacity.
const SCRATCH: usize = 2 << 10;
/// More than this and a scratch buffer is not kept.
const SCRATCH_MOST: usize = 16 << 10;
const SCRATCH_KEEP: usize = 256;
/// Below this, copying out beats giving a whole buffer away.
const COPY_BELOW: usize = 4 << 10;

#[derive(Default)]
struct Pool {
    free: [Vec<Box<[u8]>>; 3],
    scratch: Vec<Vec<u8>>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Bytes that were read, in borrowed memory.
#[derive(Default)]
pub struct Chunk {
    memory: Memory,
    start: u32,
    end: u32,
}

#[derive(Default)]
enum Memory {
    #[default]
    None,
    Pooled(Box<[u8]>),
    /// Lent by the ring.
    Slot(Slot),
}

impl Chunk {
    /// A copy of `data` in a pooled buffer.
    #[must_use]
    pub fn copy_of(data: &[u8]) -> Self {
        let size = SIZES.iter().position(|&s| s >= data.len());
        let mut memory = match size {
            Some(class) => take(class),
            None => vec![0; data.len()].into(),
        };
        memory[..data.len()].copy_from_slice(data);
        Self::pooled(memory, data.len())
    }

    pub(crate) fn pooled(memory: Box<[u8]>, len: usize) -> Self {
        debug_assert!(len <= memory.len());
        Self {
            memory: Memory::Pooled(memory),
            start: 0,
            end: len as u32,
        }
    }

    pub(crate) fn slot(slot: Slot, len: usize) -> Self {
        debug_assert!(len <= slot.memory().len());
        Self {
            memory: Memory::Slot(slot),
            start: 0,
            end: len as u32,
        }
    }

    /// Forgets the first `n` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance within the chunk");
        self.start += n as u32;
    }

    /// Keeps only the first `n` bytes, if there are more.
    pub fn truncate(&mut self, n: usize) {
        if n < self.len() {
            self.end = self.start + n as u32;
        }
    }

    /// Takes the first `n` bytes out. The smaller part is copied.
    ///
    /// # Panics
    /// When there are fewer than `n`.
    #[must_use]
    pub fn split_to(&mut self, n: usize) -> Self {
        assert!(n <= self.len(), "split within the chunk");
        if n == self.len() {
            return std::mem::take(self);
        }
        if n == 0 {
            return Self::default();
        }
        if n <= self.len() - n {
            let front = Self::copy_of(&self[..n]);
            self.advance(n);
            front
        } else {
            let back = Self::copy_of(&self[n..]);
            self.truncate(n);
            std::mem::replace(self, back)
        }
    }

    /// The bytes as shared, sendable memory: small ones are copied, a large pooled buffer is given
    /// away as it is.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.len() < COPY_BELOW {
            return Bytes::copy_from_slice(&self);
        }
        match std::mem::take(&mut self.memory) {
            Memory::Slot(slot) => {
                Bytes::copy_from_slice(&slot.memory()[self.start as usize..self.end as usize])
            }
            Memory::Pooled(memory) => {
                Bytes::from(memory).slice(self.start as usize..self.end as usize)
            }
            Memory::None => Bytes::new(),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Pooled(memory) => &memory[self.start as usize..self.end as usize],
            Memory::Slot(slot) => &slot.memory()[self.start as usize..self.end as usize],
            Memory::None => &[],
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Chunk> for Bytes {
    fn from(chunk: Chunk) -> Self {
        chunk.into_bytes()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        match std::mem::take(&mut self.memory) {
            Memory::Pooled(memory) => give_back(memory),
            Memory::Slot(_) | Memory::None => {}
        }
    }
}

/// An empty vector with room for a message head, from this thread's pool. Written to a stream it
/// finds its way back.
#[must_use]
pub fn scratch() -> Vec<u8> {
    POOL.try_with(|pool| pool.borrow_mut().scratch.pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(SCRATCH))
}

/// Gives a vector back for [`scratch`], if it is of a useful size.
pub fn recycle(mut vec: Vec<u8>) {
    if (SCRATCH..=SCRATCH_MOST).contains(&vec.capacity()) {
        vec.clear();
        let _ = POOL.try_with(|pool| {
            let scratch = &mut pool.borrow_mut().scratch;
            if scratch.len() < SCRATCH_KEEP {
                scratch.push(vec);
            }
        });
    }
}

/// A read buffer of `SIZES[class]` bytes.
pub(crate) fn take(class: usize) -> Box<[u8]> {
    POOL.try_with(|pool| pool.borrow_mut().free[class].pop())
        .ok()
        .flatten()
        // Zeroed memory comes from untouched pages: only what is used becomes resident.
        .unwrap_or_else(|| vec![0; SIZES[class]].into())
}

pub(crate) fn give_back(memory: Box<[u8]>) {
    if let Some(class) = SIZES.iter().position(|&s| s == memory.len()) {
        let _ = POOL.try_with(|pool| {
            let free = &mut pool.borrow_mut().free[class];
            if free.len() < KEEP[class] {
                free.push(memory);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_keeps_the_bytes() {
        let data: Vec<u8> = (0..=255).collect();
        for n in [0, 1, 100, 128, 200, 255, 256] {
            let mut rest = Chunk::copy_of(&data);
            let front = rest.split_to(n);
            assert_eq!(&*front, &data[..n]);
            assert_eq!(&*rest, &data[n..]);
        }
    }

    #[test]
    fn cut_from_both_ends() {
        let mut chunk = Chunk::copy_of(b"0123456789");
        chunk.advance(2);
        chunk.truncate(5);
        chunk.truncate(9);
        assert_eq!(&*chunk, b"23456");
        assert_eq!(&*chunk.into_bytes(), b"23456");
        let mut big = Chunk::copy_of(&[7; 20_000]);
        big.advance(10_000);
        assert_eq!(big.into_bytes(), vec![7; 10_000]);
    }

    #[test]
    fn memory_returns_to_the_pool() {
        let chunk = Chunk::copy_of(b"x");
        let at = chunk.as_ptr();
        drop(chunk);
        assert_eq!(Chunk::copy_of(b"y").as_ptr(), at);
        let mut head = scratch();
        head.extend_from_slice(b"HTTP/1.1 200 OK");
        let at = head.as_ptr();
        recycle(head);
        let again = scratch();
        assert!(again.is_empty() && again.as_ptr() == at);
    }
}
