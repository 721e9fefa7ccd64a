//! The addresses of the pages, so that server and pages agree by calling the same function. It knows
//! nothing of the API's addresses: those are handed in with the views.

use gangline_types::GpuId;

/// The explorer.
pub const EXPLORER: &str = "/";
/// Recent snapshots.
pub const SNAPSHOTS: &str = "/snapshots";
/// Asking to sign in.
pub const SIGN_IN: &str = "/signin";
/// The console of whoever is signed in.
pub const CONSOLE: &str = "/console";
/// The operator's security page.
pub const SECURITY: &str = "/console/security";
/// The operator's search of permitted acts.
pub const ACTS: &str = "/console/security/acts";
/// Dangerous acts that were asked for.
pub const APPROVALS: &str = "/console/approvals";
/// Ways into one's own account.
pub const ACCOUNT: &str = "/account";
/// Approving a new key.
pub const APPROVE: &str = "/approve";
/// The API reference.
pub const API: &str = "/api";
/// Live numbers as server-sent events.
pub const EVENTS: &str = "/events";

/// One GPU's page.
pub fn gpu(id: &GpuId) -> String {
    format!("/gpu/{id}")
}

/// One snapshot's page, by the number of its period.
pub fn snapshot(period: u32) -> String {
    format!("{SNAPSHOTS}/{period}")
}

/// Signing in through the identity provider, which asks anew if `again`, and then on to the page at `back`.
pub fn sign_in(back: &str, again: bool) -> String {
    let back = if back.starts_with(SIGN_IN) { CONSOLE } else { back };
    let again = if again { "&again=yes" } else { "" };
    format!("{SIGN_IN}/provider?back={}{again}", percent(back))
}

/// The page of a one-time sign-in link.
pub fn enter(token: &str) -> String {
    format!("/enter/{}", percent(token))
}

/// `text` for a query value or path segment: everything but letters, digits and `-._~` is
/// percent-encoded.
pub fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_cannot_leave_their_place() {
        assert_eq!(percent("a b&c=<ü>"), "a%20b%26c%3D%3C%C3%BC%3E");
    }
}
