//! Commands that act on the running process, through its admin side.

use std::fmt::Write as _;
use std::net::ToSocketAddrs as _;
use std::path::Path;

use fathom_admin::client::{Client, ClientError};
use fathom_admin::status::{PoolStatus, ServerStatus, Status};
use fathom_admin::{PlanReport, PlanRequest};
use fathom_core::plan::AdminBind;

use super::text::print;
use crate::cli::Remote;
use crate::exit::{Failure, Outcome};

/// Where the admin side is when nothing says so.
const DEFAULT_ADMIN: &str = "127.0.0.1:9400";

/// The client for the process that `remote` means: an address given, else the [admin] section of the file given (or of
/// `fathom.toml` here), else the usual address.
pub(super) fn client(remote: &Remote) -> Result<Client, Failure> {
    let mut token = remote.token.clone();
    if let Some(address) = &remote.admin {
        return Ok(Client::new(parse(address)?, token));
    }
    let file = remote
        .config
        .clone()
        .or_else(|| Some("fathom.toml".into()).filter(|f: &std::path::PathBuf| f.exists()));
    if let Some(file) = file {
        let loaded = fathom_config::load(&file)
            .map_err(|e| Failure::input(e.render(crate::running::color())))?;
        let Some(admin) = loaded.plan.admin else {
            return Err(Failure::input(format_args!(
                "{} has no [admin] section, so a process that runs it cannot be reached",
                file.display()
            )));
        };
        token = token.or(admin.token);
        return Ok(Client::new(admin.bind, token));
    }
    Ok(Client::new(parse(DEFAULT_ADMIN)?, token))
}

fn parse(address: &str) -> Result<AdminBind, Failure> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(AdminBind::Unix(path.into()));
    }
    let wrong = || {
        Failure::input(format_args!(
            "--admin {address}: not HOST:PORT or unix:/PATH"
        ))
    };
    let mut found = address.to_socket_addrs().map_err(|_| wrong())?;
    found.next().map(AdminBind::Tcp).ok_or_else(wrong)
}

pub(super) fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Unreachable(_) => Failure::unreachable(error),
        _ => Failure::input(error),
    }
}

fn pool_and_server(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('/')
        .filter(|(pool, server)| !pool.is_empty() && !server.is_empty())
        .ok_or_else(|| {
            Failure::input(format_args!(
                "\"{text}\" is not POOL/SERVER; `fathom status` shows them"
            ))
        })
}

/// `fathom plan FILE`.
pub(crate) fn plan(file: &Path, remote: &Remote) -> Outcome {
    // The errors of the file are told here, with colours and carets, before anybody is asked.
    fathom_config::load(file).map_err(|e| Failure::input(e.render(crate::running::color())))?;
    let path = std::fs::canonicalize(file)
        .map_err(|e| Failure::input(format_args!("{}: {e}", file.display())))?;
    let report = client(remote)?
        .plan(&PlanRequest {
            path: Some(path),
            text: None,
        })
        .map_err(failure)?;
    print(&changes(&report))
}

/// `fathom reload`.
pub(crate) fn reload(remote: &Remote) -> Outcome {
    let report = client(remote)?.reload().map_err(failure)?;
    print(&format!("reloaded\n{}", changes(&report)))
}

fn changes(report: &PlanReport) -> String {
    let mut text = String::new();
    if report.changes.is_empty() {
        text.push_str("nothing changes\n");
    }
    for change in &report.changes {
        let sign = match change.verb.as_str() {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let _ = writeln!(text, "{sign} {}", change.what);
        for detail in &change.details {
            let _ = writeln!(text, "    {detail}");
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "! {warning}");
    }
    text
}

/// `fathom drain`, `fathom undrain`.
pub(crate) fn drain(server: &str, draining: bool, remote: &Remote) -> Outcome {
    let (pool, name) = pool_and_server(server)?;
    let status = client(remote)?
        .drain(pool, name, draining)
        .map_err(failure)?;
    print(&pool_table(&status))
}

/// `fathom weight`.
pub(crate) fn weight(server: &str, weight: u32, remote: &Remote) -> Outcome {
    let (pool, name) = pool_and_server(server)?;
    let status = client(remote)?
        .weight(pool, name, Some(weight))
        .map_err(failure)?;
    print(&pool_table(&status))
}

/// `fathom status`.
pub(crate) fn status(json: bool, remote: &Remote) -> Outcome {
    let status = client(remote)?.status().map_err(failure)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(Failure::machine)?;
        return print(&format!("{text}\n"));
    }
    print(&render(&status))
}

fn render(status: &Status) -> String {
    let mut text = String::new();
    let note = status
        .driver_note
        .as_ref()
        .map(|n| format!(" ({n})"))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "fathom {}, up {}, {} workers on {}{note}, reloads {} ok {} failed",
        status.version,
        duration(status.uptime_seconds),
        status.workers,
        status.driver,
        status.reloads.ok,
        status.reloads.failed,
    );
    if let Some(error) = &status.reloads.last_error {
        let _ = writeln!(text, "the last reload was refused:\n{error}");
    }
    let _ = writeln!(
        text,
        "\n{:<20} {:<8} {:>9} {:>12} {:>12}  BINDS",
        "LISTENER", "DEPTH", "ACTIVE", "CONNECTIONS", "REQUESTS"
    );
    for l in &status.listeners {
        let depth = if l.protocol == "udp" {
            format!("{}/udp", l.depth)
        } else {
            l.depth.clone()
        };
        let binds = l.binds.join(" ");
        let _ = writeln!(
            text,
            "{:<20} {depth:<8} {:>9} {:>12} {:>12}  {binds}",
            l.name, l.active, l.connections, l.requests
        );
    }
    for pool in &status.pools {
        let _ = write!(text, "\n{}", pool_table(pool));
    }
    if let Some(packet) = &status.packet {
        let _ = writeln!(
            text,
            "\npacket flows {} of {}",
            packet.flow_entries, packet.flow_capacity
        );
        for note in &packet.notes {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

fn pool_table(pool: &PoolStatus) -> String {
    let mut text = format!(
        "{:<20} {:<9} {:>6} {:>9} {:>10} {:>9}  ADDRESS\n",
        format!("POOL {} ({})", pool.name, pool.balance),
        "STATE",
        "WEIGHT",
        "IN FLIGHT",
        "REQUESTS",
        "RESPONSE"
    );
    for server in &pool.servers {
        let response = server
            .response_seconds
            .map_or_else(|| "-".into(), |s| format!("{:.1} ms", s * 1e3));
        let _ = writeln!(
            text,
            "  {:<18} {:<9} {:>6} {:>9} {:>10} {response:>9}  {}{}",
            server.name,
            state(server),
            server.weight,
            server.in_flight,
            server.requests,
            server.address,
            why(server),
        );
    }
    text
}

fn state(server: &ServerStatus) -> &str {
    match server {
        s if s.draining => "draining",
        s if s.ejected_seconds.is_some() => "ejected",
        s => &s.health,
    }
}

fn why(server: &ServerStatus) -> String {
    match &server.check {
        Some(check) if server.health != "up" => format!("  {}", check.detail),
        _ => String::new(),
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}
