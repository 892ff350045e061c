//! One client's connection, from its first byte to its last.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fathom_access::{Exchange, Record, Route, Tls};
use fathom_core::stats::{EndpointCells, ListenerCells, RouteCells};
use fathom_core::{ClientInfo, Lease, Reason, Tick};
use fathom_io::{JoinOptions, JoinOutcome, Progress, Side, Stream, clock, join};
use fathom_wire::client_hello::Hello;

use crate::dial::{Dialled, dial};
use crate::peek::{Peeked, peek};
use crate::service::{Service, Target};
use crate::{failure, greeting};

/// Serves a client's connection to its end, under the configuration it began with.
///
/// Connections in the backlog count nothing yet: the front has counted this one as accepted and open.
pub async fn serve(conn: Stream, client: ClientInfo, service: Arc<Service>) {
    let began = clock::now();
    if !service.needs_hello() {
        return route(conn, None, client, &service, began).await;
    }
    match peek(&conn, service.peek_timeout).await {
        Ok(peeked) => route(conn, Some(peeked), client, &service, began).await,
        Err(error) => {
            let account = Account::new(&service, None, &client, None, began);
            account.close(None, Some(error.reason()));
            refuse(conn, error.reason());
        }
    }
}

/// As [`serve`], for a connection whose first bytes were [peeked](peek()) at elsewhere.
pub async fn serve_peeked(conn: Stream, peeked: Peeked, client: ClientInfo, service: Arc<Service>) {
    let began = clock::now();
    route(conn, Some(peeked), client, &service, began).await;
}

async fn route(
    conn: Stream,
    peeked: Option<Peeked>,
    client: ClientInfo,
    service: &Service,
    began: Tick,
) {
    let (hello, bytes) = match peeked {
        Some(Peeked { hello, bytes }) => (hello, bytes),
        None => (None, Vec::new()),
    };
    let target = service.target(hello.as_ref(), client.peer.ip());
    let mut account = Account::new(service, target, &client, hello.as_ref(), began);
    let Some(target) = target else {
        let reason = match hello {
            None if service.needs_hello() => Reason::TlsNotTls,
            _ => Reason::NoRoute,
        };
        account.close(None, Some(reason));
        return refuse(conn, reason);
    };
    let sni = hello.as_ref().and_then(|h| h.sni.as_deref());
    match dial(service, target, &client, sni, &conn).await {
        Ok(Dialled {
            server,
            lease,
            connect,
            retries,
        }) => {
            account.connected(connect, retries);
            let mut first = bytes;
            account.progress.forth.set(first.len() as u64);
            if let Some(version) = target.pool.plan().proxy_protocol {
                let mut header = fathom_io::scratch();
                greeting::write(version, &client, hello.as_ref(), &mut header);
                header.extend_from_slice(&first);
                first = header;
            }
            let reason = relay(&conn, &server, first, &lease, &account, service).await;
            account.close(Some(&lease), reason);
        }
        Err(failed) => {
            account.retries = failed.retries;
            account.close(failed.lease.as_ref(), Some(failed.reason));
            refuse(conn, failed.reason);
        }
    }
}

/// Joins the two; why it was not an ordinary end.
async fn relay(
    client: &Stream,
    server: &Stream,
    first: Vec<u8>,
    lease: &Lease,
    account: &Account<'_>,
    service: &Service,
) -> Option<Reason> {
    let progress = &account.progress;
    let server_cells = lease.endpoint().stats().here();
    let open = Open::new(server_cells, account);
    let mut outcome = None;
    if !first.is_empty()
        && let Err(error) = server.write(first)
    {
        client.abort();
        outcome = Some(JoinOutcome::Failed {
            side: Side::Second,
            error,
        });
    }
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => {
            let options = JoinOptions {
                idle: Some(service.idle_timeout),
                ..JoinOptions::default()
            };
            let mut joined = pin!(join(client, server, &options, progress));
            let mut answered = false;
            // Counted at each step and not at the end: a connection may last for days.
            poll_fn(|cx| {
                let poll = joined.as_mut().poll(cx);
                open.count(progress);
                if !answered && progress.back.get() > 0 {
                    answered = true;
                    lease.succeeded(clock::now(), account.connect.unwrap_or_default());
                }
                poll
            })
            .await
        }
    };
    match outcome {
        JoinOutcome::Closed => {
            if progress.back.get() == 0 {
                // It took everything and had nothing to say: as it should be, for all that is known here.
                lease.succeeded(clock::now(), account.connect.unwrap_or_default());
            }
            None
        }
        JoinOutcome::Idle => Some(Reason::Idle),
        JoinOutcome::Failed {
            side: Side::First, ..
        } => Some(Reason::ClientGone),
        JoinOutcome::Failed {
            side: Side::Second,
            error,
        } => {
            let reason = failure::machine(&error).unwrap_or(Reason::ServerReset);
            server_cells.failures.count(reason);
            // After a first byte a reset is as likely the client's doing as the server's.
            if progress.back.get() == 0 && reason.counts_against_server() {
                lease.failed(clock::now());
            }
            Some(reason)
        }
    }
}

