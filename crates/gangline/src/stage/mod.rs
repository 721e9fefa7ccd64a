//! What the demonstration and the drill share: somebody at a browser, an attacker, and requests as the very bytes
//! that travel. Knows no inside of the server: only what its users see.

pub mod attacker;
pub mod browser;
pub mod html;
pub mod http1;
