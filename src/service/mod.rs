//! The use cases: operations of people and programs on definitions and runs, shared by the API and the pages.
//!
//! It knows the store and the logs, but no engine: the check whether a cluster can run something is passed in as a
//! function.

mod caller;
mod clusters;
mod definitions;
mod error;
pub mod explain;
mod launches;
mod log_lines;
mod logs;
mod overview;
mod readiness;
mod runs;

use std::sync::Arc;

use jiff::Timestamp;

pub use crate::logs::{LogPiece, LogToken};
pub use caller::{Acting, Caller};
pub use clusters::{Cluster, Clusters, LaunchCheck, Probe, SettingsCheck};
pub use definitions::DefinitionChange;
pub use error::{ServiceError, is_out_of_files};
pub use log_lines::{
    Line, LinesFrom, LogExtent, LogHits, LogLines, Piece, Pieces, SearchFrom, Style, WEIGHTS, whole_length,
};
pub use logs::{LogFollower, LogRead};
pub use overview::{ClusterRuns, Overview};
pub use readiness::{LoopFault, LoopFaults, Unready};
pub use runs::{RunDetails, RunStory};

use crate::clock::Clock;
use crate::lease::Lease;
use crate::logs::Logs;
use crate::model::LaunchPolicy;
use crate::store::Store;
use crate::wake::Wake;
use logs::LogWaits;
use readiness::Readiness;

/// The cluster of a launch that names none.
pub const DEFAULT_CLUSTER: &str = "default";

pub struct Service {
    store: Arc<Store>,
    logs: Arc<Logs>,
    wake: Wake,
    clock: Clock,
    policy: LaunchPolicy,
    clusters: Clusters,
    lease: Lease,
    /// The owner of the data directory used by what local clusters start.
    server_id: String,
    readiness: Readiness,
    log_waits: LogWaits,
    started_at: Timestamp,
}

impl Service {
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        logs: Arc<Logs>,
        wake: Wake,
        clock: Clock,
        policy: LaunchPolicy,
        clusters: Clusters,
        lease: Lease,
    ) -> Self {
        let started_at = clock.now();
        let (server_id, readiness, log_waits) = (String::new(), Readiness::default(), LogWaits::default());
        Self { store, logs, wake, clock, policy, clusters, lease, server_id, readiness, log_waits, started_at }
    }

    #[must_use]
    pub fn with_server_id(self, server_id: String) -> Self {
        Self { server_id, ..self }
    }

    /// Where readiness checks for loops that hang.
    #[must_use]
    pub fn with_loop_faults(self, loop_faults: LoopFaults) -> Self {
        Self { readiness: Readiness::new(loop_faults), ..self }
    }

    #[must_use]
    pub const fn is_owner_required(&self) -> bool {
        self.policy.is_owner_required
    }

    /// The server clock's current time, used for everything it stores.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }
}
