//! What a pool promises, on a clock that the test sets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::*;
use crate::plan::{
    AffinityPlan, Algorithm, BalancePlan, HashOn, HealthPlan, KeepalivePlan, Origin, OutlierPlan,
    ProbePlan, QueuePlan, ServerPlan, ServerProtocol,
};
use crate::{Endpoint, Health};

fn origin() -> Origin {
    Origin {
        file: "fathom.toml".into(),
        line: 1,
    }
}

fn server(last: u8) -> ServerPlan {
    let address = format!("10.0.0.{last}:80");
    ServerPlan {
        name: address.as_str().into(),
        address: ServerAddress::Ip(address.parse().unwrap()),
        weight: 1,
        backup: false,
        max_connections: None,
        origin: origin(),
    }
}

fn plan(algorithm: Algorithm, servers: Vec<ServerPlan>) -> PoolPlan {
    PoolPlan {
        name: "web".into(),
        origin: origin(),
        balance: BalancePlan {
            algorithm,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers,
        health: None,
        outliers: None,
        slow_start: Duration::ZERO,
        affinity: None,
        tls: None,
        protocol: ServerProtocol::Http1,
        keepalive: KeepalivePlan {
            idle: 256,
            timeout: Duration::from_secs(60),
        },
        queue: None,
        proxy_protocol: None,
    }
}

fn round_robin(servers: u8) -> PoolPlan {
    plan(Algorithm::RoundRobin, (1..=servers).map(server).collect())
}

fn health() -> HealthPlan {
    HealthPlan {
        probe: ProbePlan::Tcp,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        fast_interval: Duration::from_secs(1),
        port: None,
        origin: origin(),
    }
}

fn pool(plan: PoolPlan) -> Arc<Pool> {
    Pool::new(Arc::new(plan), &Endpoints::new(), None)
}

fn at(seconds: u64) -> Tick {
    Tick::from_millis(1_000_000 + seconds * 1000)
}

fn cx(now: Tick) -> Pick<'static> {
    Pick {
        now,
        ..Pick::default()
    }
}

fn last(endpoint: &Endpoint) -> u8 {
    match endpoint.ip().unwrap().ip() {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => unreachable!(),
    }
}

/// The last byte of the addresses chosen by `n` picks that end at once.
fn picks(pool: &Pool, now: Tick, n: usize) -> Vec<u8> {
    let one = |i: usize| {
        let random = hash::mix(i as u64);
        let hash = Some(hash::mix(random));
        let pick = Pick {
            now,
            random,
            hash,
            ..Pick::default()
        };
        pool.pick(&pick).map_or(0, |lease| last(lease.endpoint()))
    };
    (0..n).map(one).collect()
}

fn counts(pool: &Pool, now: Tick, n: usize) -> HashMap<u8, usize> {
    let mut counts = HashMap::new();
    for who in picks(pool, now, n) {
        *counts.entry(who).or_default() += 1;
    }
    counts
}

fn endpoint(pool: &Pool, who: u8) -> Arc<Endpoint> {
    let members = pool.members();
    let member = members.iter().find(|m| last(m.endpoint()) == who).unwrap();
    Arc::clone(member.endpoint())
}

const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::LeastResponseTime,
    Algorithm::RandomTwoChoices,
    Algorithm::Random,
    Algorithm::First,
    Algorithm::Hash,
];

#[test]
fn two_servers_alternate() {
    assert_eq!(picks(&pool(round_robin(2)), at(0), 6), [1, 2, 1, 2, 1, 2]);
}

