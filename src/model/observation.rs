//! An engine's observation of an attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::as_word;
use super::{Event, Instance, UnknownWord, Usage};

/// What an engine observed of an attempt.
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
        /// Its start, if that was observed.
        started: Option<Started>,
        /// When it was last known to run, by the engine's clock.
        last_seen_at: Option<Timestamp>,
    },
    /// This attempt could not be observed; nothing is concluded about it.
    Unknown {
        reason: String,
    },
    /// The engine does not have it, although it was handed over.
    Gone {
        reason: String,
    },
}

/// Whose fault it is that an attempt never started. Every kind but `Task` is retried, within bounds of its own on the
/// number of attempts and on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFault {
    /// It can never work: the run is rejected immediately.
    Task,
    /// The image could not be fetched now: its registry does not answer, or the pull was interrupted.
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
    /// The image that it really runs, as `REPOSITORY@sha256:…`, or its own id if no registry has it under that name.
    pub image_digest: Option<String>,
    /// Notes for people about how it runs, reported once.
    pub notes: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub started: Started,
    pub finished_at: Timestamp,
    /// 128 + n for signal n.
    pub exit_code: i64,
    pub cause: EndCause,
    /// The kernel killed at least one of its processes at the memory limit. The exit code shows whether that ended
    /// the run.
    #[serde(default)]
    pub killed_for_memory: bool,
    pub usage: Usage,
    /// Whether the attempt's log is already complete.
    pub is_log_complete: bool,
    /// Notes for people about how it ran and ended, reported once.
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
    /// The engine ended it at the server's request.
    Stopped,
    /// Something outside flotilla ended it; the words follow "stopped from outside of flotilla: ".
    Outside {
        by: String,
    },
    /// The engine's own deadline mechanism ended it.
    Deadline,
    /// The server gave it up because it did not start, and then it started after all.
    GivenUp {
        why: String,
    },
    /// The engine kept the exit code, but not its cause; the words follow the code.
    Forgotten {
        why: String,
    },
}
