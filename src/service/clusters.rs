//! Clusters: which ones this server has, what operators set for them, and their state.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Acting, ServiceError};
use crate::model::{
    self, ClusterChange, ClusterRecord, Condition, Elsewhere, EngineIdentity, Faults, Load, Run, Settings, TaskSpec,
};
use crate::store::Endpoint;

/// How often a change is retried after a concurrent change to the cluster.
const TRIES: u32 = 10;
/// How long a request waits for a new cluster to be set up on this server; other servers follow within their loops'
/// period.
const SETUP_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a cluster could ever run this; the error is for the client. Anything that can't be determined now is no
/// reason to refuse.
pub type LaunchCheck = Arc<dyn Fn(TaskSpec) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;
/// The state of the cluster's engine. A call costs nothing.
pub type Probe = Arc<dyn Fn() -> Condition + Send + Sync>;
/// The address of the engine of a cluster with these settings; the error, which is for the client, says that the
/// settings are invalid.
pub type SettingsCheck = Arc<dyn Fn(&str, &Settings) -> Result<String, String> + Send + Sync>;

/// A cluster of this server.
#[derive(Clone)]
pub struct Cluster {
    pub name: String,
    /// The cluster that this name refers to: itself, or another, as `default` may.
    pub resolved_name: String,
    /// The kind of engine it has.
    pub engine: &'static str,
    pub max_running: Option<u32>,
    /// Whether it comes from the configuration rather than a request.
    pub is_configured: bool,
    pub check: LaunchCheck,
    pub probe: Probe,
}

impl Cluster {
    /// Whether the name is only an alias for another cluster.
    fn is_alias(&self) -> bool {
        self.name != self.resolved_name
    }
}

/// The clusters of this server, in listing order. Clusters may be added and removed while it runs.
#[derive(Clone)]
pub struct Clusters {
    list: watch::Sender<Vec<Cluster>>,
    /// What requests may create; `None` if the operator does not allow it.
    creation: Option<SettingsCheck>,
}

impl Clusters {
    #[must_use]
    pub fn new(list: Vec<Cluster>, creation: Option<SettingsCheck>) -> Self {
        Self { list: watch::Sender::new(list), creation }
    }

    pub fn set(&self, list: Vec<Cluster>) {
        self.list.send_replace(list);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.list.borrow().iter().map(|cluster| cluster.name.clone()).collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<Cluster> {
        self.list.borrow().iter().find(|cluster| cluster.name == name).cloned()
    }

    fn all(&self) -> Vec<Cluster> {
        self.list.borrow().clone()
    }

    /// Waits until the list contains a created cluster, or no longer contains a deleted one.
    async fn until(&self, is_there: bool, name: &str) {
        let mut list = self.list.subscribe();
        let settled = list.wait_for(|list| list.iter().any(|cluster| cluster.name == name) == is_there);
        if tokio::time::timeout(SETUP_PATIENCE, settled).await.is_err() {
            tracing::warn!(cluster = name, "what was asked of the cluster is stored, but takes long here");
        }
    }
}

impl Acting {
    /// The names of the clusters that runs can be launched on.
    #[must_use]
    pub fn cluster_names(&self) -> Vec<String> {
        self.clusters.names()
    }

    /// The same without aliases.
    #[must_use]
    pub fn resolved_cluster_names(&self) -> Vec<String> {
        let own = self.clusters.all().into_iter().filter(|cluster| !cluster.is_alias());
        own.map(|cluster| cluster.name).collect()
    }

    /// Every cluster that this server has, that has stored settings, or that a run waits for, by name.
    pub async fn clusters(&self) -> Result<Vec<model::Cluster>, ServiceError> {
        let (records, loads) = tokio::try_join!(self.store.cluster_records(), self.store.cluster_loads())?;
        let clusters = self.clusters.all();
        let own = clusters.iter().filter(|cluster| !cluster.is_alias()).map(|cluster| &cluster.name);
        let stored = records.iter().map(|record| &record.name);
        let loaded = loads.iter().map(|(name, _)| name);
        let mut names: Vec<_> = own.chain(stored).chain(loaded).collect();
        names.sort();
        names.dedup();
        let described = names.into_iter().map(|name| {
            let record = records.iter().find(|record| record.name == *name).cloned();
            let load = loads.iter().find(|(loaded, _)| loaded == name).map(|(_, load)| load.clone());
            self.describe(&clusters, name, record, load.unwrap_or_default())
        });
        Ok(described.collect())
    }

    pub async fn cluster(&self, name: &str) -> Result<model::Cluster, ServiceError> {
        let found = self.clusters().await?.into_iter().find(|cluster| cluster.record.name == name);
        found.ok_or_else(|| self.no_cluster(name))
    }

