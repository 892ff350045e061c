//! `fathom top`: a live view of the running process, in the terminal.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fathom_admin::status::{PoolStatus, Status};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table};

use super::remote::{client, failure};
use crate::cli::Remote;
use crate::exit::{Failure, Outcome};

/// How often the process is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was seen, and what had been seen before: rates are differences.
struct View {
    status: Status,
    before: Option<Status>,
    seconds: f64,
    problem: Option<String>,
}

/// Shows the view until `q`, Esc or Ctrl-C.
pub(crate) fn run(remote: &Remote) -> Outcome {
    let client = client(remote)?;
    let mut view = View {
        status: client.status().map_err(failure)?,
        before: None,
        seconds: 1.0,
        problem: None,
    };
    let mut asked = Instant::now();
    let mut terminal =
        ratatui::try_init().map_err(|e| Failure::machine(format_args!("the terminal: {e}")))?;
    let result = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &view)) {
            break Err(Failure::machine(error));
        }
        match quit_within(INTERVAL.saturating_sub(asked.elapsed())) {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(error) => break Err(Failure::machine(error)),
        }
        if asked.elapsed() < INTERVAL {
            continue;
        }
        view.seconds = asked.elapsed().as_secs_f64();
        asked = Instant::now();
        match client.status() {
            Ok(status) => {
                view.before = Some(std::mem::replace(&mut view.status, status));
                view.problem = None;
            }
            Err(error) => view.problem = Some(error.to_string()),
        }
    };
    ratatui::restore();
    result
}

/// Waits for a key; whether it means "enough".
fn quit_within(limit: Duration) -> std::io::Result<bool> {
    if !event::poll(limit)? {
        return Ok(false);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => {
            matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
        }
        _ => false,
    })
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let listeners = u16::try_from(view.status.listeners.len())
        .unwrap_or(u16::MAX)
        .saturating_add(3);
    let [head, top, rest] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Max(listeners),
        Constraint::Min(3),
    ])
    .areas(frame.area());
    let status = &view.status;
    let mut lines = vec![Line::from(vec![
        Span::styled(
            format!(" fathom {} ", status.version),
            Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
        ),
        Span::raw(format!(
            "  {} workers on {}   reloads {} ok, {} failed   q ends",
            status.workers, status.driver, status.reloads.ok, status.reloads.failed
        )),
    ])];
    if let Some(problem) = &view.problem {
        lines.push(Line::styled(problem.clone(), Style::new().fg(Color::Red)));
    }
    frame.render_widget(Paragraph::new(lines), head);
    frame.render_widget(listeners_table(view), top);
    frame.render_widget(servers_table(view), rest);
}

fn header(titles: &'static [&'static str]) -> Row<'static> {
    Row::new(titles.iter().copied()).style(Style::new().add_modifier(Modifier::BOLD))
}

fn listeners_table(view: &View) -> Table<'static> {
    let before: HashMap<&str, (u64, u64, u64, u64)> = view
        .before
        .iter()
        .flat_map(|s| &s.listeners)
        .map(|l| {
            (
                l.name.as_str(),
                (l.connections, l.requests, l.received_bytes, l.sent_bytes),
            )
        })
        .collect();
    let rows = view.status.listeners.iter().map(|l| {
        let old = before.get(l.name.as_str()).copied().unwrap_or((
            l.connections,
            l.requests,
            l.received_bytes,
            l.sent_bytes,
        ));
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / view.seconds;
        let depth = if l.protocol == "udp" {
            format!("{}/udp", l.depth)
        } else {
            l.depth.clone()
        };
        Row::new([
            l.name.clone(),
            depth,
            l.active.to_string(),
            format!("{:.0}", rate(l.connections, old.0)),
            format!("{:.0}", rate(l.requests, old.1)),
            bytes(rate(l.received_bytes, old.2)),
            bytes(rate(l.sent_bytes, old.3)),
        ])
    });
    let widths = [
        Constraint::Min(16),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(11),
    ];
    Table::new(rows, widths)
        .header(header(&[
            "LISTENER", "DEPTH", "OPEN", "CONN/S", "REQ/S", "IN/S", "OUT/S",
        ]))
        .block(Block::bordered())
}

fn servers_table(view: &View) -> Table<'static> {
    let before: HashMap<(&str, &str), u64> = view
        .before
        .iter()
        .flat_map(|s| &s.pools)
        .flat_map(|p| {
            p.servers.iter().map(|s| {
                (
                    (p.name.as_str(), s.name.as_str()),
                    s.requests + s.connections,
                )
            })
        })
        .collect();
    let mut rows = Vec::new();
    for pool in &view.status.pools {
        for server in &pool.servers {
            let work = server.requests + server.connections;
            let old = before
                .get(&(pool.name.as_str(), server.name.as_str()))
                .copied()
                .unwrap_or(work);
            let (state, color) = state(server);
            rows.push(Row::new([
                Span::raw(label(pool, &server.name)),
                Span::styled(state, Style::new().fg(color)),
                Span::raw(server.weight.to_string()),
                Span::raw(server.in_flight.to_string()),
                Span::raw(format!(
                    "{:.0}",
                    work.saturating_sub(old) as f64 / view.seconds
                )),
                Span::raw(
                    server
                        .response_seconds
                        .map_or_else(|| "-".into(), |s| format!("{:.1} ms", s * 1e3)),
                ),
                Span::raw(server.address.clone()),
            ]));
        }
    }
    let widths = [
        Constraint::Min(20),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Min(16),
    ];
    Table::new(rows, widths)
        .header(header(&[
            "POOL/SERVER",
            "STATE",
            "WEIGHT",
            "IN FLIGHT",
            "WORK/S",
            "RESPONSE",
            "ADDRESS",
        ]))
        .block(Block::bordered())
}

fn label(pool: &PoolStatus, server: &str) -> String {
    format!("{}/{server}", pool.name)
}

fn state(server: &fathom_admin::status::ServerStatus) -> (String, Color) {
    match server {
        s if s.draining => ("draining".into(), Color::Yellow),
        s if s.ejected_seconds.is_some() => ("ejected".into(), Color::Red),
        s if s.health == "down" => ("down".into(), Color::Red),
        s if s.health == "probing" => ("probing".into(), Color::Yellow),
        s => (s.health.clone(), Color::Green),
    }
}

fn bytes(rate: f64) -> String {
    match rate {
        r if r >= 1e9 => format!("{:.1} GB", r / 1e9),
        r if r >= 1e6 => format!("{:.1} MB", r / 1e6),
        r if r >= 1e3 => format!("{:.1} kB", r / 1e3),
        r => format!("{r:.0} B"),
    }
}
