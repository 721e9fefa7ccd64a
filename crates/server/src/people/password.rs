//! Passwords, where browsers have no passkeys and there is no provider: argon2id (RFC 9106) with the parameters that
//! OWASP names first. Which passwords are taken is the guard's; here they are hashed and compared, a few at a time, and a
//! name that there is not costs as much as one that there is.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use gangline_store::StoreError;
use tokio::sync::Semaphore;

use super::breached::Breached;
use crate::{edge, error::ApiError};

/// Memory of one hash in KiB, passes over it, and lanes: 19 MiB, 2, 1.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes at once: a flood of sign-ins takes two cores and 38 MiB, and waits.
const AT_ONCE: usize = 2;

/// What hashes and compares.
#[derive(Debug)]
pub struct Passwords {
    at_once: Semaphore,
    /// Passwords that are known from elsewhere; none where the operator has given no list.
    breached: Option<Arc<Breached>>,
    /// A hash of nothing, for names that there are not.
    nobody: String,
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("these are within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hashed(password: &str, salt: [u8; 16]) -> String {
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
    argon2().hash_password(password.as_bytes(), &salt).expect("what was checked is hashed").to_string()
}

impl Passwords {
    /// Ready to hash; the salt is of the hash of nothing.
    pub fn new(salt: [u8; 16], breached: Option<Breached>) -> Self {
        Self {
            at_once: Semaphore::new(AT_ONCE),
            breached: breached.map(Arc::new),
            nobody: hashed("nobody has this password", salt),
        }
    }

    /// Whether a password is in the list of those that were breached elsewhere.
    pub async fn is_breached(&self, password: &str) -> Result<bool, ApiError> {
        let Some(list) = self.breached.clone() else { return Ok(false) };
        let password = password.to_owned();
        let looked = self.work(move || list.has(&password)).await?;
        looked.map_err(|why| {
            ApiError::Store(StoreError::Malformed(format!("the list of breached passwords: {why}")))
        })
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let broken = |_| ApiError::hidden();
        let _turn = self.at_once.acquire().await.map_err(|_| ApiError::hidden())?;
        tokio::task::spawn_blocking(work).await.map_err(broken)
    }

    /// The hash of a new password, as a PHC string.
    pub async fn hash(&self, password: &str) -> Result<String, ApiError> {
        let (password, salt) = (password.to_owned(), edge::random());
        self.work(move || hashed(&password, salt)).await
    }

    /// Whether a password is the one with this hash; without a hash it is not, and that takes as long.
    pub async fn is(&self, password: &str, hash: Option<&str>) -> Result<bool, ApiError> {
        let (password, there) = (password.to_owned(), hash.is_some());
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        self.work(move || {
            let Ok(hash) = PasswordHash::new(&hash) else { return false };
            argon2().verify_password(password.as_bytes(), &hash).is_ok() && there
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_itself_and_nothing_else() {
        let passwords = Passwords::new(edge::random(), None);
        let hash = passwords.hash("kestrel obelisk wry").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("kestrel obelisk wry").await.unwrap(), "the same salt twice");
        for (password, hash, expected) in [
            ("kestrel obelisk wry", Some(hash.as_str()), true),
            ("kestrel obelisk wrY", Some(hash.as_str()), false),
            ("kestrel obelisk wry ", Some(hash.as_str()), false),
            ("nobody has this password", None, false),
            ("", Some("no hash"), false),
        ] {
            assert_eq!(passwords.is(password, hash).await.unwrap(), expected, "{password:?}");
        }
    }
}
