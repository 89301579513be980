//! What the watches have reported so far, in small extracts, and what this process itself knows of each attempt.
//!
//! The cache proves presence, never absence: an attempt that it does not have is looked up through the API.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::facts::{Evidence, FirstOutput, Now, Trouble, Verdict, trouble_of};
use super::refusal::of_pod;
use super::usage::{Sample, Sampling};
use super::view::{Container, InitWaiting, JobView, Phase, PodView};
use crate::model::{AttemptId, Event};

/// How many different events of one attempt are reported.
const MOST_TOLD: usize = 200;

#[derive(Default)]
pub(super) struct Cache {
    state: Mutex<State>,
    /// An entry has changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<AttemptId, Entry>,
    /// Whether the watches of pods and of jobs are complete.
    are_pods_watched: bool,
    are_jobs_watched: bool,
}

#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they come in any combination")]
pub(super) struct Entry {
    pub job: Option<JobView>,
    /// The attempt's pod: the oldest, if there are several.
    pub pod: Option<PodView>,
    /// The pod no longer exists; `pod` is its last observed state.
    pub has_vanished: bool,
    /// When the command started, by its node's clock, and when that and its last sign of life were observed, by ours.
    pub running_since: Option<Timestamp>,
    pub running_seen_at: Option<Timestamp>,
    pub last_seen_at: Option<Timestamp>,
    pub launched_at: Option<Timestamp>,
    pub end_seen_at: Option<Timestamp>,
    /// Why the container can't start, and since when, on the scale of [`Now::uptime`].
    pub trouble: Option<Trouble>,
    pub troubled_at: Option<Duration>,
    pub deleting_at: Option<Duration>,
    pub released_at: Option<Duration>,
    pub failed_at: Option<Duration>,
    /// The deletion was observed with a grace period.
    pub had_grace: bool,
    /// Admission refuses the pod that the job's controller wants to create.
    pub refusal: Option<Refusal>,
    pub was_refusal_asked: bool,
    pub was_asked_to_stop: bool,
    /// Why this server deleted the pod, or the job that got no pod.
    pub verdict: Option<Verdict>,
    pub refused: Option<Verdict>,
    pub was_suspended: bool,
    /// Since when the API has reported neither a job nor a pod.
    pub absent_at: Option<Duration>,
    /// This server deleted the job.
    pub is_job_deleted_by_us: bool,
    pub evidence: Evidence,
    pub evidence_at: Option<Duration>,
    pub first_output: FirstOutput,
    pub sampling: Sampling,
    /// We removed it; objects still observed are being deleted.
    pub is_removed: bool,
    /// The events reported so far.
    told: HashSet<(String, String)>,
}

/// Why no pod is created, and since when the reason is of this kind, on the scale of [`Now::uptime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub words: String,
    pub at: Duration,
}

impl Entry {
    const fn is_there(&self) -> bool {
        self.job.is_some() || (self.pod.is_some() && !self.has_vanished)
    }

    /// Whether a pod that still runs would vanish with its exit code if it were deleted.
    pub(super) fn has_lost_finalizer(&self, pod: &PodView) -> bool {
        let is_over = matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        !pod.is_kept && pod.deleting.is_none() && !is_over && !self.has_vanished && !self.is_removed
    }

    fn apply_pod(&mut self, pod: PodView, now: Now, news: &mut Vec<Event>) {
        if let Some(known) = self.pod.as_ref().filter(|known| known.uid != pod.uid) {
            let is_older = pod.created_at < known.created_at;
            let second = if is_older { known } else { &pod };
            news.push(second_pod(second, now));
            if !is_older {
                return;
            }
            // Observations of the other pod do not apply to this one.
            self.forget_pod();
        }
        let old = self.pod.as_ref();
        if let Some(words) = pod.unschedulable.as_ref()
            && old.and_then(|old| old.unschedulable.as_ref()) != Some(words)
        {
            let event = Event::warning(now.wall, "Unschedulable", format!("no node can take it now: {words}"));
            news.push(event.from_source("default-scheduler"));
        }
        if let Some(words) = pod.gated.as_ref()
            && old.and_then(|old| old.gated.as_ref()) != Some(words)
        {
            let message = format!("it waits for somebody to remove its scheduling gates: {words}");
            news.push(Event::normal(now.wall, "SchedulingGated", message).from_source("default-scheduler"));
        }
        if let Some(deleting) = pod.deleting {
            self.deleting_at.get_or_insert(now.uptime);
            if deleting.is_released() {
                self.released_at.get_or_insert(now.uptime);
            } else {
                self.had_grace = true;
            }
        }
        if pod.phase == Phase::Failed {
            self.failed_at.get_or_insert(now.uptime);
        }
        match &pod.container {
            Container::Waiting { reason, message } => match &pod.init_waiting {
                Some(InitWaiting { init, reason, message }) => {
                    let trouble =
                        trouble_of(reason, message).map(|trouble| Trouble { init: Some(init.clone()), ..trouble });
                    self.note_trouble(reason, trouble, now);
                }
                None => self.note_trouble(reason, trouble_of(reason, message), now),
            },
            Container::Unknown => {}
            Container::Running { at } => {
                self.running_since = Some(*at);
                self.running_seen_at.get_or_insert(now.wall);
                self.last_seen_at = Some(now.wall);
                if pod.has_run_before() {
                    news.push(restarted(*at));
                }
            }
            Container::Terminated { .. } => {
                self.end_seen_at.get_or_insert(now.wall);
            }
        }
        self.has_vanished = false;
        self.pod = Some(pod);
    }