#[test]
fn every_algorithm_honours_everything() {
    for algorithm in ALGORITHMS {
        let mut servers: Vec<_> = (1..=6).map(server).collect();
        servers[0].max_connections = Some(0);
        servers[1].weight = 0;
        servers[5].backup = true;
        let pool = pool(PoolPlan {
            health: Some(health()),
            ..plan(algorithm, servers)
        });
        for who in [1, 2, 4, 5, 6] {
            endpoint(&pool, who).set_health(at(0), Health::Up);
        }
        endpoint(&pool, 3).set_health(at(0), Health::Down);
        endpoint(&pool, 4).set_draining(true);
        assert_eq!(picks(&pool, at(1), 50), [5; 50], "{algorithm:?}");

        let tried = [endpoint(&pool, 5).id()];
        let again = |exclude| {
            let pick = Pick {
                exclude,
                ..cx(at(1))
            };
            pool.pick(&pick).map(|l| last(l.endpoint()))
        };
        assert_eq!(again(&tried), Ok(6), "{algorithm:?}: a backup is next");
        let tried = [5, 6, 1].map(|who| endpoint(&pool, who).id());
        assert_eq!(again(&tried), Err(NoServer::AllExcluded), "{algorithm:?}");
        assert_eq!(again(&tried[..2]), Err(NoServer::AllFull), "{algorithm:?}");

        endpoint(&pool, 5).set_health(at(2), Health::Down);
        pool.set_draining("10.0.0.1:80", true).unwrap();
        assert_eq!(picks(&pool, at(2), 5), [6; 5], "{algorithm:?}");
        endpoint(&pool, 6).set_health(at(2), Health::Down);
        assert_eq!(
            pool.pick(&cx(at(2))).unwrap_err(),
            NoServer::AllDown,
            "{algorithm:?}"
        );
        pool.set_weight("10.0.0.2:80", Some(3)).unwrap();
        assert_eq!(picks(&pool, at(2), 5), [2; 5], "{algorithm:?}");
    }
}

#[test]
fn weights_are_kept_by_those_that_have_them() {
    use Algorithm::*;
    for (algorithm, tolerance) in [
        (RoundRobin, 0),
        (LeastConnections, 0),
        (Random, 600),
        (Hash, 600),
    ] {
        let mut servers: Vec<_> = (1..=3).map(server).collect();
        servers[1].weight = 2;
        servers[2].weight = 5;
        let pool = pool(plan(algorithm, servers));
        let counts = counts(&pool, at(0), 16_000);
        for (who, fair) in [(1, 2_000), (2, 4_000), (3, 10_000_usize)] {
            let off = counts[&who].abs_diff(fair);
            assert!(off <= tolerance, "{algorithm:?} {counts:?}");
        }
    }
}

#[test]
fn first_fills_in_order() {
    let mut servers: Vec<_> = (1..=3).map(server).collect();
    servers[0].max_connections = Some(2);
    servers[1].max_connections = Some(1);
    let pool = pool(plan(Algorithm::First, servers));
    let leases: Vec<_> = (0..4).map(|_| pool.pick(&cx(at(0))).unwrap()).collect();
    let who: Vec<_> = leases.iter().map(|l| last(l.endpoint())).collect();
    assert_eq!(who, [1, 1, 2, 3]);
}

#[test]
fn empty_is_told_from_down() {
    let mut named = server(1);
    named.address = ServerAddress::Name {
        host: "db.example".into(),
        port: 5432,
    };
    named.name = "db.example:5432".into();
    let registry = Endpoints::new();
    let plan = Arc::new(plan(Algorithm::RoundRobin, vec![named, server(9)]));
    let pool = Pool::new(Arc::clone(&plan), &registry, None);
    pool.set_members(Vec::new());
    assert_eq!(pool.pick(&cx(at(0))).unwrap_err(), NoServer::Empty);

    let pool = Pool::new(Arc::clone(&plan), &registry, None);
    let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
    assert_eq!(picks(&pool, at(0), 2), [9, 9]);
    assert!(pool.set_resolved("db.example", 5432, &[ip(2), ip(1), ip(2)]));
    assert!(!pool.set_resolved("db.example", 5432, &[ip(1), ip(2)]));
    let names: Vec<_> = pool.members().iter().map(|m| m.endpoint().name()).collect();
    assert_eq!(
        names.iter().map(|n| &**n).collect::<Vec<_>>(),
        [
            "db.example:5432/10.0.0.1:5432",
            "db.example:5432/10.0.0.2:5432",
            "10.0.0.9:80"
        ]
    );
    let one = endpoint(&pool, 1);

    let next = Pool::new(plan, &registry, Some(&pool));
    assert_eq!(next.members().len(), 3, "a reload keeps what was resolved");
    assert!(next.set_resolved("db.example", 5432, &[ip(1)]));
    assert!(Arc::ptr_eq(&one, &endpoint(&next, 1)));
    assert_eq!(next.members().len(), 2);
    next.set_draining("db.example:5432", true).unwrap();
    assert!(one.draining());
    assert_eq!(next.set_draining("nobody", true), Err(UnknownServer));
}

