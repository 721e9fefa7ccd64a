//! worker

pub mod agent;
pub mod client;
pub mod enrol;
pub mod isolation;
pub mod node;
