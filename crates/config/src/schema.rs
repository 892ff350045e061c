//! The JSON Schema of the file, from the tables that the parser uses.

use serde_json::{Map, Value, json};

use crate::shape::{Kind, Need, ROOT, Section};

/// Every key with its description, default and form (JSON Schema 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut root = section(&ROOT);
    let mut out = Map::new();
    out.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    out.insert("title".into(), "fathom.toml".into());
    if let Some(root) = root.as_object_mut() {
        out.append(root);
    }
    Value::Object(out)
}

fn section(section: &'static Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        let mut property = match key.need {
            Need::Later => json!({ "not": {} }),
            _ => kind(&key.kind),
        };
        if let Some(property) = property.as_object_mut() {
            let doc = match key.need {
                Need::Later => format!("Not built yet: {}", key.doc),
                _ => key.doc.to_owned(),
            };
            property.insert("description".into(), doc.into());
            if let Need::Default(text) = key.need {
                property.insert(
                    "default".into(),
                    serde_json::from_str(text).unwrap_or(Value::Null),
                );
            }
        }
        properties.insert(key.name.into(), property);
    }
    let required: Vec<&str> = section
        .keys
        .iter()
        .filter(|k| k.need == Need::Required)
        .map(|k| k.name)
        .collect();
    let mut out = json!({
        "type": "object",
        "description": section.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    out
}

/// What stands for something else wherever a string may.
const VARIABLE: &str = "\\$\\{";

fn kind(of: &'static Kind) -> Value {
    match of {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Text(form) => {
            let mut out =
                json!({ "type": "string", "title": form.name, "examples": [form.example] });
            if let Some(pattern) = form.pattern {
                out["pattern"] = format!("({pattern})|{VARIABLE}").into();
            }
            out
        }
        Kind::OneOf(words, _) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": VARIABLE }] })
        }
        Kind::Table(inner) => section(inner),
        Kind::Map(names, inner) => {
            let mut out = json!({ "type": "object", "additionalProperties": kind(inner) });
            if let Some(pattern) = names.pattern {
                out["propertyNames"] = json!({ "pattern": pattern });
            }
            out
        }
        Kind::List(inner) => json!({ "type": "array", "items": kind(inner) }),
        Kind::OneOrMany(inner) => {
            json!({ "anyOf": [kind(inner), { "type": "array", "items": kind(inner), "minItems": 1 }] })
        }
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(kind).collect::<Vec<_>>() }),
        Kind::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Any => json!({}),
    }
}
