//! Every request's body of the table of endpoints: a field that nobody knows is refused, at the top and wherever an
//! object stands within it; what answers say beyond is passed over; and what earlier programs sent is still taken.
//!
//! Bodies are made from the schemas of the very types, so that a new endpoint cannot be left out. Those that were
//! sent by released programs lie in `tests/bodies/VERSION/`; `GANGLINE_WRITE_BODIES=1` adds those of this version.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_wire::{
    Credential, Endpoint, Media, Method,
    body::{self, BodyError},
    endpoints,
};
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const STRANGE: &str = "a_field_of_nobody";

/// Bodies of which something is bound as a whole by a signature or root: their types refuse what they do not know
/// wherever they are read, and say so in words of their own.
const BOUND: [&str; 5] = ["ProofCommit", "ProofOpen", "EpochRoots", "EpochOpened", "CalibrationAdd"];
/// Choices, of which an object names exactly one: with another field they cannot be read at all.
const CHOICES: [&str; 2] = ["doer.a_field_of_nobody", "clusters[].want.a_field_of_nobody"];
/// Answers that hold such a type: a prover cannot do what it does not understand, and nobody can check it.
const BOUND_ANSWERS: [&str; 6] = [
    "ProofBegin",
    "EpochBegin",
    "PublicTranscript",
    "PublicEpochTranscript",
    "PublicCalibrations",
    "CalibrationLearned",
];
/// The same for answers to what operators hand in.
const BOUND_TABLES: [&str; 2] = ["CalibrationAdd", "CalibrationSet"];

/// A value for a schema: the smallest, or one with everything in it.
struct Sampler {
    definitions: Map<String, Value>,
    everything: bool,
    /// Bytes of what is base64.
    bytes: usize,
    /// So many of a list that has a limit, for each of them in turn: its place among all, and how many.
    long: Option<(usize, usize)>,
    lists: std::cell::Cell<usize>,
}

impl Sampler {
    fn new(definitions: &Map<String, Value>, everything: bool, bytes: usize) -> Self {
        Self { definitions: definitions.clone(), everything, bytes, long: None, lists: 0.into() }
    }

    fn of(&self, schema: &Value) -> Value {
        if let Some(name) = schema["$ref"].as_str() {
            let named = &self.definitions[name.rsplit('/').next().unwrap()];
            if named["properties"]["memory"].is_object() && named["properties"]["walk"].is_object() {
                // How much an epoch asks: its numbers have to fit each other.
                let chain = json!({"units": 64, "segments": 2, "steps": 32, "opened": 8});
                return json!({"memory": {"blocks": 1024, "rounds": 4}, "walk": chain, "alu": chain, "matrix": null});
            }
            return self.of(named);
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[0].clone();
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[choice].as_array() {
                let is_null = |c: &&Value| c["type"] == "null";
                let chosen = choices.iter().find(|c| !is_null(c)).unwrap_or(&choices[0]);
                return self.of(chosen);
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|k| *k != "null").unwrap().as_str().unwrap(),
            kind => kind.as_str().unwrap_or("object"),
        };
        match kind {
            "object" => {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let fields = schema["properties"].as_object().into_iter().flatten();
                let wanted = fields.filter(|(name, _)| self.everything || required.contains(&json!(name)));
                Value::Object(wanted.map(|(name, schema)| (name.clone(), self.of(schema))).collect())
            }
            "array" => {
                let number = self.lists.replace(self.lists.get() + 1);
                if let Some((_, more)) = self.long.filter(|(at, _)| *at == number) {
                    let most = schema["maxItems"].as_u64();
                    let most = most.unwrap_or_else(|| panic!("a list has no limit: {schema}"));
                    return Value::Array(vec![self.of(&schema["items"]); most as usize + more]);
                }
                let one = self.everything || schema["minItems"].as_u64().is_some_and(|least| least > 0);
                Value::Array(if one { vec![self.of(&schema["items"])] } else { vec![] })
            }
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(0)),
            "boolean" => json!(false),
            "string" => Value::String(self.text(schema)),
            other => panic!("nothing is known of the type {other}"),
        }
    }

    fn text(&self, schema: &Value) -> String {
        if schema["contentEncoding"] == "base64" {
            return STANDARD.encode(vec![0; self.bytes]);
        }
        let pattern = schema["pattern"].as_str().unwrap_or_default();
        if let Some((prefix, _)) = pattern.trim_start_matches('^').split_once("_[0-7]") {
            return format!("{prefix}_{}", "0".repeat(26));
        }
        match pattern {
            "" => "a".into(),
            "^[0-9a-f]{64}$" => "0".repeat(64),
            "^[0-9a-f]{32}$" => "0".repeat(32),
            "^[0-9a-f]{16}$" => "0".repeat(16),
            // Any key will do that is not a weak one.
            "^[A-Za-z0-9_-]{43}$" => {
                let seed = zeroize::Zeroizing::new([1; 32]);
                gangline_wire::SigningKey::from_seed(&seed).public().to_string()
            }
            other => panic!("nothing is known of texts like {other}"),
        }
    }
}

