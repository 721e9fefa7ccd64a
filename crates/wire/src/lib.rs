//! What travels: requests, responses, the bytes that are signed, and every endpoint declared once
//! with its credential, action and limits. Router, OpenAPI document, typed client and tests all come
//! from that one table.
//!
//! Knows no sockets, no runtime, no storage and no policy.

pub mod action;
pub mod api;
pub mod beat;
pub mod body;
pub mod endpoint;
pub mod endpoints;
pub mod error;
pub mod key;
pub mod openapi;
pub mod sig;

pub use action::Action;
pub use endpoint::{Credential, Endpoint, Media, Method, Nothing, Raw, Spec};
pub use error::{AskedFor, ErrorBody};
pub use key::{Good, PublicKey, Signed, SigningKey, verify_together};
