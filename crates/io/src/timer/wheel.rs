//! A hierarchical timing wheel (Varghese and Lauck, 1987) over a slab. Pure: time is an argument.
//!
//! Arming and disarming are lazy: an entry that moves later stays where it is and is looked at
//! again when its old place comes up, so that the timer of a busy connection costs two stores
//! per request.

use std::task::Waker;

/// Nanoseconds per unit: the granularity.
pub(super) const UNIT: u64 = 4_000_000;
const LEVELS: usize = 6;
const SLOTS: usize = 64;
const NONE: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;
/// A deadline further away than this is looked at again after it.
const HORIZON: u64 = 365 * 24 * 3600 * 1_000_000_000 / UNIT;

struct Entry {
    /// In units, rounded up; `NEVER` = disarmed.
    deadline: u64,
    /// The unit its place in the wheel stands for.
    place: u64,
    prev: u32,
    next: u32,
    /// level * 64 + slot, or `NOWHERE`.
    slot: u16,
    fired: bool,
    waker: Option<Waker>,
}

const NOWHERE: u16 = u16::MAX;

pub(super) struct Wheel {
    /// Everything due at or before this unit has fired.
    current: u64,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    entries: Vec<Entry>,
    /// Head of the free list, chained by `next`.
    free: u32,
}

impl Wheel {
    pub(super) fn new(now: u64) -> Self {
        Self {
            current: now / UNIT,
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            entries: Vec::new(),
            free: NONE,
        }
    }

