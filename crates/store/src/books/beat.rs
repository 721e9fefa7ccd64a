//! Beats: lanes that machines opened, chains behind GPUs' uptime, and the fold of what the journal holds into
//! uptime hours. That a beat is durable is the journal's business, not this one's.

use gangline_guard::{Permit, act, beat::Grant};
use gangline_types::{GpuId, Hour, MachineId, Minute, UnixSeconds, UptimeHour, public::PublicChain};
use gangline_wire::beat::{Alias, Epoch, Preimage};

use crate::{PublicStore, Store, StoreError, books::answered, sql::Columns};

/// Chains whose values are looked up with one statement.
pub(crate) const CHAINS_AT_ONCE: usize = 5_000;

/// What a machine got when it opened an epoch.
#[derive(Clone, Debug)]
pub struct LaneRow {
    /// Its alias and policy's word.
    pub grant: Grant,
    /// Its GPUs in the agreed order, each with the tip of its chain.
    pub gpus: Vec<(GpuId, Preimage)>,
}

/// A chain as its machine signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRow {
    /// Whose uptime.
    pub gpu: GpuId,
    /// The first minute it can stand for.
    pub starts: Minute,
    /// Its tip.
    pub tip: Preimage,
    /// The GPU's uptime key.
    pub public_key: [u8; 32],
    /// Signature over the three before it.
    pub signature: [u8; 64],
}

/// All that is known of one GPU's minutes in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedHour {
    /// The GPU.
    pub gpu: GpuId,
    /// The hour.
    pub hour: Hour,
    /// Its minutes.
    pub bits: UptimeHour,
    /// Of those, the ones without a chain.
    pub unchained: UptimeHour,
}

/// The deepest value of a chain that beats for minutes of an hour have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedLink {
    /// The GPU.
    pub gpu: GpuId,
    /// The hour.
    pub hour: Hour,
    /// The chain, by its tip.
    pub tip: Preimage,
    /// How deep.
    pub count: u16,
    /// The value there.
    pub preimage: Preimage,
}

/// What is folded at once.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// Minutes.
    pub hours: Vec<FoldedHour>,
    /// Values of chains.
    pub links: Vec<FoldedLink>,
    /// Minutes in which the intake was up.
    pub up: Vec<(Hour, UptimeHour)>,
    /// When it was taken from the intake; what came later is not in it.
    pub taken_at: UnixSeconds,
}

/// An epoch that a machine opens: by which permit, its lane, and the chains that it signed.
pub type Opening = (Permit<act::Beat>, LaneRow, Vec<ChainRow>);

answered! { Store,
    /// GPUs of the permit's machine that are there, in the order of ids.
    async fn own_gpus(&self, permit: &Permit<act::Beat>) -> Result<Vec<GpuId>, StoreError>;

    /// The same of each of these permits' machines.
    async fn each_own_gpus(&self, permits: &[&Permit<act::Beat>]) -> Vec<Result<Vec<GpuId>, StoreError>>;

    /// Writes down of each of these that a machine opened an epoch, and its chains. Doing so twice changes nothing, and of
    /// an alias the newest counts unless it is another machine's.
    async fn open_each_lane(&self, openings: Vec<Opening>) -> Vec<Result<(), StoreError>>;

    /// Lanes of `from` and later epochs whose key has not ended.
    async fn lanes(&self, from: Epoch) -> Result<Vec<LaneRow>, StoreError>;

    /// Lanes that other servers of this network opened last, since `since`, and whose key has not ended.
    async fn lanes_opened(&self, since: UnixSeconds) -> Result<Vec<LaneRow>, StoreError>;

    /// For each of these GPUs' chains, named by its tip, the value that was folded for the newest hour from `from` on; none
    /// where there is none. In no order.
    async fn newest_links(
        &self,
        chains: &[(GpuId, Preimage)],
        from: Hour,
    ) -> Result<Vec<FoldedLink>, StoreError>;

    /// Aliases whose key has ended since `since`.
    async fn ended_lanes(&self, since: UnixSeconds) -> Result<Vec<Alias>, StoreError>;

    /// Folds minutes into the books, in one transaction with the question which periods' snapshots are taken: a
    /// minute that is new and belongs to one is marked late. Folding twice changes nothing. Gives the machines that
    /// [`Self::note_beating`] has to be told of when everything is folded.
    async fn fold(&self, permit: &Permit<act::Reconcile>, fold: &Fold) -> Result<Vec<MachineId>, StoreError>;

    /// These machines were heard of, now.
    async fn note_beating(
        &self,
        permit: &Permit<act::Reconcile>,
        machines: &[MachineId],
    ) -> Result<(), StoreError>;

    /// The projection has to look at these GPUs: some came, and of those that fell silent nothing later is known to have
    /// come up to `until` than what was folded, although the books do not have everybody's beats up to then.
    async fn turned(
        &self,
        permit: &Permit<act::Reconcile>,
        came: &[GpuId],
        silent: &[GpuId],
        until: UnixSeconds,
    ) -> Result<(), StoreError>;

    /// Forgets lanes of epochs before `before`.
    async fn forget_lanes(&self, permit: &Permit<act::Reconcile>, before: Epoch) -> Result<(), StoreError>;

    /// Minutes in which the intake was up, for the hours `from..=to` that have any.
    async fn intake_up(&self, from: Hour, to: Hour) -> Result<Vec<(Hour, UptimeHour)>, StoreError>;
}

answered! { PublicStore,
    /// Chains of one GPU that have shown a value for an hour in `from..to`, oldest first, at most 200, with those values.
    async fn chains(&self, gpu: GpuId, from: Hour, to: Hour) -> Result<Vec<PublicChain>, StoreError>;

    /// Minutes in which the intake was up, for the hours in `from..to` that have any, oldest first.
    async fn intake_up(&self, from: Hour, to: Hour) -> Result<Vec<(Hour, UptimeHour)>, StoreError>;
}

/// A lane is opened by the machine that it is granted to, with the key that it is granted to.
pub(crate) fn is_granted(permit: &Permit<act::Beat>, lane: &LaneRow) -> Result<(), StoreError> {
    let (grant, on, key) = (&lane.grant, permit.on(), permit.principal().key());
    if (grant.machine(), grant.account(), Some(grant.key())) == (on.machine, on.account, key) {
        return Ok(());
    }
    Err(StoreError::Gone("the epoch was granted to somebody else"))
}

/// A machine's GPUs with the tips of their chains, 32 bytes each.
pub(crate) fn lane_gpus(blob: &[u8]) -> Result<Vec<(GpuId, Preimage)>, StoreError> {
    let wrong = || StoreError::Malformed("column gpus".into());
    blob.chunks(32)
        .map(|both| {
            let (gpu, tip) = both.split_at_checked(16).ok_or_else(wrong)?;
            let tip = tip.try_into().map(Preimage).map_err(|_| wrong())?;
            Ok((GpuId::from_bytes(gpu.try_into().map_err(|_| wrong())?), tip))
        })
        .collect()
}

pub(crate) fn lane_row(row: &impl Columns) -> Result<LaneRow, StoreError> {
    let (alias, epoch) = (Alias(row.int("alias")?), Epoch(row.int("epoch")? as u16));
    let grant = Grant::kept(alias, epoch, row.id("machine")?, row.id("account")?, row.id("key")?);
    Ok(LaneRow { grant, gpus: lane_gpus(&row.bytes("gpus")?)? })
}
