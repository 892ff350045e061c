//! A client's connection: which version is spoken on it.

mod h1;

use std::rc::Rc;

use fathom_core::ClientInfo;
use fathom_io::Drain;

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
    h1::serve(link, client, current, drain)
}