/// Closes a connection that goes nowhere, so that the client sees an orderly end.
fn refuse(conn: Stream, reason: Reason) {
    match reason {
        // The descriptor is wanted back at once.
        Reason::OutOfDescriptors | Reason::OutOfMemory => {
            let _ = conn.try_read();
        }
        // The client has nothing to be told, or is not there to hear it.
        Reason::ClientGone => {}
        // A close over unread data would be a reset.
        _ => conn.linger(),
    }
}

/// What is known of a connection, for counters and the access log.
struct Account<'a> {
    service: &'a Service,
    target: Option<&'a Target>,
    client: &'a ClientInfo,
    hello: Option<&'a Hello>,
    began: Tick,
    connect: Option<Duration>,
    retries: u32,
    progress: Progress,
}

impl<'a> Account<'a> {
    fn new(
        service: &'a Service,
        target: Option<&'a Target>,
        client: &'a ClientInfo,
        hello: Option<&'a Hello>,
        began: Tick,
    ) -> Self {
        if let Some(target) = target {
            target.stats.here().requests.inc();
        }
        Self {
            service,
            target,
            client,
            hello,
            began,
            connect: None,
            retries: 0,
            progress: Progress::default(),
        }
    }

    fn connected(&mut self, connect: Duration, retries: u32) {
        self.connect = Some(connect);
        self.retries = retries;
    }

    /// Counts and logs the end.
    fn close(&self, lease: Option<&Lease>, reason: Option<Reason>) {
        let duration = clock::now().since(self.began);
        if let Some(reason) = reason {
            self.service.stats.here().reasons.count(reason);
        }
        if let Some(target) = self.target {
            let cells = target.stats.here();
            cells.latency.record(duration);
            if let Some(reason) = reason {
                cells.reasons.count(reason);
            }
        }
        if let (Some(lease), Some(connect)) = (lease, self.connect) {
            let cells = lease.endpoint().stats().here();
            cells.connect.record(connect);
            cells.latency.record(duration);
        }
        let Some(log) = &self.service.access else {
            return;
        };
        let server = lease.map(|lease| lease.endpoint().name());
        let sni = self.hello.and_then(|hello| hello.sni.as_deref());
        let terminated = self.client.tls.as_deref();
        log.write(&Record {
            time: clock::unix_now(),
            client: self.client.peer,
            listener: &self.service.listener,
            route: self.target.map(|t| Route {
                name: &t.route,
                origin: &t.origin,
            }),
            pool: self.target.map(|t| &**t.pool.name()),
            server: server.as_deref(),
            request_bytes: self.progress.forth.get(),
            response_bytes: self.progress.back.get(),
            duration,
            connect: self.connect,
            retries: self.retries,
            reason: reason.map(Reason::as_str),
            tls: match (self.hello, terminated) {
                (Some(_), _) => Some(Tls { version: "", sni }),
                (None, Some(tls)) => Some(Tls {
                    version: tls.version,
                    sni: tls.sni.as_deref(),
                }),
                (None, None) => None,
            },
            exchange: Exchange::Tcp,
        });
    }
}

/// A joined connection in the counters, as long as it lives (and when its worker is torn down under it).
struct Open<'a> {
    server: &'a EndpointCells,
    route: Option<&'a RouteCells>,
    listener: &'a ListenerCells,
    forth: Cell<u64>,
    back: Cell<u64>,
}

impl<'a> Open<'a> {
    fn new(server: &'a EndpointCells, account: &Account<'a>) -> Self {
        server.connections.inc();
        server.open.add(1);
        let route = account.target.map(|t| t.stats.here());
        if let Some(route) = route {
            route.active.add(1);
        }
        let listener = account.service.stats.here();
        Self {
            server,
            route,
            listener,
            forth: Cell::new(0),
            back: Cell::new(0),
        }
    }

    /// Adds what has passed since the last time.
    fn count(&self, progress: &Progress) {
        let forth = progress.forth.get() - self.forth.replace(progress.forth.get());
        let back = progress.back.get() - self.back.replace(progress.back.get());
        if forth > 0 {
            self.listener.bytes_in.add(forth);
            self.server.bytes_out.add(forth);
        }
        if back > 0 {
            self.listener.bytes_out.add(back);
            self.server.bytes_in.add(back);
        }
        if let Some(route) = self.route {
            route.bytes_in.add(forth);
            route.bytes_out.add(back);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.server.open.add(-1);
        if let Some(route) = self.route {
            route.active.add(-1);
        }
    }
}
