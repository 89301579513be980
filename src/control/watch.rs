//! Watch: looks at every attempt that an engine may have, and makes of what it sees the next step of the run.
//!
//! ```text
//! attempt of …                     is …
//! a PENDING run, without a handle  asked for by name: adopted where it runs, launched again where it does not
//! a PENDING or RUNNING run         observed; stopped where a stop is stored; its output pumped
//! any other run, or an older one   cleaned: its log finished, its object removed
//! ```
//!
//! The first row is the recovery from a crash: there is no other code for it.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;

use super::{CONCURRENCY, Control};
use crate::engine::{EngineError, Handle};
use crate::model::{AttemptId, Observation, Run, StartFault, Status, StopCause, StopRequest, decide};
use crate::store::{ActiveAttempt, StoreError};

/// How many attempts one question to the engine names.
const OBSERVED_TOGETHER: usize = 256;
/// How soon an attempt is looked at again that could not be stopped because it is gone. Where the engine shows it all the
/// same, this goes on for as long as it does.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Control {
    /// Looks at every attempt of the cluster. Tells when the earliest deadline of a running one passes.
    pub async fn watch_all(self: &Arc<Self>) -> Result<Option<Timestamp>, StoreError> {
        self.store_notes().await?;
        let active = self.store.active_attempts(&self.cluster).await?;
        self.state.pumps.forget_except(&active);
        let running = active.iter().filter(|attempt| !attempt.run.status.is_terminal() && attempt.run.stop.is_none());
        let deadline = running.filter_map(|attempt| attempt.run.deadline()).min();
        self.look_at(active).await?;
        Ok(deadline)
    }

    /// Looks at these attempts. Tells the earliest deadline of those that are running.
    pub async fn watch_some(
        self: &Arc<Self>,
        attempt_ids: BTreeSet<AttemptId>,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.store_notes().await?;
        let mut active = Vec::new();
        for attempt_id in attempt_ids {
            active.extend(self.store.active_attempt(attempt_id).await?);
        }
        self.look_at(active.clone()).await?;
        let mut deadline = None;
        for attempt in active.iter().filter(|attempt| attempt.run.execution.active_deadline_secs.is_some()) {
            let run = self.store.run(attempt.run.run_id).await?;
            let next = run.filter(|run| !run.status.is_terminal()).and_then(|run| run.deadline());
            deadline = deadline.into_iter().chain(next).min();
        }
        Ok(deadline)
    }

    /// What the engine told of attempts beside their status becomes part of their runs' story, or lies beside their logs.
    /// What can't be stored now is kept for the next time.
    async fn store_notes(&self) -> Result<(), StoreError> {
        self.store_samples().await;
        let mut notes = VecDeque::from(self.pokes.take_notes());
        while let Some((attempt_id, event)) = notes.front() {
            match self.store.append_event(attempt_id.run_id, event).await {
                Ok(()) => {}
                Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => {
                    self.pokes.put_back(notes.into());
                    return Err(error);
                }
                // It would be refused again, and hold up all that comes after it.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%attempt_id, reason = event.reason, error, "an event was refused by the database and is dropped");
                }
            }
            notes.pop_front();
        }
        Ok(())
    }

    /// A sample that can't be kept is missing from a chart, and holds up nothing.
    async fn store_samples(&self) {
        let samples = self.pokes.take_samples();
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

    async fn look_at(self: &Arc<Self>, attempts: Vec<ActiveAttempt>) -> Result<(), StoreError> {
        let mut to_observe = Vec::new();
        let mut to_clean = Vec::new();
        for attempt in attempts {
            let is_elsewhere =
                attempt.node != self.node && (self.engine.is_tied_to_server() || attempt.handle.is_none());
            if is_elsewhere || self.state.work.is_on(attempt.attempt_id) {
                continue;
            }
            let is_newest = attempt.attempt_id == attempt.run.attempt_id();
            match attempt.run.status {
                Status::Pending | Status::Running if is_newest => to_observe.push(attempt),
                _ => to_clean.push(attempt),
            }
        }
        for together in to_observe.chunks(OBSERVED_TOGETHER) {
            self.observe(together).await;
        }
        for attempt in to_clean {
            self.begin_cleaning(attempt);
        }
        Ok(())
    }

    async fn observe(self: &Arc<Self>, attempts: &[ActiveAttempt]) {
        let handles: Vec<Handle> = attempts.iter().map(handle_of).collect();
        match self.engine.observe(&handles).await {
            Ok(observations) => {
                self.note_engine(None);
                stream::iter(attempts.iter().zip(observations))
                    .for_each_concurrent(CONCURRENCY, |(attempt, observation)| async move {
                        self.conclude(attempt, observation).await;
                    })
                    .await;
            }
            Err(error) => self.note_engine(Some(error.to_string())),
        }
    }

    async fn conclude(self: &Arc<Self>, attempt: &ActiveAttempt, observation: Observation) {
        let run = &attempt.run;
        let now = self.clock.now();
        let was_never_launched = attempt.handle.is_none() && run.status == Status::Pending;
        match observation {
            // A launch that broke off half-way is finished by another under the same name.
            Observation::Gone { .. } | Observation::Starting if was_never_launched && run.stop.is_none() => {
                self.begin_launch(run);
            }
            Observation::Gone { .. } if was_never_launched => {
                let reason = "stopped before it started".to_owned();
                if let Some(change) = decide(run, Observation::NeverRan { reason, fault: StartFault::Task }, now) {
                    self.apply(run, change).await;
                }
            }
            Observation::Unknown { reason } => {
                tracing::warn!(attempt_id = %attempt.attempt_id, reason, "an attempt could not be looked at");
            }
            observation => {
                let is_going_on = matches!(observation, Observation::Starting | Observation::Running(_));
                let has_output = matches!(observation, Observation::Running(_) | Observation::Ended(_));
                let stop = if is_going_on { self.due_stop(run, &observation).await } else { None };
                if let Some(change) = decide(run, observation, now) {
                    self.apply(run, change).await;
                }
                if has_output {
                    self.ensure_pump(attempt.attempt_id, &handle_of(attempt));
                }
                if stop.is_some() {
                    self.carry_out_stop(attempt).await;
                }
            }
        }
    }

    /// The stop that is to be carried out: one that is stored, or that of a deadline that has passed, which is stored
    /// first.
    async fn due_stop(&self, run: &Run, observation: &Observation) -> Option<StopRequest> {
        if run.stop.is_some() {
            return run.stop.clone();
        }
        let started_at = match observation {
            Observation::Running(started) => Some(run.started_at.unwrap_or(started.at)),
            _ => run.started_at,
        };
        let now = self.clock.now();
        let deadline = Run { started_at, ..run.clone() }.deadline().filter(|deadline| *deadline <= now)?;
        match self.store.request_stop(run.run_id, StopCause::Deadline, now).await {
            Ok(_) => Some(StopRequest { at: deadline, cause: StopCause::Deadline }),
            Err(error) => {
                tracing::warn!(run_id = %run.run_id, error = &error as &dyn std::error::Error, "a passed deadline was not stored");
                None
            }
        }
    }

    /// Asks the engine, as often as it takes until the run is seen to have ended.
    async fn carry_out_stop(&self, attempt: &ActiveAttempt) {
        match self.engine.stop(&handle_of(attempt), self.settings.grace).await {
            Ok(()) => {}
            // It ended in between, which is worth a look.
            Err(EngineError::Gone(_)) => self.pokes.poke_after(attempt.attempt_id, LOOK_AGAIN_AFTER),
            Err(error) => {
                tracing::warn!(attempt_id = %attempt.attempt_id, reason = %error, "a stop could not be carried out and is tried again");
            }
        }
    }

    /// Carries out what was asked since: stops of runs that an engine has, and of the children of stopped parents.
    pub async fn watch_stops(self: &Arc<Self>) -> Result<(), StoreError> {
        let stopping = self.store.stopping_runs().await?;
        let ours = stopping.iter().filter(|run| run.execution.resolved_cluster == self.cluster);
        self.watch_some(ours.map(Run::attempt_id).collect()).await.map(|_| ())
    }
}

/// An attempt whose handle was never stored is asked for by its name.
pub(super) fn handle_of(attempt: &ActiveAttempt) -> Handle {
    Handle { attempt_id: attempt.attempt_id, text: attempt.handle.clone().unwrap_or_default() }
}
