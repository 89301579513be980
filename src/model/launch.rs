//! From a definition and a launch request to a run: a pure merge, with every fault found at once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::definition::{check_command, check_image, with_unix_lines};
use super::env::{check_env_bounds, check_variables};
use super::run::UnknownWord;
use super::{
    Definition, EnvVar, FailedStarts, Faults, Instance, Run, RunId, Status, TaskSpec, Usage, limits, merge_env,
};

/// The variables that inform a process about its run. A client can't set them.
pub const RUN_ID_VARIABLE: &str = "FLOTILLA_RUN_ID";
pub const SERVER_MODE_VARIABLE: &str = "FLOTILLA_SERVER_MODE";
/// A run with this variable is a child of the run it names.
pub const PARENT_VARIABLE: &str = "PARENT_FLOTILLA_RUN_ID";
/// The owner of a run whose client names none, since the first version of the API had no owners.
pub const UNKNOWN_OWNER: &str = "v1-unknown";

/// The fields of a launch request; all are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchRequest {
    pub cluster: Option<String>,
    pub env: Vec<EnvVar>,
    pub owner: Owner,
    pub image: Option<String>,
    pub command: Option<String>,
    pub memory_mb: Option<i64>,
    pub cpu_millis: Option<i64>,
    pub gpu: Option<i64>,
    pub ephemeral_storage_mb: Option<i64>,
    pub node_lifecycle: Option<String>,
    pub active_deadline_secs: Option<i64>,
    pub labels: BTreeMap<String, String>,
    pub idempotence_key: Option<String>,
    pub description: Option<String>,
    pub arch: Option<String>,
    pub tier: Option<String>,
    pub service_account: Option<String>,
}

/// The owner of a run, and the other fields of the client's `run_tags`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    pub run_tags: BTreeMap<String, String>,
}

impl Owner {
    fn name(&self) -> Option<&str> {
        let given = |tag| self.run_tags.get(tag).map(String::as_str).filter(|value| !value.is_empty());
        given("owner_id").or_else(|| given("owner_email"))
    }
}

/// How and for whom a run is executed, fixed at its launch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// The cluster as the client named it.
    pub cluster: String,
    /// The actual cluster, if that name is an alias, as `default` may be.
    pub resolved_cluster: String,
    /// The kind of engine the cluster has.
    pub engine: String,
    /// The owner.
    pub user: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub run_tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_lifecycle: Option<NodeLifecycle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_secs: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotence_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<RunId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeLifecycle {
    Spot,
    Ondemand,
}

impl NodeLifecycle {
    pub const ALL: [Self; 2] = [Self::Spot, Self::Ondemand];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Ondemand => "ondemand",
        }
    }
}

impl fmt::Display for NodeLifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NodeLifecycle {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
        found.ok_or_else(|| UnknownWord::new(text, &Self::ALL.map(Self::as_str)))
    }
}

/// Where a run is launched.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The cluster as the client named it.
    pub cluster: &'a str,
    /// The cluster that this name refers to, often the same.
    pub resolved_cluster: &'a str,
    /// The kind of engine it has.
    pub engine: &'a str,
}

/// The operator's settings for launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPolicy {
    /// Refuses a launch that names no owner.
    pub is_owner_required: bool,
    /// The variable that carries the owner.
    pub owner_variable: String,
    /// The value of `FLOTILLA_SERVER_MODE`.
    pub server_mode: String,
}

impl Default for LaunchPolicy {
    fn default() -> Self {
        Self {
            is_owner_required: false,
            owner_variable: "FLOTILLA_RUN_OWNER_ID".to_owned(),
            server_mode: "prod".to_owned(),
        }
    }
}

