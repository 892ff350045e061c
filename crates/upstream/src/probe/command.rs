//! `command = ["/path", "arg"]`: a program exits 0.
//!
//! It runs in a process group of its own, so that a check that takes too long is ended with everything it started.

use std::process::Stdio;
use std::time::Duration;

use fathom_core::EndpointAddress;
use fathom_core::plan::ProbePlan;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command as Process};

use super::{Checking, Failure, Kind, Probe, Stage, Target};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Command { argv } => Some(Box::new(Command { argv: argv.clone() })),
        _ => None,
    },
};

/// Of what it writes to stderr.
const LIMIT: usize = 4096;
/// After its end: something it left behind may hold its stderr open for ever.
const STDERR_WAIT: Duration = Duration::from_millis(100);

struct Command {
    argv: Vec<String>,
}

impl Probe for Command {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            target.stage.set(Stage::RUNNING);
            let program = self
                .argv
                .first()
                .ok_or_else(|| Failure::new("no command"))?;
            let (address, port) = match &target.address {
                EndpointAddress::Ip(address) => {
                    (address.ip().to_string(), address.port().to_string())
                }
                EndpointAddress::Unix(path) => (path.display().to_string(), String::new()),
            };
            let mut child = Process::new(program)
                .args(&self.argv[1..])
                .env("FATHOM_SERVER_ADDRESS", address)
                .env("FATHOM_SERVER_PORT", port)
                .env("FATHOM_POOL", &*target.pool)
                .env("FATHOM_SERVER", &*target.server)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(|e| Failure::io(program, &e))?;
            let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
            let mut said = Vec::new();
            let mut stderr = child.stderr.take();
            // Read while it runs: a full pipe would stop it.
            let status = tokio::select! {
                status = child.wait() => status,
                () = drain(&mut stderr, &mut said) => child.wait().await,
            };
            group.0 = None; // reaped: its number may be someone else's from here on
            let status = status.map_err(|e| Failure::io("wait", &e))?;
            if status.success() {
                return Ok(());
            }
            let _ = tokio::time::timeout(STDERR_WAIT, drain(&mut stderr, &mut said)).await;
            match said.trim_ascii() {
                b"" => Err(Failure::new(status)),
                said => Err(Failure::quoted(&status.to_string(), said)),
            }
        })
    }
}

/// Reads to the end, keeping the beginning.
async fn drain(stderr: &mut Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(pipe) = stderr else { return };
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        let room = LIMIT.saturating_sub(said.len());
        said.extend_from_slice(&chunk[..n.min(room)]);
    }
    *stderr = None;
}

/// A process group that ends with the check.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails only if the whole group has ended by itself.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
