//! An operator's settings for a Kubernetes cluster, validated where they are read. `docs/engines.md` explains the
//! safety cost of each.

use std::path::PathBuf;

use crate::engine::container::pull_policy::PullPolicy;
use crate::settings::checks::{optional, path, program, within, word, words};
use crate::settings::{self, Section};

/// The settings of one cluster whose engine is `kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// The file with the API's address and our credentials. Without it: the pod's own service account if the server
    /// runs in a cluster, otherwise `KUBECONFIG` or the default file.
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file; without it the current one.
    pub context: Option<String>,
    /// Where the jobs are created.
    pub namespace: String,
    /// The service account of runs that name none. Without it their pods get no token at all.
    pub service_account: Option<String>,
    pub image_pull_secrets: Vec<String>,
    pub pull_policy: PullPolicy,
    /// How long pulling an image is retried before the run is given up.
    pub image_pull_grace_secs: u32,
    /// The node label that holds the processor architecture.
    pub arch_label: String,
    /// The node label that holds `spot` or `ondemand`.
    pub node_lifecycle_label: String,
    /// The name of the GPU resource.
    pub gpu_resource: String,
    pub tolerations: Vec<Toleration>,
    pub volumes: Vec<Volume>,
    /// The operator's own pod template, over which ours is merged.
    pub pod_template: Option<PathBuf>,
    /// What runs a command, given as its last argument.
    pub shell: Vec<String>,
    /// The user for tasks that name none, as `UID` or `UID:GID`.
    pub user: Option<String>,
    /// Capabilities dropped from containers; `ALL` drops all of them.
    pub cap_drop: Vec<String>,
    pub read_only_root: bool,
    /// Whether a task may request a privileged container, which is root on its node.
    pub allow_privileged: bool,
    /// After how long Kubernetes itself removes a finished job that has not been removed.
    pub ttl_secs: u32,
}

impl KubernetesSettings {
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            kubeconfig: section.text("kubeconfig", None, optional(path)),
            context: section.text("context", None, optional(word)),
            namespace: section.text("namespace", "default".to_owned(), word),
            service_account: section.text("service_account", None, optional(word)),
            image_pull_secrets: section.read("image_pull_secrets", Vec::new(), Ok::<Vec<String>, String>),
            pull_policy: section.text("pull_policy", PullPolicy::default(), str::parse),
            image_pull_grace_secs: section.read("image_pull_grace_secs", 60, within(0..=24 * 3600)),
            arch_label: section.text("arch_label", "kubernetes.io/arch".to_owned(), word),
            node_lifecycle_label: section.text("node_lifecycle_label", "node.kubernetes.io/lifecycle".to_owned(), word),
            gpu_resource: section.text("gpu_resource", "nvidia.com/gpu".to_owned(), word),
            tolerations: section.read("tolerations", Vec::new(), |texts: Vec<String>| {
                texts.iter().map(|text| toleration(text)).collect()
            }),
            volumes: section
                .read("volumes", Vec::new(), |texts: Vec<String>| texts.iter().map(|text| volume(text)).collect()),
            pod_template: section.text("pod_template", None, optional(path)),
            shell: section.read("shell", words(["/bin/sh", "-ec"]), program),
            user: section.text("user", None, optional(word)),
            cap_drop: section.read("cap_drop", words(["ALL"]), Ok::<Vec<String>, String>),
            read_only_root: section.read("read_only_root", false, Ok),
            allow_privileged: section.read("allow_privileged", false, Ok),
            ttl_secs: section.read("ttl_secs", 7 * 24 * 3600, within(60..=365 * 24 * 3600)),
        }
    }
}

impl Default for KubernetesSettings {
    /// The settings from an empty section.
    fn default() -> Self {
        settings::defaults(Self::read)
    }
}

/// A taint that runs tolerate, written `KEY`, `KEY=VALUE`, `KEY:EFFECT` or `KEY=VALUE:EFFECT`; without a value it
/// matches any value, without an effect any effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    pub key: String,
    pub value: Option<String>,
    pub effect: Option<String>,
}

/// A folder mounted into every container, written `KIND:NAME:TARGET` or `KIND:NAME:TARGET:rw`; a scratch folder has
/// no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: VolumeSource,
    pub target: String,
    pub is_read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// The `PersistentVolumeClaim` of this name.
    Claim(String),
    ConfigMap(String),
    Secret(String),
    /// A folder of the node.
    Host(String),
    /// An empty folder that is deleted with the pod.
    Scratch,
}

fn toleration(text: &str) -> Result<Toleration, String> {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let (taint, effect) = text.split_once(':').map_or((text, None), |(taint, effect)| (taint, Some(effect)));
    let (key, value) = taint.split_once('=').map_or((taint, None), |(key, value)| (key, Some(value)));
    if key.is_empty() || effect.is_some_and(|effect| !EFFECTS.contains(&effect)) {
        let effects = EFFECTS.join(", ");
        return Err(format!(
            "must hold \"KEY\", \"KEY=VALUE\", \"KEY:EFFECT\" or \"KEY=VALUE:EFFECT\" with an effect of {effects}, not {text:?}"
        ));
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Toleration { key: key.to_owned(), value: owned(value), effect: owned(effect) })
}

fn volume(text: &str) -> Result<Volume, String> {
    let (rest, is_read_only) = match text.strip_suffix(":rw") {
        Some(rest) => (rest, false),
        None => (text.strip_suffix(":ro").unwrap_or(text), true),
    };
    let parts: Vec<_> = rest.split(':').collect();
    let (source, name, target): (fn(String) -> VolumeSource, _, _) = match parts[..] {
        ["claim", name, target] => (VolumeSource::Claim, name, target),
        ["config-map", name, target] => (VolumeSource::ConfigMap, name, target),
        ["secret", name, target] => (VolumeSource::Secret, name, target),
        ["host", name, target] if name.starts_with('/') => (VolumeSource::Host, name, target),
        // A read-only empty folder is useless.
        ["scratch", target] if target.starts_with('/') => {
            return Ok(Volume { source: VolumeSource::Scratch, target: target.to_owned(), is_read_only: false });
        }
        _ => return Err(not_a_volume(text)),
    };
    if name.is_empty() || !target.starts_with('/') {
        return Err(not_a_volume(text));
    }
    Ok(Volume { source: source(name.to_owned()), target: target.to_owned(), is_read_only })
}

fn not_a_volume(text: &str) -> String {
    format!(
        "must hold \"claim:NAME:/TARGET\", \"config-map:NAME:/TARGET\", \"secret:NAME:/TARGET\", \"host:/SOURCE:/TARGET\" (each \
         with \":rw\" behind it to be written to) or \"scratch:/TARGET\", not {text:?}"
    )
}
