//! Money and shares: integers in the smallest unit, never floats.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Millionths of a credit, the unit of price, cost and reward.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct MicroCredits(pub u64);

/// One GPU's part of a period's budget, in millionths of a credit.
pub type Share = MicroCredits;

impl std::fmt::Display for MicroCredits {
    /// Credits with six decimals, for example `1.500000`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
