//! The text as a tree that knows where everything was written, with `${VAR}` filled in.

use std::cell::Cell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date,
    /// What is already reported; fits everywhere and means nothing.
    Wrong,
    List(Vec<Node>),
    Table(Table),
}

/// Keys in file order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
    /// Whether something in it could not be read, so that nothing should be concluded from what is missing.
    pub(crate) doubtful: Cell<bool>,
}

/// One key of a table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Of the key.
    pub(crate) span: Span,
    pub(crate) node: Node,
    /// Whether something was made of it: what nothing reads has no effect, which is an error.
    pub(crate) read: Cell<bool>,
}

impl Table {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }
}

impl Value {
    /// What it is, for people.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Date => "a date",
            Self::Wrong => "wrong",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Looks up an environment variable.
pub(crate) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Parses one file. Everything that is wrong goes to `errors`; what could be read is returned.
pub(crate) fn parse(text: &str, file: u32, env: Env<'_>, errors: &mut Vec<Diagnostic>) -> Table {
    let (table, wrong) = DeTable::parse_recoverable(text);
    // One slip makes the parser stumble over what follows: of errors on neighbouring lines the first counts.
    let mut last_line = None;
    for error in &wrong {
        let start = error.span().map_or(0, |s| s.start.min(text.len()));
        let line = text.as_bytes()[..start]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
        if last_line.is_none_or(|last| line > last + 1) || error.message().contains("duplicate key")
        {
            errors.push(syntax_error(text, file, error));
        }
        last_line = Some(line);
    }
    let mut builder = Builder {
        text,
        file,
        env,
        errors,
    };
    builder.table(table.get_ref())
}

fn syntax_error(text: &str, file: u32, error: &toml::de::Error) -> Diagnostic {
    let range = error.span().unwrap_or(0..0);
    // At the end of the file the place is past the last line: point to its last character.
    let last = text.trim_end().len();
    let range = if range.start > last && last > 0 {
        last - 1..last
    } else {
        range
    };
    let range = char_range(text, range);
    let span = Span::new(file, range.clone());
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    if !message.contains("duplicate key") {
        return Diagnostic::new(span, "syntax", format!("not valid TOML: {message}"));
    }
    let line_start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let name = &text[range];
    let diagnostic = Diagnostic::new(span, "duplicate", format!("`{name}` is defined twice"))
        .label("again here");
    // For a table the first definition is a line with the same header.
    let mut at = 0;
    for earlier in text[..line_start].split_inclusive('\n') {
        if line.trim_start().starts_with('[') && earlier.trim() == line.trim() {
            let first = Span::new(file, at..at + earlier.trim_end().len());
            return diagnostic.related(first, "first defined here");
        }
        at += earlier.len();
    }
    diagnostic
}

/// The range made one of whole characters inside the text.
fn char_range(text: &str, range: Range<usize>) -> Range<usize> {
    let mut start = range.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = range.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

struct Builder<'a> {
    text: &'a str,
    file: u32,
    env: Env<'a>,
    errors: &'a mut Vec<Diagnostic>,
}

impl Builder<'_> {
    fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.file, char_range(self.text, range))
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| {
                let span = self.span(key.span());
                Entry {
                    key: key.get_ref().to_string(),
                    span,
                    node: self.node(value),
                    read: Cell::new(false),
                }
            })
            .collect();
        // The parser sorts by name; people think in the order of the file.
        entries.sort_by_key(|e| e.span.start);
        Table {
            entries,
            doubtful: Cell::new(false),
        }
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>) -> Node {
        let span = self.span(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => self.expand(text, span).map_or(Value::Wrong, Value::Text),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(i) => Value::Integer(i),
                    Err(_) => {
                        self.errors.push(Diagnostic::new(
                            span,
                            "number",
                            "this number is too large",
                        ));
                        Value::Wrong
                    }
                }
            }
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(list) => Value::List(list.iter().map(|v| self.node(v)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, span }
    }

    /// Fills in `${VAR}` and `${VAR:-default}`; `$${` stands for `${`.
    fn expand(&mut self, text: &str, span: Span) -> Option<String> {
        let mut sound = true;
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at]);
                out.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                let message = "`${` is not closed";
                self.errors.push(
                    Diagnostic::new(span, "variable", message)
                        .help("a literal `${` is written `$${`"),
                );
                return None;
            };
            let inside = &rest[at + 2..at + end];
            rest = &rest[at + end + 1..];
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !valid {
                sound = false;
                let message = format!("`{name}` is not a name of a variable");
                self.errors.push(
                    Diagnostic::new(span, "variable", message)
                        .help("a literal `${` is written `$${`"),
                );
                continue;
            }
            // As in a shell, `:-` also replaces an empty value.
            match ((self.env)(name), default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => {
                    sound = false;
                    let message = format!("the environment variable `{name}` is not set");
                    let help = format!("set it, or give a default: `${{{name}:-default}}`");
                    self.errors
                        .push(Diagnostic::new(span, "variable", message).help(help));
                }
            }
        }
        out.push_str(rest);
        sound.then_some(out)
    }
}
