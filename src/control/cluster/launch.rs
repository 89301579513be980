//! Hands one attempt to the engine: after its claim, and again if a crash or an outage intervened.
//!
//! The attempt is PENDING in the database before the engine learns of it. A launch whose answer was lost may have
//! happened, so it is repeated under the same name until the engine answers: that finds the same object and never
//! makes a second one. Only an attempt that certainly never started is given up for another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Control;
use crate::engine::{EngineError, Handle, LaunchSpec, Origin};
use crate::model::{AttemptId, Elsewhere, Event, Run, fail_start, refuse};

impl Control {
    /// Starts launching the run's newest attempt, unless that is under way already or too many launches are.
    pub(super) fn begin_launch(self: &Arc<Self>, run: &Run) {
        let work = &self.state.work;
        let attempt_id = run.attempt_id();
        let Some(mark) = work.begin(attempt_id, &work.launches) else { return };
        let control = Arc::clone(self);
        work.spawn_logged(async move {
            let pause = control.launch(attempt_id).await;
            drop(mark);
            // Reports that came during the launch were skipped, and a place for another launch is free.
            control.reports.changed(attempt_id);
            if let Some(pause) = pause {
                control.reports.changed_after(attempt_id, pause);
            }
            control.wake.queue();
        });
    }

    /// Launches an attempt if it still waits for that: it may have been stopped since the decision. Failures become
    /// events of the run. If the launch has to be retried, returns after how long.
    async fn launch(&self, attempt_id: AttemptId) -> Option<Duration> {
        let attempt = match self.store.active_attempt(&self.cluster, attempt_id).await {
            Ok(Some(attempt)) if attempt.is_unlaunched() && attempt.run.stop.is_none() => attempt,
            Ok(_) => return None,
            Err(error) => {
                tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "an attempt could not be read and is launched later");
                return Some(self.put_off(attempt_id));
            }
        };
        let run = &attempt.run;
        // An attempt that another engine may have is not started on this one too.
        match self.here().await.map(|answers| Elsewhere::of(attempt.engine_id.as_ref(), &answers)) {
            Ok(None) => {}
            Ok(Some(elsewhere)) => return Some(self.delay(run, &elsewhere.reason(&self.cluster)).await),
            Err(error) => return Some(self.delay(run, &error.to_string()).await),
        }
        let spec = LaunchSpec {
            attempt_id,
            origin: Origin {
                definition_id: run.definition_id.clone(),
                alias: run.alias.clone(),
                group_name: run.group_name.clone(),
            },
            task: run.task.clone(),
            execution: run.execution.clone(),
            log_path: self.logs.path(attempt_id),
            log_cap_bytes: self.settings.log_cap_bytes,
            grace: self.settings.grace,
            longest_start: self.settings.starts.longest,
        };
        if !self.tenure.is_held() {
            return None;
        }
        match self.engine.launch(&spec).await {
            Ok(handle) => {
                self.note_engine(None);
                self.state.delays.forget(attempt_id);
                self.store_handle(&handle).await;
            }
            Err(EngineError::Rejected(reason)) => {
                self.apply(run, refuse(run, &reason, self.clock.now())).await;
            }
            Err(EngineError::NotStarted { reason, fault }) => {
                self.apply(run, fail_start(run, &reason, fault, self.situation_of(&attempt))).await;
            }
            // That the engine can't do this now says nothing about whether it answers; every observation checks that.
            Err(EngineError::Unavailable(reason) | EngineError::Gone(reason)) => {
                return Some(self.delay(run, &reason).await);
            }
        }
        None
    }

    async fn store_handle(&self, handle: &Handle) {
        let attempt_id = handle.attempt_id;
        match self.store.set_handle(attempt_id, &handle.text).await {
            Ok(true) => {}
            // The stray removal deletes what was made.
            Ok(false) => tracing::warn!(%attempt_id, "an attempt was launched that had been cleaned meanwhile"),
            // The loops find the attempt by its name at the next observation.
            Err(error) => {
                tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "the handle was not stored");
            }
        }
    }

    fn put_off(&self, attempt_id: AttemptId) -> Duration {
        self.state.delays.put_off(attempt_id, Instant::now())
    }

    /// Postpones a launch, and records why the run does not start yet, once for each reason. The run stays PENDING.
    async fn delay(&self, run: &Run, reason: &str) -> Duration {
        let pause = self.put_off(run.attempt_id());
        if !self.state.delays.is_news(run.attempt_id(), reason, Instant::now()) {
            return pause;
        }
        let message = format!("the cluster can't start it now and is retried: {reason}");
        let event = Event::warning(self.clock.now(), "LaunchDelayed", message);
        if let Err(error) = self.store.append_event(run.run_id, &event).await {
            tracing::warn!(run_id = %run.run_id, error = &error as &dyn std::error::Error, "an event was not stored");
        }
        pause
    }
}
