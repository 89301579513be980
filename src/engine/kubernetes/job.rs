//! The job and the pod of an attempt: pure functions of the launch and the settings.
//!
//! ```text
//! release        the job                                   its pod
//! from 1.26 on   as usual                                  created by the job's controller, and never a second one,
//!                                                          because a deleted pod counts as the failure that
//!                                                          `backoffLimit: 0` does not allow
//! before         with a template that can't yield a pod    created by us, once, under the job's own name, and owned by
//!                                                          the job, whose controller counts it as its own
//! ```
//!
//! That a deleted pod counts as failed from then on follows from `isPodFailed` in Kubernetes' own
//! `pkg/controller/job/job_controller.go`, unless a job asks for another policy, which ours don't.
//!
//! Before 1.26 a controller replaces a pod that was deleted, regardless of `backoffLimit`: the command would run a
//! second time, even while no server of ours is there to prevent it. A pod that can't be created can't run.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::names::{CONTAINER, FINALIZER, labels_and_annotations, name_of};
use super::settings::{KubernetesSettings, Toleration, VolumeSource};
use super::template::merge;
use crate::engine::command::argument;
use crate::engine::container::pull_policy::PullPolicy;
use crate::engine::{EngineError, Identity, LaunchSpec};
use crate::model::TaskSpec;

/// The priority class named by a template from which no pod can be created. Every release since 1.11 refuses a pod
/// whose class does not exist; and if someone created a class of this name, no node has [`NO_NODE_LABEL`].
pub(super) const NO_POD_CLASS: &str = "flotilla-makes-the-pod-itself";
const NO_NODE_LABEL: &str = "flotilla/no-node-has-this";
const NOTE_ANNOTATION: &str = "flotilla/note";
const NOTE: &str = "flotilla has made this job's pod itself, so that it is never made twice: before Kubernetes 1.26 a job \
                    replaces a pod that was deleted, and its command would run again";
/// Kubernetes ends a pod this long after the run's own deadline, counted from the latest start. Its clock begins when
/// the node receives the pod, ours when the command starts: in between the image is pulled.
const POD_DEADLINE_MARGIN_SECS: i64 = 15 * 60;
/// The job's clock begins when it is created, and pods ended by the bound on starts may take long to disappear.
const JOB_DEADLINE_MARGIN_SECS: i64 = 7 * 24 * 3600;

/// How much of a command and its variables an object holds besides everything else: etcd accepts 1.5 MiB.
const MOST_TEXT_BYTES: usize = 1 << 20;

/// Who creates the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodMaker {
    Controller,
    Flotilla,
}

impl PodMaker {
    /// Who may create it, in a cluster of this release.
    pub(super) const fn of_release(major: u32, minor: u32) -> Self {
        if major > 1 || minor >= 26 { Self::Controller } else { Self::Flotilla }
    }
}

/// The job, as sent to the API. [`EngineError::Rejected`] where settings or Kubernetes forbid what is requested.
pub(super) fn job(
    spec: &LaunchSpec,
    config: &KubernetesSettings,
    pod_template: Option<&Value>,
    identity: &Identity,
    maker: PodMaker,
) -> Result<Value, EngineError> {
    check_size(&spec.task, config)?;
    let (labels, mut annotations) = labels_and_annotations(spec, identity);
    let mut template = template(spec, config, pod_template, identity)?;
    if maker == PodMaker::Flotilla {
        annotations.insert(NOTE_ANNOTATION.to_owned(), NOTE.to_owned());
        template["spec"]["priorityClassName"] = json!(NO_POD_CLASS);
        template["spec"]["nodeSelector"] = json!({ NO_NODE_LABEL: "true" });
    }
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name_of(spec.attempt_id), "labels": labels, "annotations": annotations },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": guard_secs(spec, JOB_DEADLINE_MARGIN_SECS),
            "ttlSecondsAfterFinished": config.ttl_secs,
            "template": template,
        },
    });
    checked::<Job>(job)
}

/// A minimal job with the operator's template, to ask the cluster how it interprets that.
pub(super) fn probe(template: &Value) -> Value {
    let ours = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": CONTAINER, "image": "probe" }] } });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "generateName": "flotilla-probe-" },
        "spec": { "backoffLimit": 0, "template": merge(template.clone(), ours) },
    })
}

