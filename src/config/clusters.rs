//! The clusters: a section each, two that are there by themselves, and which of them `default` stands for.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use super::reader::{Reader, Section};
use super::{path, program, within};
use crate::model::Settings;

/// Where a launch goes that names no cluster.
pub const DEFAULT_CLUSTER: &str = "default";
/// The cluster of the server's own machine, which is there unless its section says otherwise.
pub const LOCAL_CLUSTER: &str = "local";
/// The cluster that a Docker Engine becomes which is found without a configuration.
pub const DOCKER_CLUSTER: &str = "docker";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub engine: Engine,
    /// How many runs may be pending or running there at a time; `None` is no limit.
    pub max_running: Option<NonZeroU32>,
}

/// Which cluster `default` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultCluster {
    Named(String),
    /// Nobody said anything about clusters: a Docker Engine where one answers in the usual place, else [`LOCAL_CLUSTER`].
    WhatIsFound,
}

/// What executes a cluster's runs, with what only that engine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    Local {
        /// What a run's command is handed to, as one last argument.
        shell: Vec<String>,
        /// Whom every command runs as; `None` is the server's own user, or the task's where the server is root.
        user: Option<String>,
    },
    Docker(Box<Docker>),
    Kubernetes(Box<Kubernetes>),
}

/// The settings of a Kubernetes cluster. docs/engines.md says what each costs in safety.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: String,
    pub service_account: Option<String>,
    pub image_pull_secrets: Vec<String>,
    pub pull_policy: PullPolicy,
    pub image_pull_grace_secs: u32,
    pub arch_label: String,
    pub node_lifecycle_label: String,
    pub gpu_resource: String,
    pub tolerations: Vec<Toleration>,
    pub volumes: Vec<Volume>,
    pub pod_template: Option<PathBuf>,
    pub shell: Vec<String>,
    pub user: Option<String>,
    pub cap_drop: Vec<String>,
    pub read_only_root: bool,
    pub allow_privileged: bool,
    pub ttl_secs: u32,
}

/// A taint that runs tolerate, written `KEY`, `KEY=VALUE`, `KEY:EFFECT` or `KEY=VALUE:EFFECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    pub key: String,
    pub value: Option<String>,
    pub effect: Option<String>,
}

/// A folder that pods see, written `KIND:NAME:TARGET` or `KIND:NAME:TARGET:rw`; a scratch folder has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub kind: VolumeKind,
    pub name: String,
    pub target: String,
    pub is_read_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeKind {
    Claim,
    ConfigMap,
    Secret,
    Host,
    Scratch,
}

/// The settings of a Docker cluster. docs/engines.md says what each costs in safety.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docker {
    pub host: Option<String>,
    pub tls_dir: Option<PathBuf>,
    pub credentials_file: Option<PathBuf>,
    pub network_mode: Option<String>,
    pub mounts: Vec<Mount>,
    pub user: Option<String>,
    pub cap_drop: Vec<String>,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    /// `None` is no limit.
    pub pids_limit: Option<i64>,
    pub allow_privileged: bool,
    pub shell: Vec<String>,
    pub pull_policy: PullPolicy,
    pub pull_timeout_secs: u32,
    pub image_check: bool,
    pub gpus: Option<i64>,
    pub keep_failed_secs: u32,
}

/// A folder of the engine's machine that containers see, written `SOURCE:TARGET` or `SOURCE:TARGET:rw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: String,
    pub target: String,
    pub is_read_only: bool,
}

/// Enough for a program with a few hundred threads on each of several cores, and far from what a machine has.
const USUAL_PIDS_LIMIT: i64 = 4096;
/// What Linux can count at most on any machine (`PID_MAX_LIMIT`).
const MOST_PIDS: i128 = 4_194_304;

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    Missing,
    Always,
    Never,
}

