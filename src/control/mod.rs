//! The loops that carry out stored runs: those of one cluster ([`cluster`]), and those over the whole database
//! ([`global`]).
//!
//! Every loop re-reads the database and asks the engine; a wake-up carries no facts and only makes the next step
//! start sooner. A step is safe to repeat and holds no transaction across an engine call. Decisions are pure
//! functions of values (`model::decide`, `model::schedule::plan`); the loops carry them out. A run is finished only
//! by what was observed: if the engine can't be asked, nothing is concluded.

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

/// The [`Settings::log_patience`] of a server. A node that restarts is back by then.
pub const LOG_PATIENCE: Duration = Duration::from_mins(10);

/// The operator's settings for running.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a process may take to end after SIGTERM before it is killed.
    pub grace: Duration,
    /// How much of a run's output is kept.
    pub log_cap_bytes: u64,
    /// How long to wait for the rest of an ended run's output while the engine answers but delivers none of it.
    pub log_patience: Duration,
    /// Limits on trying to start a run.
    pub starts: StartLimits,
}
