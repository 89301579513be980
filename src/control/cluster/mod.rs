//! One cluster: the work on its runs, one file for each part, and the loops that do it.

mod ages;
mod apply;
mod clean;
mod delays;
mod dispatch;
mod launch;
mod limit;
mod loops;
mod place;
mod pump;
mod pumps;
mod queue_depth;
mod stop;
mod strays;
mod watch;
mod work;

use std::collections::HashSet;
use std::sync::Arc;

pub use limit::Limit;
pub use loops::run_loops;

use super::Settings;
use super::global::Retries;
use crate::clock::Clock;
use crate::engine::{Engine, Reports};
use crate::lease::Tenure;
use crate::logs::Logs;
use crate::model::QueueDepth;
use crate::store::Store;
use crate::wake::Wake;
use ages::Ages;
use delays::Delays;
use parking_lot::Mutex;
use pumps::Pumps;
use work::Work;

/// How many database changes of one step run concurrently.
const CONCURRENCY: usize = 16;

/// One cluster and its part of the control loops.
pub struct Control {
    pub store: Arc<Store>,
    pub logs: Arc<Logs>,
    pub wake: Wake,
    pub clock: Clock,
    pub settings: Settings,
    /// This server's identity, which is that of its data directory.
    pub server_id: String,
    /// Whether this server may still decide.
    pub tenure: Tenure,
    /// The cluster's own name, never an alias.
    pub cluster: String,
    pub engine: Arc<dyn Engine>,
    pub reports: Reports,
    /// The retries of all clusters.
    pub retries: Retries,
    /// How many runs the cluster may have at once.
    pub max_running: Limit,
    /// The engine's address in the cluster's stored settings: runs are claimed only while the settings still match
    /// it.
    pub endpoint: Option<String>,
    pub state: State,
}

/// What this process is currently doing about attempts; nothing here has to survive it.
#[derive(Default)]
pub struct State {
    work: Work,
    pumps: Pumps,
    ages: Ages,
    delays: Delays,
    /// Held while events that engines reported are stored, so that a task that waited for it finds the earlier ones
    /// in order.
    noting: tokio::sync::Mutex<()>,
    /// Why nothing is concluded about some attempts, so that each reason is logged once.
    elsewhere: Mutex<HashSet<String>>,
    /// The queue depth that was last stored.
    queue_depth: Mutex<Option<QueueDepth>>,
    /// The last complaint about the engine, so that each is logged once.
    complaint: Mutex<Option<String>>,
    /// The last complaint about usage samples, likewise.
    usage_complaint: Mutex<Option<String>>,
}

impl Control {
    /// Waits until the launches and removals that steps began are done. The loops don't wait: each ends with a poke.
    pub async fn until_work_is_done(&self) {
        self.state.work.until_done().await;
    }

    /// Ends what runs beside the loops, which must have ended before: launches and removals, which may take a moment
    /// longer, the pumps, and the engine's background work. What is interrupted is found again by its name, as after
    /// a crash. After this returns, nothing here acts for any attempt, and another set of loops may begin.
    pub async fn end(&self) {
        self.state.work.end().await;
        self.end_pumps().await;
        self.engine.close().await;
    }

    /// Logs that the engine can't be asked, or can be again: once each.
    fn note_engine(&self, complaint: Option<String>) {
        let mut last = self.state.complaint.lock();
        match (&complaint, &*last) {
            (Some(reason), last) if last.as_ref() != Some(reason) => {
                tracing::warn!(
                    cluster = self.cluster,
                    reason,
                    "the cluster can't be reached; nothing is concluded about its runs"
                );
            }
            (None, Some(_)) => {
                tracing::info!(cluster = self.cluster, "the cluster answers again");
                self.state.delays.end_pauses();
                self.wake.queue();
            }
            _ => {}
        }
        *last = complaint;
    }

    /// Logs once that usage samples can't be stored.
    fn note_usage_problem(&self, complaint: Option<String>) {
        let mut last = self.state.usage_complaint.lock();
        if let Some(reason) = complaint.as_ref().filter(|reason| last.as_ref() != Some(*reason)) {
            tracing::warn!(cluster = self.cluster, reason, "usage samples can't be stored");
        }
        *last = complaint;
    }
}
