//! Requests made up from the network's own description of itself: one that fits a schema, and the same
//! with hostile text in each of its fields in turn.

use gangline_types::UnixSeconds;
use gangline_wire::sig;
use serde_json::{Map, Value, json};

use super::Mallory;

/// Hostile text: for SQL, for a shell, for a page, for a template, for a path, for a header, for a parser.
pub const HOSTILE: [&str; 9] = [
    "'; DROP TABLE gpu; --",
    "\" OR 1=1 --",
    "$(touch /tmp/gangline-was-here)`id`",
    "<script>alert(1)</script>\"><img src=x onerror=alert(1)>",
    "{{7*7}}${7*7}{% include 'x' %}",
    "../../../../../../etc/passwd",
    "a\r\nx-account-id: 1\r\n\r\nGET / HTTP/1.1",
    "\u{0}\u{202e}\u{1b}[2J",
    "%s%n%00'\\",
];

/// A value that fits `schema`, as small as it can be; `ids` are used for fields that are ids.
pub fn sample(schema: &Value, document: &Value, ids: &dyn Fn(&str) -> Option<String>, depth: u32) -> Value {
    if depth > 12 {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        return sample(target, document, ids, depth + 1);
    }
    for key in ["const", "default"] {
        if let Some(value) = schema.get(key).filter(|value| !value.is_null()) {
            return value.clone();
        }
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        let options = schema[key].as_array().into_iter().flatten();
        if let Some(first) = options.into_iter().find(|option| option["type"] != "null") {
            return sample(first, document, ids, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default(),
        other => other.clone(),
    };
    match kind.as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            Value::Object(
                fields
                    .iter()
                    .map(|(name, field)| (name.clone(), sample(field, document, ids, depth + 1)))
                    .collect::<Map<_, _>>(),
            )
        }
        Some("array") => json!([sample(&schema["items"], document, ids, depth + 1)]),
        Some("integer" | "number") => json!(schema["minimum"].as_u64().unwrap_or(0)),
        Some("boolean") => json!(false),
        Some("string") => match schema["pattern"].as_str() {
            Some(pattern) => ids(pattern).map_or(json!("x"), Value::String),
            None => json!("x"),
        },
        _ => Value::Null,
    }
}

/// Where the strings of a value are.
pub fn strings(value: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::String(_) => found.push(at.to_owned()),
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{at}/{i}"), found))
            }
            Value::Object(fields) => fields.iter().for_each(|(n, v)| walk(v, &format!("{at}/{n}"), found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

/// `text` for a path segment or query value.
pub fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Signature headers made at another time than now.
pub fn signed_at(
    m: &Mallory,
    method: &str,
    path: &str,
    body: &[u8],
    seconds: u64,
) -> Vec<(&'static str, String)> {
    let sequence = gangline_worker::client::now().0 * 1000;
    let covered = sig::Covered {
        method,
        authority: m.authority(),
        path,
        query: "",
        body_digest: sig::digest(body),
        sequence,
    };
    sig::sign(&covered, UnixSeconds(seconds), &m.key).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_the_description_has_a_sample_and_its_strings_are_found() {
        let document = gangline_wire::openapi::document("0");
        let schema = document
            .pointer("/paths/~1api~1v1~1machine~1inventory/put/requestBody/content/application~1json/schema")
            .unwrap();
        let value = sample(schema, &document, &|pattern| Some(format!("[{pattern}]")), 0);
        let found = strings(&value);
        for expected in [
            "/host/name",
            "/host/disks/0/mount",
            "/gpus/0/model",
            "/gpus/0/slot",
            "/worker_version",
            "/isolation/0",
        ] {
            assert!(found.iter().any(|at| at == expected), "{expected} is not in {found:?}");
        }
        assert_eq!(percent("a b/ü"), "a%20b%2F%C3%BC");
    }
}
