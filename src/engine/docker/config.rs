//! What an operator decides about a Docker cluster. `docs/engines.md` says what each setting costs in safety.

use std::path::PathBuf;

use serde::Deserialize;

/// The settings of one cluster whose engine is `docker`. Everything has a default, so an empty section works.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    /// Whether a task may ask for a privileged container, which is root on the machine.
    pub allow_privileged: bool,
    /// What a command is handed to, as its last argument.
    pub shell: Vec<String>,
    pub pull_policy: PullPolicy,
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
            allow_privileged: false,
            shell: ["/bin/sh", "-ec"].map(str::to_owned).to_vec(),
            pull_policy: PullPolicy::default(),
            image_check: true,
            gpus: None,
            keep_failed_secs: 0,
        }
    }
}

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Where the machine does not have it.
    #[default]
    Missing,
    /// Before every run, so that a tag that moved is seen.
    Always,
    /// Never: what the machine does not have can't be run.
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindMount {
    /// An absolute path on the daemon's machine, which must exist.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    #[serde(default = "read_only")]
    pub read_only: bool,
}

/// A shared folder is for reading unless somebody says otherwise.
const fn read_only() -> bool {
    true
}

const USUAL_HOST: &str = "unix:///var/run/docker.sock";

impl DockerConfig {
    /// What is wrong with the settings, each naming its key.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(host) = &self.host
            && !["unix://", "tcp://", "http://"].iter().any(|scheme| host.starts_with(scheme))
        {
            faults.push(format!("`host` must start with unix://, tcp:// or http://, not {host:?}"));
        }
        if self.shell.first().is_none_or(String::is_empty) {
            faults.push("`shell` must name a program".to_owned());
        }
        for (i, mount) in self.mounts.iter().enumerate() {
            for (key, path) in [("source", &mount.source), ("target", &mount.target)] {
                if !path.starts_with('/') {
                    faults.push(format!("`mounts[{i}].{key}` must be an absolute path, not {path:?}"));
                }
            }
        }
        if self.gpus.is_some_and(|gpus| gpus < 0) {
            faults.push("`gpus` must not be negative".to_owned());
        }
        faults
    }

    /// Where the daemon is: what is set here, in the environment, or usual.
    #[must_use]
    pub fn host_or_usual(&self) -> String {
        let of_environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        self.host.clone().or_else(of_environment).unwrap_or_else(|| USUAL_HOST.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_a_cluster() {
        let config: DockerConfig = toml::from_str("").unwrap();
        assert_eq!(config, DockerConfig::default());
        assert!(config.faults().is_empty());
    }

    #[test]
    fn a_mount_is_for_reading_unless_told_otherwise() {
        let text = "pull_policy = \"always\"\nmounts = [{ source = \"/data\", target = \"/data\" }]";
        let config: DockerConfig = toml::from_str(text).unwrap();
        assert!(config.mounts[0].read_only);
        assert_eq!(config.pull_policy, PullPolicy::Always);
    }

    #[test]
    fn faults_name_their_key() {
        let text = "host = \"docker\"\nshell = []\nmounts = [{ source = \"data\", target = \"/data\" }]\ngpus = -1";
        let config: DockerConfig = toml::from_str(text).unwrap();
        let faults = config.faults().join("; ");
        for key in ["`host`", "`shell`", "`mounts[0].source`", "`gpus`"] {
            assert!(faults.contains(key), "{key} is missing in: {faults}");
        }
        assert!(toml::from_str::<DockerConfig>("hots = 1").is_err());
    }
}
