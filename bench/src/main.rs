//! `fathom-bench`: Fathom beside its peers. Run it by `cargo xtask bench`; see README.md for how it measures.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the table goes to stdout")]

mod case;
mod engine;
mod grpc;
mod h2load;
mod packet;
mod peer;
mod process;
mod raw;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use case::{CASES, Case};
use peer::Kind;
use process::Cores;
use report::Bars;
use run::Options;

const USAGE: &str = "\
usage: fathom-bench [--fathom BINARY] [--rounds N] [--seconds S] [--only NAME,NAME] [--json FILE] [--list] [CASE...]

A CASE may be the beginning of a name: `http` means all of http-*.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == "raw" => serve_raw(rest),
        _ => bench(args.into_iter()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn serve_raw(args: &[String]) -> Result<(), String> {
    let addresses: Result<Vec<_>, _> = args.iter().map(|a| a.parse()).collect();
    let addresses = addresses.map_err(|_| "usage: fathom-bench raw LISTEN SERVER...")?;
    let (listen, servers) = addresses
        .split_first()
        .ok_or("usage: fathom-bench raw LISTEN SERVER...")?;
    raw::run(*listen, servers).map_err(|e| e.to_string())
}

fn bench(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let mut options = Options {
        fathom: None,
        rounds: 7,
        time: Duration::from_secs(1),
        only: Vec::new(),
    };
    let mut json: Option<PathBuf> = None;
    let mut names = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--fathom" => options.fathom = Some(value()?.into()),
            "--rounds" => options.rounds = number(&value()?)? as usize,
            "--seconds" => options.time = Duration::from_secs_f64(number(&value()?)?),
            "--json" => json = Some(value()?.into()),
            "--only" => {
                for name in value()?.split(',') {
                    let kind = Kind::ALL.into_iter().find(|k| k.name() == name);
                    options
                        .only
                        .push(kind.ok_or(format!("no such contender: {name}"))?);
                }
            }
            "--list" => {
                for case in CASES {
                    println!("{:<16}{}", case.name, case.title);
                }
                return Ok(());
            }
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(());
            }
            name if !name.starts_with('-') => names.push(name.to_owned()),
            other => return Err(format!("unknown argument {other}\n{USAGE}")),
        }
    }
    // In the kernel, and measured there: not a contender among processes.
    if names.iter().any(|n| n == "packet") {
        packet::run(options.rounds)?;
        names.retain(|n| n != "packet");
        if names.is_empty() {
            return Ok(());
        }
    }
    let cases = choose(&names)?;
    raise_file_limit();
    let cores = Cores::choose();
    process::pin(cores.load);
    println!(
        "balancers on core {}, clients and servers on core {}; {} rounds of {:?}, interleaved",
        cores.balancer, cores.load, options.rounds, options.time
    );
    if cores.balancer == cores.load {
        println!(
            "only one core is usable: what is measured here is mostly switching between processes"
        );
    }

    let mut outcomes = Vec::new();
    let mut bars = Bars::default();
    for case in cases {
        let outcome = run::run(case, &options, cores)?;
        bars.add(report::print(&outcome));
        outcomes.push(outcome);
    }
    println!(
        "
{} bars met, {} missed, {} not measured",
        bars.met, bars.missed, bars.unknown
    );
    if let Some(path) = json {
        let text =
            serde_json::to_string_pretty(&report::json(&outcomes)).map_err(|e| e.to_string())?;
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n > 0.0)
        .ok_or(format!("not a number: {text}"))
}

fn choose(names: &[String]) -> Result<Vec<&'static Case>, String> {
    if names.is_empty() {
        return Ok(CASES.iter().collect());
    }
    for name in names {
        if !CASES
            .iter()
            .any(|case| case.name.starts_with(name.as_str()))
        {
            return Err(format!("no such case: {name} (--list shows them)"));
        }
    }
    let exact = |case: &Case| names.iter().any(|name| case.name == name);
    let begins = |case: &Case| {
        names.iter().any(|name| {
            case.name.starts_with(name.as_str()) && !CASES.iter().any(|c| c.name == name)
        })
    };
    Ok(CASES
        .iter()
        .filter(|case| exact(case) || begins(case))
        .collect())
}

/// Ten thousand idle connections need as many descriptors, here and in the balancers, which inherit the limit.
fn raise_file_limit() {
    const ENOUGH: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: Some(ENOUGH),
        maximum: Some(ENOUGH),
    };
    if limit.maximum.is_some_and(|most| most < ENOUGH)
        && setrlimit(Resource::Nofile, wanted).is_ok()
    {
        return;
    }
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
