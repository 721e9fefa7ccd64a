//! Requests to the operator's own program, in the form of Standard Webhooks (standardwebhooks.com) with its
//! asymmetric signature `v1a`: Ed25519 over `id.timestamp.body`. The network's own key signs, which everybody finds
//! under `/log/key`, so that the receiver holds no secret. Nothing else that this key signs begins with the id of a
//! delivery.

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_store::Claimed;
use gangline_types::{DeliveryId, UnixSeconds};
use gangline_wire::SigningKey;
use url::Url;

use super::{Failed, chain};
use crate::{
    config,
    outbound::{Outbound, SetupError, host},
};

/// Sends signed requests to one address.
pub struct Webhook {
    url: Url,
    outbound: Outbound,
    key: SigningKey,
}

/// What is signed: the delivery, the second of the try, and the message.
pub fn signed_bytes(id: DeliveryId, at: UnixSeconds, body: &str) -> Vec<u8> {
    format!("{id}.{at}.{body}").into_bytes()
}

impl Webhook {
    /// To `url`, as far as the outbound guard lets it.
    ///
    /// # Errors
    /// When the guard cannot be set up.
    pub fn new(url: Url, outbound: &config::Outbound, key: &SigningKey) -> Result<Self, SetupError> {
        let outbound = Outbound::new(outbound.exceptions.clone(), outbound.ca_file.as_deref())?;
        Ok(Self { url, outbound, key: SigningKey::from_seed(&key.seed()) })
    }

    /// Where it leads, for people; what may be a secret in its path is left out.
    pub fn shown(&self) -> String {
        format!("{}://{}", self.url.scheme(), host(&self.url))
    }

    /// Tries a message once.
    ///
    /// # Errors
    /// When no answer of success came.
    pub async fn send(&self, message: &Claimed, now: UnixSeconds) -> Result<(), Failed> {
        let signature = self.key.sign(&signed_bytes(message.id, now, &message.body));
        let request = http::Request::post(self.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", message.id.to_string())
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", format!("v1a,{}", STANDARD.encode(signature)))
            .body(message.body.clone().into_bytes())
            .map_err(|e| Failed::Now(e.to_string()))?;
        let answer = self.outbound.fetch(request).await.map_err(|e| Failed::Now(chain(&e)))?;
        match answer.status().as_u16() {
            200..300 => Ok(()),
            410 => Err(Failed::ForGood(format!("{} answered 410: it wants no more", host(&self.url)))),
            status @ 300..400 => {
                Err(Failed::Now(format!("{} answered {status}; redirects are not followed", host(&self.url))))
            }
            status => Err(Failed::Now(format!("{} answered {status}", host(&self.url)))),
        }
    }
}
