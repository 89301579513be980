//! The loops that make stored runs happen: those of one cluster ([`cluster`]), and those over the whole database
//! ([`global`]).
//!
//! Every loop re-reads the database and asks the engine; what woke it carries no facts and only makes it look sooner.
//! A step is safe to repeat and holds no transaction across an engine call. Decisions are functions of values
//! (`model::decide`, `model::schedule::plan`); the loops carry them out. A run is finished only by
//! what was observed: where the engine can't be asked, nothing is concluded.

mod apply;
pub mod cluster;
pub mod global;
mod loops;
mod registry;

use std::time::Duration;

pub use cluster::Control;
pub use global::Global;
pub use registry::{LoopRegistry, LoopReport, LoopTrouble, RegisteredLoop, StepError};

use crate::model::StartLimits;

/// [`Settings::log_patience`] of a server. A node that restarts is back by then.
pub const LOG_PATIENCE: Duration = Duration::from_mins(10);

/// What the operator decided about running.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a process may take to end after SIGTERM before it is killed.
    pub grace: Duration,
    /// How much of a run's output is kept.
    pub log_cap_bytes: u64,
    /// How long the rest of an ended run's output is waited for while the engine answers and gives nothing of it.
    pub log_patience: Duration,
    /// How long it is tried to start a run.
    pub starts: StartLimits,
}
