//! What is known of names, and when to ask again. Pure: answers and the present moment are arguments.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::resolver::{Answer, Answers, NoAddress};

/// Records with a shorter time to live (0 = "do not cache") are still not asked for more often.
const MIN_TTL: Duration = Duration::from_secs(1);
/// Whatever the records say, a name is asked for again after this.
const MAX_TTL: Duration = Duration::from_secs(300);
/// After a failure, and while a name has no address.
const RETRY: Duration = Duration::from_secs(2);
/// How long a name that has just lost all its addresses keeps the last ones: a zone that is empty for a moment while
/// it is being replaced must not empty the pool.
const HOLD: Duration = Duration::from_secs(30);
/// More addresses than any real answer has.
const MAX_ADDRESSES: usize = 256;

/// One name, for `fathom status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameStatus {
    /// As configured.
    pub host: String,
    /// What it stands for now, sorted.
    pub addresses: Vec<IpAddr>,
    /// Why the last question had no good answer; the addresses are older then.
    pub problem: Option<String>,
}

/// What is known of one name.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// When to ask again.
    pub(crate) due: Instant,
    /// Since when there have been no addresses, by answer (not by failure).
    empty_since: Option<Instant>,
    problem: Option<String>,
    /// Asked at least once.
    pub(crate) asked: bool,
}

impl Known {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            v4: Vec::new(),
            v6: Vec::new(),
            due: now,
            empty_since: None,
            problem: None,
            asked: false,
        }
    }

    /// Every address, IPv4 first, each family sorted: a rotated answer changes nothing.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.v4
            .iter()
            .chain(&self.v6)
            .copied()
            .take(MAX_ADDRESSES)
            .collect()
    }

    /// Why the last question had no good answer.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes in an answer.
    pub(crate) fn update(&mut self, answers: Answers, now: Instant) {
        self.asked = true;
        let ttl = [&answers.v4, &answers.v6]
            .into_iter()
            .map(|answer| match answer {
                Answer::Addresses(_, ttl) => *ttl,
                // One family without records says nothing about how long the other's are good for.
                Answer::None(_) => MAX_TTL,
                Answer::Failed(_) => RETRY,
            })
            .min()
            .unwrap_or(RETRY);
        let none = match (&answers.v4, &answers.v6) {
            (Answer::None(a), Answer::None(b)) => Some(*a.min(b)),
            // What the other family has nobody could say: no address is known to be good.
            (Answer::None(none), Answer::Failed(_)) | (Answer::Failed(_), Answer::None(none)) => {
                Some(*none)
            }
            _ => None,
        };
        self.problem = match (&answers.v4, &answers.v6) {
            (Answer::Failed(why), _) | (_, Answer::Failed(why)) => Some(why.clone()),
            _ => none.map(|none| none.to_string()),
        };
        if none.is_some() {
            let since = *self.empty_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= HOLD {
                // A failure still keeps what was known of its family.
                for (family, answer) in [(&mut self.v4, answers.v4), (&mut self.v6, answers.v6)] {
                    if matches!(answer, Answer::None(_)) {
                        family.clear();
                    }
                }
            }
            self.due = now + RETRY;
            return;
        }
        for (family, answer) in [(&mut self.v4, answers.v4), (&mut self.v6, answers.v6)] {
            match answer {
                Answer::Addresses(mut addresses, _) => {
                    addresses.sort_unstable();
                    addresses.dedup();
                    *family = addresses;
                }
                Answer::None(_) => family.clear(),
                Answer::Failed(_) => {}
            }
        }
        self.empty_since = None;
        self.due = now + ttl.clamp(MIN_TTL, MAX_TTL);
    }
}

impl std::fmt::Display for NoAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "no such name (NXDOMAIN)",
            Self::NoRecord => "the name has no address",
        })
    }
}

