//! temporary
use crate::cli::PacketCommand;
use crate::exit::{Failure, Outcome};
pub(crate) fn run(_: &PacketCommand) -> Outcome {
    Err(Failure::input("not built yet"))
}
