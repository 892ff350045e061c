//! The schema accepts every example, and every key of it is in `examples/everything.toml`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use fathom_core::plan::Regex;
use serde_json::Value;

fn example(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The part of JSON Schema that ours uses; unknown keywords are refused.
fn validate(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{at}: {why}: {value}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "examples" => true,
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "number" => value.is_number(),
                    other => panic!("type {other}"),
                };
                rule.as_array()
                    .map_or_else(|| is(rule), |names| names.iter().any(is))
            }
            "pattern" => Regex::new(rule.as_str().unwrap())
                .unwrap()
                .is_match(value.as_str().unwrap_or("").as_bytes()),
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64() >= rule.as_i64(),
            "maximum" => value.as_i64() <= rule.as_i64(),
            "minItems" => value
                .as_array()
                .is_none_or(|l| l.len() as u64 >= rule.as_u64().unwrap()),
            "not" => false,
            "anyOf" => rule
                .as_array()
                .unwrap()
                .iter()
                .any(|s| validate(s, value, at).is_ok()),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|k| value.get(k.as_str().unwrap()).is_some()),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(rule, item, &format!("{at}[]"))?;
                }
                true
            }
            "propertyNames" => {
                for (name, _) in value.as_object().into_iter().flatten() {
                    validate(rule, &name.as_str().into(), &format!("{at}.{name}"))?;
                }
                true
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        validate(rule, inner, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let named = schema
                        .get("properties")
                        .is_some_and(|p| p.get(name).is_some());
                    match (named, rule) {
                        (true, _) | (_, Value::Bool(true)) => {}
                        (false, Value::Bool(false)) => return fail(&format!("no key {name}")),
                        (false, rule) => validate(rule, inner, &format!("{at}.{name}"))?,
                    }
                }
                true
            }
            other => panic!("keyword {other}"),
        };
        if !fits {
            return fail(keyword);
        }
    }
    Ok(())
}

#[test]
fn examples_are_valid() {
    let schema = fathom_config::schema();
    for name in [
        "minimal",
        "http",
        "stream",
        "udp",
        "tls",
        "packet",
        "everything",
    ] {
        validate(&schema, &example(&format!("{name}.toml")), name).unwrap();
    }
    let contract = toml::from_str(include_str!("contract.toml")).unwrap();
    validate(&schema, &contract, "contract").unwrap();
}

#[test]
fn wrong_files_are_not() {
    let schema = fathom_config::schema();
    for text in [
        "x = 1",
        "[listeners.a]\ndepth = \"http\"",
        "[listeners.a]\nbind = \":80\"\ndepth = \"deep\"",
        "[pools.a]\nservers = [\"a:1\"]\nsticky = {}",
        "[pools.a]\nservers = [\"a:1\"]\nslow_start = \"soon\"",
        "[pools.\"a b\"]\nservers = [\"a:1\"]",
        "[pools.a]\nservers = [{ address = \"a:1\", weight = 70000 }]",
    ] {
        assert!(
            validate(&schema, &toml::from_str(text).unwrap(), "").is_err(),
            "{text}"
        );
    }
}

/// Every key of the schema as `a.*.b[].c`.
fn keys(schema: &Value, at: &str, out: &mut BTreeSet<String>) {
    for (name, inner) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if inner.get("not").is_none() {
            let path = format!("{at}.{name}");
            keys(inner, &path, out);
            out.insert(path);
        }
    }
    if let Some(rule) = schema.get("additionalProperties").filter(|r| r.is_object()) {
        keys(rule, &format!("{at}.*"), out);
    }
    if let Some(rule) = schema.get("items") {
        keys(rule, at, out);
    }
    for rule in schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        keys(rule, at, out);
    }
}

/// Whether a value has the key.
fn has(value: &Value, path: &[&str]) -> bool {
    match (value, path) {
        (_, []) => true,
        (Value::Array(list), _) => list.iter().any(|v| has(v, path)),
        (Value::Object(map), ["*", rest @ ..]) => map.values().any(|v| has(v, rest)),
        (Value::Object(map), [name, rest @ ..]) => map.get(*name).is_some_and(|v| has(v, rest)),
        _ => false,
    }
}

#[test]
fn every_key_is_in_the_example_of_everything() {
    let mut all = BTreeSet::new();
    keys(&fathom_config::schema(), "", &mut all);
    assert!(all.len() > 150, "{}", all.len());
    let everything = example("everything.toml");
    let missing: Vec<_> = all
        .iter()
        .filter(|path| {
            *path != ".include" && !has(&everything, &path[1..].split('.').collect::<Vec<_>>())
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
