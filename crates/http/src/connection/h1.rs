//! HTTP/1 with a client: one request after the other, in order, and nothing kept in between.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use fathom_codec::h1::{Limits, Malformed, Progress};
use fathom_codec::head::RequestHead;
use fathom_core::{ClientInfo, Reason};
use fathom_io::{Chunk, Drain, Draining, clock, scratch, timer::Timer};

use crate::account::Account;
use crate::exchange::ROOM;
use crate::front::h1::{After, H1Front};
use crate::heads::Pooled;
use crate::link::Link;
use crate::proxy::{Context, handle};
use crate::reply;
use crate::service::{Current, Service};

/// While draining, how long a connection without any request yet is waited for.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What lives as long as the connection: all that an idle one costs.
struct Connection {
    link: Link,
    info: ClientInfo,
    current: Rc<Current>,
    timer: Timer,
    drain: Drain,
    draining: RefCell<Draining>,
}

pub(crate) fn serve(
    link: Link,
    info: ClientInfo,
    current: Rc<Current>,
    drain: Drain,
) -> impl Future<Output = ()> {
    let draining = RefCell::new(drain.started());
    let connection = Connection {
        link,
        info,
        current,
        timer: Timer::new(),
        drain,
        draining,
    };
    // The future holds the connection once; an `async fn` would hold its arguments beside it.
    async move {
        let mut after = After::Keep;
        let mut fresh = true;
        while let Some(first) = connection.wait(std::mem::take(&mut fresh)).await {
            // One allocation for the whole of a request, gone before the connection waits again.
            after = Box::pin(connection.request(first)).await;
            if after != After::Keep {
                break;
            }
        }
        // Borrowed as long as it lives, the connection is not moved into another place of the future.
        let Connection { link, .. } = connection;
        match after {
            After::Keep | After::Close => link.close(),
            After::Linger => link.linger(),
            After::Abort => link.abort(),
        }
    }
}

