//! The small extract that we keep of an object: pure reading of pods, jobs and events, as worded by every release from
//! 1.20 on. Unneeded data is dropped here, so that a cluster's data on many runs takes little memory.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{self as core, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::facts::{Init, trouble_of};
use super::job::NO_POD_CLASS;
use super::names::{CONTAINER, FINALIZER, attempt_of_name, name_of};
use super::quantity::{bytes_of, millis_of};
use super::words::clean;
use crate::model::{AttemptId, Event, EventType};

/// A runtime's reason for a container that ended while the runtime itself was away, as in a reboot of the node: the
/// accompanying exit code, 255, is the runtime's and not the command's.
pub(super) const LOST_AT_RESTART: &str = "Unknown";
/// The reason a node writes for a container without a trace. From about 1.27 on it also writes this for containers
/// that never began.
pub(super) const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PodView {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub created_at: Option<Timestamp>,
    pub node: Option<String>,
    pub phase: Phase,
    /// Why the whole pod is in its phase: `Evicted`, `DeadlineExceeded`.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub deleting: Option<Deleting>,
    pub container: Container,
    /// How often the container was started before, as far as its node knows.
    pub restarts: i32,
    /// The container ran, and its node lost it.
    pub was_lost: bool,
    /// The node has named a container of this pod.
    pub has_container: bool,
    pub image: String,
    /// The shell that the command is passed to.
    pub shell: String,
    pub image_digest: Option<String>,
    pub memory_limit_bytes: Option<i64>,
    pub cpu_limit_millis: Option<i64>,
    /// The pod's own deadline, which may have been set by someone else.
    pub deadline_secs: Option<i64>,
    /// The scheduler's message about a pod for which it has no node.
    pub unschedulable: Option<String>,
    /// The message about a pod that may not be scheduled yet.
    pub gated: Option<String>,
    /// Why Kubernetes itself took the pod away, where the release says so.
    pub disruption: Option<Disruption>,
    /// An init container of the operator's that can't start.
    pub init_waiting: Option<InitWaiting>,
    /// How an init container of the operator's failed.
    pub init_failure: Option<InitFailure>,
    /// The pod has our finalizer.
    pub is_kept: bool,
}

/// A pod's condition `DisruptionTarget`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disruption {
    pub reason: String,
    pub message: String,
}

impl Disruption {
    /// The pod was removed without consulting its node: whether anything still runs there is unknown.
    pub(super) fn is_without_node(&self) -> bool {
        matches!(self.reason.as_str(), "DeletionByPodGC" | "DeletionByTaintManager")
    }

    pub(super) fn words(&self) -> &str {
        if self.message.is_empty() { &self.reason } else { &self.message }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InitWaiting {
    pub init: Init,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InitFailure {
    pub words: String,
    /// Its node lost it: it did not end by itself.
    pub is_of_node: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// Someone has deleted the pod; our finalizer keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deleting {
    /// Zero means that the node is finished with the pod: its containers have ended, or never began. Or that someone
    /// forced the deletion.
    pub grace: Duration,
}

impl Deleting {
    pub(super) const fn is_released(self) -> bool {
        self.grace.is_zero()
    }
}

/// The container that runs the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Container {
    /// No node has reported anything about it.
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
        let unscheduled = |reason: &str| {
            let condition = condition("PodScheduled", "False");
            let condition = condition.filter(|condition| condition.reason.as_deref() == Some(reason))?;
            Some(clean(condition.message.as_deref().unwrap_or_default()))
        };
        let text = |text: &Option<String>| text.as_deref().map(clean).unwrap_or_default();
        let disruption = condition("DisruptionTarget", "True");
        let grace_secs = metadata.deletion_grace_period_seconds.unwrap_or(0);
        let last = own.and_then(|status| status.last_state.as_ref());
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
            message: status.and_then(|status| status.message.as_deref()).map(clean),
            deleting: metadata
                .deletion_timestamp
                .as_ref()
                .map(|_| Deleting { grace: Duration::from_secs(u64::try_from(grace_secs).unwrap_or(0)) }),
            container: own.and_then(|status| status.state.as_ref()).map(container_of).unwrap_or_default(),
            restarts: own.map_or(0, |status| status.restart_count),
            was_lost: last.is_some_and(|last| last.terminated.is_some() || last.running.is_some()),
            has_container: own.is_some_and(|status| status.container_id.as_ref().is_some_and(|id| !id.is_empty())),
            shell: container.and_then(|container| container.command.as_ref()?.first().cloned()).unwrap_or_default(),
            image: container.and_then(|container| container.image.clone()).unwrap_or_default(),
            image_digest: own.map(|status| digest_of(&status.image_id)).filter(|digest| !digest.is_empty()),
            memory_limit_bytes: limit("memory", bytes_of),
            cpu_limit_millis: limit("cpu", millis_of),
            deadline_secs: spec.and_then(|spec| spec.active_deadline_seconds),
            unschedulable: unscheduled("Unschedulable"),
            gated: unscheduled("SchedulingGated"),
            disruption: disruption
                .map(|condition| Disruption { reason: text(&condition.reason), message: text(&condition.message) }),
            init_waiting: init_waiting(pod),
            init_failure: status.and_then(init_failure),
            is_kept: metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER),
        }
    }

    /// Whether the command began, according to this object.
    pub(super) const fn has_started(&self) -> bool {
        let runs_or_ran =
            matches!(self.container, Container::Running { .. } | Container::Terminated { started_at: Some(_), .. });
        runs_or_ran || self.has_run_before()
    }

    /// Whether the container was started before the run that the status describes.
    pub(super) const fn has_run_before(&self) -> bool {
        self.was_lost || self.restarts > 0
    }
}

