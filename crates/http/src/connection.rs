//! A client's connection: which version is spoken on it.

mod h1;

use std::rc::Rc;

use fathom_core::ClientInfo;
use fathom_io::Drain;

use crate::link::Link;
use crate::service::Current;

/// Serves a client's connection until it ends, or until `drain` starts and what is in flight is answered.
pub async fn serve(link: Link, client: ClientInfo, current: Rc<Current>, drain: Drain) {
    h1::serve(link, client, current, drain).await;
}
