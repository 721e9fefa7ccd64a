//! The supplier's side: the agent that joins a machine and works for its owner, the sandbox that renters'
//! programs run in, and the typed client that both worker and command line use.
//!
//! Knows neither rules, guard, store nor server: what the network decides is told to it over the wire.

pub mod agent;
pub mod client;
pub mod enrol;
pub mod isolation;
pub mod node;
pub mod rotate;
