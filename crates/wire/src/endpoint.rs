//! The shape of an endpoint's declaration.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Action;

/// HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Read.
    Get,
    /// Do.
    Post,
    /// Set.
    Put,
    /// End.
    Delete,
    /// Every method: only for what is passed through.
    Any,
}

impl Method {
    /// Upper-case name; `GET` for [`Method::Any`], which OpenAPI lists once.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get | Method::Any => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

/// What a caller must show before an endpoint's action is even considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Credential {
    /// Nothing; whoever asks is nobody.
    Nobody,
    /// Nothing, but a browser's session is recognised so that the page can greet its owner.
    MaybeSession,
    /// A signature by the very key that asks to be enrolled.
    NewKey,
    /// A signature by an enrolled key.
    Key,
    /// A browser's session, and on anything but GET its CSRF token. Where the network asks for two factors, one that
    /// began with two.
    Session,
    /// The same, also where it began with one factor and the network asks for two: only to add a passkey, or to leave.
    AnySession,
    /// The MAC inside each frame of the body, under a key that a machine got by proving its own: see `docs/BEATS.md`.
    Frame,
}

impl Credential {
    /// Whether it is a browser's session, and has to be one.
    pub const fn is_session(self) -> bool {
        matches!(self, Self::Session | Self::AnySession)
    }
}

/// What a response is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `text/html`.
    Html,
    /// `text/plain`.
    Text,
    /// `text/event-stream`.
    Events,
    /// Bytes passed through, or an upgraded connection.
    Stream,
}

/// One endpoint's declaration, apart from its types.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The type's name, and its OpenAPI `operationId`.
    pub name: &'static str,
    /// Method.
    pub method: Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// What the caller must show.
    pub credential: Credential,
    /// What it does.
    pub action: Action,
    /// What it answers with.
    pub media: Media,
    /// Largest body taken, in bytes.
    pub body_bytes_max: usize,
    /// First line of its documentation.
    pub summary: &'static str,
}

/// An endpoint and its types.
pub trait Endpoint: Send + Sync + 'static {
    /// The declaration.
    const SPEC: Spec;
    /// Its query string.
    type Query: Serialize + DeserializeOwned + JsonSchema + Send;
    /// Its JSON body.
    type Request: Serialize + DeserializeOwned + JsonSchema + Send;
    /// Its JSON response.
    type Response: Serialize + DeserializeOwned + JsonSchema + Send;

    /// The path with its parameters filled in, in order.
    ///
    /// # Panics
    /// If the number of parameters is not the path's: a mistake in our own code.
    fn path(parameters: &[&dyn std::fmt::Display]) -> String {
        let mut out = String::with_capacity(Self::SPEC.path.len() + 32);
        let mut rest = Self::SPEC.path;
        let mut next = parameters.iter();
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let value = next.next().expect("a value for every path parameter");
            out.push_str(&value.to_string());
            rest = after.split_once('}').expect("path parameters are closed").1;
        }
        assert!(next.next().is_none(), "{} takes fewer path parameters", Self::SPEC.name);
        out.push_str(rest);
        out
    }
}

/// No query, no body or no answer: an empty JSON object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

/// A body that is not JSON: a page, a stream, or whatever passes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raw {}

impl JsonSchema for Raw {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Raw".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}
