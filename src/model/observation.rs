//! What an engine sees of an attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::as_word;
use super::{Event, Instance, UnknownWord, Usage};

/// What an engine saw of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The engine has it, and its command has not started.
    Starting,
    Running(Started),
    Ended(Ended),
    /// Its command certainly never ran. `fault` says whose fault that is, and so what follows.
    NeverRan {
        reason: String,
        fault: StartFault,
    },
    /// It ran, or may have run, and how it ended can't be known: the machine lost power, its node was lost, a reboot
    /// overwrote the container's end.
    Lost {
        reason: String,
        /// Where it was seen to start.
        started: Option<Started>,
        /// When it was last known to run, by the engine's clock.
        last_seen_at: Option<Timestamp>,
    },
    /// This one could not be seen; nothing is concluded about it.
    Unknown {
        reason: String,
    },
    /// The engine does not have it, though it was handed over.
    Gone {
        reason: String,
    },
}

/// Whose fault it is that an attempt never started. Every kind but `Task` is tried again, within a bound of its own on
/// the number of attempts and on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFault {
    /// It can never work: the run is rejected at once.
    Task,
    /// The image could not be fetched now: its registry does not answer, the pull was interrupted.
    Image,
    /// The engine or its machine could not start it.
    Machine,
    /// Something else removed it before it started: it was preempted, evicted, or deleted from outside.
    Displaced,
}

impl StartFault {
    pub const ALL: [Self; 4] = [Self::Task, Self::Image, Self::Machine, Self::Displaced];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Image => "image",
            Self::Machine => "machine",
            Self::Displaced => "displaced",
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub const fn is_retried(self) -> bool {
        !matches!(self, Self::Task)
    }
}

as_word!(StartFault);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub at: Timestamp,
    pub instance: Instance,
    /// Limits in force, as far as the engine has set them.
    pub usage: Usage,
    /// Which image it really runs, as `REPOSITORY@sha256:…`, or by its own id where no registry has it under that name.
    pub image_digest: Option<String>,
    /// What a person should know about how it runs, told once.
    pub notes: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub started: Started,
    pub finished_at: Timestamp,
    /// 128 + n for signal n.
    pub exit_code: i64,
    pub cause: EndCause,
    /// The kernel killed at least one of its processes at the memory limit. Whether that ended the run, the exit code
    /// says.
    #[serde(default)]
    pub killed_for_memory: bool,
    pub usage: Usage,
    /// Whether the attempt's log holds everything already.
    pub is_log_complete: bool,
    /// What a person should know about how it ran and ended, told once.
    #[serde(default)]
    pub notes: Vec<Event>,
}

/// Why a process ended, as far as the engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    Exited,
    /// Its name, such as `SIGSEGV`.
    Signal {
        name: String,
    },
    /// The engine ended it because the server asked.
    Stopped,
    /// Somebody or something else ended it; the words follow "stopped from outside of flotilla: ".
    Outside {
        by: String,
    },
    /// The engine's own guard of the deadline ended it.
    Deadline,
    /// The server had given it up because it did not start, and then it started after all.
    GivenUp {
        why: String,
    },
    /// The engine kept the exit code, and not how it came to it; the words follow the code.
    Forgotten {
        why: String,
    },
}
