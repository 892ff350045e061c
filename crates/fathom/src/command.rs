//! What the commands do, but for `run` and `demo`.

pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod packet;
pub(crate) mod remote;
pub(crate) mod text;
pub(crate) mod top;
