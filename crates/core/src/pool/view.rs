//! Who may be chosen at this moment, ready to choose among.

use std::sync::Arc;
use std::time::Duration;

use fathom_balance::{self as balance, Balancer, Candidates, hash::WHOLE, maglev};

use super::member::Member;
use super::shared::Shared;
use super::{NoServer, Pick};
use crate::Tick;
use crate::endpoint::{Endpoint, EndpointId, Health};
use crate::outlier;
use crate::plan::{Algorithm, PoolPlan};

/// Weights are counted in twentieths, for slow start.
const STEPS: u32 = 20;
/// A server that starts slowly begins at two of them: a tenth.
const FIRST_STEP: u32 = 2;

/// An immutable picture of a pool.
#[derive(Debug)]
pub(super) struct View {
    /// Of [`Shared`], read before anything else.
    pub(super) generation: u64,
    /// From then on it is stale.
    pub(super) until: Tick,
    /// In the order they are tried; none is empty.
    pub(super) tiers: Vec<Tier>,
    /// Why there is no tier.
    pub(super) why: NoServer,
}

/// Servers of equal rank: primaries, backups.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) slots: Box<[Slot]>,
    pub(super) balancer: Balancer,
    pub(super) backup: bool,
}

/// A server in a tier.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) id: EndpointId,
    /// In twentieths.
    pub(super) weight: u32,
    /// `max_connections`.
    pub(super) most: Option<u32>,
    /// Of its keys, in `hash`; zero = in the table, but not to be used now.
    pub(super) share: u32,
}

impl View {
    /// One that is never up to date.
    pub(super) fn stale() -> Self {
        Self {
            generation: 0,
            until: Tick(0),
            tiers: Vec::new(),
            why: NoServer::Empty,
        }
    }

    /// A server's part of the new work.
    pub(super) fn share_of(&self, id: EndpointId) -> f64 {
        let Some(tier) = self.tiers.first() else {
            return 0.0;
        };
        let usable = || tier.slots.iter().filter(|slot| slot.share > 0);
        let total: u64 = usable().map(|slot| u64::from(slot.weight)).sum();
        usable()
            .find(|slot| slot.id == id)
            .map_or(0.0, |slot| f64::from(slot.weight) / total as f64)
    }
}

impl Tier {
    pub(super) fn index_of(&self, id: EndpointId) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.id == id && slot.share > 0)
    }

    pub(super) fn has_any_not_in(&self, exclude: &[EndpointId]) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.share > 0 && !exclude.contains(&slot.id))
    }

    pub(super) fn candidates<'a>(&'a self, cx: &'a Pick<'a>) -> Now<'a> {
        Now {
            slots: &self.slots,
            exclude: cx.exclude,
            now: cx.now,
        }
    }
}

/// A tier as one choice sees it.
pub(super) struct Now<'a> {
    slots: &'a [Slot],
    exclude: &'a [EndpointId],
    now: Tick,
}

impl Candidates for Now<'_> {
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn usable(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        slot.share > 0
            && !self.exclude.contains(&slot.id)
            && slot
                .most
                .is_none_or(|most| slot.endpoint.in_flight() < most)
    }

    fn load(&self, index: usize) -> u32 {
        self.slots[index].endpoint.in_flight()
    }

    fn weight(&self, index: usize) -> u32 {
        self.slots[index].weight
    }

    fn latency(&self, index: usize) -> u64 {
        self.slots[index].endpoint.ewma_ns(self.now)
    }

    fn share(&self, index: usize) -> u32 {
        self.slots[index].share
    }
}

/// Builds views; keeps what is dear to build.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// Maglev tables of primaries and backups, with what they were built from.
    tables: [Option<(Vec<maglev::Server>, Arc<maglev::Table>)>; 2],
}

/// What is decided about a member.
struct Judged<'a> {
    member: &'a Member,
    weight: u32,
    /// Up, with weight, not draining.
    good: bool,
    ejected: bool,
}

