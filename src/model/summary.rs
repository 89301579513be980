//! Definitions and runs as rows of a page: without commands and variables, which may be large.

use jiff::Timestamp;

use super::{DefinitionId, Outcome, RunId, Status};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionSummary {
    pub definition_id: DefinitionId,
    pub alias: Option<String>,
    pub group_name: String,
    pub image: String,
    pub tags: Vec<String>,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    pub run_id: RunId,
    pub definition_id: DefinitionId,
    pub alias: Option<String>,
    pub group_name: String,
    /// The owner.
    pub user: String,
    pub resolved_cluster: String,
    pub status: Status,
    pub outcome: Option<Outcome>,
    pub exit_reason: Option<String>,
    pub queued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl RunSummary {
    /// A run has no name of its own: people know it by the name of its task.
    #[must_use]
    pub fn name(&self) -> String {
        self.alias.clone().unwrap_or_else(|| self.definition_id.to_string())
    }
}
