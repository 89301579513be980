//! Orphans: ends runs with a stored stop that are on no engine, and stops descendants of a stopped run that were
//! missed. Covers all clusters, including runs left by a server that died or belonging to a removed cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Global;
use crate::control::apply::apply;
use crate::control::loops::Loop;
use crate::model::{Run, StopCause, StopRequest, stop_before_start};
use crate::store::StoreError;

pub(super) struct Orphans {
    global: Arc<Global>,
    stops: watch::Receiver<()>,
    /// When orphans are searched for again, which looks at everything that goes on.
    search_due: Instant,
}

impl Orphans {
    pub(super) fn new(global: &Arc<Global>) -> Self {
        Self { global: Arc::clone(global), stops: global.wake.on_stops(), search_due: Instant::now() }
    }
}

impl Loop for Orphans {
    const NAME: &'static str = "orphans";
    const PERIOD: Duration = Duration::from_secs(30);

    async fn step(&mut self) -> Result<(), StoreError> {
        self.stops.mark_unchanged();
        let ended = self.global.end_stopped().await;
        if Instant::now() >= self.search_due {
            self.global.stop_orphans().await?;
            self.search_due = Instant::now() + Self::PERIOD;
        }
        ended
    }

    async fn is_due(&mut self) {
        tokio::select! {
            // An error would mean that the sender is gone, but `global` holds it.
            Ok(()) = self.stops.changed() => {}
            () = sleep_until(self.search_due) => {}
        }
    }
}

impl Global {
    /// Ends the runs that are to stop and on no engine.
    pub async fn end_stopped(&self) -> Result<(), StoreError> {
        for run in self.store.stopping_waiting().await? {
            if let Some(stop) = &run.stop {
                self.end_waiting(&run, stop.cause).await;
            }
        }
        Ok(())
    }

    /// Stops the descendants of stopped runs that were missed.
    pub async fn stop_orphans(&self) -> Result<(), StoreError> {
        for orphan in self.store.orphans_to_stop().await? {
            if !self.tenure.is_held() {
                break;
            }
            if !self.end_waiting(&orphan.run, orphan.cause).await
                && self.store.request_stop(&orphan.run, &StopRequest::new(orphan.cause, self.clock.now())).await?
            {
                self.wake.stops();
            }
        }
        Ok(())
    }

    /// Ends a run that no engine has; `false` if an engine may have it.
    async fn end_waiting(&self, run: &Run, cause: StopCause) -> bool {
        let Some(change) = stop_before_start(run, cause, self.clock.now()) else { return false };
        if apply(&self.store, &self.wake, run, &change).await {
            // It may have blocked other runs.
            self.wake.queue();
        }
        true
    }
}
