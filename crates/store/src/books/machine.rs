//! Machines and their GPUs.

use gangline_guard::{Permit, act, policy::on};
use gangline_types::{GpuClaim, GpuId, Label, MachineId, Profile, ShownAs, Standing, Text, UnixSeconds};
use gangline_wire::api::machine::{Inventory, Offer, RegisteredGpu};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// A machine for its owner's console.
#[derive(Clone, Debug)]
pub struct MachineRow {
    /// For the guard.
    pub resource: on::Machine,
    /// What it said of itself last; none until its worker ran.
    pub inventory: Option<Inventory>,
    /// Its owner paused it.
    pub paused: bool,
    /// Since when.
    pub joined_at: UnixSeconds,
    /// Last request of any kind.
    pub seen_at: UnixSeconds,
    /// When it left.
    pub left_at: Option<UnixSeconds>,
}

/// A GPU with all that is private about it.
#[derive(Clone, Debug)]
pub struct GpuRow {
    /// For the guard.
    pub resource: on::Gpu,
    /// What its machine says it is.
    pub claim: GpuClaim,
    /// What it is called.
    pub label: Label,
    /// What the network thinks of it.
    pub standing: Standing,
    /// Why.
    pub reason: Text<240>,
    /// What it has shown.
    pub profile: Profile,
    /// What it is shown as, where its proofs did not carry its claim.
    pub shown_as: Option<ShownAs>,
    /// Which series of joining proofs it is in.
    pub round: u32,
    /// Last beat; 0 never.
    pub beat_at: UnixSeconds,
    /// Offered for hire at this.
    pub offer: Option<Offer>,
}

impl GpuRow {
    /// The model and kind that it is shown and hired as.
    pub fn shown(&self) -> ShownAs {
        let claimed = || ShownAs { model: self.claim.model.clone(), kind: self.claim.kind };
        self.shown_as.clone().unwrap_or_else(claimed)
    }
}

answered! { Store,
    /// Writes an inventory down. A slot seen before keeps its GPU id; a claim that says something else
    /// than before has to be proven anew; a GPU that is no longer there stays, but is not present.
    /// `new_ids` has one fresh id for each claim.
    async fn describe(
        &self,
        permit: Permit<act::DescribeMachine>,
        inventory: &Inventory,
        new_ids: &[GpuId],
    ) -> Result<Vec<RegisteredGpu>, StoreError>;

    /// Notes that a machine was heard of, and whether its owner paused it and what it offers.
    async fn heard_of(
        &self,
        permit: &Permit<act::Supply>,
        paused: bool,
        offers: &[Offer],
    ) -> Result<bool, StoreError>;

    /// Takes the permit's machine out: its GPUs are retired and its keys end.
    async fn retire_machine(&self, permit: Permit<act::RetireMachine>) -> Result<(), StoreError>;

    /// Names the permit's GPU.
    async fn label_gpu(&self, permit: Permit<act::LabelGpu>, label: &Label) -> Result<(), StoreError>;

    /// A machine as a resource; none if it left.
    async fn machine_resource(&self, machine: MachineId) -> Result<Option<on::Machine>, StoreError>;

    /// A GPU, whoever's it is: for deciding about it.
    async fn gpu(&self, gpu: GpuId) -> Result<Option<GpuRow>, StoreError>;

    /// GPUs of the permit's machine that are there.
    async fn gpus_on(&self, permit: &Permit<act::Supply>) -> Result<Vec<GpuRow>, StoreError>;

    /// How many machines the account has.
    async fn count_machines_of(&self, permit: &Permit<act::ReadAccount>) -> Result<u64, StoreError>;

    /// The account's machines, newest first, those after `after`.
    async fn machines_of(
        &self,
        permit: &Permit<act::ReadAccount>,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<MachineRow>, StoreError>;

    /// Machines that have not left, and how many of them were heard of at or after `since`, by a beat or otherwise.
    async fn machine_counts(
        &self,
        permit: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<(u64, u64), StoreError>;

    /// GPUs of the machines that [`machines_of`](Self::machines_of) gives.
    async fn gpus_of(
        &self,
        permit: &Permit<act::ReadAccount>,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<GpuRow>, StoreError>;

    /// A machine's public key, for binding proofs to it.
    async fn machine_public_key(&self, machine: MachineId) -> Result<Option<[u8; 32]>, StoreError>;
}

pub(crate) fn gpu_row(row: &impl Columns) -> Result<GpuRow, StoreError> {
    Ok(GpuRow {
        resource: on::Gpu { gpu: row.id("id")?, machine: row.id("machine")?, account: row.id("account")? },
        claim: row.json("claim")?,
        label: Label::lossy(&row.text("label")?),
        standing: row.word("standing")?,
        reason: Text::lossy(&row.text("reason")?),
        profile: Profile { matrix_mmacs: row.int("matrix_mmacs")?, memory_bytes: row.int("memory_bytes")? },
        shown_as: row.json_or_none("shown_as")?,
        round: row.int("round")? as u32,
        beat_at: row.at("beat_at")?,
        offer: row.json_or_none("offer")?,
    })
}

pub(crate) fn machine_row(row: &impl Columns) -> Result<MachineRow, StoreError> {
    Ok(MachineRow {
        resource: on::Machine { machine: row.id("id")?, account: row.id("account")? },
        inventory: row.json_or_none("inventory")?,
        paused: row.flag("paused")?,
        joined_at: row.at("joined_at")?,
        seen_at: row.at("seen_at")?,
        left_at: row.at_or_none("left_at")?,
    })
}

/// The parts of a claim that a proof speaks about: if they change, it has to be proven anew.
pub(crate) fn says_the_same(a: &GpuClaim, b: &GpuClaim) -> bool {
    (&a.model, a.kind, a.backend, a.pci_vendor, a.pci_device)
        == (&b.model, b.kind, b.backend, b.pci_vendor, b.pci_device)
}
