//! Appeals against a standing, and the verifiers that they are put before.

use gangline_guard::{
    Permit, act,
    log::{Event, entry::AppealStep},
};
use gangline_rules::appeals::{decide, quorum};
use gangline_types::{AppealId, GpuId, Hash, ProofId};
use gangline_wire::api::appeal::{PublicAppeal, SignedVerdict, Verifier};

use crate::{PublicStore, Store, StoreError, books::answered};

/// Appeals that are shown: the newest.
pub(crate) const SHOWN: i64 = 200;

answered! { Store,
    /// Verifiers that appeals are put before from now on, in the order of keys.
    async fn verifiers(&self) -> Result<Vec<Verifier>, StoreError>;

    /// Registers a verifier, or ends one.
    async fn set_verifier(
        &self,
        permit: &Permit<act::Operate>,
        verifier: &Verifier,
        on: bool,
    ) -> Result<(), StoreError>;

    /// Opens an appeal of a GPU of the permit's machine; [`StoreError::Gone`] if one is open.
    async fn open_appeal(
        &self,
        permit: &Permit<act::ProveGpu>,
        appeal: &PublicAppeal,
    ) -> Result<(), StoreError>;

    /// An appeal.
    async fn appeal(&self, appeal: AppealId) -> Result<Option<PublicAppeal>, StoreError>;

    /// Puts an answered epoch before the verifiers of the GPU's open appeal: that appeal, if it was waiting for one.
    async fn answer_appeal(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        proof: ProofId,
        digest: Hash,
        in_time: bool,
    ) -> Result<Option<PublicAppeal>, StoreError>;

    /// Takes a verdict of one of the appeal's verifiers, and decides if it can be decided. A GPU whose appeal is upheld
    /// begins a new series of proofs, in which nothing of the old one counts.
    async fn add_verdict(
        &self,
        permit: &Permit<act::Judge>,
        appeal: AppealId,
        verdict: &SignedVerdict,
    ) -> Result<PublicAppeal, StoreError>;
}

answered! { PublicStore,
    /// Appeals, newest first: of one GPU or of all.
    async fn appeals(&self, gpu: Option<GpuId>) -> Result<Vec<PublicAppeal>, StoreError>;
}

/// What an upheld appeal says of itself.
pub(crate) fn upheld_words(appeal: &PublicAppeal) -> String {
    let right = appeal.verdicts.iter().filter(|verdict| verdict.right).count();
    format!(
        "appeal {} was upheld: {right} of {} verifiers found its re-run right; it is proven anew",
        appeal.id,
        appeal.verifiers.len()
    )
}

/// An appeal with one more verdict, and what the log holds of that.
pub(crate) fn with_verdict(
    mut appeal: PublicAppeal,
    verdict: &SignedVerdict,
    now: gangline_types::UnixSeconds,
) -> Result<(PublicAppeal, Vec<Event>), StoreError> {
    if appeal.upheld.is_some() {
        return Err(StoreError::Gone("this appeal is decided"));
    }
    if appeal.digest != Some(verdict.digest) {
        return Err(StoreError::Gone("this is not the transcript that the appeal is about"));
    }
    if appeal.verdicts.iter().any(|known| known.verifier == verdict.verifier) {
        return Err(StoreError::Gone("this verifier has given its verdict"));
    }
    if !appeal.verifiers.iter().any(|known| known.key == verdict.verifier) {
        return Err(StoreError::Gone("the appeal was not put before this verifier"));
    }
    appeal.verdicts.push(verdict.clone());
    let SignedVerdict { verifier, digest, right, .. } = *verdict;
    let mut events = vec![Event::AppealVerdict { appeal: appeal.id, verifier, digest, right }];
    let verdicts: Vec<bool> = appeal.verdicts.iter().map(|verdict| verdict.right).collect();
    appeal.upheld = decide(appeal.verifiers.len(), &verdicts, appeal.in_time);
    if let Some(upheld) = appeal.upheld {
        appeal.ended_at = Some(now);
        let step = if upheld { AppealStep::Upheld } else { AppealStep::Dismissed };
        events.push(Event::Appeal { appeal: appeal.id, gpu: appeal.gpu, step });
    }
    Ok((appeal, events))
}

/// A new appeal, before these verifiers.
pub fn opened(
    id: AppealId,
    gpu: GpuId,
    verifiers: Vec<Verifier>,
    opened_at: gangline_types::UnixSeconds,
) -> PublicAppeal {
    PublicAppeal {
        id,
        gpu,
        opened_at,
        quorum: quorum(verifiers.len()) as u32,
        verifiers,
        proof: None,
        digest: None,
        in_time: false,
        verdicts: vec![],
        upheld: None,
        ended_at: None,
    }
}
