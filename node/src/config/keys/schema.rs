//! JSON Schema (draft 7, which editors know best) of the files, for completion and early warnings while they are written.
//!
//! A schema is never stricter than the decoder: what it refuses is refused. It is less strict where one key depends on another, or on the
//! machine; `fednode check` has the last word.

use serde_json::{Map, Value, json};

use super::{CONF, Key, Kind, Need, PEERS, below};
use crate::config::changes;
use storage::document::{ByteSize, Span};

/// What [`Span`] reads.
const DURATION: &str = "^\\s*([0-9]+h([0-9]+m)?([0-9]+s)?([0-9]+ms)?|[0-9]+m([0-9]+s)?([0-9]+ms)?|[0-9]+s([0-9]+ms)?|[0-9]+ms)\\s*$";
/// What [`ByteSize`] reads.
const SIZE: &str = "^\\s*[0-9]+\\s*([kKmMgG]?[bB]|[kKmMgG][iI][bB])?\\s*$";

/// The schema of `conf.yaml`.
#[must_use]
pub fn conf_schema() -> Value {
    let mut schema = mapping(CONF, "", true);
    head(
        &mut schema,
        "fednode's conf.yaml",
        "A node of a federation. After an edit: `fednode check`, then `fednode reload` or SIGHUP.",
    );
    // A file that is written to needs a name.
    schema["properties"]["logging"]["if"] = json!({
        "required": ["file_output"], "properties": {"file_output": {"const": true}},
    });
    schema["properties"]["logging"]["then"] =
        json!({"required": ["file_name"], "properties": {"file_name": {"type": "string"}}});
    let jwt = &mut schema["properties"]["admin"]["properties"]["jwt"];
    jwt["if"] =
        json!({"type": "object", "required": ["algorithm"], "properties": {"algorithm": {"pattern": "^HS"}}});
    jwt["then"] = json!({
        "anyOf": [has("secret"), has("secret_file"), {"type": "null"}],
        "properties": {"public_key_file": {"type": "null"}},
    });
    jwt["else"] = json!({
        "anyOf": [has("public_key_file"), {"type": "null"}],
        "properties": {"secret": {"type": "null"}, "secret_file": {"type": "null"}},
    });
    jwt["properties"]["sources"]["items"]["oneOf"] = json!([has("header"), has("query")]);
    schema
}

/// The schema of `peers.yaml`. Unknown keys are allowed there (contract: "peers.yaml"): other programs may keep theirs.
#[must_use]
pub fn peers_schema() -> Value {
    let mut schema = mapping(PEERS, "", false);
    head(&mut schema, "fednode's peers.yaml", "The members of the federation.");
    schema
}

fn head(schema: &mut Value, title: &str, description: &str) {
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = title.into();
    schema["description"] = description.into();
}

/// Written, and not as `null`.
fn has(key: &str) -> Value {
    json!({"type": "object", "required": [key], "properties": {key: {"type": "string"}}})
}

fn mapping(keys: &[Key], parent: &str, closed: bool) -> Value {
    let properties: Map<String, Value> =
        below(keys, parent).map(|key| (key.name().to_owned(), property(keys, key, closed))).collect();
    let required: Vec<&str> =
        below(keys, parent).filter(|key| key.need == Need::Required).map(Key::name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if closed {
        schema["additionalProperties"] = false.into();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(keys: &[Key], key: &Key, closed: bool) -> Value {
    let mut schema = match key.kind {
        Kind::Section => mapping(keys, key.path, closed),
        Kind::Entries => json!({"type": "array", "items": mapping(keys, &format!("{}[]", key.path), closed)}),
        _ => value(&key.kind),
    };
    if takes_null(keys, key) {
        or_null(&mut schema);
    }
    schema["description"] = described(key).into();
    if let Need::Default(text) = key.need
        && let Ok(default) = serde_yaml::from_str::<Value>(text)
        && !matches!(key.kind, Kind::Section)
    {
        schema["default"] = default;
    }
    schema
}

/// Nothing written is an empty mapping or list; of a value, only where there need not be one.
fn takes_null(keys: &[Key], key: &Key) -> bool {
    match key.kind {
        _ if key.need == Need::Optional || key.path == "node.private_key" => true,
        Kind::Section => below(keys, key.path).all(|inner| inner.need != Need::Required),
        Kind::Entries | Kind::Map(..) => true,
        // What has to be listed has to be there.
        Kind::List(_) => key.need != Need::Required,
        _ => false,
    }
}

fn or_null(schema: &mut Value) {
    if let Some(names) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        names.push(Value::Null);
    }
    match schema["type"].take() {
        Value::String(name) => schema["type"] = json!([name, "null"]),
        Value::Array(mut names) => {
            names.push("null".into());
            schema["type"] = names.into();
        }
        other => schema["type"] = other,
    }
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Section | Kind::Entries => json!({}),
        Kind::List(inner) => json!({"type": "array", "items": value(inner)}),
        Kind::Map(names, inner) => json!({
            "type": "object", "propertyNames": {"pattern": names, "maxLength": 128}, "additionalProperties": value(inner),
        }),
        Kind::Text | Kind::Path => json!({"type": "string", "pattern": "\\S"}),
        Kind::AnyText => json!({"type": "string"}),
        Kind::Form(pattern, _) => json!({"type": "string", "pattern": pattern}),
        Kind::Integer(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Number(low, high) => json!({"type": "number", "minimum": low, "maximum": high}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Duration(..) => json!({"type": "string", "pattern": DURATION}),
        Kind::Size(low, high) => {
            json!({"type": ["string", "integer"], "pattern": SIZE, "minimum": low, "maximum": high})
        }
        Kind::OneOf(names) => json!({"type": "string", "enum": names}),
        Kind::Plain => json!({"type": ["string", "number", "boolean", "array"], "minItems": 1}),
    }
}

/// What an editor shows: meaning, bounds, default, and what a reload does with it.
fn described(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let Some(range) = range(&key.kind) {
        text += &format!("\nFrom {range}.");
    }
    match key.need {
        Need::Required => text += "\nMust be there.",
        Need::Default(default) if !matches!(key.kind, Kind::Section) => {
            text += &format!("\nDefault: {default}")
        }
        Need::Default(_) | Need::Optional => {}
    }
    if let Some((components, strategy)) = changes::row_of(key.path) {
        text +=
            &format!("\nA change reaches {}: {}.", components.join(", "), super::reference::how(strategy));
    }
    text
}

/// The bounds in the units of the file.
pub(super) fn range(kind: &Kind) -> Option<String> {
    let span = |ms: u64| Span(std::time::Duration::from_millis(ms));
    match kind {
        Kind::Integer(low, high) if low == high => None,
        Kind::Integer(low, high) => Some(format!("{low} to {high}")),
        Kind::Number(low, high) => Some(format!("{low} to {high}")),
        Kind::Duration(low, high) => Some(format!("{} to {}", span(*low), span(*high))),
        Kind::Size(low, high) => Some(format!("{} to {}", ByteSize(*low), ByteSize(*high))),
        _ => None,
    }
}
