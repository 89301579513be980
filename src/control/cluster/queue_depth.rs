//! Queue depth: samples how many runs wait, for later inspection.

use super::Control;
use crate::model::QueueDepth;
use crate::store::StoreError;

impl Control {
    /// Stores the most runs observed waiting. Nothing is written if none waits.
    pub async fn note_queue_depth(&self) -> Result<(), StoreError> {
        let seen = QueueDepth::now(self.store.waiting_for(&self.cluster).await?, self.clock.now());
        let before = *self.state.queue_depth.lock();
        if seen.is_news_after(before) {
            self.store.note_queue_depth(&self.cluster, seen).await?;
            *self.state.queue_depth.lock() = Some(seen);
        }
        Ok(())
    }
}
