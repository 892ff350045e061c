//! `fathom`: one binary that balances packets, streams and requests.
//!
//! This crate is the only one that knows all the others. It reads the command line, brings a configuration to life
//! (`running`), keeps it alive over reloads, and ends it.
#![forbid(unsafe_code)]

mod cli;
mod command;
mod demo;
mod exit;
mod fault;
mod front;
mod logging;
mod packet;
mod running;
mod snapshot;
mod sockets;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for: stdout, 0. Anything else is wrong input: stderr, 1 (clap would say 2).
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Run { config } => running::run(&config),
        Command::Demo {
            write_config,
            seconds,
        } => demo::run(write_config.as_deref(), seconds),
        Command::Check { config, json } => command::check::run(&config, json),
        Command::Explain(words) => command::explain::run(&words),
        Command::Schema => command::text::schema(),
        Command::Completions { shell } => command::text::completions(shell),
        Command::Version => command::text::version(),
        Command::Plan { config, remote } => command::remote::plan(&config, &remote),
        Command::Reload { remote } => command::remote::reload(&remote),
        Command::Status { json, remote } => command::remote::status(json, &remote),
        Command::Drain { server, remote } => command::remote::drain(&server, true, &remote),
        Command::Undrain { server, remote } => command::remote::drain(&server, false, &remote),
        Command::Weight {
            server,
            weight,
            remote,
        } => command::remote::weight(&server, weight, &remote),
        Command::Top { remote } => command::top::run(&remote),
        Command::Packet { command } => command::packet::run(&command),
        Command::Split { .. } => Err(exit::Failure::input("`fathom split` is not built yet")),
        Command::Upgrade => Err(exit::Failure::input(
            "`fathom upgrade` is not built yet; restart, or `fathom reload` for a new file",
        )),
        Command::Import { .. } => Err(exit::Failure::input("`fathom import` is not built yet")),
    }
}