impl Builder {
    /// Builds ahead what is too dear for a worker: called by control threads where members or weights change.
    pub(super) fn prepare(&mut self, plan: &PoolPlan, members: &[Member]) {
        if plan.balance.algorithm != Algorithm::Hash {
            return;
        }
        for backup in [false, true] {
            let there = members
                .iter()
                .filter(|m| m.server().backup == backup && m.weight() > 0);
            let servers: Vec<_> = there.map(in_table).collect();
            if !servers.is_empty() {
                self.table(backup, servers);
            }
        }
    }

    pub(super) fn build(
        &mut self,
        plan: &PoolPlan,
        members: &[Member],
        shared: &Shared,
        now: Tick,
    ) -> View {
        // First: what changes while we look makes this view stale again.
        let generation = shared.generation();
        let mut until = Tick(u64::MAX);
        let mut judged = judge(plan, members, now);
        eject(plan, &mut judged, now);
        for j in judged.iter().filter(|j| j.ejected) {
            until = until.min(j.member.endpoint().outlier.until().unwrap_or(until));
        }
        let mut tiers = Vec::with_capacity(2);
        for backup in [false, true] {
            let wanted =
                |j: &Judged<'_>| j.member.server().backup == backup && j.good && !j.ejected;
            tiers.extend(self.tier(plan, &judged, backup, wanted, shared, now, &mut until));
        }
        if tiers.is_empty() {
            // Everyone else is down: a server that errs now and then is better than none.
            for backup in [false, true] {
                let wanted = |j: &Judged<'_>| j.member.server().backup == backup && j.good;
                tiers.extend(self.tier(plan, &judged, backup, wanted, shared, now, &mut until));
            }
        }
        let why = if members.is_empty() {
            NoServer::Empty
        } else {
            NoServer::AllDown
        };
        View {
            generation,
            until,
            tiers,
            why,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `build`, with its state"
    )]
    fn tier(
        &mut self,
        plan: &PoolPlan,
        judged: &[Judged<'_>],
        backup: bool,
        wanted: impl Fn(&Judged<'_>) -> bool,
        shared: &Shared,
        now: Tick,
        until: &mut Tick,
    ) -> Option<Tier> {
        if !judged.iter().any(&wanted) {
            return None;
        }
        // A Maglev table keeps the place of those that are away for a while, so that nobody else's keys move.
        let hashed = plan.balance.algorithm == Algorithm::Hash;
        let there = |j: &&Judged<'_>| {
            wanted(j) || hashed && j.member.server().backup == backup && j.weight > 0
        };
        let mut slots = Vec::new();
        let mut servers = Vec::new();
        for j in judged.iter().filter(there) {
            let endpoint = j.member.endpoint();
            let step = slow_start(endpoint, plan.slow_start, now, until);
            slots.push(Slot {
                endpoint: Arc::clone(endpoint),
                id: endpoint.id(),
                weight: j.weight * step,
                most: j.member.server().max_connections,
                share: if wanted(j) { WHOLE * step / STEPS } else { 0 },
            });
            if hashed {
                servers.push(in_table(j.member));
            }
        }
        let weights: Vec<u32> = slots.iter().map(|slot| slot.weight).collect();
        let turn = shared.turn(backup);
        let balancer = match plan.balance.algorithm {
            Algorithm::RoundRobin => {
                Balancer::RoundRobin(balance::round_robin::RoundRobin::new(&weights, turn))
            }
            Algorithm::LeastConnections => Balancer::LeastConnections(
                balance::least_connections::LeastConnections::new(&weights, turn),
            ),
            Algorithm::LeastResponseTime => Balancer::LeastResponseTime(
                balance::least_response_time::LeastResponseTime::new(turn),
            ),
            Algorithm::RandomTwoChoices => Balancer::RandomTwoChoices(
                balance::random_two_choices::RandomTwoChoices::new(&weights),
            ),
            Algorithm::Random => Balancer::Random(balance::random::Random::new(&weights)),
            Algorithm::First => Balancer::First(balance::first::First),
            Algorithm::Hash => {
                let table = self.table(backup, servers);
                Balancer::Hash(balance::hash::Hash::new(table, plan.balance.bounded_load))
            }
        };
        Some(Tier {
            slots: slots.into(),
            balancer,
            backup,
        })
    }

    /// The table for those servers, built only if they changed.
    fn table(&mut self, backup: bool, servers: Vec<maglev::Server>) -> Arc<maglev::Table> {
        let kept = &mut self.tables[usize::from(backup)];
        if let Some((same, table)) = kept
            && *same == servers
        {
            return Arc::clone(table);
        }
        let table = Arc::new(maglev::Table::new(
            &servers,
            maglev::size_for(servers.len()),
        ));
        *kept = Some((servers, Arc::clone(&table)));
        table
    }
}

fn in_table(member: &Member) -> maglev::Server {
    maglev::Server {
        identity: member.identity(),
        weight: member.weight(),
    }
}

fn judge<'a>(plan: &PoolPlan, members: &'a [Member], now: Tick) -> Vec<Judged<'a>> {
    // "New servers take traffic only after `rise` successes, unless no server of the pool has yet been checked":
    // as long as none was ever found to be up, those whose checks have not failed so far are used, else
    // a pool that starts would refuse its first clients.
    let unknown = plan.health.is_some() && !members.iter().any(|m| m.endpoint().ever_up());
    let unfailed =
        |m: &Member| m.endpoint().health() == Health::Probing && !m.endpoint().last_check_failed();
    let any_unfailed = members.iter().any(unfailed);
    let healthy = |m: &Member| {
        plan.health.is_none()
            || match m.endpoint().health() {
                Health::Up => true,
                Health::Probing => unknown && (!any_unfailed || unfailed(m)),
                Health::Down => false,
            }
    };
    let judge = |member: &'a Member| {
        let weight = member.weight();
        Judged {
            member,
            weight,
            good: weight > 0 && !member.endpoint().draining() && healthy(member),
            ejected: plan.outliers.is_some() && member.endpoint().is_ejected(now),
        }
    };
    members.iter().map(judge).collect()
}