#[test]
fn a_pool_that_starts_serves_before_its_first_verdict() {
    let pool = pool(PoolPlan {
        health: Some(health()),
        ..round_robin(3)
    });
    assert_eq!(counts(&pool, at(0), 9).len(), 3);
    let report = |ok| crate::CheckReport {
        at: at(1),
        ok,
        took: Duration::ZERO,
        detail: String::new(),
    };
    endpoint(&pool, 2).record_check(report(false));
    assert_eq!(
        counts(&pool, at(1), 9).len(),
        2,
        "one that failed its check is left out"
    );
    endpoint(&pool, 1).set_health(at(2), Health::Up);
    assert_eq!(
        picks(&pool, at(2), 4),
        [1; 4],
        "from then on only those found up"
    );
    for who in [1, 2, 3] {
        endpoint(&pool, who).set_health(at(3), Health::Down);
    }
    assert_eq!(pool.pick(&cx(at(3))).unwrap_err(), NoServer::AllDown);
    assert_eq!(pool.stats().sum(|c| &c.no_server), 1);
}

#[test]
fn a_new_server_probes_first_but_a_wholly_new_pool_serves() {
    let registry = Endpoints::new();
    let checked = |servers: Vec<u8>| {
        let servers = servers.into_iter().map(server).collect();
        Arc::new(PoolPlan {
            health: Some(health()),
            ..plan(Algorithm::RoundRobin, servers)
        })
    };
    let first = Pool::new(checked(vec![1]), &registry, None);
    endpoint(&first, 1).set_health(at(0), Health::Up);
    let second = Pool::new(checked(vec![1, 2]), &registry, Some(&first));
    assert_eq!(picks(&second, at(1), 3), [1; 3]);
    let third = Pool::new(checked(vec![3, 4]), &registry, Some(&second));
    assert_eq!(counts(&third, at(2), 4).len(), 2);
}

#[test]
fn slow_start_grows_from_a_tenth() {
    let pool = pool(PoolPlan {
        health: Some(health()),
        slow_start: Duration::from_secs(90),
        ..round_robin(2)
    });
    for who in [1, 2] {
        endpoint(&pool, who).set_health(at(0), Health::Up);
    }
    assert_eq!(
        counts(&pool, at(0), 1000)[&1],
        500,
        "a pool that starts, starts at once"
    );
    endpoint(&pool, 2).set_health(at(10), Health::Down);
    endpoint(&pool, 2).set_health(at(100), Health::Up);
    for (seconds, share) in [(100, 0.1), (145, 0.55), (189, 0.95), (190, 1.0), (999, 1.0)] {
        let n = 21_000;
        let had = counts(&pool, at(seconds), n)[&2] as f64;
        let fair = n as f64 * share / (1.0 + share);
        assert!(
            (had / fair - 1.0).abs() < 0.02,
            "{seconds}: {had} for {fair}"
        );
    }
}

