//! From a user's file to a [`Plan`](fathom_core::plan::Plan): everything that is wrong with it in one go, what it
//! would do with a request, and what a change of it would change.
//!
//! ```text
//!  text ──tree──> values with places ──shape──> keys, types, forms ──build──> Plan ──check──> binds, routes, pools
//! ```
//!
//! Knows no plane. Called by the command line (`check`, `schema`, `explain`, `plan`) and at start and reload.
#![forbid(unsafe_code)]

mod build;
mod diagnostic;
mod diff;
mod explain;
mod form;
mod load;
mod reader;
mod schema;
mod shape;
mod source;
mod suggest;
mod tree;

use std::path::Path;

use fathom_core::plan::Plan;

pub use diagnostic::{Errors, Problem, Report, Warnings};
pub use diff::{Change, ChangeKind, diff};
pub use explain::{
    CannotExplain, ExplainRequest, ExplainStep, Explanation, Forwarding, Outcome, explain,
};
pub use fathom_route::Verdict;
pub use schema::schema;

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub plan: Plan,
    /// What is valid and probably not meant.
    pub warnings: Warnings,
}

/// How to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether files that the configuration names (certificates, keys) must be there.
    pub check_files: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { check_files: true }
    }
}

/// Loads a file and what it includes.
///
/// # Errors
/// Everything that is wrong, by file and line.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded, Errors> {
    load_with(path, Options::default())
}

/// Loads a file, as [`load`] does, with options.
///
/// # Errors
/// Everything that is wrong, by file and line.
pub fn load_with(path: impl AsRef<Path>, options: Options) -> Result<Loaded, Errors> {
    finish(load::Loaded::file(path.as_ref(), &environment), options)
}

/// Loads a text as if it were a file called `name`; files it names need not exist.
///
/// # Errors
/// Everything that is wrong, by line.
pub fn load_str(name: &str, text: &str) -> Result<Loaded, Errors> {
    load_str_with(name, text, &environment)
}

/// Loads a text with an environment of its own.
///
/// # Errors
/// Everything that is wrong, by line.
pub fn load_str_with(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Errors> {
    finish(
        load::Loaded::text(name, text, env),
        Options { check_files: false },
    )
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn finish(loaded: load::Loaded, options: Options) -> Result<Loaded, Errors> {
    let load::Loaded {
        sources,
        root,
        files,
        mut errors,
    } = loaded;
    // A file that does not parse is not worth more errors than those of its syntax.
    let syntax = errors.iter().any(|e| matches!(e.code, "syntax" | "file"));
    if !syntax {
        shape::check(&root, &shape::ROOT, None, &mut errors);
    }
    let mut built = build::build(&sources, &root, files, options.check_files);
    if !syntax {
        errors.append(&mut built.errors);
    }
    if errors.is_empty() {
        build::unread::check(&root, &mut errors);
    }
    match errors.is_empty() {
        true => Ok(Loaded {
            plan: built.plan,
            warnings: Report::new(sources, built.warnings, true),
        }),
        false => Err(Report::new(sources, errors, false)),
    }
}
