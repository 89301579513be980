//! Which server is responsible for the attempts of a cluster, and which engine has them. Both are stored when a run
//! is claimed; the functions here change them afterwards.

use jiff::Timestamp;

use super::statement::Statement;
use super::{Store, StoreError};
use crate::model::{EngineId, Event};

impl Store {
    /// Assigns the attempts of a cluster that belong to another server to this one. Returns how many there were. Only
    /// for clusters that every server reaches in the same way.
    pub async fn take_over_attempts(&self, cluster: &str, server_id: &str) -> Result<usize, StoreError> {
        let update = Statement::new(
            "UPDATE attempts SET node = $2
             WHERE resolved_cluster = $1 AND cleaned_at IS NULL AND node <> $2
             RETURNING run_id",
            [cluster.into(), server_id.into()],
        );
        self.count_of(update).await
    }

    /// Stores the engine of those attempts whose engine was never observed. Returns how many there were.
    pub async fn set_missing_engines(&self, cluster: &str, engine_id: &EngineId) -> Result<usize, StoreError> {
        let update = Statement::new(
            "UPDATE attempts SET engine_id = $2
             WHERE resolved_cluster = $1 AND cleaned_at IS NULL AND engine_id IS NULL
             RETURNING run_id",
            [cluster.into(), engine_id.as_str().into()],
        );
        self.count_of(update).await
    }

    /// Hands the attempts of a cluster that are on other engines, or belong to servers with other data directories,
    /// to this engine and this server, on the operator's word that the others will not come back. Returns how many
    /// there were. From now on what this engine does not have counts as gone: it is not launched again, since it may
    /// have run.
    pub async fn adopt_attempts(
        &self,
        cluster: &str,
        engine_id: &EngineId,
        server_id: &str,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let event = Event::normal(
            now,
            "Adopted",
            "an operator said that the engine or the server which had it is gone; what the cluster has now is asked instead",
        );
        let events = Statement::new(
            "INSERT INTO events (run_id, timestamp, event_type, reason, source_object, message)
             SELECT DISTINCT run_id, CAST($3 AS BIGINT), $4, $5, $6, $7 FROM attempts
             WHERE resolved_cluster = $1 AND cleaned_at IS NULL AND (engine_id <> $2 OR node <> $8)",
            [
                cluster.into(),
                engine_id.as_str().into(),
                event.timestamp.into(),
                event.event_type.to_string().into(),
                event.reason.into(),
                event.source_object.into(),
                event.message.into(),
                server_id.into(),
            ],
        );
        let update = Statement::new(
            "UPDATE attempts SET engine_id = $2, node = $3, handle = ''
             WHERE resolved_cluster = $1 AND cleaned_at IS NULL AND (engine_id <> $2 OR node <> $3)
             RETURNING run_id",
            [cluster.into(), engine_id.as_str().into(), server_id.into()],
        );
        let written = self.write_guarded(vec![events, update]).await?;
        Ok(written.rows(1))
    }

    async fn count_of(&self, update: Statement) -> Result<usize, StoreError> {
        Ok(self.write_guarded(vec![update]).await?.rows(0))
    }
}
