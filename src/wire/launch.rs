//! Launches on the wire. Each version of the route reads its own fields and ignores the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EnvVarBody;
use crate::model::{EnvVar, LaunchRequest, Owner};

/// Options of a launch; the body may be empty. Keys are case-insensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LaunchRequest)]
pub struct LaunchBody {
    /// The cluster to run on; `default` if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "default")]
    pub cluster: Option<String>,
    /// Overrides the definition's variables by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvVarBody>>,
    /// `owner_id`, `owner_email`, `team_name`, and any other tags to search by later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub run_tags: Option<BTreeMap<String, Option<String>>>,
    /// Overrides the definition's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Overrides the definition's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<i64>,
    /// Megabytes of scratch disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<i64>,
    /// `spot` or `ondemand`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_lifecycle: Option<String>,
    /// Seconds after which the run is ended, counted from the start of its command; time spent waiting to start or
    /// pulling the image does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A repeat with the same key within 7 days returns the first run, unless that run has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotence_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Accepted for existing clients; a run's engine is that of its cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

impl LaunchBody {
    /// The first version's fields: `cluster`, `env`.
    #[must_use]
    pub fn into_v1(self) -> LaunchRequest {
        LaunchRequest {
            cluster: self.cluster.filter(|cluster| !cluster.is_empty()),
            env: self.env.into_iter().flatten().map(EnvVar::from).collect(),
            ..LaunchRequest::default()
        }
    }

    /// The second version's fields: also `run_tags`.
    #[must_use]
    pub fn into_v2(mut self) -> LaunchRequest {
        let run_tags = self.run_tags.take().into_iter().flatten();
        let run_tags = run_tags.filter_map(|(name, value)| Some((name, value?))).collect();
        LaunchRequest { owner: Owner { run_tags }, ..self.into_v1() }
    }

    /// All fields.
    #[must_use]
    pub fn into_v4(self) -> LaunchRequest {
        let all = self.clone();
        LaunchRequest {
            image: all.image.filter(|image| !image.is_empty()),
            command: all.command,
            memory_mb: all.memory,
            cpu_millis: all.cpu,
            gpu: all.gpu,
            ephemeral_storage_mb: all.ephemeral_storage,
            node_lifecycle: all.node_lifecycle.filter(|word| !word.is_empty()),
            active_deadline_secs: all.active_deadline_seconds,
            labels: all.labels.unwrap_or_default(),
            idempotence_key: all.idempotence_key,
            description: all.description,
            arch: all.arch,
            tier: all.tier,
            service_account: all.service_account,
            ..self.into_v2()
        }
    }
}