/// The sample that `reads` takes.
fn sample(
    schema: &Value,
    definitions: &Map<String, Value>,
    everything: bool,
    reads: &dyn Fn(&Value) -> Result<(), String>,
) -> Value {
    let mut why = String::new();
    for bytes in [32, 64, 8] {
        let value = Sampler::new(definitions, everything, bytes).of(schema);
        match reads(&value) {
            Ok(()) => return value,
            Err(told) => why = format!("{told}: {value}"),
        }
    }
    panic!("no sample can be read: {why}")
}

/// Everything that is `value` with one more field in one of its objects, and where that is.
fn with_a_strange_field(value: &Value) -> Vec<(Value, String)> {
    let mut all = Vec::new();
    match value {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert(STRANGE.into(), json!({"x": 1}));
            all.push((Value::Object(more), STRANGE.to_owned()));
            for (name, inner) in fields {
                for (changed, place) in with_a_strange_field(inner) {
                    let mut outer = fields.clone();
                    outer.insert(name.clone(), changed);
                    let dot = if place.starts_with('[') { "" } else { "." };
                    all.push((Value::Object(outer), format!("{name}{dot}{place}")));
                }
            }
        }
        Value::Array(values) => {
            for (n, inner) in values.iter().enumerate() {
                for (changed, place) in with_a_strange_field(inner) {
                    let mut outer = values.clone();
                    outer[n] = changed;
                    let dot = if place.starts_with('[') { "" } else { "." };
                    all.push((Value::Array(outer), format!("[]{dot}{place}")));
                }
            }
        }
        _ => {}
    }
    all
}

/// A form's fields; those of a form are no objects.
fn as_form(value: &Value) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in value.as_object().unwrap() {
        form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    form.finish().into_bytes()
}

fn reads_body<T: DeserializeOwned>(media: Media, value: &Value) -> Result<(), BodyError> {
    match media {
        Media::Html => body::form::<T>(&as_form(value)).map(|_| ()),
        _ => body::json::<T>(&serde_json::to_vec(value).unwrap()).map(|_| ()),
    }
}

fn schema_of<T: schemars::JsonSchema>() -> (Value, Map<String, Value>) {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let schema = generator.subschema_for::<T>().to_value();
    (schema, generator.take_definitions(true))
}

/// Whether this endpoint reads its body as a type.
fn takes_a_body<E: Endpoint>() -> bool {
    let spec = E::SPEC;
    spec.media != Media::Stream
        && spec.body_bytes_max > 0
        && !matches!(spec.method, Method::Get | Method::Delete)
}

#[derive(Default)]
struct Bodies {
    checked: usize,
    nested: usize,
}

impl endpoints::Visitor for Bodies {
    fn visit<E: Endpoint>(&mut self) {
        if !takes_a_body::<E>() {
            return;
        }
        let name = E::SPEC.name;
        let read = |value: &Value| reads_body::<E::Request>(E::SPEC.media, value);
        let (schema, definitions) = schema_of::<E::Request>();
        let whole =
            sample(&schema, &definitions, true, &|value| read(value).map_err(|e| format!("{name}: {e}")));
        for (strange, place) in with_a_strange_field(&whole) {
            if E::SPEC.media == Media::Html && place != STRANGE {
                continue;
            }
            match read(&strange) {
                Err(BodyError::Unknown(fields)) => assert_eq!(fields, std::slice::from_ref(&place), "{name}"),
                Err(BodyError::Malformed(why)) if BOUND.contains(&name) => {
                    assert!(why.contains(STRANGE), "{name} at {place}: {why}");
                }
                Err(BodyError::Malformed(_)) if CHOICES.contains(&place.as_str()) => {}
                other => panic!("{name} took a field of nobody at {place}: {other:?}"),
            }
            self.checked += 1;
            self.nested += usize::from(place != STRANGE);
        }
    }
}

#[test]
fn a_field_of_nobody_is_refused_in_every_body_at_every_depth() {
    let mut bodies = Bodies::default();
    endpoints::for_each(&mut bodies);
    assert!(bodies.checked > 50 && bodies.nested > 15, "{} and {} only", bodies.checked, bodies.nested);
}

#[derive(Default)]
struct Lists(usize);

