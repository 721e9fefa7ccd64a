//! Made-up machines for tests of load. This is the one write that says what a GPU's standing is without a proof;
//! it can only say so of GPUs that it makes itself, on machines that are marked as simulated for good.

use gangline_guard::{Permit, act, beat::Line};
use gangline_types::{AccountId, GpuClaim, GpuId, Hour, MachineId, Profile, Standing, UptimeHour};
use gangline_wire::api::machine::Offer;

use crate::{Store, StoreError, books::answered};

/// A made-up machine with its one GPU.
#[derive(Clone, Debug)]
pub struct SimulatedMachine {
    /// Its id.
    pub machine: MachineId,
    /// Its GPU.
    pub gpu: GpuId,
    /// Its key, which whoever drives it has the other half of.
    pub public_key: [u8; 32],
    /// What the GPU is said to be.
    pub claim: GpuClaim,
    /// What is thought of it.
    pub standing: Standing,
    /// What it is said to have shown.
    pub profile: Profile,
    /// What it is offered at.
    pub offer: Option<Offer>,
}

answered! { Store,
    /// Makes a supplier that simulated machines belong to; one that exists stays.
    async fn add_simulated_account(
        &self,
        permit: &Permit<act::Simulate>,
        account: AccountId,
    ) -> Result<(), StoreError>;

    /// Writes simulated machines down with their keys and GPUs; those that exist stay.
    async fn add_simulated(
        &self,
        permit: &Permit<act::Simulate>,
        machines: &[(AccountId, SimulatedMachine)],
    ) -> Result<(), StoreError>;

    /// Writes months of made-up uptime down, in the books and for the explorer: of each GPU a month and its days as
    /// [`Day::pack`](gangline_rules::months::Day::pack) makes them. What was there of such a month is replaced.
    async fn add_simulated_uptime(
        &self,
        permit: &Permit<act::Simulate>,
        months: &[(GpuId, u32, Vec<u8>)],
    ) -> Result<(), StoreError>;

    /// Every GPU's minutes in one hour, for comparing them with what a fleet was told.
    async fn hour_of_all(
        &self,
        permit: &Permit<act::Simulate>,
        hour: Hour,
    ) -> Result<Vec<(GpuId, UptimeHour)>, StoreError>;

    /// What servers have acknowledged and their shared journal still holds, in order; nothing where each server's journal
    /// is its own. Whoever reads the books after this finds there what was folded meanwhile.
    async fn journaled(&self, permit: &Permit<act::Simulate>) -> Result<Vec<Line>, StoreError>;

    /// Whether the books hold any simulated machine.
    async fn has_simulated(&self) -> Result<bool, StoreError>;
}
