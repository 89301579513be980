//! The newest runs of many definitions at once.

use super::row::{FromRow, Row};

use super::statement::{Statement, json};
use super::{Store, StoreError};
use crate::model::{DefinitionId, RunBrief};

impl FromRow for RunBrief {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            run_id: row.parsed()?,
            definition_id: DefinitionId::from_text(row.text()?),
            status: row.parsed()?,
            outcome: row.maybe_parsed()?,
            queued_at: row.time()?,
            started_at: row.maybe_time()?,
            finished_at: row.maybe_time()?,
        })
    }
}

impl Store {
    /// The newest runs of each of these definitions, at most `each` per definition, newest first. One index look-up
    /// for each definition: a window function would read all their history.
    pub async fn newest_runs(&self, definitions: &[DefinitionId], each: u32) -> Result<Vec<RunBrief>, StoreError> {
        // SQLite does not let a subquery in FROM refer to the tables before it.
        let select = match self.db.is_postgres() {
            true => {
                "SELECT newest.* FROM json_array_elements_text(CAST($1 AS json)) AS wanted (id)
                 CROSS JOIN LATERAL (
                     SELECT run_id, definition_id, status, outcome, queued_at, started_at, finished_at
                     FROM runs WHERE definition_id = wanted.id
                     ORDER BY queued_at DESC, run_id DESC LIMIT $2
                 ) AS newest
                 ORDER BY definition_id, queued_at DESC, run_id DESC"
            }
            false => {
                "SELECT run_id, definition_id, status, outcome, queued_at, started_at, finished_at
                 FROM json_each($1) AS wanted
                 JOIN runs ON runs.rowid IN (
                     SELECT newest.rowid FROM runs AS newest WHERE newest.definition_id = wanted.value
                     ORDER BY newest.queued_at DESC, newest.run_id DESC LIMIT $2
                 )
                 ORDER BY definition_id, queued_at DESC, run_id DESC"
            }
        };
        let ids: Vec<_> = definitions.iter().map(DefinitionId::as_str).collect();
        self.db.read(Statement::new(select, [json(&ids), each.into()])).await
    }
}
