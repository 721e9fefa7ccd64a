//! The files that pages refer to: one style sheet, one script, one icon, each under a name that holds
//! its hash, so that it may be kept for ever. It knows nothing of how they are sent.

use std::{io::Write, sync::LazyLock};

/// The content security policy every page is written for: nothing inline, nothing from elsewhere, and
/// no script may turn text into markup.
pub const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// One file to be served for ever under its path.
#[derive(Debug)]
pub struct Asset {
    /// Absolute path with 12 hex digits of the content's hash: `/assets/app.0123456789ab.css`.
    pub path: String,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The content.
    pub bytes: &'static [u8],
    /// The content compressed with brotli (quality 11), for those who accept `br`.
    pub brotli: Vec<u8>,
}

fn asset(stem: &str, ending: &str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    let hash = blake3::hash(bytes).to_hex();
    let mut compressor = brotli::CompressorWriter::new(Vec::new(), 4096, 11, 18);
    compressor.write_all(bytes).expect("writing into a Vec cannot fail");
    Asset {
        path: format!("/assets/{stem}.{}.{ending}", &hash[..12]),
        content_type,
        bytes,
        brotli: compressor.into_inner(),
    }
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        asset("app", "css", "text/css; charset=utf-8", include_bytes!("../assets/app.css")),
        asset("app", "js", "text/javascript; charset=utf-8", include_bytes!("../assets/app.js")),
        asset("icon", "svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
    ]
});

/// Compressed with brotli, at a quality (5) that is quick enough for what is drawn every second.
pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 18);
    compressor.write_all(bytes).expect("writing into a Vec cannot fail");
    compressor.into_inner()
}

/// All files pages refer to. The first call compresses them; call it once at start.
pub fn assets() -> &'static [Asset] {
    &*ASSETS
}

pub(crate) fn css() -> &'static str {
    &ASSETS[0].path
}
pub(crate) fn js() -> &'static str {
    &ASSETS[1].path
}
pub(crate) fn icon() -> &'static str {
    &ASSETS[2].path
}
