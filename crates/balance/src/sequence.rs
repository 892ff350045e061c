//! An order of turns in which every server comes as often as its weight says, spread evenly.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Longest sequence; with larger sums of weights, shares are rounded to it.
const LONGEST: u64 = 8192;
/// Up to this much work (turns times servers) the order is the well-known one of nginx.
const EXACT_WORK: u64 = 1 << 16;

/// Turns as indexes of servers, `weights[i]` (reduced) turns for server `i`.
///
/// The same weights give the same order. Weights of zero get no turn.
pub(crate) fn build(weights: &[u32]) -> Box<[u32]> {
    let weights = reduce(weights);
    let total: u64 = weights.iter().sum();
    if total * weights.len() as u64 <= EXACT_WORK {
        smooth(&weights, total)
    } else {
        deadlines(&weights, total)
    }
}

/// Divides by the greatest common divisor, and further where the sum is too long.
fn reduce(weights: &[u32]) -> Vec<u64> {
    let gcd = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    let weights: Vec<u64> = weights.iter().map(|w| u64::from(*w) / gcd).collect();
    let total: u64 = weights.iter().sum();
    let longest = LONGEST.max(4 * weights.len() as u64);
    if total <= longest {
        return weights;
    }
    let scaled = |w: u64| {
        if w == 0 {
            0
        } else {
            ((w * longest + total / 2) / total).max(1)
        }
    };
    weights.into_iter().map(scaled).collect()
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// nginx's smooth weighted round-robin: everyone gains their weight, the richest pays the total.
fn smooth(weights: &[u64], total: u64) -> Box<[u32]> {
    let mut current = vec![0_i64; weights.len()];
    let turn = |_| {
        let mut best = 0;
        for (i, weight) in weights.iter().enumerate() {
            current[i] += *weight as i64;
            if current[i] > current[best] {
                best = i;
            }
        }
        current[best] -= total as i64;
        best as u32
    };
    (0..total).map(turn).collect()
}

/// Earliest deadline first: the k-th turn of a server is due at (k + 1/2) / weight. O(turns x log servers).
fn deadlines(weights: &[u64], total: u64) -> Box<[u32]> {
    const UNIT: u64 = 1 << 40;
    let due = |i: usize, k: u64| (2 * k + 1) * (UNIT / (2 * weights[i]));
    let mut heap: BinaryHeap<_> = (0..weights.len())
        .filter(|i| weights[*i] > 0)
        .map(|i| Reverse((due(i, 0), i, 0)))
        .collect();
    let mut turns = Vec::with_capacity(total as usize);
    while turns.len() < total as usize {
        let Some(Reverse((_, i, k))) = heap.pop() else {
            break;
        };
        turns.push(i as u32);
        heap.push(Reverse((due(i, k + 1), i, k + 1)));
    }
    turns.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_orders() {
        for (weights, turns) in [
            (&[1, 1, 1][..], &[0, 1, 2][..]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[4, 2], &[0, 1, 0]),
            (&[0, 3], &[1]),
            (&[], &[]),
            (&[0], &[]),
        ] {
            assert_eq!(*build(weights), *turns, "{weights:?}");
        }
    }

    #[test]
    fn huge_weights_are_rounded_not_refused() {
        let turns = build(&[65_535, 32_768, 1]);
        let count = |i| turns.iter().filter(|t| **t == i).count() as f64;
        assert!(turns.len() <= LONGEST as usize + 1);
        assert!((count(0) / count(1) - 2.0).abs() < 0.01);
        assert_eq!(count(2), 1.0);
    }

    #[test]
    fn many_servers_take_their_turns() {
        let turns = build(&vec![7; 10_000]);
        let mut seen = turns.to_vec();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..10_000));
    }

    proptest! {
        /// After any number of turns, no server is more than a few turns from its fair share.
        #[test]
        fn turns_are_spread(weights in prop::collection::vec(1_u32..100, 1..20)) {
            let reduced = reduce(&weights);
            let total: u64 = reduced.iter().sum();
            for turns in [smooth(&reduced, total), deadlines(&reduced, total)] {
                prop_assert_eq!(turns.len() as u64, total);
                let mut had = vec![0_f64; weights.len()];
                for (t, i) in turns.iter().enumerate() {
                    had[*i as usize] += 1.0;
                    for (i, weight) in reduced.iter().enumerate() {
                        let fair = (t + 1) as f64 * *weight as f64 / total as f64;
                        prop_assert!((had[i] - fair).abs() <= 2.0 + weights.len() as f64 / 4.0);
                    }
                }
                for (i, weight) in reduced.iter().enumerate() {
                    prop_assert!((had[i] - *weight as f64).abs() < 1.5, "{} {}", had[i], weight);
                }
            }
        }
    }
}
