//! A run: one launch and its result.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AttemptId, DefinitionId, Execution, FailedStarts, RunId, TaskSpec};

/// The five statuses of the wire. [`super::is_allowed`] holds the table of their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Accepted and stored; waits for a place on its cluster.
    Queued,
    /// Claimed by the dispatcher; handed to the engine, not yet observed running.
    Pending,
    Running,
    /// This attempt never ran, for a reason on the machine's side; it is queued again when due.
    NeedsRetry,
    /// The end, whatever the [`Outcome`].
    Stopped,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Pending, Self::Running, Self::NeedsRetry, Self::Stopped];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::NeedsRetry => "NEEDS_RETRY",
            Self::Stopped => "STOPPED",
        }
    }

    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// How a stopped run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Exit code 0.
    Succeeded,
    /// Another exit code, a signal, out of memory.
    Failed,
    /// It was stopped on request.
    Stopped,
    /// It passed its deadline.
    TimedOut,
    /// The engine no longer has it and its end was not observed.
    Lost,
    /// It could never have run: the engine refused it.
    Rejected,
}

impl Outcome {
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::Failed, Self::Stopped, Self::TimedOut, Self::Lost, Self::Rejected];
    /// Outcomes that need attention.
    pub const FAILURES: [Self; 4] = [Self::Failed, Self::TimedOut, Self::Lost, Self::Rejected];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Rejected => "rejected",
        }
    }
}

/// Why a run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// A client asked.
    Request,
    /// Its parent was asked to stop.
    Parent,
    /// Its `active_deadline_seconds` have passed.
    Deadline,
    /// Its attempt took too long to start.
    SlowStart,
}

impl StopCause {
    pub const ALL: [Self; 4] = [Self::Request, Self::Parent, Self::Deadline, Self::SlowStart];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Parent => "parent",
            Self::Deadline => "deadline",
            Self::SlowStart => "slow_start",
        }
    }

    /// The outcome of a run that was ended for this cause.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Request | Self::Parent => Outcome::Stopped,
            Self::Deadline | Self::SlowStart => Outcome::TimedOut,
        }
    }

    /// The outcome of a run that was ended for this cause before its command ran.
    #[must_use]
    pub const fn outcome_before_start(self) -> Outcome {
        match self {
            Self::Request | Self::Parent => Outcome::Stopped,
            Self::Deadline => Outcome::TimedOut,
            Self::SlowStart => Outcome::Rejected,
        }
    }
}

/// A word that is not among the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is none of {}", known.join(", "))]
pub struct UnknownWord {
    pub found: String,
    pub known: Vec<&'static str>,
}

impl UnknownWord {
    pub fn new(found: &str, known: &[&'static str]) -> Self {
        Self { found: found.to_owned(), known: known.to_vec() }
    }
}

/// Reads and writes an enum by its `as_str`.
macro_rules! as_word {
    ($($name:ident),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
                found.ok_or_else(|| UnknownWord::new(text, &Self::ALL.map(Self::as_str)))
            }
        }
    )*};
}

pub(super) use as_word;

as_word!(Status, Outcome, StopCause);

/// A stop that was requested and stored; it is repeated until the run is observed to have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    pub at: Timestamp,
    pub cause: StopCause,
    /// When the engine was first asked, stored before it is asked. A run that ended before that ended by itself: this
    /// time distinguishes the two cases, not the times of two machines.
    pub sent_at: Option<Timestamp>,
    /// More about the cause: why an attempt did not start.
    pub words: Option<String>,
}

impl StopRequest {
    /// A stop that no engine has been asked for yet.
    #[must_use]
    pub const fn new(cause: StopCause, at: Timestamp) -> Self {
        Self { at, cause, sent_at: None, words: None }
    }
}

/// Where an attempt runs, as far as the engine reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub instance_id: String,
    pub dns_name: String,
}

/// What an attempt used, and the limits that were in force. `None` is "not measured" or "no limit".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The peak, in bytes.
    pub max_memory_bytes: Option<i64>,
    /// The peak, in thousandths of a core.
    pub max_cpu_millis: Option<i64>,
    /// The total, in milliseconds.
    pub cpu_time_ms: Option<i64>,
    /// Bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Thousandths of a core.
    pub cpu_limit_millis: Option<i64>,
}

/// An amount of memory for people: `250 KB`, `3.4 MB`, `64 MB`, `1.5 GB`, in steps of 1024.
#[must_use]
pub fn memory_text(bytes: i64) -> String {
    let mut tenths = i128::from(bytes.max(0)) * 10 / 1024;
    let mut unit = "KB";
    for larger in ["MB", "GB", "TB"] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, larger);
    }
    match tenths % 10 {
        rest @ 1.. if tenths < 100 => format!("{}.{rest} {unit}", tenths / 10),
        _ => format!("{} {unit}", tenths / 10),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub run_id: RunId,
    pub definition_id: DefinitionId,
    pub alias: Option<String>,
    pub group_name: String,
    /// What it was launched with, including the server's own variables.
    pub task: TaskSpec,
    pub execution: Execution,

    pub status: Status,
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i64>,
    pub exit_reason: Option<String>,
    pub queued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// When it was first observed running, by this server's clock; `started_at` is by the engine's.
    pub seen_running_at: Option<Timestamp>,
    /// When a run that needs a retry is queued again.
    pub due_at: Option<Timestamp>,
    pub failed_starts: FailedStarts,
    pub stop: Option<StopRequest>,
    /// How often it was handed to the engine, which is the number of the newest attempt.
    pub attempt_count: u32,
    pub instance: Instance,
    pub usage: Usage,
    /// The image that really ran, as `sha256:…`, if the engine has images.
    pub image_digest: Option<String>,
    pub run_exceptions: Option<serde_json::Value>,
    /// Whether the last byte of its log is stored.
    pub is_log_complete: bool,
}

impl Run {
    #[must_use]
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId { run_id: self.run_id, attempt: self.attempt_count }
    }

    /// The namespace and the name of its pod, if its instance is one.
    #[must_use]
    pub fn pod(&self) -> Option<(&str, &str)> {
        self.instance.instance_id.split_once('/').filter(|_| self.execution.engine == "kubernetes")
    }

    /// When it must have ended, once it has started: for people, by the clock that reported its start. A run is ended
    /// by how long it has been observed running.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.execution.active_deadline_secs?;
        self.started_at?.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_case_matters() {
        for status in Status::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        let error = "running".parse::<Status>().unwrap_err();
        assert_eq!(error.to_string(), "\"running\" is none of QUEUED, PENDING, RUNNING, NEEDS_RETRY, STOPPED");
    }

    #[test]
    fn amounts_of_memory_are_told_in_the_unit_that_matters() {
        const MB: i64 = 1 << 20;
        for (bytes, text) in [
            (-1, "0 KB"),
            (250 << 10, "250 KB"),
            (MB, "1 MB"),
            (MB * 34 / 10, "3.3 MB"),
            (64 * MB, "64 MB"),
            (64 * MB + MB / 2, "64 MB"),
            (1536 * MB, "1.5 GB"),
            (i64::MAX, "8388607 TB"),
        ] {
            assert_eq!(memory_text(bytes), text, "{bytes}");
        }
    }
}
