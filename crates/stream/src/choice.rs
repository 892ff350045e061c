//! What a connection or flow tells the pool when it asks for a server.

use std::net::SocketAddr;

use fathom_core::plan::Algorithm;
use fathom_core::{EndpointId, Pick, Pool, Tick};

/// The question, for a client that asked for `sni` and has tried `exclude` already.
pub(crate) fn pick<'a>(
    pool: &Pool,
    client: SocketAddr,
    sni: Option<&str>,
    exclude: &'a [EndpointId],
    now: Tick,
) -> Pick<'a> {
    let balance = &pool.plan().balance;
    Pick {
        now,
        random: fathom_io::random(),
        source: Some(client.ip()),
        hash: (balance.algorithm == Algorithm::Hash)
            .then(|| fathom_route::hash_connection(&balance.hash_on, client, sni))
            .flatten(),
        prefer: None,
        exclude,
        // Who was promised a server and found it broken does not go back to the end of the line.
        overtake: !exclude.is_empty(),
    }
}
