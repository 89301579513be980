//! What an operator decides about a Kubernetes cluster, checked where it is read. `docs/engines.md` says what each setting
//! costs in safety.

use std::path::PathBuf;

/// The settings of one cluster whose engine is `kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// The file that says where the API is and who we are. Without it the pod's own service account where the server
    /// runs in a cluster, else `KUBECONFIG` or the usual file.
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file; without it the current one.
    pub context: Option<String>,
    /// Where the jobs are made.
    pub namespace: String,
    /// Of runs that name none. Without it their pods get no token at all.
    pub service_account: Option<String>,
    pub image_pull_secrets: Vec<String>,
    pub pull_policy: PullPolicy,
    /// How long an image that can't be pulled is tried before the run is given up.
    pub image_pull_grace_secs: u32,
    /// The label of nodes that tells their processor's architecture.
    pub arch_label: String,
    /// The label of nodes that says `spot` or `ondemand`.
    pub node_lifecycle_label: String,
    /// The resource that a GPU is.
    pub gpu_resource: String,
    pub tolerations: Vec<Toleration>,
    pub volumes: Vec<Volume>,
    /// The operator's own pod template, which ours is laid over.
    pub pod_template: Option<serde_json::Value>,
    /// What a command is handed to, as its last argument.
    pub shell: Vec<String>,
    /// The user of tasks that name none, as `UID` or `UID:GID`.
    pub user: Option<String>,
    /// Capabilities that containers don't have; `ALL` for none at all.
    pub cap_drop: Vec<String>,
    pub read_only_root: bool,
    /// Whether a task may ask for a privileged container, which is root on its node.
    pub allow_privileged: bool,
    /// After how long Kubernetes itself removes a finished job that nobody has removed.
    pub ttl_secs: u32,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespace: "default".to_owned(),
            service_account: None,
            image_pull_secrets: Vec::new(),
            pull_policy: PullPolicy::default(),
            image_pull_grace_secs: 60,
            arch_label: "kubernetes.io/arch".to_owned(),
            node_lifecycle_label: "node.kubernetes.io/lifecycle".to_owned(),
            gpu_resource: "nvidia.com/gpu".to_owned(),
            tolerations: Vec::new(),
            volumes: Vec::new(),
            pod_template: None,
            shell: ["/bin/sh", "-ec"].map(str::to_owned).to_vec(),
            user: None,
            cap_drop: vec!["ALL".to_owned()],
            read_only_root: false,
            allow_privileged: false,
            ttl_secs: 7 * 24 * 3600,
        }
    }
}

/// When a node fetches an image from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    #[default]
    Missing,
    Always,
    Never,
}

impl PullPolicy {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// A taint of nodes that runs may go to in spite of it; without a value any value, without an effect any effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    pub key: String,
    pub value: Option<String>,
    pub effect: Option<String>,
}

/// Something that every container sees as a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: VolumeSource,
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A `PersistentVolumeClaim` of this name.
    Claim(String),
    ConfigMap(String),
    Secret(String),
    /// A folder of the node's.
    Host(String),
    /// An empty folder that goes with the pod.
    Scratch,
}
