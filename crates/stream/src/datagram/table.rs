//! The flow table: who belongs to which flow, and which flow was idle longest. Pure: no socket, no clock.

use std::collections::HashMap;
use std::hash::Hash;

use fathom_core::Tick;
use foldhash::fast::RandomState;

/// A flow's place, and which of the flows that had this place it is: a late mention of one that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    place: u32,
    generation: u32,
}

impl Id {
    /// As one number.
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    pub(super) fn from_u64(number: u64) -> Self {
        Self {
            place: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

/// Flows by key and in the order of their last use.
///
/// Moving a flow to the end of that order is a few stores; as all flows may be idle for the same time, the order of use is
/// also the order of expiry.
#[derive(Debug)]
pub(super) struct Table<K, F> {
    ids: HashMap<K, u32, RandomState>,
    entries: Vec<Entry<K, F>>,
    /// First unused place, chained by `next`.
    free: u32,
    /// Longest and shortest idle.
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Entry<K, F> {
    generation: u32,
    used: Tick,
    previous: u32,
    next: u32,
    flow: Option<(K, F)>,
}

const NONE: u32 = u32::MAX;

impl<K: Clone + Eq + Hash, F> Table<K, F> {
    pub(super) fn new() -> Self {
        Self {
            ids: HashMap::default(),
            entries: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The flow with that key.
    pub(super) fn find(&self, key: &K) -> Option<Id> {
        let place = *self.ids.get(key)?;
        Some(Id {
            place,
            generation: self.entries[place as usize].generation,
        })
    }

    /// The flow, if it is still there.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut F> {
        let entry = self.entries.get_mut(id.place as usize)?;
        let current = entry.generation == id.generation;
        entry
            .flow
            .as_mut()
            .filter(|_| current)
            .map(|(_, flow)| flow)
    }

    /// Adds a flow under a key that has none, used `now`.
    pub(super) fn insert(&mut self, key: K, flow: F, now: Tick) -> Id {
        let place = if self.free == NONE {
            self.entries.push(Entry {
                generation: 0,
                used: now,
                previous: NONE,
                next: NONE,
                flow: None,
            });
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 flows")
        } else {
            let place = self.free;
            self.free = self.entries[place as usize].next;
            place
        };
        let before = self.ids.insert(key.clone(), place);
        debug_assert!(before.is_none(), "the key has no flow yet");
        let entry = &mut self.entries[place as usize];
        entry.flow = Some((key, flow));
        // From 1, so that no flow's number is small: those are for other things.
        entry.generation = entry.generation.wrapping_add(1).max(1);
        entry.used = now;
        let id = Id {
            place,
            generation: entry.generation,
        };
        self.append(place);
        id
    }

    /// Says that a flow was used.
    pub(super) fn touch(&mut self, id: Id, now: Tick) {
        self.entries[id.place as usize].used = now;
        if self.newest != id.place {
            self.unlink(id.place);
            self.append(id.place);
        }
    }

    /// The flow that was idle longest, and since when.
    pub(super) fn oldest(&self) -> Option<(Id, Tick)> {
        let entry = self.entries.get(self.oldest as usize)?;
        Some((
            Id {
                place: self.oldest,
                generation: entry.generation,
            },
            entry.used,
        ))
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, id: Id) -> Option<F> {
        self.get_mut(id)?;
        self.unlink(id.place);
        let entry = &mut self.entries[id.place as usize];
        entry.next = self.free;
        self.free = id.place;
        let (key, flow) = entry.flow.take()?;
        self.ids.remove(&key);
        Some(flow)
    }

    fn append(&mut self, place: u32) {
        let last = std::mem::replace(&mut self.newest, place);
        let entry = &mut self.entries[place as usize];
        entry.previous = last;
        entry.next = NONE;
        match self.entries.get_mut(last as usize) {
            Some(last) => last.next = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let Entry { previous, next, .. } = self.entries[place as usize];
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.oldest = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(next) => next.previous = previous,
            None => self.newest = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_used_again_is_another_flow() {
        let mut table = Table::new();
        let first = table.insert("a", 1, Tick(1));
        assert_eq!(table.remove(first), Some(1));
        let second = table.insert("b", 2, Tick(2));
        assert_eq!(first.place, second.place);
        assert!(table.get_mut(first).is_none() && table.remove(first).is_none());
        assert_eq!(table.get_mut(Id::from_u64(second.to_u64())), Some(&mut 2));
        assert!(second.to_u64() > u64::from(u32::MAX));
    }

    proptest! {
        /// Against the plainest thing that does the same: a list in order of use.
        #[test]
        fn as_a_list_would(steps in proptest::collection::vec((0u8..4, 0u8..12), 0..200)) {
            let mut table: Table<u8, u8> = Table::new();
            let mut list: Vec<(u8, Tick)> = Vec::new();
            for (now, (action, key)) in steps.into_iter().enumerate() {
                let now = Tick(now as u64 + 1);
                let known = table.find(&key);
                prop_assert_eq!(known.is_some(), list.iter().any(|(k, _)| *k == key));
                match (action, known) {
                    (0 | 1, None) => { table.insert(key, key, now); list.push((key, now)); }
                    (2, Some(id)) => {
                        prop_assert_eq!(table.remove(id), Some(key));
                        list.retain(|(k, _)| *k != key);
                    }
                    (3, _) => {
                        let oldest = table.oldest();
                        prop_assert_eq!(oldest.map(|(_, used)| used), list.first().map(|(_, used)| *used));
                        if let Some((id, _)) = oldest {
                            prop_assert_eq!(table.remove(id), Some(list.remove(0).0));
                        }
                    }
                    (_, Some(id)) => {
                        table.touch(id, now);
                        list.retain(|(k, _)| *k != key);
                        list.push((key, now));
                        prop_assert_eq!(table.get_mut(id).copied(), Some(key));
                    }
                    (_, None) => {}
                }
                prop_assert_eq!(table.ids.len(), list.len());
                prop_assert_eq!(table.is_empty(), list.is_empty());
            }
        }
    }
}
