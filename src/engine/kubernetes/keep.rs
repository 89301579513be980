//! Recovering an attempt's objects whose labels or finalizer someone has removed.
//!
//! The watches and lists select by labels, and the finalizer preserves how a pod ended. The names of a job and of a
//! pod observed earlier can't change; so the objects are found by name, and what was removed is restored.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Inner;
use super::job::PodMaker;
use super::link::ApiError;
use super::names::{FINALIZER, is_of_others, labels_of, name_of};
use super::view::{JobView, PodView};
use crate::model::{AttemptId, Event};

impl Inner {
    /// Finds an attempt's job by its name alone.
    pub(super) async fn find_job(&self, attempt_id: AttemptId) -> Result<(), ApiError> {
        let name = name_of(attempt_id);
        let found = self.link.call(async |client| self.api::<Job>(client).get_opt(&name).await).await?;
        let is_ours = |job: &Job| !is_of_others(&self.identity, job.metadata.labels.as_ref());
        if let Some(job) = found.filter(is_ours) {
            self.cache.apply_job(attempt_id, JobView::read(&job));
        }
        Ok(())
    }

    /// Finds an attempt's pod by its name alone: the name observed earlier, or the one this server gave it.
    pub(super) async fn find_pod(&self, attempt_id: AttemptId) -> Result<(), ApiError> {
        let known = self.cache.get(attempt_id).and_then(|entry| entry.pod);
        let name = match &known {
            Some(pod) => pod.name.clone(),
            None if self.pod_maker().await? == PodMaker::Flotilla => name_of(attempt_id),
            None => return Ok(()),
        };
        let found = self.link.call(async |client| self.api::<Pod>(client).get_opt(&name).await).await?;
        let Some(pod) = found else { return Ok(()) };
        let is_known = known.is_some_and(|known| Some(&known.uid) == pod.metadata.uid.as_ref());
        if !is_known && is_of_others(&self.identity, pod.metadata.labels.as_ref()) {
            return Ok(());
        }
        self.take_pod(attempt_id, PodView::read(&pod));
        let labels = labels_of(&self.identity, attempt_id);
        let has =
            |(key, value): (&String, &String)| pod.metadata.labels.as_ref().and_then(|own| own.get(key)) == Some(value);
        if !labels.iter().all(has) {
            let patch = json!({ "metadata": { "uid": pod.metadata.uid, "labels": labels } });
            self.put_back(attempt_id, &name, &patch, "labels").await?;
        }
        Ok(())
    }

    /// Restores our finalizer on a pod that still runs without it.
    pub(super) async fn keep_pod(&self, attempt_id: AttemptId, pod: &PodView) -> Result<(), ApiError> {
        let patch = json!({ "metadata": { "uid": pod.uid, "finalizers": [FINALIZER] } });
        self.put_back(attempt_id, &pod.name, &patch, "finalizer").await
    }

    async fn put_back(
        &self,
        attempt_id: AttemptId,
        pod_name: &str,
        patch: &serde_json::Value,
        what: &str,
    ) -> Result<(), ApiError> {
        let patched = self.link.call(async |client| {
            self.api::<Pod>(client).patch(pod_name, &PatchParams::default(), &Patch::Strategic(patch)).await
        });
        let message = match patched.await {
            Ok(pod) => {
                self.take_pod(attempt_id, PodView::read(&pod));
                format!("somebody took flotilla's {what} off its pod; it was put back")
            }
            Err(ApiError::Refused { message, .. }) => {
                format!("somebody took flotilla's {what} off its pod, and it can't be put back: {message}")
            }
            Err(error) => return Err(error),
        };
        self.note(attempt_id, Event::warning(self.link.now().wall, "PodChanged", message));
        Ok(())
    }
}
