//! What a pod says about its attempt: translates Kubernetes' terms to ours. Pure; any input besides the pod is passed
//! in.
//!
//! The end of an attempt that has run is read here; `unstarted` reads attempts that have not run, or may not have.

use jiff::{SignedDuration, Timestamp};

use super::facts::{Facts, FirstOutput, Now};
use super::reading::{Reading, clock_offset, is_overdue, node_lost, started, taken_away};
use super::shell;
use super::unstarted;
use super::view::{Container, LOST_AT_RESTART, Phase, PodView, STATUS_UNKNOWN};
use crate::engine::container::refusal::is_final;
use crate::engine::container::signal::signal_name;
use crate::model::{EndCause, Ended, Observation, StartFault, Usage};

/// The exit code of a process ended by SIGKILL.
const KILLED: i64 = 137;
/// A command that ended sooner than this may never have been executed, which only its output reveals.
const SOON: SignedDuration = SignedDuration::from_secs(3);

pub(super) fn read(pod: &PodView, facts: &Facts, now: Now) -> Reading {
    let seen = Reading::Seen;
    match (&pod.container, pod.deleting) {
        (Container::Terminated { .. }, _) => terminated(pod, facts, now),
        _ if pod.phase == Phase::Failed => unstarted::failed(pod, facts),
        _ if pod.phase == Phase::Succeeded => {
            Reading::lost(pod, facts, "its pod succeeded, and its node has forgotten how".to_owned())
        }
        (Container::Running { at }, None) => seen(Observation::Running(started(pod, facts, *at))),
        (Container::Running { at }, Some(deleting)) => match (is_overdue(deleting, facts), facts.is_node_lost) {
            (true, true) => Reading::lost(pod, facts, node_lost(pod)),
            (true, false) if deleting.is_released() => {
                Reading::lost(pod, facts, "its pod was deleted by force from outside of flotilla".to_owned())
            }
            _ => seen(Observation::Running(started(pod, facts, *at))),
        },
        (Container::Waiting { .. } | Container::Unknown, Some(deleting)) => unstarted::deleted(pod, deleting, facts),
        (Container::Waiting { reason, message }, None) => unstarted::waiting(pod, reason, message, facts),
        (Container::Unknown, None) => seen(Observation::Starting),
    }
}

/// A pod that was observed earlier and no longer exists: someone has removed our finalizer.
pub(super) fn read_vanished(pod: &PodView, facts: &Facts, now: Now) -> Reading {
    match &pod.container {
        Container::Terminated { .. } => terminated(pod, facts, now),
        _ => Reading::lost(pod, facts, "its pod was removed from outside of flotilla".to_owned()),
    }
}

fn terminated(pod: &PodView, facts: &Facts, now: Now) -> Reading {
    let Container::Terminated { exit_code, reason, message, started_at, finished_at } = &pod.container else {
        return Reading::Seen(Observation::Starting);
    };
    match (reason.as_str(), started_at) {
        (STATUS_UNKNOWN, _) => return unstarted::without_a_trace(pod, facts),
        (LOST_AT_RESTART, _) => {
            let started = started_at.or(facts.running_since).map(|at| started(pod, facts, at));
            let reason = "its node restarted while it ran, so that how it ended is not known".to_owned();
            return Reading::Seen(Observation::Lost { reason, started, last_seen_at: facts.last_seen_at });
        }
        // Runtimes report this for a command that could not be executed at all.
        ("StartError" | "ContainerCannotRun" | "RunContainerError", _) | (_, None) if *exit_code != 0 => {
            return not_executed(pod, facts, message);
        }
        _ => {}
    }
    let started_at = started_at.unwrap_or(now.wall);
    if shell::may_have_failed(*exit_code) && finished_at.is_none_or(|end| end.duration_since(started_at) < SOON) {
        match &facts.first_output {
            FirstOutput::NotAsked => return Reading::AskOutput,
            FirstOutput::Known(output) => {
                if let Some(reason) = shell::unusable(&pod.shell, output) {
                    return Reading::never(reason, StartFault::Task);
                }
            }
        }
    }
    Reading::Seen(Observation::Ended(ended(pod, facts, now, started_at)))
}

fn not_executed(pod: &PodView, facts: &Facts, message: &str) -> Reading {
    if pod.has_run_before() {
        return Reading::lost(pod, facts, format!("its node lost it, and could not start it again: {message}"));
    }
    if let Some(reason) = shell::unusable(&pod.shell, message) {
        return Reading::never(reason, StartFault::Task);
    }
    let fault = if is_final(500, message) { StartFault::Task } else { StartFault::Machine };
    Reading::never(format!("its container can't be started: {message}"), fault)
}

