//! How many runs ended, and how: the data that an overview draws over time.

use jiff::Timestamp;

use super::Outcome;

/// The runs of one outcome that ended within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRuns {
    /// The beginning of the hour.
    pub hour: Timestamp,
    pub outcome: Outcome,
    pub runs: u64,
}
