//! Reads what an inspected container says about its attempt: pure translation from Docker's terms to ours.

use bollard::models::{ContainerInspectResponse, PortMap};
use jiff::Timestamp;

use super::container::UNENFORCED_LABEL;
use super::inspect::{exit_code, finished_at, started_at};
use super::memory::{EndSeen, Memory};
use super::usage::Peak;
use crate::engine::container::signal::signal_name;
use crate::model::{EndCause, Ended, Event, Instance, Observation, StartFault, Started, Usage};

/// What is known about a container besides what it reports itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The daemon's machine.
    pub machine_name: String,
    pub image_digest: Option<String>,
    pub peak: Peak,
    pub memory: Memory,
    /// Whether this server asked the daemon to stop it.
    pub was_asked_to_stop: bool,
    /// It was seen running, and not again since the daemon was away.
    pub ended_with_daemon_away: bool,
    /// When it was last known to be running.
    pub last_seen_at: Option<Timestamp>,
    /// Why the shell that runs the command could not be started.
    pub shell_error: Option<String>,
}

/// A container's stage of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Created, not started yet.
    Created,
    /// Created, but its start failed; Docker reports why.
    Failed,
    /// Its command is running or paused.
    Running,
    Ended,
}

pub(super) fn stage(container: &ContainerInspectResponse) -> Stage {
    let state = container.state.as_ref();
    let is_running = state.is_some_and(|state| state.running == Some(true) || state.paused == Some(true));
    let has_error = state.and_then(|state| state.error.as_deref()).is_some_and(|error| !error.is_empty());
    match started_at(container) {
        _ if is_running => Stage::Running,
        Some(_) => Stage::Ended,
        None if has_error => Stage::Failed,
        None => Stage::Created,
    }
}

/// Why the start of a container failed, as Docker reports it.
pub(super) fn start_error(container: &ContainerInspectResponse) -> String {
    let error = container.state.as_ref().and_then(|state| state.error.clone());
    error.filter(|error| !error.is_empty()).unwrap_or_else(|| "the container was never started".to_owned())
}

pub(super) fn read_started(container: &ContainerInspectResponse, facts: &Facts, now: Timestamp) -> Started {
    let at = started_at(container).unwrap_or(now);
    let host_config = container.host_config.as_ref();
    let limit = |value: Option<i64>| value.filter(|value| *value > 0);
    let short_id = container.id.as_deref().map(|id| id.get(..12).unwrap_or(id));
    Started {
        at,
        instance: Instance {
            instance_id: short_id.unwrap_or_default().to_owned(),
            dns_name: facts.machine_name.clone(),
        },
        usage: Usage {
            memory_limit_bytes: limit(host_config.and_then(|config| config.memory)),
            cpu_limit_millis: limit(host_config.and_then(|config| config.nano_cpus)).map(|nanos| nanos / 1_000_000),
            ..Usage::default()
        },
        image_digest: facts.image_digest.clone().or_else(|| container.image.clone()),
        notes: notes(container, facts, at),
    }
}

fn notes(container: &ContainerInspectResponse, facts: &Facts, at: Timestamp) -> Vec<Event> {
    let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
    let unenforced = labels.and_then(|labels| labels.get(UNENFORCED_LABEL)).map_or("", String::as_str);
    let limits = unenforced.split(',').filter(|limit| !limit.is_empty());
    let limits = limits.map(|limit| {
        let message =
            format!("the limit of {} is not enforced: the Docker daemon can't on this machine", words_of(limit));
        Event::warning(at, "LimitNotEnforced", message)
    });
    let ports = container.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
    let ports = ports.into_iter().flat_map(published_ports).map(|(inside, outside)| {
        let message = format!("port {inside} of the container is port {outside} of {}", facts.machine_name);
        Event::normal(at, "PortPublished", message)
    });
    limits.chain(ports).map(|event| event.from_source("docker")).collect()
}

fn words_of(limit: &str) -> &str {
    match limit {
        "ephemeral_storage" => "scratch disk (ephemeral_storage)",
        "swap" => "swap",
        other => other,
    }
}

