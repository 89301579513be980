//! The newest runs of many definitions at once.

use super::db::{Builder, FromRow, Row};
use super::{Store, StoreError};
use crate::model::{DefinitionId, RunBrief};

/// SQLite takes no more than 500 parts in one compound query.
const DEFINITIONS_AT_ONCE: usize = 400;

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
    /// The newest runs of each of these definitions, at most `each` of one, newest first. One look into the index for
    /// each definition: a window function would read all their history.
    pub async fn newest_runs(&self, definitions: &[DefinitionId], each: u32) -> Result<Vec<RunBrief>, StoreError> {
        let mut runs = Vec::new();
        for definitions in definitions.chunks(DEFINITIONS_AT_ONCE) {
            let mut select = Builder::default();
            for (i, definition) in definitions.iter().enumerate() {
                select.push(if i > 0 { " UNION ALL SELECT * FROM (" } else { "SELECT * FROM (" });
                select.push(
                    "SELECT run_id, definition_id, status, outcome, queued_at, started_at, finished_at
                     FROM runs WHERE definition_id = ",
                );
                select.bind(definition.as_str()).push(" ORDER BY queued_at DESC, run_id DESC LIMIT ").bind(each);
                select.push(&format!(") AS newest_{i}"));
            }
            runs.extend(self.db.read::<RunBrief>(select.build()).await?);
        }
        Ok(runs)
    }
}
