//! The network's log on disk. An entry is written in the transaction of what it tells of, in the next place;
//! [`Store::integrate`] hashes new entries into the tree, signs its checkpoint and publishes both.
//!
//! A checkpoint is in the books before anyone can see it, and never is there another of its size: books that
//! were restored from an older copy, or whose entries were changed, are found out here and nothing is signed.

use gangline_guard::{
    Permit, act,
    log::{Opening, TilePath},
};
use gangline_types::Hash;

use crate::{PublicStore, Store, StoreError, books::answered};

answered! { Store,
    /// Brings the log's tree, checkpoint and public copy up to date: how many entries are new. `sign` gets
    /// size and root and answers with the signed note. Rebuilds the public copy if that is gone.
    ///
    /// # Errors
    /// [`StoreError::Log`] when books and public copy contradict each other; then nothing is signed.
    async fn integrate(
        &self,
        permit: &Permit<act::Project>,
        sign: impl Fn(u64, Hash) -> String + Send,
    ) -> Result<u64, StoreError>;

    /// Notes that the policy is another than the one noted last; false if it is the same.
    async fn note_policy(&self, permit: &Permit<act::Project>, matrix: Hash) -> Result<bool, StoreError>;

    /// What opens an entry's seal: for the security officer and whomever it concerns.
    async fn log_opening(
        &self,
        permit: &Permit<act::Operate>,
        index: u64,
    ) -> Result<Option<Opening>, StoreError>;
}

answered! { PublicStore,
    /// The log's newest checkpoint, signed; none before the first second of a network.
    async fn log_checkpoint(&self) -> Result<Option<String>, StoreError>;

    /// A tile or a bundle of entries as served, with exactly the hashes or entries that the path names; none
    /// if the log has not so many.
    async fn log_tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, StoreError>;
}

/// A checkpoint as kept.
pub(crate) struct Kept {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) note: String,
}

/// Whether the books can go on from what is published.
pub(crate) fn follows(ours: Option<&Kept>, published: Option<&Kept>, held: u64) -> Result<(), StoreError> {
    let size = |kept: Option<&Kept>| kept.map_or(0, |kept| kept.size);
    let broken = |finding: String| Err(StoreError::Log(finding));
    if let Some(public) = published
        && (ours.is_none() || size(ours) < public.size)
    {
        return broken(format!(
            "{} entries are published, and the books know of {}: they were rolled back",
            public.size,
            size(ours)
        ));
    }
    if let (Some(ours), Some(public)) = (ours, published)
        && ours.size == public.size
        && ours.root != public.root
    {
        return broken(format!("the published tree of {} entries is not the one in the books", ours.size));
    }
    if held < size(ours) {
        return broken(format!("{} entries were signed, and {held} are in the books", size(ours)));
    }
    Ok(())
}
