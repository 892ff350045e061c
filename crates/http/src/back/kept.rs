//! Connections to servers that wait for their next request, per worker.
//!
//! The one used last is taken first: those that are not needed grow old and are closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::KeepalivePlan;
use fathom_core::{Endpoint, EndpointId, Tick};
use fathom_io::{clock, timer};
use fathom_tls::Connector;

use super::dial::Open;
use crate::link::Link;

/// How often old and closed connections are looked for.
const SWEEP: Duration = Duration::from_secs(1);

struct Kept {
    link: Link,
    open: Open,
    connector: Option<Arc<Connector>>,
    until: Tick,
}

#[derive(Default)]
struct Pool {
    idle: HashMap<EndpointId, Vec<Kept>, foldhash::fast::RandomState>,
    sweeping: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Keeps a connection for the next request, if the server has not enough of them.
pub(crate) fn keep(
    link: Link,
    open: Open,
    connector: Option<&Arc<Connector>>,
    plan: &KeepalivePlan,
) {
    let begin = POOL.with_borrow_mut(|pool| {
        let idle = pool.idle.entry(open.endpoint().id()).or_default();
        if idle.len() >= plan.idle {
            return false;
        }
        open.endpoint().stats().here().idle.add(1);
        let until = clock::now() + plan.timeout;
        idle.push(Kept {
            link,
            open,
            connector: connector.cloned(),
            until,
        });
        !std::mem::replace(&mut pool.sweeping, true)
    });
    if begin {
        fathom_io::spawn(sweep());
    }
}

/// A kept connection to this server that is still open, made with the same connector.
pub(crate) fn take(
    endpoint: &Endpoint,
    connector: Option<&Arc<Connector>>,
) -> Option<(Link, Open)> {
    loop {
        let kept = POOL.with_borrow_mut(|pool| pool.idle.get_mut(&endpoint.id())?.pop())?;
        endpoint.stats().here().idle.add(-1);
        let same = match (&kept.connector, connector) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if same && is_quiet(&kept.link) && kept.until > clock::now() {
            return Some((kept.link, kept.open));
        }
    }
}

/// Nothing may come on a connection without a request: neither a close nor data.
fn is_quiet(link: &Link) -> bool {
    matches!(link.try_read(), Ok(None))
}

/// Closes every kept connection of this thread's worker.
pub(super) fn close_kept() {
    // Dropped outside of the borrow: closing runs other code.
    let idle = POOL.with_borrow_mut(|pool| std::mem::take(&mut pool.idle));
    for kept in idle.values().flatten() {
        kept.open.endpoint().stats().here().idle.add(-1);
    }
}

/// Runs while anything is kept.
async fn sweep() {
    /// When the worker ends, its connections end with it.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            POOL.with_borrow_mut(|pool| pool.sweeping = false);
            close_kept();
        }
    }
    let _end = End;
    loop {
        timer::after(SWEEP).await;
        let now = clock::now();
        let mut closed = Vec::new();
        let empty = POOL.with_borrow_mut(|pool| {
            pool.idle.retain(|_, idle| {
                closed.extend(idle.extract_if(.., |k| k.until <= now || !is_quiet(&k.link)));
                !idle.is_empty()
            });
            pool.idle.is_empty()
        });
        for kept in &closed {
            kept.open.endpoint().stats().here().idle.add(-1);
        }
        drop(closed);
        if empty {
            return;
        }
    }
}
