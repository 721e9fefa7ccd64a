//! Pages that are the same for everybody: drawn and compressed at most once a second however many ask, and sent
//! from memory. Whoever has the newest already is told so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use gangline_types::UnixSeconds;
use tokio::sync::Mutex as AsyncMutex;

use super::assets::takes_brotli;
use crate::error::ApiError;

/// Pages kept at most: a few paths in a few themes.
const PAGES_MAX: usize = 64;

/// One page as it is sent.
struct Page {
    at: UnixSeconds,
    tag: HeaderValue,
    plain: bytes::Bytes,
    brotli: bytes::Bytes,
}

/// Where one page is kept; whoever draws it holds it.
type Place = Arc<AsyncMutex<Option<Arc<Page>>>>;

/// The pages by what tells them apart.
#[derive(Default)]
pub struct Drawn(Mutex<HashMap<String, Place>>);

impl Drawn {
    /// Sends the page `which`, drawing it with `draw` if what is kept is older than this second.
    pub async fn send(
        &self,
        which: String,
        now: UnixSeconds,
        headers: &HeaderMap,
        draw: impl AsyncFnOnce() -> Result<String, ApiError>,
    ) -> Result<Response, ApiError> {
        let place = {
            let mut pages = self.0.lock().unwrap_or_else(|e| e.into_inner());
            if pages.len() >= PAGES_MAX && !pages.contains_key(&which) {
                pages.clear();
            }
            pages.entry(which).or_default().clone()
        };
        let mut kept = place.lock().await;
        let page = match kept.as_ref().filter(|page| page.at >= now) {
            Some(page) => page.clone(),
            None => {
                let page = Arc::new(compressed(draw().await?, now));
                *kept = Some(page.clone());
                page
            }
        };
        drop(kept);
        Ok(answer(&page, headers))
    }
}

fn compressed(text: String, at: UnixSeconds) -> Page {
    let tag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..32]);
    let brotli = gangline_pages::compressed(text.as_bytes());
    Page {
        at,
        tag: HeaderValue::try_from(tag).expect("hex digits in quotes are a header's value"),
        plain: text.into(),
        brotli: brotli.into(),
    }
}

fn answer(page: &Page, headers: &HeaderMap) -> Response {
    let mut response = if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == page.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_brotli(headers) {
        let mut response = page.brotli.clone().into_response();
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
        response
    } else {
        page.plain.clone().into_response()
    };
    let set = response.headers_mut();
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    set.insert(header::ETAG, page.tag.clone());
    // Kept, but asked about each time; and another for another theme.
    set.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    set.insert(header::VARY, HeaderValue::from_static("accept-encoding, cookie"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_page_is_drawn_once_a_second_and_sent_as_it_is_taken() {
        let (drawn, draws) = (Drawn::default(), AtomicU32::new(0));
        let get = async |now: u64, headers: &[(header::HeaderName, &str)]| {
            let headers: HeaderMap =
                headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            let draw = async || {
                let n = draws.fetch_add(1, Ordering::Relaxed);
                Ok(format!("page {n} {}", "all the same ".repeat(50)))
            };
            drawn.send("/".into(), UnixSeconds(now), &headers, draw).await.unwrap()
        };
        let first = get(10, &[]).await;
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!((first.status(), first.headers().get(header::CONTENT_ENCODING)), (StatusCode::OK, None));
        let same = get(10, &[(header::IF_NONE_MATCH, &tag), (header::ACCEPT_ENCODING, "br")]).await;
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        let small = get(10, &[(header::ACCEPT_ENCODING, "br")]).await;
        assert_eq!(small.headers()[header::CONTENT_ENCODING], "br");
        assert_eq!(draws.load(Ordering::Relaxed), 1);
        let next = get(11, &[(header::IF_NONE_MATCH, &tag)]).await;
        assert_eq!(next.status(), StatusCode::OK, "another second, another page");
        assert_eq!(draws.load(Ordering::Relaxed), 2);
    }
}
