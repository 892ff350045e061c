//! What a stream writes, and the queue of what the kernel has not taken yet.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::buffer::{Chunk, recycle};

/// Bytes given to a stream to write; owned until the kernel has them.
#[derive(Debug)]
pub struct Outgoing(Kind);

#[derive(Debug)]
enum Kind {
    Chunk(Chunk),
    Bytes(Bytes),
    /// The vector and how much of it is gone.
    Vec(Vec<u8>, usize),
    Static(&'static [u8]),
}

impl Outgoing {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Kind::Chunk(chunk) => chunk,
            Kind::Bytes(bytes) => bytes,
            Kind::Vec(vec, gone) => &vec[*gone..],
            Kind::Static(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn advance(&mut self, n: usize) {
        match &mut self.0 {
            Kind::Chunk(chunk) => chunk.advance(n),
            Kind::Bytes(bytes) => drop(bytes.split_to(n)),
            Kind::Vec(_, gone) => *gone += n,
            Kind::Static(bytes) => *bytes = &bytes[n..],
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Kind::Vec(vec, _) = &mut self.0 {
            recycle(std::mem::take(vec));
        }
    }
}

impl From<Chunk> for Outgoing {
    fn from(chunk: Chunk) -> Self {
        Self(Kind::Chunk(chunk))
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(vec: Vec<u8>) -> Self {
        Self(Kind::Vec(vec, 0))
    }
}

impl From<&'static [u8]> for Outgoing {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Kind::Static(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Outgoing {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self(Kind::Static(bytes))
    }
}

impl From<&'static str> for Outgoing {
    fn from(text: &'static str) -> Self {
        Self(Kind::Static(text.as_bytes()))
    }
}

/// Smaller pieces than this do not keep their own memory while they wait: it may be a whole read
/// buffer, and what is counted against a limit are bytes.
const SMALL: usize = 1 << 10;

/// Pieces waiting for the kernel, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pieces: VecDeque<Outgoing>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, piece: Outgoing) {
        let len = piece.len();
        if len > 0 {
            self.bytes += len;
            self.pieces.push_back(piece);
        }
    }

    /// Adds a piece; a small one that has to wait behind others as a copy, so that the memory held
    /// stays in proportion to the bytes.
    pub(crate) fn push_compact(&mut self, piece: Outgoing, fixed: usize) {
        if piece.len() < SMALL && !self.pieces.is_empty() {
            self.push_copy(piece.as_slice(), fixed);
        } else {
            self.push(piece);
        }
    }

    /// Adds a copy, to the end of the last piece where that has room. Only the first `fixed`
    /// pieces may not be touched.
    pub(crate) fn push_copy(&mut self, data: &[u8], fixed: usize) {
        if self.pieces.len() > fixed
            && let Some(Outgoing(Kind::Vec(vec, _))) = self.pieces.back_mut()
            && vec.capacity() - vec.len() >= data.len()
        {
            vec.extend_from_slice(data);
            self.bytes += data.len();
            return;
        }
        let mut copy = crate::buffer::scratch();
        copy.extend_from_slice(data);
        self.push(copy.into());
    }

    pub(crate) fn front(&self) -> Option<&Outgoing> {
        self.pieces.front()
    }

    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The first pieces as slices, for one call.
    pub(crate) fn slices(&self) -> smallvec::SmallVec<[IoSlice<'_>; 16]> {
        self.pieces
            .iter()
            .take(16)
            .map(|p| IoSlice::new(p.as_slice()))
            .collect()
    }

    /// The kernel took `n` bytes.
    pub(crate) fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while let Some(front) = self.pieces.front_mut() {
            let len = front.len();
            if n < len {
                front.advance(n);
                break;
            }
            n -= len;
            self.pieces.pop_front();
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_counts_and_advances_over_pieces() {
        let mut queue = Queue::default();
        queue.push(b"abc".into());
        queue.push(b"".into());
        queue.push(vec![b'd', b'e'].into());
        queue.push(Chunk::copy_of(b"fg").into());
        queue.push(Bytes::from_static(b"hi").into());
        assert_eq!(queue.bytes(), 9);
        queue.advance(4);
        assert_eq!(queue.front().unwrap().as_slice(), b"e");
        let left: Vec<u8> = queue.slices().iter().flat_map(|s| s.to_vec()).collect();
        assert_eq!(left, b"efghi");
        queue.advance(5);
        assert!(queue.bytes() == 0 && queue.front().is_none());
    }

    #[test]
    fn copies_join_the_last_piece_unless_it_is_fixed() {
        let mut queue = Queue::default();
        queue.push_copy(b"ab", 0);
        queue.push_copy(b"cd", 0);
        assert_eq!(queue.pieces(), 1);
        queue.push_copy(b"ef", 1);
        assert_eq!(queue.pieces(), 2);
        assert_eq!(queue.bytes(), 6);
    }

    #[test]
    fn thousands_of_small_pieces_hold_little_memory() {
        // Nothing in flight, and as much in flight as the ring ever has.
        for fixed in [0, 16] {
            let mut queue = Queue::default();
            for i in 0..10_000u32 {
                queue.push_compact(Chunk::copy_of(&[i as u8]).into(), fixed);
            }
            assert_eq!(queue.bytes(), 10_000);
            assert!(queue.pieces() <= 1 + fixed + 10_000usize.div_ceil(2 << 10));
            let bytes: Vec<u8> = queue
                .pieces
                .iter()
                .flat_map(|p| p.as_slice().to_vec())
                .collect();
            assert!((0..10_000u32).map(|i| i as u8).eq(bytes));
            // Large ones are still taken as they are.
            let large = Chunk::copy_of(&[7; SMALL]);
            let at = large.as_ptr();
            queue.push_compact(large.into(), fixed);
            assert_eq!(queue.pieces.back().unwrap().as_slice().as_ptr(), at);
        }
    }
}
