//! A mistake of ours that breaks off one piece of work ends that piece and nothing else: the request that met it
//! gets an answer, the job is tried again, and the log has the place once.

use std::{any::Any, panic::AssertUnwindSafe};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use gangline_wire::ErrorBody;

/// What broke off, in the words of whatever did.
#[derive(Debug, thiserror::Error)]
#[error("broke off: {0}")]
pub struct BrokeOff(String);

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    crate::refusals::inert(&text.unwrap_or_else(|| "for no reason that it gave".into()))
}

/// Does `work`. What it was about is dropped where it breaks off: locks that it held are taken over by whoever comes
/// next, as they are everywhere in this room.
///
/// # Errors
/// When it panicked.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, BrokeOff> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| BrokeOff(words(panic.as_ref())))
}

/// What somebody is told whose request broke off; the connection ends with it.
pub fn answer() -> Response {
    let body = ErrorBody {
        code: "internal".into(),
        message: "the server made a mistake over this request; it is in its log".into(),
        hint: Some("other requests are not touched by it; tell the operator when this was".into()),
        ..ErrorBody::default()
    };
    let mut response = (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// From now on a panic is a line of the log like any other, with its place, and not text on stderr that nobody's
/// program reads.
pub fn log() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name(), "a task broke off: {}", words(info.payload()));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_off_says_why() {
        assert_eq!(caught(async { 5 }).await.ok(), Some(5));
        let told = caught(async { panic!("no {}", "seven") }).await.err().map(|e: BrokeOff| e.to_string());
        assert_eq!(told.as_deref(), Some("broke off: no seven"));
    }
}
