//! Launching: a container is created under the attempt's name and started, once. Where its image has to be fetched
//! first, that goes on behind, and what became of it is kept here until somebody looks.
//!
//! What is kept here dies with the server. An attempt whose handle says [`PULLING`] and that has no container when the
//! server is back never ran: its container would have been made by the process that died.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::query_parameters::CreateContainerOptions;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::config::PullPolicy;
use super::container::{describe, name_of, without_storage_limit};
use super::image::{registry_of, with_tag};
use super::link::ApiError;
use super::observe::{Stage, stage, start_error};
use super::pull::{Progress, PullError};
use super::{Inner, refusal};
use crate::engine::{EngineError, Handle, LaunchSpec};
use crate::model::{AttemptId, Event, StartFault};

/// The text of a handle whose container was made.
pub(super) const CREATED: &str = "container";
/// The text of a handle whose image was still being fetched.
pub(super) const PULLING: &str = "pulling";
/// How often a pull that takes long says how far it is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(30);
/// How long it is known why an attempt never ran, if nobody removes it.
const VERDICT_KEPT_FOR: Duration = Duration::from_hours(1);

/// Attempts that have no container yet, and that this process takes care of.
#[derive(Default)]
pub(super) struct Launches {
    map: Mutex<HashMap<AttemptId, Launching>>,
    /// A call to launch something has ended.
    ended: Notify,
}

#[derive(Clone)]
pub(super) enum Launching {
    /// A call to launch it is under way.
    Starting,
    Pulling(AbortHandle),
    NeverRan {
        reason: String,
        fault: StartFault,
        since: Instant,
    },
}

impl Launches {
    fn map(&self) -> MutexGuard<'_, HashMap<AttemptId, Launching>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, attempt_id: AttemptId) -> Option<Launching> {
        self.map().get(&attempt_id).cloned()
    }

    pub(super) fn ids(&self) -> Vec<AttemptId> {
        self.map().keys().copied().collect()
    }

    /// Forgets an attempt, and gives up what was being done for it.
    pub(super) fn remove(&self, attempt_id: AttemptId) {
        if let Some(Launching::Pulling(task)) = self.map().remove(&attempt_id) {
            task.abort();
        }
    }

    /// Ends an attempt that has no container yet; `false` where there is none.
    pub(super) fn stop(&self, attempt_id: AttemptId) -> bool {
        let mut map = self.map();
        match map.get(&attempt_id) {
            Some(Launching::Pulling(task)) => task.abort(),
            Some(Launching::NeverRan { .. }) => return true,
            Some(Launching::Starting) | None => return false,
        }
        map.insert(
            attempt_id,
            Launching::never_ran("stopped while its image was being fetched".to_owned(), StartFault::Task),
        );
        true
    }

    /// Marks an attempt as being launched, after any other call to launch it; `None` where it has been taken care of.
    async fn begin(&self, attempt_id: AttemptId) -> Option<Beginning<'_>> {
        loop {
            let ended = self.ended.notified();
            {
                let mut map = self.map();
                map.retain(|_, launching| !launching.is_outdated());
                match map.get(&attempt_id) {
                    Some(Launching::Pulling(_) | Launching::NeverRan { .. }) => return None,
                    Some(Launching::Starting) => {}
                    None => {
                        map.insert(attempt_id, Launching::Starting);
                        return Some(Beginning { launches: self, attempt_id });
                    }
                }
            }
            ended.await;
        }
    }
}

impl Launching {
    fn never_ran(reason: String, fault: StartFault) -> Self {
        Self::NeverRan { reason, fault, since: Instant::now() }
    }

    fn is_outdated(&self) -> bool {
        matches!(self, Self::NeverRan { since, .. } if since.elapsed() > VERDICT_KEPT_FOR)
    }
}

