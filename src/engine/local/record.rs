//! The JSON files of an attempt's folder: what to run, that it started, how it ended.
//!
//! Written by one process and read by another, which may be of another version after an upgrade: a new field needs a
//! default, and a field in use is never renamed.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::cgroup::Places;
use crate::model::{AttemptId, EndCause, Ended, Observation, StartFault, Started, TaskSpec};

/// A file that one process writes and another reads, in the state in which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<T> {
    Is(T),
    Missing,
    /// It exists but can't be parsed, as after a power loss.
    Damaged,
}

impl<T> Record<T> {
    pub fn known(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Missing | Self::Damaged => None,
        }
    }
}

/// Everything a supervisor needs to know. It contains the run's environment, so only its owner may read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    pub attempt_id: AttemptId,
    pub task: TaskSpec,
    pub deadline_secs: Option<i64>,
    pub log_path: PathBuf,
    pub log_cap_bytes: u64,
    /// How long processes may take to end after SIGTERM by default.
    pub grace_ms: u64,
    /// The program and its arguments, to which the command is appended.
    pub shell: Vec<String>,
    pub places: Places,
    /// The boot in which it was launched: after a reboot nothing of the attempt runs any more.
    pub boot_id: String,
    /// How many files the task may have open, unless it raises its limit itself; `None` means as many as the server.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Whether programs that would run as another user, such as `sudo`, gain no privileges.
    #[serde(default)]
    pub no_new_privileges: bool,
}

/// `started.json`: the command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub supervisor_pid: i32,
    /// The process that runs the shell; it leads its own session.
    pub pid: i32,
    /// Its start time from `/proc`, in clock ticks since the boot, because a pid alone may be reused.
    pub since_ticks: u64,
    pub started: Started,
}

/// `exit.json`: nothing of the attempt runs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    #[serde(deserialize_with = "read_ended")]
    Ended(Box<Ended>),
    NeverRan {
        reason: String,
        retry: bool,
    },
}

impl From<End> for Observation {
    fn from(end: End) -> Self {
        match end {
            End::Ended(ended) => Self::Ended(*ended),
            End::NeverRan { reason, retry } => {
                let fault = if retry { StartFault::Machine } else { StartFault::Task };
                Self::NeverRan { reason, fault }
            }
        }
    }
}

/// Supervisors of earlier versions recorded an out-of-memory kill as the cause of the end.
fn read_ended<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Ended>, D::Error> {
    const EARLIER: &str = "OutOfMemory";
    let mut value = serde_json::Value::deserialize(deserializer)?;
    if value["cause"] == EARLIER {
        value["cause"] = serde_json::to_value(EndCause::Exited).map_err(D::Error::custom)?;
        value["killed_for_memory"] = true.into();
    }
    serde_json::from_value(value).map_err(D::Error::custom)
}

/// Asks a supervisor to end its task.
pub(super) fn stop_request(grace: Duration) -> String {
    format!("stop {}\n", grace.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_an_earlier_version_wrote_is_read() {
        let text = r#"{"ended": {
            "started": {"at": "2026-01-01T00:00:00Z", "instance": {"instance_id": "pid-1", "dns_name": "m"},
                        "usage": {}, "image_digest": null, "notes": []},
            "finished_at": "2026-01-01T00:00:01Z", "exit_code": 137, "cause": "OutOfMemory", "usage": {},
            "is_log_complete": true}}"#;
        let End::Ended(ended) = serde_json::from_str(text).unwrap() else { panic!("it ended") };
        assert_eq!((ended.cause.clone(), ended.killed_for_memory), (EndCause::Exited, true));
        let text = serde_json::to_string(&End::Ended(ended.clone())).unwrap();
        assert_eq!(serde_json::from_str::<End>(&text).unwrap(), End::Ended(ended));
    }
}
