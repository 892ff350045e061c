//! From a file (and what it includes) to one tree.

use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::form;
use crate::source::{Sources, Span};
use crate::tree::{self, Entry, Env, Table, Value};

/// Everything that was read, merged.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) sources: Sources,
    pub(crate) root: Table,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) errors: Vec<Diagnostic>,
}

/// Deepest nesting of includes.
const DEEPEST: usize = 16;

impl Loaded {
    /// Reads a file and what it includes.
    pub(crate) fn file(path: &Path, env: Env<'_>) -> Self {
        let mut loaded = Self::default();
        match std::fs::read(path) {
            Ok(bytes) => loaded.add(path, bytes, env, 0),
            Err(e) => {
                let message = format!("cannot read {}: {e}", path.display());
                let mut diagnostic = Diagnostic::new(None, "file", message);
                if e.kind() == std::io::ErrorKind::NotFound {
                    diagnostic = diagnostic.help("name the file, or begin with one of examples/");
                }
                loaded.errors.push(diagnostic);
            }
        }
        loaded
    }

    /// Reads a text as if it were this file.
    pub(crate) fn text(name: &str, text: &str, env: Env<'_>) -> Self {
        let mut loaded = Self::default();
        loaded.add(Path::new(name), text.as_bytes().to_vec(), env, 0);
        loaded
    }

    fn add(&mut self, path: &Path, bytes: Vec<u8>, env: Env<'_>, depth: usize) {
        self.files.push(path.to_owned());
        let name = path.display().to_string();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let at = e.utf8_error().valid_up_to();
                let file = self
                    .sources
                    .add(&name, String::from_utf8_lossy(e.as_bytes()).into_owned());
                let message = "not valid TOML: the file is not UTF-8";
                self.errors
                    .push(Diagnostic::new(Span::new(file, at..at), "syntax", message));
                return;
            }
        };
        let file = self.sources.add(&name, text.clone());
        let table = tree::parse(&text, file, env, &mut self.errors);
        let includes = includes(&table);
        self.merge(table);
        for (pattern, span) in includes {
            self.include(path, &pattern, span, env, depth);
        }
    }

    fn include(&mut self, from: &Path, pattern: &str, span: Span, env: Env<'_>, depth: usize) {
        if depth >= DEEPEST {
            self.errors.push(Diagnostic::new(
                span,
                "include",
                "files include one another too deeply",
            ));
            return;
        }
        let base = from.parent().unwrap_or(Path::new(""));
        // What stands before the pattern is a path, not a pattern.
        let base = if Path::new(pattern).is_absolute() || base.as_os_str().is_empty() {
            String::new()
        } else {
            format!("{}/", glob::Pattern::escape(&base.display().to_string()))
        };
        let Ok(paths) = glob::glob(&format!("{base}{pattern}")) else {
            return;
        };
        let mut any = false;
        for path in paths {
            any = true;
            let path = match path {
                Ok(path) => path,
                Err(e) => {
                    let message = format!("cannot read {}: {}", e.path().display(), e.error());
                    self.errors.push(Diagnostic::new(span, "include", message));
                    continue;
                }
            };
            if self.known(&path) {
                continue;
            }
            match std::fs::read(&path) {
                Ok(bytes) => self.add(&path, bytes, env, depth + 1),
                Err(e) => {
                    let message = format!("cannot read {}: {e}", path.display());
                    self.errors.push(Diagnostic::new(span, "include", message));
                }
            }
        }
        // A pattern may match nothing (yet); a name must be there.
        if !any && !pattern.contains(['*', '?', '[']) {
            let message = format!("there is no file {pattern}");
            self.errors.push(Diagnostic::new(span, "include", message));
        }
    }

    /// Whether a file was read already, by whatever name: patterns overlap, and a file may match its own.
    fn known(&self, path: &Path) -> bool {
        let real = |p: &Path| std::fs::canonicalize(p).ok();
        let this = real(path);
        this.is_some() && self.files.iter().any(|f| real(f) == this)
    }

    /// Listeners and pools of all files are one set; any other section has one place.
    fn merge(&mut self, table: Table) {
        for entry in table.entries {
            if entry.key == "include" {
                continue;
            }
            let Some(at) = self.root.entries.iter().position(|e| e.key == entry.key) else {
                self.root.entries.push(entry);
                continue;
            };
            let first = &mut self.root.entries[at];
            let by_name = matches!(entry.key.as_str(), "listeners" | "pools");
            match (&mut first.node.value, entry.node.value) {
                (Value::Table(known), Value::Table(more)) if by_name => {
                    for item in more.entries {
                        match known.entry(&item.key) {
                            None => known.entries.push(item),
                            Some(known) => self.errors.push(twice(&entry.key, known, &item)),
                        }
                    }
                }
                (_, value) => {
                    let again = Entry {
                        node: tree::Node {
                            value,
                            ..entry.node
                        },
                        ..entry
                    };
                    let first = &self.root.entries[at];
                    let message = format!("`{}` is defined twice", again.key);
                    let diagnostic =
                        Diagnostic::new(again.span, "duplicate", message).label("again here");
                    self.errors
                        .push(diagnostic.related(first.span, "first defined here"));
                }
            }
        }
    }
}

fn twice(kind: &str, first: &Entry, again: &Entry) -> Diagnostic {
    let message = format!("`{kind}.{}` is defined twice", again.key);
    Diagnostic::new(again.span, "duplicate", message)
        .label("again here")
        .related(first.span, "first defined here")
}

fn includes(table: &Table) -> Vec<(String, Span)> {
    match table.entry("include").map(|e| &e.node.value) {
        Some(Value::List(list)) => list
            .iter()
            .filter_map(|node| match &node.value {
                Value::Text(text) if form::glob_pattern(text).is_ok() => {
                    Some((text.clone(), node.span))
                }
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