    /// A new entry, disarmed.
    pub(super) fn add(&mut self) -> u32 {
        let blank = Entry {
            deadline: NEVER,
            place: 0,
            prev: NONE,
            next: NONE,
            slot: NOWHERE,
            fired: false,
            waker: None,
        };
        if self.free == NONE {
            self.entries.push(blank);
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 timers")
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = blank;
            index
        }
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Waker> {
        self.unlink(index);
        let free = self.free;
        let entry = &mut self.entries[index as usize];
        entry.next = free;
        let waker = entry.waker.take();
        self.free = index;
        waker
    }

    /// Sets the deadline in nanoseconds. Gives the unit at which the wheel must turn for it, when
    /// that is news.
    pub(super) fn arm(&mut self, index: u32, deadline: u64) -> Option<u64> {
        let unit = deadline.div_ceil(UNIT);
        let entry = &mut self.entries[index as usize];
        entry.deadline = unit;
        entry.fired = false;
        if entry.slot != NOWHERE {
            if entry.place <= unit {
                return None;
            }
            self.unlink(index);
        }
        Some(self.link(index, unit))
    }

    pub(super) fn disarm(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.deadline = NEVER;
        entry.fired = false;
    }

    pub(super) fn fired(&self, index: u32) -> bool {
        self.entries[index as usize].fired
    }

    pub(super) fn waker(&mut self, index: u32) -> &mut Option<Waker> {
        &mut self.entries[index as usize].waker
    }

    /// The earliest unit at which something may be due.
    pub(super) fn next(&self) -> Option<u64> {
        let level = (0..LEVELS).find(|&l| self.occupied[l] != 0)?;
        // Entries of a level share the block of `current` and lie ahead of it; those of a lower
        // level come before those of a higher one.
        let slot = u64::from(self.occupied[level].trailing_zeros());
        let shift = 6 * level as u32;
        let block = self.current >> (shift + 6) << (shift + 6);
        Some((block | (slot << shift)).max(self.current))
    }

    /// Turns the wheel to `now` (nanoseconds); `wake` is called for each entry that fires.
    pub(super) fn advance(&mut self, now: u64, mut wake: impl FnMut(&Waker)) {
        let now = now / UNIT;
        while let Some(unit) = self.next() {
            if unit > now {
                break;
            }
            let level = (0..LEVELS)
                .find(|&l| self.occupied[l] != 0)
                .expect("next() found one");
            let slot = self.occupied[level].trailing_zeros() as usize;
            self.current = unit;
            let mut index = std::mem::replace(&mut self.heads[level][slot], NONE);
            self.occupied[level] &= !(1 << slot);
            while index != NONE {
                let entry = &mut self.entries[index as usize];
                let next = entry.next;
                entry.slot = NOWHERE;
                let deadline = entry.deadline;
                if deadline == NEVER {
                    // disarmed meanwhile
                } else if deadline <= unit {
                    entry.fired = true;
                    entry.deadline = NEVER;
                    if let Some(waker) = &entry.waker {
                        wake(waker);
                    }
                } else {
                    self.link(index, deadline);
                }
                index = next;
            }
        }
        self.current = self.current.max(now);
    }

    fn link(&mut self, index: u32, unit: u64) -> u64 {
        // What is already due fires at the next turn.
        let unit = unit.clamp(self.current + 1, self.current + HORIZON);
        let differ = (unit ^ self.current) | (SLOTS as u64 - 1);
        let level = ((63 - differ.leading_zeros()) / 6).min(LEVELS as u32 - 1);
        let slot = (unit >> (6 * level)) as usize % SLOTS;
        let level = level as usize;
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        self.occupied[level] |= 1 << slot;
        if head != NONE {
            self.entries[head as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.prev = NONE;
        entry.next = head;
        entry.slot = u16::try_from(level * SLOTS + slot).expect("6 * 64 places");
        entry.place = unit;
        unit
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            prev, next, slot, ..
        } = self.entries[index as usize];
        if slot == NOWHERE {
            return;
        }
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev == NONE {
            let (level, slot) = (slot as usize / SLOTS, slot as usize % SLOTS);
            self.heads[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.entries[prev as usize].next = next;
        }
        self.entries[index as usize].slot = NOWHERE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn fires_at_its_time_and_not_before() {
        // Distances over every level, from a start that is no round number.
        for distance in [
            1, 3, 63, 64, 65, 4095, 4096, 5000, 262_143, 262_145, 20_000_000,
        ] {
            let start = 123_457 * UNIT;
            let mut wheel = Wheel::new(start);
            let entry = wheel.add();
            wheel.arm(entry, start + distance * UNIT);
            let mut now = start;
            while let Some(unit) = wheel.next() {
                assert!(unit * UNIT > now, "the wheel does not stand still");
                now = unit * UNIT;
                wheel.advance(now - 1, |_| ());
                assert!(!wheel.fired(entry));
                wheel.advance(now, |_| ());
                if wheel.fired(entry) {
                    break;
                }
            }
            assert!(wheel.fired(entry));
            assert_eq!(now, start + distance * UNIT);
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn moving_later_is_lazy_and_moving_earlier_is_not() {
        let mut wheel = Wheel::new(0);
        let entry = wheel.add();
        assert!(wheel.arm(entry, 100 * MS).is_some());
        assert!(wheel.arm(entry, 10_000 * MS).is_none());
        wheel.advance(5_000 * MS, |_| ());
        assert!(!wheel.fired(entry));
        assert!(wheel.arm(entry, 6_000 * MS).is_some());
        wheel.advance(6_000 * MS, |_| ());
        assert!(wheel.fired(entry));
    }

    #[test]
    fn disarmed_and_removed_never_fire() {
        let mut wheel = Wheel::new(0);
        let (a, b, c) = (wheel.add(), wheel.add(), wheel.add());
        for e in [a, b, c] {
            wheel.arm(e, 50 * MS);
        }
        wheel.disarm(a);
        wheel.remove(b);
        wheel.advance(1_000 * MS, |_| ());
        assert!(!wheel.fired(a));
        assert!(wheel.fired(c));
        assert_eq!(wheel.add(), b, "the place of a removed entry is used again");
        assert!(!wheel.fired(b));
    }

    #[test]
    fn agrees_with_a_sorted_list() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut wheel = Wheel::new(0);
        let mut model: Vec<(u32, u64)> = (0..200).map(|_| (wheel.add(), NEVER)).collect();
        let mut now = 0;
        for _ in 0..20_000 {
            let pick = random(200) as usize;
            match random(4) {
                0 | 1 => {
                    model[pick].1 = now + 1 + random(300_000 * MS);
                    wheel.arm(model[pick].0, model[pick].1);
                }
                2 => {
                    model[pick].1 = NEVER;
                    wheel.disarm(model[pick].0);
                }
                _ => {
                    now += random(2_000 * MS);
                    wheel.advance(now, |_| ());
                    for (entry, deadline) in &mut model {
                        let due = *deadline != NEVER && deadline.div_ceil(UNIT) <= now / UNIT;
                        assert_eq!(wheel.fired(*entry), due, "deadline {deadline} at {now}");
                        if due {
                            *deadline = NEVER;
                            wheel.disarm(*entry);
                        }
                    }
                }
            }
        }
    }
}
