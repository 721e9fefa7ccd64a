//! The API reference, drawn from the OpenAPI 3.1 document itself, so that it cannot say anything else.
//! It reads what it understands and passes over the rest; it calls nobody.

use askama::Template;
use serde_json::Value;

use crate::{
    chrome::{Chrome, draw},
    ui,
};

/// What the API reference shows.
#[derive(Clone, Debug)]
pub struct ApiView {
    /// The whole OpenAPI 3.1 document.
    pub document: Value,
    /// Path of the same document as JSON.
    pub document_href: String,
}

/// Operations under one tag.
struct Group {
    name: String,
    id: String,
    operations: Vec<Operation>,
}

/// One method of one path.
struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: Vec<String>,
    guarded: Vec<String>,
    parameters: Vec<Parameter>,
    request: Option<Shape>,
    responses: Vec<Answer>,
}

/// A parameter of an operation.
struct Parameter {
    name: String,
    place: String,
    shape: Shape,
    required: bool,
    meaning: String,
}

/// One answer of an operation.
struct Answer {
    status: String,
    shape: Option<Shape>,
    meaning: String,
}

/// What a value looks like: words, and a schema of this page where it has a name.
#[derive(Clone, Default)]
struct Shape {
    before: String,
    name: String,
    anchor: String,
    after: String,
}

/// A named schema.
struct Schema {
    id: String,
    name: String,
    description: Vec<String>,
    shape: Shape,
    fields: Vec<Field>,
}

/// A field of a schema.
struct Field {
    name: String,
    shape: Shape,
    required: bool,
    meaning: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_owned()
}

fn paragraphs(value: &Value) -> Vec<String> {
    text(value).split("\n\n").map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A name as part of an id: letters and digits, the rest as dashes.
fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Knows the document, to follow its references and to make ids that cannot collide.
struct Reader<'a> {
    document: &'a Value,
    schemas: Vec<&'a String>,
}

impl<'a> Reader<'a> {
    fn new(document: &'a Value) -> Self {
        Self { document, schemas: members(&document["components"]["schemas"]).map(|s| s.0).collect() }
    }

    /// The id of a schema on this page; empty where the document has no such schema.
    fn anchor(&self, name: &str) -> String {
        match self.schemas.iter().position(|s| *s == name) {
            Some(at) => format!("schema-{at}-{}", slug(name)),
            None => String::new(),
        }
    }

