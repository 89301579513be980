//! Launching: an attempt's job is made under its name, and where the release asks for it its pod under the same; or both
//! are found where that was done before.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;

use super::Inner;
use super::job::{PodMaker, job, pod};
use super::link::ApiError;
use super::names::{is_ours, name_of};
use super::refusal;
use super::view::{JobView, PodView};
use crate::engine::{EngineError, Handle, LaunchSpec};

/// The text of a handle. That there is one says that the pod was made, where we make it.
pub(super) const MADE: &str = "job";

impl Inner {
    pub(super) async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        let attempt_id = spec.attempt_id;
        let maker = self.pod_maker().await?;
        let described = job(spec, &self.config, &self.identity, maker)?;
        self.cache.change(attempt_id, |entry| {
            entry.launched_at.get_or_insert(self.link.now());
        });
        let created =
            self.link.call(async |client| self.api::<Job>(client).create(&PostParams::default(), &described).await);
        let made = match created.await {
            Ok(made) => made,
            Err(error) if error.is_conflict() => self.find(spec).await?,
            Err(error) => return Err(refusal::of_launch(error)),
        };
        let view = JobView::read(&made);
        let job_uid = view.uid.clone();
        self.cache.apply_job(attempt_id, view);
        if maker == PodMaker::Flotilla {
            self.make_pod(spec, &job_uid).await?;
        }
        Ok(Handle { attempt_id, text: MADE.to_owned() })
    }

    pub(super) async fn pod_maker(&self) -> Result<PodMaker, ApiError> {
        match self.pod_maker {
            Some(maker) => Ok(maker),
            None => Ok(self.link.connected().await?.pod_maker),
        }
    }

    /// The job that a launch before this one has made.
    async fn find(&self, spec: &LaunchSpec) -> Result<Job, EngineError> {
        let name = name_of(spec.attempt_id);
        let job = self.link.call(async |client| self.api::<Job>(client).get(&name).await).await?;
        let is_ours = job.metadata.labels.as_ref().is_some_and(|labels| is_ours(&self.identity, labels));
        if !is_ours {
            return Err(EngineError::Rejected(format!("there is a job {name} already, which is not of this server")));
        }
        if job.metadata.deletion_timestamp.is_some() {
            return Err(EngineError::Unavailable(format!("the job {name} is being removed")));
        }
        Ok(job)
    }

    /// A pod that is there already is the one: our finalizer keeps it until it is removed by us.
    async fn make_pod(&self, spec: &LaunchSpec, job_uid: &str) -> Result<(), EngineError> {
        let described = pod(spec, &self.config, &self.identity, job_uid)?;
        let created =
            self.link.call(async |client| self.api::<Pod>(client).create(&PostParams::default(), &described).await);
        match created.await {
            Ok(made) => {
                self.cache.apply_pod(spec.attempt_id, PodView::read(&made), self.link.now());
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(refusal::of_launch(error)),
        }
    }
}
