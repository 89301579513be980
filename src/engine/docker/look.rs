//! Observing: a few attempts by inspecting each, many by one listing, of which only what is new or has ended is inspected.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::Inner;
use super::container::{attempt_of, name_of};
use super::image::digest_of;
use super::launch::{CREATED, Launching, PULLING};
use super::link::ApiError;
use super::observe::{Facts, Stage, exit_code, finished_at, read_ended, read_started, stage, start_error, started_at};
use super::refusal::is_final;
use super::seen::Digest;
use crate::engine::signal::signal_name;
use crate::engine::{EngineError, Handle};
use crate::model::{AttemptId, Observation, StartFault};

const INSPECTIONS_AT_ONCE: usize = 8;
/// How many attempts are looked at without a listing, which would tell of all the others as well.
const FEW: usize = 3;
/// How late the daemon may tell of a signal that it sent.
const LATENESS: SignedDuration = SignedDuration::from_millis(250);
/// How long the daemon may take to say what it remembers of a container.
const HISTORY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

impl Inner {
    pub(super) async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        // In this order: an attempt whose container is made in between is seen as being launched, or as there.
        let launching: Vec<_> = handles.iter().map(|handle| self.launches.get(handle.attempt_id)).collect();
        let listed = if handles.len() > FEW { Some(self.list().await?) } else { None };
        let looks = handles.iter().zip(launching).map(|(handle, launching)| {
            let listed = listed.as_ref().map(|listed| listed.get(&handle.attempt_id));
            async move {
                let look = match listed {
                    Some(summary) => self.look_at_listed(handle, launching, summary).await,
                    None => self.look_at(handle, launching).await,
                };
                match look {
                    Err(ApiError::Refused { message, .. }) => Ok(Observation::Unknown { reason: message }),
                    result => result,
                }
            }
        });
        Ok(stream::iter(looks.collect::<Vec<_>>()).buffered(INSPECTIONS_AT_ONCE).try_collect().await?)
    }

    /// Every container of ours, by its attempt. What was seen of others is forgotten.
    pub(super) async fn list(&self) -> Result<HashMap<AttemptId, ContainerSummary>, ApiError> {
        let filters = Some(self.identity.filters());
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let containers = self.link.call(async |docker| docker.list_containers(Some(options)).await).await?;
        let named = containers.into_iter().filter_map(|container| {
            let attempt_id = attempt_of(container.labels.as_ref()?)?;
            Some((attempt_id, container))
        });
        let named: HashMap<_, _> = named.collect();
        self.seen.retain(|attempt_id| named.contains_key(&attempt_id));
        Ok(named)
    }

    /// The container of this name, if it is one of ours.
    pub(super) async fn inspect_ours(&self, name: &str) -> Result<Option<ContainerInspectResponse>, ApiError> {
        match self.link.call(async |docker| docker.inspect_container(name, None).await).await {
            Ok(container) => {
                let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
                let is_ours = labels.is_some_and(|labels| self.identity.owns(labels));
                Ok(is_ours.then_some(container))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look_at_listed(
        &self,
        handle: &Handle,
        launching: Option<Launching>,
        summary: Option<&ContainerSummary>,
    ) -> Result<Observation, ApiError> {
        let Some(summary) = summary else { return Ok(missing(handle, launching)) };
        let id = summary.id.as_deref().unwrap_or_default();
        let is_running =
            matches!(summary.state, Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED));
        if is_running && let Some(started) = self.seen.started(handle.attempt_id, id) {
            return Ok(Observation::Running(started));
        }
        self.look_at(handle, launching).await
    }

    async fn look_at(&self, handle: &Handle, launching: Option<Launching>) -> Result<Observation, ApiError> {
        let attempt_id = handle.attempt_id;
        let Some(container) = self.inspect_ours(&name_of(attempt_id)).await? else {
            return Ok(missing(handle, launching));
        };
        let now = self.link.now();
        match stage(&container) {
            Stage::Running => {
                let id = container.id.as_deref().unwrap_or_default();
                if let Some(started) = self.seen.started(attempt_id, id) {
                    return Ok(Observation::Running(started));
                }
                let facts = self.facts(&container).await;
                let started = read_started(&container, &facts, now);
                self.seen.add_started(attempt_id, id, started.clone());
                Ok(Observation::Running(started))
            }
            Stage::Ended => {
                self.seen.mark_ended(attempt_id);
                self.ends.tell(attempt_id);
                let was_asked_to_stop = self.stops.was_asked(attempt_id);
                let mut facts = Facts { was_asked_to_stop, ..self.facts(&container).await };
                facts.peak = self.seen.peak(attempt_id);
                if exit_code(&container) != 0 || was_asked_to_stop {
                    facts.signals = self.signals_sent(&container, was_asked_to_stop).await;
                }
                Ok(read_ended(&container, &facts, now))
            }
            Stage::Created | Stage::Failed if launching.is_some() => Ok(Observation::Starting),
            Stage::Failed => {
                let reason = start_error(&container);
                let fault = if is_final(500, &reason) { StartFault::Task } else { StartFault::Machine };
                Ok(Observation::NeverRan { reason: format!("Docker can't start the container: {reason}"), fault })
            }
            Stage::Created => self.look_at_unstarted(handle).await,
        }
    }

    /// A container that was made, and that nobody starts: the server died in between, or the daemon did. One that was
    /// never handed over is launched again, and found. Any other is given back, after it was removed, so that it surely
    /// never runs: one whose start is under way can't be removed.
    async fn look_at_unstarted(&self, handle: &Handle) -> Result<Observation, ApiError> {
        if handle.text.is_empty() {
            return Ok(Observation::Gone { reason: "its container was made and never started".to_owned() });
        }
        match self.remove_container(&name_of(handle.attempt_id), false).await {
            Ok(()) => Ok(Observation::NeverRan {
                reason: "its container was made and not started, for the server or the daemon went away".to_owned(),
                fault: StartFault::Machine,
            }),
            Err(error) if error.is_conflict() => Ok(Observation::Starting),
            Err(error) => Err(error),
        }
    }

    async fn facts(&self, container: &ContainerInspectResponse) -> Facts {
        let machine = match self.link.machine() {
            Some(machine) => Some(machine),
            None => self.link.refresh_machine().await.ok(),
        };
        Facts {
            machine_name: machine.map(|machine| machine.name).unwrap_or_default(),
            image_digest: self.image_digest(container).await,
            outage: self.link.outage(),
            ..Facts::default()
        }
    }

    /// By which digest a registry knows the image, where one does. What can't be found out is not worth a failure.
    async fn image_digest(&self, container: &ContainerInspectResponse) -> Option<String> {
        let image_id = container.image.as_deref()?;
        let name = container.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or(image_id);
        if let Some(Digest(digest)) = self.seen.digest(image_id, name) {
            return digest;
        }
        let image = self.link.call(async |docker| docker.inspect_image(image_id).await).await.ok()?;
        let digest = digest_of(name, image.repo_digests.as_deref().unwrap_or_default());
        self.seen.add_digest(image_id, name, Digest(digest.clone()));
        digest
    }

    /// The signals that were sent to an ended container through the daemon, as far as it remembers: those that end a
    /// process. What is not known explains nothing, so an error is no more than that.
    async fn signals_sent(&self, container: &ContainerInspectResponse, was_asked_to_stop: bool) -> Vec<i64> {
        const ENDING: [&str; 4] = ["SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM"];
        let (Some(id), Some(from), Some(until)) = (&container.id, started_at(container), finished_at(container)) else {
            return Vec::new();
        };
        // The daemon tells of a signal right after sending it, which may be after the end. Where there should be one,
        // because of the exit code or because we asked for it, it is waited for.
        let is_expected = was_asked_to_stop || [130, 131, 137, 143].contains(&exit_code(container));
        let until = if is_expected { until + LATENESS } else { until };
        let stamp = |time: Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
        let filters = [("container", id.as_str()), ("event", "kill")];
        let filters = filters.map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
        let options = EventsOptions {
            since: Some(stamp(from)),
            until: Some(stamp(until)),
            filters: Some(HashMap::from(filters)),
        };
        let history = async {
            let Ok(docker) = self.link.docker().await else { return Vec::new() };
            let events = docker.events(Some(options));
            let signals = events.filter_map(async |event| {
                let signal = event.ok()?.actor?.attributes?.get("signal")?.parse().ok()?;
                signal_name(signal).is_some_and(|name| ENDING.contains(&name)).then_some(signal)
            });
            signals.collect().await
        };
        tokio::time::timeout(HISTORY_TIMEOUT, history).await.unwrap_or_default()
    }
}

/// An attempt without a container: what that means depends on how far it was.
fn missing(handle: &Handle, launching: Option<Launching>) -> Observation {
    match (launching, handle.text.as_str()) {
        (Some(Launching::Starting | Launching::Pulling(_)), _) => Observation::Starting,
        (Some(Launching::NeverRan { reason, fault, .. }), _) => Observation::NeverRan { reason, fault },
        (None, PULLING) => Observation::NeverRan {
            reason: "the server was restarted while the image was being fetched".to_owned(),
            fault: StartFault::Image,
        },
        (None, CREATED) => {
            Observation::Gone { reason: "the container was removed from outside of flotilla".to_owned() }
        }
        (None, _) => Observation::Gone { reason: "it has no container".to_owned() },
    }
}