fn ended(pod: &PodView, facts: &Facts, now: Now, started_at: Timestamp) -> Ended {
    let Container::Terminated { exit_code, reason, finished_at, .. } = &pod.container else {
        unreachable!("only a container that has terminated is read so")
    };
    let started = started(pod, facts, started_at);
    let killed_for_memory = reason == "OOMKilled";
    let limit = started.usage.memory_limit_bytes;
    let measured = facts.peak.max_memory_bytes;
    let usage = Usage {
        // The kernel kills only what has reached the limit, whether or not a sample caught it.
        max_memory_bytes: if killed_for_memory { measured.max(limit) } else { measured },
        max_cpu_millis: facts.peak.max_cpu_millis,
        cpu_time_ms: facts.peak.cpu_time_ms,
        ..started.usage
    };
    let offset = clock_offset(started_at, facts);
    let end = finished_at.map_or(now.wall, |end| end.saturating_add(offset).unwrap_or(end));
    Ended {
        finished_at: end_of(end, facts.end_seen_at.unwrap_or(now.wall)).max(started.at),
        exit_code: *exit_code,
        cause: end_cause(*exit_code, killed_for_memory, pod, facts),
        killed_for_memory,
        usage,
        is_log_complete: false,
        notes: Vec::new(),
        started,
    }
}

/// A node reports the second of an end. The end was not before that second, and not after it was observed.
fn end_of(second: Timestamp, seen_at: Timestamp) -> Timestamp {
    const LATEST: SignedDuration = SignedDuration::from_millis(999);
    let latest = second.saturating_add(LATEST).unwrap_or(second);
    latest.min(seen_at)
}

