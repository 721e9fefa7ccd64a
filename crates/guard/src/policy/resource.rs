//! What is asked about. A resource carries the ids of those it belongs to, as the store has them, so that
//! policy compares and never looks anything up.

use gangline_types::{AccountId, ClusterId, EnrolmentId, GpuId, Hash, KeyId, MachineId};
use gangline_wire::api::enrol::KeyKind;

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
}

/// Any resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

macro_rules! into_resource {
    ($($name:ident),+) => {$(
        impl From<on::$name> for Resource {
            fn from(on: on::$name) -> Self { Resource::$name(on) }
        }
    )+};
}
into_resource!(Network, Account, Machine, Gpu, Cluster, Enrolment, Key, Identity);

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
        }
    }
}
