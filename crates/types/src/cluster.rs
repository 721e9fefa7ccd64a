//! How a cluster is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cluster's life. Which steps are allowed is decided in `rules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// Asked for; the machine has not been told.
    Requested,
    /// The machine is making it.
    Starting,
    /// Ray answers; metering runs.
    Running,
    /// To be ended; the machine has been told.
    Releasing,
    /// Ended; nothing of it is left.
    Released,
    /// It did not start, or it fell over.
    Failed,
    /// Its machine fell silent.
    Lost,
}

impl ClusterState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Starting,
        Self::Running,
        Self::Releasing,
        Self::Released,
        Self::Failed,
        Self::Lost,
    ];
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
    /// Whether seconds in this state are charged.
    pub const fn is_metered(self) -> bool {
        matches!(self, Self::Running)
    }
    /// Whether its GPU is taken: nobody else can hire it.
    pub const fn holds_gpu(self) -> bool {
        !self.is_over()
    }
    /// Whether nothing more will happen to it.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Released | Self::Failed | Self::Lost)
    }
}

impl std::fmt::Display for ClusterState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
