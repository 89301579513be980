//! The resources and features of the daemon's machine, read from its own report, and the checks for tasks that can
//! never fit.

use std::time::Instant;

use bollard::models::{GenericResourcesInner, SystemInfo};
use jiff::{SignedDuration, Timestamp};

use crate::engine::EngineError;
use crate::model::{EngineId, Resources, TaskSpec};

const MB: i64 = 1024 * 1024;
/// Docker refuses a smaller limit: <https://docs.docker.com/engine/containers/resource_constraints/>.
const LEAST_MEMORY_MB: i64 = 6;

/// The clock of the daemon's machine, as it was last read. The daemon's times are compared with this one, never with
/// ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub time: Timestamp,
    pub read_at: Instant,
}

impl Clock {
    /// Its time at an instant of this process.
    pub(super) fn at(&self, moment: Instant) -> Timestamp {
        let since = |later: Instant, earlier: Instant| {
            SignedDuration::try_from(later.saturating_duration_since(earlier)).unwrap_or(SignedDuration::MAX)
        };
        let difference = since(moment, self.read_at) - since(self.read_at, moment);
        self.time.saturating_add(difference).unwrap_or(self.time)
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is something else that a daemon can do")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// The identity of the daemon with its containers: its own id and its data folder. Before version 25 the id alone
    /// is that of the machine, whatever folder the daemon is started on.
    pub identity: Option<EngineId>,
    pub name: String,
    pub version: String,
    /// GPUs are `Some(0)` if there is certainly none, `None` if the daemon can use some and does not report how many.
    pub resources: Resources,
    pub can_limit_memory: bool,
    pub can_limit_swap: bool,
    pub can_limit_cpu: bool,
    pub can_limit_pids: bool,
    /// Containers continue while the daemon is away.
    pub has_live_restore: bool,
    /// `None` if the daemon does not report its time.
    pub clock: Option<Clock>,
}

impl Machine {
    /// Reads a report received at `now`.
    pub(super) fn read(info: &SystemInfo, now: Instant) -> Self {
        let told = info.generic_resources.iter().flatten().map(gpus_of).sum::<i64>();
        let has_gpu_runtime = info.runtimes.iter().flatten().any(|(name, _)| name.contains("nvidia"));
        let id = info.id.as_deref().filter(|id| !id.is_empty());
        let root = info.docker_root_dir.as_deref().unwrap_or_default();
        Self {
            identity: id.map(|id| EngineId::from_text(format!("{id} {root}").trim_end())),
            name: info.name.clone().unwrap_or_default(),
            version: info.server_version.clone().unwrap_or_default(),
            has_live_restore: info.live_restore_enabled == Some(true),
            resources: Resources {
                memory_mb: info.mem_total.filter(|bytes| *bytes > 0).map(|bytes| bytes / MB),
                cpu_millis: info.ncpu.filter(|cpus| *cpus > 0).map(|cpus| cpus * 1000),
                gpus: if told > 0 || !has_gpu_runtime { Some(told) } else { None },
                storage_mb: None,
            },
            can_limit_memory: info.memory_limit.unwrap_or(true),
            can_limit_swap: info.swap_limit.unwrap_or(true),
            clock: info.system_time.as_deref().and_then(|text| Some(Clock { time: text.parse().ok()?, read_at: now })),
            can_limit_pids: info.pids_limit.unwrap_or(true),
            can_limit_cpu: info.cpu_cfs_quota.unwrap_or(true) && info.cpu_cfs_period.unwrap_or(true),
        }
    }

    /// The resources for runs; the operator's GPU count takes precedence over the daemon's.
    pub(super) fn capacity(&self, gpus: Option<i64>) -> Resources {
        Resources { gpus: gpus.or(self.resources.gpus), ..self.resources }
    }
}

/// The number of GPUs in a generic resource: a count, or one of several named resources.
fn gpus_of(resource: &GenericResourcesInner) -> i64 {
    let is_gpu = |kind: Option<&String>| kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("gpu"));
    let discrete = resource.discrete_resource_spec.as_ref().filter(|spec| is_gpu(spec.kind.as_ref()));
    let named = resource.named_resource_spec.as_ref().filter(|spec| is_gpu(spec.kind.as_ref()));
    discrete.and_then(|spec| spec.value).unwrap_or(0) + i64::from(named.is_some())
}

