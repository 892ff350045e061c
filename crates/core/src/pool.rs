//! A pool: servers to choose from, and the one way to choose, at every depth.
//!
//! [`Pool::pick`] reads one immutable [`View`]: who is usable, with which weight, and the balancing
//! algorithm ready for them. Whatever changes that (health, ejection, draining, weights, members, time) makes
//! the view stale, and the next choice builds another; in between, a choice takes no lock and allocates nothing.

mod lease;
mod member;
mod shared;
mod view;

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::ArcSwap;
use fathom_balance::Key;

use crate::affinity;
use crate::endpoint::{Endpoint, EndpointId};
use crate::endpoints::Endpoints;
use crate::plan::{PoolPlan, ServerAddress};
use crate::queue::{Queue, Ticket};
use crate::stats::PoolStats;
use crate::{Tick, hash};

pub use lease::Lease;
pub use member::{Member, ServerStatus, Serving};
pub(crate) use shared::Shared;
use view::{Builder, Tier, View};

/// A pool of servers, as one configuration describes it.
#[derive(Debug)]
pub struct Pool {
    plan: Arc<PoolPlan>,
    registry: Endpoints,
    /// What outlives a reload: by name, shared with the pool before and after.
    shared: Arc<Shared>,
    members: ArcSwap<Vec<Member>>,
    view: ArcSwap<View>,
    /// Held while a view is built or members are changed.
    builder: Mutex<Builder>,
}

/// What a choice depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pick<'a> {
    /// The present moment.
    pub now: Tick,
    /// Random bits.
    pub random: u64,
    /// The client, for `affinity` (and `hash` without a hash).
    pub source: Option<IpAddr>,
    /// Hash of what `hash_on` names.
    pub hash: Option<u64>,
    /// Whom a cookie names: taken if usable.
    pub prefer: Option<EndpointId>,
    /// Those that were tried already.
    pub exclude: &'a [EndpointId],
    /// May be served before those that wait in the queue: for who has waited, or is on a second attempt.
    pub overtake: bool,
}

/// Why there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoServer {
    /// The pool has none (names that resolve to nothing).
    Empty,
    /// None may be used: down, draining, without weight.
    AllDown,
    /// Every one is at its `max_connections`, or others wait already: see [`Pool::wait`].
    AllFull,
    /// Every one was tried already.
    AllExcluded,
    /// Every one is full and the queue is too ([`Pool::pick_queued`]).
    QueueFull,
}

impl NoServer {
    /// Its reason code.
    #[must_use]
    pub const fn reason(self) -> crate::Reason {
        match self {
            Self::Empty => crate::Reason::PoolEmpty,
            Self::AllDown => crate::Reason::NoServer,
            Self::AllFull => crate::Reason::PoolFull,
            Self::AllExcluded => crate::Reason::ServersExhausted,
            Self::QueueFull => crate::Reason::QueueFull,
        }
    }
}

/// The pool has no server of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownServer;

impl Pool {
    /// Builds it from its plan. Endpoints, affinity, turns and queue go on from earlier pools of the same name in
    /// `registry`; what host names resolved to is taken over from `previous`.
    #[must_use]
    pub fn new(plan: Arc<PoolPlan>, registry: &Endpoints, previous: Option<&Self>) -> Arc<Self> {
        let shared = registry.shared(&plan.name);
        let known = previous.map(|p| p.members.load_full()).unwrap_or_default();
        let mut members = Vec::with_capacity(plan.servers.len());
        for server in &plan.servers {
            let server = Arc::new(server.clone());
            match &server.address {
                ServerAddress::Name { .. } => {
                    let same = known
                        .iter()
                        .filter(|m| m.server().address == server.address);
                    members.extend(same.filter_map(|m| m.endpoint().ip()).map(|address| {
                        Member::new(registry, &plan, Arc::clone(&server), address.into())
                    }));
                }
                ServerAddress::Ip(address) => {
                    members.push(Member::new(
                        registry,
                        &plan,
                        Arc::clone(&server),
                        (*address).into(),
                    ));
                }
                ServerAddress::Unix(path) => {
                    members.push(Member::new(
                        registry,
                        &plan,
                        Arc::clone(&server),
                        path.clone().into(),
                    ));
                }
            }
        }
        let mut builder = Builder::default();
        builder.prepare(&plan, &members);
        Arc::new(Self {
            plan,
            registry: registry.clone(),
            shared,
            members: ArcSwap::from_pointee(members),
            view: ArcSwap::from_pointee(View::stale()),
            builder: Mutex::new(builder),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.plan.name
    }

    /// What it was built from.
    #[must_use]
    pub const fn plan(&self) -> &Arc<PoolPlan> {
        &self.plan
    }

    /// What is counted of it; goes on over reloads.
    #[must_use]
    pub fn stats(&self) -> &PoolStats {
        self.shared.stats()
    }

    /// Its remembered clients.
    #[must_use]
    pub fn affinity(&self) -> &affinity::Table {
        self.shared.affinity()
    }

    /// Who waits for a server.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        self.shared.queue()
    }

    /// Its members now.
    #[must_use]
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// The endpoint with that number, if it is a member.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.members
            .load()
            .iter()
            .find(|m| m.endpoint().id() == id)
            .map(|m| Arc::clone(m.endpoint()))
    }