    fn note_trouble(&mut self, reason: &str, trouble: Option<Trouble>, now: Now) {
        let Some(trouble) = trouble else { return };
        // Each container has its own start of trouble.
        if self.trouble.as_ref().is_some_and(|known| known.init != trouble.init) {
            self.trouble = None;
            self.troubled_at = None;
        }
        self.troubled_at.get_or_insert(now.uptime);
        // The message of the following back-off says less.
        if reason != "ImagePullBackOff" || self.trouble.is_none() {
            self.trouble = Some(trouble);
        }
    }

    fn forget_pod(&mut self) {
        self.running_since = None;
        self.running_seen_at = None;
        self.last_seen_at = None;
        self.end_seen_at = None;
        self.trouble = None;
        self.troubled_at = None;
        self.deleting_at = None;
        self.released_at = None;
        self.failed_at = None;
        self.had_grace = false;
        self.evidence = Evidence::NotAsked;
        self.evidence_at = None;
        self.first_output = FirstOutput::NotAsked;
    }
}

fn second_pod(pod: &PodView, now: Now) -> Event {
    let message = format!(
        "its job made a further pod, {}, so its command may run a second time; this happens when a job is suspended and \
         resumed, or when its pod's finalizers are removed",
        pod.name
    );
    Event::warning(pod.created_at.unwrap_or(now.wall), "SecondPod", message).from_source("job-controller")
}

