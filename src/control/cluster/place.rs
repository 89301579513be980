//! Place: an engine's answers count only for attempts that are on it. Another engine in the same place, such as a
//! daemon on an empty disk, has none of them, which says nothing about their state.

use tokio::time::Instant;

use super::Control;
use crate::engine::EngineError;
use crate::model::{Elsewhere, EngineId, EngineIdentity, Event};
use crate::store::{ActiveAttempt, StoreError};

impl Control {
    /// The identity of the engine that answers. If none does, returns an error, which is recorded: nothing is
    /// concluded then.
    pub(super) async fn here(&self) -> Result<EngineIdentity, EngineError> {
        match self.engine.known_identity() {
            Some(known) => Ok(known),
            None => self.here_now().await,
        }
    }

    /// Like `here`, but asked anew. That an engine does not have an attempt counts only if its identity is still the
    /// same afterwards.
    pub(super) async fn here_now(&self) -> Result<EngineIdentity, EngineError> {
        let answer = self.engine.identity().await;
        self.note_engine(answer.as_ref().err().map(ToString::to_string));
        answer
    }

    /// Filters these attempts down to those on this engine. The runs of the others get an event saying why nothing
    /// happens.
    pub(super) async fn only_here(&self, attempts: Vec<ActiveAttempt>) -> Result<Vec<ActiveAttempt>, StoreError> {
        if attempts.is_empty() {
            return Ok(attempts);
        }
        let (own, others): (Vec<_>, Vec<_>) =
            attempts.into_iter().partition(|attempt| attempt.server_id == self.server_id);
        for attempt in others {
            self.note_elsewhere(&attempt, &Elsewhere::Server { server_id: attempt.server_id.clone() }).await?;
        }
        let Ok(answers) = self.here().await else { return Ok(Vec::new()) };
        if let Some(engine_id) = answers.id()
            && own.iter().any(|attempt| attempt.engine_id.is_none())
        {
            let number = self.store.set_missing_engines(&self.cluster, engine_id).await?;
            tracing::info!(cluster = self.cluster, number, %engine_id, "stored which engine has the attempts");
        }
        let mut here = Vec::with_capacity(own.len());
        for attempt in own {
            match Elsewhere::of(attempt.engine_id.as_ref(), &answers) {
                None => here.push(attempt),
                Some(elsewhere) => self.note_elsewhere(&attempt, &elsewhere).await?,
            }
        }
        Ok(here)
    }

    /// Whether the engine that answers now is the one that has an attempt: only then is what it did not have really
    /// gone.
    pub(super) async fn is_still_here(&self, engine_id: Option<&EngineId>) -> bool {
        let answers = self.here_now().await;
        answers.is_ok_and(|answers| Elsewhere::of(engine_id, &answers).is_none())
    }

    /// Reports it once in the run's events, and once in the server's log for all attempts with the same reason.
    async fn note_elsewhere(&self, attempt: &ActiveAttempt, elsewhere: &Elsewhere) -> Result<(), StoreError> {
        let reason = elsewhere.reason(&self.cluster);
        if !self.state.delays.is_news(attempt.attempt_id, &reason, Instant::now()) {
            return Ok(());
        }
        let is_news = self.elsewhere().insert(reason.clone());
        if is_news {
            tracing::warn!(cluster = self.cluster, run_id = %attempt.attempt_id.run_id, reason, "nothing is concluded about runs");
        }
        let event = Event::warning(self.clock.now(), "NotSeen", reason);
        self.store.append_unsaid_event(attempt.attempt_id.run_id, &event).await
    }

    fn elsewhere(&self) -> parking_lot::MutexGuard<'_, std::collections::HashSet<String>> {
        self.state.elsewhere.lock()
    }
}
