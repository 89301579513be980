//! What a pod says about its attempt: from Kubernetes' words to ours. Pure; what it needs beside the pod is passed in.

use jiff::{SignedDuration, Timestamp};

use super::view::{Container, Deleting, Phase, PodView};
use crate::engine::docker::refusal::is_final;
use crate::engine::signal::signal_name;
use crate::model::{EndCause, Ended, Instance, Observation, StartFault, Started, Usage};

/// How long after a pod should have gone its node may still be silent about it.
const NODE_PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// How long a forced deletion may have overtaken the news that the command started.
const NEWS_PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// What is known of an attempt beside its pod's own words.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Whether this server asked for the deletion because the run is to be stopped.
    pub was_asked_to_stop: bool,
    /// Why this server deleted the pod before it started.
    pub verdict: Option<Verdict>,
    pub was_seen_running: bool,
    /// When this server launched it; nodes tell times in whole seconds only.
    pub launched_at: Option<Timestamp>,
    /// When its end was first seen.
    pub end_seen_at: Option<Timestamp>,
    /// Since when its container can't start, and the first words about why an image can't be pulled.
    pub waiting_since: Option<Timestamp>,
    pub pull_error: Option<String>,
    pub pull_grace: SignedDuration,
    /// The pod's node is not there any more, or does not answer the cluster.
    pub is_node_lost: bool,
    pub peak: Usage,
}

/// Why an attempt is given up that has not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub reason: String,
    pub fault: StartFault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and used up at once")]
pub(super) enum Reading {
    Seen(Observation),
    /// It does not start, and never will: to be deleted, and only then called so.
    GiveUp(Verdict),
}

pub(super) fn read(pod: &PodView, facts: &Facts, now: Timestamp) -> Reading {
    let seen = |observation| Reading::Seen(observation);
    match (&pod.container, &pod.deleting) {
        (Container::Terminated { .. }, _) => seen(terminated(pod, facts, now)),
        _ if pod.phase == Phase::Failed => seen(failed(pod, facts)),
        _ if pod.phase == Phase::Succeeded => {
            seen(Observation::Gone { reason: "its pod succeeded, and its node has forgotten how".to_owned() })
        }
        (Container::Running { at }, None) => seen(Observation::Running(started(pod, facts, *at))),
        (Container::Running { at }, Some(deleting)) => {
            seen(match (is_overdue(deleting, now), facts.is_node_lost, deleting.is_released) {
                (true, true, _) => Observation::Gone { reason: node_lost(pod) },
                (true, false, true) => {
                    Observation::Gone { reason: "its pod was deleted by force from outside of flotilla".to_owned() }
                }
                _ => Observation::Running(started(pod, facts, *at)),
            })
        }
        (Container::Waiting { .. } | Container::Unknown, Some(deleting)) => {
            seen(deleted_early(pod, deleting, facts, now))
        }
        (Container::Waiting { reason, message }, None) => waiting(pod, reason, message, facts, now),
        (Container::Unknown, None) => seen(Observation::Starting),
    }
}

/// A pod that is not there any more, though it was seen: somebody has taken our finalizer away.
pub(super) fn read_vanished(pod: &PodView, facts: &Facts, now: Timestamp) -> Observation {
    match &pod.container {
        Container::Terminated { .. } => terminated(pod, facts, now),
        _ => Observation::Gone { reason: "its pod was removed from outside of flotilla".to_owned() },
    }
}

/// Whether a pod's node should long have said that it is over.
pub(super) fn is_overdue(deleting: &Deleting, now: Timestamp) -> bool {
    now.duration_since(deleting.at) > NODE_PATIENCE
}

fn node_lost(pod: &PodView) -> String {
    let node = pod.node.as_deref().unwrap_or_default();
    format!("its node {node} was lost; what ran there may still run")
}