fn restarted(at: Timestamp) -> Event {
    let message = "its node lost the container, which had run, and started its command a second time";
    Event::warning(at, "StartedTwice", message.to_owned()).from_source("kubelet")
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn is_fresh(&self) -> bool {
        let state = self.state();
        state.are_pods_watched && state.are_jobs_watched
    }

    pub(super) fn set_pods_watched(&self, is_watched: bool) {
        self.state().are_pods_watched = is_watched;
    }

    pub(super) fn set_jobs_watched(&self, is_watched: bool) {
        self.state().are_jobs_watched = is_watched;
    }

    pub(super) fn get(&self, attempt_id: AttemptId) -> Option<Entry> {
        self.state().entries.get(&attempt_id).cloned()
    }

    /// Updates an attempt's entry, creating it if missing.
    pub(super) fn change(&self, attempt_id: AttemptId, change: impl FnOnce(&mut Entry)) {
        change(self.state().entries.entry(attempt_id).or_default());
        self.changed.notify_waiters();
    }

    /// Every attempt with an existing object.
    pub(super) fn attempts(&self) -> Vec<AttemptId> {
        let state = self.state();
        let there = state.entries.iter().filter(|(_, entry)| entry.is_there() && !entry.is_removed);
        there.map(|(attempt_id, _)| *attempt_id).collect()
    }

    /// The running pods, by uid.
    pub(super) fn running(&self) -> HashMap<String, (AttemptId, PodView)> {
        let state = self.state();
        let pods = state.entries.iter().filter_map(|(attempt_id, entry)| Some((*attempt_id, entry.pod.as_ref()?)));
        let running = pods.filter(|(_, pod)| matches!(pod.container, Container::Running { .. }));
        running.map(|(attempt_id, pod)| (pod.uid.clone(), (attempt_id, pod.clone()))).collect()
    }

    pub(super) fn add_sample(&self, attempt_id: AttemptId, sample: Sample, now: Timestamp) {
        if let Some(entry) = self.state().entries.get_mut(&attempt_id) {
            entry.sampling.add(sample);
            entry.last_seen_at = Some(now);
        }
    }

    pub(super) fn apply_job(&self, attempt_id: AttemptId, job: JobView) {
        self.change(attempt_id, |entry| entry.job = Some(job));
    }

    /// Records an observed pod. Returns the events to report.
    pub(super) fn apply_pod(&self, attempt_id: AttemptId, pod: PodView, now: Now) -> Vec<Event> {
        let mut news = Vec::new();
        self.change(attempt_id, |entry| entry.apply_pod(pod, now, &mut news));
        news
    }

    /// Records that admission refuses an attempt's pod.
    pub(super) fn refuse(&self, attempt_id: AttemptId, words: String, now: Now) {
        self.change_known(attempt_id, |entry| {
            let kind = of_pod(&words);
            let known = entry.refusal.as_ref().filter(|refusal| of_pod(&refusal.words) == kind);
            let at = known.map_or(now.uptime, |refusal| refusal.at);
            entry.refusal = Some(Refusal { words, at });
        });
    }

    pub(super) fn job_is_gone(&self, attempt_id: AttemptId) {
        self.change_known(attempt_id, |entry| entry.job = None);
    }

    pub(super) fn pod_is_gone(&self, attempt_id: AttemptId, uid: &str) {
        self.change_known(attempt_id, |entry| {
            if entry.pod.as_ref().is_some_and(|pod| pod.uid == uid) {
                entry.has_vanished = true;
            }
        });
    }

    /// Records whether the API, queried just now, has any object of a known attempt.
    pub(super) fn note_absence(&self, attempt_id: AttemptId, now: Now) {
        if let Some(entry) = self.state().entries.get_mut(&attempt_id) {
            entry.absent_at = (!entry.is_there()).then(|| entry.absent_at.unwrap_or(now.uptime));
        }
    }

    /// Records a full listing of jobs that began after `known` was taken: jobs in `known` that are not listed are
    /// gone.
    pub(super) fn only_these_jobs(&self, known: &HashSet<AttemptId>, listed: &HashSet<AttemptId>) {
        for attempt_id in known.difference(listed) {
            self.job_is_gone(*attempt_id);
        }
    }

    /// The same for pods.
    pub(super) fn only_these_pods(&self, known: &HashMap<AttemptId, String>, listed: &HashSet<AttemptId>) {
        for (attempt_id, uid) in known.iter().filter(|(attempt_id, _)| !listed.contains(attempt_id)) {
            self.pod_is_gone(*attempt_id, uid);
        }
    }

    pub(super) fn known_jobs(&self) -> HashSet<AttemptId> {
        let state = self.state();
        state.entries.iter().filter(|(_, entry)| entry.job.is_some()).map(|(attempt_id, _)| *attempt_id).collect()
    }

    pub(super) fn known_pods(&self) -> HashMap<AttemptId, String> {
        let state = self.state();
        let pods = state.entries.iter().filter(|(_, entry)| !entry.has_vanished);
        pods.filter_map(|(attempt_id, entry)| Some((*attempt_id, entry.pod.as_ref()?.uid.clone()))).collect()
    }

    fn change_known(&self, attempt_id: AttemptId, change: impl FnOnce(&mut Entry)) {
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(&attempt_id) {
            change(entry);
            let is_empty = entry.job.is_none() && entry.pod.is_none() && entry.launched_at.is_none();
            if is_empty || entry.is_removed && !entry.is_there() {
                state.entries.remove(&attempt_id);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether this event of an attempt of ours has not been reported yet and is within the limit.
    pub(super) fn is_news(&self, attempt_id: AttemptId, reason: &str, message: &str) -> bool {
        let mut state = self.state();
        let entry = state.entries.get_mut(&attempt_id).filter(|entry| !entry.is_removed);
        entry.is_some_and(|entry| {
            entry.told.len() < MOST_TOLD && entry.told.insert((reason.to_owned(), message.to_owned()))
        })
    }

    /// Forgets an attempt without objects, and marks one whose objects still exist.
    pub(super) fn remove(&self, attempt_id: AttemptId) {
        self.change_known(attempt_id, |entry| entry.is_removed = true);
    }

    /// Waits until a condition holds for an attempt, according to the watches.
    pub(super) async fn until(&self, attempt_id: AttemptId, is_so: impl Fn(Option<&Entry>) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(self.state().entries.get(&attempt_id)) {
                return;
            }
            changed.await;
        }
    }
}