    /// The object a local reference points to, or the value itself.
    fn follow(&self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.document.pointer(pointer).unwrap_or(value),
            None => value,
        }
    }

    /// A schema in words. `depth` ends documents that nest without end.
    fn shape(&self, schema: &Value, depth: u8) -> Shape {
        let word = |w: &str| Shape { before: w.to_owned(), ..Shape::default() };
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default().to_owned();
            return Shape { anchor: self.anchor(&name), name, ..Shape::default() };
        }
        if depth == 0 {
            return word("…");
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            let Some(choices) = schema[key].as_array() else { continue };
            let real: Vec<_> = choices.iter().filter(|c| c["type"] != "null").collect();
            if let [only] = real[..] {
                let mut shape = self.shape(only, depth - 1);
                if real.len() < choices.len() {
                    shape.after.push_str(" or null");
                }
                return shape;
            }
            return word(&format!(
                "{} of {} shapes",
                if key == "allOf" { "all" } else { "one" },
                choices.len()
            ));
        }
        if let Some(constant) = schema.get("const") {
            return word(&constant.to_string());
        }
        if let Some(values) = schema["enum"].as_array() {
            return word(&values.iter().map(text).collect::<Vec<_>>().join(" | "));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => return word("any"),
        };
        if types.contains(&"array") {
            let mut shape = self.shape(&schema["items"], depth - 1);
            shape.before.insert_str(0, "array of ");
            return shape;
        }
        let mut words = types.join(" or ");
        for (key, unit) in [("format", ""), ("maxLength", " characters at most"), ("pattern", "")] {
            match &schema[key] {
                Value::String(s) => words.push_str(&format!(", {s}")),
                Value::Number(number) => words.push_str(&format!(", {number}{unit}")),
                _ => {}
            }
        }
        word(&words)
    }

    /// The shape of the first content of a request or an answer.
    fn content(&self, body: &Value) -> Option<Shape> {
        let (kind, content) = members(&body["content"]).next()?;
        let mut shape = match content.get("schema") {
            Some(schema) => self.shape(schema, 6),
            None => Shape::default(),
        };
        if kind != "application/json" {
            shape.after.push_str(&format!(" ({kind})"));
        }
        Some(shape)
    }

    fn operation(
        &self,
        at: usize,
        path: &str,
        method: &str,
        item: &'a Value,
        operation: &'a Value,
    ) -> Operation {
        let both = [&item["parameters"], &operation["parameters"]];
        let parameters = both.into_iter().filter_map(Value::as_array).flatten().map(|p| self.follow(p));
        let security = operation.get("security").unwrap_or(&self.document["security"]);
        Operation {
            id: format!("op-{at}"),
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: text(if operation["summary"].is_string() {
                &operation["summary"]
            } else {
                &operation["operationId"]
            }),
            description: paragraphs(&operation["description"]),
            guarded: security
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(members)
                .map(|s| s.0.clone())
                .collect(),
            parameters: parameters
                .map(|p| Parameter {
                    name: text(&p["name"]),
                    place: text(&p["in"]),
                    shape: self.shape(&p["schema"], 6),
                    required: p["required"] == true,
                    meaning: text(&p["description"]),
                })
                .collect(),
            request: self.content(self.follow(&operation["requestBody"])),
            responses: members(&operation["responses"])
                .map(|(status, answer)| {
                    let answer = self.follow(answer);
                    Answer {
                        status: status.clone(),
                        shape: self.content(answer),
                        meaning: text(&answer["description"]),
                    }
                })
                .collect(),
        }
    }

    /// All operations by their first tag, in the order of the document.
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut count = 0;
        for (path, item) in members(&self.document["paths"]) {
            for method in ["get", "post", "put", "patch", "delete", "head", "options"] {
                let operation = &item[method];
                if !operation.is_object() {
                    continue;
                }
                let tag = text(&operation["tags"][0]);
                let name = if tag.is_empty() { "other".to_owned() } else { tag };
                let drawn = self.operation(count, path, method, item, operation);
                count += 1;
                match groups.iter_mut().find(|g| g.name == name) {
                    Some(group) => group.operations.push(drawn),
                    None => {
                        let id = format!("tag-{}-{}", groups.len(), slug(&name));
                        groups.push(Group { name, id, operations: vec![drawn] });
                    }
                }
            }
        }
        groups
    }

    /// All named schemas, in the order of the document.
    fn named(&self) -> Vec<Schema> {
        members(&self.document["components"]["schemas"])
            .map(|(name, schema)| {
                let required: Vec<&str> =
                    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                Schema {
                    id: self.anchor(name),
                    name: name.clone(),
                    description: paragraphs(&schema["description"]),
                    shape: self.shape(schema, 6),
                    fields: members(&schema["properties"])
                        .map(|(field, shape)| Field {
                            name: field.clone(),
                            required: required.contains(&field.as_str()),
                            meaning: text(&shape["description"]),
                            shape: self.shape(shape, 6),
                        })
                        .collect(),
                }
            })
            .collect()
    }
}

#[derive(Template)]
#[template(path = "api.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ApiView,
    title: String,
    version: String,
    openapi: String,
    about: Vec<String>,
    count: u64,
    groups: Vec<Group>,
    schemas: Vec<Schema>,
}

/// Draws the API reference.
pub fn api(chrome: &Chrome, view: &ApiView) -> String {
    let document = &view.document;
    let reader = Reader::new(document);
    let groups = reader.groups();
    let title = text(&document["info"]["title"]);
    draw(Page {
        c: chrome,
        v: view,
        title: if title.is_empty() { "API".into() } else { title },
        version: text(&document["info"]["version"]),
        openapi: text(&document["openapi"]),
        about: paragraphs(&document["info"]["description"]),
        count: groups.iter().map(|g| g.operations.len() as u64).sum(),
        groups,
        schemas: reader.named(),
    })
}