fn started(pod: &PodView, facts: &Facts, at: Timestamp) -> Started {
    Started {
        at: facts.launched_at.map_or(at, |launched_at| launched_at.max(at)),
        instance: Instance {
            instance_id: format!("{}/{}", pod.namespace, pod.name),
            dns_name: pod.node.clone().unwrap_or_default(),
        },
        usage: Usage {
            memory_limit_bytes: pod.memory_limit_bytes,
            cpu_limit_millis: pod.cpu_limit_millis,
            ..Usage::default()
        },
        image_digest: pod.image_digest.clone(),
        notes: Vec::new(),
    }
}

fn terminated(pod: &PodView, facts: &Facts, now: Timestamp) -> Observation {
    let Container::Terminated { exit_code, reason, message, started_at, finished_at } = &pod.container else {
        return Observation::Starting;
    };
    match (reason.as_str(), started_at) {
        ("ContainerStatusUnknown", _) => {
            let reason = format!("its node lost track of it: {message}");
            return Observation::Gone { reason };
        }
        // A runtime says so of a command that could not be executed at all.
        ("StartError" | "ContainerCannotRun" | "RunContainerError", _) | (_, None) if *exit_code != 0 => {
            let reason = format!("its container can't be started: {message}");
            return Observation::NeverRan { reason, fault: unless_final(message, StartFault::Machine) };
        }
        _ => {}
    }
    let started = started(pod, facts, started_at.unwrap_or(now));
    let cause = end_cause(*exit_code, reason, pod, facts);
    let killed_for_memory = reason == "OOMKilled" && *exit_code != 0;
    let limit = started.usage.memory_limit_bytes;
    let measured = facts.peak.max_memory_bytes;
    let usage = Usage {
        // The kernel kills only what has come up to the limit, seen by a sample or not.
        max_memory_bytes: if killed_for_memory { measured.max(limit) } else { measured },
        max_cpu_millis: facts.peak.max_cpu_millis,
        cpu_time_ms: facts.peak.cpu_time_ms,
        ..started.usage
    };
    let finished_at = end_of(finished_at.unwrap_or(now), facts.end_seen_at.unwrap_or(now)).max(started.at);
    Observation::Ended(Ended {
        finished_at,
        exit_code: *exit_code,
        cause,
        killed_for_memory,
        usage,
        is_log_complete: false,
        notes: Vec::new(),
        started,
    })
}

/// A node tells the second of an end. It was not before that second, and not after it was seen; a stop that was asked for
/// within it came before the end.
fn end_of(second: Timestamp, seen_at: Timestamp) -> Timestamp {
    const LATEST: SignedDuration = SignedDuration::from_millis(999);
    let latest = second.saturating_add(LATEST).unwrap_or(second);
    latest.min(seen_at).max(second)
}

fn end_cause(exit_code: i64, reason: &str, pod: &PodView, facts: &Facts) -> EndCause {
    if facts.was_asked_to_stop && pod.deleting.is_some() {
        return EndCause::Stopped;
    }
    if exit_code == 0 {
        return EndCause::Exited;
    }
    let signal = exit_code.checked_sub(128).filter(|signal| (1..=31).contains(signal));
    let signal_or_exit = || match signal.and_then(signal_name) {
        Some(name) => EndCause::Signal { name: name.to_owned() },
        None => EndCause::Exited,
    };
    if reason == "OOMKilled" {
        return signal_or_exit();
    }
    if let Some(by) = taken_away(pod) {
        return EndCause::Outside { by };
    }
    if pod.reason.as_deref() == Some("DeadlineExceeded") {
        return EndCause::Deadline;
    }
    signal_or_exit()
}

/// Who ended a pod, where it was not its command.
fn taken_away(pod: &PodView) -> Option<String> {
    let message = pod.message.as_deref().unwrap_or_default();
    match pod.reason.as_deref() {
        Some("Evicted") => return Some(format!("evicted from its node: {message}")),
        Some("Shutdown" | "NodeShutdown" | "Terminated") => return Some(format!("its node was shut down: {message}")),
        Some("Preempting" | "Preempted") => return Some(format!("preempted by a run of higher priority: {message}")),
        Some("NodeLost") => return Some(format!("its node was lost: {message}")),
        _ => {}
    }
    if let Some(disruption) = &pod.disruption {
        return Some(format!("its pod was taken away: {disruption}"));
    }
    pod.deleting.as_ref().map(|_| "its pod was deleted".to_owned())
}

