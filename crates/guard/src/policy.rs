//! May they: one function over principal, action and resource. What may be done is written in `policy/*.cedar`
//! beside this crate's sources; this module asks, and knows of no rule itself.

mod cedar;
pub(crate) mod matrix;
mod resource;

use std::sync::OnceLock;

use gangline_wire::{Action, api::account::Role};

pub use cedar::PolicyError;
#[cfg(test)]
pub(crate) use matrix::actors;
pub use matrix::matrix;
pub use resource::{Resource, on};

use crate::{Principal, Refusal};
use cedar::{Answer, Policies};

fn policies() -> Result<&'static Policies, &'static PolicyError> {
    static POLICIES: OnceLock<Result<Policies, PolicyError>> = OnceLock::new();
    POLICIES.get_or_init(Policies::compiled_in).as_ref()
}

/// Reads and validates the policies, which otherwise happens at the first decision. A server calls this
/// before it takes requests and does not start on an error; without policies everything is refused.
pub fn ready() -> Result<(), &'static PolicyError> {
    policies().map(|_| ())
}

/// Whether `who` may do `action` on `what`: the reason of the policy that allows it, or the refusal. Whatever
/// no policy allows is refused; what is somebody else's is hidden, not forbidden.
pub fn decide(who: &Principal, action: Action, what: &Resource) -> Result<&'static str, Refusal> {
    let Ok(policies) = policies() else {
        return Err(Refusal::Forbidden("while the policies cannot be read, you"));
    };
    match policies.ask(who, action, what) {
        Answer::Allowed(reason) => Ok(reason),
        Answer::Hidden => Err(Refusal::Hidden),
        Answer::Refused => Err(openly(who, action, what)),
    }
}

/// How a refusal that need not be hidden is put to whoever asked.
fn openly(who: &Principal, action: Action, what: &Resource) -> Refusal {
    Refusal::Forbidden(match (who, action, what) {
        (Principal::Nobody, ..) => return Refusal::Unsigned,
        (Principal::Person { .. }, Action::DecideEnrolment, Resource::Enrolment(_)) => {
            "an account that is no supplier's"
        }
        (Principal::Person { role: Role::Operator, .. }, Action::DecideApproval, _) => {
            "whoever may not decide on this act: who asked for it, or anybody else,"
        }
        (Principal::NewKey(_), ..) => "a key that is not enrolled",
        (Principal::Vouched(_), ..) => "whoever has yet to sign in",
        (Principal::Machine { .. }, ..) => "a machine",
        (Principal::Person { role, .. } | Principal::CommandLine { role, .. }, ..) => match role {
            Role::Operator => "an operator here",
            Role::Supplier => "a supplier here",
            Role::Renter => "a renter here",
        },
        (Principal::Job(_), ..) => "this job",
    })
}