impl endpoints::Visitor for Lists {
    fn visit<E: Endpoint>(&mut self) {
        if !takes_a_body::<E>() {
            return;
        }
        let (schema, definitions) = schema_of::<E::Request>();
        let count = Sampler::new(&definitions, true, 32);
        count.of(&schema);
        for list in 0..count.lists.get() {
            let long = |more| {
                let sampler = Sampler { long: Some((list, more)), ..Sampler::new(&definitions, true, 64) };
                reads_body::<E::Request>(E::SPEC.media, &sampler.of(&schema))
            };
            let name = E::SPEC.name;
            let (most, more) = (long(0), long(1));
            let Err(BodyError::Malformed(why)) = &more else {
                panic!("{name} took more than list {list} may hold")
            };
            // What is bound as a whole may be refused for something else, as long as it is refused.
            assert!(BOUND.contains(&name) || why.contains("a list of at most"), "{name}: {why}");
            assert!(
                BOUND.contains(&name) || most.is_ok(),
                "{name} refused as many as list {list} may hold: {most:?}"
            );
            self.0 += 1;
        }
    }
}

#[test]
fn every_list_of_every_body_has_the_limit_that_its_schema_says() {
    let mut lists = Lists::default();
    endpoints::for_each(&mut lists);
    assert!(lists.0 >= 11, "{} lists only", lists.0);
}

#[derive(Default)]
struct Answers(usize);

impl endpoints::Visitor for Answers {
    fn visit<E: Endpoint>(&mut self) {
        let name = E::SPEC.name;
        if E::SPEC.media != Media::Json || [&BOUND_ANSWERS[..], &BOUND_TABLES].concat().contains(&name) {
            return;
        }
        let read = |value: &Value| {
            serde_json::from_value::<E::Response>(value.clone())
                .map(|_| ())
                .map_err(|e| format!("{name}: {e}"))
        };
        let (schema, definitions) = schema_of::<E::Response>();
        let whole = sample(&schema, &definitions, true, &read);
        for (strange, place) in with_a_strange_field(&whole) {
            if CHOICES.contains(&place.as_str()) {
                continue;
            }
            read(&strange)
                .unwrap_or_else(|e| panic!("an older program would not read an answer with {place}: {e}"));
            self.0 += 1;
        }
    }
}

#[test]
fn answers_may_say_more_than_a_program_knows() {
    let mut answers = Answers::default();
    endpoints::for_each(&mut answers);
    assert!(answers.0 > 60, "{} only", answers.0);
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bodies")
}

/// Bodies that programs send, by endpoint: the least, and all there is.
#[derive(Default)]
struct Sent(BTreeMap<&'static str, [Value; 2]>);

impl endpoints::Visitor for Sent {
    fn visit<E: Endpoint>(&mut self) {
        // Pages are of the server that reads them; only programs are older or newer than their server.
        if !takes_a_body::<E>() || !matches!(E::SPEC.credential, Credential::Key | Credential::NewKey) {
            return;
        }
        let read = |value: &Value| {
            reads_body::<E::Request>(E::SPEC.media, value).map_err(|e| format!("{}: {e}", E::SPEC.name))
        };
        let (schema, definitions) = schema_of::<E::Request>();
        let both = [false, true].map(|everything| sample(&schema, &definitions, everything, &read));
        self.0.insert(E::SPEC.name, both);
    }
}

/// Reads what lies in the folders.
struct Released<'a>(&'a BTreeMap<String, Vec<Value>>, usize);

impl endpoints::Visitor for Released<'_> {
    fn visit<E: Endpoint>(&mut self) {
        for value in self.0.get(E::SPEC.name).into_iter().flatten() {
            reads_body::<E::Request>(E::SPEC.media, value).unwrap_or_else(|why| {
                panic!(
                    "{} is not taken any more as a released program sends it ({why}): whoever has not updated would \
                     be cut off; a new field must have a default: {value}",
                    E::SPEC.name
                )
            });
            self.1 += 1;
        }
    }
}

#[test]
fn what_released_programs_send_is_taken() {
    let mut sent = Sent::default();
    endpoints::for_each(&mut sent);
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0;
    let now = folder().join(format!("{version}.json"));
    if std::env::var_os("GANGLINE_WRITE_BODIES").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&now, serde_json::to_string_pretty(&sent.0).unwrap() + "\n").unwrap();
    }
    let mut files = 0;
    for file in std::fs::read_dir(folder()).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        let released: BTreeMap<String, Vec<Value>> = serde_json::from_slice(&text).unwrap();
        let mut check = Released(&released, 0);
        endpoints::for_each(&mut check);
        let bodies: usize = released.values().map(Vec::len).sum();
        assert_eq!(check.1, bodies, "an endpoint that released programs call is gone");
        files += 1;
    }
    assert!(files > 0);
    let written: BTreeMap<String, Vec<Value>> =
        serde_json::from_slice(&std::fs::read(&now).unwrap()).unwrap();
    let missing: Vec<_> = sent.0.keys().filter(|name| !written.contains_key(**name)).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} are not in {}: GANGLINE_WRITE_BODIES=1 adds them",
        now.display()
    );
}
