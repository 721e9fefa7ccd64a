//! The fields of a refused request, for the guard to say what they resemble. Nothing is decided by it.

use gangline_guard::inspect::{Inspection, inspect};
use serde_json::Value;

/// Longest body that is taken apart, in bytes: what attacks is at its beginning.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Names and texts of a JSON value, each with the name it stands under.
fn leaves<'v>(name: &'v str, value: &'v Value, out: &mut Vec<(&'v str, &'v str)>) {
    match value {
        Value::String(text) => out.push((name, text)),
        Value::Array(items) => items.iter().for_each(|item| leaves(name, item, out)),
        Value::Object(map) => map.iter().for_each(|(name, item)| {
            out.push(("a name", name));
            leaves(name, item, out);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a request's path, query and body resemble; nothing where they resemble nothing.
pub fn inspected(path: &str, query: &str, body: &[u8]) -> Option<Inspection> {
    let body = &body[..body.len().min(BODY_BYTES_MAX)];
    let decoded = |text: &str| {
        form_urlencoded::parse(format!("x={}", text.replace('&', "%26")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    let segments: Vec<String> = path.split('/').skip(1).map(decoded).collect();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let mut fields: Vec<(&str, &str)> = segments.iter().map(|s| ("path", s.as_str())).collect();
    fields.extend(pairs.iter().flat_map(|(name, value)| [("a name", &**name), (&**name, &**value)]));
    let json = serde_json::from_slice::<Value>(body);
    let form: Vec<_>;
    match &json {
        Ok(value) => leaves("body", value, &mut fields),
        Err(_) => {
            form = form_urlencoded::parse(body).collect();
            fields.extend(form.iter().map(|(name, value)| (&**name, &**value)));
        }
    }
    let inspection = inspect(fields);
    (inspection.score > 0).then_some(inspection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_request_is_looked_at() {
        let score = |path, query, body: &str| inspected(path, query, body.as_bytes()).map_or(0, |i| i.score);
        assert_eq!(score("/api/v1/gpus/gpu_1/label", "q=llvmpipe&limit=5", "{\"label\":\"Ada's rig\"}"), 0);
        assert_eq!(score("/api/v1/gpus/1'%20OR%20'1'='1/label", "", ""), 1);
        assert_eq!(score("/", "q=1%27+OR+%271%27%3D%271", ""), 1);
        assert_eq!(score("/", "", "{\"a\":[{\"b\":\"1' UNION SELECT 1 --\"}]}"), 1);
        assert_eq!(score("/", "", "name=%3Cscript%3Ealert(1)%3C/script%3E"), 1);
    }
}
