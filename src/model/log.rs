//! A position in an attempt's output.

use serde::{Deserialize, Serialize};

/// The position up to which an attempt's output is stored. Anything that the log holds beyond `bytes` was written
/// after the position was saved: it is cut off before the output is requested from here again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Bytes of output since its beginning, those dropped at the log's cap included.
    pub bytes: u64,
    /// The same position in the engine's own terms. Without it, the engine counts bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}
