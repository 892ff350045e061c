//! Whether a tree has the shape: unknown keys, missing ones, wrong types, strings of the wrong form.

use super::{Kind, Need, Section};
use crate::diagnostic::Diagnostic;
use crate::form::DURATION;
use crate::source::Span;
use crate::suggest::nearest;
use crate::tree::{Node, Table, Value};

/// Adds everything that is wrong. `place` is where to point for what is missing.
pub(crate) fn check(
    table: &Table,
    section: &'static Section,
    place: Option<Span>,
    out: &mut Vec<Diagnostic>,
) {
    let mut meant = Vec::new();
    for entry in &table.entries {
        let Some(key) = section.key(&entry.key) else {
            meant.extend(near(&entry.key, section));
            out.push(unknown(&entry.key, entry.span, section));
            continue;
        };
        if key.need == Need::Later {
            let message = format!("`{}` is not built yet", entry.key);
            out.push(
                Diagnostic::new(entry.span, "not-built", message)
                    .label("reserved for a later version"),
            );
            continue;
        }
        value(&entry.node, &key.kind, &entry.key, entry.span, out);
    }
    for key in section.keys.iter().filter(|k| k.need == Need::Required) {
        // A misspelt key is not missing too.
        if table.entry(key.name).is_none() && !meant.contains(&key.name) {
            let message = format!("{} needs `{}`", section.name, key.name);
            out.push(Diagnostic::new(place, "missing", message).help(missing_help(key)));
        }
    }
}

fn missing_help(key: &super::Key) -> String {
    match example(&key.kind) {
        Some(example) => format!("such as `{} = {example}`", key.name),
        None => key.doc.to_owned(),
    }
}

fn example(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Text(form) => Some(format!("{:?}", form.example)),
        Kind::OneOf(words, _) => Some(format!("{:?}", words.first()?)),
        Kind::Integer { min, .. } => Some(min.to_string()),
        Kind::Bool => Some("true".into()),
        Kind::List(inner) => Some(format!("[{}]", example(inner)?)),
        Kind::OneOrMany(inner) => example(inner),
        Kind::Either(kinds) => kinds.iter().find_map(example),
        Kind::Table(_) | Kind::Map(..) | Kind::Scalar | Kind::Any => None,
    }
}

