//! Clean: after a run has stopped, or needs another attempt, nothing of the old attempt is left on the engine: its log
//! is finished first, then its object is removed.

use std::sync::Arc;

use super::Control;
use super::pump::PumpState;
use super::watch::handle_of;
use super::work::behind;
use crate::engine::EngineError;
use crate::model::Observation;
use crate::store::ActiveAttempt;

impl Control {
    /// Begins to clean an attempt, unless that is under way already, or too much else.
    pub(super) fn begin_cleaning(self: &Arc<Self>, attempt: ActiveAttempt) {
        let work = &self.state.work;
        let Some(mark) = work.begin(attempt.attempt_id, &work.cleanings) else { return };
        let control = Arc::clone(self);
        behind(async move {
            control.clean(&attempt).await;
            if mark.end() {
                control.pokes.poke(attempt.attempt_id);
            }
        });
    }

    /// Goes as far as it goes now. What is not done is done at the next look.
    async fn clean(&self, attempt: &ActiveAttempt) {
        let handle = handle_of(attempt);
        let observed = match self.engine.observe(std::slice::from_ref(&handle)).await {
            Ok(observed) => observed.into_iter().next(),
            Err(error) => return self.note_engine(Some(error.to_string())),
        };
        match observed {
            // A job that reported its own end may still be at work: it has the usual grace to finish.
            Some(Observation::Starting | Observation::Running(_)) => {
                self.ensure_pump(attempt.attempt_id, &handle);
                if let Err(error) = self.engine.stop(&handle, self.settings.grace).await {
                    tracing::debug!(attempt_id = %attempt.attempt_id, reason = %error, "what is left could not be stopped yet");
                }
                return;
            }
            Some(Observation::Ended(ended)) => {
                let is_stored = attempt.run.is_log_complete || ended.is_log_complete;
                if !is_stored && self.ensure_pump(attempt.attempt_id, &handle) != PumpState::Finished {
                    return;
                }
            }
            Some(Observation::Unknown { reason }) => {
                tracing::warn!(attempt_id = %attempt.attempt_id, reason, "an attempt could not be looked at");
                return;
            }
            Some(Observation::NeverRan { .. } | Observation::Lost { .. } | Observation::Gone { .. }) | None => {}
        }
        match self.finish(attempt).await {
            Ok(()) => {}
            Err(CleanError::Engine(error)) => {
                tracing::warn!(attempt_id = %attempt.attempt_id, reason = %error, "an ended attempt could not be removed yet");
            }
            Err(CleanError::Store(error)) => {
                tracing::warn!(attempt_id = %attempt.attempt_id, error = &error as &dyn std::error::Error, "the cleaning was not stored and is repeated");
            }
        }
    }

    /// The engine has nothing more to give. Its object goes before the log is called complete, for what is left of an
    /// attempt that got lost may still write.
    async fn finish(&self, attempt: &ActiveAttempt) -> Result<(), CleanError> {
        let attempt_id = attempt.attempt_id;
        self.engine.remove(&handle_of(attempt)).await?;
        self.mark_log_complete(attempt).await?;
        self.store.set_cleaned(attempt_id, self.clock.now()).await?;
        self.forget_pump(attempt_id);
        self.forget_delay(attempt_id);
        // A further attempt may have waited for this.
        self.wake.queue();
        Ok(())
    }

    async fn mark_log_complete(&self, attempt: &ActiveAttempt) -> Result<(), CleanError> {
        let is_newest = attempt.attempt_id == attempt.run.attempt_id();
        if is_newest && attempt.run.status.is_terminal() && !attempt.run.is_log_complete {
            self.store.set_log_complete(attempt.attempt_id.run_id, attempt.attempt_id.attempt).await?;
            self.wake.changed(attempt.attempt_id.run_id);
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum CleanError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