/// Decides about those that raised their hand.
fn eject(plan: &PoolPlan, judged: &mut [Judged<'_>], now: Tick) {
    let Some(outliers) = &plan.outliers else {
        return;
    };
    let most = outlier::most_ejected(outliers, judged.len());
    for i in 0..judged.len() {
        let endpoint = judged[i].member.endpoint();
        if !endpoint.outlier.suspect() {
            continue;
        }
        let out = judged.iter().filter(|j| j.ejected).count();
        let others = judged
            .iter()
            .enumerate()
            .any(|(k, j)| k != i && j.good && !j.ejected);
        if judged[i].ejected || out >= most || !others {
            endpoint.outlier.spare();
            continue;
        }
        endpoint.outlier.eject(now, outliers);
        endpoint.stats().here().ejections.inc();
        judged[i].ejected = true;
    }
}

/// Twentieths of its weight that a server has; brings `until` forward to its next step.
fn slow_start(endpoint: &Endpoint, over: Duration, now: Tick, until: &mut Tick) -> u32 {
    if over.is_zero() {
        return STEPS;
    }
    let Some(since) = endpoint.up_since(now) else {
        return STEPS;
    };
    let steps = STEPS - FIRST_STEP;
    let passed = now.since(since).as_nanos() * u128::from(steps) / over.as_nanos().max(1);
    let passed = passed.min(u128::from(steps)) as u32;
    if passed < steps {
        // Rounded up: at that moment the step is due, not just short of it.
        let next = (over.as_nanos() * u128::from(passed + 1)).div_ceil(u128::from(steps));
        *until =
            (*until).min(since + Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX)));
    }
    FIRST_STEP + passed
}