/// The clusters of the file and [`LOCAL_CLUSTER`], by name, and what `default` stands for.
pub(super) fn read_all(reader: &mut Reader<'_>) -> (BTreeMap<String, Cluster>, DefaultCluster) {
    let configured = reader.sections_below("clusters", cluster_name);
    let mut names = configured.clone();
    if !names.iter().any(|name| name == LOCAL_CLUSTER) {
        names.push(LOCAL_CLUSTER.to_owned());
    }
    let mut clusters = BTreeMap::new();
    for name in names {
        if let Some(cluster) = Cluster::read(&mut reader.section_below("clusters", &name), &name) {
            clusters.insert(name, cluster);
        }
    }
    let default = read_default(reader, &clusters, &configured);
    (clusters, default)
}

/// `default_cluster` says it; else a section of that name, or the one cluster that the file has beside the local one.
fn read_default(
    reader: &mut Reader<'_>,
    clusters: &BTreeMap<String, Cluster>,
    configured: &[String],
) -> DefaultCluster {
    let mut section = reader.section("launch");
    let known = |name: &str| match clusters.contains_key(name) {
        true => Ok(Some(name.to_owned())),
        false => {
            let names: Vec<_> = clusters.keys().map(String::as_str).collect();
            Err(format!("must be one of the clusters ({}), not {name:?}", names.join(", ")))
        }
    };
    let named = section.text("default_cluster", None, known);
    let is_other = |name: &&String| clusters.contains_key(*name) && *name != LOCAL_CLUSTER;
    let others: Vec<_> = configured.iter().filter(is_other).collect();
    match (named, others.as_slice()) {
        (Some(name), _) => DefaultCluster::Named(name),
        (None, _) if clusters.contains_key(DEFAULT_CLUSTER) => DefaultCluster::Named(DEFAULT_CLUSTER.to_owned()),
        (None, [only]) => DefaultCluster::Named((*only).clone()),
        // A section that only tunes the local cluster says nothing about which is meant.
        (None, []) if clusters.contains_key(LOCAL_CLUSTER) => DefaultCluster::WhatIsFound,
        (None, _) => {
            section.fault("names no `default_cluster`, and it is not clear which cluster is meant");
            DefaultCluster::WhatIsFound
        }
    }
}

impl Engine {
    /// Which place this is, as far as the settings say. What runs there is not to be found anywhere else, so it can't
    /// change while anything does. How it is reached (keys, certificates) may.
    #[must_use]
    pub fn endpoint(&self) -> String {
        const USUAL: &str = "the usual place";
        match self {
            Self::Local { .. } => "the server's machine".to_owned(),
            Self::Docker(docker) => format!("docker at {}", docker.host.as_deref().unwrap_or(USUAL)),
            Self::Kubernetes(kubernetes) => {
                let kubeconfig = kubernetes.kubeconfig.as_ref().map(|path| path.display().to_string());
                format!(
                    "kubernetes by {}, context {}, namespace {}",
                    kubeconfig.as_deref().unwrap_or(USUAL),
                    kubernetes.context.as_deref().unwrap_or("as it says"),
                    kubernetes.namespace
                )
            }
        }
    }
}

impl Cluster {
    /// The cluster that a section of these keys and values would be; the error says all that is wrong with them.
    pub fn from_settings(name: &str, settings: &Settings) -> Result<Self, String> {
        cluster_name(name).map_err(|message| format!("`name` {message}"))?;
        if [DEFAULT_CLUSTER, LOCAL_CLUSTER].contains(&name) {
            return Err(format!("`name` must not be {name}, which only the server's own configuration can set up"));
        }
        let section = BTreeMap::from([("clusters", BTreeMap::from([(name, settings)]))]);
        let text = toml::to_string(&section).map_err(|error| format!("`settings` can't be read: {error}"))?;
        let config = super::Config::parse("settings", &text, &super::Overrides::default()).map_err(|error| {
            // The line is that of a file which the client never saw.
            let without_place = |line: &str| line.split_once(": ").map_or(line, |(_, text)| text).to_owned();
            error.to_string().lines().map(without_place).collect::<Vec<_>>().join("; ")
        })?;
        let cluster = config.clusters.get(name).ok_or("`enabled` must not be false; make the cluster `offline`")?;
        match cluster.engine {
            // Its runs belong to the machine of one server, and all servers get this cluster.
            Engine::Local { .. } => {
                Err("`engine` must not be `local`, which belongs to one server's machine".to_owned())
            }
            Engine::Docker(_) | Engine::Kubernetes(_) => Ok(cluster.clone()),
        }
    }

