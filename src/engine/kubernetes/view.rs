//! The little that we keep of an object: pure reading of pods, jobs and events, in the words of every release from 1.20
//! on. What is not needed is dropped here, so that what a cluster says about many runs takes little memory.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{self as core, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::names::CONTAINER;
use super::quantity::{bytes_of, millis_of};
use crate::model::{Event, EventType};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PodView {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub created_at: Option<Timestamp>,
    pub node: Option<String>,
    pub phase: Phase,
    /// Why the whole pod is as it is: `Evicted`, `DeadlineExceeded`.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub deleting: Option<Deleting>,
    pub container: Container,
    pub image: String,
    pub image_digest: Option<String>,
    pub memory_limit_bytes: Option<i64>,
    pub cpu_limit_millis: Option<i64>,
    /// The scheduler's words about a pod that it has no node for.
    pub unschedulable: Option<String>,
    /// Why Kubernetes itself took the pod away, where the release says so.
    pub disruption: Option<String>,
    /// What an init container of the operator's died of.
    pub init_failure: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// Somebody has deleted the pod; our finalizer keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deleting {
    /// When its grace is over.
    pub at: Timestamp,
    /// The node has nothing more to say about it: its containers have ended, or never began. Or somebody forced it.
    pub is_released: bool,
}

/// The container that runs the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Container {
    /// No node has said anything about it.
    #[default]
    Unknown,
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        at: Timestamp,
    },
    Terminated {
        exit_code: i64,
        reason: String,
        message: String,
        started_at: Option<Timestamp>,
        finished_at: Option<Timestamp>,
    },
}

impl PodView {
    pub(super) fn read(pod: &Pod) -> Self {
        let (metadata, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let container = spec.and_then(|spec| spec.containers.iter().find(|container| container.name == CONTAINER));
        let limits = container.and_then(|container| container.resources.as_ref()?.limits.as_ref());
        let limit = |name: &str, read: fn(&Quantity) -> Option<i64>| limits.and_then(|limits| read(limits.get(name)?));
        let statuses = status.and_then(|status| status.container_statuses.as_ref());
        let own = statuses.into_iter().flatten().find(|status| status.name == CONTAINER);
        let condition = |kind: &str, value: &str| {
            let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            conditions.into_iter().find(|condition| condition.type_ == kind && condition.status == value)
        };
        let unschedulable =
            condition("PodScheduled", "False").filter(|condition| condition.reason.as_deref() == Some("Unschedulable"));
        let disruption = condition("DisruptionTarget", "True");
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            created_at: metadata.creation_timestamp.as_ref().map(|time| time.0),
            node: spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
            phase: match status.and_then(|status| status.phase.as_deref()) {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                _ => Phase::Pending,
            },
            reason: status.and_then(|status| status.reason.clone()),
            message: status.and_then(|status| status.message.clone()),
            deleting: metadata.deletion_timestamp.as_ref().map(|time| Deleting {
                at: time.0,
                is_released: metadata.deletion_grace_period_seconds.unwrap_or(0) == 0,
            }),
            container: own.and_then(|status| status.state.as_ref()).map(container_of).unwrap_or_default(),
            image: container.and_then(|container| container.image.clone()).unwrap_or_default(),
            image_digest: own.map(|status| digest_of(&status.image_id)).filter(|digest| !digest.is_empty()),
            memory_limit_bytes: limit("memory", bytes_of),
            cpu_limit_millis: limit("cpu", millis_of),
            unschedulable: unschedulable.and_then(|condition| condition.message.clone()),
            disruption: disruption.and_then(|condition| condition.message.clone().or_else(|| condition.reason.clone())),
            init_failure: status.and_then(init_failure),
        }
    }

    /// Whether the command began, as far as this object tells.
    pub(super) const fn has_started(&self) -> bool {
        matches!(self.container, Container::Running { .. } | Container::Terminated { started_at: Some(_), .. })
    }
}

fn container_of(state: &core::ContainerState) -> Container {
    // Times before the first second are how a node writes "not at all".
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map(|time| time.0).filter(|time| time.as_second() > 0)
    };
    if let Some(ended) = &state.terminated {
        return Container::Terminated {
            exit_code: i64::from(ended.exit_code),
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.clone().unwrap_or_default(),
            started_at: time(&ended.started_at),
            finished_at: time(&ended.finished_at),
        };
    }
    if let Some(at) = state.running.as_ref().and_then(|running| time(&running.started_at)) {
        return Container::Running { at };
    }
    match &state.waiting {
        Some(waiting) => Container::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        },
        None => Container::Unknown,
    }
}

