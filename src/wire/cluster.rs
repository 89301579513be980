//! Clusters on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::model::{self, ClusterChange, ClusterStatus, Faults};

/// Body for creating or changing a cluster. In a change, an omitted field keeps its value. Unknown fields are
/// ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClusterUpdate)]
pub struct ClusterBody {
    /// Required on creation; can't be changed.
    #[schema(example = "batch")]
    pub name: Option<String>,
    /// `active`, `maintenance` or `offline`. Only active clusters are given runs; runs already there continue.
    #[schema(example = "maintenance")]
    pub status: Option<String>,
    /// Shown to users whose runs are waiting.
    pub status_reason: Option<String>,
    /// Accepts only runs of these tiers; `[]` accepts all.
    pub allowed_tiers: Option<Vec<String>>,
    pub capabilities: Option<Vec<String>>,
    pub region: Option<String>,
    pub namespace: Option<String>,
    pub cluster_version: Option<String>,
    /// The content of the cluster's section in the configuration file: `engine` and its settings.
    #[schema(value_type = Option<Object>, example = json!({"engine": "docker", "host": "tcp://10.0.0.7:2376"}))]
    pub settings: Option<Map<String, Value>>,
    /// Where older clients put it; it belongs in `settings`.
    #[schema(ignore)]
    #[serde(skip_serializing)]
    pub engine: Option<Value>,
}

impl ClusterBody {
    /// The name of the cluster to create, and its fields.
    pub fn into_new(mut self) -> Result<(String, ClusterChange), Faults> {
        let name = self.name.take().ok_or_else(|| Faults::one("name", "is needed"))?;
        Ok((name, self.into_fields()?))
    }

    /// The fields to change on the cluster with this name.
    pub fn into_change(self, current: &str) -> Result<ClusterChange, Faults> {
        match &self.name {
            Some(name) if name != current => {
                Err(Faults::one("name", format!("can't change: it is {current:?}, not {name:?}")))
            }
            _ => self.into_fields(),
        }
    }

    fn into_fields(self) -> Result<ClusterChange, Faults> {
        if let Some(engine) = &self.engine {
            let advice = format!("belongs in `settings`: {{\"settings\": {{\"engine\": {engine}}}}}");
            return Err(Faults::one("engine", advice));
        }
        // Existing clients write it in capitals.
        let status = self.status.map(|status| status.to_ascii_lowercase().parse::<ClusterStatus>()).transpose();
        Ok(ClusterChange {
            status: status.map_err(|error| Faults::one("status", error.to_string()))?,
            status_reason: self.status_reason,
            allowed_tiers: self.allowed_tiers,
            capabilities: self.capabilities,
            region: self.region,
            namespace: self.namespace,
            cluster_version: self.cluster_version,
            settings: self.settings,
        })
    }
}

/// Current state of a cluster. Fields without a value are omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Same as `name`.
    pub id: String,
    pub name: String,
    /// `active`, `maintenance` or `offline`, as set by an operator.
    pub status: String,
    pub status_reason: String,
    #[schema(value_type = String, format = DateTime)]
    pub status_since: Timestamp,
    pub allowed_tiers: Vec<String>,
    pub capabilities: Vec<String>,
    pub region: String,
    pub namespace: String,
    pub cluster_version: String,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// The kind of engine. Omitted if this server has no such cluster; runs for it wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Whether launches that name no cluster go here.
    pub is_default: bool,
    /// Whether the engine answers.
    pub reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_reason: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Timestamp>,
    /// Maximum number of concurrent runs; omitted if unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Runs by status.
    pub queued: u64,
    pub pending: u64,
    pub running: u64,
    pub needs_retry: u64,
    /// Megabytes that its machines provide for runs; omitted if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<i64>,
    /// Megabytes requested by its pending and running runs.
    pub reserved_memory: i64,
    /// Thousandths of a core.
    pub reserved_cpu: i64,
    /// GPUs; a server of an earlier version does not say it.
    #[serde(default)]
    #[schema(required)]
    pub reserved_gpu: i64,
    /// The settings it was created with; omitted for a cluster from the server's configuration.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Map<String, Value>>,
}

impl From<model::Cluster> for Cluster {
    fn from(cluster: model::Cluster) -> Self {
        let model::Cluster { record, engine, is_default, max_running, condition, load } = cluster;
        let details = record.details;
        let (unreachable_since, unreachable_reason) = condition.unreachable.unzip();
        Self {
            id: record.name.clone(),
            name: record.name,
            status: record.status.to_string(),
            status_reason: record.status_reason,
            status_since: record.status_since,
            allowed_tiers: details.allowed_tiers,
            capabilities: details.capabilities,
            region: details.region,
            namespace: details.namespace,
            cluster_version: details.cluster_version,
            updated_at: record.updated_at,
            engine: engine.map(str::to_owned),
            is_default,
            reachable: unreachable_reason.is_none(),
            unreachable_reason,
            unreachable_since,
            max_running,
            queued: load.queued,
            pending: load.pending,
            running: load.running,
            needs_retry: load.needs_retry,
            memory: condition.capacity.memory_mb,
            cpu: condition.capacity.cpu_millis,
            gpu: condition.capacity.gpus,
            reserved_memory: load.reserved.memory_mb.unwrap_or(0),
            reserved_cpu: load.reserved.cpu_millis.unwrap_or(0),
            reserved_gpu: load.reserved.gpus.unwrap_or(0),
            settings: record.settings,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterDetailList {
    pub clusters: Vec<Cluster>,
    pub total: usize,
}

/// Response to a creation: the cluster in its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterCreated {
    #[serde(flatten)]
    pub cluster: Cluster,
    pub created: bool,
}

/// Response to a change: the cluster in its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterUpdated {
    #[serde(flatten)]
    pub cluster: Cluster,
    pub updated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterDeleted {
    pub id: String,
    pub deleted: bool,
}

/// How many attempts were handed over from engines that are gone to the current engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterAdopted {
    pub id: String,
    pub adopted: usize,
}
