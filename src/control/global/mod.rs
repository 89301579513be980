//! Work on the whole database, for all clusters, including removed ones. Each loop has a file of its own with its
//! name, its period and its step, and a line in [`run_loops`].

mod kept_time;
mod orphans;
mod requeue;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use kept_time::KeptTime;
pub use requeue::Retries;

use super::LoopRegistry;
use super::loops::Starter;
use crate::clock::Clock;
use crate::lease::Tenure;
use crate::logs::Logs;
use crate::store::Store;
use crate::wake::Wake;
use orphans::Orphans;
use requeue::Requeue;
use retention::Retention;

/// What the loops over the whole database share.
pub struct Global {
    pub store: Arc<Store>,
    pub logs: Arc<Logs>,
    pub wake: Wake,
    pub clock: Clock,
    /// Whether this server may still decide.
    pub tenure: Tenure,
    /// How long the log of an ended run is kept; `None` keeps it indefinitely.
    pub log_retention: Option<Duration>,
    /// Shared with the clusters.
    pub retries: Retries,
}

/// Runs the loops over the whole database until `stop`. A step that has begun is finished.
pub fn run_loops(global: &Arc<Global>, registry: &LoopRegistry, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    global.retries.read_again();
    let mut starter = Starter { cluster: None, registry, tenure: &global.tenure, stop, tasks };
    starter.start(Requeue(Arc::clone(global)));
    starter.start(Orphans::new(global));
    starter.start(Retention::new(Arc::clone(global)));
}
