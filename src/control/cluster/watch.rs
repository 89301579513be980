//! Watch: observes every attempt that an engine may have, and derives the run's next transition from it.
//!
//! ```text
//! attempt of …                     is …
//! a PENDING run, without a handle  asked for by name: adopted if it runs, launched again if it does not
//! a PENDING or RUNNING run         observed; stopped if a stop is stored; its output pumped
//! any other run, or an older one   cleaned: its log finished, its object removed
//! ```
//!
//! The first row is the recovery from a crash: there is no other code for it.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ages::Phase;
use super::{CONCURRENCY, Control};
use crate::engine::Handle;
use crate::model::{AttemptId, Elsewhere, Observation, Run, Situation, Status, decide};
use crate::store::{ActiveAttempt, StoreError};

/// How many attempts one request to the engine names.
const OBSERVED_TOGETHER: usize = 256;

impl Control {
    /// Observes every attempt of the cluster. Returns how long until the earliest of their bounds passes.
    pub async fn watch_all(self: &Arc<Self>) -> Result<Option<SignedDuration>, StoreError> {
        self.store_samples().await;
        self.store_notes().await?;
        let active = self.store.active_attempts(&self.cluster).await?;
        self.state.pumps.forget_except(&active);
        let ids: HashSet<_> = active.iter().map(|attempt| attempt.attempt_id).collect();
        self.state.ages.retain(|attempt_id| ids.contains(&attempt_id));
        self.observe_all(active).await
    }

    /// Observes these attempts. Returns how long until the earliest of their bounds passes.
    pub async fn watch_some(
        self: &Arc<Self>,
        attempt_ids: BTreeSet<AttemptId>,
    ) -> Result<Option<SignedDuration>, StoreError> {
        self.store_samples().await;
        self.store_notes().await?;
        let mut active = Vec::new();
        for attempt_id in attempt_ids {
            active.extend(self.store.active_attempt(&self.cluster, attempt_id).await?);
        }
        self.observe_all(active).await
    }

