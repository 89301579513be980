//! Launching: creates an attempt's job under its name, and on releases that need it the pod under the same name; or
//! finds both if they were created before.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Inner;
use super::job::{PodMaker, job, pod, probe};
use super::link::ApiError;
use super::names::{is_of_others, name_of};
use super::refusal;
use super::template::fields_left_out;
use super::view::{JobView, PodView};
use crate::engine::{EngineError, Handle, LaunchSpec};

/// The text of a handle. Its existence implies that the pod was created, where we create it.
pub(super) const MADE: &str = "job";

impl Inner {
    pub(super) async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        let attempt_id = spec.attempt_id;
        let maker = self.pod_maker().await?;
        self.check_template().await?;
        let described = job(spec, &self.config, self.pod_template.as_ref(), &self.identity, maker)?;
        self.cache.change(attempt_id, |entry| {
            entry.launched_at.get_or_insert(self.link.now().wall);
        });
        let made = match self.create::<Job>(&described).await {
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

    /// Creates an object as written.
    async fn create<K>(&self, described: &Value) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        self.post::<K, K>(described, false).await
    }

    /// Like `create`, or a dry run of it.
    async fn post<K, A>(&self, described: &Value, is_only_asked: bool) -> Result<A, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        A: DeserializeOwned + Clone + Debug,
    {
        let body = described.to_string().into_bytes();
        let params = PostParams { dry_run: is_only_asked, ..PostParams::default() };
        let path = K::url_path(&(), Some(&self.config.namespace));
        let made = self.link.call(async |client| {
            let request =
                Request::new(path.clone()).create(&params, body.clone()).map_err(kube::Error::BuildRequest)?;
            client.request::<A>(request).await
        });
        made.await
    }

    /// Checks that the cluster knows every field of the operator's pod template; it silently drops those it does not
    /// know. Asked once for each release that answers.
    pub(super) async fn check_template(&self) -> Result<(), EngineError> {
        let Some(template) = &self.pod_template else { return Ok(()) };
        let release = self.link.connected().await?.release;
        let known = self.left_out.lock().clone();
        let left_out = match known.filter(|(asked, _)| *asked == release) {
            Some((_, left_out)) => left_out,
            None => {
                let left_out = self.ask_what_is_left_out(template).await?;
                *self.left_out.lock() = Some((release, left_out.clone()));
                left_out
            }
        };
        if left_out.is_empty() {
            return Ok(());
        }
        let fields: Vec<_> = left_out.iter().map(|field| format!("`{field}`")).collect();
        Err(EngineError::Rejected(format!(
            "the cluster's pod template has fields that this Kubernetes does not know, and would leave out: {}",
            fields.join(", ")
        )))
    }

    async fn ask_what_is_left_out(&self, template: &Value) -> Result<Vec<String>, ApiError> {
        match self.post::<Job, Value>(&probe(template), true).await {
            Ok(answer) => Ok(fields_left_out(answer.pointer("/spec/template").unwrap_or(&Value::Null), template)),
            Err(ApiError::Refused { message, .. }) => {
                tracing::warn!(
                    cluster = self.identity.cluster,
                    reason = message,
                    "whether the cluster knows every field of the pod template can't be asked"
                );
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn pod_maker(&self) -> Result<PodMaker, ApiError> {
        match self.pod_maker {
            Some(maker) => Ok(maker),
            None => Ok(self.link.connected().await?.pod_maker),
        }
    }

    /// The job created by an earlier launch.
    async fn find(&self, spec: &LaunchSpec) -> Result<Job, EngineError> {
        let name = name_of(spec.attempt_id);
        let job = self.link.call(async |client| self.api::<Job>(client).get(&name).await).await?;
        if is_of_others(&self.identity, job.metadata.labels.as_ref()) {
            return Err(EngineError::Rejected(format!("there is a job {name} already, which is not of this server")));
        }
        if job.metadata.deletion_timestamp.is_some() {
            return Err(EngineError::Unavailable(format!("the job {name} is being removed")));
        }
        Ok(job)
    }

    /// A pod that already exists is the right one: our finalizer keeps it until we remove it.
    async fn make_pod(&self, spec: &LaunchSpec, job_uid: &str) -> Result<(), EngineError> {
        let described = pod(spec, &self.config, self.pod_template.as_ref(), &self.identity, job_uid)?;
        match self.create::<Pod>(&described).await {
            Ok(made) => {
                self.take_pod(spec.attempt_id, PodView::read(&made));
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(refusal::of_launch(error)),
        }
    }
}
