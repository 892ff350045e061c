//! An explanation for people.

use std::fmt::Write as _;

use fathom_route::Verdict;

use super::{Explanation, Forwarding, Outcome};

pub(super) fn render(e: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(e, &mut out);
    out
}

fn write(e: &Explanation, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "listener {} ({}), {} depth, client {}",
        e.listener, e.origin, e.depth, e.client
    )?;
    for note in &e.notes {
        writeln!(out, "  note: {note}")?;
    }
    if !e.steps.is_empty() {
        writeln!(out, "\nroutes, as they are considered")?;
    }
    let width = e.steps.iter().map(|s| s.route.len()).max().unwrap_or(0);
    for step in &e.steps {
        let mark = match step.verdict {
            Verdict::Wins => "=>",
            Verdict::Outranked => " o",
            Verdict::Fails => " x",
        };
        writeln!(
            out,
            " {mark} {:width$}  {}  ({})",
            step.route, step.why, step.origin
        )?;
    }
    writeln!(out)?;
    match &e.outcome {
        Outcome::Close(why) => writeln!(out, "the connection is closed: {why}"),
        Outcome::Answer {
            status,
            location,
            body,
            headers,
            why,
        } => {
            writeln!(out, "answered by Fathom itself with {status} ({why})")?;
            if let Some(location) = location {
                writeln!(out, "  Location: {location}")?;
            }
            for (name, value) in headers {
                writeln!(out, "  {name}: {value}")?;
            }
            if !body.is_empty() {
                writeln!(out, "  body: {body:?}")?;
            }
            Ok(())
        }
        Outcome::Forward(forwarding) => write_forwarding(forwarding, out),
    }
}

fn write_forwarding(f: &Forwarding, out: &mut String) -> std::fmt::Result {
    writeln!(out, "pool {} ({})", f.pool, f.origin)?;
    writeln!(out, "  balance   {}: {}", f.balance, f.choice)?;
    let width = f
        .servers
        .iter()
        .map(|(name, ..)| name.len())
        .max()
        .unwrap_or(0);
    for (name, weight, note) in &f.servers {
        let mark = if f.server.as_ref() == Some(name) {
            "=>"
        } else {
            "  "
        };
        let line = format!("  {mark} server {name:width$}  weight {weight}  {note}");
        writeln!(out, "{}", line.trim_end())?;
    }
    if !f.connect_timeout.is_zero() {
        writeln!(out, "  connect   within {:?}", f.connect_timeout)?;
    }
    if let Some(response) = f.response_timeout {
        writeln!(out, "  response  within {response:?}")?;
    }
    if let Some(idle) = f.idle_timeout {
        writeln!(out, "  idle      at most {idle:?}")?;
    }
    if !f.retry.is_empty() {
        writeln!(out, "  retry     {}", f.retry)?;
    }
    if let Some(max) = f.max_body {
        writeln!(out, "  body      at most {max} bytes")?;
    }
    if let Some(line) = &f.request_line {
        writeln!(out, "\nthe server gets\n  {line}")?;
        for (name, value) in &f.headers {
            writeln!(out, "  {name}: {value}")?;
        }
    }
    if !f.response_edits.is_empty() {
        writeln!(
            out,
            "\nthe client gets the response with\n  {}",
            f.response_edits.join("\n  ")
        )?;
    }
    Ok(())
}
