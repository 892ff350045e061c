//! How full the flow tables are: counted by walking them, a stretch at a time, because the kernel keeps no number.

use std::os::fd::AsFd;
use std::time::Duration;

use fathom_core::Tick;
use fathom_wire::packet::{Flow, FlowKey4, FlowKey6};

use crate::object::Maps;
use crate::sys;

/// Entries read at a time.
const STRETCH: u32 = 4096;
/// Between two walks.
const PAUSE: Duration = Duration::from_secs(5);

/// A walk in progress.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    cursor: Option<u32>,
    in_v6: bool,
    counted: u64,
    last: u64,
    finished: Option<Tick>,
}

impl Usage {
    pub(crate) const fn entries(&self) -> u64 {
        self.last
    }

    /// One stretch further.
    pub(crate) fn step(&mut self, maps: &Maps, now: Tick) {
        if self.finished.is_some_and(|at| now.since(at) < PAUSE) {
            return;
        }
        self.finished = None;
        let (map, key) = if self.in_v6 {
            (&maps.flows6, size_of::<FlowKey6>())
        } else {
            (&maps.flows4, size_of::<FlowKey4>())
        };
        let mut keys = vec![0u8; key * STRETCH as usize];
        let mut values = vec![0u8; size_of::<Flow>() * STRETCH as usize];
        match sys::lookup_batch(
            map.fd().as_fd(),
            &mut self.cursor,
            &mut keys,
            &mut values,
            STRETCH,
        ) {
            Ok(n) => self.counted += u64::from(n),
            // A bucket longer than the stretch, or a kernel without batches: leave the old number.
            Err(_) => self.cursor = None,
        }
        if self.cursor.is_some() {
            return;
        }
        if self.in_v6 {
            self.last = self.counted;
            self.counted = 0;
            self.finished = Some(now);
        }
        self.in_v6 = !self.in_v6;
    }
}