/// Container ports with the machine's ports, each pair once: Docker lists IPv4 and IPv6 separately.
fn published_ports(ports: &PortMap) -> Vec<(String, String)> {
    let pairs = ports.iter().flat_map(|(inside, bindings)| {
        let outside = bindings.iter().flatten().filter_map(|binding| binding.host_port.clone());
        outside.map(move |outside| (inside.clone(), outside))
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs.dedup();
    pairs
}

/// Reads an ended container. With its init process, a command ended by a signal and one that exited with 128 + n look
/// the same; the first is by far the more common.
pub(super) fn read_ended(container: &ContainerInspectResponse, facts: &Facts, now: Timestamp) -> Observation {
    let started = read_started(container, facts, now);
    let finished_at = finished_at(container).unwrap_or(now).max(started.at);
    let exit_code = exit_code(container);
    if let Some(error) = &facts.shell_error {
        let reason = format!("the image has no usable shell: {error}");
        return Observation::NeverRan { reason, fault: StartFault::Task };
    }
    if is_lost(container, facts.memory.end) {
        let reason = format!(
            "its end was not seen: it was dead when the Docker daemon was started, or shortly before, with exit code \
             {exit_code}, which the daemon notes where it crashed, or its machine lost power or was reset"
        );
        // The reported end is the time of the daemon's start.
        let last_seen_at = facts.last_seen_at.or(Some(started.at));
        return Observation::Lost { reason, started: Some(started), last_seen_at };
    }
    let killed_for_memory = container.state.as_ref().and_then(|state| state.oom_killed) == Some(true);
    let cause = end_cause(exit_code, killed_for_memory, facts);
    let limit = started.usage.memory_limit_bytes;
    let measured = facts.peak.memory_bytes;
    let usage = Usage {
        // The kernel kills only containers that reached the limit, whether a sample caught it or not.
        max_memory_bytes: if killed_for_memory { measured.max(limit) } else { measured },
        max_cpu_millis: facts.peak.cpu_millis,
        cpu_time_ms: facts.peak.cpu_time_ms,
        ..started.usage
    };
    Observation::Ended(Ended {
        started,
        finished_at,
        exit_code,
        cause,
        killed_for_memory,
        usage,
        is_log_complete: false,
        notes: vec![],
    })
}

/// The exit code a restarted daemon records for a container that it finds dead.
pub(super) const FOUND_DEAD: i64 = 255;
/// The exit code a daemon before Docker 23 records if containerd does not know the container either
/// (<https://github.com/moby/moby/blob/v20.10.24/daemon/daemon.go>, `restore`).
const FOUND_DEAD_BEFORE_23: i64 = 0;

/// Whether the end was not observed, so that the exit code is, or may be, the daemon's own; only an observed exit
/// code proves that a command failed.
pub(super) fn is_lost(container: &ContainerInspectResponse, end: EndSeen) -> bool {
    match (exit_code(container), end, network(container)) {
        (_, EndSeen::Yes, _) => false,
        (FOUND_DEAD, _, Network::Held)
        | (FOUND_DEAD, EndSeen::No | EndSeen::Perhaps, Network::Unknown)
        | (FOUND_DEAD_BEFORE_23, EndSeen::No | EndSeen::Perhaps, Network::Held) => true,
        _ => false,
    }
}

/// Whether the end of a container that seems to have succeeded may not have been observed.
pub(super) fn is_doubtful_success(container: &ContainerInspectResponse) -> bool {
    exit_code(container) == FOUND_DEAD_BEFORE_23 && network(container) == Network::Held
}

/// What remains of an ended container's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// Its endpoint, which a daemon that sees a container end releases.
    Held,
    /// Only the sandbox that held the endpoint: a daemon before Docker 27.5 saw the end.
    Released,
    /// Nothing: either a daemon since Docker 27.5 saw the end, or any such daemon was started since.
    Unknown,
}

/// A daemon before 27.5 that finds a container dead at startup has no networks yet, and does not release its endpoint
/// (<https://github.com/moby/moby/blob/v20.10.24/daemon/container_operations.go>, `releaseNetwork`).
fn network(container: &ContainerInspectResponse) -> Network {
    let Some(settings) = container.network_settings.as_ref() else { return Network::Unknown };
    let is_named = |id: Option<&String>| id.is_some_and(|id| !id.is_empty());
    let places = settings.networks.iter().flat_map(|networks| networks.values());
    match places.map(|place| is_named(place.endpoint_id.as_ref())).reduce(|one, other| one || other) {
        Some(true) => Network::Held,
        Some(false) if is_named(settings.sandbox_id.as_ref()) => Network::Released,
        Some(false) | None => Network::Unknown,
    }
}

/// Who ended it. Never decided by comparing the daemon's times with ours.
fn end_cause(exit_code: i64, was_oom_killed: bool, facts: &Facts) -> EndCause {
    const SIGKILL: i64 = 9;
    const SIGTERM: i64 = 15;
    let Memory { signals, has_start, end } = &facts.memory;
    let signal = exit_code.checked_sub(128).filter(|signal| (1..=31).contains(signal));
    let is_killed_code = matches!(signal, Some(SIGKILL | SIGTERM));
    if facts.was_asked_to_stop && (is_killed_code || !signals.is_empty()) {
        return EndCause::Stopped;
    }
    if exit_code == 0 {
        return EndCause::Exited;
    }
    if was_oom_killed && signal == Some(SIGKILL) {
        return EndCause::Signal { name: "SIGKILL".to_owned() };
    }
    // A stopping daemon ends its containers, and a starting one ends those its predecessor left running.
    if is_killed_code && facts.ended_with_daemon_away && !has_start {
        return EndCause::Outside { by: "it ended while the Docker daemon was stopped or restarted".to_owned() };
    }
    if let Some(sent) = signals.last() {
        let name = signal_name(*sent).unwrap_or("a signal");
        return EndCause::Outside { by: format!("another client of the Docker daemon sent {name}") };
    }
    if is_killed_code && end.is_before_daemon() {
        let why = "the Docker daemon was started anew since, and does not remember who ended it, if anybody did";
        return EndCause::Forgotten { why: why.to_owned() };
    }
    match signal.and_then(signal_name) {
        Some(name) => EndCause::Signal { name: name.to_owned() },
        None => EndCause::Exited,
    }
}

/// Why the init process could not start the shell, read from the only line of output in that case, its own. The line
/// comes from <https://github.com/krallin/tini/blob/v0.19.0/src/tini.c>, `spawn`, or from `catatonit`, which some
/// distributions use instead.
pub(super) fn shell_error(line: &str, shell: &str) -> Option<String> {
    let line = line.trim_end();
    let by_tini = line.strip_prefix("[FATAL tini (").and_then(|rest| {
        let (pid, rest) = rest.split_once(")] exec ")?;
        pid.parse::<u32>().ok()?;
        rest.strip_prefix(shell)?.strip_prefix(" failed: ")
    });
    let by_catatonit = || {
        let (pid, rest) = line.strip_prefix("ERROR (catatonit:")?.split_once("): failed to exec pid1: ")?;
        pid.parse::<u32>().is_ok().then_some(rest)
    };
    by_tini.or_else(by_catatonit).map(|error| format!("{shell} can't be executed: {error}"))
}

/// Exit codes by which an init process reports that it could not start the shell.
pub(super) const fn may_lack_shell(exit_code: i64) -> bool {
    matches!(exit_code, 1 | 126 | 127)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const START: &str = "2026-11-22T10:00:00.5Z";
    const END: &str = "2026-11-22T10:00:10.25Z";
    const NEVER: &str = "0001-01-01T00:00:00Z";

    fn container(state: &Value) -> ContainerInspectResponse {
        let value = json!({
            "Id": "0123456789abcdef",
            "Image": "sha256:1111",
            "State": state,
            "HostConfig": { "Memory": 67_108_864, "NanoCpus": 500_000_000 },
        });
        serde_json::from_value(value).unwrap()
    }

    fn exited(exit_code: i64, oom_killed: bool) -> ContainerInspectResponse {
        container(&json!({
            "Status": "exited", "Running": false, "ExitCode": exit_code, "OOMKilled": oom_killed, "Error": "",
            "StartedAt": START, "FinishedAt": END,
        }))
    }

    fn ended(container: &ContainerInspectResponse, facts: &Facts) -> Ended {
        match read_ended(container, facts, Timestamp::UNIX_EPOCH) {
            Observation::Ended(ended) => ended,
            other => panic!("{other:?} is no end"),
        }
    }

    #[test]
    fn the_stages_of_a_container() {
        let state = |status, running, started, error| json!({ "Status": status, "Running": running, "StartedAt": started, "FinishedAt": NEVER, "Error": error });
        let table = [
            (state("created", false, NEVER, ""), Stage::Created),
            (state("created", false, NEVER, "unable to find user ghost"), Stage::Failed),
            (state("running", true, START, ""), Stage::Running),
            (json!({ "Status": "paused", "Running": true, "Paused": true, "StartedAt": START }), Stage::Running),
            (state("exited", false, START, ""), Stage::Ended),
            (state("dead", false, START, ""), Stage::Ended),
            (json!({}), Stage::Created),
        ];
        for (state, expected) in table {
            assert_eq!(stage(&container(&state)), expected, "{state}");
        }
    }

    #[test]
    fn each_end_has_its_cause() {
        let outside = |by: &str| EndCause::Outside { by: by.to_owned() };
        let signal = |name: &str| EndCause::Signal { name: name.to_owned() };
        let remembered = |signals: &[i64], end| Facts {
            memory: Memory { signals: signals.to_vec(), has_start: false, end },
            ..Facts::default()
        };
        let quiet = remembered(&[], EndSeen::Yes);
        let forgotten = remembered(&[], EndSeen::Unknown);
        let earlier = remembered(&[], EndSeen::Earlier);
        let perhaps = remembered(&[], EndSeen::Perhaps);
        let found_dead = remembered(&[], EndSeen::No);
        let with_daemon_away = Facts { ended_with_daemon_away: true, ..perhaps.clone() };
        // A starting daemon ends what its predecessor left running.
        let by_new_daemon = Facts { ended_with_daemon_away: true, ..remembered(&[15], EndSeen::Yes) };
        let killed = remembered(&[15, 9], EndSeen::Yes);
        // The daemon did not answer for a moment, and went on.
        let mut silent_daemon = Facts { ended_with_daemon_away: true, ..killed.clone() };
        silent_daemon.memory.has_start = true;
        let asked = Facts { was_asked_to_stop: true, ..killed.clone() };
        let asked_too_late = Facts { was_asked_to_stop: true, ..quiet.clone() };
        let by_daemon = outside("it ended while the Docker daemon was stopped or restarted");
        let by_client = outside("another client of the Docker daemon sent SIGKILL");
        let forgotten_by =
            |words: &str| EndCause::Forgotten { why: format!("the Docker daemon was started anew since, and {words}") };
        let by_whom = forgotten_by("does not remember who ended it, if anybody did");
        let table = [
            (0, false, &quiet, EndCause::Exited),
            (3, false, &quiet, EndCause::Exited),
            (139, false, &quiet, signal("SIGSEGV")),
            (255, false, &quiet, EndCause::Exited),
            (255, false, &forgotten, EndCause::Exited),
            (137, true, &quiet, signal("SIGKILL")),
            (1, true, &quiet, EndCause::Exited),
            (0, true, &quiet, EndCause::Exited),
            (143, false, &forgotten, signal("SIGTERM")),
            (143, false, &earlier, by_whom.clone()),
            (137, false, &perhaps, by_whom.clone()),
            (143, false, &found_dead, by_whom),
            (143, false, &with_daemon_away, by_daemon.clone()),
            (143, false, &by_new_daemon, by_daemon),
            (255, false, &earlier, EndCause::Exited),
            (3, false, &perhaps, EndCause::Exited),
            (3, false, &found_dead, EndCause::Exited),
            (139, false, &perhaps, signal("SIGSEGV")),
            (0, false, &killed, EndCause::Exited),
            (137, false, &killed, by_client.clone()),
            (137, false, &silent_daemon, by_client.clone()),
            (1, false, &killed, by_client),
            (137, true, &killed, signal("SIGKILL")),
            (0, false, &asked, EndCause::Stopped),
            (137, false, &asked, EndCause::Stopped),
            (143, false, &asked_too_late, EndCause::Stopped),
            (0, false, &asked_too_late, EndCause::Exited),
        ];
        for (exit_code, oom_killed, facts, cause) in table {
            let ended = ended(&exited(exit_code, oom_killed), facts);
            assert_eq!(ended.cause, cause, "{exit_code} {oom_killed} {facts:?}");
            assert_eq!(ended.killed_for_memory, oom_killed);
        }
    }

    #[test]
    fn a_code_that_a_daemon_may_have_made_up_when_it_was_started_is_no_end_that_was_seen() {
        let network = |sandbox: &str, endpoints: &[&str]| {
            let places = endpoints.iter().map(|id| (format!("of {id}"), json!({ "EndpointID": id })));
            json!({ "SandboxID": sandbox, "Networks": places.collect::<serde_json::Map<_, _>>() })
        };
        let held = network("5", &["e", ""]);
        let released = network("5", &["", ""]);
        let cleared = network("", &[""]);
        let none = network("5", &[]);
        let table = [
            (EndSeen::No, [true, false, true, true]),
            (EndSeen::Perhaps, [true, false, true, true]),
            (EndSeen::Unknown, [true, false, false, false]),
            (EndSeen::Earlier, [true, false, false, false]),
            (EndSeen::Yes, [false; 4]),
        ];
        for (end, expected) in table {
            for (network, expected) in [&held, &released, &cleared, &none].into_iter().zip(expected) {
                let mut container = exited(255, false);
                container.network_settings = Some(serde_json::from_value(network.clone()).unwrap());
                assert_eq!(is_lost(&container, end), expected, "{end:?} {network}");
                container.state.as_mut().unwrap().exit_code = Some(3);
                assert!(!is_lost(&container, end), "no daemon makes this code up");
                container.state.as_mut().unwrap().exit_code = Some(0);
                let is_held = container.network_settings == Some(serde_json::from_value(held.clone()).unwrap());
                let was_found_dead = is_held && matches!(end, EndSeen::No | EndSeen::Perhaps);
                assert_eq!(is_lost(&container, end), was_found_dead, "{end:?} {network}");
            }
            assert_eq!(is_lost(&exited(255, false), end), matches!(end, EndSeen::No | EndSeen::Perhaps), "{end:?}");
        }
        let last_seen_at = Some(Timestamp::UNIX_EPOCH);
        let memory = Memory { end: EndSeen::No, ..Memory::default() };
        let facts = Facts { memory, last_seen_at, ..Facts::default() };
        let seen = read_ended(&exited(255, false), &facts, Timestamp::UNIX_EPOCH);
        let Observation::Lost { reason, started, last_seen_at: seen_at } = seen else { panic!("{seen:?}") };
        assert!(reason.contains("code 255") && reason.contains("lost power"), "{reason}");
        assert_eq!((started.unwrap().at.to_string().as_str(), seen_at), (START, last_seen_at));
    }

    #[test]
    fn a_shell_that_cannot_be_executed_is_told_from_a_command_that_cannot() {
        let table = [
            ("[FATAL tini (7)] exec /bin/sh failed: No such file or directory\n", Some("No such file or directory")),
            ("[FATAL tini (7)] exec /bin/sh failed: Exec format error", Some("Exec format error")),
            ("ERROR (catatonit:2): failed to exec pid1: Permission denied\n", Some("Permission denied")),
            ("/bin/sh: 1: nonsense: not found\n", None),
            ("[FATAL tini (7)] exec /bin/bash failed: No such file or directory\n", None),
            ("[FATAL tini (x)] exec /bin/sh failed: No such file or directory\n", None),
            ("", None),
        ];
        for (line, error) in table {
            let expected = error.map(|error| format!("/bin/sh can't be executed: {error}"));
            assert_eq!(shell_error(line, "/bin/sh"), expected, "{line}");
        }
        let facts =
            Facts { shell_error: Some("/bin/sh can't be executed: Exec format error".into()), ..Facts::default() };
        let seen = read_ended(&exited(1, false), &facts, Timestamp::UNIX_EPOCH);
        let reason = "the image has no usable shell: /bin/sh can't be executed: Exec format error".to_owned();
        assert_eq!(seen, Observation::NeverRan { reason, fault: StartFault::Task });
    }

    #[test]
    fn out_of_memory_tells_limit_and_peak_even_where_no_sample_saw_it() {
        let usage = ended(&exited(137, true), &Facts::default()).usage;
        assert_eq!((usage.max_memory_bytes, usage.memory_limit_bytes), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(usage.cpu_limit_millis, Some(500));
        assert_eq!(ended(&exited(1, false), &Facts::default()).usage.max_memory_bytes, None);
    }

    #[test]
    fn times_and_names_are_those_of_the_container() {
        let facts =
            Facts { machine_name: "m".into(), image_digest: Some("busybox@sha256:2".into()), ..Facts::default() };
        let ended = ended(&exited(0, false), &facts);
        assert_eq!(ended.started.at.to_string(), START);
        assert_eq!(ended.finished_at.to_string(), END);
        assert_eq!(ended.started.instance.instance_id, "0123456789ab");
        assert_eq!(ended.started.image_digest.as_deref(), Some("busybox@sha256:2"));
    }

    #[test]
    fn what_is_not_enforced_and_which_ports_are_open_is_told() {
        let value = json!({
            "Id": "0123456789abcdef",
            "State": { "Running": true, "StartedAt": START },
            "Config": { "Labels": { UNENFORCED_LABEL: "cpu,ephemeral_storage" } },
            "NetworkSettings": { "Ports": {
                "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "49153" }, { "HostIp": "::", "HostPort": "49153" }],
                "81/tcp": null,
            } },
        });
        let container: ContainerInspectResponse = serde_json::from_value(value).unwrap();
        let facts = Facts { machine_name: "m".into(), ..Facts::default() };
        let notes = read_started(&container, &facts, Timestamp::UNIX_EPOCH).notes;
        let messages: Vec<_> = notes.iter().map(|note| note.message.as_str()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[1].contains("scratch disk"), "{messages:?}");
        assert_eq!(messages[2], "port 80/tcp of the container is port 49153 of m");
    }
}
