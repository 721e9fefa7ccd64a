//! Style sheet, script and icon under names that hold their hash: kept for ever by browsers, compressed
//! once at start.

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use gangline_pages::Asset;

use crate::app::App;

/// Serves every file that pages refer to.
pub fn assets() -> Router<App> {
    gangline_pages::assets().iter().fold(Router::new(), |router, asset| {
        router.route(&asset.path, get(move |headers: HeaderMap| async move { send(asset, &headers) }))
    })
}

fn send(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let common = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    if !takes_brotli(headers) {
        return (common, asset.bytes).into_response();
    }
    let mut response = (common, asset.brotli.as_slice()).into_response();
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    response
}

/// Whether `Accept-Encoding` takes `br`: named, and not with a weight of nothing.
pub(super) fn takes_brotli(headers: &HeaderMap) -> bool {
    let is_brotli = |item: &str| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("br"));
        let weight = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
        named && weight.is_none_or(|q| q > 0.0)
    };
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(is_brotli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brotli_only_for_those_who_take_it() {
        let check = |accept: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(takes_brotli(&headers), expected, "{accept}");
        };
        check("gzip, deflate, br, zstd", true);
        check("br;q=0.5", true);
        check("BR", true);
        check("gzip, br;q=0", false);
        check("gzip", false);
        check("", false);
        assert!(!takes_brotli(&HeaderMap::new()));
    }
}
