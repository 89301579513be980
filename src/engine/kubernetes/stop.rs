//! Stopping and removing.
//!
//! A stop deletes the pod with the run's grace. The node sends SIGTERM, and SIGKILL when the grace is over, even if
//! the server is away by then. Our finalizer preserves the pod and how it ended. The output, however, is discarded by
//! the node as soon as a deleted pod has ended: so reading the output begins before anything is deleted (`logs`).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::Inner;
use super::job::{PodMaker, whole_seconds};
use super::link::ApiError;
use super::names::{FINALIZER, name_of, selector_of};
use super::reading::NODE_PATIENCE;
use super::view::{Container, Deleting, Phase, PodView};
use crate::engine::EngineError;
use crate::model::{AttemptId, Event};

/// How long removing an attempt waits for its running processes to end, before it has to be requested again.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// The API forgets a pod that is deleted without grace while it still runs.
const SHORTEST_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum StopError {
    #[error("{0}")]
    Gone(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<StopError> for EngineError {
    fn from(error: StopError) -> Self {
        match error {
            StopError::Gone(reason) => Self::Gone(reason),
            StopError::Api(error) => error.into(),
        }
    }
}

impl Inner {
    pub(super) async fn stop(self: &Arc<Self>, attempt_id: AttemptId, grace: Duration) -> Result<(), EngineError> {
        let stopped = self.try_to_stop(attempt_id, grace).await;
        if let Err(StopError::Api(ApiError::Refused { message, .. })) = &stopped {
            let message = format!("it can't be stopped now, and is tried again: the cluster refuses it: {message}");
            let event = Event::warning(self.link.now().wall, "StopRefused", message);
            self.note_unseen(attempt_id, event);
        }
        stopped.map_err(EngineError::from)
    }

    async fn try_to_stop(self: &Arc<Self>, attempt_id: AttemptId, grace: Duration) -> Result<(), StopError> {
        let Some(pod) = self.pod_of(attempt_id).await? else {
            let entry = self.cache.get(attempt_id).filter(|entry| entry.job.is_some() && !entry.is_removed);
            if entry.is_none() {
                return Err(StopError::Gone(format!("attempt {attempt_id} has no job")));
            }
            // A quota may keep its controller from creating the pod for a long time.
            self.cache.change(attempt_id, |entry| entry.was_asked_to_stop = true);
            return Ok(self.delete_job(attempt_id).await?);
        };
        if is_over(&pod) {
            return Err(StopError::Gone(format!("attempt {attempt_id} has ended")));
        }
        self.cache.change(attempt_id, |entry| entry.was_asked_to_stop = true);
        if pod.deleting.is_some() {
            return Ok(());
        }
        if pod.has_started() {
            self.keep_output(attempt_id, &pod).await;
        }
        // Without any grace the API would forget the pod before its node has ended it.
        self.delete_pod(&pod, Some(grace.max(SHORTEST_GRACE))).await?;
        Ok(())
    }

    /// The attempt's pod, if it exists.
    pub(super) async fn pod_of(&self, attempt_id: AttemptId) -> Result<Option<PodView>, ApiError> {
        let there = || {
            let entry = self.cache.get(attempt_id)?;
            entry.pod.filter(|_| !entry.has_vanished && !entry.is_removed)
        };
        match there().filter(|_| self.cache.is_fresh()) {
            Some(pod) => Ok(Some(pod)),
            None => {
                self.ask_for(attempt_id).await?;
                Ok(there())
            }
        }
    }

    /// The uid of the attempt's job.
    async fn job_uid_of(&self, attempt_id: AttemptId) -> Result<Option<String>, ApiError> {
        let known = || Some(self.cache.get(attempt_id)?.job?.uid);
        if known().is_none() {
            self.ask_for(attempt_id).await?;
        }
        Ok(known())
    }

    /// Deletes exactly this pod, with its own grace if none is given.
    pub(super) async fn delete_pod(&self, pod: &PodView, grace: Option<Duration>) -> Result<(), ApiError> {
        let params = DeleteParams {
            grace_period_seconds: grace.map(whole_seconds),
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        ignore_gone(
            self.link.call(async |client| self.api::<Pod>(client).delete(&pod.name, &params).await.map(|_| ())).await,
        )
    }

    /// Removes an attempt's job and pod, after whatever of it still runs has ended.
    pub(super) async fn remove(&self, attempt_id: AttemptId) -> Result<(), EngineError> {
        let pod = self.pod_of(attempt_id).await?;
        // First, so that its controller does not replace what is removed.
        self.delete_job(attempt_id).await?;
        if let Some(pod) = &pod {
            self.end(attempt_id, pod).await?;
            self.release(pod).await?;
        }
        if self.pod_maker().await? == PodMaker::Controller {
            for further in self.list::<Pod>(&selector_of(&self.identity, attempt_id)).await? {
                let further = PodView::read(&further);
                if !is_over(&further) {
                    self.delete_pod(&further, Some(SHORTEST_GRACE)).await?;
                }
                self.release(&further).await?;
            }
        }
        self.outputs.forget(attempt_id);
        self.cache.remove(attempt_id);
        Ok(())
    }

    /// Deletes the attempt's job; a job of the same name that is not ours is left alone.
    pub(super) async fn delete_job(&self, attempt_id: AttemptId) -> Result<(), ApiError> {
        let Some(uid) = self.job_uid_of(attempt_id).await? else { return Ok(()) };
        self.cache.change(attempt_id, |entry| entry.is_job_deleted_by_us = true);
        let name = name_of(attempt_id);
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let deleted = self.link.call(async |client| self.api::<Job>(client).delete(&name, &params).await.map(|_| ()));
        ignore_gone(deleted.await)
    }

    /// Ends whatever of a pod still runs.
    async fn end(&self, attempt_id: AttemptId, pod: &PodView) -> Result<(), EngineError> {
        if is_over(pod) || self.is_lost(attempt_id, pod) {
            return Ok(());
        }
        self.delete_pod(pod, Some(SHORTEST_GRACE)).await?;
        let ended = self.cache.until(attempt_id, |entry| {
            entry.is_none_or(|entry| entry.has_vanished || entry.pod.as_ref().is_none_or(is_over))
        });
        let is_over = tokio::time::timeout(END_PATIENCE, ended).await.is_ok();
        is_over.then_some(()).ok_or_else(|| EngineError::Unavailable(format!("its pod {} has not ended yet", pod.name)))
    }

    /// Releases a pod that has ended.
    async fn release(&self, pod: &PodView) -> Result<(), ApiError> {
        let patch = Patch::Strategic(json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": [FINALIZER] } }));
        let released = self.link.call(async |client| {
            self.api::<Pod>(client).patch(&pod.name, &PatchParams::default(), &patch).await.map(|_| ())
        });
        ignore_gone(released.await)?;
        self.delete_pod(pod, Some(Duration::ZERO)).await
    }
}

impl Inner {
    /// Whether the fate of a deleted pod can no longer be determined.
    fn is_lost(&self, attempt_id: AttemptId, pod: &PodView) -> bool {
        let deleting_at = self.cache.get(attempt_id).and_then(|entry| entry.deleting_at);
        let is_overdue = pod.deleting.zip(deleting_at).is_some_and(|(deleting, since)| {
            self.link.now().uptime.saturating_sub(since) > deleting.grace + NODE_PATIENCE
        });
        is_overdue && pod.node.as_deref().is_some_and(|node| self.rooms.is_lost(node))
    }
}

/// Whether nothing of a pod runs any more, or ever will.
pub(super) fn is_over(pod: &PodView) -> bool {
    let has_ended = matches!(pod.container, Container::Terminated { .. });
    let never_began = !pod.has_started() && pod.deleting.is_some_and(Deleting::is_released);
    has_ended || never_began || matches!(pod.phase, Phase::Failed | Phase::Succeeded)
}

/// A missing object need not be removed; a pod with another uid is not the one.
fn ignore_gone(result: Result<(), ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result,
    }
}
