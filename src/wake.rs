//! Wake-ups from code that changes the database to the loops that act on it. They carry no facts: a woken loop reads
//! the database again, and a lost wake-up costs only one timer period.

use tokio::sync::{broadcast, watch};

use crate::model::RunId;

/// The number of simultaneous run changes after which a slow listener must check everything again.
const REMEMBERED_CHANGES: usize = 1024;

#[derive(Debug, Clone)]
pub struct Wake {
    queue: watch::Sender<()>,
    stops: watch::Sender<()>,
    clusters: watch::Sender<()>,
    changes: broadcast::Sender<RunId>,
    change_count: watch::Sender<u64>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            queue: watch::Sender::new(()),
            stops: watch::Sender::new(()),
            clusters: watch::Sender::new(()),
            changes: broadcast::Sender::new(REMEMBERED_CHANGES),
            change_count: watch::Sender::new(0),
        }
    }
}

impl Wake {
    /// There may be something to start: a run was queued, or a place became free.
    pub fn queue(&self) {
        self.queue.send_replace(());
    }

    /// A run was asked to stop.
    pub fn stops(&self) {
        self.stops.send_replace(());
    }

    /// A cluster was created, changed or deleted.
    pub fn clusters(&self) {
        self.clusters.send_replace(());
        self.change_count.send_modify(|count| *count += 1);
    }

    /// A run changed its status, or its log became complete.
    pub fn changed(&self, run_id: RunId) {
        // An error means that there are no listeners.
        let _ = self.changes.send(run_id);
        self.change_count.send_modify(|count| *count += 1);
    }

    #[must_use]
    pub fn on_queue(&self) -> watch::Receiver<()> {
        self.queue.subscribe()
    }

    #[must_use]
    pub fn on_stops(&self) -> watch::Receiver<()> {
        self.stops.subscribe()
    }

    #[must_use]
    pub fn on_clusters(&self) -> watch::Receiver<()> {
        self.clusters.subscribe()
    }

    /// How often runs and clusters have changed since this process began.
    #[must_use]
    pub fn change_count(&self) -> watch::Receiver<u64> {
        self.change_count.subscribe()
    }

    /// Waits until this run changes, or many others do at once.
    #[must_use]
    pub fn on_change(&self) -> broadcast::Receiver<RunId> {
        self.changes.subscribe()
    }
}
