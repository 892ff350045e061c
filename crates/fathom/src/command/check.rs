//! `fathom check`: whether a configuration is valid, and everything that is wrong with it.

use std::path::Path;

use super::text::print;
use crate::exit::{Failure, Outcome};
use crate::running::color;

/// Exits 0 when valid, 1 when not. With `json` the findings go to stdout, for machines.
pub(crate) fn run(config: &Path, json: bool) -> Outcome {
    let result = fathom_config::load(config);
    if json {
        let found = match &result {
            Ok(loaded) => loaded.warnings.to_json(),
            Err(errors) => errors.to_json(),
        };
        print(&format!("{found:#}\n"))?;
        return result.map(drop).map_err(|_| Failure::input(""));
    }
    let loaded = result.map_err(|errors| Failure::input(errors.render(color())))?;
    if !loaded.warnings.is_empty() {
        eprint!("{}", loaded.warnings.render(color()));
    }
    let plan = loaded.plan;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    print(&format!(
        "{}: valid ({}, {}, {})\n",
        config.display(),
        count(plan.listeners.len(), "listener"),
        count(plan.pools.len(), "pool"),
        count(plan.pools.iter().map(|p| p.servers.len()).sum(), "server"),
    ))
}