/// A call to launch an attempt. However it ends, also by being dropped, the attempt is not being launched after it.
struct Beginning<'a> {
    launches: &'a Launches,
    attempt_id: AttemptId,
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        let mut map = self.launches.map();
        if matches!(map.get(&self.attempt_id), Some(Launching::Starting)) {
            map.remove(&self.attempt_id);
        }
        drop(map);
        self.launches.ended.notify_waiters();
    }
}

enum Made {
    Started,
    ImageIsMissing,
}

impl Inner {
    pub(super) async fn launch(self: &Arc<Self>, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        let attempt_id = spec.attempt_id;
        let handle = |text: &str| Handle { attempt_id, text: text.to_owned() };
        let Some(_beginning) = self.launches.begin(attempt_id).await else { return Ok(handle(PULLING)) };
        let is_pulled_first = self.config.pull_policy == PullPolicy::Always && !self.adopt(attempt_id).await?;
        if !is_pulled_first {
            match self.make(spec).await? {
                Made::Started => return Ok(handle(CREATED)),
                Made::ImageIsMissing if self.config.pull_policy == PullPolicy::Never => {
                    let image = &spec.task.image;
                    let reason =
                        format!("image `{image}` is not on the machine, and this cluster does not fetch images");
                    return Err(EngineError::Rejected(reason));
                }
                Made::ImageIsMissing => {}
            }
        }
        self.pull_behind(spec.clone());
        Ok(handle(PULLING))
    }

