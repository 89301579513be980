//! How many runs ended, and how: what an overview draws over time.

use jiff::Timestamp;

use super::Outcome;

/// The runs of one outcome that ended within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRuns {
    /// The hour's beginning.
    pub hour: Timestamp,
    pub outcome: Outcome,
    pub runs: u64,
}
