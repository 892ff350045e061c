//! Plans and a runtime for the tests of this crate.
#![allow(dead_code)] // each test program uses its part of it

use std::sync::LazyLock;
use std::time::Duration;

use fathom_core::plan::{
    Algorithm, BalancePlan, HashOn, HealthPlan, KeepalivePlan, Origin, PoolPlan, ProbePlan,
    ServerAddress, ServerPlan, ServerProtocol,
};
use tokio::runtime::{Handle, Runtime};

/// The control path of the test program.
pub(crate) fn runtime() -> Handle {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.handle().clone()
}

fn origin() -> Origin {
    Origin {
        file: "fathom.toml".into(),
        line: 1,
    }
}

/// A pool without servers.
pub(crate) fn pool_plan(name: &str) -> PoolPlan {
    PoolPlan {
        name: name.into(),
        origin: origin(),
        balance: BalancePlan {
            algorithm: Algorithm::RoundRobin,
            hash_on: HashOn::SourceIp,
            bounded_load: None,
        },
        servers: Vec::new(),
        health: None,
        outliers: None,
        slow_start: Duration::ZERO,
        affinity: None,
        tls: None,
        protocol: ServerProtocol::Http1,
        keepalive: KeepalivePlan {
            idle: 0,
            timeout: Duration::from_secs(60),
        },
        queue: None,
        proxy_protocol: None,
    }
}

/// A server of that name.
pub(crate) fn server(name: &str, address: ServerAddress) -> ServerPlan {
    ServerPlan {
        name: name.into(),
        address,
        weight: 1,
        backup: false,
        max_connections: None,
        origin: origin(),
    }
}

/// Checks in quick succession, with time enough for any answer.
pub(crate) fn health(probe: ProbePlan) -> HealthPlan {
    HealthPlan {
        probe,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(20),
        rise: 2,
        fall: 2,
        fast_interval: Duration::from_millis(20),
        port: None,
        origin: origin(),
    }
}
