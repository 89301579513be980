//! From a cluster's settings to its engine.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use crate::clock::Clock;
use crate::config;
use crate::engine::docker::{BindMount, DockerConfig, DockerEngine, PullPolicy};
use crate::engine::kubernetes::{self, KubernetesConfig, KubernetesEngine};
use crate::engine::local::{LocalConfig, LocalEngine};
use crate::engine::{Engine, EngineError, EngineState, Identity, Pokes};
use crate::logs::Logs;
use crate::model::Condition;
use crate::service::{LaunchCheck, Probe};

/// Where in the data directory local runs have their folders.
pub(super) const RUNS_FOLDER: &str = "runs";

/// What engines need beside their settings.
pub(super) struct Maker<'a> {
    pub(super) cluster: &'a str,
    pub(super) data_dir: &'a Path,
    pub(super) logs: &'a Arc<Logs>,
    /// Tells our containers from those of another database's servers.
    pub(super) installation: &'a str,
    pub(super) clock: &'a Clock,
    /// How many files a local task may have open.
    pub(super) usual_open_files: Option<u64>,
}

impl Maker<'_> {
    /// Must be called within the runtime.
    pub(super) fn make(&self, settings: &config::Engine, pokes: Pokes) -> anyhow::Result<Arc<dyn Engine>> {
        match settings {
            config::Engine::Local { shell, user } => {
                let runs_dir = self.data_dir.join(RUNS_FOLDER);
                let context = format!("cannot use the folder {}", runs_dir.display());
                let local = LocalConfig {
                    shell: shell.clone(),
                    logs: Some(Arc::clone(self.logs)),
                    open_files: self.usual_open_files,
                    user: user.clone(),
                    ..LocalConfig::new(runs_dir)
                };
                local.check_user().map_err(|reason| {
                    let user = user.as_deref().unwrap_or_default();
                    anyhow!("the commands of cluster {} can't run as user `{user}`: {reason}", self.cluster)
                })?;
                Ok(Arc::new(LocalEngine::new(local, pokes).context(context)?))
            }
            config::Engine::Docker(settings) => {
                let clock = self.clock.clone();
                Ok(Arc::new(DockerEngine::new(docker_config(settings), self.identity(), pokes, move || clock.now())))
            }
            config::Engine::Kubernetes(settings) => {
                let (config, clock) = (kubernetes_config(settings)?, self.clock.clone());
                Ok(Arc::new(KubernetesEngine::new(config, self.identity(), pokes, move || clock.now())))
            }
        }
    }

    fn identity(&self) -> Identity {
        Identity { server_id: self.installation.to_owned(), cluster: self.cluster.to_owned() }
    }
}

fn kubernetes_config(settings: &config::Kubernetes) -> anyhow::Result<KubernetesConfig> {
    use kubernetes::{PullPolicy, Toleration, Volume, VolumeSource};

    let settings = settings.clone();
    let toleration =
        |taint: config::Toleration| Toleration { key: taint.key, value: taint.value, effect: taint.effect };
    let volume = |volume: config::Volume| Volume {
        source: match volume.kind {
            config::VolumeKind::Claim => VolumeSource::Claim(volume.name),
            config::VolumeKind::ConfigMap => VolumeSource::ConfigMap(volume.name),
            config::VolumeKind::Secret => VolumeSource::Secret(volume.name),
            config::VolumeKind::Host => VolumeSource::Host(volume.name),
            config::VolumeKind::Scratch => VolumeSource::Scratch,
        },
        target: volume.target,
        read_only: volume.is_read_only,
    };
    Ok(KubernetesConfig {
        kubeconfig: settings.kubeconfig,
        context: settings.context,
        namespace: settings.namespace,
        service_account: settings.service_account,
        image_pull_secrets: settings.image_pull_secrets,
        pull_policy: match settings.pull_policy {
            config::PullPolicy::Missing => PullPolicy::Missing,
            config::PullPolicy::Always => PullPolicy::Always,
            config::PullPolicy::Never => PullPolicy::Never,
        },
        image_pull_grace_secs: settings.image_pull_grace_secs,
        arch_label: settings.arch_label,
        node_lifecycle_label: settings.node_lifecycle_label,
        gpu_resource: settings.gpu_resource,
        tolerations: settings.tolerations.into_iter().map(toleration).collect(),
        volumes: settings.volumes.into_iter().map(volume).collect(),
        pod_template: settings.pod_template.as_deref().map(kubernetes::read_template).transpose()?,
        shell: settings.shell,
        user: settings.user,
        cap_drop: settings.cap_drop,
        read_only_root: settings.read_only_root,
        allow_privileged: settings.allow_privileged,
        ttl_secs: settings.ttl_secs,
    })
}

/// The settings of a Docker Engine that answers in its usual place.
pub(super) async fn find_docker() -> Option<config::Engine> {
    let settings = Box::<config::Docker>::default();
    match DockerEngine::probe(&docker_config(&settings)).await {
        Ok(found) => {
            tracing::info!(
                host = found.host,
                version = found.version,
                machine = found.machine_name,
                "found a Docker Engine"
            );
            Some(config::Engine::Docker(settings))
        }
        Err(error) => {
            tracing::debug!(reason = %error, "no Docker Engine answers in the usual place");
            None
        }
    }
}

fn docker_config(settings: &config::Docker) -> DockerConfig {
    let settings = settings.clone();
    let mounts = settings.mounts.into_iter().map(|mount| BindMount {
        source: mount.source,
        target: mount.target,
        read_only: mount.is_read_only,
    });
    DockerConfig {
        host: settings.host,
        tls_dir: settings.tls_dir,
        credentials_file: settings.credentials_file,
        network_mode: settings.network_mode,
        mounts: mounts.collect(),
        user: settings.user,
        cap_drop: settings.cap_drop,
        read_only_root: settings.read_only_root,
        no_new_privileges: settings.no_new_privileges,
        pids_limit: settings.pids_limit,
        allow_privileged: settings.allow_privileged,
        shell: settings.shell,
        pull_policy: match settings.pull_policy {
            config::PullPolicy::Missing => PullPolicy::Missing,
            config::PullPolicy::Always => PullPolicy::Always,
            config::PullPolicy::Never => PullPolicy::Never,
        },
        pull_timeout_secs: settings.pull_timeout_secs,
        image_check: settings.image_check,
        gpus: settings.gpus,
        keep_failed_secs: settings.keep_failed_secs,
    }
}

/// What the engine refuses for good is the client's fault; what it can't say now is found out when the run starts.
pub(super) fn launch_check(engine: Arc<dyn Engine>) -> LaunchCheck {
    Arc::new(move |task| {
        let engine = Arc::clone(&engine);
        Box::pin(async move {
            match engine.check(&task).await {
                Err(EngineError::Rejected(reason)) => Err(reason),
                Ok(()) | Err(EngineError::Unavailable(_) | EngineError::NotStarted { .. } | EngineError::Gone(_)) => {
                    Ok(())
                }
            }
        })
    })
}

/// What the engine tells about itself.
pub(super) fn probe(engine: Arc<dyn Engine>) -> Probe {
    Arc::new(move || {
        let capacity = engine.capacity();
        let unreachable = match engine.state() {
            EngineState::Reachable => None,
            EngineState::Unreachable { reason, since } => Some((since, reason)),
        };
        Condition {
            unreachable,
            identity: engine.known_identity(),
            memory_mb: capacity.memory_mb,
            cpu_millis: capacity.cpu_millis,
            gpus: capacity.gpus,
        }
    })
}
