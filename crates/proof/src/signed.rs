//! What a GPU's key signs of a matrix proof. Those of older books, and of workers that do not sign yet, have no signature.

use gangline_types::{GpuId, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Challenge, Commitment, Opening,
    key::{self, GpuKey, GpuPublicKey, NotTheirs, Signature},
};

/// Who answers for a matrix proof. Its challenge is bound to this key ([`GpuPublicKey::binding`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The key of the GPU.
    pub key: GpuPublicKey,
    /// By it, over the whole proof.
    pub signature: Signature,
}

impl GpuKey {
    /// Signs a whole matrix proof.
    pub fn sign_matrix(
        &self,
        challenge: &Challenge,
        commitment: &Commitment,
        nonce: &Hash,
        opening: &Opening,
    ) -> Signature {
        self.sign_digest(&digest(challenge, commitment, nonce, opening))
    }
}

impl Signed {
    /// Whether key, GPU and challenge belong together and the key signed exactly this proof. Whether the proof holds is for
    /// [`crate::verify()`] to say.
    ///
    /// # Errors
    /// If not.
    pub fn check(
        &self,
        gpu: GpuId,
        challenge: &Challenge,
        commitment: &Commitment,
        nonce: &Hash,
        opening: &Opening,
    ) -> Result<(), NotTheirs> {
        let digest = digest(challenge, commitment, nonce, opening);
        self.key.answers_for(gpu, &challenge.binding, &digest, &self.signature)
    }
}

/// What is signed.
pub(crate) fn digest(
    challenge: &Challenge,
    commitment: &Commitment,
    nonce: &Hash,
    opening: &Opening,
) -> Hash {
    let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof matrix signature");
    h.update(&challenge.digest().0).update(&nonce.0);
    key::put_hashes(&mut h, &commitment.roots);
    key::put_steps(&mut h, &opening.steps);
    h.finalize().into()
}
