//! Observing: few attempts by inspecting each, many by one listing, after which only new or ended ones are inspected.

use std::time::{Duration, Instant};

use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Inner;
use super::cache::{Digest, LastObserved, SHELL_STARTS_WITHIN};
use super::image::{digest_of, in_path};
use super::inspect::{exit_code, id_of};
use super::launch::{CREATED, PULLING};
use super::launches::Launching;
use super::link::ApiError;
use super::memory::{EndSeen, Memory, NoAnswer, Unstarted};
use super::output::last_messages;
use super::read::{
    FOUND_DEAD, Facts, Stage, is_doubtful_success, is_lost, may_lack_shell, read_ended, read_started, shell_error,
    stage, start_error,
};
use super::refusal::fault_of;
use super::unpack::Message;
use crate::engine::{EngineError, Handle};
use crate::model::{AttemptId, Observation, StartFault};

const INSPECTIONS_AT_ONCE: usize = 8;
/// Maximum number of attempts inspected without a listing, which would return all others too.
const FEW: usize = 3;
/// How long the daemon may take to send the last lines of an output.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        // In this order: an attempt whose container is created in between is seen either as launching or as present.
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
        if is_running && let Some(started) = self.seen.started(handle.attempt_id, id, self.now_seen()) {
            return Ok(Observation::Running(started));
        }
        self.look_at(handle, launching).await
    }

    async fn look_at(&self, handle: &Handle, launching: Option<Launching>) -> Result<Observation, ApiError> {
        let attempt_id = handle.attempt_id;
        let Some(container) = self.find(attempt_id).await? else { return Ok(missing(handle, launching)) };
        match stage(&container) {
            Stage::Running => Ok(self.look_at_running(attempt_id, &container).await),
            Stage::Ended => Ok(self.look_at_ended(attempt_id, &container).await),
            Stage::Created | Stage::Failed if launching.as_ref().is_some_and(Launching::is_under_way) => {
                Ok(Observation::Starting)
            }
            Stage::Failed => {
                let reason = start_error(&container);
                let fault = fault_of(500, &reason);
                Ok(Observation::NeverRan { reason: format!("Docker can't start the container: {reason}"), fault })
            }
            Stage::Created => self.look_at_unstarted(handle, launching, &container).await,
        }
    }

    async fn look_at_running(&self, attempt_id: AttemptId, container: &ContainerInspectResponse) -> Observation {
        let (id, now) = (id_of(container), self.now_seen());
        if let Some(started) = self.seen.started(attempt_id, id, now) {
            return Observation::Running(started);
        }
        // The command does not run until the init process has started the shell, which happens at once or not at all.
        let image_id = container.image.as_deref().unwrap_or_default();
        if !self.seen.has_shell(image_id) {
            let (seen_for, is_new) = self.seen.unproven_for(attempt_id, Instant::now());
            if is_new {
                self.reports.changed_after(attempt_id, SHELL_STARTS_WITHIN);
            }
            if seen_for < SHELL_STARTS_WITHIN {
                return Observation::Starting;
            }
            self.seen.add_shell(image_id);
        }
        let started = read_started(container, &self.facts(container).await, self.link.now());
        self.seen.add_started(attempt_id, id, started.clone(), now);
        Observation::Running(started)
    }

    async fn look_at_ended(&self, attempt_id: AttemptId, container: &ContainerInspectResponse) -> Observation {
        self.seen.mark_ended(attempt_id);
        self.ends.tell(attempt_id);
        let was_asked_to_stop = self.stops.was_asked(attempt_id);
        let last = self.seen.last(attempt_id);
        let mut facts = Facts {
            was_asked_to_stop,
            ended_with_daemon_away: last.is_some_and(|last| last.connection != self.link.connection()),
            last_seen_at: last.map(|last| last.at),
            peak: self.seen.peak(attempt_id),
            ..self.facts(container).await
        };
        let is_doubtful = is_doubtful_success(container);
        if exit_code(container) != 0 || was_asked_to_stop || is_doubtful {
            facts.memory = match self.memory_of(container, was_asked_to_stop).await {
                Ok(memory) => memory,
                // Whether it was lost depends on the answer, which the next observation may get.
                Err(NoAnswer) if is_doubtful || exit_code(container) == FOUND_DEAD => {
                    let reason = "the Docker daemon does not say how its container ended";
                    return Observation::Unknown { reason: reason.to_owned() };
                }
                Err(NoAnswer) => Memory::default(),
            };
        }
        // With live restore, containers end on their own while the daemon is away, and the daemon learns how.
        if is_doubtful && self.has_live_restore() {
            facts.memory.end = EndSeen::Unknown;
        }
        let image_id = container.image.as_deref().unwrap_or_default();
        if may_lack_shell(exit_code(container)) && !self.seen.has_shell(image_id) {
            facts.shell_error = self.shell_error_of(container).await;
        } else {
            self.seen.add_shell(image_id);
        }
        if facts.last_seen_at.is_none() && is_lost(container, facts.memory.end) {
            let output = self.last_output(container, 1).await;
            facts.last_seen_at = output.last().and_then(|message| message.stamp.as_timestamp());
        }
        read_ended(container, &facts, self.link.now())
    }

    async fn shell_error_of(&self, container: &ContainerInspectResponse) -> Option<String> {
        let shell = self.config.shell.first()?;
        match self.last_output(container, 2).await.as_slice() {
            [only] => shell_error(&only.text(), shell),
            _ => None,
        }
    }

    /// Whether containers continue while the daemon is away; `true` if unknown.
    fn has_live_restore(&self) -> bool {
        self.link.machine().is_none_or(|machine| machine.has_live_restore)
    }

    /// The last messages of an ended container's output. Best effort: read failures are ignored.
    async fn last_output(&self, container: &ContainerInspectResponse, count: usize) -> Vec<Message> {
        let reading = async {
            let docker = self.link.docker().await.ok()?;
            let messages = docker.logs(id_of(container), Some(last_messages(count))).take(count);
            let messages: Vec<_> = messages.collect().await;
            messages.into_iter().map(|output| Message::read(&output.ok()?).ok()).collect()
        };
        tokio::time::timeout(OUTPUT_TIMEOUT, reading).await.ok().flatten().unwrap_or_default()
    }

    /// An observation made now, by the daemon's clock.
    fn now_seen(&self) -> LastObserved {
        let now = self.link.clock().map_or_else(|| self.link.now(), |clock| clock.at(Instant::now()));
        LastObserved { at: now, connection: self.link.connection() }
    }

    /// Handles a container that was created and that is not being started: the server or the daemon died in between.
    /// One that was never handed over is launched again and found. Any other is removed first, so that it certainly
    /// never runs, and then given back: one whose start is under way can't be removed.
    async fn look_at_unstarted(
        &self,
        handle: &Handle,
        launching: Option<Launching>,
        container: &ContainerInspectResponse,
    ) -> Result<Observation, ApiError> {
        match self.ask_whether_unstarted(container).await {
            Unstarted::Surely => {}
            Unstarted::Unknown => {
                let reason = "the Docker daemon does not say whether it made the container itself";
                return Ok(Observation::Unknown { reason: reason.to_owned() });
            }
            Unstarted::Perhaps => {
                self.seen.mark_ended(handle.attempt_id);
                let reason = "the Docker daemon was restarted, or its machine lost power, around the moment it started the \
                    container: whether the command ran is not known";
                return Ok(Observation::Lost { reason: reason.to_owned(), started: None, last_seen_at: None });
            }
        }
        if handle.text.is_empty() {
            return Ok(Observation::Gone { reason: "its container was created and never started".to_owned() });
        }
        match (self.remove_container(id_of(container), false).await, launching) {
            (Ok(()), Some(Launching::NeverRan { reason, fault, .. })) => Ok(Observation::NeverRan { reason, fault }),
            (Ok(()), _) => Ok(Observation::NeverRan {
                reason: "its container was created and not started, because the server or the daemon went away"
                    .to_owned(),
                fault: StartFault::Machine,
            }),
            (Err(error), _) if error.is_conflict() => Ok(Observation::Starting),
            (Err(error), _) => Err(error),
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
            ..Facts::default()
        }
    }

    /// The digest by which a registry knows the image, if any. Best effort: failures are ignored.
    async fn image_digest(&self, container: &ContainerInspectResponse) -> Option<String> {
        let image_id = container.image.as_deref()?;
        let name = container.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or(image_id);
        if let Some(Digest(digest)) = self.seen.digest(image_id, name) {
            return digest;
        }
        let image = self.link.call(async |docker| docker.inspect_image(&in_path(image_id)).await).await.ok()?;
        let digest = digest_of(name, image.repo_digests.as_deref().unwrap_or_default());
        self.seen.add_digest(image_id, name, Digest(digest.clone()));
        digest
    }
}

/// An attempt without a container: its meaning depends on how far the launch got.
fn missing(handle: &Handle, launching: Option<Launching>) -> Observation {
    match (launching, handle.text.as_str()) {
        (Some(Launching::Making | Launching::Pulling(_)), _) => Observation::Starting,
        (Some(Launching::NeverRan { reason, fault, .. }), _) => Observation::NeverRan { reason, fault },
        (None, PULLING) => Observation::NeverRan {
            reason: "fetching its image was broken off: the server was restarted, or the cluster was changed"
                .to_owned(),
            fault: StartFault::Displaced,
        },
        (Some(Launching::Started), _) | (None, CREATED) => {
            Observation::Gone { reason: "the container was removed from outside of flotilla".to_owned() }
        }
        (None, _) => Observation::Gone { reason: "it has no container".to_owned() },
    }
}
