//! `first`: the first server in file order that has room (`max_connections`), so that the last ones can sleep.

use crate::{Candidates, Gives, Kind, Needs, next_usable};

/// What it is.
pub const KIND: Kind = Kind {
    name: "first",
    summary: "the first server that has room",
    needs: Needs {
        hash: false,
        load: false,
        latency: false,
    },
    gives: Gives { table: false },
};

/// Fill in order.
#[derive(Debug, Default)]
pub struct First;

impl First {
    /// The first usable server.
    pub fn pick<C: Candidates>(&self, candidates: &C) -> Option<usize> {
        next_usable(candidates, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Servers;

    #[test]
    fn in_order() {
        let mut servers = Servers::new(&[1, 9, 1]);
        assert_eq!(First.pick(&servers), Some(0));
        servers.usable[0] = false;
        assert_eq!(First.pick(&servers), Some(1));
    }
}