    /// Changes a cluster's stored settings. If it is no longer active, no run is handed to it after this returns; the
    /// runs it already has continue.
    pub async fn change_cluster(&self, name: &str, change: ClusterChange) -> Result<model::Cluster, ServiceError> {
        let endpoint = match &change.settings {
            Some(_) if self.is_configured(name) => return Err(configured(name, "its settings are changed there")),
            Some(settings) => Some(self.check_settings(name, settings)?),
            None => None,
        };
        for _ in 0..TRIES {
            let before = self.store.cluster_record(name).await?;
            if before.is_none() {
                // A cluster of this server, or one that runs still wait for.
                self.cluster(name).await?;
            }
            let now = self.clock.now();
            let current = before.clone().unwrap_or_else(|| ClusterRecord::new(name, now));
            let known = current.settings.as_ref().and_then(|settings| self.check_settings(name, settings).ok());
            let after = current.changed(change.clone(), now)?;
            let endpoint =
                endpoint.clone().map(|text| Endpoint { is_another: known.is_some_and(|known| known != text), text });
            if self.store.save_cluster(&after, before.as_ref(), endpoint.as_ref()).await? {
                tracing::info!(cluster = name, status = %after.status, reason = after.status_reason, "cluster changed");
                self.wake.clusters();
                self.wake.queue();
                return self.cluster(name).await;
            }
            if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.is_another) {
                let left = self.store.attempts_on(name).await?;
                if left > 0 {
                    return Err(still_there(name, left, &endpoint.text));
                }
            }
        }
        Err(ServiceError::Conflict(format!("the cluster {name} is changing all the time; try again")))
    }

    /// Adds a cluster to all servers of the database, without a restart.
    pub async fn create_cluster(&self, name: &str, change: ClusterChange) -> Result<model::Cluster, ServiceError> {
        let settings = change.settings.clone().unwrap_or_default();
        let endpoint = Endpoint { text: self.check_settings(name, &settings)?, is_another: false };
        let now = self.clock.now();
        let change = ClusterChange { settings: Some(settings), ..change };
        let record = ClusterRecord::new(name, now).changed(change, now)?;
        let is_known = self.clusters.find(name).is_some();
        if is_known || !self.store.save_cluster(&record, None, Some(&endpoint)).await? {
            return Err(ServiceError::Conflict(format!("there is a cluster {name:?} already")));
        }
        tracing::info!(cluster = name, "cluster created");
        self.wake.clusters();
        self.clusters.until(true, name).await;
        self.cluster(name).await
    }

    /// Removes a cluster that a request created, once nothing is on it or waits for it.
    pub async fn delete_cluster(&self, name: &str) -> Result<(), ServiceError> {
        if self.clusters.creation.is_none() {
            return Err(not_allowed());
        }
        if self.is_configured(name) {
            return Err(configured(name, "it is removed there; until then it can be `offline`"));
        }
        let cluster = self.cluster(name).await?;
        if !self.store.delete_cluster(name).await? {
            let Load { queued, needs_retry, .. } = cluster.load;
            let (waiting, taken) = (queued + needs_retry, cluster.load.taken());
            let message = if waiting + taken == 0 {
                let left = self.store.attempts_on(name).await?;
                format!(
                    "what is left of {} is still being removed from the cluster {name}; delete it when that is done",
                    count(left, "run that has ended", "runs that have ended"),
                )
            } else {
                format!(
                    "{} and {} on the cluster {name}; make it `offline`, and stop them or let them end, before you delete it",
                    count(waiting, "run waits for", "runs wait for"),
                    count(taken, "is", "are"),
                )
            };
            return Err(ServiceError::Conflict(message));
        }
        tracing::info!(cluster = name, "cluster deleted");
        self.wake.clusters();
        self.clusters.until(false, name).await;
        Ok(())
    }

    /// Assigns the attempts of other servers or engines to this server and the cluster's current engine, on the
    /// operator's word that the previous owners are gone; returns how many. Attempts that the engine does not have
    /// count as lost.
    pub async fn adopt(&self, name: &str) -> Result<usize, ServiceError> {
        let cluster = self.clusters.find(name).ok_or_else(|| self.no_cluster(name))?;
        let condition = (cluster.probe)();
        let answers = condition.identity.as_ref().and_then(EngineIdentity::id);
        let Some(engine_id) = answers else {
            let message =
                format!("the cluster {name} does not say now which engine it has; try again when it is reachable");
            return Err(ServiceError::Conflict(message));
        };
        let adopted =
            self.store.adopt_attempts(&cluster.resolved_name, engine_id, &self.server_id, self.clock.now()).await?;
        if adopted > 0 {
            let cluster = cluster.resolved_name;
            tracing::warn!(cluster, adopted, %engine_id, "attempts of an engine or a server that is gone were adopted");
        }
        self.wake.stops();
        self.wake.queue();
        Ok(adopted)
    }

