//! The container of an attempt: its name, its labels and everything passed to Docker. A pure function of the launch
//! and the settings.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding,
};

use super::capacity::Machine;
use super::settings::DockerSettings;
use crate::engine::{EngineError, Identity, LaunchSpec, command};
use crate::model::{AttemptId, TaskSpec};

const MB: i64 = 1024 * 1024;
/// Docker accepts no less than a hundredth of a core.
const LEAST_CPU_MILLIS: i64 = 10;

pub(super) const SERVER_LABEL: &str = "flotilla.server";
pub(super) const CLUSTER_LABEL: &str = "flotilla.cluster";
const RUN_LABEL: &str = "flotilla.run_id";
const ATTEMPT_LABEL: &str = "flotilla.attempt";
const OWNER_LABEL: &str = "flotilla.owner";
const DEFINITION_LABEL: &str = "flotilla.definition_id";
const ALIAS_LABEL: &str = "flotilla.alias";
const GROUP_LABEL: &str = "flotilla.group_name";
/// Prefix of each label given by a launch, so that none passes for one of ours, or for one that another program on
/// the machine acts on.
const USER_LABELS: &str = "flotilla.user/";
/// Requested limits that could not be enforced, for the notes of the run.
pub(super) const UNENFORCED_LABEL: &str = "flotilla.unenforced";

impl Identity {
    /// The filter that matches only our containers.
    pub(super) fn filters(&self) -> HashMap<String, Vec<String>> {
        let labels =
            vec![format!("{SERVER_LABEL}={}", self.installation_id), format!("{CLUSTER_LABEL}={}", self.cluster)];
        HashMap::from([("label".to_owned(), labels)])
    }

    /// The filter that matches the container of one attempt, and copies of it.
    pub(super) fn filters_of(&self, attempt_id: AttemptId) -> HashMap<String, Vec<String>> {
        let AttemptId { run_id, attempt } = attempt_id;
        let mut filters = self.filters();
        let labels = filters.entry("label".to_owned()).or_default();
        labels.extend([format!("{RUN_LABEL}={run_id}"), format!("{ATTEMPT_LABEL}={attempt}")]);
        filters
    }

    pub(super) fn owns(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(SERVER_LABEL) == Some(&self.installation_id) && labels.get(CLUSTER_LABEL) == Some(&self.cluster)
    }
}

/// The attempt named by a container's labels.
pub(super) fn attempt_of(labels: &HashMap<String, String>) -> Option<AttemptId> {
    Some(AttemptId { run_id: labels.get(RUN_LABEL)?.parse().ok()?, attempt: labels.get(ATTEMPT_LABEL)?.parse().ok()? })
}

/// Docker allows no second container with this name, so a second launch finds the first.
pub(super) fn name_of(attempt_id: AttemptId) -> String {
    format!("flotilla-{attempt_id}")
}

/// The body of Docker's create call; `image` is the task's with its tag. [`EngineError::Rejected`] if the cluster's
/// settings forbid it.
pub(super) fn describe(
    spec: &LaunchSpec,
    image: &str,
    config: &DockerSettings,
    identity: &Identity,
    machine: Option<&Machine>,
) -> Result<ContainerCreateBody, EngineError> {
    let task = &spec.task;
    check_privileged(task.privileged, config)?;
    let AttemptId { run_id, attempt } = spec.attempt_id;
    let of_user = spec.execution.labels.iter().map(|(name, value)| (format!("{USER_LABELS}{name}"), value.clone()));
    let mut labels: HashMap<_, _> = of_user.collect();
    labels.extend([
        (SERVER_LABEL.to_owned(), identity.installation_id.clone()),
        (CLUSTER_LABEL.to_owned(), identity.cluster.clone()),
        (RUN_LABEL.to_owned(), run_id.to_string()),
        (ATTEMPT_LABEL.to_owned(), attempt.to_string()),
        (OWNER_LABEL.to_owned(), spec.execution.user.clone()),
        (DEFINITION_LABEL.to_owned(), spec.origin.definition_id.to_string()),
        (GROUP_LABEL.to_owned(), spec.origin.group_name.clone()),
    ]);
    labels.extend(spec.origin.alias.iter().map(|alias| (ALIAS_LABEL.to_owned(), alias.clone())));
    let unenforced = unenforced_limits(spec, machine);
    if !unenforced.is_empty() {
        labels.insert(UNENFORCED_LABEL.to_owned(), unenforced.join(","));
    }
    let ports = || task.ports.iter().map(|port| format!("{port}/tcp"));
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        // The image's own entry point would get the shell as its argument; an empty command drops the image's.
        entrypoint: Some(entry_point(&config.shell, &task.command)),
        cmd: Some(Vec::new()),
        env: Some(env(task)),
        user: task.user.clone().or_else(|| config.user.clone()),
        labels: Some(labels),
        tty: Some(false),
        // An image may name another signal, which not every command handles; runs are stopped by the same signal
        // everywhere.
        stop_signal: Some("SIGTERM".to_owned()),
        exposed_ports: Some(ports().collect()),
        host_config: Some(HostConfig {
            // Each port is bound to a free port of the machine, so that two runs of a task don't conflict.
            port_bindings: Some(ports().map(|port| (port, Some(vec![PortBinding::default()]))).collect()),
            ..host_config(spec, config, &unenforced)
        }),
        ..ContainerCreateBody::default()
    })
}

