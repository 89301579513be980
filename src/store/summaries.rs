//! What page rows show of definitions and runs. No commands or variables are read for them.

use super::StoreError;
use super::db::Db;
use super::row::{FromRow, Row};
use crate::model::{DefinitionId, DefinitionSummary, RunSummary};

pub(super) const OF_RUN: &str = "run_id, definition_id, alias, group_name, owner, resolved_cluster, status, outcome,
    exit_reason, queued_at, started_at, finished_at";

impl FromRow for RunSummary {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            run_id: row.parsed()?,
            definition_id: DefinitionId::from_text(row.text()?),
            alias: row.maybe_text()?,
            group_name: row.text()?,
            user: row.text()?,
            resolved_cluster: row.text()?,
            status: row.parsed()?,
            outcome: row.maybe_parsed()?,
            exit_reason: row.maybe_text()?,
            queued_at: row.time()?,
            started_at: row.maybe_time()?,
            finished_at: row.maybe_time()?,
        })
    }
}

pub(super) fn of_definition(db: &Db) -> String {
    format!("definition_id, alias, group_name, image, {}, updated_at", db.json_field("task", "tags"))
}

impl FromRow for DefinitionSummary {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            definition_id: DefinitionId::from_text(row.text()?),
            alias: row.maybe_text()?,
            group_name: row.text()?,
            image: row.text()?,
            tags: row.json()?,
            updated_at: row.time()?,
        })
    }
}