    /// Why a waiting run has not started, or why the state of a started run is unknown, in words.
    pub async fn why_waiting(&self, run: &Run) -> Result<Option<String>, ServiceError> {
        match run.status {
            model::Status::Queued if run.stop.is_none() => {
                if let Some(reason) = self.why_not_again(run).await? {
                    return Ok(Some(reason));
                }
                let (clusters, ahead) =
                    tokio::try_join!(self.clusters(), async { Ok(self.store.queued_before(run).await?) })?;
                let cluster = clusters.iter().find(|cluster| cluster.record.name == run.execution.resolved_cluster);
                Ok(cluster.and_then(|cluster| cluster.why_waiting(run, ahead)))
            }
            model::Status::Pending | model::Status::Running => self.why_unseen(run).await,
            model::Status::Queued | model::Status::NeedsRetry | model::Status::Stopped => Ok(None),
        }
    }

    /// Why a run that was tried before can't be retried yet.
    async fn why_not_again(&self, run: &Run) -> Result<Option<String>, ServiceError> {
        if run.attempt_count == 0 {
            return Ok(None);
        }
        let place = self.store.attempt_place(run.attempt_id()).await?;
        let (number, cluster) = (run.attempt_count, &run.execution.resolved_cluster);
        Ok(place.filter(|place| !place.is_cleaned).map(|_| {
            format!("something of attempt {number} may be left on the cluster {cluster}, and has to be removed before the next")
        }))
    }

    async fn why_unseen(&self, run: &Run) -> Result<Option<String>, ServiceError> {
        let name = &run.execution.resolved_cluster;
        let Some(cluster) = self.clusters.find(name) else { return Ok(None) };
        let Some(answers) = (cluster.probe)().identity else { return Ok(None) };
        let place = self.store.attempt_place(run.attempt_id()).await?;
        let elsewhere = place.and_then(|place| Elsewhere::of(place.engine_id.as_ref(), &answers));
        Ok(elsewhere.map(|elsewhere| elsewhere.reason(name)))
    }

    fn describe(&self, clusters: &[Cluster], name: &str, record: Option<ClusterRecord>, load: Load) -> model::Cluster {
        let own = clusters.iter().find(|cluster| cluster.name == name);
        let stands_for = |cluster: &&Cluster| cluster.name == super::DEFAULT_CLUSTER;
        let default = clusters.iter().find(stands_for).map(|cluster| cluster.resolved_name.as_str());
        model::Cluster {
            record: record.unwrap_or_else(|| ClusterRecord::new(name, self.started_at)),
            engine: own.map(|cluster| cluster.engine),
            is_default: default == Some(name),
            max_running: own.and_then(|cluster| cluster.max_running),
            condition: own.map(|cluster| (cluster.probe)()).unwrap_or_default(),
            load,
        }
    }

    /// The address the cluster's engine would have.
    fn check_settings(&self, name: &str, settings: &Settings) -> Result<String, ServiceError> {
        let check = self.clusters.creation.as_ref().ok_or_else(not_allowed)?;
        if self.clusters.find(name).is_some_and(|cluster| cluster.is_alias()) {
            return Err(Faults::one("name", format!("{name:?} stands for another cluster")).into());
        }
        check(name, settings).map_err(ServiceError::Invalid)
    }

    fn is_configured(&self, name: &str) -> bool {
        self.clusters.find(name).is_some_and(|cluster| cluster.is_configured)
    }

    fn no_cluster(&self, name: &str) -> ServiceError {
        ServiceError::NotFound(format!("there is no cluster {name:?}; there is {}", self.cluster_names().join(", ")))
    }
}

fn configured(name: &str, what: &str) -> ServiceError {
    ServiceError::Conflict(format!("the cluster {name} is part of the server's configuration; {what}"))
}

fn still_there(name: &str, left: u64, endpoint: &str) -> ServiceError {
    ServiceError::Conflict(format!(
        "{} on the cluster {name}, or left there to be removed, and would be lost by a move to {endpoint}; make the cluster \
         `offline` and wait until nothing is left, or create one of another name",
        count(left, "run is", "runs are"),
    ))
}

fn not_allowed() -> ServiceError {
    ServiceError::Forbidden(
        "this server takes its clusters from its configuration only; `clusters_by_request = true` in [server] lets \
         requests create, change and delete others"
            .to_owned(),
    )
}

fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
