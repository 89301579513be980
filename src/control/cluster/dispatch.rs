//! Dispatch: claims queued runs for the free places of a cluster, and hands them to its engine.

use std::sync::Arc;

use super::Control;
use super::ages::Phase;
use crate::model::schedule::{Room, plan};
use crate::store::{Claimant, StoreError};

impl Control {
    /// Starts all runs that can start.
    pub async fn dispatch(self: &Arc<Self>) -> Result<(), StoreError> {
        while self.dispatch_batch().await? {}
        Ok(())
    }

    /// Returns whether there may be more to start.
    async fn dispatch_batch(self: &Arc<Self>) -> Result<bool, StoreError> {
        // No more is claimed than can be handed over at once: the rest stays in the queue, where it is visible as
        // waiting.
        let places = u32::try_from(self.state.work.launches.available_permits()).unwrap_or(u32::MAX);
        if places == 0 {
            return Ok(false);
        }
        let queue = self.store.next_queued(&self.cluster, places).await?;
        if queue.is_empty() {
            return Ok(false);
        }
        let max_running = self.max_running.get();
        let (running, reserved) = self.store.reserved(&self.cluster).await?;
        let room = Room { max_running, capacity: self.engine.capacity(), running, reserved };
        let chosen = plan(&queue, room).start;
        if chosen.is_empty() {
            return Ok(false);
        }
        let max_running = max_running.unwrap_or(u32::MAX);
        // Nothing is claimed for an engine whose identity is unknown: the runs wait in the queue instead.
        let Ok(answers) = self.here().await else { return Ok(false) };
        let claimant =
            Claimant { server_id: &self.server_id, engine_id: answers.id(), endpoint: self.endpoint.as_deref() };
        let claimed = self.store.claim(&self.cluster, &chosen, max_running, claimant, self.clock.now()).await?;
        for run in &claimed {
            self.wake.changed(run.run_id);
            self.state.ages.begin(run.attempt_id(), Phase::Starting, &self.clock);
            self.begin_launch(run);
        }
        Ok(!claimed.is_empty())
    }
}
