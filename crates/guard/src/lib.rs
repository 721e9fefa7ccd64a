//! Who is asking, and may they. A request's verified signature or session becomes an [`Actor`]; an
//! actor, an action and a resource become a [`Permit`] or a [`Refusal`]; and without a permit nothing
//! can be written, because only this crate can make one.
//!
//! Pure: no sockets, no SQL, no clock, no randomness. Time comes in as an argument.

pub mod actor;
pub mod approval;
pub mod audit;
pub mod authenticate;
pub mod beat;
pub mod care;
pub mod detect;
pub mod forwarded;
pub mod freeze;
pub mod inspect;
pub mod log;
pub mod notice;
pub mod outbound;
pub mod password;
pub mod permit;
pub mod policy;
pub mod quota;
pub mod refusal;
pub mod replay;
pub mod secret;

pub use actor::{Actor, Job, Principal};
pub use authenticate::{Authenticated, Began, Factors, HeadVerified, KeyRecord, RequestParts, SessionRecord};
pub use freeze::{Freezable, Freezes};
pub use permit::{Act, Permit, act};
pub use policy::Resource;
pub use refusal::Refusal;
pub use replay::{Fresh, RecentSequences};
