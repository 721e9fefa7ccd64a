//! The API as an OpenAPI 3.1 document, made from the table of endpoints. JSON Schema 2020-12 is what
//! OpenAPI 3.1 speaks, so the schemas of the Rust types are used as they are.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{
    Credential, Media,
    endpoint::{Method, Spec},
    endpoints::ALL,
};

fn tag(spec: &Spec) -> &'static str {
    match (spec.media, spec.path) {
        (Media::Html, _) => "pages",
        (_, p) if p.starts_with("/api/v1/public") || p == "/events" => "public",
        (_, p) if p.starts_with("/api/v1/enrolments") => "enrolment",
        (_, p) if p.starts_with("/api/v1/machine") || p.starts_with("/api/v1/gpus") => "machines",
        (_, p) if p.starts_with("/api/v1/") => "accounts and renters",
        _ => "network",
    }
}

fn content_type(media: Media) -> &'static str {
    match media {
        Media::Json => "application/json",
        Media::Html => "text/html",
        Media::Text => "text/plain",
        Media::Events => "text/event-stream",
        Media::Stream => "application/octet-stream",
    }
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('{')
        .skip(1)
        .filter_map(|p| p.split_once('}'))
        .map(|(name, _)| {
            let name = name.trim_start_matches('*');
            let meaning = match name {
                "period" => "Period within the season, counted from 0.".to_owned(),
                "path" => "Path within the cluster's Ray.".to_owned(),
                "token" => "The one-time link's secret.".to_owned(),
                other => format!("Id of the {other}."),
            };
            json!({"name": name, "in": "path", "required": true, "description": meaning, "schema": {"type": "string"}})
        })
        .collect()
}

fn is_empty_object(schema: &Value, components: &Map<String, Value>) -> bool {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    let target = name.and_then(|n| components.get(n)).unwrap_or(schema);
    target.get("type").and_then(Value::as_str) == Some("object")
        && target.get("properties").is_none_or(|p| p.as_object().is_some_and(Map::is_empty))
}

/// The whole document.
pub fn document(version: &str) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let rows: Vec<_> =
        ALL.iter().map(|d| (d.spec, (d.schemas)(&mut generator).map(|s| s.to_value()))).collect();
    let error = generator.subschema_for::<crate::ErrorBody>().to_value();
    let components: Map<String, Value> = generator.take_definitions(true);

    let mut paths = Map::new();
    for (spec, [query, request, response]) in rows {
        let mut parameters = path_parameters(spec.path);
        let query = query
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|r| r.rsplit('/').next())
            .and_then(|n| components.get(n))
            .cloned()
            .unwrap_or(query);
        for (name, schema) in query.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let description = schema.get("description").cloned().unwrap_or_default();
            parameters.push(json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema}));
        }
        let mut operation = json!({
            "operationId": spec.name,
            "summary": spec.summary.trim(),
            "tags": [tag(&spec)],
            "parameters": parameters,
            "responses": {
                "200": {"description": "Done.", "content": {content_type(spec.media): {"schema": if spec.media == Media::Json { response } else { json!({"type": "string"}) }}}},
                "default": {"description": "Refused or failed: what happened, to what, and what to do.", "content": {"application/json": {"schema": error}}},
            },
            "x-gangline-action": spec.action.as_str(),
        });
        let security = match spec.credential {
            Credential::Nobody | Credential::MaybeSession => json!([]),
            Credential::NewKey | Credential::Key => json!([{"signature": []}]),
            Credential::Session | Credential::AnySession => json!([{"session": []}]),
            Credential::Frame => json!([{"frame": []}]),
        };
        operation["security"] = security;
        if spec.method != Method::Get && !is_empty_object(&request, &components) {
            let kind = if spec.media == Media::Html {
                "application/x-www-form-urlencoded"
            } else {
                "application/json"
            };
            operation["requestBody"] = json!({"required": true, "content": {kind: {"schema": request}}, "x-gangline-bytes-max": spec.body_bytes_max});
        }
        let path = spec.path.replace("{*", "{");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[spec.method.as_str().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gangline",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "One network of many owners' GPUs. Identity is a verified signature or a session; it is never read from a header, path or body.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "signature": {"type": "apiKey", "in": "header", "name": "Signature", "description": "RFC 9421 HTTP message signature (Ed25519) over method, authority, path, query, content digest and a sequence number."},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-gangline", "description": "A browser's session."},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_in_the_document_and_every_reference_resolves() {
        let doc = document("0");
        let operations: usize =
            doc["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(operations, ALL.len());
        let text = doc.to_string();
        for reference in text.split("\"$ref\":\"").skip(1).map(|r| r.split('"').next().unwrap()) {
            assert!(doc.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn a_body_is_described_where_one_is_taken() {
        let doc = document("0");
        assert!(doc.pointer("/paths/~1api~1v1~1machine~1beats/post/requestBody").is_some());
        assert!(doc.pointer("/paths/~1api~1v1~1machine~1leave/post/requestBody").is_none());
    }
}