#[test]
fn outliers_are_ejected_but_never_too_many() {
    let outliers = OutlierPlan {
        consecutive_errors: 3,
        eject: Duration::from_secs(30),
        max_ejected: 0.5,
    };
    let pool = pool(PoolPlan {
        outliers: Some(outliers),
        ..round_robin(4)
    });
    let err = |who: u8, now, times| {
        let id = endpoint(&pool, who).id();
        for _ in 0..times {
            let pick = Pick {
                prefer: Some(id),
                ..cx(now)
            };
            if let Ok(lease) = pool.pick(&pick)
                && lease.endpoint().id() == id
            {
                lease.failed(now);
            }
        }
        pool.refresh(now);
    };
    err(1, at(0), 2);
    assert_eq!(counts(&pool, at(0), 40).len(), 4);
    err(1, at(0), 1);
    assert!(endpoint(&pool, 1).is_ejected(at(0)));
    assert_eq!(counts(&pool, at(1), 40).len(), 3);
    err(2, at(1), 3);
    err(3, at(1), 9);
    assert_eq!(counts(&pool, at(2), 40).len(), 2, "half of them at most");
    let status = &pool.servers(at(2))[0];
    assert_eq!(status.ejected_for, Some(Duration::from_secs(28)));
    assert_eq!(status.endpoint.stats().sum(|c| &c.ejections), 1);
    assert_eq!(counts(&pool, at(30), 40).len(), 3, "back after its time");
    assert_eq!(counts(&pool, at(31), 40).len(), 4);
}

#[test]
fn the_last_usable_is_never_ejected_and_the_ejected_are_better_than_none() {
    let outliers = OutlierPlan {
        consecutive_errors: 1,
        eject: Duration::from_secs(30),
        max_ejected: 1.0,
    };
    let pool = pool(PoolPlan {
        outliers: Some(outliers),
        health: Some(health()),
        ..round_robin(2)
    });
    for who in [1, 2] {
        endpoint(&pool, who).set_health(at(0), Health::Up);
    }
    for _ in 0..10 {
        pool.pick(&cx(at(0))).unwrap().failed(at(0));
    }
    assert_eq!(counts(&pool, at(1), 4).len(), 1);
    let left = picks(&pool, at(1), 1)[0];
    endpoint(&pool, left).set_health(at(2), Health::Down);
    let other = 3 - left;
    assert!(endpoint(&pool, other).is_ejected(at(2)));
    assert_eq!(picks(&pool, at(2), 3), [other; 3]);
}

#[test]
fn affinity_remembers_across_a_reload_and_moves_who_must() {
    let registry = Endpoints::new();
    let affinity = AffinityPlan {
        ttl: Duration::from_secs(60),
        capacity: 100,
    };
    let plan = Arc::new(PoolPlan {
        affinity: Some(affinity),
        ..round_robin(3)
    });
    let pool = Pool::new(Arc::clone(&plan), &registry, None);
    let go = |pool: &Pool, client: u8, now| {
        let source = Some(IpAddr::from([192, 0, 2, client]));
        let pick = Pick { source, ..cx(now) };
        last(pool.pick(&pick).unwrap().endpoint())
    };
    let first = go(&pool, 7, at(0));
    assert!((0..5).all(|i| go(&pool, 7, at(i)) == first));
    assert_ne!(go(&pool, 8, at(5)), first);
    let next = Pool::new(plan, &registry, Some(&pool));
    drop(pool);
    assert!((0..5).all(|i| go(&next, 7, at(50 + i)) == first));
    endpoint(&next, first).set_draining(true);
    let second = go(&next, 7, at(60));
    assert_ne!(second, first);
    endpoint(&next, first).set_draining(false);
    assert_eq!(
        go(&next, 7, at(61)),
        second,
        "moved for good while it comes within the time"
    );
    let cells = next.stats();
    assert_eq!(cells.sum(|c| &c.affinity_moves), 1);
    assert_eq!(cells.sum(|c| &c.affinity_hits), 11);
}

