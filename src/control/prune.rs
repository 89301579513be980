//! Prune: removes the logs of runs that ended long ago. The runs themselves and their stories stay.

use std::sync::{MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::Control;
use crate::model::RunId;
use crate::store::StoreError;

/// How many runs are read at once.
const BATCH: u32 = 500;

impl Control {
    /// Removes what has outlived the retention. Says how many bytes that freed.
    pub async fn prune_logs(&self) -> Result<u64, StoreError> {
        let Some(retention) = self.settings.log_retention else { return Ok(0) };
        let age = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        let Ok(before) = self.clock.now().checked_sub(age) else { return Ok(0) };
        let mut freed = 0;
        // What was looked at once is not looked at again as long as this process runs.
        let mut after = *self.pruned_to();
        loop {
            let runs = self.store.runs_ended_before(before, after, BATCH).await?;
            let Some(last) = runs.last() else { break };
            after = last.finished_at.map(|ended_at| (ended_at, last.run_id));
            *self.pruned_to() = after;
            for run in runs.iter().filter(|run| run.execution.resolved_cluster == self.cluster && run.is_log_complete) {
                match self.logs.remove(run.run_id, run.attempt_count) {
                    Ok(bytes) => freed += bytes,
                    Err(error) => tracing::warn!(run_id = %run.run_id, %error, "an old log could not be removed"),
                }
            }
        }
        if freed > 0 {
            tracing::info!(cluster = self.cluster, bytes = freed, "removed old logs");
        }
        Ok(freed)
    }

    fn pruned_to(&self) -> MutexGuard<'_, Option<(Timestamp, RunId)>> {
        self.state.pruned_to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
