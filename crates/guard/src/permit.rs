//! The permit: proof, checked by the compiler, that policy allowed this actor this action on this
//! resource. Only [`permit`] makes one, and every write of the store takes one by value.

use gangline_types::{ApprovalId, UnixSeconds};
use gangline_wire::Action;

use crate::{Actor, Principal, Refusal, audit::AuditEntry, care, policy, policy::Resource};

/// An action as a type, with the kind of resource it is on.
pub trait Act: sealed::Sealed + Send + Sync + 'static {
    /// The action.
    const ACTION: Action;
    /// What it is on.
    type On: Clone + std::fmt::Debug + Into<Resource> + Send + Sync;
}

mod sealed {
    /// Keeps `Act` to this crate.
    pub trait Sealed {}
}

/// Allowed: this actor, this action, this resource.
#[derive(Debug)]
pub struct Permit<A: Act> {
    principal: Principal,
    on: A::On,
    reason: &'static str,
    at: UnixSeconds,
    approval: Option<ApprovalId>,
}

impl<A: Act> Permit<A> {
    /// Who.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
    /// On what: the only place a write may take its target from.
    pub fn on(&self) -> &A::On {
        &self.on
    }
    /// When it was given.
    pub fn at(&self) -> UnixSeconds {
        self.at
    }
    /// The approval that it took, which the write uses up.
    pub fn approval(&self) -> Option<ApprovalId> {
        self.approval
    }
    /// What to write down.
    pub fn audit_entry(&self) -> AuditEntry {
        AuditEntry {
            at: self.at,
            actor: self.principal.to_string(),
            key: self.principal.key(),
            account: self.principal.account(),
            session: self.principal.session(),
            action: A::ACTION,
            resource: self.on.clone().into().to_string(),
            reason: self.reason,
        }
    }
}

/// Asks policy, then whether the act takes more than its yes (see [`care`](crate::care)), and then whether what
/// policy allows is frozen: in this order, so that neither tells anybody of what is none of their business. This is
/// the one way to a permit, so no write can forget a sign-in, an approval or a freeze.
pub fn permit<A: Act>(actor: &Actor, on: A::On, at: UnixSeconds) -> Result<Permit<A>, Refusal> {
    let resource: Resource = on.clone().into();
    let reason = policy::decide(actor.principal(), A::ACTION, &resource)?;
    let approval = care::check(actor, A::ACTION, &resource, at)?;
    actor.freezes().check(actor.principal(), A::ACTION, at)?;
    Ok(Permit { principal: *actor.principal(), on, reason, at, approval })
}

/// The actions as types.
pub mod act {
    use super::{Act, Action, sealed::Sealed};
    use crate::policy::on;

    macro_rules! acts {
        ($($(#[$doc:meta])+ $name:ident on $on:ty;)+) => {$(
            $(#[$doc])+
            #[derive(Debug)]
            pub enum $name {}
            impl Sealed for $name {}
            impl Act for $name {
                const ACTION: Action = Action::$name;
                type On = $on;
            }
        )+};
    }
    acts! {
        /// See [`Action::RequestEnrolment`].
        RequestEnrolment on on::Network;
        /// See [`Action::DecideEnrolment`].
        DecideEnrolment on on::Enrolment;
        /// See [`Action::UseLink`].
        UseLink on on::Network;
        /// See [`Action::SignIn`].
        SignIn on on::Identity;
        /// See [`Action::UsePasskey`].
        UsePasskey on on::Network;
        /// See [`Action::UsePassword`].
        UsePassword on on::Network;
        /// See [`Action::ManageWaysIn`].
        ManageWaysIn on on::Account;
        /// See [`Action::EndSessions`].
        EndSessions on on::Identity;
        /// See [`Action::EndAccountSessions`].
        EndAccountSessions on on::Account;
        /// See [`Action::Invite`].
        Invite on on::Invitation;
        /// See [`Action::DescribeMachine`].
        DescribeMachine on on::Machine;
        /// See [`Action::LabelGpu`].
        LabelGpu on on::Gpu;
        /// See [`Action::Beat`].
        Beat on on::Machine;
        /// See [`Action::ProveGpu`].
        ProveGpu on on::Machine;
        /// See [`Action::Supply`].
        Supply on on::Machine;
        /// See [`Action::RetireMachine`].
        RetireMachine on on::Machine;
        /// See [`Action::Hire`].
        Hire on on::Network;
        /// See [`Action::UseCluster`].
        UseCluster on on::Cluster;
        /// See [`Action::ReleaseCluster`].
        ReleaseCluster on on::Cluster;
        /// See [`Action::ReadAccount`].
        ReadAccount on on::Account;
        /// See [`Action::RevokeKey`].
        RevokeKey on on::Key;
        /// See [`Action::RotateKey`].
        RotateKey on on::Key;
        /// See [`Action::Operate`].
        Operate on on::Network;
        /// See [`Action::Contain`].
        Contain on on::Network;
        /// See [`Action::Freeze`].
        Freeze on on::Halt;
        /// See [`Action::Thaw`].
        Thaw on on::Freeze;
        /// See [`Action::Restore`].
        Restore on on::Restoration;
        /// See [`Action::MoveCalibration`].
        MoveCalibration on on::Calibration;
        /// See [`Action::AskApproval`].
        AskApproval on on::Account;
        /// See [`Action::DecideApproval`].
        DecideApproval on on::Approval;
        /// See [`Action::DeclineApproval`].
        DeclineApproval on on::Approval;
        /// See [`Action::Watch`].
        Watch on on::Network;
        /// See [`Action::Judge`].
        Judge on on::Network;
        /// See [`Action::TakeSnapshot`].
        TakeSnapshot on on::Network;
        /// See [`Action::Reconcile`].
        Reconcile on on::Network;
        /// See [`Action::Project`].
        Project on on::Network;
        /// See [`Action::Simulate`].
        Simulate on on::Network;
        /// See [`Action::MoveBooks`].
        MoveBooks on on::Network;
    }
}
