//! Launches: from a definition to a stored run that waits for its cluster.

use super::clusters::Cluster;
use super::{Acting, DEFAULT_CLUSTER, ServiceError};
use crate::model::{Definition, DefinitionId, Faults, LaunchRequest, Run, RunId, Target, plan_launch};
use crate::store::Launched;

impl Acting {
    pub async fn launch(&self, id: &DefinitionId, request: LaunchRequest) -> Result<Run, ServiceError> {
        let definition = self.definition(id).await?;
        self.launch_definition(&definition, request).await
    }

    pub async fn launch_alias(&self, alias: &str, request: LaunchRequest) -> Result<Run, ServiceError> {
        let definition = self.definition_by_alias(alias).await?;
        self.launch_definition(&definition, request).await
    }

    /// The launch that would repeat `run` with the current version of its definition.
    #[must_use]
    pub fn again(&self, run: &Run, definition: &Definition) -> LaunchRequest {
        LaunchRequest::again(run, definition, &self.policy)
    }

    /// Stores a QUEUED run, or finds the one with the same idempotence key. All faults of the request are returned
    /// together, before anything is stored.
    async fn launch_definition(&self, definition: &Definition, request: LaunchRequest) -> Result<Run, ServiceError> {
        let (run, cluster) = self.plan(definition, request).await?;
        let cluster_name = run.execution.cluster.clone();
        (cluster.check)(run.task.clone()).await.map_err(ServiceError::Invalid)?;
        self.refuse_child_of_stopping_parent(&run).await?;
        match self.store.insert_run(&run).await? {
            Launched::Existing(first) => Ok(*first),
            Launched::New => {
                tracing::info!(run_id = %run.run_id, definition_id = %run.definition_id, cluster = cluster_name, "launched");
                self.wake.changed(run.run_id);
                self.wake.queue();
                Ok(run)
            }
        }
    }

    /// The faults of a launch being edited. The cluster's engine is not asked.
    pub async fn check_launch(&self, definition: &Definition, request: LaunchRequest) -> Result<Faults, ServiceError> {
        match self.plan(definition, request).await {
            Ok(_) => Ok(Faults::default()),
            Err(ServiceError::Faulty(faults)) => Ok(faults),
            Err(error) => Err(error),
        }
    }

    /// The run that a request creates from a definition, and its cluster.
    async fn plan(&self, definition: &Definition, request: LaunchRequest) -> Result<(Run, Cluster), ServiceError> {
        let name = request.cluster.clone().unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
        let cluster = self.clusters.find(&name);
        let target = Target {
            cluster: &name,
            resolved_cluster: cluster.as_ref().map_or(&name, |cluster| &cluster.resolved_name),
            engine: cluster.as_ref().map_or("", |cluster| cluster.engine),
        };
        let (resolved_name, tier) = (target.resolved_cluster.to_owned(), request.tier.clone());
        let planned = plan_launch(definition, request, &self.policy, target, RunId::generate(), self.clock.now());
        let (run, mut faults) = match planned {
            Ok(run) => (Some(run), Faults::default()),
            Err(faults) => (None, faults),
        };
        match &cluster {
            Some(_) => faults.extend(self.check_tier(&resolved_name, tier.as_deref()).await?),
            None => faults.add("cluster", self.unknown_cluster(&name)),
        }
        match (run, cluster) {
            (Some(run), Some(cluster)) if faults.is_empty() => Ok((run, cluster)),
            _ => Err(faults.into()),
        }
    }

    /// An operator may have reserved a cluster for some tiers.
    async fn check_tier(&self, cluster: &str, tier: Option<&str>) -> Result<Faults, ServiceError> {
        let allowed = match self.store.cluster_record(cluster).await? {
            Some(record) => record.details.allowed_tiers,
            None => return Ok(Faults::default()),
        };
        if allowed.is_empty() || tier.is_some_and(|tier| allowed.iter().any(|allowed| allowed == tier)) {
            return Ok(Faults::default());
        }
        let given = tier.map_or_else(|| "none is given".to_owned(), |tier| format!("not {tier:?}"));
        let message = format!("must be one of those of the cluster {cluster} ({}), {given}", allowed.join(", "));
        Ok(Faults::one("tier", message))
    }

    /// A run that is being stopped may keep launching children until it ends; they would have to be stopped at once.
    async fn refuse_child_of_stopping_parent(&self, run: &Run) -> Result<(), ServiceError> {
        let Some(parent_id) = run.execution.parent_run_id else { return Ok(()) };
        let is_stopping = self.store.run(parent_id).await?.is_some_and(|parent| parent.stop.is_some());
        let stopping = if is_stopping { Some(parent_id) } else { self.store.stopping_ancestor(parent_id).await? };
        let message = match stopping {
            None => return Ok(()),
            Some(stopping) if stopping == parent_id => {
                format!("names the run {parent_id} as parent, which was asked to stop")
            }
            Some(stopping) => {
                format!("names the run {parent_id} as parent, which descends from {stopping}, which was asked to stop")
            }
        };
        Err(Faults::one(format!("env {}", crate::model::PARENT_VARIABLE), message).into())
    }

    fn unknown_cluster(&self, name: &str) -> String {
        format!("{name:?} is not known; there is {}", self.cluster_names().join(", "))
    }
}
