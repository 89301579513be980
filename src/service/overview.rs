//! What goes on, at a glance.

use jiff::{SignedDuration, Timestamp};

use super::{Service, ServiceError};
use crate::model::{Cluster, EndedRuns, Order, Page, PageRequest, Run, RunFilter, RunSort, Status};

#[derive(Debug, Clone)]
pub struct Overview {
    pub clusters: Vec<Cluster>,
    /// Those that an engine has, the newest first, and how many there are.
    pub running: Page<Run>,
    /// Those that somebody has to look at, the newest first.
    pub failures: Vec<Run>,
    /// Since the time that was asked for, oldest first.
    pub ended: Vec<EndedRuns>,
}

/// What a cluster is doing, as far as a page shows it: the oldest first.
#[derive(Debug, Clone)]
pub struct ClusterRuns {
    pub running: Vec<Run>,
    pub waiting: Vec<Run>,
}

impl Service {
    /// At most `most` runs of each list; what ended within `span` until now.
    pub async fn overview(&self, most: u32, span: SignedDuration) -> Result<Overview, ServiceError> {
        let active = RunFilter { status: vec![Status::Pending, Status::Running], ..RunFilter::default() };
        let newest = PageRequest { limit: most, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Desc };
        let since = self.now().saturating_sub(span).unwrap_or(Timestamp::MIN);
        let (running, failures, ended) = tokio::try_join!(
            self.store.list_runs(&active, newest),
            self.store.newest_failures(most),
            self.store.ended_runs(since),
        )?;
        Ok(Overview { clusters: self.clusters().await?, running, failures, ended })
    }

    /// Whether there ever was a run.
    pub async fn has_run(&self) -> Result<bool, ServiceError> {
        let any = PageRequest { limit: 1, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Desc };
        Ok(!self.store.list_runs(&RunFilter::default(), any).await?.rows.is_empty())
    }

    pub async fn cluster_runs(&self, cluster: &str, most: u32) -> Result<ClusterRuns, ServiceError> {
        let on = |status| self.store.runs_on(cluster, status, most);
        let (mut running, pending, mut waiting, retrying) =
            tokio::try_join!(on(Status::Running), on(Status::Pending), on(Status::Queued), on(Status::NeedsRetry),)?;
        running.extend(pending);
        waiting.extend(retrying);
        running.truncate(most as usize);
        waiting.truncate(most as usize);
        Ok(ClusterRuns { running, waiting })
    }
}
