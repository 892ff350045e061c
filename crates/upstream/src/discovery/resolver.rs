//! One question to the hosts file, then to DNS: which addresses has this name, and for how long.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use super::hosts;

/// How often the hosts file is looked at for a name that it knows.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// Where names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverOptions {
    /// Name servers, search domains and options. Default `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Asked first. Default `/etc/hosts`.
    pub hosts: PathBuf,
    /// Asked instead of those of `resolv_conf`, unless empty; in tests a server on a port of its own.
    pub name_servers: Vec<SocketAddr>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            name_servers: Vec::new(),
        }
    }
}

/// What is known of one family's addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// The name has none, says who must know.
    None(NoAddress),
    /// Nobody could say.
    Failed(String),
}

/// An answer without addresses; the stronger one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoAddress {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists, with other records.
    NoRecord,
}

/// Both families' answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) v4: Answer,
    pub(crate) v6: Answer,
}

/// Asks the hosts file and DNS.
pub(crate) struct Resolver {
    hosts: PathBuf,
    /// Why there is no DNS, if there is none.
    dns: Result<TokioResolver, String>,
}

impl Resolver {
    pub(crate) fn new(options: &ResolverOptions) -> Self {
        Self {
            hosts: options.hosts.clone(),
            dns: dns(options),
        }
    }

    /// Looks a name up; never fails, but may know nothing.
    pub(crate) async fn lookup(&self, host: &str) -> Answers {
        let known = hosts::lookup(&self.hosts, host);
        if !known.is_empty() {
            let (v4, v6): (Vec<_>, Vec<_>) = known.into_iter().partition(IpAddr::is_ipv4);
            let answer = |a: Vec<_>| {
                if a.is_empty() {
                    Answer::None(NoAddress::NoRecord)
                } else {
                    Answer::Addresses(a, HOSTS_TTL)
                }
            };
            return Answers {
                v4: answer(v4),
                v6: answer(v6),
            };
        }
        match &self.dns {
            Ok(dns) => {
                let (v4, v6) = tokio::join!(
                    ask(dns, host, RecordType::A),
                    ask(dns, host, RecordType::AAAA)
                );
                Answers { v4, v6 }
            }
            Err(why) => Answers {
                v4: Answer::Failed(why.clone()),
                v6: Answer::Failed(why.clone()),
            },
        }
    }
}

fn dns(options: &ResolverOptions) -> Result<TokioResolver, String> {
    let (config, mut opts) = if options.name_servers.is_empty() {
        let path = options.resolv_conf.display();
        let text = std::fs::read(&options.resolv_conf).map_err(|e| format!("read({path}): {e}"))?;
        system_conf::parse_resolv_conf(text).map_err(|e| format!("{path}: {e}"))?
    } else {
        let servers = options.name_servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        (
            ResolverConfig::from_parts(None, Vec::new(), servers.collect()),
            ResolverOpts::default(),
        )
    };
    // The hosts file is ours to read, and when to ask again is decided by `Names`.
    opts.use_hosts_file = ResolveHosts::Never;
    opts.cache_size = 0;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = opts;
    builder.build().map_err(|e| e.to_string())
}

async fn ask(dns: &TokioResolver, host: &str, kind: RecordType) -> Answer {
    let name = match Name::from_utf8(host) {
        Ok(name) => name,
        Err(e) => return Answer::Failed(format!("not a host name: {e}")),
    };
    let lookup = match dns.lookup(name, kind).await {
        Ok(lookup) => lookup,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            return match none.response_code {
                ResponseCode::NXDomain => Answer::None(NoAddress::NoSuchName),
                ResponseCode::NoError => Answer::None(NoAddress::NoRecord),
                code => Answer::Failed(code.to_string()),
            };
        }
        Err(e) => return Answer::Failed(e.to_string()),
    };
    // The shortest of the chain: an alias may move earlier than what it points to.
    let ttl = lookup
        .answers()
        .iter()
        .map(|record| record.ttl)
        .min()
        .unwrap_or(0);
    let addresses: Vec<_> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        })
        .collect();
    if addresses.is_empty() {
        Answer::None(NoAddress::NoRecord)
    } else {
        Answer::Addresses(addresses, Duration::from_secs(ttl.into()))
    }
}
