//! The packet depth: not built yet, and refused by name.
use crate::snapshot::Snapshot;
use fathom_core::plan::{DepthPlan, Plan};
use std::sync::Arc;
pub(crate) struct Packets;
impl Packets {
    pub(crate) fn open(plan: &Plan) -> Result<Option<Self>, String> {
        match plan
            .listeners
            .iter()
            .find(|l| matches!(l.depth, DepthPlan::Packet(_)))
        {
            Some(l) => Err(format!("{}: depth = \"packet\" is not built yet", l.origin)),
            None => Ok(None),
        }
    }
}
impl crate::running::Running {
    pub(crate) fn apply_packets(&self, snapshot: &Arc<Snapshot>) -> Result<(), String> {
        Packets::open(&snapshot.plan).map(drop)
    }

    pub(crate) fn packet_status(&self) -> Option<fathom_admin::Packet> {
        None
    }
}
