//! The balancers that are compared: how each is configured for the same work, and started.
//!
//! One worker each, no access log, `X-Forwarded-For` added by all, connections to servers kept for as many as
//! there are clients.

mod fathom;
mod haproxy;
mod nginx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use fathom_testbed::ports::Port;

use crate::process::{Cores, Process};

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Fathom,
    /// Fathom with `[runtime] io = "epoll"`.
    FathomEpoll,
    Nginx,
    Haproxy,
    /// The floor.
    Raw,
    /// Fathom at stream depth: what its own tunnels are compared with.
    FathomStream,
    /// Fathom with few routes: what many are compared with.
    FathomFewRoutes,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Fathom,
        Self::FathomEpoll,
        Self::Nginx,
        Self::Haproxy,
        Self::Raw,
        Self::FathomStream,
        Self::FathomFewRoutes,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fathom => "fathom",
            Self::FathomEpoll => "fathom-epoll",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Raw => "raw",
            Self::FathomStream => "fathom-stream",
            Self::FathomFewRoutes => "fathom-3-routes",
        }
    }
}

/// What a balancer is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Http,
    /// HTTP with so many routes.
    Routes(usize),
    Stream,
    Udp,
    Https,
    /// HTTP/2 in clear text on both sides.
    Grpc,
}

/// What every balancer's configuration is made from.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) door: Door,
    pub(crate) servers: &'a [SocketAddr],
    /// A directory of its own.
    pub(crate) directory: &'a Path,
    /// Where the release binary is.
    pub(crate) fathom: Option<&'a Path>,
    pub(crate) cores: Cores,
    /// Files of the certificate, its key, and both in one.
    pub(crate) certificate: &'a Certificate,
}

/// Files of the certificate that every balancer shows.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) both: PathBuf,
}

/// A balancer that runs.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// Held so that nobody else is told to listen there.
    _ports: Vec<Port>,
}

/// Starts one and waits until it accepts; `Err` says why this machine or build cannot.
pub(crate) fn start(kind: Kind, setting: &Setting<'_>) -> Result<Balancer, String> {
    let log = setting.directory.join("log");
    let (port, beside) = (Port::reserve(), Port::reserve());
    let mut command = match kind {
        Kind::Nginx => nginx::command(setting, port.v4(), beside.v4())?,
        Kind::Haproxy => haproxy::command(setting, port.v4())?,
        Kind::Fathom => fathom::command(setting, setting.door, "auto", port.v4(), beside.v4())?,
        Kind::FathomEpoll => {
            fathom::command(setting, setting.door, "epoll", port.v4(), beside.v4())?
        }
        Kind::FathomStream => {
            fathom::command(setting, Door::Stream, "auto", port.v4(), beside.v4())?
        }
        Kind::FathomFewRoutes => {
            fathom::command(setting, Door::Routes(3), "auto", port.v4(), beside.v4())?
        }
        Kind::Raw => raw(setting, port.v4())?,
    };
    let mut process = Process::start(&mut command, setting.cores, &log)?;
    // A UDP door cannot be knocked at: nginx and Fathom get a TCP one beside it.
    let knock = if setting.door == Door::Udp {
        beside.v4()
    } else {
        port.v4()
    };
    process.wait_for(knock, &log)?;
    Ok(Balancer {
        process,
        address: port.v4(),
        _ports: vec![port, beside],
    })
}

fn raw(setting: &Setting<'_>, listen: SocketAddr) -> Result<Command, String> {
    if setting.door != Door::Http {
        return Err("the raw loop speaks plain HTTP/1 only".to_owned());
    }
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(own);
    command
        .arg("raw")
        .arg(listen.to_string())
        .args(setting.servers.iter().map(ToString::to_string));
    Ok(command)
}

/// Writes a configuration and gives its path.
fn write(setting: &Setting<'_>, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = setting.directory.join(name);
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

fn program(name: &str) -> Result<PathBuf, String> {
    fathom_testbed::need::find(name).ok_or_else(|| format!("{name} is not installed"))
}

/// One line per server.
fn lines(servers: &[SocketAddr], line: impl Fn(usize, &SocketAddr) -> String) -> String {
    servers
        .iter()
        .enumerate()
        .map(|(n, server)| line(n, server) + "\n")
        .collect()
}
