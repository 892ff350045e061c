//! Typed reading of a checked table. What was of the wrong type or form is already reported and reads as absent.

use crate::diagnostic::Diagnostic;
use crate::form::Wrong;
use crate::shape::{Kind, Need, Section};
use crate::source::Span;
use crate::tree::{Entry, Node, Table, Value};

/// A table, and the section it must be.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'t> {
    table: &'t Table,
    section: &'static Section,
    /// Where it was named.
    pub(crate) span: Span,
}

impl<'t> Fields<'t> {
    pub(crate) fn new(table: &'t Table, section: &'static Section, span: Span) -> Self {
        Self {
            table,
            section,
            span,
        }
    }

    fn kind(&self, key: &str) -> &'static Kind {
        match self.section.key(key) {
            Some(key) => &key.kind,
            None => panic!(
                "{} has no key {key}: the tables of `shape` are the law",
                self.section.name
            ),
        }
    }

    /// Marks a key as having an effect.
    fn entry(&self, key: &str) -> Option<&'t Entry> {
        self.kind(key);
        let entry = self.table.entry(key)?;
        entry.read.set(true);
        Some(entry)
    }

    /// Whether the key was written (this alone gives it no effect).
    pub(crate) fn has(&self, key: &str) -> bool {
        self.kind(key);
        self.table.entry(key).is_some()
    }

    /// Where the key was written, else the table itself.
    pub(crate) fn key_span(&self, key: &str) -> Span {
        self.table.entry(key).map_or(self.span, |e| e.span)
    }

    /// Where the value was written, else the table itself.
    pub(crate) fn value_span(&self, key: &str) -> Span {
        self.table.entry(key).map_or(self.span, |e| e.node.span)
    }

    /// Whether nothing should be concluded from what is missing: something could not be read.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.table.doubtful.get()
    }

    fn sure<T>(&self, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.table.doubtful.set(true);
        }
        value
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'t str> {
        let node = &self.entry(key)?.node;
        self.sure(as_text(node))
    }

    pub(crate) fn parsed<T>(&self, key: &str, parse: fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.text(key)?;
        self.sure(parse(text).ok())
    }

    /// The value, or the default of the table in `shape`.
    pub(crate) fn or_default<T>(&self, key: &str, parse: fn(&str) -> Result<T, Wrong>) -> T {
        let default = || parse(self.default(key).as_str().unwrap_or_default()).ok();
        self.parsed(key, parse)
            .or_else(default)
            .expect("the default of a form has that form")
    }

    /// The word, or the default of the table in `shape`.
    pub(crate) fn word(&self, key: &str) -> String {
        match self.text(key) {
            Some(text) => text.into(),
            None => self.default(key).as_str().unwrap_or_default().into(),
        }
    }

    pub(crate) fn bool(&self, key: &str) -> bool {
        match self.entry(key).map(|e| &e.node.value) {
            Some(Value::Bool(b)) => *b,
            _ => match self.section.key(key).map(|k| k.need) {
                Some(Need::Default(_)) => self.default(key).as_bool().unwrap_or_default(),
                _ => false,
            },
        }
    }

    pub(crate) fn integer<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        match self.entry(key)?.node.value {
            Value::Integer(i) => T::try_from(i).ok(),
            _ => None,
        }
    }

    /// The number, or the default of the table in `shape`.
    pub(crate) fn integer_or_default<T: TryFrom<i64>>(&self, key: &str) -> T {
        let default = || T::try_from(self.default(key).as_i64()?).ok();
        self.integer(key)
            .or_else(default)
            .expect("the default of a number is in range")
    }

    fn default(&self, key: &str) -> serde_json::Value {
        match self.section.key(key).map(|k| k.need) {
            Some(Need::Default(json)) => serde_json::from_str(json).expect("defaults are JSON"),
            _ => panic!("{} gives `{key}` no default", self.section.name),
        }
    }

    /// One value or an array of them.
    pub(crate) fn nodes(&self, key: &str) -> Vec<&'t Node> {
        match self.entry(key).map(|e| &e.node) {
            Some(Node {
                value: Value::List(list),
                ..
            }) => list.iter().collect(),
            Some(Node {
                value: Value::Wrong,
                ..
            }) => {
                self.table.doubtful.set(true);
                Vec::new()
            }
            Some(node) => vec![node],
            None => Vec::new(),
        }
    }

    /// One string or an array of them, each with its place.
    pub(crate) fn each<T>(&self, key: &str, parse: fn(&str) -> Result<T, Wrong>) -> Vec<(T, Span)> {
        let read = |node: &'t Node| Some((parse(as_text(node)?).ok()?, node.span));
        let parsed = |node: &&'t Node| self.sure(read(node));
        self.nodes(key).iter().filter_map(parsed).collect()
    }

    pub(crate) fn all<T>(&self, key: &str, parse: fn(&str) -> Result<T, Wrong>) -> Vec<T> {
        self.each(key, parse)
            .into_iter()
            .map(|(value, _)| value)
            .collect()
    }

    /// One string or an array of them, or the default of the table in `shape`.
    pub(crate) fn words(&self, key: &str) -> Vec<String> {
        match self.entry(key) {
            Some(_) => self.all(key, |t| Ok(t.to_owned())),
            None => match self.default(key) {
                serde_json::Value::Array(list) => list
                    .iter()
                    .filter_map(|v| Some(v.as_str()?.to_owned()))
                    .collect(),
                _ => Vec::new(),
            },
        }
    }

    pub(crate) fn table(&self, key: &str) -> Option<Fields<'t>> {
        let entry = self.entry(key)?;
        self.inner(key, &entry.node, entry.span)
    }

    /// The tables of an array or of a map; `None` where an item is no table.
    pub(crate) fn inner(&self, key: &str, node: &'t Node, span: Span) -> Option<Fields<'t>> {
        let section =
            section_of(self.kind(key)).unwrap_or_else(|| panic!("`{key}` holds no table"));
        match &node.value {
            Value::Table(table) => Some(Fields::new(table, section, span)),
            _ => None,
        }
    }

    /// The entries of a map, each with the place of its key.
    pub(crate) fn map(&self, key: &str) -> Vec<(&'t str, Span, &'t Node)> {
        match self.entry(key).map(|e| &e.node.value) {
            Some(Value::Table(table)) => table
                .entries
                .iter()
                .map(|e| {
                    e.read.set(true);
                    (e.key.as_str(), e.span, &e.node)
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A map of strings.
    pub(crate) fn pairs<T>(
        &self,
        key: &str,
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Vec<(String, T)> {
        let read =
            |(name, node): (&str, &Node)| Some((name.to_owned(), parse(as_text(node)?).ok()?));
        let pair = |(name, _, node)| self.sure(read((name, node)));
        self.map(key).into_iter().filter_map(pair).collect()
    }

    /// Reports known keys that nothing was made of: they have no effect `why`.
    pub(crate) fn refuse_unread(&self, why: &str, out: &mut Vec<Diagnostic>) {
        for entry in self.table.entries.iter().filter(|e| !e.read.get()) {
            self.table.doubtful.set(true);
            let known = self
                .section
                .key(&entry.key)
                .filter(|k| k.need != Need::Later);
            if known.is_some() {
                let message = format!("`{}` has no effect {why}", entry.key);
                out.push(Diagnostic::new(entry.span, "no-effect", message));
            }
        }
    }
}

pub(crate) fn as_text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn section_of(kind: &'static Kind) -> Option<&'static Section> {
    match kind {
        Kind::Table(section) => Some(section),
        Kind::Map(_, inner) | Kind::List(inner) | Kind::OneOrMany(inner) => section_of(inner),
        Kind::Either(kinds) => kinds.iter().find_map(section_of),
        _ => None,
    }
}
