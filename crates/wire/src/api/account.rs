//! An account's own things.

use gangline_types::{
    GpuId, KeyId, Label, Share,
    public::{InclusionProof, PublicEntry, PublicSnapshot},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enrol::KeyKind;

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the network.
    Operator,
    /// Brings machines.
    Supplier,
    /// Hires clusters.
    Renter,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Operator, Role::Supplier, Role::Renter];
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Supplier => "supplier",
            Self::Renter => "renter",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a key belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    /// The account's name.
    pub account: Label,
    /// Its role.
    pub role: Role,
    /// The key that signed.
    pub key: KeyId,
    /// What that key is for.
    pub kind: KeyKind,
}

/// Which periods.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StatementQuery {
    /// Only periods from this one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// At most this many periods, up to 200; the newest 24 unless given. An answer has at most 2,000 lines: those of the
    /// newest periods, or, with `from`, of that period and the next ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Of the period `from`, only lines of GPUs after this one, in the order of ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<GpuId>,
}

/// Where a statement goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementPlace {
    /// Ask from this period on.
    pub from: u32,
    /// And after this GPU, where some of its lines were told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<GpuId>,
}

/// One GPU's line of one snapshot, and the path from it to the published root.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatementLine {
    /// The snapshot's head.
    pub snapshot: PublicSnapshot,
    /// The line.
    pub entry: PublicEntry,
    /// The path.
    pub inclusion: InclusionProof,
}

/// An account's statement.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// The season.
    pub season: u32,
    /// Sum over the whole season.
    pub season_total: Share,
    /// What is held for GPUs that are suspect, over the whole season: paid once they are proven again.
    #[serde(default)]
    pub season_held: Share,
    /// The lines asked for, oldest first.
    pub lines: Vec<StatementLine>,
    /// Where to ask on, if there were more lines than one answer has: of the periods from `from` on, or of the newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<StatementPlace>,
}