#[test]
fn a_preferred_server_is_taken_if_it_can_be() {
    let pool = pool(round_robin(3));
    let prefer = Some(endpoint(&pool, 2).id());
    let go = |exclude: &[EndpointId]| {
        let pick = Pick {
            prefer,
            exclude,
            ..cx(at(0))
        };
        last(pool.pick(&pick).unwrap().endpoint())
    };
    assert_eq!([go(&[]), go(&[]), go(&[])], [2; 3]);
    let tried = [endpoint(&pool, 2).id()];
    assert_ne!(go(&tried), 2);
    pool.set_weight("10.0.0.2:80", Some(0)).unwrap();
    assert_ne!(go(&[]), 2);
}

#[test]
fn a_reload_keeps_what_lives_on_endpoints() {
    let registry = Endpoints::new();
    let before = Pool::new(Arc::new(round_robin(2)), &registry, None);
    let lease = before.pick(&cx(at(0))).unwrap();
    lease.succeeded(at(0), Duration::from_millis(5));
    let one = Arc::clone(lease.endpoint());
    before.set_weight("10.0.0.1:80", Some(7)).unwrap();
    before.set_draining("10.0.0.2:80", true).unwrap();

    // A file without the server, while a connection still holds it; then one that has it again.
    let without = plan(Algorithm::RoundRobin, vec![server(2)]);
    let without = Pool::new(Arc::new(without), &registry, Some(&before));
    drop(before);
    let after = Pool::new(Arc::new(round_robin(2)), &registry, Some(&without));
    let again = endpoint(&after, 1);
    assert!(Arc::ptr_eq(&one, &again));
    assert_eq!(again.in_flight(), 1);
    assert_eq!(again.ewma_ns(at(0)), 5_000_000);
    assert_eq!(after.members()[0].weight(), 7);
    assert!(endpoint(&after, 2).draining());
    drop(lease);
    assert_eq!(again.in_flight(), 0);

    // The file's newer word on the weight wins.
    let mut heavier = round_robin(2);
    heavier.servers[0].weight = 3;
    let heavier = Pool::new(Arc::new(heavier), &registry, Some(&after));
    assert_eq!(heavier.members()[0].weight(), 3);

    // Forgotten when nobody has it.
    drop((one, again, after, heavier, without));
    assert!(registry.all().is_empty());
    let fresh = Pool::new(Arc::new(round_robin(2)), &registry, None);
    assert_eq!(fresh.members()[0].weight(), 1);
}

#[test]
fn the_packet_depth_sees_who_serves() {
    let mut servers: Vec<_> = (1..=3).map(server).collect();
    servers[1].weight = 4;
    servers[2].backup = true;
    let pool = pool(plan(Algorithm::Hash, servers));
    let who = |serving: &Serving| -> Vec<_> {
        let one = |(m, w): &(Member, u32)| (last(m.endpoint()), *w);
        serving.servers.iter().map(one).collect()
    };
    let serving = pool.serving(at(0));
    assert_eq!(who(&serving), [(1, 20), (2, 80)]);
    assert_eq!(serving.generation, pool.generation());
    pool.set_draining("10.0.0.2:80", true).unwrap();
    assert_ne!(serving.generation, pool.generation());
    assert_eq!(who(&pool.serving(at(0))), [(1, 20)]);
    pool.set_draining("10.0.0.1:80", true).unwrap();
    assert_eq!(who(&pool.serving(at(0))), [(3, 20)]);
}

// ---- waiting