/// The pod of a job whose controller creates none. The job's controller owns it as if it had created it.
pub(super) fn pod(
    spec: &LaunchSpec,
    config: &KubernetesSettings,
    pod_template: Option<&Value>,
    identity: &Identity,
    job_uid: &str,
) -> Result<Value, EngineError> {
    let name = name_of(spec.attempt_id);
    let mut pod = template(spec, config, pod_template, identity)?;
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(name);
    // The labels by which the controller finds its pods.
    pod["metadata"]["labels"]["controller-uid"] = json!(job_uid);
    pod["metadata"]["labels"]["job-name"] = json!(name);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job_uid,
        "controller": true, "blockOwnerDeletion": true,
    }]);
    checked::<Pod>(pod)
}

/// Rejects task settings that this cluster never grants.
pub(super) fn check(task: &TaskSpec, config: &KubernetesSettings) -> Result<(), EngineError> {
    if task.privileged == Some(true) && !config.allow_privileged {
        let reason = "the task asks for a privileged container, which this cluster does not allow";
        return Err(EngineError::Rejected(reason.to_owned()));
    }
    check_size(task, config)?;
    user_of(task.user.as_deref()).map(|_| ())
}

/// For an object too large for its store, Kubernetes reports an internal error, and would do so on every retry.
fn check_size(task: &TaskSpec, config: &KubernetesSettings) -> Result<(), EngineError> {
    let size_of = |text: &str| json!(literal(text)).to_string().len();
    let variables = task.env.iter().map(|var| size_of(&var.name) + size_of(&var.value));
    let size = size_of(&argument(&config.shell, &task.command)) + variables.sum::<usize>();
    if size > MOST_TEXT_BYTES {
        return Err(EngineError::Rejected(format!(
            "the cluster cannot support running the job: its command and variables are {size} bytes as Kubernetes takes them \
             (`$(` becomes `$$(`), at most {MOST_TEXT_BYTES} are possible"
        )));
    }
    Ok(())
}

/// Checks that an object is of its type. The object is sent as written: fields unknown to this program's types would
/// be lost in conversion.
fn checked<T: serde::de::DeserializeOwned>(value: Value) -> Result<Value, EngineError> {
    let value = without_nulls(value);
    serde_json::from_value::<T>(value.clone()).map_err(|error| {
        EngineError::Rejected(format!("the cluster's pod template and the task don't fit together: {error}"))
    })?;
    Ok(value)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let set = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn template(
    spec: &LaunchSpec,
    config: &KubernetesSettings,
    pod_template: Option<&Value>,
    identity: &Identity,
) -> Result<Value, EngineError> {
    let (labels, annotations) = labels_and_annotations(spec, identity);
    let ours = json!({
        "metadata": { "labels": labels, "annotations": annotations, "finalizers": [FINALIZER] },
        "spec": pod_spec(spec, config)?,
    });
    Ok(match pod_template {
        Some(operators) => merge(operators.clone(), ours),
        None => ours,
    })
}

/// When Kubernetes itself ends objects with a deadline, in case the server is away. `None` where no such time is late
/// enough, because a start may take any time.
fn guard_secs(spec: &LaunchSpec, margin: i64) -> Option<i64> {
    let latest_start = spec.longest_start?.as_secs();
    let guard = spec.execution.active_deadline_secs?.saturating_add(latest_start).saturating_add(margin);
    Some(guard.min(i64::from(i32::MAX)))
}

fn pod_spec(spec: &LaunchSpec, config: &KubernetesSettings) -> Result<Value, EngineError> {
    let mut pod = Map::new();
    let mut set = |key: &str, value: Value| pod.insert(key.to_owned(), value);
    set("restartPolicy", json!("Never"));
    // The command is then not process 1 of its namespace, for which the kernel ignores signals without a handler:
    // SIGTERM would have no effect until the grace is over.
    set("shareProcessNamespace", json!(true));
    set("terminationGracePeriodSeconds", json!(whole_seconds(spec.grace)));
    if let Some(guard) = guard_secs(spec, POD_DEADLINE_MARGIN_SECS) {
        set("activeDeadlineSeconds", json!(guard));
    }
    let account = spec.execution.service_account.as_ref().or(config.service_account.as_ref());
    match account {
        Some(account) => set("serviceAccountName", json!(account)),
        // A token that was not requested can't be stolen.
        None => set("automountServiceAccountToken", json!(false)),
    };
    if !config.image_pull_secrets.is_empty() {
        let secrets = config.image_pull_secrets.iter().map(|name| json!({ "name": name }));
        set("imagePullSecrets", secrets.collect());
    }
    if let Some(affinity) = affinity(spec, config) {
        set("affinity", affinity);
    }
    if !config.tolerations.is_empty() {
        set("tolerations", config.tolerations.iter().map(toleration).collect());
    }
    if !config.volumes.is_empty() {
        let volumes = config.volumes.iter().enumerate();
        set("volumes", volumes.map(|(i, volume)| named_volume(i, &volume.source)).collect());
    }
    set("containers", json!([container(spec, config)?]));
    Ok(Value::Object(pod))
}

const fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Missing => "IfNotPresent",
        PullPolicy::Always => "Always",
        PullPolicy::Never => "Never",
    }
}