/// A pod that has failed without an end of its container's being known.
fn failed(pod: &PodView, facts: &Facts) -> Observation {
    let reason = pod.reason.as_deref().unwrap_or_default();
    let message = pod.message.as_deref().unwrap_or_default();
    let may_have_run = pod.has_started() || facts.was_seen_running;
    let never = |reason: String, fault| Observation::NeverRan { reason, fault };
    if may_have_run {
        let why = taken_away(pod).unwrap_or_else(|| format!("{reason}: {message}"));
        return Observation::Gone { reason: format!("its end was not seen: {why}") };
    }
    if let Some(failure) = &pod.init_failure {
        return never(format!("it could not be prepared: {failure}"), StartFault::Task);
    }
    match (reason, &pod.container) {
        ("DeadlineExceeded", _) => {
            never("it did not start within its deadline and 15 minutes more".to_owned(), StartFault::Task)
        }
        // Evicted while it ran, or before: an older release tells nothing of the container. What may have run does not
        // run again.
        ("Evicted", Container::Unknown) if !message.contains("The node had condition") => {
            Observation::Gone { reason: format!("evicted from its node: {message}") }
        }
        ("Evicted", _) => never(format!("its node did not take it: {reason}: {message}"), StartFault::Displaced),
        _ => never(format!("its node did not take it: {reason}: {message}"), StartFault::Machine),
    }
}

/// A pod that was deleted, of whose command no start is known.
fn deleted_early(pod: &PodView, deleting: &Deleting, facts: &Facts, now: Timestamp) -> Observation {
    let is_settled = pod.node.is_none() || facts.verdict.is_some() || now.duration_since(deleting.at) > NEWS_PATIENCE;
    if facts.is_node_lost && is_overdue(deleting, now) {
        return Observation::Gone { reason: node_lost(pod) };
    }
    if !(deleting.is_released && is_settled) {
        return Observation::Starting;
    }
    if facts.was_seen_running {
        return Observation::Gone { reason: "its pod was deleted from outside of flotilla".to_owned() };
    }
    let verdict = facts.verdict.clone().unwrap_or_else(|| Verdict {
        reason: if facts.was_asked_to_stop {
            "stopped before it started".to_owned()
        } else {
            let by = pod.disruption.as_ref().map_or_else(String::new, |by| format!(": {by}"));
            format!("its pod was deleted before it started{by}")
        },
        fault: if facts.was_asked_to_stop { StartFault::Task } else { StartFault::Displaced },
    });
    Observation::NeverRan { reason: verdict.reason, fault: verdict.fault }
}

fn waiting(pod: &PodView, reason: &str, message: &str, facts: &Facts, now: Timestamp) -> Reading {
    let image = &pod.image;
    let has_waited = facts.waiting_since.is_some_and(|since| now.duration_since(since) >= facts.pull_grace);
    let give_up = |reason: String, fault| Reading::GiveUp(Verdict { reason, fault });
    match reason {
        "InvalidImageName" => {
            give_up(format!("image `{image}` can't be pulled: its name is not valid"), StartFault::Task)
        }
        "ErrImageNeverPull" => give_up(
            format!("image `{image}` is not on the node, and this cluster does not fetch images"),
            StartFault::Task,
        ),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" if has_waited => {
            let why = facts.pull_error.as_deref().unwrap_or(message);
            give_up(format!("image `{image}` can't be pulled: {why}"), unless_final(why, StartFault::Image))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" if has_waited => {
            give_up(format!("its container can't be made: {message}"), StartFault::Task)
        }
        _ => Reading::Seen(Observation::Starting),
    }
}

/// What can never work is the task's fault, whoever says so.
fn unless_final(message: &str, fault: StartFault) -> StartFault {
    if is_final(500, message) { StartFault::Task } else { fault }
}

