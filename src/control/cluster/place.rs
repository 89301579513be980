//! Place: an engine speaks only about attempts that are on it. Another engine in the same place, such as a daemon on an
//! empty disk, has none of them, which says nothing about how they are.

use tokio::time::Instant;

use super::Control;
use crate::engine::EngineError;
use crate::model::{Elsewhere, EngineId, EngineIdentity, Event};
use crate::store::{ActiveAttempt, StoreError};

impl Control {
    /// Which engine answers; an error, which is noted, where none does: nothing is concluded then.
    pub(super) async fn here(&self) -> Result<EngineIdentity, EngineError> {
        match self.engine.known_identity() {
            Some(known) => Ok(known),
            None => self.here_now().await,
        }
    }

    /// The same, asked anew. What an engine does not have counts only if it is still the same after it was asked.
    pub(super) async fn here_now(&self) -> Result<EngineIdentity, EngineError> {
        let answer = self.engine.identity().await;
        self.note_engine(answer.as_ref().err().map(ToString::to_string));
        answer
    }

    /// Those of these attempts that the engine speaks about. The runs of the others say why nothing happens to them.
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

    /// Whether the engine that answers now is the one that has an attempt: then what it did not have is gone.
    pub(super) async fn is_still_here(&self, engine_id: Option<&EngineId>) -> bool {
        let answers = self.here_now().await;
        answers.is_ok_and(|answers| Elsewhere::of(engine_id, &answers).is_none())
    }

    /// Says it once in the run's story, and once in the log for all that is for the same reason.
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
