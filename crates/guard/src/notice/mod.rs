//! From requests that were answered to incidents: what was seen ([`Seen`]) is fed to every detector of
//! [`detect`](crate::detect) at one place ([`Watch`]), and what they say becomes a [`Raised`] with who, what, on
//! which, how bad, and what is frozen for it by rule ([`rule`]).
//!
//! Pure and bounded: no clock, no store, no randomness; the salt, the time and what somebody owns come in.

pub mod recent;
pub mod replay;
pub mod rule;
pub mod seen;
pub mod tell;
pub mod watch;

pub use recent::{Preview, Recent};
pub use rule::Severity;
pub use seen::{Answer, Asked, Block, Outcome, Relation, Seen, Trail};
pub use tell::{Event, IncidentState, Outlet};
pub use watch::{Owned, Raised, Subject, Watch};
