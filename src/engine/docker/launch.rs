//! Launching: a container is created under the attempt's name and started, once. If its image has to be fetched
//! first, `fetch` does that and then the same.

use std::sync::Arc;

use bollard::query_parameters::CreateContainerOptions;

use super::container::{describe, name_of, without_storage_limit};
use super::image::of_task;
use super::inspect::id_of;
use super::launches::Launching;
use super::link::ApiError;
use super::memory::Unstarted;
use super::read::{Stage, stage, start_error};
use super::{Inner, refusal};
use crate::engine::container::pull_policy::PullPolicy;
use crate::engine::{EngineError, Handle, LaunchSpec};
use crate::model::{AttemptId, StartFault};

/// The handle text of an attempt whose container was created.
pub(super) const CREATED: &str = "container";
/// The handle text of an attempt whose image was still being fetched. If the server comes back and there is no
/// container, it never ran: only the process that died would have created one.
pub(super) const PULLING: &str = "pulling";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Started,
    ImageIsMissing,
}

impl Inner {
    pub(super) async fn launch(self: &Arc<Self>, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        let attempt_id = spec.attempt_id;
        let handle = |text: &str| Ok(Handle { attempt_id, text: text.to_owned() });
        let making = match self.launches.begin(attempt_id).await {
            Ok(making) => making,
            Err(Launching::Started) => return handle(CREATED),
            Err(Launching::Pulling(_) | Launching::Making | Launching::NeverRan { .. }) => return handle(PULLING),
        };
        let is_pulled_first = self.config.pull_policy == PullPolicy::Always && !self.adopt(attempt_id).await?;
        if !is_pulled_first {
            match self.make(spec).await? {
                Made::Started => {
                    making.end(Some(Launching::Started));
                    return handle(CREATED);
                }
                Made::ImageIsMissing if self.config.pull_policy == PullPolicy::Never => {
                    let image = &spec.task.image;
                    let reason =
                        format!("image `{image}` is not on the machine, and this cluster does not fetch images");
                    return Err(EngineError::Rejected(reason));
                }
                Made::ImageIsMissing => {}
            }
        }
        self.spawn_fetch(spec.clone(), making);
        handle(PULLING)
    }

    /// Creates the attempt's container and starts it, or finds it if that was already done.
    pub(super) async fn make(&self, spec: &LaunchSpec) -> Result<Made, EngineError> {
        let machine = self.link.machine();
        let image = of_task(&spec.task.image)?;
        let body = describe(spec, &image.to_string(), &self.config, &self.identity, machine.as_ref())?;
        let name = name_of(spec.attempt_id);
        let create = async |body| {
            let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
            self.link.call(async |docker| docker.create_container(Some(options), body).await).await
        };
        let mut created = create(body.clone()).await;
        if let Err(ApiError::Refused { message, .. }) = &created
            && body.host_config.as_ref().is_some_and(|config| config.storage_opt.is_some())
            && message.contains("storage")
        {
            created = create(without_storage_limit(body)).await;
        }
        match created {
            Ok(created) => self.start(spec.attempt_id, &created.id).await,
            Err(error) if error.is_conflict() => {
                if self.adopt(spec.attempt_id).await? {
                    return Ok(Made::Started);
                }
                // A foreign container has the name. Another attempt has another name.
                let reason = format!("Docker can't create the container: {error}");
                Err(EngineError::NotStarted { reason, fault: StartFault::Machine })
            }
            Err(ApiError::Refused { status: 404, message }) if message.contains("image") => Ok(Made::ImageIsMissing),
            Err(error) => Err(refusal::of_launch(error)),
        }
    }

    /// Finds the container of an attempt that was launched before, and starts it if that was not done; `false` if
    /// there is none. A container that ran, or may have, is never started again.
    async fn adopt(&self, attempt_id: AttemptId) -> Result<bool, EngineError> {
        let Some(container) = self.find(attempt_id).await? else { return Ok(false) };
        let id = id_of(&container);
        match stage(&container) {
            Stage::Running | Stage::Ended => Ok(true),
            Stage::Created => match self.ask_whether_unstarted(&container).await {
                Unstarted::Surely => self.start(attempt_id, id).await.map(|_| true),
                // It counts as launched, and observation decides.
                Unstarted::Perhaps => Ok(true),
                Unstarted::Unknown => {
                    let reason = "the Docker daemon does not say whether it made the container itself";
                    Err(EngineError::Unavailable(reason.to_owned()))
                }
            },
            Stage::Failed => {
                let message = start_error(&container);
                self.remove_container(id, true).await?;
                Err(refusal::of_launch(ApiError::Refused { status: 500, message }))
            }
        }
    }

    async fn start(&self, attempt_id: AttemptId, id: &str) -> Result<Made, EngineError> {
        // The cluster's next owner finds a container that never ran, and starts or removes it.
        if self.closing.is_cancelled() {
            return Err(EngineError::Unavailable(
                "the cluster was changed while the container was being created".to_owned(),
            ));
        }
        match self.link.call(async |docker| docker.start_container(id, None).await).await {
            Ok(()) => Ok(Made::Started),
            // Whether it was started is unknown: it counts as launched, and observation decides.
            Err(ApiError::Away(reason)) => {
                tracing::warn!(%attempt_id, reason, "the daemon went away while it started a container");
                Ok(Made::Started)
            }
            Err(error) if error.is_not_found() => {
                let reason = format!("its container was removed before it started: {error}");
                Err(EngineError::NotStarted { reason, fault: StartFault::Displaced })
            }
            Err(error) => match self.remove_container(id, true).await {
                Ok(()) => Err(refusal::of_launch(error)),
                // The retry uses the same container, so there is certainly no second one.
                Err(left) => Err(EngineError::Unavailable(format!("{error}; and it can't be removed: {left}"))),
            },
        }
    }
}