    /// Replaces the members.
    pub fn set_members(&self, members: Vec<Member>) {
        let mut builder = self.building();
        builder.prepare(&self.plan, &members);
        self.members.store(Arc::new(members));
        drop(builder);
        self.shared.changed();
    }

    /// Says what a host name resolves to now. Addresses it had before keep their endpoints; an empty list removes
    /// all. Returns whether anything changed.
    pub fn set_resolved(&self, host: &str, port: u16, addresses: &[IpAddr]) -> bool {
        let mut builder = self.building();
        let before = self.members.load_full();
        let mut members = Vec::with_capacity(before.len());
        // In file order, whatever was resolved first: `first` goes by it.
        for server in &self.plan.servers {
            let is_this = matches!(&server.address, ServerAddress::Name { host: h, port: p } if h == host && *p == port);
            if is_this {
                let server = Arc::new(server.clone());
                let mut addresses = addresses.to_vec();
                addresses.sort_unstable();
                addresses.dedup();
                members.extend(addresses.into_iter().map(|ip| {
                    Member::new(
                        &self.registry,
                        &self.plan,
                        Arc::clone(&server),
                        SocketAddr::new(ip, port).into(),
                    )
                }));
            } else {
                members.extend(
                    before
                        .iter()
                        .filter(|m| m.server().name == server.name)
                        .cloned(),
                );
            }
        }
        let addresses = |members: &[Member]| {
            members
                .iter()
                .map(|m| m.endpoint().id())
                .collect::<Vec<_>>()
        };
        let changed = addresses(&before) != addresses(&members);
        if changed {
            builder.prepare(&self.plan, &members);
            self.members.store(Arc::new(members));
        }
        drop(builder);
        if changed {
            self.shared.changed();
        }
        changed
    }

    /// Starts or ends draining of a server (all addresses of that name).
    ///
    /// # Errors
    /// There is no such server.
    pub fn set_draining(&self, server: &str, draining: bool) -> Result<(), UnknownServer> {
        self.each_named(server, |m| m.endpoint().set_draining(draining))
    }

    /// Sets a server's weight at run time, or goes back to the file's. See [`Endpoint::weight_override`].
    ///
    /// # Errors
    /// There is no such server.
    pub fn set_weight(&self, server: &str, weight: Option<u32>) -> Result<(), UnknownServer> {
        self.each_named(server, |m| {
            m.endpoint().set_weight_override(m.server().weight, weight)
        })
    }

    fn each_named(&self, server: &str, act: impl Fn(&Member)) -> Result<(), UnknownServer> {
        // While it is held, choices go on by the view there is.
        let mut builder = self.building();
        let members = self.members.load();
        let mut named = members.iter().filter(|m| m.is_named(server)).peekable();
        if named.peek().is_none() {
            return Err(UnknownServer);
        }
        named.for_each(act);
        builder.prepare(&self.plan, &members);
        Ok(())
    }

