//! May they: one function over principal, action and resource. A resource carries the ids of those it
//! belongs to, as the store has them, so that policy compares and never looks anything up.

use gangline_types::{AccountId, ClusterId, EnrolmentId, GpuId, KeyId, MachineId};
use gangline_wire::{
    Action,
    api::{account::Role, enrol::KeyKind},
};

use crate::{Job, Principal, Refusal};

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
into_resource!(Network, Account, Machine, Gpu, Cluster, Enrolment, Key);

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
        }
    }
}

/// Whether `who` may do `action` on `what`: the rule that allows it, or the refusal. Whatever is not
/// allowed here by name is refused; what is somebody else's is hidden, not forbidden.
pub fn decide(who: &Principal, action: Action, what: &Resource) -> Result<&'static str, Refusal> {
    use Action::*;
    use Principal as P;
    match (who, action, what) {
        (_, ReadPublic, Resource::Network(_)) => Ok("anyone may read what is public"),
        (_, UseLink, Resource::Network(_)) => Ok("whoever holds a one-time link may use it"),
        (P::NewKey(_), RequestEnrolment, Resource::Network(_)) => Ok("any key may ask to be enrolled"),

        // Jobs: each its own act and nothing else.
        (P::Job(Job::Verifier), Judge, Resource::Network(_)) => Ok("the verifier judges"),
        (P::Job(Job::Accountant), TakeSnapshot, Resource::Network(_)) => Ok("the accountant takes snapshots"),
        (P::Job(Job::Reconciler), Reconcile, Resource::Network(_)) => Ok("the reconciler reconciles"),
        (P::Job(Job::Projector), Project, Resource::Network(_)) => Ok("the projector projects"),
        (P::Job(Job::Setup), Invite, Resource::Network(_)) => {
            Ok("whoever runs the server may invite its operator")
        }
        (P::Job(_), ..) => Err(Refusal::Forbidden("this job")),

        // A machine: its own self, its own GPUs, the clusters that were placed on it.
        (
            P::Machine { machine, account, .. },
            DescribeMachine | Beat | ProveGpu | Supply | RetireMachine,
            Resource::Machine(m),
        ) => {
            if m.machine == *machine && m.account == *account {
                Ok("a machine speaks for itself")
            } else {
                Err(Refusal::Hidden)
            }
        }
        (P::Machine { machine, account, .. }, LabelGpu, Resource::Gpu(g)) => {
            if g.machine == *machine && g.account == *account {
                Ok("a machine names its own GPUs")
            } else {
                Err(Refusal::Hidden)
            }
        }
        // Forbidden would tell that it exists.
        (P::Machine { .. }, UseCluster | ReleaseCluster, Resource::Cluster(_)) => Err(Refusal::Hidden),
        (P::Machine { .. }, ..) => Err(Refusal::Forbidden("a machine")),

        // People, in a browser or at a command line.
        (P::Person { account, .. } | P::CommandLine { account, .. }, ReadAccount, Resource::Account(a)) => {
            if a.account == *account {
                Ok("one sees one's own account")
            } else {
                Err(Refusal::Hidden)
            }
        }
        (
            P::Person { account, role, .. } | P::CommandLine { account, role, .. },
            RevokeKey,
            Resource::Key(k),
        ) => {
            if k.account == *account {
                Ok("one ends one's own keys")
            } else if *role == Role::Operator {
                Ok("the operator ends keys")
            } else {
                Err(Refusal::Hidden)
            }
        }
        (P::Person { account, role: Role::Supplier, .. }, LabelGpu, Resource::Gpu(g)) => {
            if g.account == *account { Ok("a supplier names their own GPUs") } else { Err(Refusal::Hidden) }
        }
        (
            P::Person { account, role, .. } | P::CommandLine { account, role, .. },
            RetireMachine,
            Resource::Machine(m),
        ) => match role {
            Role::Operator => Ok("the operator retires machines"),
            Role::Supplier if m.account == *account => Ok("a supplier retires their own machines"),
            _ => Err(Refusal::Hidden),
        },
        // Approving needs a browser: a stolen command-line key cannot enrol another.
        (P::Person { role, .. }, DecideEnrolment, Resource::Enrolment(e)) => match (role, e.kind) {
            (Role::Supplier, KeyKind::Machine) => Ok("a supplier approves machines"),
            (_, KeyKind::CommandLine) => Ok("everyone approves their own command line"),
            _ => Err(Refusal::Forbidden("an account that is no supplier's")),
        },
        (P::Person { role: Role::Operator, .. }, Invite, Resource::Network(_)) => Ok("the operator invites"),
        (
            P::Person { role: Role::Operator, .. } | P::CommandLine { role: Role::Operator, .. },
            Operate,
            Resource::Network(_),
        ) => Ok("the operator sees the network"),
        (P::CommandLine { role: Role::Renter, .. }, Hire, Resource::Network(_)) => Ok("a renter hires"),
        (
            P::Person { account, role, .. } | P::CommandLine { account, role, .. },
            ReleaseCluster,
            Resource::Cluster(c),
        ) => match role {
            Role::Renter if c.renter == *account => Ok("a renter releases their own clusters"),
            Role::Operator => Ok("the operator releases clusters"),
            _ => Err(Refusal::Hidden),
        },
        (
            P::Person { account, role: Role::Renter, .. }
            | P::CommandLine { account, role: Role::Renter, .. },
            UseCluster,
            Resource::Cluster(c),
        ) => {
            if c.renter == *account {
                Ok("a renter uses their own clusters")
            } else {
                Err(Refusal::Hidden)
            }
        }
        (P::Person { .. } | P::CommandLine { .. }, UseCluster, Resource::Cluster(_)) => Err(Refusal::Hidden),
        (P::Person { role, .. } | P::CommandLine { role, .. }, ..) => Err(Refusal::Forbidden(match role {
            Role::Operator => "an operator here",
            Role::Supplier => "a supplier here",
            Role::Renter => "a renter here",
        })),
        (P::NewKey(_), ..) => Err(Refusal::Forbidden("a key that is not enrolled")),
        (P::Nobody, ..) => Err(Refusal::Unsigned),
    }
}