/// Checks whether a task could ever fit on the machine with nothing else running there.
pub(super) fn check_resources(task: &TaskSpec, capacity: Resources) -> Result<(), EngineError> {
    if let Some(memory) = task.memory_mb.filter(|memory| (1..LEAST_MEMORY_MB).contains(memory)) {
        return Err(EngineError::Rejected(format!(
            "Docker can't limit a container to {memory} MB of memory, the least is {LEAST_MEMORY_MB} MB"
        )));
    }
    if let Some(shortage) = task.resources().shortage(capacity) {
        return Err(EngineError::Rejected(format!(
            "the cluster cannot support running the job: {shortage}, the machine has {}",
            shortage.there
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(value: serde_json::Value) -> Machine {
        Machine::read(&serde_json::from_value(value).unwrap(), Instant::now())
    }

    #[test]
    fn a_machine_is_read_from_what_the_daemon_says() {
        let machine = info(serde_json::json!({ "Name": "m", "NCPU": 2, "MemTotal": 25_279_594_496_i64 }));
        assert_eq!(
            machine.resources,
            Resources { memory_mb: Some(24_108), cpu_millis: Some(2000), gpus: Some(0), storage_mb: None }
        );
    }

    #[test]
    fn the_machines_clock_goes_on_from_where_it_was_read() {
        let machine = info(serde_json::json!({ "SystemTime": "2026-11-22T10:00:00.5+02:00" }));
        let clock = machine.clock.unwrap();
        assert_eq!(clock.at(clock.read_at + std::time::Duration::from_secs(2)).to_string(), "2026-11-22T08:00:02.5Z");
        assert_eq!(
            clock.at(clock.read_at.checked_sub(std::time::Duration::from_secs(2)).unwrap()).to_string(),
            "2026-11-22T07:59:58.5Z"
        );
        assert_eq!(info(serde_json::json!({})).clock, None);
    }

    #[test]
    fn a_daemon_on_another_folder_is_another_engine() {
        let of = |id: &str, root: &str| info(serde_json::json!({ "ID": id, "DockerRootDir": root })).identity;
        assert_eq!(of("a", "/var/lib/docker"), of("a", "/var/lib/docker"));
        assert_ne!(of("a", "/var/lib/docker"), of("a", "/srv/docker"));
        assert_ne!(of("a", "/var/lib/docker"), of("b", "/var/lib/docker"));
        assert_eq!(of("", "/var/lib/docker"), None);
    }

    #[test]
    fn gpus_are_counted_where_they_are_told_and_unknown_where_only_a_runtime_is() {
        let runtimes = serde_json::json!({ "nvidia": { "path": "nvidia-container-runtime" } });
        assert_eq!(info(serde_json::json!({ "Runtimes": runtimes })).resources.gpus, None);
        let told = serde_json::json!([
            { "DiscreteResourceSpec": { "Kind": "NVIDIA-GPU", "Value": 2 } },
            { "NamedResourceSpec": { "Kind": "gpu", "Value": "GPU-1" } },
            { "DiscreteResourceSpec": { "Kind": "SSD", "Value": 3 } },
        ]);
        assert_eq!(info(serde_json::json!({ "GenericResources": told, "Runtimes": runtimes })).resources.gpus, Some(3));
    }

    #[test]
    fn what_can_never_fit_is_refused_with_both_numbers() {
        let capacity = Resources { memory_mb: Some(1000), cpu_millis: Some(2000), gpus: Some(0), storage_mb: None };
        let refused = |task: TaskSpec| check_resources(&task, capacity).unwrap_err().to_string();
        let text = refused(TaskSpec { memory_mb: Some(1001), ..TaskSpec::default() });
        assert!(text.ends_with("it asks for 1001 MB of memory, the machine has 1000"), "{text}");
        let text = refused(TaskSpec { gpu: Some(1), ..TaskSpec::default() });
        assert!(text.ends_with("it asks for 1 GPUs, the machine has 0"), "{text}");
        assert!(refused(TaskSpec { memory_mb: Some(5), ..TaskSpec::default() }).contains("6 MB"));
        let fits = TaskSpec { memory_mb: Some(1000), cpu_millis: Some(2000), gpu: Some(0), ..TaskSpec::default() };
        assert!(check_resources(&fits, capacity).is_ok());
        assert!(check_resources(&fits, Resources::default()).is_ok());
    }
}
