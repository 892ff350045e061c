//! A client's connection: which version is spoken on it.

mod h1;
mod h2;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use fathom_codec::h2::PREFACE;
use fathom_core::ClientInfo;
use fathom_io::{Chunk, Drain, clock, timer::Timer};
use futures_util::future::Either;

use crate::link::Link;
use crate::service::Current;

/// Serves a client's connection until it ends, or until `drain` starts and what is in flight is answered.
///
/// To be spawned on its own, not awaited in a larger future: what an idle connection costs is this future.
pub fn serve(
    link: Link,
    client: ClientInfo,
    current: Rc<Current>,
    drain: Drain,
) -> impl Future<Output = ()> {
    let cleartext = current.get().plan.cleartext;
    let by_alpn = client
        .tls
        .as_ref()
        .map(|tls| tls.alpn.as_deref() == Some(b"h2"));
    if !by_alpn.unwrap_or(cleartext.h2c) {
        return Either::Left(h1::serve(link, client, current, drain));
    }
    // Larger, and not to be paid for by those that speak HTTP/1.
    let boxed: Pin<Box<dyn Future<Output = ()>>> = if by_alpn.is_some() || !cleartext.http1 {
        Box::pin(h2::serve(link, client, current, drain))
    } else {
        Box::pin(async move {
            if begins_with_preface(&link, &current, &drain).await {
                Box::pin(h2::serve(link, client, current, drain)).await;
            } else {
                h1::serve(link, client, current, drain).await;
            }
        })
    };
    Either::Right(boxed)
}

/// What comes first on a connection where both versions may be spoken.
async fn begins_with_preface(link: &Link, current: &Current, drain: &Drain) -> bool {
    let service = current.get();
    let mut waits_since = service.plan.idle_timeout;
    let timer = Timer::new();
    let mut draining = drain.started();
    let mut seen = Vec::new();
    loop {
        timer.reset(clock::now() + waits_since);
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = link.poll_read(cx) {
                return Poll::Ready(read.unwrap_or_default());
            }
            let drained = std::pin::Pin::new(&mut draining);
            if std::future::Future::poll(drained, cx).is_ready()
                || timer.poll_elapsed(cx).is_ready()
            {
                return Poll::Ready(Chunk::default());
            }
            Poll::Pending
        });
        let chunk = read.await;
        let ended = chunk.is_empty();
        seen.extend_from_slice(&chunk);
        let n = seen.len().min(PREFACE.len());
        let fits = seen[..n] == PREFACE[..n];
        if fits && n < PREFACE.len() && !ended {
            waits_since = service.plan.header_timeout;
            continue;
        }
        // HTTP/1 says what is wrong with a beginning that it cannot use.
        link.unread(if seen.len() == chunk.len() {
            chunk
        } else {
            Chunk::copy_of(&seen)
        });
        return fits && n == PREFACE.len();
    }
}
