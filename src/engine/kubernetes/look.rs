//! Observing attempts: out of the cache while the watches tell everything, else by listing all. That something is *not*
//! there is never concluded from the cache: it is asked for.

use jiff::SignedDuration;

use super::Inner;
use super::cache::Entry;
use super::job::PodMaker;
use super::link::ApiError;
use super::read::{Facts, Reading, read, read_vanished};
use super::view::PodView;
use crate::engine::{EngineError, Handle};
use crate::model::{Observation, StartFault};

impl Inner {
    pub(super) async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        if !self.cache.is_fresh() {
            self.list_all().await?;
        }
        let mut observations = Vec::with_capacity(handles.len());
        for handle in handles {
            observations.push(match self.look(handle).await {
                Err(ApiError::Refused { message, .. }) => Observation::Unknown { reason: message },
                result => result?,
            });
        }
        Ok(observations)
    }

    async fn look(&self, handle: &Handle) -> Result<Observation, ApiError> {
        let attempt_id = handle.attempt_id;
        if let Some(seen) = self.look_in_cache(attempt_id).await? {
            return Ok(seen);
        }
        self.ask_for(attempt_id).await?;
        if let Some(seen) = self.look_in_cache(attempt_id).await? {
            return Ok(seen);
        }
        let entry = self.cache.get(attempt_id).unwrap_or_default();
        if let Some(pod) = &entry.pod {
            return Ok(read_vanished(pod, &self.facts(&entry, pod), self.link.now()));
        }
        Ok(missing(handle, &entry, self.pod_maker().await?))
    }

    /// What the cache says of it, where it has a pod that is there; `None` where only the API can say.
    async fn look_in_cache(&self, attempt_id: crate::model::AttemptId) -> Result<Option<Observation>, ApiError> {
        let Some(entry) = self.cache.get(attempt_id) else { return Ok(None) };
        if entry.is_removed {
            return Ok(Some(Observation::Gone { reason: "it was removed".to_owned() }));
        }
        let Some(pod) = entry.pod.as_ref().filter(|_| !entry.has_vanished) else { return Ok(None) };
        match read(pod, &self.facts(&entry, pod), self.link.now()) {
            Reading::Seen(observation) => Ok(Some(observation)),
            Reading::GiveUp(verdict) => {
                // Called so only when the node has let go of it: a start that is under way would be a second one's rival.
                self.cache.change(attempt_id, |entry| {
                    entry.verdict.get_or_insert(verdict);
                });
                self.delete_pod(pod, None).await?;
                Ok(Some(Observation::Starting))
            }
        }
    }

    fn facts(&self, entry: &Entry, pod: &PodView) -> Facts {
        Facts {
            was_asked_to_stop: entry.was_asked_to_stop,
            verdict: entry.verdict.clone(),
            was_seen_running: entry.was_seen_running,
            launched_at: entry.launched_at,
            end_seen_at: entry.end_seen_at,
            waiting_since: entry.waiting_since,
            pull_error: entry.pull_error.clone(),
            pull_grace: SignedDuration::from_secs(i64::from(self.config.image_pull_grace_secs)),
            is_node_lost: pod.node.as_deref().is_some_and(|node| self.rooms.is_lost(node)),
            peak: entry.sampling.peak,
        }
    }
}

/// An attempt without a pod, as the API has said just now.
fn missing(handle: &Handle, entry: &Entry, maker: PodMaker) -> Observation {
    let was_made = !handle.text.is_empty();
    let gone = |reason: &str| Observation::Gone { reason: reason.to_owned() };
    match (&entry.job, maker) {
        (None, PodMaker::Controller) if entry.was_asked_to_stop => {
            Observation::NeverRan { reason: "stopped before it started".to_owned(), fault: StartFault::Task }
        }
        (None, _) if was_made => gone("its job was removed from outside of flotilla"),
        (None, _) => gone("it has no job"),
        (Some(_), PodMaker::Flotilla) if was_made => gone("its pod was removed from outside of flotilla"),
        (Some(_), PodMaker::Flotilla) => gone("its job was made, and its pod was not"),
        (Some(job), PodMaker::Controller) => match &job.failure {
            Some(failure) => gone(&format!("its pod was removed from outside of flotilla: {failure}")),
            None => Observation::Starting,
        },
    }
}
