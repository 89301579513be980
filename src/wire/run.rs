//! Runs on the wire.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::EnvVarBody;
use crate::model;

/// One launch of a task and its outcome. Fields without a value are omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    pub run_id: String,
    pub definition_id: String,
    /// Empty if the definition has none.
    pub alias: String,
    pub group_name: String,
    pub image: String,
    /// The image that actually ran, as `sha256:…`, if the engine uses images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    pub cluster: String,
    pub command: String,
    pub env: Vec<EnvVarBody>,
    /// Older name of `env`: the same list.
    pub environment: Vec<EnvVarBody>,
    /// Megabytes requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Thousandths of a core requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<i64>,
    pub tags: Vec<String>,
    pub ports: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_resource_allocation: Option<bool>,
    /// `QUEUED`, `PENDING`, `RUNNING`, `NEEDS_RETRY` or `STOPPED`.
    #[schema(example = "STOPPED")]
    pub status: String,
    /// How a stopped run ended: `succeeded`, `failed`, `stopped`, `timed_out`, `lost` or `rejected`.
    #[schema(example = "succeeded")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// 0 is success; 128 + n means that signal n ended it. Omitted if the task never ran or its end was not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why it ended or is waiting to retry, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_reason: Option<String>,
    /// Why a queued run has not started, or why the state of a run at the engine is unknown. Only for a single run,
    /// not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    pub instance: RunInstance,
    /// The owner.
    pub user: String,
    pub run_tags: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub engine: String,
    /// How many times it was handed to the engine.
    pub attempt_count: u32,
    /// Peak, in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_used: Option<i64>,
    /// Peak, in thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cpu_used: Option<i64>,
    /// Total CPU time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time_ms: Option<i64>,
    /// Megabytes, if a limit was enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<i64>,
    /// Thousandths of a core, if a limit was enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_lifecycle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotence_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<String>,
    /// Its first 10,000 children. Only for a single run, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spawned_runs: Option<Vec<SpawnedRun>>,
    /// Its newest 10,000 events, oldest first. Only for a single run, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_events: Option<Vec<PodEvent>>,
    pub executable_id: String,
    pub executable_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_request_custom: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_exceptions: Option<Value>,
}

/// Where a run executes, as far as the engine reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunInstance {
    pub instance_id: String,
    pub dns_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnedRun {
    pub run_id: String,
}

impl From<model::Run> for Run {
    fn from(run: model::Run) -> Self {
        const MB: i64 = 1024 * 1024;
        let megabytes = |bytes: i64| (bytes + MB - 1) / MB;
        let (namespace, pod_name) = run.pod().map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).unzip();
        let env: Vec<_> = run.task.env.iter().map(EnvVarBody::from).collect();
        let (task, execution, usage) = (run.task, run.execution, run.usage);
        Self {
            run_id: run.run_id.to_string(),
            executable_id: run.definition_id.to_string(),
            executable_type: "task_definition".to_owned(),
            definition_id: run.definition_id.to_string(),
            alias: run.alias.unwrap_or_default(),
            group_name: run.group_name,
            image: task.image,
            image_digest: run.image_digest,
            cluster: execution.cluster,
            command: task.command,
            environment: env.clone(),
            env,
            memory: task.memory_mb,
            cpu: task.cpu_millis,
            gpu: task.gpu,
            ephemeral_storage: task.ephemeral_storage_mb,
            tags: task.tags,
            ports: task.ports,
            privileged: task.privileged,
            adaptive_resource_allocation: task.adaptive_resource_allocation,
            status: run.status.to_string(),
            outcome: run.outcome.map(|outcome| outcome.to_string()),
            exit_code: run.exit_code,
            exit_reason: run.exit_reason,
            waiting_reason: None,
            queued_at: run.queued_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            instance: RunInstance { instance_id: run.instance.instance_id, dns_name: run.instance.dns_name },
            user: execution.user,
            run_tags: execution.run_tags,
            labels: execution.labels,
            engine: execution.engine,
            attempt_count: run.attempt_count,
            max_memory_used: usage.max_memory_bytes.map(megabytes),
            max_cpu_used: usage.max_cpu_millis,
            cpu_time_ms: usage.cpu_time_ms,
            memory_limit: usage.memory_limit_bytes.map(megabytes),
            cpu_limit: usage.cpu_limit_millis,
            node_lifecycle: execution.node_lifecycle.map(|word| word.to_string()),
            active_deadline_seconds: execution.active_deadline_secs,
            description: execution.description,
            idempotence_key: execution.idempotence_key,
            arch: execution.arch,
            tier: execution.tier,
            service_account: execution.service_account,
            parent_run_id: execution.parent_run_id.map(|id| id.to_string()),
            spawned_runs: None,
            pod_events: None,
            execution_request_custom: None,
            pod_name,
            namespace,
            run_exceptions: run.run_exceptions,
        }
    }
}

/// Response to a stop: the run in its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoppedRun {
    #[serde(flatten)]
    pub run: Run,
    pub stopped: bool,
    pub terminated: bool,
}

/// Response to a reported status: the run in its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdatedRun {
    #[serde(flatten)]
    pub run: Run,
    pub updated: bool,
}

/// The few fields that change during a run. Fields without a value are omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunStatus {
    pub run_id: String,
    pub status: String,
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_reason: Option<String>,
    pub engine: String,
    pub definition_id: String,
    /// Empty if the definition has none.
    pub alias: String,
    pub cluster_name: String,
}

impl From<model::Run> for RunStatus {
    fn from(run: model::Run) -> Self {
        Self {
            run_id: run.run_id.to_string(),
            status: run.status.to_string(),
            queued_at: run.queued_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            exit_code: run.exit_code,
            exit_reason: run.exit_reason,
            engine: run.execution.engine,
            definition_id: run.definition_id.to_string(),
            alias: run.alias.unwrap_or_default(),
            cluster_name: run.execution.cluster,
        }
    }
}

/// A status that a job reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusUpdate {
    /// `RUNNING` or `STOPPED`; the other statuses are set by the server.
    #[schema(example = "STOPPED")]
    pub status: Option<String>,
    pub exit_code: Option<i64>,
    pub exit_reason: Option<String>,
    /// Any details about the failure, such as exception names.
    pub run_exceptions: Option<Value>,
}

/// One event in a run's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodEvent {
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// `Normal` or `Warning`.
    pub event_type: String,
    /// One word, for programs.
    pub reason: String,
    pub source_object: String,
    /// One sentence, for people.
    pub message: String,
}

impl From<model::Event> for PodEvent {
    fn from(event: model::Event) -> Self {
        Self {
            timestamp: event.timestamp,
            event_type: event.event_type.to_string(),
            reason: event.reason,
            source_object: event.source_object,
            message: event.message,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// Total number of matches.
    pub total: u64,
    pub pod_events: Vec<PodEvent>,
}

/// Body of every error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong, and with which field.
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    #[schema(example = "healthy")]
    pub status: String,
    pub message: String,
}
