//! Choosing colours.

use axum::{http::header, response::Response};
use gangline_pages::{Theme, paths};
use gangline_wire::endpoints as e;

use super::{cookie, go_on};
use crate::{error::ApiError, request::Ctx};

pub async fn choose(ctx: Ctx<e::ThemeForm>) -> Result<Response, ApiError> {
    let mut response = go_on(back(&ctx.body.back));
    response.headers_mut().insert(header::SET_COOKIE, cookie::theme(&ctx.app, Theme::parse(&ctx.body.theme)));
    Ok(response)
}

/// `wanted` if it is a path of this site, else the explorer. Browsers read `//host` and `/\host` as other
/// sites and leave tabs and line ends out, so none of these is taken.
pub(super) fn back(wanted: &str) -> &str {
    let is_ours = wanted.starts_with('/')
        && !wanted.starts_with("//")
        && wanted.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_ours { wanted } else { paths::EXPLORER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site_are_gone_back_to() {
        for ours in ["/", "/?q=RTX%204090&standing=proven", "/gpu/gpu_0", "/console#h-keys"] {
            assert_eq!(back(ours), ours);
        }
        for other in [
            "",
            "x",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example/",
            "/\t/evil.example",
            "/\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            " //evil.example",
            "/ü",
        ] {
            assert_eq!(back(other), "/", "{other:?} was gone back to");
        }
    }
}
