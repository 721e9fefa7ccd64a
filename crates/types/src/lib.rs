//! The nouns of the network as types: ids, time, money, hashes, GPU claims and profiles.
//!
//! Knows no I/O, no clock, no randomness source and no storage; every other room may use it.

pub mod bits;
pub mod cluster;
pub mod gpu;
pub mod hash;
pub mod id;
pub mod money;
pub mod public;
pub mod receipt;
pub mod text;
pub mod time;

pub use bits::UptimeHour;
pub use gpu::{AdapterKind, Backend, GpuClaim, Profile, ShownAs, Standing};
pub use hash::Hash;
pub use id::{
    AccountId, AppealId, ApprovalId, ClusterId, DeliveryId, EnrolmentId, FreezeId, GpuId, IncidentId, KeyId,
    LinkId, MachineId, PasskeyId, ProofId, SessionId,
};
pub use money::{MicroCredits, Share};
pub use text::{Label, Text};
pub use time::{Hour, Minute, Seconds, UnixMillis, UnixSeconds};
