//! Clean: after a run has stopped, or needs another attempt, removes everything of the old attempt from the engine.
//!
//! The log comes first, and independently: it is complete as soon as its last byte is stored, whatever becomes of the
//! engine's object. Only if the end of an attempt was not observed does the object go first, since what is left of it
//! may still write; and a log that has no writer is complete even if that removal fails.

use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use super::Control;
use super::pumps::{PumpState, Verdict};
use super::watch::{handle_of, is_of_something_there};
use crate::engine::{EngineError, Handle};
use crate::logs::{Sealed, is_busy};
use crate::model::{Event, LOG_CUT, Observation, Outcome};
use crate::store::ActiveAttempt;

/// A log that will not change any more.
struct LogEnd {
    /// Why some of it may be missing.
    gap: Option<String>,
}

impl Control {
    /// Starts cleaning an attempt, unless that is under way already or too many cleanings are.
    pub(super) fn begin_cleaning(self: &Arc<Self>, attempt: ActiveAttempt) {
        let work = &self.state.work;
        let Some(mark) = work.begin(attempt.attempt_id, &work.cleanings) else { return };
        let control = Arc::clone(self);
        work.spawn_logged(async move {
            let attempt_id = attempt.attempt_id;
            match control.clean(&attempt).await {
                Ok(()) => {}
                Err(CleanError::Engine(error)) => {
                    tracing::warn!(%attempt_id, reason = %error, "an ended attempt could not be removed yet");
                    control.note_removal_delay(&attempt, &error.to_string()).await;
                }
                Err(error) => {
                    tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "an ended attempt could not be cleaned up and is tried again");
                }
            }
            if mark.end() {
                control.reports.changed(attempt_id);
            }
        });
    }

    /// Cleans as far as possible now. The rest is done at the next observation.
    async fn clean(&self, attempt: &ActiveAttempt) -> Result<(), CleanError> {
        let attempt_id = attempt.attempt_id;
        let handle = handle_of(attempt);
        // The engine need not be asked for this, unless the end of the attempt was not observed: then it has to be
        // asked whether it has seen the end of the output.
        if let PumpState::Finished { gap } = self.state.pumps.state(attempt_id)
            && attempt.run.exit_code.is_some()
        {
            self.mark_log_complete(attempt, LogEnd { gap }).await?;
        }
        let observed = match self.engine.observe(std::slice::from_ref(&handle)).await {
            Ok(observed) => observed.into_iter().next(),
            Err(error) => {
                self.state.pumps.excuse(attempt_id);
                self.note_engine(Some(error.to_string()));
                return Ok(());
            }
        };
        if !self.tenure.is_held() {
            return Ok(());
        }
        let is_seen = observed.as_ref().is_some_and(is_of_something_there);
        if !is_seen && !self.is_still_here(attempt.engine_id.as_ref()).await {
            return Ok(());
        }
        match observed {
            // A job that reported its own end may still be working: it gets the usual grace period to finish.
            Some(Observation::Starting | Observation::Running(_)) => {
                if !attempt.run.is_log_complete {
                    self.ensure_pump(attempt_id, &handle);
                }
                if let Err(error) = self.engine.stop(&handle, self.settings.grace).await {
                    tracing::debug!(%attempt_id, reason = %error, "what is left could not be stopped yet");
                }
                Ok(())
            }
            Some(Observation::Unknown { reason }) => {
                self.state.pumps.excuse(attempt_id);
                tracing::warn!(%attempt_id, reason, "an attempt could not be observed");
                Ok(())
            }
            // Nothing is ever pumped into a complete log.
            _ if attempt.run.is_log_complete => self.clean_whole(attempt, &handle).await,
            Some(Observation::Ended(ended)) if ended.is_log_complete => self.clean_whole(attempt, &handle).await,
            Some(Observation::NeverRan { .. }) | None => self.clean_whole(attempt, &handle).await,
            Some(Observation::Ended(_)) => self.clean_ended(attempt, &handle, None).await,
            Some(Observation::Lost { reason, .. }) => match self.ensure_pump(attempt_id, &handle) {
                PumpState::InPlace => self.clean_unseen(attempt, &handle, &reason).await,
                PumpState::Running | PumpState::Waiting | PumpState::Finished { .. } => {
                    self.clean_ended(attempt, &handle, Some(reason)).await
                }
            },
            Some(Observation::Gone { reason }) => self.clean_unseen(attempt, &handle, &reason).await,
        }
    }

    /// Removes what is left on the engine, provided that this server may do so.
    async fn remove(&self, handle: &Handle) -> Result<(), EngineError> {
        if !self.tenure.is_held() {
            return Err(EngineError::Unavailable("this server may not decide at the moment".to_owned()));
        }
        self.engine.remove(handle).await
    }

    /// Cleans an attempt whose log is whole.
    async fn clean_whole(&self, attempt: &ActiveAttempt, handle: &Handle) -> Result<(), CleanError> {
        self.mark_log_complete(attempt, LogEnd { gap: None }).await?;
        self.remove(handle).await?;
        self.mark_cleaned(attempt).await
    }

    /// Cleans an attempt that has ended, once all its output is stored. If the engine did not observe the end, for
    /// the given reason, that is all the output there is: what had not reached the engine by then is lost.
    async fn clean_ended(
        &self,
        attempt: &ActiveAttempt,
        handle: &Handle,
        unseen: Option<String>,
    ) -> Result<(), CleanError> {
        let Some(LogEnd { gap }) = self.end_of_output(attempt, handle).await? else { return Ok(()) };
        self.mark_log_complete(attempt, LogEnd { gap: gap.or(unseen) }).await?;
        self.remove(handle).await?;
        self.mark_cleaned(attempt).await
    }

    /// Cleans an attempt whose end the engine did not observe, and of which it has no output.
    async fn clean_unseen(&self, attempt: &ActiveAttempt, handle: &Handle, reason: &str) -> Result<(), CleanError> {
        let removed = self.remove(handle).await;
        if Self::needs_log_end(attempt) {
            match self.seal(attempt, reason).await? {
                Some(end) => self.mark_log_complete(attempt, end).await?,
                // What still writes is ended by the removal, or ends by itself.
                None => return removed.map_err(CleanError::from),
            }
        }
        removed?;
        self.mark_cleaned(attempt).await
    }

    /// How the output of an ended attempt ended; `None` while more may come.
    async fn end_of_output(&self, attempt: &ActiveAttempt, handle: &Handle) -> Result<Option<LogEnd>, CleanError> {
        let attempt_id = attempt.attempt_id;
        match self.ensure_pump(attempt_id, handle) {
            PumpState::Finished { gap } => return Ok(Some(LogEnd { gap })),
            PumpState::InPlace => return self.seal(attempt, "its writer has gone").await,
            PumpState::Running | PumpState::Waiting => {}
        }
        match self.state.pumps.judge(attempt_id, self.settings.log_patience, Instant::now()) {
            Verdict::Wait => Ok(None),
            Verdict::AskAnew(reason) => {
                self.note_log_delay(attempt_id, &reason);
                if self.state.pumps.end(attempt_id).await {
                    self.ensure_pump(attempt_id, handle);
                }
                Ok(None)
            }
            Verdict::GiveUp(reason) => self.seal(attempt, &reason).await,
        }
    }

    /// Seals the log as it is, for this reason; `None` while it still has a writer.
    async fn seal(&self, attempt: &ActiveAttempt, reason: &str) -> Result<Option<LogEnd>, CleanError> {
        let attempt_id = attempt.attempt_id;
        if !self.state.pumps.end(attempt_id).await {
            return Ok(None);
        }
        let (logs, cap_bytes, why) = (Arc::clone(&self.logs), self.settings.log_cap_bytes, reason.to_owned());
        let sealing = tokio::task::spawn_blocking(move || logs.seal(attempt_id, cap_bytes, &why));
        match sealing.await.map_err(io::Error::other)? {
            Ok(Sealed::Whole { gap }) => Ok(Some(LogEnd { gap })),
            // An attempt that never started wrote nothing.
            Ok(Sealed::Absent) => {
                let may_have_started = attempt.run.started_at.is_some() || attempt.run.outcome == Some(Outcome::Lost);
                Ok(Some(LogEnd { gap: may_have_started.then(|| reason.to_owned()) }))
            }
            Err(error) if is_busy(&error) => {
                tracing::debug!(%attempt_id, reason = %error, "the log of an ended attempt is still written");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn mark_log_complete(&self, attempt: &ActiveAttempt, end: LogEnd) -> Result<(), CleanError> {
        let attempt_id = attempt.attempt_id;
        if !Self::needs_log_end(attempt) {
            return Ok(());
        }
        // Readers who find a complete log must find the run's whole history, such as that the log was delayed and
        // then came.
        self.store_notes().await?;
        let message = end.gap.map(|reason| format!("the end of the log may be missing: {reason}"));
        let event = message.map(|message| Event::warning(self.clock.now(), LOG_CUT, message));
        if self.store.set_log_complete(attempt_id, event.as_ref()).await? {
            self.wake.changed(attempt_id.run_id);
        }
        Ok(())
    }

    /// Whether the run's log ends with this attempt, and is not known to be complete.
    fn needs_log_end(attempt: &ActiveAttempt) -> bool {
        let run = &attempt.run;
        attempt.attempt_id == run.attempt_id() && run.status.is_terminal() && !run.is_log_complete
    }

    /// Records in the run's events why its next attempt does not start.
    async fn note_removal_delay(&self, attempt: &ActiveAttempt, reason: &str) {
        let (attempt_id, run) = (attempt.attempt_id, &attempt.run);
        if run.status.is_terminal() || !self.state.delays.is_news(attempt_id, reason, Instant::now()) {
            return;
        }
        let number = attempt_id.attempt;
        let message = format!(
            "the next attempt waits until nothing of attempt {number} is left, which can't be removed now: {reason}"
        );
        let event = Event::warning(self.clock.now(), "RemovalDelayed", message);
        if let Err(error) = self.store.append_unsaid_event(run.run_id, &event).await {
            tracing::warn!(run_id = %run.run_id, error = &error as &dyn std::error::Error, "an event was not stored");
        }
    }

    async fn mark_cleaned(&self, attempt: &ActiveAttempt) -> Result<(), CleanError> {
        let attempt_id = attempt.attempt_id;
        self.store.set_cleaned(attempt_id, self.clock.now()).await?;
        self.state.pumps.forget(attempt_id);
        self.state.delays.forget(attempt_id);
        // A further attempt may have waited for this.
        self.wake.queue();
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum CleanError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error("the log could not be ended")]
    Log(#[from] io::Error),
}
