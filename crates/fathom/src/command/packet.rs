//! `fathom packet`: what the packet depth has put into the kernel; needs no running process.

use std::fmt::Write as _;

use fathom_packet::Plane;

use super::text::print;
use crate::cli::PacketCommand;
use crate::exit::{Failure, Outcome};

/// Runs the command.
pub(crate) fn run(command: &PacketCommand) -> Outcome {
    match command {
        PacketCommand::Detach => {
            let removed = Plane::detach(&crate::packet::options()).map_err(Failure::machine)?;
            let mut text = String::new();
            for thing in &removed {
                let _ = writeln!(text, "removed {thing}");
            }
            if removed.is_empty() {
                text.push_str("nothing was there\n");
            }
            print(&text)
        }
    }
}
