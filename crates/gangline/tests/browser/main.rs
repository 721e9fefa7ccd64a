//! The pages in a real Chromium, drawn by a real server with real data: what people click, what assistive
//! technology reads, what a phone shows, and what a browser refuses to load.
//!
//! It knows nothing of how pages are made. `GANGLINE_SHOTS=FOLDER` keeps a picture of each page.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod chromium;
mod every_page;
mod faults;
mod keyboard;
mod live;
mod needs;
#[path = "../../../server/tests/net/mod.rs"]
mod net;
#[path = "../../../server/tests/passkey/mod.rs"]
mod passkey;
mod passkeys;
mod passwords;
#[path = "../../../server/tests/pki/mod.rs"]
mod pki;
mod second_factor;
mod sign_in;
mod without_scripts;
mod world;
