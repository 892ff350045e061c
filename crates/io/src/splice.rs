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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::task::Poll;

    use super::*;
    use crate::{ConnectOptions, Driver, Stream, Target, block_on, sys};

    async fn connected() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Ip(listener.local_addr().unwrap());
        let stream = Stream::connect(target, &ConnectOptions::default()).await;
        (stream.unwrap(), listener.accept().unwrap().0)
    }

    /// A reset while a splice waits for a receiver that reads nothing.
    async fn reset_while_full() {
        let (from, mut source) = connected().await;
        source.set_nonblocking(true).unwrap();
        let (to, sink) = connected().await;
        let mut pipe = Pipe::take().unwrap();
        let data = vec![7; 64 << 10];
        loop {
            while pipe.held() > 0 {
                let pending = poll_fn(|cx| match to.poll_empty(cx, &mut pipe) {
                    Poll::Ready(result) => Poll::Ready(result.map(|_| false)),
                    Poll::Pending => Poll::Ready(Ok(true)),
                });
                if pending.await.unwrap() {
                    // The kernel is told to wait.
                    tokio::task::yield_now().await;
                    to.reset();
                    while !sys::is_broken(sink.as_fd()) {
                        tokio::task::yield_now().await;
                    }
                    return;
                }
            }
            // When it takes nothing there is enough to fill the pipe from.
            let _ = source.write(&data);
            poll_fn(|cx| from.poll_fill(cx, &mut pipe)).await.unwrap();
        }
    }

    fn on(driver: Driver) {
        block_on(driver, async {
            let patience = std::time::Duration::from_secs(180);
            let test = tokio::time::timeout(patience, reset_while_full());
            test.await.expect("the peer sees the reset");
        });
    }

    #[test]
    fn a_reset_ends_the_wait_for_room_on_epoll() {
        on(Driver::Epoll);
    }

    #[test]
    fn a_reset_ends_the_wait_for_room_on_uring() {
        match crate::choose(fathom_core::plan::IoChoice::Uring) {
            Ok(_) => on(Driver::Uring),
            Err(why) => eprintln!("skipped: {why}"),
        }
    }
}
