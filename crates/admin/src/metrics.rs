//! `/metrics`: the Prometheus text format 0.0.4.
//!
//! One file for each kind of thing, each a table of families: name, help, where the number is.

mod listener;
mod packet;
mod pool;
mod process;
mod route;
mod server;
mod text;

use crate::State;
use text::Text;

/// Every metric of the running process.
#[must_use]
pub fn metrics(state: &State) -> String {
    let mut text = Text::default();
    process::write(&mut text, state);
    listener::write(&mut text, state);
    route::write(&mut text, state);
    pool::write(&mut text, state);
    server::write(&mut text, state);
    packet::write(&mut text, state);
    text.finish()
}