    /// Chooses a server and takes a place on it: the client's remembered one, else one of the primaries by the
    /// balancing algorithm, else a backup.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(&self, cx: &Pick<'_>) -> Result<Lease, NoServer> {
        let cells = self.stats().here();
        cells.picks.inc();
        if !cx.overtake && self.plan.queue.is_some() && self.queue().waiting() > 0 {
            return Err(NoServer::AllFull);
        }
        let mut view = self.view.load();
        if self.is_stale(&view, cx.now) {
            self.try_refresh(cx.now);
            view = self.view.load();
        }
        let mut result = self.pick_from(&view, cx);
        // Somebody else was building: a refusal must not rest on an old view, or a wake-up would be lost.
        if result.is_err() && self.is_stale(&view, cx.now) {
            self.refresh(cx.now);
            result = self.pick_from(&self.view.load(), cx);
        }
        if result.is_err() {
            cells.no_server.inc();
        }
        result
    }

    /// As [`Pool::pick`], waiting in the queue while every server is full. The caller limits the time, by
    /// [`QueuePlan::timeout`](crate::plan::QueuePlan), and drops the future to give up; `cx` is asked anew at each try.
    ///
    /// For first attempts: who waits stands in everyone's way, and should not be choosy about servers.
    ///
    /// # Errors
    /// Why there is none; [`NoServer::AllFull`] only without a queue.
    pub async fn pick_queued<'a>(
        &self,
        mut cx: impl FnMut() -> Pick<'a>,
    ) -> Result<Lease, NoServer> {
        match self.pick(&cx()) {
            Err(NoServer::AllFull) if self.plan.queue.is_some() => {}
            done => return done,
        }
        let mut waiting = self.wait()?;
        let began = cx().now;
        loop {
            waiting.turn().await;
            let pick = Pick {
                overtake: true,
                ..cx()
            };
            match self.pick(&pick) {
                Err(NoServer::AllFull) => {}
                done => {
                    if done.is_ok() {
                        waiting.served = true;
                        self.stats().here().queue_time.record(pick.now.since(began));
                    }
                    return done;
                }
            }
        }
    }

    /// Joins the queue. Await [`Waiting::turn`], then [`Pool::pick`] with [`Pick::overtake`], and again while it says
    /// [`NoServer::AllFull`]. ([`Pool::pick_queued`] does that.)
    ///
    /// # Errors
    /// [`NoServer::AllFull`] without a queue, [`NoServer::QueueFull`] when it is full.
    pub fn wait(&self) -> Result<Waiting, NoServer> {
        let plan = self.plan.queue.as_ref().ok_or(NoServer::AllFull)?;
        let ticket = self
            .queue()
            .join(plan.length)
            .map_err(|_| NoServer::QueueFull)?;
        let cells = self.stats().here();
        cells.queued.inc();
        cells.waiting.add(1);
        Ok(Waiting {
            ticket,
            shared: Arc::clone(&self.shared),
            looked: false,
            served: false,
        })
    }

    fn pick_from(&self, view: &View, cx: &Pick<'_>) -> Result<Lease, NoServer> {
        let Some(first) = view.tiers.first() else {
            return Err(view.why);
        };
        if let Some(lease) = cx.prefer.and_then(|id| self.bound(first, id, cx)) {
            return Ok(lease);
        }
        let affinity = self.plan.affinity.as_ref().zip(cx.source);
        // A full server's clients come back to it; all others that cannot have theirs are moved for good.
        let mut remember = true;
        if let Some((plan, source)) = affinity
            && let Some(id) = self.affinity().recall(plan, source, cx.now)
        {
            if let Some(lease) = self.bound(first, id, cx) {
                self.stats().here().affinity_hits.inc();
                return Ok(lease);
            }
            remember = cx.exclude.contains(&id) || first.index_of(id).is_none();
            if remember {
                self.stats().here().affinity_moves.inc();
            }
        }
        let key = Key {
            random: cx.random,
            hash: cx
                .hash
                .or_else(|| cx.source.map(hash::ip))
                .unwrap_or(cx.random),
        };
        for tier in &view.tiers {
            if let Some(lease) = self.pick_in(tier, cx, &key) {
                if tier.backup {
                    self.stats().here().backups.inc();
                }
                if remember && let Some((plan, source)) = affinity {
                    self.affinity()
                        .remember(plan, source, lease.endpoint().id(), cx.now);
                }
                return Ok(lease);
            }
        }
        let full = view
            .tiers
            .iter()
            .any(|tier| tier.has_any_not_in(cx.exclude));
        Err(if full {
            NoServer::AllFull
        } else {
            NoServer::AllExcluded
        })
    }

    fn pick_in(&self, tier: &Tier, cx: &Pick<'_>, key: &Key) -> Option<Lease> {
        let mut key = *key;
        // The place may be taken between looking and entering; the next look sees that.
        for _ in 0..8 {
            let i = tier.balancer.pick(&tier.candidates(cx), &key)?;
            if let Some(lease) = self.enter(tier, i) {
                return Some(lease);
            }
            key.random = hash::mix(key.random);
        }
        None
    }

    /// The server a client is bound to, if it can be used.
    fn bound(&self, tier: &Tier, id: EndpointId, cx: &Pick<'_>) -> Option<Lease> {
        if cx.exclude.contains(&id) {
            return None;
        }
        self.enter(tier, tier.index_of(id)?)
    }

    fn enter(&self, tier: &Tier, index: usize) -> Option<Lease> {
        let slot = &tier.slots[index];
        let errors = self
            .plan
            .outliers
            .as_ref()
            .map_or(0, |o| o.consecutive_errors);
        slot.endpoint
            .enter(slot.most)
            .then(|| Lease::new(Arc::clone(&slot.endpoint), errors))
    }

    fn is_stale(&self, view: &View, now: Tick) -> bool {
        view.generation != self.shared.generation() || now >= view.until
    }

    fn building(&self) -> MutexGuard<'_, Builder> {
        self.builder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds a new view unless somebody is at it.
    fn try_refresh(&self, now: Tick) {
        match self.builder.try_lock() {
            Ok(builder) => self.rebuild(builder, now),
            Err(TryLockError::Poisoned(poisoned)) => self.rebuild(poisoned.into_inner(), now),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Takes in what has changed: decides about servers that err (ejection), moves weights of those that start
    /// slowly. Every choice does so by itself; control threads call it to see the present state.
    pub fn refresh(&self, now: Tick) {
        self.rebuild(self.building(), now);
    }

    fn rebuild(&self, mut builder: MutexGuard<'_, Builder>, now: Tick) {
        let before = self.view.load();
        if !self.is_stale(&before, now) {
            return;
        }
        let view = builder.build(&self.plan, &self.members.load(), &self.shared, now);
        self.view.store(Arc::new(view));
        drop(builder);
        // By time alone somebody may be back; whoever changes something else wakes by himself.
        if now >= before.until {
            self.queue().wake_all();
        }
    }

    /// Sees to it that those who wait learn of what changes by time alone, such as the end of an ejection, even if
    /// nobody else comes to choose. To be called now and then.
    pub fn tick(&self, now: Tick) {
        if self.queue().waiting() > 0 && self.is_stale(&self.view.load(), now) {
            self.refresh(now);
        }
    }

    /// Every server as it is now, for people.
    #[must_use]
    pub fn servers(&self, now: Tick) -> Vec<ServerStatus> {
        self.refresh(now);
        let view = self.view.load();
        self.members
            .load()
            .iter()
            .map(|m| m.status(&self.plan, &view, now))
            .collect()
    }

    /// Who gets new work now and with which weights: for the packet depth's table.
    #[must_use]
    pub fn serving(&self, now: Tick) -> Serving {
        self.refresh(now);
        let view = self.view.load();
        let members = self.members.load();
        let servers = view
            .tiers
            .first()
            .into_iter()
            .flat_map(|tier| tier.slots.iter())
            .filter(|slot| slot.share > 0);
        let member = |id| members.iter().find(|m| m.endpoint().id() == id).cloned();
        Serving {
            generation: view.generation,
            until: view.until,
            servers: servers
                .filter_map(|slot| Some((member(slot.id)?, slot.weight)))
                .collect(),
        }
    }

    /// Changes with everything that may change [`Pool::serving`], besides time.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }
}

/// A place in a pool's queue.
#[derive(Debug)]
pub struct Waiting {
    ticket: Ticket,
    shared: Arc<Shared>,
    /// It had its turn before.
    looked: bool,
    served: bool,
}

impl Waiting {
    /// Resolves when there may be room; may be awaited again, the place in the line is kept.
    pub async fn turn(&mut self) {
        // The room was none for this one, whose pool may be that of an earlier configuration: somebody
        // behind it may have use for it.
        if std::mem::replace(&mut self.looked, true) {
            self.ticket.pass_on();
        }
        poll_fn(|task| Pin::new(&mut self.ticket).poll(task)).await;
    }

    /// Says that a server was found: it was no wait in vain.
    pub fn served(mut self) {
        self.served = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let cells = self.shared.stats().here();
        cells.waiting.add(-1);
        if !self.served {
            cells.queue_timeouts.inc();
        }
    }
}

#[cfg(test)]
mod tests;