/// What the init process runs. It exits with the shell, and the kernel then kills everything else in the container.
/// So for a program that the shell waits for to get its grace period, the program must be signalled too
/// ([`TO_WHOLE_GROUP`]), and the shell must keep waiting for it. The shell does so if it has a trap; a program that
/// replaces it by `exec` has none. The exit code is that of a shell without the trap, never the program's: the
/// commands after it were not run.
fn entry_point(shell: &[String], text: &str) -> Vec<String> {
    // On the command's first line, so that the shell's line numbers match the author's.
    const TRAP: &str = "trap 'exit 143' TERM; ";
    let argument = match command::is_posix_shell(shell) {
        true => command::with_prefix(TRAP, text),
        false => command::argument(shell, text),
    };
    shell.iter().cloned().chain([argument]).collect()
}

/// Makes the init process signal the shell and everything it started, instead of the shell alone:
/// <https://github.com/krallin/tini#process-group-killing>. `docker run --init` has no option for it.
const TO_WHOLE_GROUP: &str = "TINI_KILL_PROCESS_GROUP";

fn env(task: &TaskSpec) -> Vec<String> {
    let is_theirs = task.env.iter().any(|var| var.name == TO_WHOLE_GROUP);
    let ours = (!is_theirs).then(|| format!("{TO_WHOLE_GROUP}=1"));
    task.env.iter().map(|var| format!("{}={}", var.name, var.value)).chain(ours).collect()
}

pub(super) fn check_privileged(privileged: Option<bool>, config: &DockerSettings) -> Result<(), EngineError> {
    if privileged == Some(true) && !config.allow_privileged {
        let reason = "the task asks for a privileged container, which this cluster does not allow";
        return Err(EngineError::Rejected(reason.to_owned()));
    }
    Ok(())
}

fn host_config(spec: &LaunchSpec, config: &DockerSettings, unenforced: &[&str]) -> HostConfig {
    let task = &spec.task;
    let is_enforced = |limit: &str| !unenforced.contains(&limit);
    let memory = task.memory_mb.filter(|mb| *mb > 0 && is_enforced("memory")).map(|mb| mb * MB);
    let cpu = task.cpu_millis.filter(|millis| *millis > 0 && is_enforced("cpu"));
    let storage = task.ephemeral_storage_mb.filter(|mb| *mb > 0 && is_enforced("ephemeral_storage"));
    let gpus = task.gpu.filter(|gpus| *gpus > 0);
    HostConfig {
        memory,
        // The same value as for memory means no swap on top of it.
        memory_swap: memory.filter(|_| is_enforced("swap")),
        nano_cpus: cpu.map(|millis| millis.max(LEAST_CPU_MILLIS) * 1_000_000),
        storage_opt: storage.map(|mb| HashMap::from([("size".to_owned(), format!("{mb}M"))])),
        device_requests: gpus.map(|gpus| {
            let capabilities = Some(vec![vec!["gpu".to_owned()]]);
            vec![DeviceRequest { count: Some(gpus), capabilities, ..DeviceRequest::default() }]
        }),
        network_mode: config.network_mode.clone(),
        mounts: Some(
            config
                .mounts
                .iter()
                .map(|mount| Mount {
                    typ: Some(MountType::BIND),
                    source: Some(mount.source.clone()),
                    target: Some(mount.target.clone()),
                    read_only: Some(mount.is_read_only),
                    ..Mount::default()
                })
                .collect(),
        ),
        cap_drop: Some(config.cap_drop.clone()),
        readonly_rootfs: Some(config.read_only_root),
        security_opt: config.no_new_privileges.then(|| vec!["no-new-privileges:true".to_owned()]),
        pids_limit: config.pids_limit,
        privileged: Some(task.privileged == Some(true)),
        // Reaps orphaned processes of the command, and passes SIGTERM on: see [`entry_point`].
        init: Some(true),
        log_config: Some(log_config(spec.log_cap_bytes)),
        ..HostConfig::default()
    }
}

