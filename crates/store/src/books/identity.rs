//! People as identity providers name them: by issuer and subject, never by e-mail address. No token of a
//! provider is kept here.

use gangline_guard::{Permit, SessionRecord, act};
use gangline_types::{AccountId, Hash, Label, UnixSeconds};
use gangline_wire::api::account::Role;

use crate::{NewSession, Store, StoreError, books::answered};

/// What a provider says of somebody who signs in, already checked and mapped.
#[derive(Clone, Debug)]
pub struct VouchedPerson {
    /// The provider.
    pub issuer: String,
    /// The person, as that provider names them for good.
    pub subject: String,
    /// What to call them.
    pub name: Label,
    /// What their claims make them here.
    pub role: Role,
    /// Whether it signed that they showed two factors.
    pub is_strong: bool,
    /// Identity of their session at the provider, if it named one.
    pub provider_session: Option<Hash>,
    /// Id of the account, should they be new.
    pub new_account: AccountId,
}

/// Something that works once: its hash, and until when it could be shown again.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    /// Its hash.
    pub hash: Hash,
    /// Until then.
    pub expires_at: UnixSeconds,
}

answered! { Store,
    /// Begins a session of whom the provider vouches for; makes their account if they are new, and gives it
    /// the role and name that the provider's claims say now. `None` if this sign-in was used before.
    async fn sign_in(
        &self,
        permit: Permit<act::SignIn>,
        person: VouchedPerson,
        sign_in: Once,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError>;

    /// Ends every session of the permit's identity, or that came from the provider's session it names.
    /// `once` is the provider's message, where there is one: `None` if it was used before. Gives how many
    /// ended.
    async fn end_vouched_sessions(
        &self,
        permit: Permit<act::EndSessions>,
        once: Option<Once>,
        why: &str,
    ) -> Result<Option<u64>, StoreError>;

    /// Whether the permit's own session came from an identity provider.
    async fn came_from_provider(&self, permit: &Permit<act::ReadAccount>) -> Result<bool, StoreError>;

    /// Whether something that works once was used.
    async fn is_used(&self, hash: &Hash) -> Result<bool, StoreError>;
}
