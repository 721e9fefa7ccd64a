//! Pages that are the same for everybody: drawn and compressed at most once a second however many ask, and sent
//! from memory. While people look, nobody waits for a drawing: who comes first in a second is sent the page of the one before,
//! and it is drawn anew behind them. Whoever has the newest already is told so.

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
/// A page is sent while the next is drawn, up to this age in seconds; for an older one the drawing is waited for.
const OLD_SECONDS: u64 = 2;
/// Where a drawing that somebody began takes longer, the last page is sent up to this age in seconds.
const SLOW_SECONDS: u64 = 10;

/// One page as it is sent.
struct Page {
    at: UnixSeconds,
    tag: HeaderValue,
    plain: bytes::Bytes,
    brotli: bytes::Bytes,
}

/// Where one page is kept.
#[derive(Default)]
struct Place {
    kept: Mutex<Option<Arc<Page>>>,
    /// Held by whoever draws it.
    turn: Arc<AsyncMutex<()>>,
}

impl Place {
    fn kept(&self) -> Option<Arc<Page>> {
        self.kept.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Draws it, unless somebody has done so for this second.
    async fn draw(
        &self,
        now: UnixSeconds,
        drawing: impl Future<Output = Result<String, ApiError>>,
    ) -> Result<Arc<Page>, ApiError> {
        if let Some(page) = self.kept().filter(|page| page.at >= now) {
            return Ok(page);
        }
        let page = Arc::new(compressed(drawing.await?, now));
        *self.kept.lock().unwrap_or_else(|e| e.into_inner()) = Some(page.clone());
        Ok(page)
    }
}

/// The pages by what tells them apart.
#[derive(Default)]
pub struct Drawn(Mutex<HashMap<String, Arc<Place>>>);

impl Drawn {
    fn place(&self, which: String) -> Arc<Place> {
        let mut pages = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if pages.len() >= PAGES_MAX && !pages.contains_key(&which) {
            pages.clear();
        }
        pages.entry(which).or_default().clone()
    }

    /// Draws the page `which` for whoever comes, unless somebody has done so for this second.
    pub async fn keep(
        &self,
        which: String,
        now: UnixSeconds,
        drawing: impl Future<Output = Result<String, ApiError>>,
    ) -> Result<(), ApiError> {
        let place = self.place(which);
        let _turn = place.turn.lock().await;
        place.draw(now, drawing).await.map(drop)
    }

    /// Sends the page `which`; `drawing` makes it anew where what is kept is older than this second.
    pub async fn send(
        &self,
        which: String,
        now: UnixSeconds,
        headers: &HeaderMap,
        drawing: impl Future<Output = Result<String, ApiError>> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let place = self.place(which);
        let page = match place.kept() {
            Some(page) if page.at >= now => page,
            kept => {
                let turn = Arc::clone(&place.turn).try_lock_owned();
                let at_most = if turn.is_ok() { OLD_SECONDS } else { SLOW_SECONDS };
                match (kept.filter(|page| now.since(page.at) <= at_most), turn) {
                    (Some(page), Ok(turn)) => {
                        tokio::spawn(async move {
                            // What goes wrong here, whoever waits for the next drawing is told.
                            let _ = place.draw(now, drawing).await;
                            drop(turn);
                        });
                        page
                    }
                    // Somebody draws it already.
                    (Some(page), Err(_)) => page,
                    (None, Ok(_turn)) => place.draw(now, drawing).await?,
                    (None, Err(_)) => {
                        let _turn = place.turn.lock().await;
                        place.draw(now, drawing).await?
                    }
                }
            }
        };
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

    /// A page of a network, how often it was drawn, and whoever looks at it.
    struct Front {
        drawn: Drawn,
        draws: Arc<AtomicU32>,
    }

    impl Front {
        fn new() -> Self {
            Self { drawn: Drawn::default(), draws: Arc::default() }
        }
        fn draws(&self) -> u32 {
            self.draws.load(Ordering::Relaxed)
        }
        async fn get(&self, now: u64, headers: &[(header::HeaderName, &str)]) -> Response {
            let headers: HeaderMap =
                headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            let draws = Arc::clone(&self.draws);
            let drawing = async move {
                let n = draws.fetch_add(1, Ordering::Relaxed);
                Ok(format!("page {n} {}", "all the same ".repeat(50)))
            };
            self.drawn.send("/".into(), UnixSeconds(now), &headers, drawing).await.unwrap()
        }
        /// The number of the page that is sent.
        async fn number(&self, now: u64) -> String {
            let body = axum::body::to_bytes(self.get(now, &[]).await.into_body(), 1 << 20).await.unwrap();
            String::from_utf8_lossy(&body).split(' ').nth(1).unwrap().to_owned()
        }
    }

    #[tokio::test]
    async fn a_page_is_drawn_once_a_second_and_sent_as_it_is_taken() {
        let front = Front::new();
        let first = front.get(10, &[]).await;
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!((first.status(), first.headers().get(header::CONTENT_ENCODING)), (StatusCode::OK, None));
        let same = front.get(10, &[(header::IF_NONE_MATCH, &tag), (header::ACCEPT_ENCODING, "br")]).await;
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        let small = front.get(10, &[(header::ACCEPT_ENCODING, "br")]).await;
        assert_eq!(small.headers()[header::CONTENT_ENCODING], "br");
        assert_eq!(front.draws(), 1);
        let next = front.get(10 + OLD_SECONDS + 1, &[(header::IF_NONE_MATCH, &tag)]).await;
        assert_eq!(next.status(), StatusCode::OK, "another second, another page");
        assert_eq!(front.draws(), 2);
    }

    #[tokio::test]
    async fn what_was_drawn_ahead_is_sent() {
        let front = Front::new();
        for _ in 0..2 {
            front.drawn.keep("/".into(), UnixSeconds(9), async { Ok("page ahead".into()) }).await.unwrap();
        }
        assert_eq!((front.number(9).await.as_str(), front.draws()), ("ahead", 0));
        // Nor does whoever comes in the next second wait.
        assert_eq!(front.number(10).await, "ahead");
    }

    #[tokio::test]
    async fn while_people_look_nobody_waits_for_a_drawing_and_each_second_has_one() {
        let front = Front::new();
        assert_eq!(front.number(10).await, "0");
        // Two come at the beginning of a second: both are sent the last, and it is drawn once.
        assert_eq!((front.number(11).await.as_str(), front.number(11).await.as_str()), ("0", "0"));
        while front.draws() < 2 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        assert_eq!(front.number(11).await, "1");
        assert_eq!(front.draws(), 2);
        // Whoever comes after a while sees what is.
        assert_eq!(front.number(12 + OLD_SECONDS).await, "2");
        // And while the books are slow, what was: for some seconds.
        let place = front.drawn.0.lock().unwrap()["/"].clone();
        let turn = place.turn.lock().await;
        assert_eq!(front.number(12 + OLD_SECONDS + SLOW_SECONDS).await, "2");
        let mut late = std::pin::pin!(front.number(13 + OLD_SECONDS + SLOW_SECONDS));
        assert!(futures_util::poll!(&mut late).is_pending());
        drop(turn);
        assert_eq!(late.await, "3");
    }
}