    /// Creates the attempt's container and starts it, or finds it where that was done before.
    async fn make(&self, spec: &LaunchSpec) -> Result<Made, EngineError> {
        let machine = self.link.machine();
        let image = with_tag(&spec.task.image);
        let body = describe(spec, &image, &self.config, &self.identity, machine.as_ref())?;
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
            Ok(_) => self.start(spec.attempt_id, &name).await,
            Err(error) if error.is_conflict() && self.adopt(spec.attempt_id).await? => Ok(Made::Started),
            Err(ApiError::Refused { status: 404, message }) if message.contains("image") => Ok(Made::ImageIsMissing),
            Err(error) => Err(refusal::of_launch(error)),
        }
    }

    /// Finds the container of an attempt that was launched before, and starts it if that was not done; `false` where
    /// there is none. What ran once is never started again.
    async fn adopt(&self, attempt_id: AttemptId) -> Result<bool, EngineError> {
        let name = name_of(attempt_id);
        let container = match self.inspect_ours(&name).await {
            Ok(Some(container)) => container,
            Ok(None) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match stage(&container) {
            Stage::Running | Stage::Ended => Ok(true),
            Stage::Created => self.start(attempt_id, &name).await.map(|_| true),
            Stage::Failed => {
                let message = start_error(&container);
                self.remove_container(&name, true).await?;
                Err(refusal::of_launch(ApiError::Refused { status: 500, message }))
            }
        }
    }

    async fn start(&self, attempt_id: AttemptId, name: &str) -> Result<Made, EngineError> {
        match self.link.call(async |docker| docker.start_container(name, None).await).await {
            Ok(()) => Ok(Made::Started),
            // Nobody knows whether it was started: it counts as launched, and what is observed decides.
            Err(ApiError::Away(reason)) => {
                tracing::warn!(%attempt_id, reason, "the daemon went away while it started a container");
                Ok(Made::Started)
            }
            Err(error) => match self.remove_container(name, true).await {
                Ok(()) => Err(refusal::of_launch(error)),
                // It is tried again with the same container, which is certainly no second one.
                Err(left) => Err(EngineError::Unavailable(format!("{error}; and it can't be removed: {left}"))),
            },
        }
    }

    /// Fetches the image and then launches, with nobody waiting.
    fn pull_behind(self: &Arc<Self>, spec: LaunchSpec) {
        let (inner, attempt_id) = (Arc::clone(self), spec.attempt_id);
        let work = async move {
            let verdict = match Box::pin(inner.pull_and_make(&spec)).await {
                Ok(()) => None,
                Err(EngineError::Rejected(reason)) => Some(Launching::never_ran(reason, StartFault::Task)),
                Err(EngineError::NotStarted { reason, fault }) => Some(Launching::never_ran(reason, fault)),
                Err(EngineError::Unavailable(reason) | EngineError::Gone(reason)) => {
                    Some(Launching::never_ran(reason, StartFault::Machine))
                }
            };
            {
                let mut map = inner.launches.map();
                match verdict {
                    Some(verdict) => map.insert(attempt_id, verdict),
                    None => map.remove(&attempt_id),
                };
            }
            inner.pokes.poke(attempt_id);
        };
        // Held while the task is made, so that it can't end before it is known.
        let mut map = self.launches.map();
        let until_closed = self.closing.clone().run_until_cancelled_owned(work);
        let task = tokio::spawn(async move {
            until_closed.await;
        });
        map.insert(attempt_id, Launching::Pulling(task.abort_handle()));
    }

    async fn pull_and_make(self: &Arc<Self>, spec: &LaunchSpec) -> Result<(), EngineError> {
        let image = with_tag(&spec.task.image);
        let (progress, was_begun) = self.pulls.follow(&image);
        let first = if was_begun {
            format!("waiting for image {image}, which is already being fetched")
        } else {
            format!("fetching image {image} from {}", registry_of(&image))
        };
        self.note(spec.attempt_id, Event::normal(self.link.now(), "Pulling", first));
        let took = self.follow_pull(spec.attempt_id, &image, progress).await.map_err(|error| {
            let reason = format!("image `{image}` can't be fetched: {}", error.reason);
            match error.is_final {
                true => EngineError::Rejected(reason),
                false => EngineError::NotStarted { reason, fault: StartFault::Image },
            }
        })?;
        let size = self.link.call(async |docker| docker.inspect_image(&image).await).await;
        let size =
            size.ok().and_then(|image| image.size).map_or_else(String::new, |size| format!(" ({})", megabytes(size)));
        let message = format!("fetched image {image}{size} in {:.1} s", took.as_secs_f64());
        self.note(spec.attempt_id, Event::normal(self.link.now(), "Pulled", message));
        match self.make(spec).await? {
            Made::Started => Ok(()),
            Made::ImageIsMissing => {
                let reason = format!("image {image} was fetched and is not there any more");
                Err(EngineError::NotStarted { reason, fault: StartFault::Image })
            }
        }
    }

    /// Waits for a pull, and tells of it what a person wants to know while waiting.
    async fn follow_pull(
        &self,
        attempt_id: AttemptId,
        image: &str,
        mut progress: watch::Receiver<Progress>,
    ) -> Result<Duration, PullError> {
        let mut told_at = Instant::now();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Done { took } => return Ok(took),
                Progress::Failed(error) => return Err(error),
                Progress::Waiting { reason, pause } => {
                    let message = format!("can't fetch image {image}, next try in {} s: {reason}", pause.as_secs());
                    self.note(attempt_id, Event::warning(self.link.now(), "PullFailed", message));
                }
                Progress::Pulling { bytes, of_bytes } if told_at.elapsed() > PROGRESS_PERIOD => {
                    told_at = Instant::now();
                    let message = format!("fetched {} of {} of image {image}", megabytes(bytes), megabytes(of_bytes));
                    self.note(attempt_id, Event::normal(self.link.now(), "Pulling", message));
                }
                Progress::Pulling { .. } => {}
            }
            if progress.changed().await.is_err() {
                let reason = "the pull was given up".to_owned();
                return Err(PullError { reason, is_final: false });
            }
        }
    }

    fn note(&self, attempt_id: AttemptId, event: Event) {
        self.pokes.note(attempt_id, event.from_source("docker"));
    }
}

fn megabytes(bytes: i64) -> String {
    let tenths = bytes.max(0).saturating_mul(10) / (1 << 20);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