fn container(spec: &LaunchSpec, config: &KubernetesSettings) -> Result<Value, EngineError> {
    let task = &spec.task;
    let mut command = config.shell.clone();
    command.push(literal(&argument(&config.shell, &task.command)));
    let env = task.env.iter().map(|var| json!({ "name": var.name, "value": literal(&var.value) }));
    let mut container = json!({
        "name": CONTAINER,
        "image": task.image,
        "imagePullPolicy": pull_policy(config.pull_policy),
        "command": command,
        "env": env.collect::<Value>(),
        "resources": resources(task, config),
        "securityContext": security_context(task, config)?,
    });
    if !task.ports.is_empty() {
        container["ports"] = task.ports.iter().map(|port| json!({ "containerPort": port })).collect();
    }
    if !config.volumes.is_empty() {
        let mounts = config.volumes.iter().enumerate().map(
            |(i, volume)| json!({ "name": volume_name(i), "mountPath": volume.target, "readOnly": volume.is_read_only }),
        );
        container["volumeMounts"] = mounts.collect();
    }
    Ok(container)
}

/// Escapes a text for Kubernetes, which would replace `$(NAME)` with a variable and two dollars with one.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        literal.push(c);
        if c == '$' && matches!(chars.peek(), Some('$' | '(')) {
            literal.push('$');
        }
    }
    literal
}

/// Requests equal limits, so that no run takes resources from others.
fn resources(task: &TaskSpec, config: &KubernetesSettings) -> Value {
    let amounts = [
        ("memory", task.memory_mb, "Mi"),
        ("cpu", task.cpu_millis, "m"),
        ("ephemeral-storage", task.ephemeral_storage_mb, "Mi"),
        (config.gpu_resource.as_str(), task.gpu, ""),
    ];
    let asked = amounts.into_iter().filter_map(|(name, amount, unit)| {
        let amount = amount.filter(|amount| *amount > 0)?;
        Some((name.to_owned(), format!("{amount}{unit}")))
    });
    let asked: BTreeMap<_, _> = asked.collect();
    json!({ "requests": asked, "limits": asked })
}

fn security_context(task: &TaskSpec, config: &KubernetesSettings) -> Result<Value, EngineError> {
    let (user, group) = user_of(task.user.as_deref().or(config.user.as_deref()))?;
    let mut context = Map::new();
    let mut set = |key: &str, value: Value| context.insert(key.to_owned(), value);
    if task.privileged == Some(true) {
        check(task, config)?;
        set("privileged", json!(true));
    } else {
        set("allowPrivilegeEscalation", json!(false));
        set("capabilities", json!({ "drop": config.cap_drop }));
        set("seccompProfile", json!({ "type": "RuntimeDefault" }));
    }
    if config.read_only_root {
        set("readOnlyRootFilesystem", json!(true));
    }
    // Required by the Pod Security Standard `restricted`. A user name is resolved from the image, which only the node
    // can do.
    if user.is_some_and(|user| user != 0) {
        set("runAsNonRoot", json!(true));
    }
    for (key, id) in [("runAsUser", user), ("runAsGroup", group)] {
        if let Some(id) = id {
            set(key, json!(id));
        }
    }
    Ok(Value::Object(context))
}

