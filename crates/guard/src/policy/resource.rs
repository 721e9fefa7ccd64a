//! What is asked about. A resource carries the ids of those it belongs to, as the store has them, so that
//! policy compares and never looks anything up.

use gangline_types::{
    AccountId, ApprovalId, ClusterId, EnrolmentId, FreezeId, GpuId, Hash, KeyId, Label, MachineId,
    UnixSeconds,
};
use gangline_wire::api::{
    account::Role,
    enrol::KeyKind,
    operate::{Approver, Doer},
};

use crate::freeze::Target;

/// Resources by kind, each with its owners.
pub mod on {
    use super::*;

    /// The network as a whole.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Network;
    /// An account.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Account {
        /// Which.
        pub account: AccountId,
    }
    /// A machine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Machine {
        /// Which.
        pub machine: MachineId,
        /// Its owner.
        pub account: AccountId,
    }
    /// A GPU.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Gpu {
        /// Which.
        pub gpu: GpuId,
        /// Its machine.
        pub machine: MachineId,
        /// That machine's owner.
        pub account: AccountId,
    }
    /// A cluster.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cluster {
        /// Which.
        pub cluster: ClusterId,
        /// Who hired it.
        pub renter: AccountId,
        /// The machine it runs on.
        pub machine: MachineId,
    }
    /// A key's request to be enrolled.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Enrolment {
        /// Which.
        pub enrolment: EnrolmentId,
        /// What the key is for.
        pub kind: KeyKind,
    }
    /// Somebody, or somebody's session, as an identity provider names it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Identity {
        /// Which: see [`identity`](crate::authenticate::identity).
        pub identity: Hash,
    }
    /// An enrolled key.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Key {
        /// Which.
        pub key: KeyId,
        /// Whose.
        pub account: AccountId,
    }
    // What follows says all of a dangerous act, so that what is approved is what is done.

    /// A one-time link to be made.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Invitation {
        /// For this account; none: for a new one.
        pub account: Option<AccountId>,
        /// Its role, which a link into it gives.
        pub role: Role,
        /// Its name.
        pub name: Label,
    }
    /// A freeze to be made.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Halt {
        /// What it stops.
        pub target: Target,
        /// For how long; none: until it is lifted.
        pub seconds: Option<u64>,
    }
    /// A freeze that there is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Freeze {
        /// Which.
        pub freeze: FreezeId,
        /// What it stops.
        pub target: Target,
    }
    /// What somebody has called GPUs, to be undone.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Restoration {
        /// Whose changes go.
        pub doer: Doer,
        /// From this second on.
        pub since: UnixSeconds,
    }
    /// A table of calibration to be promoted or withdrawn.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Calibration {
        /// Which.
        pub version: u32,
        /// Its digest.
        pub table: Hash,
        /// Whether it is to set deadlines from now on; otherwise it is withdrawn.
        pub promote: bool,
    }
    /// An act that was asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Approval {
        /// Which.
        pub approval: ApprovalId,
        /// By whom.
        pub asked_by: AccountId,
        /// Who may approve it.
        pub approver: Approver,
    }
}

/// Any resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// See [`on::Network`].
    Network(on::Network),
    /// See [`on::Account`].
    Account(on::Account),
    /// See [`on::Machine`].
    Machine(on::Machine),
    /// See [`on::Gpu`].
    Gpu(on::Gpu),
    /// See [`on::Cluster`].
    Cluster(on::Cluster),
    /// See [`on::Enrolment`].
    Enrolment(on::Enrolment),
    /// See [`on::Identity`].
    Identity(on::Identity),
    /// See [`on::Key`].
    Key(on::Key),
    /// See [`on::Invitation`].
    Invitation(on::Invitation),
    /// See [`on::Halt`].
    Halt(on::Halt),
    /// See [`on::Freeze`].
    Freeze(on::Freeze),
    /// See [`on::Restoration`].
    Restoration(on::Restoration),
    /// See [`on::Calibration`].
    Calibration(on::Calibration),
    /// See [`on::Approval`].
    Approval(on::Approval),
}

macro_rules! into_resource {
    ($($name:ident),+) => {$(
        impl From<on::$name> for Resource {
            fn from(on: on::$name) -> Self { Resource::$name(on) }
        }
    )+};
}
into_resource!(
    Network,
    Account,
    Machine,
    Gpu,
    Cluster,
    Enrolment,
    Key,
    Identity,
    Invitation,
    Halt,
    Freeze,
    Restoration,
    Calibration,
    Approval
);

/// In the words of the audit. What a dangerous act is about is told whole: no two that differ read alike.
impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(_) => f.write_str("network"),
            Self::Account(a) => a.account.fmt(f),
            Self::Machine(m) => m.machine.fmt(f),
            Self::Gpu(g) => g.gpu.fmt(f),
            Self::Cluster(c) => c.cluster.fmt(f),
            Self::Enrolment(e) => e.enrolment.fmt(f),
            Self::Key(k) => k.key.fmt(f),
            Self::Identity(i) => write!(f, "identity {}", i.identity),
            Self::Invitation(i) => match i.account {
                Some(account) => write!(f, "a link for the {} {account} {:?}", i.role, i.name.as_str()),
                None => write!(f, "a link for a new {} {:?}", i.role, i.name.as_str()),
            },
            Self::Halt(h) => match h.seconds {
                Some(seconds) => write!(f, "a freeze of {} for {seconds} s", h.target),
                None => write!(f, "a freeze of {}", h.target),
            },
            Self::Freeze(z) => write!(f, "{} of {}", z.freeze, z.target),
            Self::Restoration(r) => write!(f, "names given by {} since {}", r.doer, r.since),
            Self::Calibration(c) => {
                let to = if c.promote { "promoted" } else { "withdrawn" };
                write!(f, "calibration {} to be {to}, table {}", c.version, c.table)
            }
            Self::Approval(a) => a.approval.fmt(f),
        }
    }
}
