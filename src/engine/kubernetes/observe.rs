//! Observing attempts: from the cache while the watches are complete, otherwise by listing everything. Absence is
//! never concluded from the cache: the API is queried. `judge` decides what to conclude; this module acts on it.

use std::time::Duration;

use futures_util::io::AsyncReadExt;
use k8s_openapi::api::core::v1::{Event as KubernetesEvent, Pod};
use kube::api::{ListParams, LogParams};

use super::Inner;
use super::evidence::{time_of, weigh};
use super::facts::{Evidence, FirstOutput};
use super::judge::{Context, Judgement, judge};
use super::link::ApiError;
use super::names::{CONTAINER, name_of};
use super::view::refusal_in;
use crate::engine::{EngineError, Handle};
use crate::model::{AttemptId, Event, Observation};

/// How many bytes of output are inspected for a container that failed at once.
const FIRST_OUTPUT_BYTES: u16 = 1024;
/// A judgement queries objects, events and output, and acts, each at most once.
const MOST_STEPS: usize = 8;

impl Inner {
    pub(super) async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        if !self.cache.is_fresh() {
            let listed = self.list_all().await;
            if let Err(ApiError::Refused { message, .. }) = &listed {
                self.tell_unseen(handles, message);
            }
            listed?;
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

    /// Records on each run, once, that the server is not allowed to observe it.
    fn tell_unseen(&self, handles: &[Handle], why: &str) {
        let message = format!(
            "the server may not look at the cluster's runs, so that nothing is known of this one, and a stop waits: {why}"
        );
        for handle in handles {
            self.note_unseen(handle.attempt_id, Event::warning(self.link.now().wall, "NotAllowed", &message));
        }
    }

    async fn look(&self, handle: &Handle) -> Result<Observation, ApiError> {
        let attempt_id = handle.attempt_id;
        let mut was_asked_for = false;
        let maker = self.pod_maker().await?;
        let has_last_status = self.link.connected().await?.has_last_status;
        for _ in 0..MOST_STEPS {
            let entry = self.cache.get(attempt_id).unwrap_or_default();
            if let Some(pod) = entry.pod.as_ref().filter(|pod| entry.has_lost_finalizer(pod)) {
                self.keep_pod(attempt_id, pod).await?;
            }
            let node = entry.pod.as_ref().and_then(|pod| pod.node.as_deref());
            let context = Context {
                maker,
                pull_grace: Duration::from_secs(u64::from(self.config.image_pull_grace_secs)),
                was_asked_for,
                was_made: !handle.text.is_empty(),
                is_node_lost: node.is_some_and(|node| self.rooms.is_lost(node)),
                has_last_status,
            };
            match judge(&entry, context, self.link.now()) {
                Judgement::Seen(observation) => return Ok(observation),
                Judgement::AskForObjects => {
                    self.ask_for(attempt_id).await?;
                    was_asked_for = true;
                }
                Judgement::AskEvents => {
                    let uid = entry.pod.map(|pod| pod.uid).unwrap_or_default();
                    let events = self.events(attempt_id, &format!("involvedObject.uid={uid}")).await?;
                    let evidence = events.map_or(Evidence::NotAllowed, |events| weigh(&events));
                    let now = self.link.now();
                    self.cache.change(attempt_id, |entry| {
                        entry.evidence = evidence;
                        entry.evidence_at = Some(now.uptime);
                    });
                }
                Judgement::AskRefusal => {
                    let job = name_of(attempt_id);
                    let selector = format!("involvedObject.kind=Job,involvedObject.name={job}");
                    let mut events = self.events(attempt_id, &selector).await?.unwrap_or_default();
                    events.sort_by_key(time_of);
                    if let Some(words) = events.iter().filter_map(|event| refusal_in(event, attempt_id)).next_back() {
                        self.cache.refuse(attempt_id, words, self.link.now());
                    }
                    self.cache.change(attempt_id, |entry| entry.was_refusal_asked = true);
                }
                Judgement::AskOutput => {
                    let name = entry.pod.map(|pod| pod.name).unwrap_or_default();
                    let first = FirstOutput::Known(self.first_output(&name).await?);
                    self.cache.change(attempt_id, |entry| entry.first_output = first);
                }
                Judgement::GiveUpPod(verdict) => {
                    // Reported only once the node has released the pod: a start in progress would compete with that
                    // of the next attempt.
                    self.cache.change(attempt_id, |entry| {
                        entry.verdict.get_or_insert(verdict);
                    });
                    if let Some(pod) = &entry.pod {
                        self.delete_pod(pod, None).await?;
                    }
                    return Ok(Observation::Starting);
                }
                Judgement::GiveUpJob(verdict) => {
                    self.cache.change(attempt_id, |entry| entry.refused = Some(verdict));
                    self.delete_job(attempt_id).await?;
                    self.ask_for(attempt_id).await?;
                    was_asked_for = true;
                }
                Judgement::EndSuspended => self.end_suspended(attempt_id).await?,
            }
        }
        Ok(Observation::Starting)
    }

    /// Deletes a job that someone has suspended: if resumed, it would run the command again.
    async fn end_suspended(&self, attempt_id: AttemptId) -> Result<(), ApiError> {
        self.cache.change(attempt_id, |entry| entry.was_suspended = true);
        let message = "its job was suspended from outside of flotilla, which ends its pod; the job is deleted so that \
                       nobody resumes it and the command runs again";
        self.note(attempt_id, Event::warning(self.link.now().wall, "Suspended", message));
        match self.delete_job(attempt_id).await {
            Err(ApiError::Refused { message, .. }) => {
                let message = format!("a suspended job could not be deleted, and may run the command again: {message}");
                self.note(attempt_id, Event::warning(self.link.now().wall, "Suspended", message));
                Ok(())
            }
            result => result,
        }
    }

    /// The events about an object; `None`, noted on the run, where the server may not read events.
    async fn events(&self, attempt_id: AttemptId, selector: &str) -> Result<Option<Vec<KubernetesEvent>>, ApiError> {
        let params = ListParams::default().fields(selector);
        let listed = self.link.call(async |client| self.api::<KubernetesEvent>(client).list(&params).await).await;
        match listed {
            Ok(events) => Ok(Some(events.items)),
            Err(ApiError::Refused { message, .. }) => {
                let message = format!(
                    "the server may not read the cluster's events, which say why a run has no pod and whether its command began: {message}"
                );
                self.note(attempt_id, Event::warning(self.link.now().wall, "EventsNotAllowed", message));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The beginning of a pod's output; empty where its node has none.
    async fn first_output(&self, pod_name: &str) -> Result<String, ApiError> {
        let params = LogParams {
            container: Some(CONTAINER.to_owned()),
            limit_bytes: Some(i64::from(FIRST_OUTPUT_BYTES)),
            ..LogParams::default()
        };
        let read = self.link.call(async |client| {
            let mut stream = self.api::<Pod>(client).log_stream(pod_name, &params).await?;
            let mut bytes = Vec::new();
            // A partial read is no worse than no output.
            let _ = stream.read_to_end(&mut bytes).await;
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(ApiError::Refused { .. }) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }
}