fn container_of(state: &core::ContainerState) -> Container {
    // Nodes write times before the first second to mean "never".
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map(|time| time.0).filter(|time| time.as_second() > 0)
    };
    if let Some(ended) = &state.terminated {
        return Container::Terminated {
            exit_code: i64::from(ended.exit_code),
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.as_deref().map(clean).unwrap_or_default(),
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
            message: waiting.message.as_deref().map(clean).unwrap_or_default(),
        },
        None => Container::Unknown,
    }
}

fn init_waiting(pod: &Pod) -> Option<InitWaiting> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    statuses.iter().find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().unwrap_or_default();
        let message = waiting.message.as_deref().map(clean).unwrap_or_default();
        trouble_of(&reason, &message)?;
        let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
        let own = containers.into_iter().find(|container| container.name == status.name);
        let image = own.and_then(|container| container.image.clone()).unwrap_or_else(|| status.image.clone());
        Some(InitWaiting { init: Init { name: status.name.clone(), image }, reason, message })
    })
}

fn init_failure(status: &core::PodStatus) -> Option<InitFailure> {
    let statuses = status.init_container_statuses.as_ref()?;
    statuses.iter().find_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        let reason = ended.reason.as_deref().unwrap_or_default();
        let why = ended.message.as_deref().map_or_else(|| reason.to_owned(), clean);
        let words = format!("init container `{}` ended with exit code {}: {why}", status.name, ended.exit_code);
        Some(InitFailure { words, is_of_node: matches!(reason, LOST_AT_RESTART | STATUS_UNKNOWN) })
    })
}

/// Runtimes write the same image with and without a scheme.
fn digest_of(image_id: &str) -> String {
    image_id.split_once("://").map_or(image_id, |(_, id)| id).to_owned()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct JobView {
    pub uid: String,
    /// Why the controller has given it up: it will create no pod.
    pub failure: Option<String>,
    /// It was given up because its deadline passed.
    pub is_past_deadline: bool,
    /// Someone has suspended it: its controller deletes its pod, and creates another when it is resumed.
    pub is_suspended: bool,
    pub is_deleting: bool,
}

impl JobView {
    pub(super) fn read(job: &Job) -> Self {
        let status = job.status.as_ref();
        // Newer releases set `FailureTarget` first, and `Failed` only when the pods have ended.
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let failed = conditions.into_iter().find(|condition| {
            matches!(condition.type_.as_str(), "Failed" | "FailureTarget") && condition.status == "True"
        });
        let words = |condition: &k8s_openapi::api::batch::v1::JobCondition| {
            let words = condition.message.as_deref().or(condition.reason.as_deref());
            clean(words.unwrap_or("it failed"))
        };
        Self {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            failure: failed.map(words),
            is_past_deadline: failed.is_some_and(|condition| condition.reason.as_deref() == Some("DeadlineExceeded")),
            is_suspended: job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)),
            is_deleting: job.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// A Kubernetes event about one of our objects, as an event of the run. Repetitions by Kubernetes get the same time,
/// so that they are reported once.
pub(super) fn read_event(event: &core::Event) -> Option<Event> {
    const TOLD_OTHERWISE: [&str; 4] = ["FailedScheduling", "SuccessfulCreate", "Completed", "Started"];
    let reason = event.reason.as_deref()?;
    // The controller of an older release reports that it can't create a pod, which is intended.
    let message = event.message.as_deref().unwrap_or_default();
    if TOLD_OTHERWISE.contains(&reason) || message.contains(NO_POD_CLASS) {
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
        message: clean(&told_once(event, message)),
    })
}

/// The message without the parts that vary between repetitions, so that it is reported once.
fn told_once(event: &core::Event, message: &str) -> String {
    let attempt_id = event.involved_object.name.as_deref().and_then(attempt_of_name);
    match attempt_id {
        Some(attempt_id) if event.reason.as_deref() == Some("FailedCreate") => without_pod_name(message, attempt_id),
        _ => message.to_owned(),
    }
}

/// The message with which the API refused the pod of an attempt's job to its controller.
pub(super) fn refusal_in(event: &core::Event, attempt_id: AttemptId) -> Option<String> {
    let object = &event.involved_object;
    let is_about_job = object.kind.as_deref() == Some("Job") && object.name.as_deref() == Some(&name_of(attempt_id));
    let is_refusal = event.reason.as_deref() == Some("FailedCreate");
    let message = event.message.as_deref().filter(|_| is_about_job && is_refusal)?;
    let words = message.strip_prefix("Error creating: ").unwrap_or(message);
    (!words.contains(NO_POD_CLASS)).then(|| clean(&without_pod_name(words, attempt_id)))
}

/// The same message for each retry, whose pods have different names.
fn without_pod_name(words: &str, attempt_id: AttemptId) -> String {
    let job = name_of(attempt_id);
    let begin = format!("pods \"{job}-");
    match words.find(&begin).and_then(|at| Some((at, words[at + begin.len()..].find('"')? + at + begin.len()))) {
        Some((at, end)) => format!("{}pods \"{job}{}", &words[..at], &words[end..]),
        None => words.to_owned(),
    }
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
        // A release without `ready`, and one with it.
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
