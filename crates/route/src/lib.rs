//! Which route wins, and what it makes of the request: pure functions over borrowed parts of a request.
//!
//! The rule (one for every host, path and condition): host first (exact, then the longest `*.suffix`, then
//! none), then path (exact, then the longest prefix, then regular expressions in file order, then none), then
//! the number of further conditions, then file order. A route that fails one of its conditions is passed over
//! and the next most specific one is tried.
//!
//! A thousand routes cost about what three do: a hash on the host, one walk down a byte trie on the path.
//! Called by the `http` and `stream` planes on the data path, and by `config` for `check` and `explain`.
#![forbid(unsafe_code)]

mod condition;
mod explain;
mod hash_key;
mod host;
mod path;
mod rewrite;
mod router;
mod stream;
mod template;
mod trie;
mod unreachable;
mod view;

pub use explain::{Step, Verdict};
pub use hash_key::{hash_connection, hash_request};
pub use host::Host;
pub use path::Path;
pub use rewrite::rewrite;
pub use router::{Captures, Match, Router};
pub use stream::{StreamRouter, StreamStep};
pub use template::{TemplateError, check_template, expand, group_count};
pub use unreachable::{Shadowed, unreachable, unreachable_streams};
pub use view::{Headers, NoHeaders, RequestView};