    /// `None` where it is not to be used.
    fn read(section: &mut Section<'_>, name: &str) -> Option<Self> {
        // A forgotten `engine` must not quietly execute on the server's machine what was meant for another place.
        if name != LOCAL_CLUSTER {
            section.require("engine");
        }
        let is_enabled = section.read("enabled", true, Ok);
        let kind = section.text("engine", Kind::Local, str::parse);
        let engine = match kind {
            Kind::Local => Engine::Local {
                shell: section.read("shell", words(["sh", "-ec"]), program),
                user: section.text("user", None, |text| word(text).map(Some)),
            },
            Kind::Docker => Engine::Docker(Box::new(Docker::read(section))),
            Kind::Kubernetes => Engine::Kubernetes(Box::new(Kubernetes::read(section))),
        };
        let max_running = section.read("max_running", default_max_running(), within(0..=1_000_000));
        is_enabled.then_some(Self { engine, max_running: NonZeroU32::new(max_running) })
    }
}

impl Docker {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            host: section.text("host", None, docker_host),
            tls_dir: section.text("tls_dir", None, |text| path(text).map(Some)),
            credentials_file: section.text("credentials_file", None, |text| path(text).map(Some)),
            network_mode: section.text("network_mode", None, |text| word(text).map(Some)),
            mounts: section.read("mounts", Vec::new(), mounts),
            user: section.text("user", None, |text| word(text).map(Some)),
            cap_drop: section.read("cap_drop", Vec::new(), Ok::<Vec<String>, String>),
            read_only_root: section.read("read_only_root", false, Ok),
            no_new_privileges: section.read("no_new_privileges", true, Ok),
            pids_limit: section.read("pids_limit", Some(USUAL_PIDS_LIMIT), |most| {
                within(0..=MOST_PIDS)(most).map(|most: i64| (most > 0).then_some(most))
            }),
            allow_privileged: section.read("allow_privileged", false, Ok),
            shell: section.read("shell", words(["/bin/sh", "-ec"]), program),
            pull_policy: section.text("pull_policy", PullPolicy::Missing, str::parse),
            pull_timeout_secs: section.read("pull_timeout_secs", 3600, within(1..=7 * 24 * 3600)),
            image_check: section.read("image_check", true, Ok),
            gpus: section.read("gpus", None, |gpus| within(0..=1024)(gpus).map(Some)),
            keep_failed_secs: section.read("keep_failed_secs", 0, within(0..=30 * 24 * 3600)),
        }
    }
}

impl Kubernetes {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            kubeconfig: section.text("kubeconfig", None, |text| path(text).map(Some)),
            context: section.text("context", None, |text| word(text).map(Some)),
            namespace: section.text("namespace", "default".to_owned(), word),
            service_account: section.text("service_account", None, |text| word(text).map(Some)),
            image_pull_secrets: section.read("image_pull_secrets", Vec::new(), Ok::<Vec<String>, String>),
            pull_policy: section.text("pull_policy", PullPolicy::Missing, str::parse),
            image_pull_grace_secs: section.read("image_pull_grace_secs", 60, within(0..=24 * 3600)),
            arch_label: section.text("arch_label", "kubernetes.io/arch".to_owned(), word),
            node_lifecycle_label: section.text("node_lifecycle_label", "node.kubernetes.io/lifecycle".to_owned(), word),
            gpu_resource: section.text("gpu_resource", "nvidia.com/gpu".to_owned(), word),
            tolerations: section.read("tolerations", Vec::new(), |texts: Vec<String>| {
                texts.iter().map(|text| toleration(text)).collect()
            }),
            volumes: section
                .read("volumes", Vec::new(), |texts: Vec<String>| texts.iter().map(|text| volume(text)).collect()),
            pod_template: section.text("pod_template", None, |text| path(text).map(Some)),
            shell: section.read("shell", words(["/bin/sh", "-ec"]), program),
            user: section.text("user", None, |text| word(text).map(Some)),
            cap_drop: section.read("cap_drop", words(["ALL"]), Ok::<Vec<String>, String>),
            read_only_root: section.read("read_only_root", false, Ok),
            allow_privileged: section.read("allow_privileged", false, Ok),
            ttl_secs: section.read("ttl_secs", 7 * 24 * 3600, within(60..=365 * 24 * 3600)),
        }
    }
}

