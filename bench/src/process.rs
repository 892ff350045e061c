//! Other processes: started on a core of their own, and what they use.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which cores carry the balancer and the load (generator and servers).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) balancer: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first two that we may use; the same one twice if there is only one.
    pub(crate) fn choose() -> Self {
        let usable = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let mut cores = (0..CpuSet::MAX_CPU).filter(|n| usable.is_set(*n));
        let balancer = cores.next().unwrap_or(0);
        let load = cores.next().unwrap_or(balancer);
        Self { balancer, load }
    }
}

/// Keeps the calling thread (and what it starts from now on) on one core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(e) = sched_setaffinity(None, &set) {
        eprintln!("cannot stay on core {core}: {e}");
    }
}

/// How many descriptors there are for clients, here as in a balancer.
pub(crate) fn most_clients() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit
        .map_or(30_000, |n| {
            usize::try_from(n).unwrap_or(30_000).saturating_sub(1_000)
        })
        .min(30_000)
}

/// A balancer's processes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program on the balancer's core; its output goes to `log`.
    pub(crate) fn start(command: &mut Command, cores: Cores, log: &Path) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = fs::File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let again = file.try_clone().map_err(|e| e.to_string())?;
        // A child begins with the affinity of the thread that starts it.
        pin(cores.balancer);
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn();
        pin(cores.load);
        Ok(Self {
            child: child.map_err(|e| format!("{name}: {e}"))?,
            name,
        })
    }

    /// Waits until it accepts connections at `address`.
    pub(crate) fn wait_for(&mut self, address: SocketAddr, log: &Path) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let text = fs::read_to_string(log).unwrap_or_default();
                return Err(format!(
                    "{} ended at once ({status}): {}",
                    self.name,
                    text.trim()
                ));
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not accept at {address}", self.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// CPU time of all its processes and threads so far, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let nanoseconds = self
            .tree()
            .iter()
            .flat_map(|pid| threads(*pid))
            .map(|task| run_time(&task))
            .sum();
        Duration::from_nanos(nanoseconds)
    }

    /// Resident memory of all its processes, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.tree().iter().map(|pid| resident(*pid)).sum()
    }

    /// Itself and all its descendants.
    fn tree(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<u32>().ok())
            else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // The name in brackets may hold anything; the parent is the second word after it.
            let after = stat
                .rsplit_once(')')
                .map(|(_, after)| after)
                .unwrap_or_default();
            if let Some(parent) = after.split_whitespace().nth(1).and_then(|p| p.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = tree.get(next) {
            tree.extend(children.remove(pid).unwrap_or_default());
            next += 1;
        }
        tree
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        for pid in self.tree().into_iter().rev() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
                && matches!(self.child.try_wait(), Ok(None))
            {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn threads(pid: u32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path().to_string_lossy().into_owned())
        .collect()
}

/// Nanoseconds a thread has run: the first word of its `schedstat` (what `utime + stime` says in ticks).
fn run_time(task: &str) -> u64 {
    let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