/// Requested limits known in advance to be unavailable on this machine. Those detected only by trying to create the
/// container are added by [`without_storage_limit`].
fn unenforced_limits(spec: &LaunchSpec, machine: Option<&Machine>) -> Vec<&'static str> {
    let Some(machine) = machine else { return Vec::new() };
    let asked = |amount: Option<i64>| amount.is_some_and(|amount| amount > 0);
    let limits = [
        ("memory", asked(spec.task.memory_mb) && !machine.can_limit_memory),
        ("swap", asked(spec.task.memory_mb) && machine.can_limit_memory && !machine.can_limit_swap),
        ("cpu", asked(spec.task.cpu_millis) && !machine.can_limit_cpu),
    ];
    limits.into_iter().filter(|(_, is_missing)| *is_missing).map(|(limit, _)| limit).collect()
}

/// The same container without a disk limit, for a storage driver that does not support one, and with a label that
/// says so.
pub(super) fn without_storage_limit(mut body: ContainerCreateBody) -> ContainerCreateBody {
    if let Some(host_config) = &mut body.host_config {
        host_config.storage_opt = None;
    }
    let label = body.labels.get_or_insert_default().entry(UNENFORCED_LABEL.to_owned()).or_default();
    if !label.is_empty() {
        label.push(',');
    }
    label.push_str("ephemeral_storage");
    body
}

