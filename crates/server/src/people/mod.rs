//! People who sign in through an identity provider: OpenID Connect Core 1.0 with the authorization code flow
//! and PKCE (RFC 7636), Discovery, RP-Initiated Logout and Back-Channel Logout.
//!
//! A provider's tokens are used once, at sign-in, and are no credential here: what follows is a session of our
//! own. Accounts are found by issuer and subject, never by an e-mail address. It knows no SQL and no pages, and
//! "the provider could not be asked" is never "no".

pub mod breached;
mod claims;
pub mod factors;
mod logout;
pub mod passkey;
pub mod password;
mod provider;
mod transaction;

pub use claims::Mapped;
pub use logout::LogoutToken;
pub use provider::{Answer, Provider, SignedIn};
pub use transaction::{SIGN_IN_SECONDS, Transaction};

use gangline_guard::Refusal;

/// Why somebody could not be signed in.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The provider could not be asked: that is not a no.
    #[error("the identity provider {provider} could not be asked")]
    Away {
        /// Its host.
        provider: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the provider answered cannot be believed, or makes nobody of this network.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// `cause`, as something that cannot be believed.
fn unbelievable(cause: impl std::fmt::Display) -> PeopleError {
    Refusal::NotVouched(crate::refusals::inert(&cause.to_string())).into()
}