impl Default for Docker {
    /// The settings of an empty section.
    fn default() -> Self {
        let text = format!("[clusters.{DOCKER_CLUSTER}]\nengine = \"docker\"");
        let config = super::Config::parse("", &text, &super::Overrides::default()).expect("the defaults are valid");
        match config.clusters.get(DOCKER_CLUSTER).map(|cluster| &cluster.engine) {
            Some(Engine::Docker(docker)) => (**docker).clone(),
            _ => unreachable!("the section says so"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Local,
    Docker,
    Kubernetes,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            "docker" => Ok(Self::Docker),
            "kubernetes" => Ok(Self::Kubernetes),
            _ => Err(format!("must be `local`, `docker` or `kubernetes`, not {text:?}")),
        }
    }
}

impl FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("must be `missing`, `always` or `never`, not {text:?}")),
        }
    }
}

/// How many runs at a time do not yet overwhelm the place: most of them compute, often on the server's own machine; a
/// few that wait on the network must not block the others on a small one.
pub fn default_max_running() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(4).max(16)
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

fn word(text: &str) -> Result<String, String> {
    super::word(text)
}

fn docker_host(text: &str) -> Result<Option<String>, String> {
    match ["unix://", "tcp://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(Some(text.to_owned())),
        false => Err(format!("must start with unix://, tcp:// or http://, not {text:?}")),
    }
}

fn mounts(texts: Vec<String>) -> Result<Vec<Mount>, String> {
    texts.into_iter().map(|text| mount(&text)).collect()
}

fn mount(text: &str) -> Result<Mount, String> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, is_read_only) = match parts[..] {
        [source, target] | [source, target, "ro"] => (source, target, true),
        [source, target, "rw"] => (source, target, false),
        _ => ("", "", true),
    };
    if source.starts_with('/') && target.starts_with('/') {
        return Ok(Mount { source: source.to_owned(), target: target.to_owned(), is_read_only });
    }
    Err(format!(
        "must hold absolute paths as \"SOURCE:TARGET\", \"SOURCE:TARGET:ro\" or \"SOURCE:TARGET:rw\", not {text:?}"
    ))
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
    let (kind, name, target) = match parts[..] {
        ["claim", name, target] => (VolumeKind::Claim, name, target),
        ["config-map", name, target] => (VolumeKind::ConfigMap, name, target),
        ["secret", name, target] => (VolumeKind::Secret, name, target),
        ["host", name, target] if name.starts_with('/') => (VolumeKind::Host, name, target),
        // An empty folder that can't be written to is of no use.
        ["scratch", target] => {
            let volume = Volume {
                kind: VolumeKind::Scratch,
                name: String::new(),
                target: target.to_owned(),
                is_read_only: false,
            };
            return if target.starts_with('/') { Ok(volume) } else { Err(not_a_volume(text)) };
        }
        _ => return Err(not_a_volume(text)),
    };
    if name.is_empty() || !target.starts_with('/') {
        return Err(not_a_volume(text));
    }
    Ok(Volume { kind, name: name.to_owned(), target: target.to_owned(), is_read_only })
}

fn not_a_volume(text: &str) -> String {
    format!(
        "must hold \"claim:NAME:/TARGET\", \"config-map:NAME:/TARGET\", \"secret:NAME:/TARGET\", \"host:/SOURCE:/TARGET\" (each \
         with \":rw\" behind it to be written to) or \"scratch:/TARGET\", not {text:?}"
    )
}

/// Names stand in addresses, labels and file names, so they are kept to what is safe in all of them.
fn cluster_name(name: &str) -> Result<(), String> {
    const LONGEST: usize = 255;
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.chars().all(is_safe) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= LONGEST {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {LONGEST} letters, digits, `-`, `_` and `.`, beginning with a letter or digit, not {name:?}"
    ))
}