fn end_cause(exit_code: i64, is_killed_for_memory: bool, pod: &PodView, facts: &Facts) -> EndCause {
    if facts.was_asked_to_stop && pod.deleting.is_some() {
        return EndCause::Stopped;
    }
    let signal = exit_code.checked_sub(128).filter(|signal| (1..=31).contains(signal));
    let by_itself =
        signal.and_then(signal_name).map_or(EndCause::Exited, |name| EndCause::Signal { name: name.to_owned() });
    if exit_code == 0 || is_killed_for_memory && exit_code == KILLED {
        return by_itself;
    }
    if pod.reason.as_deref() == Some("DeadlineExceeded") || facts.is_job_past_deadline && pod.deleting.is_some() {
        return EndCause::Deadline;
    }
    // It was already in progress when it was given up.
    if let Some(verdict) = facts.verdict.as_ref().filter(|_| pod.deleting.is_some()) {
        return EndCause::GivenUp { why: verdict.reason.clone() };
    }
    if let Some(by) = taken_away(pod, facts) {
        return EndCause::Outside { by };
    }
    by_itself
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::engine::kubernetes::facts::{Evidence, Trouble, Verdict};
    use crate::model::Instance;
    use serde_json::{Value, json};

    const CREATED: &str = "2026-11-22T10:00:00Z";
    const START: &str = "2026-11-22T10:00:05Z";
    const END: &str = "2026-11-22T10:00:09Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Now {
        Now { wall: at("2026-11-22T10:10:00Z"), uptime: Duration::from_mins(10) }
    }

    /// A pod with this state of its container, and these status fields.
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
            other => panic!("nothing is seen: {other:?}"),
        }
    }

    fn ended(pod: &PodView, facts: &Facts) -> Ended {
        match seen(pod, facts) {
            Observation::Ended(ended) => ended,
            other => panic!("{other:?} is no end"),
        }
    }

    /// What is known of a pod without evidence in its events and output that was deleted long ago.
    fn quiet() -> Facts {
        Facts {
            evidence: Evidence::Nothing,
            first_output: FirstOutput::Known(String::new()),
            had_grace: true,
            released_for: Duration::from_secs(11),
            failed_for: Duration::from_secs(11),
            ..Facts::default()
        }
    }

    fn deleted(grace: i64) -> Value {
        json!({ "deletionTimestamp": "2026-11-22T10:00:10Z", "deletionGracePeriodSeconds": grace })
    }

    #[test]
    fn each_end_has_its_cause() {
        let none = json!({});
        let quiet = quiet();
        let asked = Facts { was_asked_to_stop: true, ..quiet.clone() };
        let suspended = Facts { was_suspended: true, ..quiet.clone() };
        let job_gone = Facts { is_job_gone: true, ..quiet.clone() };
        let job_deadline = Facts { is_job_past_deadline: true, ..quiet.clone() };
        let verdict = Verdict { reason: "no such host".to_owned(), fault: StartFault::Image };
        let given_up = Facts { verdict: Some(verdict), ..quiet.clone() };
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
            (ended_pod(137, "OOMKilled", &none, &deleted(30)), &quiet, EndCause::Signal { name: "SIGKILL".into() }),
            (ended_pod(3, "OOMKilled", &none, &none), &quiet, EndCause::Exited),
            (ended_pod(143, "OOMKilled", &none, &deleted(30)), &quiet, outside("its pod was deleted")),
            (ended_pod(143, "Error", &none, &deleted(30)), &suspended, outside("its job was suspended")),
            (ended_pod(143, "Error", &none, &deleted(30)), &job_gone, outside("its job was deleted")),
            (ended_pod(143, "Error", &none, &deleted(30)), &job_deadline, EndCause::Deadline),
            (ended_pod(143, "Error", &none, &deleted(30)), &asked, EndCause::Stopped),
            (ended_pod(0, "Completed", &none, &deleted(30)), &asked, EndCause::Stopped),
            // A stop was requested, but it ended before that was carried out.
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
            (ended_pod(143, "Error", &none, &deleted(30)), &given_up, EndCause::GivenUp { why: "no such host".into() }),
            (ended_pod(0, "Completed", &none, &deleted(30)), &given_up, EndCause::Exited),
        ];
        for (pod, facts, cause) in table {
            assert_eq!(ended(&pod, facts).cause, cause, "{pod:?}");
        }
    }

    #[test]
    fn an_end_tells_its_place_its_limits_and_the_least_peak_that_out_of_memory_means() {
        let ended = ended(&ended_pod(137, "OOMKilled", &json!({}), &json!({})), &quiet());
        assert!(ended.killed_for_memory);
        assert_eq!(ended.started.instance, Instance { instance_id: "n/p".into(), dns_name: "node-1".into() });
        assert_eq!(ended.started.image_digest.as_deref(), Some("docker.io/library/busybox@sha256:1"));
        assert_eq!((ended.usage.memory_limit_bytes, ended.usage.cpu_limit_millis), (Some(64 << 20), Some(500)));
        assert_eq!(ended.usage.max_memory_bytes, Some(64 << 20));
    }

    #[test]
    fn times_of_whole_seconds_do_not_precede_the_launch() {
        let launched_at = at("2026-11-22T10:00:05.4Z");
        let facts = |end_seen_at: &str| Facts {
            launched_at: Some(launched_at),
            running_seen_at: Some(at("2026-11-22T10:00:06Z")),
            end_seen_at: Some(at(end_seen_at)),
            ..quiet()
        };
        let pod = ended_pod(0, "Completed", &json!({}), &json!({}));
        let soon = ended(&pod, &facts("2026-11-22T10:00:09.7Z"));
        assert_eq!((soon.started.at, soon.finished_at), (launched_at, at("2026-11-22T10:00:09.7Z")));
        assert_eq!(ended(&pod, &facts("2026-11-22T10:09:00Z")).finished_at, at("2026-11-22T10:00:10.399Z"));
    }

    #[test]
    fn a_node_whose_clock_is_wrong_neither_starts_a_run_before_its_launch_nor_ends_it_in_the_future() {
        let pod = ended_pod(0, "Completed", &json!({}), &json!({}));
        // The node wrote 10:00:05 to 10:00:09, while our clock was an hour ahead or behind.
        for hour in ["09", "11"] {
            let time = |rest: &str| at(&format!("2026-11-22T{hour}:{rest}Z"));
            let facts = Facts {
                launched_at: Some(time("00:04")),
                running_seen_at: Some(time("00:06")),
                end_seen_at: Some(time("00:10.5")),
                ..quiet()
            };
            let ended = ended(&pod, &facts);
            assert!(ended.started.at >= time("00:04") && ended.started.at <= time("00:06"), "{ended:?}");
            assert!(ended.finished_at <= time("00:10.5") && ended.finished_at >= time("00:08"), "{ended:?}");
        }
    }

    #[test]
    fn an_end_that_only_the_runtime_wrote_is_lost_with_what_is_known_of_its_start() {
        let seen_at = at("2026-11-22T10:00:07Z");
        let facts = Facts { last_seen_at: Some(seen_at), ..quiet() };
        match seen(&ended_pod(255, "Unknown", &json!({}), &json!({})), &facts) {
            Observation::Lost { reason, started, last_seen_at } => {
                assert_eq!(reason, "its node restarted while it ran, so that how it ended is not known");
                assert_eq!((started.unwrap().at, last_seen_at), (at(START), Some(seen_at)));
            }
            other => panic!("{other:?}"),
        }
        // The exit code is the command's own.
        assert_eq!(ended(&ended_pod(255, "Error", &json!({}), &json!({})), &quiet()).exit_code, 255);
    }

    #[test]
    fn a_shell_that_cannot_be_executed_is_the_images_fault_also_where_the_container_started() {
        let end = "2026-11-22T10:00:06Z";
        let state = |exit_code: i64| json!({ "terminated": { "exitCode": exit_code, "reason": "Error", "startedAt": START, "finishedAt": end } });
        let facts = |output: &str| Facts { first_output: FirstOutput::Known(output.to_owned()), ..Facts::default() };
        let pod_of = |exit_code| {
            let mut view = pod(&state(exit_code), &json!({}), &json!({}));
            view.shell = "/bin/sh".to_owned();
            view
        };
        assert_eq!(read(&pod_of(1), &Facts::default(), now()), Reading::AskOutput);
        match seen(&pod_of(1), &facts("exec /bin/sh: exec format error\n")) {
            Observation::NeverRan { reason, fault: StartFault::Task } => {
                assert!(reason.starts_with("the image has no usable shell: `/bin/sh`"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ended(&pod_of(1), &facts("hello\nexec /bin/sh: exec format error\n")).exit_code, 1);
        // No runtime fails a container with 3.
        assert_eq!(ended(&pod_of(3), &Facts::default()).exit_code, 3);
    }

    #[test]
    fn what_did_not_start_says_why_and_whether_it_may_be_tried_again() {
        use StartFault::{Displaced, Machine, Task};
        let none = json!({});
        let failed = |reason: &str, message: &str| json!({ "phase": "Failed", "reason": reason, "message": message });
        let not_executed = |message: &str| {
            json!({ "terminated": { "exitCode": 128, "reason": "StartError", "message": message,
                "startedAt": "1970-01-01T00:00:00Z", "finishedAt": END } })
        };
        let missing = not_executed("exec: \"/bin/sh\": stat /bin/sh: no such file or directory: unknown");
        let busy = not_executed("failed to create shim task: resource temporarily unavailable");
        let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
        let init = |reason: &str, code: i64| {
            json!({ "phase": "Failed", "initContainerStatuses": [{ "name": "prep", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": { "terminated": { "exitCode": code, "reason": reason } } }] })
        };
        let quiet = quiet();
        let table = [
            (pod(&missing, &none, &none), "its container can't be started: exec", Task),
            (pod(&busy, &none, &none), "its container can't be started: failed", Machine),
            (
                pod(&Value::Null, &failed("OutOfcpu", "no room"), &none),
                "its node did not take it: OutOfcpu: no room",
                Machine,
            ),
            (
                pod(&Value::Null, &failed("Evicted", "The node had condition: [DiskPressure]."), &none),
                "its node did not take it",
                Displaced,
            ),
            (
                pod(&waiting, &failed("Evicted", "low on disk"), &none),
                "evicted from its node: low on disk, before its command started",
                Displaced,
            ),
            (
                pod(&waiting, &failed("DeadlineExceeded", "m"), &none),
                "its pod's deadline passed before it started",
                Task,
            ),
            (pod(&waiting, &none, &deleted(0)), "its pod was deleted, before its command started", Displaced),
            (pod(&waiting, &init("Error", 3), &none), "it could not be prepared: init container `prep` ended", Task),
            (pod(&waiting, &init("Error", 143), &deleted(30)), "its pod was deleted, before", Displaced),
            (pod(&waiting, &init("Unknown", 255), &none), "its node restarted before its command", Machine),
        ];
        for (pod, words, expected) in table {
            match seen(&pod, &quiet) {
                Observation::NeverRan { reason, fault } => {
                    assert!(reason.starts_with(words), "{reason}");
                    assert_eq!(fault, expected, "{reason}");
                }
                other => panic!("{words}: {other:?}"),
            }
        }
        let stopped = Facts { was_asked_to_stop: true, ..quiet };
        let expected = Observation::NeverRan { reason: "stopped before it started".into(), fault: Displaced };
        assert_eq!(seen(&pod(&waiting, &none, &deleted(0)), &stopped), expected);
    }

    #[test]
    fn what_may_have_run_is_lost_and_never_called_unstarted() {
        let none = json!({});
        let running = json!({ "running": { "startedAt": START } });
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
        let collected = json!({ "phase": "Failed", "conditions": [
            { "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": "the node is gone" },
        ] });
        let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
        let unknown = json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown", "message": "m" } });
        let quiet = quiet();
        let was_seen = Facts { running_since: Some(at(START)), ..quiet.clone() };
        let ran = Facts { evidence: Evidence::Ran, ..quiet.clone() };
        let long_ago = Facts { deleting_for: Duration::from_secs(91), ..quiet.clone() };
        let node_lost = Facts { is_node_lost: true, ..long_ago.clone() };
        let table = [
            (pod(&Value::Null, &evicted, &none), &quiet, "evicted from its node: low on memory"),
            (pod(&running, &evicted, &none), &quiet, "its end was not seen: evicted from its node: low on memory"),
            (pod(&waiting, &evicted, &none), &was_seen, "its end was not seen"),
            (pod(&waiting, &none, &deleted(0)), &was_seen, "its end was not seen: its pod was deleted"),
            (pod(&waiting, &none, &deleted(0)), &ran, "its node lost the container after it was started"),
            (
                pod(&waiting, &collected, &none),
                &quiet,
                "its pod was taken away: the node is gone, and its node has no trace",
            ),
            (
                pod(&unknown, &none, &none),
                &quiet,
                "its pod failed, and its node has no trace of its container: whether",
            ),
            (pod(&unknown, &none, &none), &ran, "its node lost the container after it was started"),
            (pod(&running, &none, &deleted(30)), &node_lost, "its node node-1 was lost"),
            (pod(&waiting, &none, &deleted(30)), &node_lost, "its node node-1 was lost"),
            (pod(&running, &none, &deleted(0)), &long_ago, "its pod was deleted by force"),
        ];
        for (pod, facts, words) in table {
            match seen(&pod, facts) {
                Observation::Lost { reason, .. } => assert!(reason.starts_with(words), "{reason}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_goes_on_is_not_concluded() {
        let none = json!({});
        let running = json!({ "running": { "startedAt": START } });
        let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
        let quiet = quiet();
        assert!(matches!(seen(&pod(&running, &none, &none), &quiet), Observation::Running(_)));
        // Its node may only be slow to report it.
        assert!(matches!(seen(&pod(&running, &none, &deleted(30)), &quiet), Observation::Running(_)));
        for pod in [pod(&waiting, &none, &none), pod(&waiting, &none, &deleted(30)), pod(&Value::Null, &none, &none)] {
            assert_eq!(seen(&pod, &quiet), Observation::Starting);
        }
        // Released by force, so that its node may still start it.
        let forced = Facts { had_grace: false, ..quiet.clone() };
        assert_eq!(seen(&pod(&waiting, &none, &deleted(0)), &forced), Observation::Starting);
        // Just released: the news of a start may be in transit.
        let just_now = Facts { released_for: Duration::from_secs(1), ..quiet };
        assert_eq!(seen(&pod(&waiting, &none, &deleted(0)), &just_now), Observation::Starting);
    }

    #[test]
    fn a_container_in_trouble_is_given_up_after_its_grace() {
        use StartFault::{Image, Machine, Task};
        let trouble = |words: &str, waited_secs: u64| Facts {
            trouble: Some(Trouble { is_about_image: true, words: words.to_owned(), init: None }),
            troubled_for: Duration::from_secs(waited_secs),
            pull_grace: Duration::from_mins(1),
            ..Facts::default()
        };
        let unknown = "manifest unknown: manifest unknown";
        let away = "dial tcp: lookup r.example.org: no such host";
        let early = trouble(unknown, 59);
        let late = trouble(unknown, 60);
        let outage = trouble(away, 60);
        let give_up = |reason: String, fault| Reading::GiveUp(Verdict { reason, fault });
        let starting = Reading::Seen(Observation::Starting);
        let made = |words: &str| format!("its container can't be made: {words}");
        let table = [
            (
                "InvalidImageName",
                "m",
                &early,
                give_up("image `busybox:2` can't be pulled: its name is not valid".into(), Task),
            ),
            ("ImagePullBackOff", "m", &early, starting.clone()),
            ("ImagePullBackOff", "m", &late, give_up(format!("image `busybox:2` can't be pulled: {unknown}"), Task)),
            ("ErrImagePull", "m", &outage, give_up(format!("image `busybox:2` can't be pulled: {away}"), Image)),
            ("CreateContainerConfigError", "m", &late, give_up(made("m"), Task)),
            ("CreateContainerConfigError", "timed out waiting", &late, give_up(made("timed out waiting"), Machine)),
            ("PodInitializing", "m", &late, starting),
        ];
        for (reason, message, facts, expected) in table {
            let state = json!({ "waiting": { "reason": reason, "message": message } });
            assert_eq!(read(&pod(&state, &json!({ "phase": "Pending" }), &json!({})), facts, now()), expected);
        }
    }
}
