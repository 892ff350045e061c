//! The admin side: API, dashboard, metrics, and the client that the command line uses.
//!
//! It reads counters and asks for changes; what it may ask for is the trait [`Control`], which the program
//! implements. Everything here runs on the control path.
#![forbid(unsafe_code)]

mod api;
pub mod client;
mod control;
mod dashboard;
mod guard;
mod metrics;
mod serve;
pub mod status;

pub use control::{
    AccessLog, Answer, Certificate, Change, Control, ExplainRequest, Name, Packet, PacketListener,
    PacketServer, PlanReport, PlanRequest, Refusal, Reloads, State,
};
pub use metrics::metrics;
pub use serve::{Bound, bind};
