//! The shape of a file: every key there is, what its value may be, and what it means. The shape check, the
//! typed reader and the JSON Schema all come from these tables, so they cannot drift apart.

mod check;
mod listener;
mod pool;
mod root;
mod route;
mod tls;

pub(crate) use check::check;
pub(crate) use pool::PROBES;
pub(crate) use root::ROOT;

use crate::form::Form;

/// A table of the file.
pub(crate) struct Section {
    /// For people: `a listener`.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    pub(crate) doc: &'static str,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    Optional,
    /// The value when it is left out, as JSON.
    Default(&'static str),
    /// Reserved: using it is refused by name.
    Later,
}

/// What a value may be.
pub(crate) enum Kind {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Text(&'static Form),
    /// One of these words; then words that are reserved.
    OneOf(&'static [&'static str], &'static [&'static str]),
    Table(&'static Section),
    /// Names chosen by the user.
    Map(&'static Form, &'static Kind),
    List(&'static Kind),
    OneOrMany(&'static Kind),
    /// Of different types.
    Either(&'static [Kind]),
    /// A string, number or boolean.
    Scalar,
    /// Anything (of a reserved key).
    Any,
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

pub(crate) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        need: Need::Required,
        doc,
    }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        need: Need::Optional,
        doc,
    }
}

pub(crate) const fn default(
    name: &'static str,
    kind: Kind,
    value: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        need: Need::Default(value),
        doc,
    }
}

pub(crate) const fn later(name: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Any,
        need: Need::Later,
        doc,
    }
}
