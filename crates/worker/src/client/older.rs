//! What a server that is older than this program does not know: it says which fields of a body it does not take, and
//! for a while they are not sent.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gangline_wire::{
    ErrorBody,
    body::{UNKNOWN_FIELDS, without},
};

/// How long fields are left out before they are tried again: the server may have been updated meanwhile.
const FOR: Duration = Duration::from_secs(60 * 60);

/// Fields by endpoint, and since when they are left out.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Mutex<HashMap<&'static str, (Vec<String>, Instant)>>);

impl LeftOut {
    /// The body as this endpoint's server can read it.
    pub(super) fn from(&self, endpoint: &'static str, body: &[u8]) -> Vec<u8> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((fields, since)) = known.get(endpoint) else { return body.to_vec() };
        if since.elapsed() > FOR {
            known.remove(endpoint);
            return body.to_vec();
        }
        without(body, fields).unwrap_or_else(|| body.to_vec())
    }

    /// What to send instead of `sent`, if it was refused for fields that the server does not know; they are left out
    /// from now on.
    pub(super) fn learn(&self, endpoint: &'static str, refusal: &ErrorBody, sent: &[u8]) -> Option<Vec<u8>> {
        if refusal.code != UNKNOWN_FIELDS {
            return None;
        }
        let less = without(sent, &refusal.fields)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (fields, since) = known.entry(endpoint).or_insert_with(|| (Vec::new(), Instant::now()));
        *since = Instant::now();
        for field in &refusal.fields {
            if !fields.contains(field) {
                fields.push(field.clone());
            }
        }
        Some(less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, fields: &[&str]) -> ErrorBody {
        let fields = fields.iter().map(|f| f.to_string()).collect();
        ErrorBody { code: code.into(), fields, ..ErrorBody::default() }
    }

    #[test]
    fn what_an_older_server_does_not_know_is_sent_once() {
        let left_out = LeftOut::default();
        let body = br#"{"a":1,"gpus":[{"b":2,"colour":3}]}"#;
        assert_eq!(left_out.from("E", body), body);
        let less = left_out.learn("E", &refusal(UNKNOWN_FIELDS, &["gpus[].colour"]), body).unwrap();
        assert_eq!(less, br#"{"a":1,"gpus":[{"b":2}]}"#);
        assert_eq!(left_out.from("E", body), less, "it was sent again");
        assert_eq!(left_out.from("F", body), body, "another endpoint was sent less");
        // Sent like this and refused again: there is nothing more to take out, and no end to asking otherwise.
        assert_eq!(left_out.learn("E", &refusal(UNKNOWN_FIELDS, &["gpus[].colour"]), &less), None);
        assert_eq!(left_out.learn("E", &refusal("malformed", &["a"]), body), None);
    }
}
