//! Kernel arrays in user space's memory: what is written here the program sees with its next packet.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// A type whose bytes are shared with the program: plain, without padding, a multiple of eight bytes.
///
/// # Safety
/// Any bytes are a valid value, there is no padding, and its size is a multiple of eight.
pub(crate) unsafe trait Shared: Copy + Default {}

macro_rules! shared {
    ($($name:ident),*) => {
        $(
            // SAFETY: `#[repr(C)]` integers with explicit padding (crates/wire/src/packet.rs).
            unsafe impl Shared for fathom_wire::packet::$name {}
            const _: () = assert!(size_of::<fathom_wire::packet::$name>() % 8 == 0);
        )*
    };
}
shared!(
    Service,
    Target,
    Own,
    TablePair,
    ServiceCounters,
    TargetCounters
);

/// A mapped array.
#[derive(Debug)]
pub(crate) struct Table<T> {
    words: *mut AtomicU64,
    length: u32,
    bytes: usize,
    of: PhantomData<T>,
}

// SAFETY: it is memory shared with the kernel already, and touched by atomic loads and stores only.
unsafe impl<T> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Table<T> {}

impl<T: Shared> Table<T> {
    const WORDS: usize = size_of::<T>() / 8;

    /// Maps an array created with `BPF_F_MMAPABLE`.
    pub(crate) fn map(fd: BorrowedFd<'_>, length: u32) -> io::Result<Self> {
        // SAFETY: sysconf takes no pointer.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = (length as usize * size_of::<T>()).next_multiple_of(page);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            words: at.cast(),
            length,
            bytes,
            of: PhantomData,
        })
    }

    pub(crate) const fn len(&self) -> u32 {
        self.length
    }

    fn words(&self, index: u32) -> &[AtomicU64] {
        assert!(
            index < self.length,
            "slot {index} of a table of {}",
            self.length
        );
        // SAFETY: within the mapping (checked), which lives as long as `self`; aligned, since entries are whole words.
        unsafe {
            std::slice::from_raw_parts(self.words.add(index as usize * Self::WORDS), Self::WORDS)
        }
    }

    pub(crate) fn read(&self, index: u32) -> T {
        let mut value = T::default();
        let to = std::ptr::from_mut(&mut value).cast::<u64>();
        for (i, word) in self.words(index).iter().enumerate() {
            // SAFETY: `T` is `WORDS` words long and takes any bytes (`Shared`).
            unsafe { to.add(i).write_unaligned(word.load(Ordering::Relaxed)) };
        }
        value
    }

    /// Stores the words that differ; returns whether any did.
    pub(crate) fn write(&self, index: u32, value: T) -> bool {
        let from = std::ptr::from_ref(&value).cast::<u64>();
        let mut changed = false;
        for (i, word) in self.words(index).iter().enumerate() {
            // SAFETY: `T` is `WORDS` words long without padding (`Shared`).
            let new = unsafe { from.add(i).read_unaligned() };
            if word.load(Ordering::Relaxed) != new {
                word.store(new, Ordering::Release);
                changed = true;
            }
        }
        changed
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, not used after this.
        unsafe { libc::munmap(self.words.cast(), self.bytes) };
    }
}

/// A shared value's bytes, as a map key.
pub(crate) fn bytes_of<T: Copy, const N: usize>(value: &T) -> [u8; N] {
    const { assert!(size_of::<T>() == N) }
    // SAFETY: of the same size, and keys have no padding (every struct of fathom_wire::packet pads explicitly).
    unsafe { std::mem::transmute_copy(value) }
}
