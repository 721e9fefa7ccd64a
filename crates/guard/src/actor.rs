//! Who is asking. An [`Actor`] can be made only by this crate, from a verified signature, a session the
//! store knows, or one of our own background jobs; there is no way to read one from a header or body.

use gangline_types::{AccountId, Hash, KeyId, MachineId, SessionId, UnixSeconds};
use gangline_wire::api::account::Role;

use crate::{Freezes, approval::Approval};

/// One of the control plane's own background jobs, an actor under the same policy as everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Judges transcripts and derives standing.
    Verifier,
    /// Takes snapshots.
    Accountant,
    /// Expires, sweeps, notices silence, moves clusters along.
    Reconciler,
    /// Fills the public projection.
    Projector,
    /// Makes the operator's first link, at the console of the machine that runs the server.
    Setup,
    /// Opens incidents for what was noticed, freezes by rule, and tells people.
    Watcher,
}

impl Job {
    /// Every job.
    pub const ALL: [Job; 6] =
        [Job::Verifier, Job::Accountant, Job::Reconciler, Job::Projector, Job::Setup, Job::Watcher];
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Job::Verifier => "verifier",
            Job::Accountant => "accountant",
            Job::Reconciler => "reconciler",
            Job::Projector => "projector",
            Job::Setup => "setup",
            Job::Watcher => "watcher",
        }
    }
}

/// What an actor is, for policy to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody in particular.
    Nobody,
    /// A key that is not enrolled; it has shown that it can sign.
    NewKey(KeyId),
    /// A supplier's machine.
    Machine {
        /// Which.
        machine: MachineId,
        /// Its owner.
        account: AccountId,
        /// The key it signed with.
        key: KeyId,
    },
    /// A person at a command line.
    CommandLine {
        /// Who.
        account: AccountId,
        /// Their role.
        role: Role,
        /// The key it signed with.
        key: KeyId,
    },
    /// A person in a browser.
    Person {
        /// Who.
        account: AccountId,
        /// Their role.
        role: Role,
        /// The session.
        session: SessionId,
    },
    /// Somebody, or somebody's session elsewhere, that the identity provider has vouched for just now: see
    /// [`vouched`](crate::authenticate::vouched).
    Vouched(Hash),
    /// One of our own.
    Job(Job),
}

impl Principal {
    /// The account behind it, if one is.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Machine { account, .. }
            | Self::CommandLine { account, .. }
            | Self::Person { account, .. } => Some(*account),
            _ => None,
        }
    }
    /// The account's role; a machine acts as no role.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::CommandLine { role, .. } | Self::Person { role, .. } => Some(*role),
            _ => None,
        }
    }
    /// The key it signed with, if it did.
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::NewKey(key) | Self::Machine { key, .. } | Self::CommandLine { key, .. } => Some(*key),
            _ => None,
        }
    }
    /// The browser's session it is, if it is one.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Person { session, .. } => Some(*session),
            _ => None,
        }
    }
    /// The machine it is, if it is one.
    pub fn machine(&self) -> Option<MachineId> {
        match self {
            Self::Machine { machine, .. } => Some(*machine),
            _ => None,
        }
    }
}

impl std::fmt::Display for Principal {
    /// As written into the audit: kind, account or job, and key where there is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::NewKey(key) => write!(f, "new key {key}"),
            Self::Machine { machine, account, key } => write!(f, "machine {machine} of {account} by {key}"),
            Self::CommandLine { account, role, key } => write!(f, "{role} {account} by {key}"),
            Self::Person { account, role, .. } => write!(f, "{role} {account} in a browser"),
            Self::Vouched(identity) => write!(f, "identity {identity} by its provider"),
            Self::Job(job) => write!(f, "job {}", job.as_str()),
        }
    }
}

/// Who is asking, as established by this crate, and what is frozen while they ask: whoever is made an actor
/// by what they show brings the freezes along, so that [`permit`](crate::permit::permit) cannot forget them.
#[derive(Clone, Debug)]
pub struct Actor {
    principal: Principal,
    freezes: Freezes,
    signed_in_at: Option<UnixSeconds>,
    lacks_a_factor: bool,
    approval: Option<Approval>,
}

impl Actor {
    pub(crate) fn of(principal: Principal, freezes: Freezes) -> Self {
        Self { principal, freezes, signed_in_at: None, lacks_a_factor: false, approval: None }
    }
    /// Somebody in a browser, with when they signed in, and whether with as many factors as they are asked for.
    pub(crate) fn signed_in(
        principal: Principal,
        freezes: Freezes,
        at: UnixSeconds,
        is_enough: bool,
    ) -> Self {
        Self { principal, freezes, signed_in_at: Some(at), lacks_a_factor: !is_enough, approval: None }
    }
    /// Whoever shows nothing.
    pub fn nobody() -> Self {
        Self::of(Principal::Nobody, Freezes::default())
    }
    /// One of our own background jobs; these are never frozen.
    pub fn job(job: Job) -> Self {
        Self::of(Principal::Job(job), Freezes::default())
    }
    /// What it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
    /// The same with what was approved of what it asked for.
    pub fn with_approval(self, approval: Approval) -> Self {
        Self { approval: Some(approval), ..self }
    }
    /// What was approved of what it asked for.
    pub(crate) fn approval(&self) -> Option<&Approval> {
        self.approval.as_ref()
    }
    /// What is frozen.
    pub(crate) fn freezes(&self) -> &Freezes {
        &self.freezes
    }
    /// Whether it is somebody in a browser who has shown one factor where two are asked for.
    pub fn lacks_a_factor(&self) -> bool {
        self.lacks_a_factor
    }
    /// When they signed in, if it is somebody in a browser.
    pub fn signed_in_at(&self) -> Option<UnixSeconds> {
        self.signed_in_at
    }
}
