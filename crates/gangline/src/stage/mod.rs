//! What the demonstration and the drill share: somebody at a browser, an attacker, and requests as the very bytes
//! that travel. Knows no inside of the server: only what its users see.

pub mod attacker;
pub mod browser;
pub mod html;
pub mod http1;
pub mod passkey;

use gangline_wire::SigningKey;
use zeroize::Zeroizing;

/// Random bytes of the operating system.
///
/// # Errors
/// When it gives none.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|why| anyhow::anyhow!("the system gives no randomness: {why}"))?;
    Ok(bytes)
}

/// A key made on the spot.
///
/// # Errors
/// When the system gives no randomness.
pub fn fresh_key() -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_seed(&Zeroizing::new(random()?)))
}
