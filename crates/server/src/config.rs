//! What an operator can choose, as plain values; where they come from is the binary's business.

use std::{net::SocketAddr, path::PathBuf};

use gangline_types::MicroCredits;

/// Configuration of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of databases and the network's key.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How people and machines reach this server, for links and for signatures; none: the listen address.
    pub public_url: Option<String>,
    /// Minutes in a snapshot period of the first season, 1 to 60.
    pub period_minutes: u32,
    /// What one period shares out.
    pub period_budget: MicroCredits,
    /// How long after a period's end its snapshot waits for late beats, in seconds.
    pub snapshot_grace_seconds: u64,
    /// Days of the first season.
    pub season_days: u32,
    /// A machine that runs a cluster and says nothing for so long is lost, in seconds.
    pub silent_seconds: u64,
    /// How long requests may finish once the server is asked to stop, in seconds.
    pub drain_seconds: u64,
    /// A sentence at the top of every page, for demonstrations.
    pub banner: Option<String>,
    /// Make a new sign-in link for the operator even if one was used before.
    pub operator_link: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("gangline-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            public_url: None,
            period_minutes: 60,
            period_budget: MicroCredits(1_000_000_000),
            snapshot_grace_seconds: 600,
            season_days: 90,
            silent_seconds: 90,
            drain_seconds: 10,
            banner: None,
            operator_link: false,
        }
    }
}