/// The QUEUED run that `request` makes of `definition` on a cluster with this engine, or everything that is wrong
/// with it.
pub fn plan_launch(
    definition: &Definition,
    request: LaunchRequest,
    policy: &LaunchPolicy,
    target: Target<'_>,
    run_id: RunId,
    now: Timestamp,
) -> Result<Run, Faults> {
    let mut faults = request.check();
    let node_lifecycle = match request.node_lifecycle.as_deref().map(str::parse::<NodeLifecycle>).transpose() {
        Ok(node_lifecycle) => node_lifecycle,
        Err(error) => {
            faults.add("node_lifecycle", error.to_string());
            None
        }
    };
    let user = match request.owner.name() {
        Some(name) => name.to_owned(),
        None if policy.is_owner_required => {
            faults.add("run_tags", "needs an `owner_id` or `owner_email`");
            String::new()
        }
        None => UNKNOWN_OWNER.to_owned(),
    };
    let own_env = [
        EnvVar::new(RUN_ID_VARIABLE, run_id.to_string()),
        EnvVar::new(SERVER_MODE_VARIABLE, &policy.server_mode),
        EnvVar::new(&policy.owner_variable, &user),
    ];
    let asked = merge_env([definition.task.env.as_slice(), &request.env]);
    // The definition's variables were checked when it was created, possibly by other rules.
    check_variables(&mut faults, &request.env);
    check_env_bounds(&mut faults, &asked);
    let env = merge_env([asked.as_slice(), &own_env]);
    let parent_run_id = env.iter().find(|var| var.name == PARENT_VARIABLE).and_then(|var| var.value.parse().ok());

    let of_definition = definition.task.clone();
    let task = TaskSpec {
        image: request.image.unwrap_or(of_definition.image),
        command: request.command.filter(|command| !command.is_empty()).map_or(of_definition.command, with_unix_lines),
        env,
        memory_mb: request.memory_mb.or(of_definition.memory_mb),
        cpu_millis: request.cpu_millis.or(of_definition.cpu_millis),
        gpu: request.gpu.or(of_definition.gpu),
        ephemeral_storage_mb: request.ephemeral_storage_mb.or(of_definition.ephemeral_storage_mb),
        ..of_definition
    };
    faults.into_result(Run {
        run_id,
        definition_id: definition.definition_id.clone(),
        alias: definition.alias.clone(),
        group_name: definition.group_name.clone(),
        task,
        execution: Execution {
            cluster: target.cluster.to_owned(),
            resolved_cluster: target.resolved_cluster.to_owned(),
            engine: target.engine.to_owned(),
            user,
            run_tags: request.owner.run_tags,
            labels: request.labels,
            node_lifecycle,
            active_deadline_secs: request.active_deadline_secs,
            idempotence_key: request.idempotence_key.filter(|key| !key.is_empty()),
            description: request.description,
            arch: request.arch,
            tier: request.tier,
            service_account: request.service_account,
            parent_run_id,
        },
        status: Status::Queued,
        outcome: None,
        exit_code: None,
        exit_reason: None,
        queued_at: now,
        started_at: None,
        finished_at: None,
        seen_running_at: None,
        due_at: None,
        failed_starts: FailedStarts::default(),
        stop: None,
        attempt_count: 0,
        instance: Instance::default(),
        usage: Usage::default(),
        image_digest: None,
        run_exceptions: None,
        is_log_complete: false,
    })
}

impl LaunchRequest {
    /// The request that would launch the same again: everything `run` was launched with that differs from its
    /// definition.
    #[must_use]
    pub fn again(run: &Run, definition: &Definition, policy: &LaunchPolicy) -> Self {
        let (task, of_definition, execution) = (&run.task, &definition.task, &run.execution);
        let own = [RUN_ID_VARIABLE, SERVER_MODE_VARIABLE, &policy.owner_variable];
        let env = task.env.iter().filter(|var| !own.contains(&var.name.as_str()) && !of_definition.env.contains(var));
        Self {
            cluster: Some(execution.cluster.clone()),
            env: env.cloned().collect(),
            owner: Owner { run_tags: execution.run_tags.clone() },
            image: (task.image != of_definition.image).then(|| task.image.clone()),
            command: (task.command != of_definition.command).then(|| task.command.clone()),
            memory_mb: task.memory_mb.filter(|_| task.memory_mb != of_definition.memory_mb),
            cpu_millis: task.cpu_millis.filter(|_| task.cpu_millis != of_definition.cpu_millis),
            gpu: task.gpu.filter(|_| task.gpu != of_definition.gpu),
            ephemeral_storage_mb: task
                .ephemeral_storage_mb
                .filter(|_| task.ephemeral_storage_mb != of_definition.ephemeral_storage_mb),
            node_lifecycle: execution.node_lifecycle.map(|word| word.to_string()),
            active_deadline_secs: execution.active_deadline_secs,
            labels: execution.labels.clone(),
            idempotence_key: None,
            description: execution.description.clone(),
            arch: execution.arch.clone(),
            tier: execution.tier.clone(),
            service_account: execution.service_account.clone(),
        }
    }