impl Connection {
    /// Waits for the first bytes of a request; `None` when there will not be one.
    async fn wait(&self, fresh: bool) -> Option<Chunk> {
        // Pipelined, or already on the way: no deadline needs to be set.
        match self.link.try_read() {
            Ok(Some(chunk)) => return (!chunk.is_empty()).then_some(chunk),
            Ok(None) => {}
            Err(_) => return None,
        }
        self.timer
            .reset(clock::now() + self.current.get().plan.idle_timeout);
        let mut patient = true;
        poll_fn(|task| {
            if let Poll::Ready(read) = self.link.poll_read(task) {
                return Poll::Ready(read.ok().filter(|chunk| !chunk.is_empty()));
            }
            if patient
                && Pin::new(&mut *self.draining.borrow_mut())
                    .poll(task)
                    .is_ready()
            {
                // A close without an answer: nothing was asked. But who has only just connected has something to
                // ask, which must not get lost.
                if !fresh {
                    return Poll::Ready(None);
                }
                patient = false;
                self.timer.reset(clock::now() + FIRST_REQUEST);
            }
            if self.timer.poll_elapsed(task).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }

    /// One request, from its first bytes to the end of its response.
    async fn request(&self, first: Chunk) -> After {
        let service: Rc<Arc<Service>> = self.current.get();
        let began = clock::now();
        let mut head = Pooled::new();
        let mut bytes = scratch();
        let rest = match self.read_head(&service, &mut head, &mut bytes, first).await {
            Ok(rest) => rest,
            Err(fault) => return self.refuse(&service, fault, began),
        };
        // Responses that the client does not take hold back its next request.
        let mut armed = false;
        let room = poll_fn(
            |task: &mut Task<'_>| match self.link.poll_writable(task, ROOM) {
                Poll::Ready(result) => Poll::Ready(result.is_ok()),
                Poll::Pending => {
                    if !std::mem::replace(&mut armed, true) {
                        self.timer.reset(clock::now() + service.plan.body_timeout);
                    }
                    self.timer.poll_elapsed(task).map(|()| false)
                }
            },
        );
        if !room.await {
            return After::Abort;
        }
        let front = H1Front::new(&self.link, bytes, head, rest, self.drain.is_started());
        let cx = Context {
            service: &service,
            info: &self.info,
            timer: &self.timer,
        };
        handle(&front, &cx, began).await;
        front.after()
    }

    /// Reads a whole head into `bytes`; what came behind it is returned.
    async fn read_head(
        &self,
        service: &Service,
        head: &mut RequestHead,
        bytes: &mut Vec<u8>,
        mut chunk: Chunk,
    ) -> Result<Chunk, Fault> {
        let limits = Limits::default();
        let mut armed = false;
        loop {
            let before = bytes.len();
            // Usually all of it is in the first piece, which is then parsed where it is.
            let progress = if before == 0 {
                head.parse(&chunk, &limits)
            } else {
                bytes.extend_from_slice(&chunk);
                head.parse(bytes, &limits)
            };
            match progress.map_err(Fault::Malformed)? {
                Progress::Complete(len) => {
                    if before == 0 {
                        bytes.extend_from_slice(&chunk[..len]);
                    } else {
                        bytes.truncate(len);
                    }
                    chunk.advance(len - before);
                    return Ok(chunk);
                }
                Progress::Partial if before == 0 => bytes.extend_from_slice(&chunk),
                Progress::Partial => {}
            }
            if !std::mem::replace(&mut armed, true) {
                // For the head as a whole: a byte now and then does not help.
                self.timer.reset(clock::now() + service.plan.header_timeout);
            }
            chunk = poll_fn(|task| match self.link.poll_read(task) {
                Poll::Ready(Ok(chunk)) if !chunk.is_empty() => Poll::Ready(Ok(chunk)),
                Poll::Ready(_) => Poll::Ready(Err(Fault::Gone)),
                Poll::Pending => self.timer.poll_elapsed(task).map(|()| Err(Fault::Slow)),
            })
            .await?;
        }
    }

    /// Answers what is no request.
    fn refuse(&self, service: &Service, fault: Fault, began: fathom_core::Tick) -> After {
        let mut account = Account::new(service, &self.info, began);
        let (reason, answer) = match fault {
            Fault::Gone => (Reason::ClientGone, None),
            Fault::Slow => (
                Reason::HeaderTimeout,
                Some((408, Reason::HeaderTimeout.text())),
            ),
            Fault::Malformed(what) => (reason_of(what), Some((what.status(), what.as_str()))),
        };
        account.reason = Some(reason);
        if let Some((status, text)) = answer {
            account.status = Some(status);
            let _ = self.link.write(reply::raw(status, reason, text));
        }
        account.close(None, &self.info);
        After::Linger
    }
}

/// Why there is no request.
enum Fault {
    Malformed(Malformed),
    Slow,
    Gone,
}

pub(super) fn reason_of(what: Malformed) -> Reason {
    match what {
        Malformed::HeadTooLarge | Malformed::TooManyFields => Reason::HeaderTooLarge,
        Malformed::UriTooLong => Reason::UriTooLong,
        Malformed::VersionUnsupported => Reason::UnsupportedVersion,
        Malformed::ConnectMethod => Reason::MethodNotAllowed,
        Malformed::HostMissing
        | Malformed::HostTwice
        | Malformed::HostDiffers
        | Malformed::ContentLength
        | Malformed::ContentLengthTwice
        | Malformed::LengthAndCoding
        | Malformed::TransferEncoding
        | Malformed::CodingInHttp10 => Reason::AmbiguousRequest,
        _ => Reason::MalformedRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs is this, its socket and the task around it: 10,000 of them are to stay small.
    #[test]
    fn an_idle_connection_is_small() {
        fn size<F: Future>(_: impl Fn(Link, ClientInfo, Rc<Current>, Drain) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(serve) <= 512, "{} bytes", size(serve));
        fn request<'c, F: Future>(_: impl Fn(&'c Connection, Chunk) -> F) -> usize {
            size_of::<F>()
        }
        assert!(
            request(Connection::request) <= 4 << 10,
            "{} bytes",
            request(Connection::request)
        );
    }
}