/// The whole matrix as text, one line a case: for people to review and for a test to hold.
pub fn matrix() -> String {
    use std::fmt::Write;
    let (a, b) = (AccountId::from_bytes([1; 16]), AccountId::from_bytes([2; 16]));
    let (m, n) = (MachineId::from_bytes([3; 16]), MachineId::from_bytes([4; 16]));
    let key = KeyId::from_bytes([5; 16]);
    let session = gangline_types::SessionId::from_bytes([6; 16]);
    let mut who: Vec<(String, Principal)> = vec![
        ("nobody".into(), Principal::Nobody),
        ("new key".into(), Principal::NewKey(key)),
        ("machine".into(), Principal::Machine { machine: m, account: a, key }),
    ];
    for role in Role::ALL {
        who.push((format!("{role}, browser"), Principal::Person { account: a, role, session }));
        who.push((format!("{role}, command line"), Principal::CommandLine { account: a, role, key }));
    }
    who.extend(Job::ALL.map(|j| (format!("job {}", j.as_str()), Principal::Job(j))));

    let cluster = ClusterId::from_bytes([7; 16]);
    let gpu = GpuId::from_bytes([8; 16]);
    let enrolment = EnrolmentId::from_bytes([9; 16]);
    let what: Vec<(&str, Resource)> = vec![
        ("network", on::Network.into()),
        ("own account", on::Account { account: a }.into()),
        ("other account", on::Account { account: b }.into()),
        ("own machine", on::Machine { machine: m, account: a }.into()),
        ("other machine", on::Machine { machine: n, account: b }.into()),
        ("own gpu", on::Gpu { gpu, machine: m, account: a }.into()),
        ("sibling machine's gpu", on::Gpu { gpu, machine: n, account: a }.into()),
        ("other gpu", on::Gpu { gpu, machine: n, account: b }.into()),
        ("own cluster", on::Cluster { cluster, renter: a, machine: n }.into()),
        ("other cluster", on::Cluster { cluster, renter: b, machine: n }.into()),
        ("machine enrolment", on::Enrolment { enrolment, kind: KeyKind::Machine }.into()),
        ("command-line enrolment", on::Enrolment { enrolment, kind: KeyKind::CommandLine }.into()),
        ("own key", on::Key { key, account: a }.into()),
        ("other key", on::Key { key, account: b }.into()),
    ];
    let mut out = String::from("# actor | action | resource | allowed by, or refused as\n");
    for (name, principal) in &who {
        for action in Action::ALL {
            for (kind, resource) in &what {
                match decide(principal, *action, resource) {
                    Ok(reason) => writeln!(out, "{name} | {action} | {kind} | yes: {reason}"),
                    Err(Refusal::Hidden) => writeln!(out, "{name} | {action} | {kind} | hidden"),
                    Err(_) => continue, // refused openly: the default, left out so that people can read the rest
                }
                .expect("writing to a string");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    /// Set `GANGLINE_BLESS=1` to write the reviewed file anew, then read what changed.
    #[test]
    fn the_matrix_is_the_reviewed_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/matrix.txt");
        let now = super::matrix();
        if std::env::var_os("GANGLINE_BLESS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let reviewed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            now == reviewed,
            "the policy no longer matches crates/guard/matrix.txt; if the change is meant, write it with GANGLINE_BLESS=1 and review the difference"
        );
    }
}