/// `UID` or `UID:GID`. Kubernetes does not know user names: those are in the image.
fn user_of(user: Option<&str>) -> Result<(Option<i64>, Option<i64>), EngineError> {
    let Some(text) = user.filter(|text| !text.is_empty()) else { return Ok((None, None)) };
    if text == "root" {
        return Ok((Some(0), None));
    }
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |text: &str| text.parse::<u32>().ok().map(i64::from);
    match (number(uid), gid.map(number)) {
        (Some(uid), None) => Ok((Some(uid), None)),
        (Some(uid), Some(Some(gid))) => Ok((Some(uid), Some(gid))),
        _ => Err(EngineError::Rejected(format!(
            "`user` must be a number, or two as UID:GID, on a Kubernetes cluster, not {text:?}"
        ))),
    }
}

/// Nodes with the requested architecture and lifecycle.
fn affinity(spec: &LaunchSpec, config: &KubernetesSettings) -> Option<Value> {
    let arch = spec.execution.arch.as_deref().map(|arch| (&config.arch_label, arch_of(arch)));
    let lifecycle = spec.execution.node_lifecycle.map(|word| (&config.node_lifecycle_label, word.to_string()));
    let wanted = arch.into_iter().chain(lifecycle);
    let expressions: Vec<_> =
        wanted.map(|(key, value)| json!({ "key": key, "operator": "In", "values": [value] })).collect();
    (!expressions.is_empty()).then(|| {
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": expressions }],
        } } })
    })
}

