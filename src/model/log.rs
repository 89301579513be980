//! A place in an attempt's output.

use serde::{Deserialize, Serialize};

/// Up to where an attempt's output is stored. What the log holds beyond `bytes` was written after the place was
/// remembered: it is cut off before the output is asked for from here again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Bytes of output since its beginning, those dropped at the log's cap included.
    pub bytes: u64,
    /// The same place in the engine's own words. Without it the engine counts the bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}