fn queued(most: u32, length: usize) -> PoolPlan {
    let mut servers = vec![server(1)];
    servers[0].max_connections = Some(most);
    PoolPlan {
        queue: Some(QueuePlan {
            length,
            timeout: Duration::from_secs(5),
        }),
        ..plan(Algorithm::LeastConnections, servers)
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_line_is_served_in_order_and_nobody_jumps_it() {
    let pool = pool(queued(1, 2));
    let lease = pool.pick(&cx(at(0))).unwrap();
    let mut a = pin!(pool.pick_queued(|| cx(at(1))));
    let mut b = pin!(pool.pick_queued(|| cx(at(1))));
    let mut c = pin!(pool.pick_queued(|| cx(at(1))));
    assert!(poll(a.as_mut()).is_pending());
    assert!(poll(b.as_mut()).is_pending());
    let Poll::Ready(Err(NoServer::QueueFull)) = poll(c.as_mut()) else {
        panic!("the line is two long")
    };
    drop(lease);
    assert_eq!(
        pool.pick(&cx(at(2))).unwrap_err(),
        NoServer::AllFull,
        "others wait already"
    );
    assert!(poll(b.as_mut()).is_pending(), "not its turn");
    let Poll::Ready(Ok(lease)) = poll(a.as_mut()) else {
        panic!("its turn")
    };
    assert!(poll(b.as_mut()).is_pending());
    drop(lease);
    assert!(matches!(poll(b.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(pool.stats().level(|c| &c.waiting), 0);
    assert_eq!(pool.stats().sum(|c| &c.queued), 2);
    assert_eq!(pool.stats().merge(|c| &c.queue_time).count(), 2);
}

#[test]
fn who_waits_hears_of_servers_that_come_and_go() {
    let mut plan = queued(1, 9);
    plan.health = Some(health());
    plan.servers.push(server(2));
    let pool = pool(plan);
    endpoint(&pool, 1).set_health(at(0), Health::Up);
    endpoint(&pool, 2).set_health(at(0), Health::Down);
    let held = pool.pick(&cx(at(0))).unwrap();
    let mut a = pin!(pool.pick_queued(|| cx(at(1))));
    assert!(poll(a.as_mut()).is_pending());
    endpoint(&pool, 2).set_health(at(2), Health::Up);
    let Poll::Ready(Ok(lease)) = poll(a.as_mut()) else {
        panic!("a server came up")
    };
    assert_eq!(last(lease.endpoint()), 2);
    endpoint(&pool, 2).set_health(at(3), Health::Down);
    let mut b = pin!(pool.pick_queued(|| cx(at(4))));
    assert!(poll(b.as_mut()).is_pending());
    endpoint(&pool, 1).set_health(at(5), Health::Down);
    let Poll::Ready(Err(NoServer::AllDown)) = poll(b.as_mut()) else {
        panic!("nothing to wait for")
    };
    drop(held);
}

#[test]
fn who_waits_hears_of_an_ejection_that_ends() {
    let mut plan = queued(1, 9);
    plan.servers[0].max_connections = None;
    plan.servers.push(server(2));
    plan.servers[1].max_connections = Some(1);
    plan.outliers = Some(OutlierPlan {
        consecutive_errors: 1,
        eject: Duration::from_secs(30),
        max_ejected: 0.5,
    });
    let pool = pool(plan);
    let prefer = |who| Pick {
        prefer: Some(endpoint(&pool, who).id()),
        ..cx(at(0))
    };
    let held = pool.pick(&prefer(2)).unwrap();
    pool.pick(&prefer(1)).unwrap().failed(at(0));
    let now = std::cell::Cell::new(at(0));
    let mut waiter = pin!(pool.pick_queued(|| cx(now.get())));
    assert!(poll(waiter.as_mut()).is_pending(), "ejected, and full");
    for seconds in [1, 29] {
        now.set(at(seconds));
        pool.tick(now.get());
        assert!(poll(waiter.as_mut()).is_pending(), "after {seconds} s");
    }
    now.set(at(30));
    pool.tick(now.get());
    let Poll::Ready(Ok(lease)) = poll(waiter.as_mut()) else {
        panic!("its time is over")
    };
    assert_eq!(last(lease.endpoint()), 1);
    drop(held);
}

#[test]
fn who_waits_for_a_pool_of_before_a_reload_keeps_nobody_from_room() {
    let registry = Endpoints::new();
    let old = Pool::new(Arc::new(queued(1, 9)), &registry, None);
    let mut plan = queued(1, 9);
    plan.servers[0] = ServerPlan {
        max_connections: Some(1),
        ..server(2)
    };
    let new = Pool::new(Arc::new(plan), &registry, Some(&old));
    let there = old.pick(&cx(at(0))).unwrap();
    let here = new.pick(&cx(at(0))).unwrap();
    let mut before = pin!(old.pick_queued(|| cx(at(1))));
    let mut after = pin!(new.pick_queued(|| cx(at(1))));
    assert!(poll(before.as_mut()).is_pending());
    assert!(poll(after.as_mut()).is_pending());
    drop(here);
    assert!(
        poll(before.as_mut()).is_pending(),
        "that was no room of its"
    );
    assert!(matches!(poll(after.as_mut()), Poll::Ready(Ok(_))));
    drop(there);
    assert!(matches!(poll(before.as_mut()), Poll::Ready(Ok(_))));
}

struct Unpark(std::thread::Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A lost wake-up would leave a thread parked for ever.
#[test]
fn no_wake_up_is_lost_among_threads_that_come_go_and_give_up() {
    const THREADS: usize = 8;
    let pool = pool(queued(2, 1000));
    let inside = Arc::new(AtomicU32::new(0));
    let (done, finished) = std::sync::mpsc::channel();
    for thread in 0..THREADS {
        let (pool, inside, done) = (Arc::clone(&pool), Arc::clone(&inside), done.clone());
        std::thread::spawn(move || {
            for round in 0..2_000 {
                if (round + thread) % 5 == 0 {
                    // Gives up after one look.
                    let _ = poll(pin!(pool.pick_queued(|| cx(at(0)))));
                    continue;
                }
                let lease = block_on(pool.pick_queued(|| cx(at(0)))).unwrap();
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                if round % 3 == 0 {
                    std::thread::yield_now();
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(lease);
            }
            done.send(()).unwrap();
        });
    }
    for _ in 0..THREADS {
        let in_time = finished.recv_timeout(Duration::from_secs(120));
        in_time.expect("a thread still waits, or failed");
    }
    assert_eq!(pool.queue().waiting(), 0);
    assert_eq!(endpoint(&pool, 1).in_flight(), 0);
}

/// Picks from many threads while everything about the pool changes: none panics, none goes to a stranger.
#[test]
fn picks_stand_all_changes() {
    let registry = Endpoints::new();
    let mut servers: Vec<_> = (1..=5).map(server).collect();
    servers[4].backup = true;
    let plan = PoolPlan {
        health: Some(health()),
        slow_start: Duration::from_secs(1),
        ..plan(Algorithm::LeastConnections, servers)
    };
    let pool = Pool::new(Arc::new(plan), &registry, None);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let pool = &pool;
            scope.spawn(move || {
                for i in 0..5_000 {
                    let now = Tick::from_millis(1000 + i);
                    match pool.pick(&cx(now)) {
                        Ok(lease) if i % 7 == worker => lease.failed(now),
                        Ok(lease) => lease.succeeded(now, Duration::from_micros(i)),
                        Err(why) => assert_eq!(why, NoServer::AllDown),
                    }
                }
            });
        }
        let pool = &pool;
        scope.spawn(move || {
            for i in 0..2_000_u64 {
                let endpoint = endpoint(pool, (hash::mix(i) % 5) as u8 + 1);
                let now = Tick::from_millis(1000 + i);
                match i % 4 {
                    0 => drop(endpoint.set_health(now, Health::Down)),
                    1 => endpoint.set_draining(i % 8 == 1),
                    2 => endpoint.set_weight_override(1, Some(i as u32 % 50)),
                    _ => drop(endpoint.set_health(now, Health::Up)),
                }
            }
        });
    });
    assert!(pool.servers(at(0)).iter().all(|s| s.in_flight == 0));
}
