//! Which slot of the kernel's tables belongs to whom. The tables themselves are the memory: a process that adopts them
//! reads from each slot's `owner` whose it is.

use std::collections::{BTreeMap, HashMap, VecDeque};

use fathom_wire::packet::{Service, Target};

use crate::Error;
use crate::table::Table;

/// Slots of one table; slot 0 is never given ("none").
#[derive(Debug)]
pub(crate) struct Slots {
    what: &'static str,
    size: u32,
    owners: HashMap<u64, u32>,
    free: VecDeque<u32>,
    /// Slots whose owner is gone from the configuration. Flows may still refer to them, so they are reused last, oldest first.
    retired: VecDeque<u64>,
}

impl Slots {
    pub(crate) fn of_services(table: &Table<Service>) -> Self {
        Self::new("binds of packet listeners", table.len(), |i| {
            table.read(i).owner
        })
    }

    pub(crate) fn of_targets(table: &Table<Target>) -> Self {
        Self::new("servers of packet listeners", table.len(), |i| {
            table.read(i).owner
        })
    }

    fn new(what: &'static str, size: u32, owner: impl Fn(u32) -> u64) -> Self {
        let mut slots = Self {
            what,
            size,
            owners: HashMap::new(),
            free: VecDeque::new(),
            retired: VecDeque::new(),
        };
        for i in 1..size {
            match owner(i) {
                0 => slots.free.push_back(i),
                owner => {
                    slots.owners.insert(owner, i);
                    // Until the configuration claims it.
                    slots.retired.push_back(owner);
                }
            }
        }
        slots
    }

    /// The slot of `owner`, and whether it is newly given.
    pub(crate) fn claim(&mut self, owner: u64) -> Result<(u32, bool), Error> {
        if let Some(slot) = self.owners.get(&owner) {
            if let Some(at) = self.retired.iter().position(|o| *o == owner) {
                self.retired.remove(at);
            }
            return Ok((*slot, false));
        }
        let slot = match self.free.pop_front() {
            Some(slot) => slot,
            None => {
                let oldest = self
                    .retired
                    .pop_front()
                    .and_then(|o| self.owners.remove(&o));
                oldest.ok_or_else(|| Error::Full {
                    what: format!("at most {} {}", self.size - 1, self.what),
                })?
            }
        };
        self.owners.insert(owner, slot);
        Ok((slot, true))
    }

    /// The slot of `owner`, if it has one.
    pub(crate) fn slot(&self, owner: u64) -> Option<u32> {
        self.owners.get(&owner).copied()
    }

    /// Its owner is gone; flows may go on.
    pub(crate) fn retire(&mut self, owner: u64) {
        if self.owners.contains_key(&owner) && !self.retired.contains(&owner) {
            self.retired.push_back(owner);
        }
    }

    /// Slots whose owners are gone: also those left by a former process that nobody claimed.
    pub(crate) fn retired(&self) -> impl Iterator<Item = u32> + '_ {
        self.retired
            .iter()
            .filter_map(|o| self.owners.get(o).copied())
    }
}

/// Where services' Maglev tables lie in the one array, in pairs of entries.
#[derive(Debug)]
pub(crate) struct Regions {
    size: u32,
    taken: BTreeMap<u32, u32>,
}

impl Regions {
    pub(crate) fn of(services: &Table<Service>, size: u32) -> Self {
        let mut taken = BTreeMap::new();
        for i in 1..services.len() {
            let s = services.read(i);
            if s.owner != 0 && s.table_size != 0 {
                taken.insert(s.table, pairs(s.table_size));
            }
        }
        Self { size, taken }
    }

    /// Room for a table of so many entries, first fit.
    pub(crate) fn take(&mut self, entries: u32) -> Result<u32, Error> {
        let wanted = pairs(entries);
        let mut at = 0;
        for (first, length) in &self.taken {
            if first - at >= wanted {
                break;
            }
            at = first + length;
        }
        if self.size - at < wanted {
            return Err(Error::Full {
                what: format!(
                    "all lookup tables together may have {} entries, and {entries} more are needed",
                    self.size * 2
                ),
            });
        }
        self.taken.insert(at, wanted);
        Ok(at)
    }

    pub(crate) fn release(&mut self, first: u32) {
        self.taken.remove(&first);
    }
}

fn pairs(entries: u32) -> u32 {
    entries.div_ceil(2)
}

/// A stable 64-bit name of anything (FNV-1a): the same in every version of Fathom, and never 0.
pub(crate) fn name_of(parts: &[&[u8]]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in *part {
            h = (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        h = (h ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }
    h.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_goes_into_the_first_gap_that_holds_it() {
        let mut r = Regions {
            size: 100,
            taken: BTreeMap::new(),
        };
        assert_eq!(r.take(20).unwrap(), 0);
        assert_eq!(r.take(41).unwrap(), 10);
        assert_eq!(r.take(20).unwrap(), 31);
        r.release(10);
        assert_eq!(r.take(60).unwrap(), 41);
        assert_eq!(r.take(10).unwrap(), 10);
        assert!(r.take(200).is_err());
    }

    #[test]
    fn slots_return_to_their_owner_and_are_reused_last() {
        let mut s = Slots::new("x", 3, |_| 0);
        assert_eq!(s.claim(7).unwrap(), (1, true));
        assert_eq!(s.claim(8).unwrap(), (2, true));
        assert!(s.claim(9).is_err());
        s.retire(7);
        assert_eq!(s.claim(7).unwrap(), (1, false));
        s.retire(8);
        assert_eq!(s.claim(9).unwrap(), (2, true));
    }
}
