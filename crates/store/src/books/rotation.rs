//! Keys that take the place of others. At most two of a line are alive, so that a key that was stolen cannot
//! make itself others in reserve.

use gangline_guard::{Permit, act};
use gangline_types::{KeyId, MachineId, UnixSeconds};
use gangline_wire::PublicKey;

use crate::{Store, StoreError, books::answered};

/// Why no key took the place of another.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The new key is enrolled, or was: somebody else's, or one of the line before.
    #[error("the key {0} is enrolled already, or was and has ended: it cannot take the place of another")]
    Taken(KeyId),
    /// Two keys of the line are alive.
    #[error("two keys of this line are alive already; {other} has to end first")]
    ThirdKey {
        /// The other one.
        other: KeyId,
        /// When it ends by itself, if it does.
        ends_at: Option<UnixSeconds>,
    },
    /// Could not ask; that is not a no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

answered! { Store,
    /// Puts `new` in the place of the permit's key: it is of the same account and, for a machine, of the same
    /// machine. It ends at `unused_until` if it is not used before; its first use ends the old one after the
    /// overlap (see [`Store::take_sequence`]). Asking again for the same successor changes nothing. Gives until
    /// when the new key may stay unused.
    ///
    /// # Errors
    /// When the new key is taken, or would be the third of its line that is alive.
    async fn rotate_key(
        &self,
        permit: Permit<act::RotateKey>,
        new: &PublicKey,
        unused_until: UnixSeconds,
    ) -> Result<UnixSeconds, RotationError>;

    /// Ends the key in whose place the permit's key is, at once; `None` if there is none that is alive.
    async fn settle_rotation(&self, permit: Permit<act::RotateKey>) -> Result<Option<KeyId>, StoreError>;

    /// Every public key of a machine that was not revoked, newest first, at most eight: a receipt may have been
    /// signed by the one before the newest.
    async fn machine_public_keys(&self, machine: MachineId) -> Result<Vec<PublicKey>, StoreError>;
}