/// Whether a container that waits with this reason is in trouble, and not only on its way.
pub(super) fn is_trouble(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "RegistryUnavailable"
            | "ImageInspectError"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CREATED: &str = "2026-11-22T10:00:00Z";
    const START: &str = "2026-11-22T10:00:05Z";
    const END: &str = "2026-11-22T10:00:09Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-11-22T10:10:00Z")
    }

    /// A pod with this state of its container and this status beside it.
    fn pod(state: &Value, status: &Value, metadata: &Value) -> PodView {
        let mut pod = json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u", "creationTimestamp": CREATED },
            "spec": {
                "nodeName": "node-1",
                "containers": [{ "name": "run", "image": "busybox:2",
                                 "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } } }],
            },
            "status": { "phase": "Running" },
        });
        let merge = |pod: &mut Value, key: &str, values: &Value| {
            for (name, value) in values.as_object().unwrap() {
                pod[key][name] = value.clone();
            }
        };
        if !state.is_null() {
            pod["status"]["containerStatuses"] = json!([
                { "name": "sidecar", "ready": true, "restartCount": 0, "image": "s", "imageID": "s", "state": {} },
                { "name": "run", "ready": false, "restartCount": 0, "image": "busybox:2",
                  "imageID": "docker.io/library/busybox@sha256:1", "state": state },
            ]);
        }
        merge(&mut pod, "status", status);
        merge(&mut pod, "metadata", metadata);
        PodView::read(&serde_json::from_value(pod).unwrap())
    }

    fn ended_pod(exit_code: i64, reason: &str, status: &Value, metadata: &Value) -> PodView {
        let state = json!({ "terminated": {
            "exitCode": exit_code, "reason": reason, "startedAt": START, "finishedAt": END, "containerID": "c",
        } });
        pod(&state, status, metadata)
    }

    fn seen(pod: &PodView, facts: &Facts) -> Observation {
        match read(pod, facts, now()) {
            Reading::Seen(observation) => observation,
            Reading::GiveUp(verdict) => panic!("given up: {verdict:?}"),
        }
    }

    fn ended(pod: &PodView, facts: &Facts) -> Ended {
        match seen(pod, facts) {
            Observation::Ended(ended) => ended,
            other => panic!("{other:?} is no end"),
        }
    }

    fn deleted(grace: i64) -> Value {
        json!({ "deletionTimestamp": "2026-11-22T10:00:10Z", "deletionGracePeriodSeconds": grace })
    }

    #[test]
    fn each_end_has_its_cause() {
        let none = json!({});
        let quiet = Facts::default();
        let asked = Facts { was_asked_to_stop: true, ..Facts::default() };
        let outside = |by: &str| EndCause::Outside { by: by.to_owned() };
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
        let shutdown = json!({ "phase": "Failed", "reason": "NodeShutdown", "message": "Node is shutting down" });
        // Releases from 1.26 on.
        let disrupted = json!({ "conditions": [
            { "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted for b" },
        ] });
        let deadline = json!({ "phase": "Failed", "reason": "DeadlineExceeded", "message": "too long" });
        let table = [
            (ended_pod(0, "Completed", &none, &none), &quiet, EndCause::Exited),
            (ended_pod(3, "Error", &none, &none), &quiet, EndCause::Exited),
            (ended_pod(139, "Error", &none, &none), &quiet, EndCause::Signal { name: "SIGSEGV".into() }),
            (ended_pod(137, "OOMKilled", &none, &none), &quiet, EndCause::Signal { name: "SIGKILL".into() }),
            (ended_pod(143, "Error", &none, &deleted(30)), &asked, EndCause::Stopped),
            (ended_pod(0, "Completed", &none, &deleted(30)), &asked, EndCause::Stopped),
            // Asked, and over before it was done.
            (ended_pod(1, "Error", &none, &none), &asked, EndCause::Exited),
            (ended_pod(143, "Error", &none, &deleted(30)), &quiet, outside("its pod was deleted")),
            (ended_pod(0, "Completed", &none, &deleted(30)), &quiet, EndCause::Exited),
            (ended_pod(137, "Error", &evicted, &none), &quiet, outside("evicted from its node: low on memory")),
            (
                ended_pod(143, "Error", &shutdown, &none),
                &quiet,
                outside("its node was shut down: Node is shutting down"),
            ),
            (
                ended_pod(143, "Error", &disrupted, &deleted(30)),
                &quiet,
                outside("its pod was taken away: preempted for b"),
            ),
            (ended_pod(143, "Error", &deadline, &none), &quiet, EndCause::Deadline),
        ];
        for (pod, facts, cause) in table {
            assert_eq!(ended(&pod, facts).cause, cause, "{pod:?}");
        }
    }

    #[test]
    fn an_end_tells_its_place_its_limits_and_the_least_peak_that_out_of_memory_means() {
        let ended = ended(&ended_pod(137, "OOMKilled", &json!({}), &json!({})), &Facts::default());
        assert_eq!(ended.started.instance, Instance { instance_id: "n/p".into(), dns_name: "node-1".into() });
        assert_eq!(ended.started.image_digest.as_deref(), Some("docker.io/library/busybox@sha256:1"));
        assert_eq!((ended.usage.memory_limit_bytes, ended.usage.cpu_limit_millis), (Some(64 << 20), Some(500)));
        assert_eq!(ended.usage.max_memory_bytes, Some(64 << 20));
    }

    #[test]
    fn times_of_whole_seconds_neither_precede_the_launch_nor_a_stop_in_the_same_second() {
        let launched_at = at("2026-11-22T10:00:05.4Z");
        let facts = |end_seen_at: &str| Facts {
            launched_at: Some(launched_at),
            end_seen_at: Some(at(end_seen_at)),
            ..Facts::default()
        };
        let pod = ended_pod(0, "Completed", &json!({}), &json!({}));
        let soon = ended(&pod, &facts("2026-11-22T10:00:09.7Z"));
        assert_eq!((soon.started.at, soon.finished_at), (launched_at, at("2026-11-22T10:00:09.7Z")));
        assert_eq!(ended(&pod, &facts("2026-11-22T10:09:00Z")).finished_at, at("2026-11-22T10:00:09.999Z"));
    }

    #[test]
    fn what_did_not_start_says_why_and_whether_it_may_be_tried_again() {
        let none = json!({});
        let failed = |reason: &str, message: &str| json!({ "phase": "Failed", "reason": reason, "message": message });
        let not_executed = json!({ "terminated": { "exitCode": 128, "reason": "StartError",
            "message": "exec: \"/bin/sh\": stat /bin/sh: no such file or directory: unknown",
            "startedAt": "1970-01-01T00:00:00Z", "finishedAt": END } });
        let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
        let table = [
            (pod(&not_executed, &none, &none), "its container can't be started: exec", StartFault::Task),
            (
                pod(&Value::Null, &failed("OutOfcpu", "no room"), &none),
                "its node did not take it: OutOfcpu: no room",
                StartFault::Machine,
            ),
            (
                pod(&Value::Null, &failed("Evicted", "The node had condition: [DiskPressure]."), &none),
                "its node did not take it",
                StartFault::Displaced,
            ),
            (
                pod(&waiting, &failed("Evicted", "low on disk"), &none),
                "its node did not take it: Evicted: low on disk",
                StartFault::Displaced,
            ),
            (
                pod(&waiting, &failed("DeadlineExceeded", "m"), &none),
                "it did not start within its deadline",
                StartFault::Task,
            ),
            (pod(&waiting, &none, &deleted(0)), "its pod was deleted before it started", StartFault::Displaced),
        ];
        for (pod, words, expected) in table {
            match seen(&pod, &Facts::default()) {
                Observation::NeverRan { reason, fault } => {
                    assert!(reason.starts_with(words), "{reason}");
                    assert_eq!(fault, expected, "{reason}");
                }
                other => panic!("{words}: {other:?}"),
            }
        }
        let stopped = Facts { was_asked_to_stop: true, ..Facts::default() };
        let expected = Observation::NeverRan { reason: "stopped before it started".into(), fault: StartFault::Task };
        assert_eq!(seen(&pod(&waiting, &none, &deleted(0)), &stopped), expected);
    }

    #[test]
    fn what_may_have_run_is_lost_and_never_called_unstarted() {
        let none = json!({});
        let running = json!({ "running": { "startedAt": START } });
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
        let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
        let unknown = json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown", "message": "m" } });
        let was_seen = Facts { was_seen_running: true, ..Facts::default() };
        let node_lost = Facts { is_node_lost: true, ..Facts::default() };
        let quiet = Facts::default();
        let table = [
            (pod(&Value::Null, &evicted, &none), &quiet, "evicted from its node: low on memory"),
            (pod(&running, &evicted, &none), &quiet, "its end was not seen: evicted from its node: low on memory"),
            (pod(&waiting, &evicted, &none), &was_seen, "its end was not seen"),
            (pod(&waiting, &none, &deleted(0)), &was_seen, "its pod was deleted"),
            (pod(&unknown, &none, &none), &quiet, "its node lost track of it: m"),
            (pod(&running, &none, &deleted(30)), &node_lost, "its node node-1 was lost"),
            (pod(&running, &none, &deleted(0)), &quiet, "its pod was deleted by force"),
        ];
        for (pod, facts, words) in table {
            match seen(&pod, facts) {
                Observation::Gone { reason } => assert!(reason.starts_with(words), "{reason}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_goes_on_is_not_concluded() {
        let none = json!({});
        let running = json!({ "running": { "startedAt": START } });
        let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
        let quiet = Facts::default();
        assert!(matches!(seen(&pod(&running, &none, &none), &quiet), Observation::Running(_)));
        // Its node may only be slow to say so.
        assert!(matches!(seen(&pod(&running, &none, &deleted(30)), &quiet), Observation::Running(_)));
        for pod in [pod(&waiting, &none, &none), pod(&waiting, &none, &deleted(30)), pod(&Value::Null, &none, &none)] {
            assert_eq!(seen(&pod, &quiet), Observation::Starting);
        }
    }

    #[test]
    fn a_container_in_trouble_is_given_up_after_its_grace() {
        let waiting = |reason: &str| json!({ "waiting": { "reason": reason, "message": "m" } });
        let trouble = |pull_error: &str, waited_secs: i64| Facts {
            waiting_since: Some(now() - SignedDuration::from_secs(waited_secs)),
            pull_error: Some(pull_error.to_owned()),
            pull_grace: SignedDuration::from_secs(60),
            ..Facts::default()
        };
        let unknown = "manifest unknown: manifest unknown";
        let away = "dial tcp: lookup r.example.org: no such host";
        let early = trouble(unknown, 59);
        let late = trouble(unknown, 60);
        let outage = trouble(away, 60);
        let give_up = |reason: String, fault| Reading::GiveUp(Verdict { reason, fault });
        let starting = Reading::Seen(Observation::Starting);
        let table = [
            (
                "InvalidImageName",
                &early,
                give_up("image `busybox:2` can't be pulled: its name is not valid".into(), StartFault::Task),
            ),
            ("ImagePullBackOff", &early, starting.clone()),
            (
                "ImagePullBackOff",
                &late,
                give_up(format!("image `busybox:2` can't be pulled: {unknown}"), StartFault::Task),
            ),
            ("ErrImagePull", &outage, give_up(format!("image `busybox:2` can't be pulled: {away}"), StartFault::Image)),
            ("CreateContainerConfigError", &late, give_up("its container can't be made: m".into(), StartFault::Task)),
            ("PodInitializing", &late, starting),
        ];
        for (reason, facts, expected) in table {
            assert_eq!(
                read(&pod(&waiting(reason), &json!({ "phase": "Pending" }), &json!({})), facts, now()),
                expected
            );
        }
    }
}
