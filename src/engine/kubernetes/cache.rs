//! What the watches have told so far, in small extracts, and what this process itself knows of each attempt.
//!
//! The cache says what is; it never says that something is not: an attempt that it does not have is asked for.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::read::{Verdict, is_trouble};
use super::usage::{Sample, Sampling};
use super::view::{Container, JobView, PodView};
use crate::model::AttemptId;

#[derive(Default)]
pub(super) struct Cache {
    state: Mutex<State>,
    /// An entry has changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<AttemptId, Entry>,
    /// Whether the watches of pods and of jobs tell everything that happens.
    are_pods_watched: bool,
    are_jobs_watched: bool,
}

#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they come in any combination")]
pub(super) struct Entry {
    pub job: Option<JobView>,
    /// The attempt's pod: the oldest, should there ever be several.
    pub pod: Option<PodView>,
    /// The pod is not there any more; what is told of it is the last that was seen.
    pub has_vanished: bool,
    pub was_seen_running: bool,
    pub launched_at: Option<Timestamp>,
    pub end_seen_at: Option<Timestamp>,
    pub waiting_since: Option<Timestamp>,
    pub pull_error: Option<String>,
    pub was_asked_to_stop: bool,
    pub verdict: Option<Verdict>,
    pub sampling: Sampling,
    /// It was removed by us; what is still to be seen of it is on its way out.
    pub is_removed: bool,
    /// The events that were told already.
    told: HashSet<(String, String)>,
}

impl Entry {
    const fn is_there(&self) -> bool {
        self.job.is_some() || (self.pod.is_some() && !self.has_vanished)
    }
}

/// What of a pod's news is worth telling.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The scheduler's words, when they are new.
    pub unschedulable: Option<String>,
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Changes what is known of an attempt, of which nothing may be known yet.
    pub(super) fn change(&self, attempt_id: AttemptId, change: impl FnOnce(&mut Entry)) {
        change(self.state().entries.entry(attempt_id).or_default());
        self.changed.notify_waiters();
    }

    /// Every attempt of which an object is there.
    pub(super) fn attempts(&self) -> Vec<AttemptId> {
        let state = self.state();
        let there = state.entries.iter().filter(|(_, entry)| entry.is_there() && !entry.is_removed);
        there.map(|(attempt_id, _)| *attempt_id).collect()
    }

    /// The pods that run, by their uid.
    pub(super) fn running(&self) -> HashMap<String, (AttemptId, PodView)> {
        let state = self.state();
        let pods = state.entries.iter().filter_map(|(attempt_id, entry)| Some((*attempt_id, entry.pod.as_ref()?)));
        let running = pods.filter(|(_, pod)| matches!(pod.container, Container::Running { .. }));
        running.map(|(attempt_id, pod)| (pod.uid.clone(), (attempt_id, pod.clone()))).collect()
    }

    pub(super) fn add_sample(&self, attempt_id: AttemptId, sample: Sample) {
        if let Some(entry) = self.state().entries.get_mut(&attempt_id) {
            entry.sampling.add(sample);
        }
    }

    pub(super) fn apply_job(&self, attempt_id: AttemptId, job: JobView) {
        self.change(attempt_id, |entry| entry.job = Some(job));
    }

    pub(super) fn apply_pod(&self, attempt_id: AttemptId, pod: PodView, now: Timestamp) -> News {
        let mut news = News::default();
        self.change(attempt_id, |entry| {
            if entry.pod.as_ref().is_some_and(|known| known.uid != pod.uid && known.created_at <= pod.created_at) {
                return;
            }
            let old = entry.pod.as_ref();
            if pod.unschedulable.is_some()
                && old.and_then(|old| old.unschedulable.as_ref()) != pod.unschedulable.as_ref()
            {
                news.unschedulable.clone_from(&pod.unschedulable);
            }
            match &pod.container {
                Container::Waiting { reason, message } if is_trouble(reason) => {
                    entry.waiting_since.get_or_insert(now);
                    // The words of the back-off that follows say less.
                    if reason != "ImagePullBackOff" && !message.is_empty() {
                        entry.pull_error = Some(message.clone());
                    }
                }
                Container::Waiting { .. } | Container::Unknown => {}
                Container::Running { .. } => entry.was_seen_running = true,
                Container::Terminated { .. } => {
                    entry.end_seen_at.get_or_insert(now);
                }
            }
            entry.has_vanished = false;
            entry.pod = Some(pod);
        });
        news
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

    /// All jobs that there were at some time after `known` were told of: what was known then and is not among them is gone.
    pub(super) fn only_these_jobs(&self, known: &HashSet<AttemptId>, listed: &HashSet<AttemptId>) {
        for attempt_id in known.difference(listed) {
            self.job_is_gone(*attempt_id);
        }
    }

    /// The same of pods.
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

    /// Whether this event of an attempt that we have was not told yet.
    pub(super) fn is_news(&self, attempt_id: AttemptId, reason: &str, message: &str) -> bool {
        let mut state = self.state();
        let entry = state.entries.get_mut(&attempt_id).filter(|entry| !entry.is_removed);
        entry.is_some_and(|entry| entry.told.insert((reason.to_owned(), message.to_owned())))
    }

    /// Forgets what is not there any more, and marks what still is.
    pub(super) fn remove(&self, attempt_id: AttemptId) {
        self.change_known(attempt_id, |entry| entry.is_removed = true);
    }

    /// Waits until something is so of an attempt, as far as the watches tell.
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
