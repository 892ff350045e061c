//! Debian packages that tests and benches use: which are missing, and installing them where we may.
//!
//! Nothing here starts, stops or configures a service: while packages are unpacked their daemons are kept from
//! starting, and the tests run every program themselves, on ports of their own.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell;

/// How one tells that a package is there.
enum Proof {
    Command(&'static str),
    File(&'static str),
    /// A module of Debian's own Python (another one may be first in `PATH`).
    Python(&'static str),
}
use Proof::{Command as Cmd, File, Python};

/// What a package is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Test,
    Bench,
}

/// Package, how to tell, what uses it, what for.
const PACKAGES: &[(&str, Proof, &[Use], &str)] = {
    use Use::{Bench, Test};
    &[
        ("curl", Cmd("curl"), &[Test], "an HTTP client"),
        (
            "openssl",
            Cmd("openssl"),
            &[Test, Bench],
            "a TLS client; certificates",
        ),
        (
            "nginx",
            Cmd("nginx"),
            &[Test, Bench],
            "an HTTP server; a peer in benches",
        ),
        (
            "libnginx-mod-stream",
            File("/usr/lib/nginx/modules/ngx_stream_module.so"),
            &[Bench],
            "nginx at stream depth",
        ),
        (
            "haproxy",
            Cmd("haproxy"),
            &[Test, Bench],
            "a PROXY protocol peer; a peer in benches",
        ),
        (
            "nghttp2-client",
            Cmd("h2load"),
            &[Test, Bench],
            "an HTTP/2 client and load",
        ),
        ("redis-server", Cmd("redis-server"), &[Test], "Redis"),
        (
            "redis-tools",
            Cmd("redis-benchmark"),
            &[Test],
            "redis-benchmark",
        ),
        (
            "postgresql",
            Cmd("pg_ctlcluster"),
            &[Test],
            "PostgreSQL and pgbench",
        ),
        ("bind9-dnsutils", Cmd("dig"), &[Test], "dig"),
        ("dnsmasq-base", Cmd("dnsmasq"), &[Test], "a DNS server"),
        ("chromium", Cmd("chromium"), &[Test], "a browser"),
        (
            "chromium-driver",
            Cmd("chromedriver"),
            &[Test],
            "driving the browser",
        ),
        (
            "python3",
            File("/usr/bin/python3"),
            &[Test],
            "the two below",
        ),
        (
            "python3-websockets",
            Python("websockets"),
            &[Test],
            "a WebSocket client and server",
        ),
        (
            "python3-grpcio",
            Python("grpc"),
            &[Test],
            "a gRPC client and server",
        ),
        ("iproute2", Cmd("ip"), &[Test, Bench], "network namespaces"),
        (
            "nftables",
            Cmd("nft"),
            &[Test, Bench],
            "the peer at packet depth",
        ),
        (
            "ethtool",
            Cmd("ethtool"),
            &[Test, Bench],
            "offloads of virtual interfaces",
        ),
        ("iperf3", Cmd("iperf3"), &[Test, Bench], "TCP and UDP load"),
        (
            "clang-14",
            Cmd("clang-14"),
            &[Test],
            "rebuilding the kernel program",
        ),
        (
            "libbpf-dev",
            File("/usr/include/bpf/bpf_helpers.h"),
            &[Test],
            "headers for the kernel program",
        ),
        (
            "prometheus",
            Cmd("promtool"),
            &[Test],
            "promtool check metrics",
        ),
        ("socat", Cmd("socat"), &[Test], "odd sockets"),
        ("jq", Cmd("jq"), &[Test], "reading JSON as a user would"),
    ]
};

/// The packages for `what` that are not there: name and purpose.
pub(crate) fn missing(what: Use) -> Vec<(&'static str, &'static str)> {
    PACKAGES
        .iter()
        .filter(|(_, proof, uses, _)| uses.contains(&what) && !is_there(proof))
        .map(|(name, _, _, purpose)| (*name, *purpose))
        .collect()
}

fn is_there(proof: &Proof) -> bool {
    match proof {
        Cmd(name) => shell::has(name),
        File(path) => Path::new(path).exists(),
        Python(module) => Command::new("/usr/bin/python3")
            .args(["-c", &format!("import {module}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success()),
    }
}

/// Installs what is missing if we are root and there is an apt. Says what it did or why it did not.
pub(crate) fn install(what: Use) {
    let names: Vec<&str> = missing(what).into_iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        return;
    }
    if !shell::has("apt-get") {
        eprintln!(
            "packages: no apt-get here, so these stay missing: {}",
            names.join(" ")
        );
        return;
    }
    if !shell::is_root() {
        eprintln!(
            "packages: not root, so these stay missing; install them yourself with\n  \
             sudo apt-get install --no-install-recommends {}",
            names.join(" ")
        );
        return;
    }
    eprintln!("packages: installing {}", names.join(" "));
    let _quiet = NoDaemons::new();
    if let Err(why) = shell::run(apt().arg("update")) {
        eprintln!("packages: {why}");
    }
    let all_at_once = shell::run(
        apt()
            .args(["install", "--no-install-recommends"])
            .args(&names),
    );
    if all_at_once.is_err() {
        // One name unknown to this release must not keep the others away.
        for name in names {
            if let Err(why) = shell::run(apt().args(["install", "--no-install-recommends", name])) {
                eprintln!("packages: {name} could not be installed: {why}");
            }
        }
    }
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    // stdout is for our own data.
    apt.args(["-y", "-q", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PATH", shell::search_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    apt
}

/// While it lives, Debian's packages do not start the daemons they bring (`/usr/sbin/policy-rc.d` saying 101).
struct NoDaemons {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoDaemons {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        if Path::new(POLICY).exists() {
            return Self { ours: false };
        }
        let ours = std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_ok()
            && std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755)).is_ok();
        Self { ours }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

/// `cargo xtask packages`.
pub(crate) fn list() -> Result<(), String> {
    for (name, proof, uses, purpose) in PACKAGES {
        let state = if is_there(proof) { "there" } else { "MISSING" };
        let test = if uses.contains(&Use::Test) {
            "test"
        } else {
            ""
        };
        let bench = if uses.contains(&Use::Bench) {
            "bench"
        } else {
            ""
        };
        println!("{name:<20} {state:<8} {test:<5} {bench:<6} {purpose}");
    }
    Ok(())
}