fn built(section: &'static Section) -> impl Iterator<Item = &'static str> {
    section
        .keys
        .iter()
        .filter(|k| k.need != Need::Later)
        .map(|k| k.name)
}

fn near(word: &str, section: &'static Section) -> Option<&'static str> {
    nearest(word, built(section))
}

fn unknown(word: &str, span: Span, section: &'static Section) -> Diagnostic {
    let diagnostic = Diagnostic::new(
        span,
        "unknown-key",
        format!("{} has no key `{word}`", section.name),
    );
    match near(word, section) {
        Some(near) => diagnostic.did_you_mean(span, Some(near), false),
        None => diagnostic.help(format!(
            "known: {}",
            built(section).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// `key` names the value in messages; `key_span` is where it was named.
fn value(node: &Node, kind: &'static Kind, key: &str, key_span: Span, out: &mut Vec<Diagnostic>) {
    let wrong_type = |out: &mut Vec<Diagnostic>| {
        let message = format!(
            "`{key}` must be {}, not {}",
            describe(kind),
            node.value.type_name()
        );
        let mut diagnostic = Diagnostic::new(node.span, "type", message);
        if let (Kind::Text(form), Value::Integer(i)) = (kind, &node.value)
            && form.name == DURATION.name
        {
            diagnostic = diagnostic.help(format!("with its unit: `\"{i}s\"`"));
        } else if let Some(example) = example(kind) {
            diagnostic = diagnostic.help(format!("such as `{example}`"));
        }
        out.push(diagnostic);
    };
    match (kind, &node.value) {
        (_, Value::Wrong) | (Kind::Any, _) | (Kind::Bool, Value::Bool(_)) => {}
        (Kind::Scalar, Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_)) => {}
        (Kind::Integer { min, max }, Value::Integer(i)) => {
            if !(min..=max).contains(&i) {
                let message = format!("`{key}` must be from {min} to {max}, not {i}");
                out.push(Diagnostic::new(node.span, "range", message));
            }
        }
        (Kind::Text(form), Value::Text(text)) => {
            if let Err(wrong) = (form.check)(text) {
                let mut diagnostic =
                    Diagnostic::new(node.span, "value", format!("`{key}`: {}", wrong.message));
                diagnostic.help = wrong.help;
                out.push(diagnostic.label(format!("expected {}", form.name)));
            }
        }
        (Kind::OneOf(words, later), Value::Text(text)) => {
            one_of(text, words, later, key, node.span, out)
        }
        (Kind::Table(section), Value::Table(table)) => {
            // A table of its own is named by its header; an inline one stands behind its key.
            let place = if key_span.file == node.span.file {
                key_span
            } else {
                node.span
            };
            check(table, section, Some(place), out);
        }
        (Kind::Map(names, inner), Value::Table(table)) => {
            for entry in &table.entries {
                if let Err(wrong) = (names.check)(&entry.key) {
                    let mut diagnostic = Diagnostic::new(entry.span, "name", wrong.message);
                    diagnostic.help = wrong.help;
                    out.push(diagnostic);
                }
                value(&entry.node, inner, &entry.key, entry.span, out);
            }
        }
        (Kind::List(inner), Value::List(list)) => {
            for item in list {
                value(item, inner, key, item.span, out);
            }
        }
        (Kind::OneOrMany(inner), Value::List(list)) => {
            if list.is_empty() {
                out.push(Diagnostic::new(
                    node.span,
                    "empty",
                    format!("`{key}` must not be empty"),
                ));
            }
            for item in list {
                value(item, inner, key, item.span, out);
            }
        }
        (Kind::OneOrMany(inner), _) if takes(inner, &node.value) => {
            value(node, inner, key, key_span, out)
        }
        (Kind::Either(kinds), _) => {
            let fitting: Vec<&'static Kind> =
                kinds.iter().filter(|k| takes(k, &node.value)).collect();
            // A word of a list, or else a string of a form.
            let word = fitting.iter().find(|k| match (k, &node.value) {
                (Kind::OneOf(words, _), Value::Text(text)) => words.contains(&text.as_str()),
                _ => false,
            });
            match (word.or(fitting.last()), &node.value) {
                (Some(Kind::OneOf(words, _)), Value::Text(text))
                    if !words.contains(&text.as_str()) =>
                {
                    let message = format!("`{key}` must be {}, not {text:?}", describe(kind));
                    out.push(Diagnostic::new(node.span, "value", message));
                }
                (Some(kind), _) => value(node, kind, key, key_span, out),
                (None, _) => wrong_type(out),
            }
        }
        _ => wrong_type(out),
    }
}

fn one_of(
    text: &str,
    words: &[&str],
    later: &[&str],
    key: &str,
    span: Span,
    out: &mut Vec<Diagnostic>,
) {
    if words.contains(&text) {
        return;
    }
    if later.contains(&text) {
        out.push(
            Diagnostic::new(span, "not-built", format!("`{text}` is not built yet"))
                .label("reserved for a later version"),
        );
        return;
    }
    let diagnostic = Diagnostic::new(span, "value", format!("`{key}` cannot be {text:?}"));
    out.push(match nearest(text, words.iter().copied()) {
        Some(near) => diagnostic.did_you_mean(span, Some(near), true),
        None => diagnostic.help(format!("one of {}", words.join(", "))),
    });
}

fn takes(kind: &Kind, value: &Value) -> bool {
    match kind {
        Kind::Bool => matches!(value, Value::Bool(_)),
        Kind::Integer { .. } => matches!(value, Value::Integer(_)),
        Kind::Text(_) | Kind::OneOf(..) => matches!(value, Value::Text(_)),
        Kind::Table(_) | Kind::Map(..) => matches!(value, Value::Table(_)),
        Kind::List(_) | Kind::OneOrMany(_) => matches!(value, Value::List(_)),
        Kind::Either(kinds) => kinds.iter().any(|k| takes(k, value)),
        Kind::Scalar | Kind::Any => true,
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".into(),
        Kind::Integer { min, max } if *max >= i64::from(u32::MAX) => {
            format!("a whole number of at least {min}")
        }
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Text(form) => form.name.into(),
        Kind::OneOf(words, _) => format!("one of {}", words.join(", ")),
        Kind::Table(_) | Kind::Map(..) => "a table".into(),
        Kind::List(inner) => format!("an array, each {}", describe(inner)),
        Kind::OneOrMany(inner) => format!("{}, or an array of such", describe(inner)),
        Kind::Either(kinds) => kinds.iter().map(describe).collect::<Vec<_>>().join(" or "),
        Kind::Scalar => "a string, a number or a boolean".into(),
        Kind::Any => "anything".into(),
    }
}
