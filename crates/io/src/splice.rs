//! Moving bytes from socket to socket inside the kernel, through a pipe.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags};

/// What a pipe may hold: the most an unprivileged user may ask for. What a socket gives at once is
/// in many small pieces, each of which takes a page's place.
const SIZE: usize = 1 << 20;
/// Empty pipes kept for reuse.
const KEEP: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe and how much is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe.
    pub(crate) fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten() {
            return Ok(pipe);
        }
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe also works (the user's limit may be used up).
        let _ = rustix::pipe::fcntl_setpipe_size(&write, SIZE);
        Ok(Self {
            read,
            write,
            held: 0,
        })
    }

    /// Gives it back for reuse, if it is empty.
    pub(crate) fn give_back(self) {
        if self.held == 0 {
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                if pool.len() < KEEP {
                    pool.push(self);
                }
            });
        }
    }

    /// Bytes in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes what `socket` has. 0 is the end of the stream. The socket must not block.
    pub(crate) fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let n = splice(socket, &self.write, SIZE)?;
        self.held += n;
        Ok(n)
    }

    /// Gives `socket` what it takes. The socket must not block.
    pub(crate) fn empty(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let n = splice(&self.read, socket, self.held)?;
        self.held -= n;
        Ok(n)
    }
}

fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match rustix::pipe::splice(&from, None, &to, None, most, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
