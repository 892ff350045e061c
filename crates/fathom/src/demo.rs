//! `fathom demo`: the main job on example servers, with nothing to set up.

mod servers;
mod visitors;

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::command::text::print;
use crate::exit::{Failure, Outcome};
use crate::running::{self, Started};
use visitors::Doors;

/// Where the demo listens.
struct Ports {
    web: u16,
    secure: u16,
    echo: u16,
    datagrams: u16,
    admin: u16,
}

/// Runs the demo until Ctrl-C, or for `seconds`.
pub(crate) fn run(write_config: Option<&Path>, seconds: Option<u64>) -> Outcome {
    let machine = |what: &str, e: io::Error| Failure::machine(format_args!("{what}: {e}"));
    // The example servers have a runtime of their own: what is shown is Fathom's work, not theirs.
    let examples = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("example")
        .enable_all()
        .build()
        .map_err(|e| machine("the example servers", e))?;
    let servers = examples
        .block_on(start_servers())
        .map_err(|e| machine("the example servers", e))?;
    let dir = tempfile::Builder::new()
        .prefix("fathom-demo-")
        .tempdir()
        .map_err(|e| machine("a temporary directory", e))?;
    certificate(dir.path()).map_err(|e| machine("the demo's certificate", e))?;
    let path = dir.path().join("fathom.toml");
    let (started, ports) = boot(&path, &servers)?;
    if let Some(copy) = write_config {
        std::fs::copy(&path, copy).map_err(|e| machine(&copy.display().to_string(), e))?;
    }
    print(&welcome(&ports, &path))?;
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let doors = Doors {
        web: local(ports.web),
        echo: local(ports.echo),
        datagrams: local(ports.datagrams),
    };
    started.spawn(visitors::trickle(doors));
    let outcome = started.serve(async move {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    });
    examples.shutdown_background();
    outcome
}

/// Starts on ports that are free. Another program may take one between the look and the start: then it looks again.
fn boot(path: &Path, servers: &Servers) -> Result<(Started, Ports), Failure> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let ports = Ports::free()?;
        std::fs::write(path, config(&ports, servers))
            .map_err(|e| Failure::machine(format_args!("{}: {e}", path.display())))?;
        match running::boot(path) {
            Ok(started) => return Ok((started, ports)),
            Err(failure) if failure.is_of_machine() && attempts < 5 => {}
            Err(failure) => return Err(failure),
        }
    }
}

impl Ports {
    /// The usual ones, or others where those are taken.
    fn free() -> Result<Self, Failure> {
        Ok(Self {
            web: free_tcp(8080)?,
            secure: free_tcp(8443)?,
            echo: free_tcp(7000)?,
            datagrams: free_udp(7053)?,
            admin: free_tcp(9400)?,
        })
    }
}