    /// Stores what the engine reported about attempts beside their status as events of their runs. What can't be
    /// stored now is kept for the next time. When this returns, everything reported before the call is stored.
    pub(super) async fn store_notes(&self) -> Result<(), StoreError> {
        let _noting = self.state.noting.lock().await;
        let mut notes = VecDeque::from(self.reports.take_notes());
        while let Some((attempt_id, event)) = notes.front() {
            match self.store.append_event(attempt_id.run_id, event).await {
                Ok(()) => {}
                Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::TookTooLong(_))) => {
                    self.reports.put_back(notes.into());
                    return Err(error);
                }
                // It would be refused again, and block everything after it.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%attempt_id, reason = event.reason, error, "an event was refused by the database and is dropped");
                }
            }
            notes.pop_front();
        }
        Ok(())
    }

    /// Usage samples are stored beside the logs. A sample that can't be stored is missing from a chart, and blocks
    /// nothing.
    async fn store_samples(&self) {
        let samples = self.reports.take_samples();
        if samples.is_empty() {
            return;
        }
        let logs = Arc::clone(&self.logs);
        let storing = tokio::task::spawn_blocking(move || {
            let stored = samples.into_iter().map(|(attempt_id, sample)| logs.note_usage(attempt_id, sample));
            stored.fold(Ok(()), Result::and)
        });
        let stored = storing.await.map_err(io::Error::other).flatten();
        self.note_usage_problem(stored.err().map(|error| error.to_string()));
    }

    /// Returns how long until the earliest of their bounds passes.
    async fn observe_all(self: &Arc<Self>, attempts: Vec<ActiveAttempt>) -> Result<Option<SignedDuration>, StoreError> {
        let mut to_observe = Vec::new();
        let mut to_clean = Vec::new();
        for attempt in self.only_here(attempts).await? {
            if self.state.work.is_on(attempt.attempt_id) {
                continue;
            }
            let is_newest = attempt.attempt_id == attempt.run.attempt_id();
            match attempt.run.status {
                Status::Pending | Status::Running if is_newest => to_observe.push(attempt),
                _ => to_clean.push(attempt),
            }
        }
        let mut next = None;
        for together in to_observe.chunks(OBSERVED_TOGETHER) {
            next = next.into_iter().chain(self.observe(together).await).min();
        }
        for attempt in to_clean {
            self.begin_cleaning(attempt);
        }
        Ok(next)
    }

    async fn observe(self: &Arc<Self>, attempts: &[ActiveAttempt]) -> Option<SignedDuration> {
        let handles: Vec<Handle> = attempts.iter().map(handle_of).collect();
        match self.engine.observe(&handles).await {
            Ok(observations) => {
                self.note_engine(None);
                let next = Mutex::new(None);
                let seen = self.believed(attempts, observations).await;
                stream::iter(seen)
                    .for_each_concurrent(CONCURRENCY, |(attempt, observation)| {
                        let next = &next;
                        async move {
                            let left = self.conclude(attempt, observation).await;
                            let mut next = next.lock();
                            *next = next.into_iter().chain(left).min();
                        }
                    })
                    .await;
                next.into_inner()
            }
            Err(error) => {
                self.note_engine(Some(error.to_string()));
                None
            }
        }
    }

    /// What the engine shows is believed; that something is missing, only if it is still the engine that has the
    /// attempt.
    async fn believed<'a>(
        &self,
        attempts: &'a [ActiveAttempt],
        observations: Vec<Observation>,
    ) -> Vec<(&'a ActiveAttempt, Observation)> {
        let seen: Vec<_> = attempts.iter().zip(observations).collect();
        if seen.iter().all(|(_, observation)| is_of_something_there(observation)) {
            return seen;
        }
        let answers = self.here_now().await.ok();
        let is_still_here = |attempt: &ActiveAttempt| {
            answers.as_ref().is_some_and(|answers| Elsewhere::of(attempt.engine_id.as_ref(), answers).is_none())
        };
        let is_believed = |(attempt, observation): &(&ActiveAttempt, Observation)| {
            is_of_something_there(observation) || is_still_here(attempt)
        };
        seen.into_iter().filter(is_believed).collect()
    }

    /// Derives the run's next transition from the observation. Returns how long the run may go on, if it does and
    /// that is bounded.
    async fn conclude(self: &Arc<Self>, attempt: &ActiveAttempt, observation: Observation) -> Option<SignedDuration> {
        let run = &attempt.run;
        match &observation {
            // A launch that was interrupted is finished by another under the same name, unless it is too late for
            // that.
            Observation::Gone { .. } | Observation::Starting if attempt.is_unlaunched() && run.stop.is_none() => {
                if !self.is_slow_start(attempt) {
                    if !self.state.delays.is_put_off(attempt.attempt_id, Instant::now()) {
                        self.begin_launch(run);
                    }
                } else if self.store_due_stop(run).await.is_some() {
                    self.reports.changed(attempt.attempt_id);
                }
                return None;
            }
            Observation::Gone { .. } if attempt.is_unlaunched() => {
                self.begin_ending_unlaunched(attempt.attempt_id);
                return None;
            }
            Observation::Unknown { reason } => {
                tracing::warn!(attempt_id = %attempt.attempt_id, reason, "an attempt could not be observed");
            }
            _ => {}
        }
        let has_output = matches!(observation, Observation::Running(_) | Observation::Ended(_));
        // An attempt that can't be observed may still be stopped.
        let is_going_on =
            matches!(observation, Observation::Starting | Observation::Running(_) | Observation::Unknown { .. });
        let next = match decide(run, observation, self.situation_of(attempt)) {
            Some(change) => {
                let next = Run {
                    status: change.to,
                    started_at: change.started_at,
                    seen_running_at: change.seen_running_at,
                    ..run.clone()
                };
                self.apply(run, change).await.then_some(next)
            }
            None => Some(run.clone()),
        };
        if has_output {
            self.ensure_pump(attempt.attempt_id, &handle_of(attempt));
        }
        // If the transition was not stored, the run has changed, and whatever changed it causes another observation.
        match next {
            Some(run) if is_going_on => self.keep_bounds(attempt, &run).await,
            _ => None,
        }
    }

    /// What is known of an attempt apart from the engine's observation.
    pub(super) fn situation_of(&self, attempt: &ActiveAttempt) -> Situation<'_> {
        let clock = &self.clock;
        let since_claim = self.state.ages.of(attempt.attempt_id, Phase::Starting, attempt.claimed_at, clock);
        Situation { now: clock.now(), since_claim, limits: &self.settings.starts }
    }
}

/// Whether an object of the attempt was observed. Everything else is concluded from its absence.
pub(super) const fn is_of_something_there(observation: &Observation) -> bool {
    match observation {
        Observation::Starting | Observation::Running(_) | Observation::Ended(_) | Observation::Unknown { .. } => true,
        Observation::NeverRan { .. } | Observation::Lost { .. } | Observation::Gone { .. } => false,
    }
}

/// An attempt whose handle was never stored is asked for by its name.
pub(super) fn handle_of(attempt: &ActiveAttempt) -> Handle {
    Handle { attempt_id: attempt.attempt_id, text: attempt.handle.clone().unwrap_or_default() }
}
