//! Retention: removes the logs of runs that ended long ago, on any cluster. The runs themselves and their events
//! stay. The rows record which logs still exist, so that none is skipped permanently, whenever it became complete.
//! Age is measured by the earlier of the kept time (`kept_time.rs`) and the clock: neither a wrong clock nor one that
//! jumps makes a log old.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Global;
use crate::control::loops::Loop;
use crate::model::RunId;
use crate::store::{LogToPrune, StoreError};

/// How many runs are read at once.
const BATCH: u32 = 500;
/// How many batches of one cluster a step processes; the next step continues from there.
const MOST_BATCHES: u32 = 100;

/// How long a step goes on with further clusters.
const STEP: Duration = Duration::from_mins(1);

/// Removes old logs.
pub(super) struct Retention {
    global: Arc<Global>,
    /// The cluster to go on with, where the last step did not come to all.
    next: Option<String>,
}

impl Retention {
    pub(super) const fn new(global: Arc<Global>) -> Self {
        Self { global, next: None }
    }
}

impl Loop for Retention {
    const NAME: &'static str = "retention";
    const PERIOD: Duration = Duration::from_hours(1);

    async fn step(&mut self) -> Result<(), StoreError> {
        let (_, next) = self.global.prune_logs_from(self.next.take(), Instant::now() + STEP).await?;
        self.next = next;
        Ok(())
    }
}

impl Global {
    /// Removes logs older than the retention. Returns how many bytes that freed.
    pub async fn prune_logs(&self) -> Result<u64, StoreError> {
        let (freed, _) = self.prune_logs_from(None, Instant::now() + Duration::from_hours(1)).await?;
        Ok(freed)
    }

    /// The same from this cluster on, until the deadline; also returns the cluster to go on with.
    async fn prune_logs_from(
        &self,
        first: Option<String>,
        deadline: Instant,
    ) -> Result<(u64, Option<String>), StoreError> {
        let Some(retention) = self.log_retention else { return Ok((0, None)) };
        let age = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        // Until a kept time exists, nothing is known to be old.
        let Some(kept) = self.store.kept_time().await? else { return Ok((0, None)) };
        let Ok(before) = kept.min(self.clock.now()).checked_sub(age) else { return Ok((0, None)) };
        let (mut freed, mut result) = (0, Ok(()));
        let mut clusters = self.store.clusters_with_logs().await?;
        let begin = clusters.partition_point(|cluster| first.as_ref().is_some_and(|first| cluster < first));
        clusters.rotate_left(begin);
        for cluster in clusters {
            if Instant::now() >= deadline || !self.tenure.is_held() {
                return result.map(|()| (freed, Some(cluster)));
            }
            // What is wrong with the logs of one cluster keeps nobody from those of the others.
            match self.prune_logs_of(&cluster, before).await {
                Ok(bytes) => freed += bytes,
                Err(error) => result = Err(error),
            }
        }
        result.map(|()| (freed, None))
    }

    async fn prune_logs_of(&self, cluster: &str, before: Timestamp) -> Result<u64, StoreError> {
        let mut freed = 0;
        let mut after = None;
        for _ in 0..MOST_BATCHES {
            let runs = self.store.logs_to_prune(cluster, before, after.as_ref(), BATCH).await?;
            let Some(last) = runs.last() else { break };
            after = Some(*last);
            let removed = self.remove_logs(runs).await;
            freed += removed.bytes;
            self.store.set_logs_pruned(&removed.run_ids, self.clock.now()).await?;
        }
        if freed > 0 {
            tracing::info!(cluster, bytes = freed, "removed old logs");
        }
        Ok(freed)
    }

    /// Logs that can't be removed now are tried again by the next step.
    async fn remove_logs(&self, runs: Vec<LogToPrune>) -> Removed {
        let logs = Arc::clone(&self.logs);
        let removing = tokio::task::spawn_blocking(move || {
            let mut removed = Removed::default();
            for run in runs {
                match logs.remove(run.run_id, run.attempts) {
                    Ok(bytes) => {
                        removed.bytes += bytes;
                        removed.run_ids.push(run.run_id);
                    }
                    Err(error) => tracing::warn!(run_id = %run.run_id, %error, "an old log could not be removed"),
                }
            }
            removed
        });
        removing.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the removal of old logs failed");
            Removed::default()
        })
    }
}

/// What was removed of a batch of logs.
#[derive(Default)]
struct Removed {
    run_ids: Vec<RunId>,
    bytes: u64,
}
