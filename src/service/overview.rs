//! An overview of current activity.

use jiff::{SignedDuration, Timestamp};

use super::{Acting, ServiceError};
use crate::model::{Cluster, EndedRuns, Order, Page, PageRequest, QueueDepth, RunFilter, RunSort, RunSummary, Status};

#[derive(Debug, Clone)]
pub struct Overview {
    pub clusters: Vec<Cluster>,
    /// Those that an engine has, newest first, and their number.
    pub running: Page<RunSummary>,
    /// Those that need attention, newest first.
    pub failures: Vec<RunSummary>,
    /// Since the requested time, oldest first.
    pub ended: Vec<EndedRuns>,
    /// The same, for all clusters together.
    pub waiting: Vec<QueueDepth>,
}

/// A cluster's activity as shown on a page, oldest first.
#[derive(Debug, Clone)]
pub struct ClusterRuns {
    pub running: Vec<RunSummary>,
    pub waiting: Vec<RunSummary>,
    /// How many waited, oldest first.
    pub depths: Vec<QueueDepth>,
}

impl Acting {
    /// At most `most` runs of each list; what ended within `span` until now.
    pub async fn overview(&self, most: u32, span: SignedDuration) -> Result<Overview, ServiceError> {
        let active = RunFilter { status: vec![Status::Pending, Status::Running], ..RunFilter::default() };
        let newest = PageRequest { limit: most, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Desc };
        let since = self.now().saturating_sub(span).unwrap_or(Timestamp::MIN);
        let (running, failures, ended, waiting) = tokio::try_join!(
            self.store.list_run_summaries(&active, newest),
            self.store.newest_failures(most),
            self.store.ended_runs(since),
            self.store.queue_depths(None, since),
        )?;
        Ok(Overview { clusters: self.clusters().await?, running, failures, ended, waiting })
    }

    /// Whether any run was ever stored.
    pub async fn has_run(&self) -> Result<bool, ServiceError> {
        let any = PageRequest { limit: 1, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Desc };
        Ok(!self.store.list_runs(&RunFilter::default(), any).await?.rows.is_empty())
    }

    /// At most `most` runs per list; the counts of waiting runs cover `span` until now.
    pub async fn cluster_runs(
        &self,
        cluster: &str,
        most: u32,
        span: SignedDuration,
    ) -> Result<ClusterRuns, ServiceError> {
        let on = |status| self.store.runs_on(cluster, status, most);
        let since = self.now().saturating_sub(span).unwrap_or(Timestamp::MIN);
        let (mut running, pending, mut waiting, retrying, depths) = tokio::try_join!(
            on(Status::Running),
            on(Status::Pending),
            on(Status::Queued),
            on(Status::NeedsRetry),
            self.store.queue_depths(Some(cluster), since),
        )?;
        running.extend(pending);
        waiting.extend(retrying);
        running.truncate(most as usize);
        waiting.truncate(most as usize);
        Ok(ClusterRuns { running, waiting, depths })
    }
}
