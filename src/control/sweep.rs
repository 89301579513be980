//! Sweep: what the other loops can't see. Objects of ours on the engine that no attempt accounts for are removed, and
//! children that were launched while their parent was being stopped are stopped, too.

use super::Control;
use crate::model::StopCause;
use crate::store::StoreError;

impl Control {
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.stop_orphans().await?;
        self.remove_strays().await
    }

    async fn stop_orphans(&self) -> Result<(), StoreError> {
        let orphans = self.store.orphans_to_stop().await?;
        for run in orphans.iter().filter(|run| run.execution.resolved_cluster == self.cluster) {
            let now = self.clock.now();
            match crate::model::stop_before_start(run, StopCause::Parent, now) {
                Some(change) => self.apply(run, change).await,
                None => {
                    self.store.request_stop(run.run_id, StopCause::Parent, now).await?;
                    self.wake.stops();
                }
            }
        }
        Ok(())
    }

    /// An object is a stray only where the database says that nothing of its attempt is left. One that the database has
    /// never heard of may belong to a newer copy of it: it is told of, and left alone.
    async fn remove_strays(&self) -> Result<(), StoreError> {
        let handles = match self.engine.list_ours().await {
            Ok(handles) => handles,
            Err(error) => {
                self.note_engine(Some(error.to_string()));
                return Ok(());
            }
        };
        for handle in handles {
            let attempt_id = handle.attempt_id;
            match self.store.is_cleaned(attempt_id).await? {
                Some(true) => match self.engine.remove(&handle).await {
                    Ok(()) => {
                        tracing::info!(%attempt_id, cluster = self.cluster, "removed what was left of an ended attempt");
                    }
                    Err(error) => tracing::warn!(%attempt_id, reason = %error, "a stray could not be removed yet"),
                },
                Some(false) => {}
                None => {
                    tracing::debug!(%attempt_id, cluster = self.cluster, "the engine has an attempt the database does not know");
                }
            }
        }
        Ok(())
    }
}
