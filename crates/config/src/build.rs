//! From a tree of the right shape to the plan. What the shape cannot say is checked here: names that must exist,
//! combinations without meaning, addresses that collide.

mod binds;
mod http;
mod listener;
mod packet;
mod pool;
mod probe;
mod program;
mod route;
mod stream;
mod tls;
pub(crate) mod unread;
mod uses;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fathom_core::plan::{Origin, Plan};

use crate::diagnostic::Diagnostic;
use crate::reader::Fields;
use crate::shape::ROOT;
use crate::source::{Sources, Span};
use crate::suggest::nearest;
use crate::tree::Table;

/// A plan (only good if there are no errors) and what was found on the way.
pub(crate) struct Built {
    pub(crate) plan: Plan,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// What every builder shares.
struct Cx<'t> {
    sources: &'t Sources,
    check_files: bool,
    /// Pools by name.
    pools: HashMap<&'t str, Fields<'t>>,
    binds: Vec<binds::Bound>,
    uses: Vec<uses::Use>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

pub(crate) fn build(
    sources: &Sources,
    root: &Table,
    files: Vec<PathBuf>,
    check_files: bool,
) -> Built {
    let root = Fields::new(
        root,
        &ROOT,
        Span {
            file: 0,
            start: 0,
            end: 0,
        },
    );
    let pools: Vec<_> = root
        .map("pools")
        .into_iter()
        .filter_map(|(n, s, v)| Some((n, root.inner("pools", v, s)?)))
        .collect();
    let mut cx = Cx {
        sources,
        check_files,
        pools: pools.iter().copied().collect(),
        binds: Vec::new(),
        uses: Vec::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    let admin = root.table("admin").and_then(|f| program::admin(&mut cx, f));
    let runtime = program::runtime(root.table("runtime"));
    let log = program::log(&cx, root.table("log"));
    let pools: Vec<_> = pools
        .into_iter()
        .map(|(name, fields)| Arc::new(pool::pool(&mut cx, name, fields)))
        .collect();
    let mut listeners = Vec::new();
    for (name, span, node) in root.map("listeners") {
        if let Some(fields) = root.inner("listeners", node, span) {
            listeners.extend(listener::listener(&mut cx, name, fields));
        }
    }
    if root.map("listeners").is_empty() {
        let message = "there is no listener, so nothing will be served";
        cx.warnings
            .push(Diagnostic::new(None, "no-listener", message));
    }
    binds::check(&mut cx);
    uses::check(&mut cx, &pools);
    let plan = Plan {
        admin,
        runtime,
        log,
        listeners,
        pools,
        files,
    };
    Built {
        plan,
        errors: cx.errors,
        warnings: cx.warnings,
    }
}

impl<'t> Cx<'t> {
    fn origin(&self, span: Span) -> Origin {
        self.sources.origin(span)
    }

    fn error(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.errors.push(Diagnostic::new(span, code, message));
        self.errors.last_mut().expect("just pushed")
    }

    /// A path written at `span`: relative to its file.
    fn path(&self, text: &str, span: Span) -> PathBuf {
        let file = Path::new(&*self.sources.file(span.file).name);
        file.parent().unwrap_or(Path::new("")).join(text)
    }

    /// A file that must be there.
    fn file(&mut self, text: &str, span: Span) -> PathBuf {
        let path = self.path(text, span);
        if self.check_files {
            let why = match std::fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => Some("it is a directory".to_owned()),
                Ok(_) => None,
                Err(e) => Some(e.to_string()),
            };
            if let Some(why) = why {
                self.error(
                    span,
                    "file",
                    format!("cannot read {}: {why}", path.display()),
                );
            }
        }
        path
    }

    /// The file of a key.
    fn file_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<PathBuf> {
        let text = fields.text(key)?;
        Some(self.file(text, fields.value_span(key)))
    }

    /// A pool that must exist; `depth` is what uses it.
    fn pool(&mut self, fields: &Fields<'_>, depth: uses::Depth) -> Option<Arc<str>> {
        let name = fields.text("pool")?;
        let span = fields.value_span("pool");
        if self.pools.contains_key(name) {
            let pool: Arc<str> = name.into();
            self.uses.push(uses::Use {
                pool: pool.clone(),
                span,
                depth,
            });
            return Some(pool);
        }
        let mut known: Vec<&str> = self.pools.keys().copied().collect();
        known.sort_unstable();
        let diagnostic =
            Diagnostic::new(span, "unknown-pool", format!("there is no pool `{name}`"));
        self.errors
            .push(match nearest(name, known.iter().copied()) {
                Some(near) => diagnostic.did_you_mean(span, Some(near), true),
                None if known.is_empty() => diagnostic.help(format!("define it: [pools.{name}]")),
                None => diagnostic.help(format!("there are: {}", known.join(", "))),
            });
        None
    }
}