/// Every name in use, shared by pools and kept over reloads.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Known>>,
    /// Told of every answer.
    answered: Notify,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a name; the first call makes it due.
    pub(crate) fn known(&self, host: &str, now: Instant) -> Known {
        self.lock()
            .entry(host.to_owned())
            .or_insert_with(|| Known::new(now))
            .clone()
    }

    /// Takes in an answer and returns what is known now.
    pub(crate) fn update(&self, host: &str, answers: Answers, now: Instant) -> Known {
        let mut names = self.lock();
        let known = names
            .entry(host.to_owned())
            .or_insert_with(|| Known::new(now));
        known.update(answers, now);
        let known = known.clone();
        drop(names);
        self.answered.notify_waiters();
        known
    }

    /// Waits until every name has been asked for once.
    pub(crate) async fn all_asked(&self) {
        loop {
            let mut answered = pin!(self.answered.notified());
            answered.as_mut().enable(); // before looking, so that no answer is missed
            if self.lock().values().all(|known| known.asked) {
                return;
            }
            answered.await;
        }
    }

    /// Forgets all names but those for which `used` holds.
    pub(crate) fn retain(&self, used: impl Fn(&str) -> bool) {
        self.lock().retain(|host, _| used(host));
    }

    /// For `fathom status`.
    pub(crate) fn status(&self, host: &str) -> Option<NameStatus> {
        let names = self.lock();
        let known = names.get(host)?;
        let problem = if known.asked {
            known.problem.clone()
        } else {
            Some("not resolved yet".into())
        };
        Some(NameStatus {
            host: host.to_owned(),
            addresses: known.addresses(),
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|&n| IpAddr::from([192, 0, 2, n])).collect()
    }

    fn some(last: &[u8], ttl: u64) -> Answer {
        Answer::Addresses(v4(last), Duration::from_secs(ttl))
    }

    const NO_RECORD: Answer = Answer::None(NoAddress::NoRecord);
    const NO_NAME: Answer = Answer::None(NoAddress::NoSuchName);

    #[test]
    fn the_time_to_live_is_honoured_within_bounds() {
        let now = Instant::now();
        for (ttl, wait) in [(0, 1), (1, 1), (60, 60), (86_400, 300)] {
            let mut known = Known::new(now);
            known.update(
                Answers {
                    v4: some(&[2, 1, 2], ttl),
                    v6: NO_RECORD,
                },
                now,
            );
            assert_eq!((known.due - now).as_secs(), wait, "ttl {ttl}");
            assert_eq!((known.addresses(), known.problem), (v4(&[1, 2]), None));
        }
    }

    #[test]
    fn a_failure_keeps_what_was_known_and_asks_again_soon() {
        let now = Instant::now();
        let mut known = Known::new(now);
        let v6 = Answer::Addresses(
            vec!["2001:db8::1".parse().unwrap()],
            Duration::from_secs(60),
        );
        known.update(
            Answers {
                v4: some(&[1], 60),
                v6,
            },
            now,
        );
        known.update(
            Answers {
                v4: some(&[3], 60),
                v6: Answer::Failed("SERVFAIL".into()),
            },
            now,
        );
        assert_eq!(
            known.addresses(),
            [v4(&[3]), vec!["2001:db8::1".parse().unwrap()]].concat()
        );
        assert_eq!(
            (known.due - now, known.problem.as_deref()),
            (RETRY, Some("SERVFAIL"))
        );
    }

    #[test]
    fn half_an_answer_that_says_none_does_not_end_the_hold() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let failed = || Answer::Failed("SERVFAIL".into());
        for none in [NO_RECORD, NO_NAME] {
            let mut known = Known::new(start);
            known.update(
                Answers {
                    v4: some(&[1], 1),
                    v6: NO_RECORD,
                },
                start,
            );
            let gone = Answers {
                v4: none,
                v6: failed(),
            };
            known.update(gone.clone(), after(1));
            assert_eq!(known.addresses(), v4(&[1]));
            assert_eq!(
                (known.due, known.problem()),
                (after(1) + RETRY, Some("SERVFAIL"))
            );
            known.update(gone.clone(), after(30));
            assert_eq!(known.addresses(), v4(&[1]));
            known.update(gone, after(31));
            assert!(known.addresses().is_empty());
        }
        // One with IPv6 only says "no record" for IPv4 all the time: failures take nothing from it.
        let mut known = Known::new(start);
        let v6 = || {
            Answer::Addresses(
                vec!["2001:db8::1".parse().unwrap()],
                Duration::from_secs(60),
            )
        };
        known.update(
            Answers {
                v4: NO_RECORD,
                v6: v6(),
            },
            start,
        );
        let held = known.addresses();
        for seconds in [60, 90, 120] {
            known.update(
                Answers {
                    v4: NO_RECORD,
                    v6: failed(),
                },
                after(seconds),
            );
            assert_eq!(known.addresses(), held, "after {seconds} s");
        }
    }

    #[test]
    fn a_name_that_vanishes_is_held_for_a_while() {
        let start = Instant::now();
        let mut known = Known::new(start);
        known.update(
            Answers {
                v4: some(&[1], 1),
                v6: NO_RECORD,
            },
            start,
        );
        let gone = Answers {
            v4: NO_NAME,
            v6: NO_NAME,
        };
        known.update(gone.clone(), start + Duration::from_secs(1));
        assert_eq!(
            (known.addresses(), known.problem.as_deref()),
            (v4(&[1]), Some("no such name (NXDOMAIN)"))
        );
        known.update(gone, start + Duration::from_secs(31));
        assert!(known.addresses().is_empty());
        known.update(
            Answers {
                v4: some(&[9], 1),
                v6: NO_RECORD,
            },
            start + Duration::from_secs(33),
        );
        assert_eq!((known.addresses(), known.problem), (v4(&[9]), None));
    }
}