/// An architecture, as Kubernetes names it.
fn arch_of(arch: &str) -> String {
    match arch.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

fn toleration(toleration: &Toleration) -> Value {
    let operator = if toleration.value.is_some() { "Equal" } else { "Exists" };
    let mut value = json!({ "key": toleration.key, "operator": operator });
    for (key, text) in [("value", &toleration.value), ("effect", &toleration.effect)] {
        if let Some(text) = text {
            value[key] = json!(text);
        }
    }
    value
}

fn volume_name(index: usize) -> String {
    format!("flotilla-{index}")
}

fn named_volume(index: usize, source: &VolumeSource) -> Value {
    let name = volume_name(index);
    match source {
        VolumeSource::Claim(claim) => json!({ "name": name, "persistentVolumeClaim": { "claimName": claim } }),
        VolumeSource::ConfigMap(map) => json!({ "name": name, "configMap": { "name": map } }),
        VolumeSource::Secret(secret) => json!({ "name": name, "secret": { "secretName": secret } }),
        VolumeSource::Host(path) => json!({ "name": name, "hostPath": { "path": path } }),
        VolumeSource::Scratch => json!({ "name": name, "emptyDir": {} }),
    }
}

/// Kubernetes counts whole seconds; rounding down could leave no grace at all.
pub(super) fn whole_seconds(duration: std::time::Duration) -> u32 {
    let secs = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(secs).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::*;
    use crate::engine::Origin;
    use crate::engine::kubernetes::settings::Volume;
    use crate::model::{AttemptId, DefinitionId, EnvVar, Execution, NodeLifecycle};

    const RUN: &str = "01938f00-0000-7000-8000-000000000001";

    fn spec(task: TaskSpec) -> LaunchSpec {
        LaunchSpec {
            attempt_id: AttemptId { run_id: RUN.parse().unwrap(), attempt: 2 },
            origin: Origin {
                definition_id: DefinitionId::from_text("g-1"),
                alias: Some("nightly".into()),
                group_name: "g".into(),
            },
            task: TaskSpec { image: "busybox:1".into(), command: "echo $(date)".into(), ..task },
            execution: Execution { user: "ada@example.org".into(), ..Execution::default() },
            log_path: "unused".into(),
            log_cap_bytes: 0,
            grace: Duration::from_millis(9500),
            longest_start: Some(SignedDuration::from_secs(100)),
        }
    }

    fn identity() -> Identity {
        Identity { installation_id: "s".into(), cluster: "c".into() }
    }

    fn value_of(job: &impl serde::Serialize) -> Value {
        serde_json::to_value(job).unwrap()
    }

    fn labels() -> Value {
        json!({
            "flotilla/server": "s", "flotilla/cluster": "c", "flotilla/run": RUN, "flotilla/attempt": "2",
            "flotilla/owner": "ada_example.org", "flotilla/definition": "g-1", "flotilla/group": "g",
            "flotilla/alias": "nightly",
        })
    }

    fn pod_template() -> Value {
        json!({
            "metadata": {
                "labels": labels(),
                "annotations": { "flotilla/owner": "ada@example.org" },
                "finalizers": ["flotilla/observed"],
            },
            "spec": {
                "restartPolicy": "Never",
                "shareProcessNamespace": true,
                "terminationGracePeriodSeconds": 10,
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "run",
                    "image": "busybox:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sh", "-ec", "echo $$(date)"],
                    "env": [],
                    "resources": { "requests": {}, "limits": {} },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": { "drop": ["ALL"] },
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                }],
            },
        })
    }

    fn job_with(template: &Value, annotations: &Value) -> Value {
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": format!("flotilla-{RUN}-2"), "labels": labels(), "annotations": annotations },
            "spec": {
                "backoffLimit": 0, "completions": 1, "parallelism": 1, "ttlSecondsAfterFinished": 604_800,
                "template": template,
            },
        })
    }

    #[test]
    fn a_job_of_a_newer_release_is_as_anyone_would_write_it() {
        let job =
            job(&spec(TaskSpec::default()), &KubernetesSettings::default(), None, &identity(), PodMaker::Controller);
        let expected = job_with(&pod_template(), &json!({ "flotilla/owner": "ada@example.org" }));
        assert_eq!(value_of(&job.unwrap()), expected);
    }

    #[test]
    fn from_a_job_of_an_older_release_no_pod_can_be_made() {
        let job =
            job(&spec(TaskSpec::default()), &KubernetesSettings::default(), None, &identity(), PodMaker::Flotilla);
        let mut template = pod_template();
        template["spec"]["priorityClassName"] = json!(NO_POD_CLASS);
        template["spec"]["nodeSelector"] = json!({ NO_NODE_LABEL: "true" });
        let expected = job_with(&template, &json!({ "flotilla/owner": "ada@example.org", "flotilla/note": NOTE }));
        assert_eq!(value_of(&job.unwrap()), expected);
    }

    #[test]
    fn the_pod_that_we_make_is_the_jobs_own() {
        let pod = pod(&spec(TaskSpec::default()), &KubernetesSettings::default(), None, &identity(), "u-1").unwrap();
        let mut expected = pod_template();
        let name = format!("flotilla-{RUN}-2");
        expected["apiVersion"] = json!("v1");
        expected["kind"] = json!("Pod");
        expected["metadata"]["name"] = json!(name);
        expected["metadata"]["labels"]["controller-uid"] = json!("u-1");
        expected["metadata"]["labels"]["job-name"] = json!(name);
        expected["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": "u-1", "controller": true,
            "blockOwnerDeletion": true,
        }]);
        assert_eq!(value_of(&pod), expected);
    }

    #[test]
    fn all_that_can_be_asked_for_is_asked_for() {
        let task = TaskSpec {
            memory_mb: Some(64),
            cpu_millis: Some(250),
            gpu: Some(1),
            ephemeral_storage_mb: Some(100),
            user: Some("1000:2000".into()),
            env: vec![EnvVar::new("A", "$(B)")],
            ports: vec![80],
            ..TaskSpec::default()
        };
        let mut spec = spec(task);
        spec.execution = Execution {
            active_deadline_secs: Some(60),
            arch: Some("x86_64".into()),
            node_lifecycle: Some(NodeLifecycle::Spot),
            service_account: Some("robot".into()),
            ..spec.execution
        };
        let config = KubernetesSettings {
            image_pull_secrets: vec!["registry".into()],
            pull_policy: PullPolicy::Always,
            tolerations: vec![
                Toleration { key: "gpu".into(), value: None, effect: Some("NoSchedule".into()) },
                Toleration { key: "team".into(), value: Some("tides".into()), effect: None },
            ],
            volumes: vec![
                Volume { source: VolumeSource::Claim("data".into()), target: "/data".into(), is_read_only: true },
                Volume { source: VolumeSource::Scratch, target: "/scratch".into(), is_read_only: false },
            ],
            read_only_root: true,
            ..KubernetesSettings::default()
        };
        let job = value_of(&job(&spec, &config, None, &identity(), PodMaker::Controller).unwrap());
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 160 + JOB_DEADLINE_MARGIN_SECS);
        let asked = json!({ "memory": "64Mi", "cpu": "250m", "ephemeral-storage": "100Mi", "nvidia.com/gpu": "1" });
        let expected = json!({
            "restartPolicy": "Never",
            "shareProcessNamespace": true,
            "terminationGracePeriodSeconds": 10,
            "activeDeadlineSeconds": 160 + POD_DEADLINE_MARGIN_SECS,
            "serviceAccountName": "robot",
            "imagePullSecrets": [{ "name": "registry" }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
                    { "key": "node.kubernetes.io/lifecycle", "operator": "In", "values": ["spot"] },
                ] }],
            } } },
            "tolerations": [
                { "key": "gpu", "operator": "Exists", "effect": "NoSchedule" },
                { "key": "team", "operator": "Equal", "value": "tides" },
            ],
            "volumes": [
                { "name": "flotilla-0", "persistentVolumeClaim": { "claimName": "data" } },
                { "name": "flotilla-1", "emptyDir": {} },
            ],
            "containers": [{
                "name": "run",
                "image": "busybox:1",
                "imagePullPolicy": "Always",
                "command": ["/bin/sh", "-ec", "echo $$(date)"],
                "env": [{ "name": "A", "value": "$$(B)" }],
                "ports": [{ "containerPort": 80 }],
                "resources": { "requests": asked, "limits": asked },
                "volumeMounts": [
                    { "name": "flotilla-0", "mountPath": "/data", "readOnly": true },
                    { "name": "flotilla-1", "mountPath": "/scratch", "readOnly": false },
                ],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "seccompProfile": { "type": "RuntimeDefault" },
                    "readOnlyRootFilesystem": true,
                    "runAsNonRoot": true,
                    "runAsUser": 1000,
                    "runAsGroup": 2000,
                },
            }],
        });
        assert_eq!(job["spec"]["template"]["spec"], expected);
    }

    #[test]
    fn what_is_not_allowed_is_refused_in_words() {
        let config = KubernetesSettings::default();
        let refused = |task: TaskSpec| check(&task, &config).unwrap_err().to_string();
        assert!(refused(TaskSpec { privileged: Some(true), ..TaskSpec::default() }).contains("privileged"));
        for user in ["ada", "1:x", "-1"] {
            assert!(refused(TaskSpec { user: Some(user.into()), ..TaskSpec::default() }).contains(user), "{user}");
        }
        check(&TaskSpec { user: Some("root".into()), ..TaskSpec::default() }, &config).unwrap();
    }

    #[test]
    fn kubernetes_gets_a_commands_dollars_back_as_they_were() {
        let table = [("$HOME $", "$HOME $"), ("kill $$", "kill $$$"), ("$(date)", "$$(date)"), ("$$(x)", "$$$$(x)")];
        for (text, expected) in table {
            assert_eq!(literal(text), expected);
        }
    }

    #[test]
    fn who_makes_the_pod_is_a_matter_of_the_release() {
        let table = [
            ((1, 20), PodMaker::Flotilla),
            ((1, 25), PodMaker::Flotilla),
            ((1, 26), PodMaker::Controller),
            ((2, 0), PodMaker::Controller),
        ];
        for ((major, minor), maker) in table {
            assert_eq!(PodMaker::of_release(major, minor), maker);
        }
    }

    #[test]
    fn a_command_and_variables_that_no_object_can_hold_are_refused_with_the_bound() {
        let config = KubernetesSettings::default();
        let with = |value: String| TaskSpec { env: vec![crate::model::EnvVar::new("A", value)], ..TaskSpec::default() };
        check(&with("x".repeat(MOST_TEXT_BYTES / 2 + 1)), &config).unwrap();
        // Each dollar is escaped as two.
        let refused = check(&with("$".repeat(MOST_TEXT_BYTES / 2 + 1)), &config);
        let Err(EngineError::Rejected(reason)) = refused else { panic!("it should not fit: {refused:?}") };
        assert!(reason.contains("at most 1048576 are possible"), "{reason}");
    }
}
