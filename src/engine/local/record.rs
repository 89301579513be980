//! What an attempt's folder says in JSON: what to run, that it started, how it ended.
//!
//! Written by one process and read by another, which after an upgrade may be of another version: a new field needs a
//! default, and a field in use is never renamed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::Places;
use crate::model::{AttemptId, Ended, Observation, Started, TaskSpec};

/// All that a supervisor needs to know. It holds the run's environment, and so belongs to its owner's eyes only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    pub attempt_id: AttemptId,
    pub task: TaskSpec,
    pub deadline_secs: Option<i64>,
    pub log_path: PathBuf,
    pub log_cap_bytes: u64,
    /// How long processes may take to end after SIGTERM where nobody says otherwise.
    pub grace_ms: u64,
    /// The program and its arguments, to which the command is added.
    pub shell: Vec<String>,
    pub places: Places,
    /// Since when the machine is up: after its restart nothing of the attempt runs any more.
    pub boot_id: String,
}

/// `started.json`: the command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub supervisor_pid: i32,
    /// The process that runs the shell; it leads a session of its own.
    pub pid: i32,
    /// Its start time as `/proc` tells it, in clock ticks since the boot: a pid alone may come back.
    pub since_ticks: u64,
    pub started: Started,
}

/// `exit.json`: nothing of the attempt runs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    Ended(Box<Ended>),
    NeverRan { reason: String, retry: bool },
}

impl From<End> for Observation {
    fn from(end: End) -> Self {
        match end {
            End::Ended(ended) => Self::Ended(*ended),
            End::NeverRan { reason, retry } => Self::NeverRan { reason, retry },
        }
    }
}
