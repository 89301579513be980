//! What an operator decides about a Docker cluster, checked where it is read. `docs/engines.md` says what each setting
//! costs in safety.

use std::path::PathBuf;

/// The settings of one cluster whose engine is `docker`.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Where the daemon listens: `unix:///…`, `tcp://HOST:PORT` or `http://HOST:PORT`.
    /// Without it `DOCKER_HOST`, and without that the usual socket.
    pub host: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for a daemon that listens with TLS.
    pub tls_dir: Option<PathBuf>,
    /// The file in which `docker login` keeps registry credentials. Without it `$DOCKER_CONFIG/config.json` or
    /// `~/.docker/config.json`.
    pub credentials_file: Option<PathBuf>,
    /// `bridge`, `host`, `none` or the name of a network. Without it what the daemon prefers.
    pub network_mode: Option<String>,
    /// Folders of the daemon's machine that every container sees.
    pub mounts: Vec<BindMount>,
    /// The user of tasks that name none. Without it the image's own.
    pub user: Option<String>,
    /// Capabilities that containers don't have; `ALL` for none at all.
    pub cap_drop: Vec<String>,
    /// Whether containers can't write to their own root file system.
    pub read_only_root: bool,
    /// Whether programs with a set-user-id bit or file capabilities, such as `sudo`, gain nothing in containers.
    pub no_new_privileges: bool,
    /// How many processes and threads a container may have at a time; `None` is no limit.
    pub pids_limit: Option<i64>,
    /// Whether a task may ask for a privileged container, which is root on the machine.
    pub allow_privileged: bool,
    /// What a command is handed to, as its last argument.
    pub shell: Vec<String>,
    pub pull_policy: PullPolicy,
    /// How long one try to fetch an image may take, however slowly it goes on.
    pub pull_timeout_secs: u32,
    /// Whether a launch looks for its image, here and in its registry, before it is accepted.
    pub image_check: bool,
    /// How many GPUs the machine has; without it what the daemon tells, if it tells.
    pub gpus: Option<i64>,
    /// How long a container that failed is kept for a person to look at. Its log is kept in any case.
    pub keep_failed_secs: u32,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            host: None,
            tls_dir: None,
            credentials_file: None,
            network_mode: None,
            mounts: Vec::new(),
            user: None,
            cap_drop: Vec::new(),
            read_only_root: false,
            no_new_privileges: true,
            pids_limit: Some(USUAL_PIDS_LIMIT),
            allow_privileged: false,
            shell: ["/bin/sh", "-ec"].map(str::to_owned).to_vec(),
            pull_policy: PullPolicy::default(),
            pull_timeout_secs: 3600,
            image_check: true,
            gpus: None,
            keep_failed_secs: 0,
        }
    }
}

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Where the machine does not have it.
    #[default]
    Missing,
    /// Before every run, so that a tag that moved is seen.
    Always,
    /// Never: what the machine does not have can't be run.
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// An absolute path on the daemon's machine, which must exist.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    pub read_only: bool,
}

/// Enough for a program with a few hundred threads on each of several cores, and far from what a machine has.
const USUAL_PIDS_LIMIT: i64 = 4096;

const USUAL_HOST: &str = "unix:///var/run/docker.sock";

impl DockerConfig {
    /// Where the daemon is: what is set here, in the environment, or usual.
    #[must_use]
    pub fn host_or_usual(&self) -> String {
        let of_environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        self.host.clone().or_else(of_environment).unwrap_or_else(|| USUAL_HOST.to_owned())
    }
}
