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
use super::loops::{Loop, run};
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
    let mut starter = Starter { global, registry, stop, tasks };
    starter.start(Requeue(Arc::clone(global)));
    starter.start(Orphans::new(global));
    starter.start(Retention::new(Arc::clone(global)));
}

struct Starter<'a> {
    global: &'a Global,
    registry: &'a LoopRegistry,
    stop: &'a CancellationToken,
    tasks: &'a mut JoinSet<()>,
}

impl Starter<'_> {
    fn start<L: Loop>(&mut self, work: L) {
        let Self { global, registry, stop, .. } = self;
        self.tasks.spawn(run(work, None, (*registry).clone(), global.tenure.clone(), (*stop).clone()));
    }
}