fn init_failure(status: &core::PodStatus) -> Option<String> {
    let statuses = status.init_container_statuses.as_ref()?;
    statuses.iter().find_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        let why = ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default();
        Some(format!("init container `{}` ended with exit code {}: {why}", status.name, ended.exit_code))
    })
}

/// Runtimes write the same image with and without a scheme.
fn digest_of(image_id: &str) -> String {
    image_id.split_once("://").map_or(image_id, |(_, id)| id).to_owned()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct JobView {
    pub uid: String,
    /// The controller has given it up, and why: it will make no pod.
    pub failure: Option<String>,
}

impl JobView {
    pub(super) fn read(job: &Job) -> Self {
        let status = job.status.as_ref();
        // Newer releases say `FailureTarget` first, and `Failed` only when the pods have ended.
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let failed = conditions.into_iter().find(|condition| {
            matches!(condition.type_.as_str(), "Failed" | "FailureTarget") && condition.status == "True"
        });
        Self {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            failure: failed.map(|condition| {
                condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_else(|| "it failed".to_owned())
            }),
        }
    }
}

/// An event of Kubernetes' about one of our objects, as a line of the run's story. What Kubernetes repeats has the same
/// time, so that it is told once.
pub(super) fn read_event(event: &core::Event) -> Option<Event> {
    const TOLD_OTHERWISE: [&str; 4] = ["FailedScheduling", "SuccessfulCreate", "Completed", "Started"];
    let reason = event.reason.as_deref()?;
    // The controller of an older release finds that it can make no pod, which is meant.
    let message = event.message.as_deref().unwrap_or_default();
    if TOLD_OTHERWISE.contains(&reason) || message.contains(super::job::NO_POD_CLASS) {
        return None;
    }
    let first = event.first_timestamp.as_ref().map(|time| time.0);
    let at = first
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
    let source = event.source.as_ref().and_then(|source| source.component.clone());
    let source = source.or_else(|| event.reporting_component.clone()).filter(|source| !source.is_empty());
    Some(Event {
        timestamp: at,
        event_type: if event.type_.as_deref() == Some("Warning") { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        source_object: source.unwrap_or_else(|| "kubernetes".to_owned()),
        message: message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: &serde_json::Value) -> JobView {
        let job = json!({ "metadata": { "name": "j", "uid": "u" }, "spec": { "template": {} }, "status": status });
        JobView::read(&serde_json::from_value(job).unwrap())
    }

    #[test]
    fn a_failed_job_is_known_in_old_and_new_words() {
        let failed = |kind: &str| {
            json!({ "conditions": [{ "type": kind, "status": "True", "reason": "BackoffLimitExceeded",
                                     "message": "Job has reached the specified backoff limit" }] })
        };
        for kind in ["Failed", "FailureTarget"] {
            assert_eq!(
                job(&failed(kind)).failure.as_deref(),
                Some("Job has reached the specified backoff limit"),
                "{kind}"
            );
        }
        for kind in ["Complete", "SuccessCriteriaMet", "Suspended"] {
            assert_eq!(job(&failed(kind)).failure, None, "{kind}");
        }
        // A release that has no `ready`, and one that has.
        assert_eq!(job(&json!({ "active": 1 })), job(&json!({ "active": 1, "ready": 0, "terminating": 0 })));
    }

    #[test]
    fn an_event_is_told_in_kubernetes_words_and_at_its_first_time() {
        let event = |reason: &str, message: &str| {
            let event = json!({
                "metadata": { "name": "e", "creationTimestamp": "2026-11-22T10:00:02Z" },
                "involvedObject": { "kind": "Pod", "name": "p" },
                "reason": reason, "message": message, "type": "Warning", "count": 7,
                "firstTimestamp": "2026-11-22T10:00:00Z", "lastTimestamp": "2026-11-22T10:09:00Z",
                "source": { "component": "kubelet" },
            });
            read_event(&serde_json::from_value(event).unwrap())
        };
        let told = event("FailedMount", "no such claim").unwrap();
        assert_eq!(told.timestamp, "2026-11-22T10:00:00Z".parse().unwrap());
        assert_eq!((told.reason.as_str(), told.message.as_str()), ("FailedMount", "no such claim"));
        assert_eq!((told.event_type, told.source_object.as_str()), (EventType::Warning, "kubelet"));
        assert_eq!(event("FailedScheduling", "told from the pod"), None);
        assert_eq!(
            event("FailedCreate", &format!("no PriorityClass with name {}", super::super::job::NO_POD_CLASS)),
            None
        );
    }
}
