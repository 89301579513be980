//! The nouns of Flotilla and the decisions about them: pure values, no I/O, no async, no clock.
//!
//! Glossary, the same words in code, JSON, SQL, pages and docs:
//!
//! | word | meaning |
//! | --- | --- |
//! | **definition** | a task written down once: image, command, env, resources, tags, an alias. Also called a *task*. |
//! | **task spec** | the part of a definition that a run keeps a copy of: what to run |
//! | **launch** | the request to run a definition once, with overrides |
//! | **run** | one launch and its result |
//! | **attempt** | one try of a cluster to execute a run; a run has one, more only if the machine failed it |
//! | **cluster** | a named place where runs are executed, by one engine |
//! | **engine** | the kind of place: `local` processes, `docker`, `kubernetes` |
//! | **summary** | a definition or a run as a row of a page: without command and variables |
//! | **brief** | the few facts about a run that lists of tasks show |
//! | **event** | one entry of a run's history |
//! | **kept time** | the time by which logs and keys expire: the clock's, as far as servers have observed it pass |
//! | **fault** | one thing wrong with a request, naming the field |
//! | **group**, **tag**, **alias** | how definitions are found: the owning group, free labels, one unique name |

mod brief;
mod cluster;
mod definition;
mod ended;
mod env;
mod event;
mod fault;
mod id;
mod image;
mod kept_time;
mod launch;
mod lists;
mod log;
mod observation;
mod page;
pub mod pattern;
mod place;
mod queue_depth;
mod reason;
mod resources;
mod run;
#[cfg(test)]
pub(crate) mod sample;
pub mod schedule;
mod start;
mod summary;
mod transition;
mod usage_sample;
mod web;

pub use brief::{RunBrief, typical_duration};
pub use cluster::{Cluster, ClusterChange, ClusterDetails, ClusterRecord, ClusterStatus, Condition, Load, Settings};
pub use definition::{Definition, DefinitionUpdate, NewDefinition, TaskSpec};
pub use ended::EndedRuns;
pub use env::{EnvVar, merge_env};
pub use event::{Event, EventType, LOG_CUT};
pub use fault::{Fault, Faults, excerpt};
pub use id::{AttemptId, DefinitionId, EngineId, RunId};
pub use image::{ImageReference, InvalidImage};
pub use kept_time::{next_kept_time, suspicious_difference};
pub use launch::{
    Execution, LaunchPolicy, LaunchRequest, NodeLifecycle, Owner, PARENT_VARIABLE, RUN_ID_VARIABLE, Target,
    UNKNOWN_OWNER, plan_launch,
};
pub use lists::{DefinitionFilter, DefinitionSort, NameList, RunFilter, RunSort, TimeRange};
pub use log::LogPosition;
pub use observation::{EndCause, Ended, Observation, StartFault, Started};
pub use page::{Order, Page, PageRequest, Unread};
pub use place::{Elsewhere, EngineIdentity};
pub use queue_depth::QueueDepth;
pub use reason::OUT_OF_MEMORY;
pub use resources::{Resource, Resources, Shortage};
pub use run::{Instance, Outcome, Run, Status, StopCause, StopRequest, UnknownWord, Usage, memory_text};
pub use start::{FailedStarts, RetryLimit, StartLimits, Tally};
pub use summary::{DefinitionSummary, RunSummary};
pub use transition::{
    Basis, Change, LONGEST_RETRY_DELAY, Situation, decide, fail_start, is_allowed, refuse, requeue, set_by_hand,
    stop_before_start,
};
pub use usage_sample::UsageSample;
pub use web::{CorsOrigins, PublicUrl};

/// Limits on what a request may ask for, in one place. Each answers the question "how much is certainly a mistake?".
pub mod limits {
    /// Linux refuses a longer single argument or variable (`MAX_ARG_STRLEN`, 32 pages), so a longer command could never
    /// start.
    pub const ARGUMENT_BYTES: usize = 128 * 1024 - 1;
    /// A command: a little less than an argument, because engines prepend a few words of their own.
    pub const COMMAND_BYTES: usize = 127 * 1024;
    /// All variables together, each with its `=` and its terminating NUL. With the longest command and what
    /// Kubernetes stores about each variable, they fit into one of its objects (etcd accepts 1.5 MiB), and into what
    /// Linux allows a new process, a quarter of its stack (2 MiB).
    pub const ENV_BYTES: usize = 512 * 1024;
    /// The variables of a definition, and those of a run without the server's own.
    pub const ENV_ITEMS: usize = 1_000;
    /// Names that are indexed and shown in lists: alias, group, tag, owner, key.
    pub const NAME_BYTES: usize = 255;
    /// An image reference: registry and repository (255), tag (128) and digest fit well below.
    pub const IMAGE_BYTES: usize = 1024;
    /// Free text written by a person: description, reasons.
    pub const TEXT_BYTES: usize = 16 * 1024;
    /// Tags, ports and labels of one task.
    pub const LIST_ITEMS: usize = 256;
    /// Memory and storage in MB: one PiB.
    pub const MEGABYTES: i64 = 1 << 30;
    /// CPU in thousandths of a core: ten thousand cores.
    pub const CPU_MILLIS: i64 = 10_000_000;
    /// Whole GPUs.
    pub const GPUS: i64 = 10_000;
    /// A deadline in seconds: ten years.
    pub const DEADLINE_SECS: i64 = 10 * 366 * 24 * 3600;
}
