//! Counters that cost a plain add: one writer per worker, merged on read.
//!
//! A worker announces itself with [`set_worker`]; from then on its [`Count`]s are a load and a store.
//! Every other thread (control path, tests) shares one slot and pays for an atomic add.

mod cell;
mod histogram;
mod registry;
mod sets;

pub use cell::{Count, Gauge, PerCore, is_worker, reserve_workers, set_worker};
pub use histogram::{Histogram, Snapshot};
pub use registry::Registry;
pub use sets::{
    EndpointCells, EndpointStats, GrpcStatuses, ListenerCells, ListenerStats, PoolCells, PoolStats,
    ReasonCounts, RouteCells, RouteStats, StatusClasses,
};
