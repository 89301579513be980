//! An operator's settings for a Docker cluster, validated when they are read. `docs/engines.md` describes the
//! security cost of each setting.

use std::path::PathBuf;

use crate::engine::container::pull_policy::PullPolicy;
use crate::settings::checks::{optional, path, program, within, word, words};
use crate::settings::{self, Section};

/// The settings of one cluster with engine `docker`.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// Where the daemon listens: `unix:///…`, `tcp://HOST:PORT` or `http://HOST:PORT`. Defaults to `DOCKER_HOST`,
    /// then to the usual socket.
    pub host: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for a daemon that listens with TLS.
    pub tls_dir: Option<PathBuf>,
    /// The file in which `docker login` stores registry credentials. Defaults to `$DOCKER_CONFIG/config.json` or
    /// `~/.docker/config.json`.
    pub credentials_file: Option<PathBuf>,
    /// `bridge`, `host`, `none` or the name of a network. Defaults to the daemon's choice.
    pub network_mode: Option<String>,
    /// Folders of the daemon's machine mounted into every container.
    pub mounts: Vec<Mount>,
    /// The user of tasks that name none. Defaults to the image's own.
    pub user: Option<String>,
    /// Capabilities dropped from containers; `ALL` drops all.
    pub cap_drop: Vec<String>,
    /// Whether containers can't write to their root file system.
    pub read_only_root: bool,
    /// Whether programs with a set-user-id bit or file capabilities, such as `sudo`, gain no privileges in
    /// containers.
    pub no_new_privileges: bool,
    /// Maximum number of processes and threads per container; `None` is no limit.
    pub pids_limit: Option<i64>,
    /// Whether a task may request a privileged container, which is root on the machine.
    pub allow_privileged: bool,
    /// The shell, which gets the command as its last argument.
    pub shell: Vec<String>,
    pub pull_policy: PullPolicy,
    /// How long one attempt to fetch an image may take in total, even if it makes progress.
    pub pull_timeout_secs: u32,
    /// Whether a launch checks for its image, locally and in its registry, before it is accepted.
    pub image_check: bool,
    /// How many GPUs the machine has; defaults to what the daemon reports, if anything.
    pub gpus: Option<i64>,
    /// How long a failed container is kept for inspection. Its log is kept in any case.
    pub keep_failed_secs: u32,
}

impl DockerSettings {
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            host: section.text("host", None, optional(daemon_address)),
            tls_dir: section.text("tls_dir", None, optional(path)),
            credentials_file: section.text("credentials_file", None, optional(path)),
            network_mode: section.text("network_mode", None, optional(word)),
            mounts: section
                .read("mounts", Vec::new(), |texts: Vec<String>| texts.iter().map(|text| mount(text)).collect()),
            user: section.text("user", None, optional(word)),
            cap_drop: section.read("cap_drop", Vec::new(), Ok::<Vec<String>, String>),
            read_only_root: section.read("read_only_root", false, Ok),
            no_new_privileges: section.read("no_new_privileges", true, Ok),
            pids_limit: section.read("pids_limit", Some(USUAL_PIDS_LIMIT), |most| {
                within(0..=MOST_PIDS)(most).map(|most: i64| (most > 0).then_some(most))
            }),
            allow_privileged: section.read("allow_privileged", false, Ok),
            shell: section.read("shell", words(["/bin/sh", "-ec"]), program),
            pull_policy: section.text("pull_policy", PullPolicy::default(), str::parse),
            pull_timeout_secs: section.read("pull_timeout_secs", 3600, within(1..=7 * 24 * 3600)),
            image_check: section.read("image_check", true, Ok),
            gpus: section.read("gpus", None, |gpus| within(0..=1024)(gpus).map(Some)),
            keep_failed_secs: section.read("keep_failed_secs", 0, within(0..=30 * 24 * 3600)),
        }
    }
}

impl Default for DockerSettings {
    /// The settings of an empty section.
    fn default() -> Self {
        settings::defaults(Self::read)
    }
}

/// A folder of the daemon's machine mounted into containers, written `SOURCE:TARGET` or `SOURCE:TARGET:rw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// An absolute path on the daemon's machine, which must exist.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    pub is_read_only: bool,
}

/// Enough for a program with a few hundred threads on each of several cores, and far below a machine's own limit.
const USUAL_PIDS_LIMIT: i64 = 4096;
/// The highest limit on any Linux machine (`PID_MAX_LIMIT`).
const MOST_PIDS: i128 = 4_194_304;

const USUAL_HOST: &str = "unix:///var/run/docker.sock";

impl DockerSettings {
    /// The daemon's address: set here, in the environment, or the default.
    #[must_use]
    pub fn host_or_usual(&self) -> String {
        let of_environment = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        self.host.clone().or_else(of_environment).unwrap_or_else(|| USUAL_HOST.to_owned())
    }
}

fn daemon_address(text: &str) -> Result<String, String> {
    match ["unix://", "tcp://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text.to_owned()),
        false => Err(format!("must start with unix://, tcp:// or http://, not {text:?}")),
    }
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