/// The example servers' addresses.
struct Servers {
    web: Vec<(&'static str, SocketAddr)>,
    echo: Vec<(&'static str, SocketAddr)>,
    datagrams: Vec<(&'static str, SocketAddr)>,
}

async fn start_servers() -> io::Result<Servers> {
    let mut all = Servers {
        web: Vec::new(),
        echo: Vec::new(),
        datagrams: Vec::new(),
    };
    for name in ["alder", "birch", "cedar"] {
        all.web.push((name, servers::web(name).await?));
    }
    for name in ["delta", "ember"] {
        all.echo.push((name, servers::echo(name).await?));
    }
    for name in ["fjord", "grove"] {
        all.datagrams.push((name, servers::datagrams(name).await?));
    }
    Ok(all)
}

/// `wanted`, or if it is taken, whatever is free.
fn free_tcp(wanted: u16) -> Result<u16, Failure> {
    // On every address: what is taken on one of them would confuse on another.
    [wanted, 0]
        .iter()
        .find_map(|port| {
            TcpListener::bind(("0.0.0.0", *port))
                .ok()?
                .local_addr()
                .ok()
        })
        .map(|a| a.port())
        .ok_or_else(|| Failure::machine("no free TCP port on this machine"))
}

fn free_udp(wanted: u16) -> Result<u16, Failure> {
    [wanted, 0]
        .iter()
        .find_map(|port| UdpSocket::bind(("0.0.0.0", *port)).ok()?.local_addr().ok())
        .map(|a| a.port())
        .ok_or_else(|| Failure::machine("no free UDP port on this machine"))
}

/// A certificate for `localhost` that nobody but this demo uses.
fn certificate(dir: &Path) -> io::Result<()> {
    let names = ["localhost", "demo.localhost", "127.0.0.1"]
        .map(str::to_owned)
        .to_vec();
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    std::fs::write(dir.join("demo.pem"), made.cert.pem())?;
    std::fs::write(dir.join("demo.key"), made.signing_key.serialize_pem())
}

fn config(ports: &Ports, servers: &Servers) -> String {
    let list = |servers: &[(&str, SocketAddr)]| {
        let mut text = String::new();
        for (name, address) in servers {
            let _ = writeln!(text, "  {{ address = \"{address}\", name = \"{name}\" }},");
        }
        text
    };
    let Ports {
        web,
        secure,
        echo,
        datagrams,
        admin,
    } = ports;
    format!(
        r#"# What `fathom demo` runs.
[admin]
bind = "127.0.0.1:{admin}"

[log]
level = "warn"
access = "off"

[listeners.web]
bind = ["127.0.0.1:{web}", "127.0.0.1:{secure}"]
depth = "http"
[listeners.web.tls]
bind = ["127.0.0.1:{secure}"]
certificates = [{{ cert = "demo.pem", key = "demo.key" }}]

[[listeners.web.routes]]
name = "everything"
pool = "web"

[[listeners.web.routes]]
name = "api"
match = {{ path = "/api/*" }}
pool = "api"
request_headers = {{ set = {{ X-Env = "demo" }} }}

[[listeners.web.routes]]
name = "old"
match = {{ path = "/old/*" }}
redirect = {{ to = "/hello/$1", status = 301 }}

[[listeners.web.routes]]
name = "hello"
match = {{ path = "/hello" }}
respond = {{ status = 200, body = "Hello from Fathom itself.\n" }}

[listeners.echo]
bind = "127.0.0.1:{echo}"
depth = "stream"
pool = "echo"

[listeners.datagrams]
bind = "127.0.0.1:{datagrams}"
protocol = "udp"
depth = "stream"
pool = "datagrams"

[pools.web]
balance = "round-robin"
servers = [
{web_servers}]
health = {{ http = "/health", interval = "1s", expect_json = {{ path = "$.status", equals = "ok" }} }}
outliers = {{ consecutive_errors = 5, eject = "10s" }}

[pools.api]
balance = "least-response-time"
servers = [
{web_servers}]
health = {{ http = "/health", interval = "1s" }}

[pools.echo]
balance = "least-connections"
servers = [
{echo_servers}]
health = {{ tcp = true, interval = "1s" }}

[pools.datagrams]
balance = "random-two-choices"
servers = [
{datagram_servers}]
"#,
        web_servers = list(&servers.web),
        echo_servers = list(&servers.echo),
        datagram_servers = list(&servers.datagrams),
    )
}

fn welcome(ports: &Ports, config: &Path) -> String {
    let Ports {
        web,
        secure,
        echo,
        datagrams,
        admin,
    } = ports;
    format!(
        r#"
  Fathom is balancing. Open the dashboard:

      http://127.0.0.1:{admin}/

  Requests (http depth), over three example servers:

      curl http://127.0.0.1:{web}/                     again and again: the servers take turns
      curl -i http://127.0.0.1:{web}/api/users         another route, another pool
      curl -i http://127.0.0.1:{web}/old/page          a redirect
      curl -k https://127.0.0.1:{secure}/              the same over TLS and HTTP/2, with a certificate made for the demo

  Connections and datagrams (stream depth):

      curl telnet://127.0.0.1:{echo}                   type something, it comes back
      echo hi | timeout 1 bash -c 'exec 3<>/dev/udp/127.0.0.1/{datagrams}; cat >&3; head -1 <&3'

  Take a server out and back in:

      fathom drain web/birch --admin 127.0.0.1:{admin}
      fathom undrain web/birch --admin 127.0.0.1:{admin}
      curl http://127.0.0.1:{admin}/metrics            everything counted

  The configuration is {config}
  About ten visitors a second come by themselves. Ctrl-C ends it.

"#,
        config = config.display()
    )
}