    fn check(&self) -> Faults {
        let mut faults = Faults::default();
        if let Some(image) = &self.image {
            check_image(&mut faults, image);
        }
        if let Some(command) = &self.command {
            check_command(&mut faults, command);
        }
        faults.check_amount("memory", self.memory_mb, limits::MEGABYTES);
        faults.check_amount("cpu", self.cpu_millis, limits::CPU_MILLIS);
        faults.check_amount("gpu", self.gpu, limits::GPUS);
        faults.check_amount("ephemeral_storage", self.ephemeral_storage_mb, limits::MEGABYTES);
        if let Some(seconds) = self.active_deadline_secs
            && !(1..=limits::DEADLINE_SECS).contains(&seconds)
        {
            let message = format!("must be between 1 and {}, not {seconds}", limits::DEADLINE_SECS);
            faults.add("active_deadline_seconds", message);
        }
        for (field, map) in [("run_tags", &self.owner.run_tags), ("labels", &self.labels)] {
            if map.len() > limits::LIST_ITEMS {
                faults.add(field, format!("has {} items, at most {} are allowed", map.len(), limits::LIST_ITEMS));
            }
            for (name, value) in map {
                faults.check_line(&format!("{field}.{name}"), name, limits::NAME_BYTES);
                faults.check_line(&format!("{field}.{name}"), value, limits::NAME_BYTES);
            }
        }
        let lines = [
            ("idempotence_key", &self.idempotence_key),
            ("arch", &self.arch),
            ("tier", &self.tier),
            ("service_account", &self.service_account),
        ];
        for (field, value) in lines {
            if let Some(value) = value {
                faults.check_line(field, value, limits::NAME_BYTES);
            }
        }
        if let Some(description) = &self.description {
            faults.check_text("description", description, limits::TEXT_BYTES);
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DefinitionUpdate, NewDefinition};
    use super::*;

    fn definition() -> Definition {
        let fields = DefinitionUpdate {
            image: Some("busybox:1".into()),
            command: Some("echo hi".into()),
            env: Some(vec![EnvVar::new("A", "1"), EnvVar::new("B", "2")]),
            memory_mb: Some(64),
            ..DefinitionUpdate::default()
        };
        let new = NewDefinition { group_name: Some("science".into()), fields };
        new.validate(Timestamp::UNIX_EPOCH).unwrap()
    }

    fn plan(request: LaunchRequest, policy: &LaunchPolicy) -> Result<Run, Faults> {
        let target = Target { cluster: "default", resolved_cluster: "default", engine: "fake" };
        plan_launch(&definition(), request, policy, target, RunId::generate(), Timestamp::UNIX_EPOCH)
    }

    fn value<'a>(run: &'a Run, name: &str) -> Option<&'a str> {
        run.task.env.iter().find(|var| var.name == name).map(|var| var.value.as_str())
    }

    #[test]
    fn the_launch_overrides_the_definition_and_the_server_overrides_both() {
        let request = LaunchRequest {
            env: vec![EnvVar::new("B", "3"), EnvVar::new(RUN_ID_VARIABLE, "forged")],
            memory_mb: Some(128),
            ..LaunchRequest::default()
        };
        let run = plan(request, &LaunchPolicy::default()).unwrap();
        assert_eq!((value(&run, "A"), value(&run, "B")), (Some("1"), Some("3")));
        assert_eq!(value(&run, RUN_ID_VARIABLE), Some(run.run_id.to_string().as_str()));
        assert_eq!(value(&run, "FLOTILLA_RUN_OWNER_ID"), Some("v1-unknown"));
        assert_eq!((run.task.memory_mb, run.task.command.as_str()), (Some(128), "echo hi"));
    }

    #[test]
    fn the_owner_is_the_id_before_the_email() {
        let tags = |pairs: &[(&str, &str)]| LaunchRequest {
            owner: Owner { run_tags: pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect() },
            ..LaunchRequest::default()
        };
        let policy = LaunchPolicy::default();
        let both = plan(tags(&[("owner_id", "ada"), ("owner_email", "ada@example.com")]), &policy).unwrap();
        assert_eq!(both.execution.user, "ada");
        let email = plan(tags(&[("owner_id", ""), ("owner_email", "ada@example.com")]), &policy).unwrap();
        assert_eq!(email.execution.user, "ada@example.com");
    }

    #[test]
    fn a_missing_owner_is_a_fault_only_where_one_is_required() {
        let policy = LaunchPolicy { is_owner_required: true, ..LaunchPolicy::default() };
        let faults = plan(LaunchRequest::default(), &policy).unwrap_err();
        assert_eq!(faults.to_string(), "`run_tags` needs an `owner_id` or `owner_email`");
    }

    #[test]
    fn all_faults_of_a_launch_come_together() {
        let request = LaunchRequest {
            node_lifecycle: Some("cloud".into()),
            active_deadline_secs: Some(0),
            memory_mb: Some(-1),
            env: vec![EnvVar::new("", "x")],
            ..LaunchRequest::default()
        };
        let text = plan(request, &LaunchPolicy::default()).unwrap_err().to_string();
        for part in ["`memory`", "`active_deadline_seconds`", "\"cloud\" is none of spot, ondemand", "`env[0].name`"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn a_parent_in_the_environment_makes_a_child() {
        let parent = RunId::generate();
        let request =
            LaunchRequest { env: vec![EnvVar::new(PARENT_VARIABLE, parent.to_string())], ..LaunchRequest::default() };
        assert_eq!(plan(request, &LaunchPolicy::default()).unwrap().execution.parent_run_id, Some(parent));
    }
}
