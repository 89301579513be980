//! Stops: requested, or due because a run took too long; carried out until the run is observed to have ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::Control;
use super::ages::Phase;
use super::watch::handle_of;
use crate::engine::EngineError;
use crate::model::{AttemptId, EventType, Observation, Run, StartFault, Status, StopCause, StopRequest, decide};
use crate::store::{ActiveAttempt, StoreError};

/// Pause before observing an attempt again for which the engine found nothing to stop, yet which it still shows.
const PAUSE_BEFORE_LOOK: Duration = Duration::from_secs(1);
/// How many of a run's newest events are searched for the reason why it did not start.
const EVENTS_SEARCHED: u32 = 50;

impl Control {
    /// Makes sure that an active run ends when it has to: carries out a stored stop, and stores and carries out one
    /// that has become due. Returns how long the run may go on.
    pub(super) async fn keep_bounds(self: &Arc<Self>, attempt: &ActiveAttempt, run: &Run) -> Option<SignedDuration> {
        if let Some(stop) = &run.stop {
            self.carry_out_stop(attempt, stop).await;
            return None;
        }
        let left = self.time_left(attempt, run)?;
        if left > SignedDuration::ZERO {
            return Some(left);
        }
        let stop = self.store_due_stop(run).await?;
        self.carry_out_stop(attempt, &stop).await;
        None
    }

    /// How long a run may go on before it has to be stopped; `None` if unbounded. It is measured from the attempt's
    /// claim until its command runs, and then from when it was first observed running: the engine's clock may differ
    /// from ours.
    fn time_left(&self, attempt: &ActiveAttempt, run: &Run) -> Option<SignedDuration> {
        let (ages, clock, attempt_id) = (&self.state.ages, &self.clock, attempt.attempt_id);
        match run.status {
            Status::Pending => {
                let age = ages.of(attempt_id, Phase::Starting, attempt.claimed_at, clock);
                Some(self.settings.starts.longest?.saturating_sub(age))
            }
            Status::Running => {
                let began_at = run.seen_running_at.or(run.started_at)?;
                let age = ages.of(attempt_id, Phase::Running, began_at, clock);
                let deadline = SignedDuration::from_secs(run.execution.active_deadline_secs?);
                Some(deadline.saturating_sub(age))
            }
            Status::Queued | Status::NeedsRetry | Status::Stopped => None,
        }
    }

    /// Whether a claimed attempt has taken too long to start.
    pub(super) fn is_slow_start(&self, attempt: &ActiveAttempt) -> bool {
        attempt.run.status == Status::Pending
            && self.time_left(attempt, &attempt.run).is_some_and(|left| left <= SignedDuration::ZERO)
    }

    /// Stores the stop of a run whose time is up. `None` if the run has changed, or it could not be stored: the next
    /// observation decides anew.
    pub(super) async fn store_due_stop(&self, run: &Run) -> Option<StopRequest> {
        let stop = match self.due_stop(run).await {
            Ok(stop) => self.store.request_stop(run, &stop).await.map(|is_stored| is_stored.then_some(stop)),
            Err(error) => Err(error),
        };
        stop.unwrap_or_else(|error| {
            tracing::warn!(run_id = %run.run_id, error = &error as &dyn std::error::Error, "a stop that is due was not stored");
            None
        })
    }

    async fn due_stop(&self, run: &Run) -> Result<StopRequest, StoreError> {
        let now = self.clock.now();
        let longest = self.settings.starts.longest.filter(|_| run.status == Status::Pending);
        let Some(longest) = longest else { return Ok(StopRequest::new(StopCause::Deadline, now)) };
        // The last complaint about this attempt, or else its last event.
        let events = self.store.newest_events(run.run_id, EVENTS_SEARCHED).await?;
        let since_claim = events.iter().rev().take_while(|event| event.reason != "Dispatched");
        let newest: Vec<_> = since_claim.collect();
        let complaint = newest.iter().find(|event| event.event_type == EventType::Warning).or(newest.first());
        let noted = complaint.map_or_else(String::new, |event| format!(": {}", event.message));
        let words = format!("it did not start within {longest:#}{noted}");
        Ok(StopRequest { words: Some(words), ..StopRequest::new(StopCause::SlowStart, now) })
    }

    /// Asks the engine to stop the attempt, repeatedly until the run is observed to have ended. That the engine is
    /// asked is stored first: a run that ended before that ended by itself.
    pub(super) async fn carry_out_stop(self: &Arc<Self>, attempt: &ActiveAttempt, stop: &StopRequest) {
        if !self.tenure.is_held() {
            return;
        }
        let attempt_id = attempt.attempt_id;
        let now = self.clock.now();
        let is_first = stop.sent_at.is_none();
        if is_first {
            match self.store.note_stop_sent(attempt_id, now).await {
                Ok(true) => {}
                // Whatever changed the run also causes another observation.
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "a stop could not be stored as sent and is tried again");
                    return;
                }
            }
        }
        match self.engine.stop(&handle_of(attempt), self.settings.grace).await {
            Ok(()) => {}
            // It ended in between, by itself if this was the first request.
            Err(EngineError::Gone(_)) => {
                if is_first && let Err(error) = self.store.forget_stop_sent(attempt_id, now).await {
                    tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "the record of a sent stop could not be undone");
                }
                self.reports.changed_after(attempt_id, PAUSE_BEFORE_LOOK);
            }
            Err(error) => {
                tracing::warn!(%attempt_id, reason = %error, "a stop could not be carried out and is tried again");
            }
        }
    }

    /// Starts ending a run with a stored stop whose attempt was never launched, as far as was observed. No launch can
    /// come in between: it would need the mark that is held here.
    pub(super) fn begin_ending_unlaunched(self: &Arc<Self>, attempt_id: AttemptId) {
        let work = &self.state.work;
        let Some(mark) = work.begin(attempt_id, &work.cleanings) else { return };
        let control = Arc::clone(self);
        work.spawn_logged(async move {
            if let Err(error) = control.end_unlaunched(attempt_id).await {
                tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "the end of a run that never started was not stored and is repeated");
            }
            if mark.end() {
                control.reports.changed(attempt_id);
            }
        });
    }

    async fn end_unlaunched(&self, attempt_id: AttemptId) -> Result<(), StoreError> {
        let attempt = self.store.active_attempt(&self.cluster, attempt_id).await?;
        let Some(attempt) = attempt.filter(|attempt| attempt.is_unlaunched() && attempt.run.stop.is_some()) else {
            return Ok(());
        };
        match self.engine.observe(&[handle_of(&attempt)]).await {
            Ok(observed) if matches!(observed.first(), Some(Observation::Gone { .. })) => {}
            // Something is there: the next observation handles it.
            Ok(_) => return Ok(()),
            Err(error) => {
                self.note_engine(Some(error.to_string()));
                return Ok(());
            }
        }
        if !self.is_still_here(attempt.engine_id.as_ref()).await {
            return Ok(());
        }
        let never_ran =
            Observation::NeverRan { reason: "stopped before it started".to_owned(), fault: StartFault::Task };
        if let Some(change) = decide(&attempt.run, never_ran, self.situation_of(&attempt)) {
            self.apply(&attempt.run, change).await;
        }
        Ok(())
    }

    /// Carries out the stops that were requested since.
    pub async fn watch_stops(self: &Arc<Self>) -> Result<Option<SignedDuration>, StoreError> {
        let stopping = self.store.stopping_attempts(&self.cluster).await?;
        self.watch_some(stopping.into_iter().collect()).await
    }
}
