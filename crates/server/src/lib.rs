//! The control plane: the one room that joins wire, guard, rules, store and pages. It holds the clock,
//! the randomness, the sockets and the background jobs, and decides nothing itself.

pub mod app;
mod approved;
pub mod config;
pub mod edge;
pub mod error;
pub mod inspected;
pub mod intake;
pub mod jobs;
pub mod lanes;
pub mod listen;
pub mod live;
pub mod metrics;
pub mod moving;
pub mod notice;
mod openings;
pub mod outbound;
pub mod outlets;
pub mod paced;
pub mod panics;
pub mod people;
pub mod refusals;
pub mod request;
pub mod router;
pub mod routes;
pub mod run;
pub mod secrets;
pub mod simulate;
pub mod spool;
pub mod tls;
pub mod tunnel;
pub mod verifying;
pub mod witnesses;

pub use config::Config;
pub use gangline_store::{Compared, DatabaseUrl};
pub use run::{Running, ServeError, serve, serve_beside};