/// Where Docker keeps a container's output until it is in our log.
///
/// Output printed while the server is away waits there, and is lost once the files have been rotated. So the full
/// files hold 1.6 times what our log would take (the driver needs 27 more bytes per line), and all files together,
/// twice that, are the most that a container can fill the disk with. The `local` driver keeps bytes as they are,
/// where `json-file` replaces those that are not UTF-8, and has less overhead.
fn log_config(log_cap_bytes: u64) -> HostConfigLogConfig {
    const FILES: u64 = 5;
    /// Room for the driver's overhead with short lines, independent of the cap.
    const LEAST_BYTES: u64 = 32 << 20;
    let size = (log_cap_bytes / FILES).saturating_mul(2).clamp(LEAST_BYTES, 1 << 40);
    let options =
        [("max-size", format!("{}m", size >> 20)), ("max-file", FILES.to_string()), ("compress", "false".to_owned())];
    HostConfigLogConfig {
        typ: Some("local".to_owned()),
        config: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Origin;
    use crate::model::{DefinitionId, EnvVar, Execution, RunId};

    fn spec(task: TaskSpec) -> LaunchSpec {
        LaunchSpec {
            attempt_id: AttemptId { run_id: RunId::generate(), attempt: 2 },
            origin: Origin {
                definition_id: DefinitionId::from_text("g-1"),
                alias: Some("nightly".into()),
                group_name: "g".into(),
            },
            task,
            execution: Execution {
                user: "ada".into(),
                labels: [
                    ("team", "tides"),
                    (RUN_LABEL, "forged"),
                    (UNENFORCED_LABEL, "memory"),
                    ("traefik.enable", "true"),
                ]
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
                ..Execution::default()
            },
            log_path: "unused".into(),
            log_cap_bytes: 500 << 20,
            grace: std::time::Duration::from_secs(10),
            longest_start: None,
        }
    }

    fn describe_with(task: TaskSpec, config: &DockerSettings, machine: &Machine) -> ContainerCreateBody {
        let identity = Identity { installation_id: "s".into(), cluster: "c".into() };
        describe(&spec(task), "busybox:1", config, &identity, Some(machine)).unwrap()
    }

    fn able() -> Machine {
        Machine { can_limit_memory: true, can_limit_swap: true, can_limit_cpu: true, ..Machine::default() }
    }

    #[test]
    fn the_container_says_whose_it_is() {
        let spec = spec(TaskSpec::default());
        let identity = Identity { installation_id: "s".into(), cluster: "c".into() };
        let body = describe(&spec, "busybox:1", &DockerSettings::default(), &identity, None).unwrap();
        let labels = body.labels.unwrap();
        assert_eq!(attempt_of(&labels), Some(spec.attempt_id));
        assert!(identity.owns(&labels));
        let said = [DEFINITION_LABEL, ALIAS_LABEL, GROUP_LABEL, OWNER_LABEL].map(|name| labels[name].as_str());
        assert_eq!(said, ["g-1", "nightly", "g", "ada"]);
        assert!(!Identity { cluster: "d".into(), ..identity.clone() }.owns(&labels));
        assert!(!Identity { installation_id: "t".into(), ..identity }.owns(&labels));
    }

    #[test]
    fn labels_of_users_pass_for_nobody_elses() {
        let body = describe_with(TaskSpec::default(), &DockerSettings::default(), &able());
        let labels = body.labels.unwrap();
        assert!(labels.keys().all(|name| name.starts_with("flotilla.")), "{labels:?}");
        assert_eq!(labels["flotilla.user/team"], "tides");
        assert_eq!(labels["flotilla.user/traefik.enable"], "true");
        assert!(!labels.contains_key(UNENFORCED_LABEL), "{labels:?}");
        assert_ne!(labels[RUN_LABEL], "forged");
    }

    #[test]
    fn containers_gain_no_privileges_and_have_a_bound_on_processes_unless_the_cluster_says_otherwise() {
        let host = |config: &DockerSettings| describe_with(TaskSpec::default(), config, &able()).host_config.unwrap();
        let usual = host(&DockerSettings::default());
        assert_eq!(usual.security_opt.unwrap(), ["no-new-privileges:true"]);
        assert_eq!(usual.pids_limit, Some(4096));
        let config = DockerSettings { no_new_privileges: false, pids_limit: None, ..DockerSettings::default() };
        let open = host(&config);
        assert_eq!((open.security_opt, open.pids_limit), (None, None));
    }

    #[test]
    fn a_task_becomes_a_container_with_hard_limits_and_a_bounded_log() {
        let task = TaskSpec {
            command: "echo hi".into(),
            env: vec![EnvVar::new("A", "1=2")],
            memory_mb: Some(64),
            cpu_millis: Some(5),
            gpu: Some(2),
            ports: vec![80],
            ..TaskSpec::default()
        };
        let config = DockerSettings { user: Some("app".into()), ..DockerSettings::default() };
        let body = describe_with(task, &config, &able());
        assert_eq!(body.entrypoint.unwrap(), ["/bin/sh", "-ec", "trap 'exit 143' TERM; echo hi"]);
        assert_eq!(body.env.unwrap(), ["A=1=2", "TINI_KILL_PROCESS_GROUP=1"]);
        assert_eq!(body.user.unwrap(), "app");
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(host.nano_cpus, Some(10_000_000), "a hundredth of a core is the least");
        assert_eq!(host.device_requests.unwrap()[0].count, Some(2));
        assert!(host.port_bindings.unwrap().contains_key("80/tcp"));
        let log = host.log_config.unwrap();
        assert_eq!((log.typ.as_deref(), log.config.unwrap()["max-size"].as_str()), (Some("local"), "200m"));
    }

    #[test]
    fn only_a_shell_that_takes_a_command_is_told_to_wait() {
        let has_trap = |shell: &[&str]| {
            let shell: Vec<_> = shell.iter().map(|&word| word.to_owned()).collect();
            let entry_point = entry_point(&shell, "x");
            assert_eq!(entry_point[..shell.len()], shell);
            entry_point[shell.len()] != "x"
        };
        assert!(has_trap(&["/bin/bash", "-o", "pipefail", "-ec"]) && has_trap(&["sh", "-c"]));
        for shell in [&["python3", "-c"][..], &["/bin/sh"], &["/bin/sh", "-e"], &["/usr/bin/env", "-c"], &[]] {
            assert!(!has_trap(shell), "{shell:?}");
        }
    }

    #[test]
    fn a_task_may_have_the_init_process_do_as_it_likes() {
        let theirs = EnvVar::new(TO_WHOLE_GROUP, "");
        assert_eq!(env(&TaskSpec { env: vec![theirs], ..TaskSpec::default() }), ["TINI_KILL_PROCESS_GROUP="]);
    }

    #[test]
    fn what_the_machine_cannot_limit_is_left_out_and_told() {
        let task = TaskSpec {
            memory_mb: Some(64),
            cpu_millis: Some(500),
            ephemeral_storage_mb: Some(10),
            ..TaskSpec::default()
        };
        let machine = Machine { can_limit_memory: true, ..Machine::default() };
        let body = without_storage_limit(describe_with(task, &DockerSettings::default(), &machine));
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap, host.nano_cpus), (Some(64 << 20), None, None));
        assert_eq!(host.storage_opt, None);
        assert_eq!(body.labels.unwrap()[UNENFORCED_LABEL], "swap,cpu,ephemeral_storage");
    }

    #[test]
    fn privileged_needs_a_cluster_that_allows_it() {
        let refused = |privileged, allow_privileged| {
            check_privileged(privileged, &DockerSettings { allow_privileged, ..DockerSettings::default() }).is_err()
        };
        assert!(refused(Some(true), false));
        assert!(!refused(Some(true), true) && !refused(Some(false), false) && !refused(None, false));
    }
}
