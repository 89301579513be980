//! Watching: three streams per cluster (pods, jobs, events), regardless of the number of runs. Their news goes into
//! the cache and becomes pokes; their silence becomes the cluster's state.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as KubernetesEvent, Pod};
use kube::runtime::watcher::{self, InitialListStrategy, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::Inner;
use super::link::{ApiError, with_causes};
use super::names::{attempt_of_labels, attempt_of_name, selector};
use super::view::{JobView, PodView, read_event, refusal_in};
use crate::model::{AttemptId, Event};

/// How long after a failure the API is retried; the pause doubles from the first value up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A dead connection is noticed after this time at the latest; data on nodes and quotas is at most this old.
const PING_PERIOD: Duration = Duration::from_secs(15);
/// How many objects a page of a first listing holds.
const PAGE_SIZE: u32 = 500;

/// A watched kind of object, and how its news is handled.
pub(super) trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
    const WHAT: &'static str;
    /// Whether nothing can be said of runs without the right to watch it.
    const IS_NEEDED: bool = true;
    /// What is known when a listing begins, to determine what is missing from it.
    type Known: Send;

    fn known(inner: &Inner) -> Self::Known;
    fn apply(self, inner: &Inner) -> Option<AttemptId>;
    fn delete(self, inner: &Inner);
    fn listed(inner: &Inner, known: &Self::Known, listed: &HashSet<AttemptId>);
    fn set_watched(inner: &Inner, is_watched: bool);
    fn is_labelled() -> bool {
        true
    }
}

impl Inner {
    /// Runs all watches, without end.
    pub(super) async fn watch(self: Arc<Self>) {
        tokio::join!(
            self.watch_one::<Pod>(),
            self.watch_one::<Job>(),
            self.watch_one::<KubernetesEvent>(),
            self.ping()
        );
    }

    async fn watch_one<K: Watched>(&self) {
        let mut pause = PAUSES.0;
        loop {
            let error = self.follow::<K>(&mut pause).await;
            K::set_watched(self, false);
            if let (true, ApiError::Refused { message, .. }) = (K::IS_NEEDED, &error) {
                self.link.set_right(K::WHAT, Some(message.clone()));
            }
            let error = self.link.missed(error);
            tracing::warn!(cluster = self.identity.cluster, what = K::WHAT, %error, "the Kubernetes API is not watched for a moment");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Follows one kind of object until that fails. Anything missed in between is found by a new full listing.
    async fn follow<K: Watched>(&self, pause: &mut Duration) -> ApiError {
        let client = match self.link.connected().await {
            Ok(connected) => connected.client,
            Err(error) => return error,
        };
        let mut config = watcher::Config {
            initial_list_strategy: InitialListStrategy::ListWatch,
            page_size: Some(PAGE_SIZE),
            ..watcher::Config::default()
        };
        if K::is_labelled() {
            config = config.labels(&selector(&self.identity));
        }
        let mut news = watcher(Api::<K>::namespaced(client, &self.config.namespace), config).boxed();
        let mut known = K::known(self);
        let mut listed = HashSet::new();
        loop {
            let next = tokio::select! {
                next = news.next() => next,
                () = self.outage.notified() => return ApiError::Away("it stopped answering".to_owned()),
            };
            match next {
                Some(Ok(watcher::Event::Init)) => {
                    known = K::known(self);
                    listed.clear();
                }
                Some(Ok(watcher::Event::InitApply(object))) => listed.extend(object.apply(self)),
                Some(Ok(watcher::Event::InitDone)) => {
                    K::listed(self, &known, &listed);
                    K::set_watched(self, true);
                    self.link.set_right(K::WHAT, None);
                    self.link.found();
                    *pause = PAUSES.0;
                    tracing::debug!(cluster = self.identity.cluster, what = K::WHAT, "the Kubernetes API is watched");
                }
                Some(Ok(watcher::Event::Apply(object))) => {
                    object.apply(self);
                }
                Some(Ok(watcher::Event::Delete(object))) => object.delete(self),
                Some(Err(error)) => return error_of(error),
                None => return ApiError::Away("it closed the watch".to_owned()),
            }
        }
    }

    /// Refreshes slowly changing data, and checks that the API answers, without end.
    async fn ping(&self) {
        loop {
            if let Err(ApiError::Away(_)) = self.refresh_room().await {
                self.outage.notify_waiters();
            }
            tokio::time::sleep(PING_PERIOD).await;
        }
    }

    /// Updates the cache without a watch.
    pub(super) async fn list_all(&self) -> Result<(), ApiError> {
        let labels = selector(&self.identity);
        let (known_jobs, known_pods) = (self.cache.known_jobs(), self.cache.known_pods());
        let jobs = self.list::<Job>(&labels).await?;
        let pods = self.list::<Pod>(&labels).await?;
        let jobs: HashSet<_> = jobs.into_iter().filter_map(|job| job.apply(self)).collect();
        let pods: HashSet<_> = pods.into_iter().filter_map(|pod| pod.apply(self)).collect();
        self.cache.only_these_jobs(&known_jobs, &jobs);
        self.cache.only_these_pods(&known_pods, &pods);
        Ok(())
    }

    /// All objects of a kind with these labels.
    pub(super) async fn list<K: Watched>(&self, labels: &str) -> Result<Vec<K>, ApiError> {
        let mut params = kube::api::ListParams::default().labels(labels).limit(PAGE_SIZE);
        let mut objects = Vec::new();
        loop {
            let page = self.link.call(async |client| self.api::<K>(client).list(&params).await).await?;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    /// Queries the objects of one attempt, and stores them in the cache.
    pub(super) async fn ask_for(&self, attempt_id: AttemptId) -> Result<(), ApiError> {
        // News that arrived during the query is newer than its answer.
        let before = self.cache.get(attempt_id).unwrap_or_default();
        let labels = super::names::selector_of(&self.identity, attempt_id);
        let jobs = self.list::<Job>(&labels).await?;
        let pods = self.list::<Pod>(&labels).await?;
        if jobs.is_empty() && before.job.is_some() {
            self.cache.job_is_gone(attempt_id);
        }
        if pods.is_empty()
            && let Some(pod) = before.pod
        {
            self.cache.pod_is_gone(attempt_id, &pod.uid);
        }
        let (has_no_job, has_no_pod) = (jobs.is_empty(), pods.is_empty());
        for job in jobs {
            job.apply(self);
        }
        for pod in pods {
            pod.apply(self);
        }
        // Its labels may have been changed.
        if has_no_job {
            self.find_job(attempt_id).await?;
        }
        if has_no_pod {
            self.find_pod(attempt_id).await?;
        }
        self.cache.note_absence(attempt_id, self.link.now());
        Ok(())
    }

    pub(super) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, client: Client) -> Api<K> {
        Api::namespaced(client, &self.config.namespace)
    }

    /// Records an observed pod, and reports the resulting events.
    pub(super) fn take_pod(&self, attempt_id: AttemptId, pod: PodView) {
        for event in self.cache.apply_pod(attempt_id, pod, self.link.now()) {
            self.note(attempt_id, event);
        }
    }

    /// Reports an event of an attempt that may have no entry yet.
    pub(super) fn note_unseen(&self, attempt_id: AttemptId, event: Event) {
        self.cache.change(attempt_id, |_| {});
        self.note(attempt_id, event);
    }

    pub(super) fn note(&self, attempt_id: AttemptId, event: Event) {
        if self.cache.is_news(attempt_id, &event.reason, &event.message) {
            self.reports.note(attempt_id, event);
        }
    }
}

fn error_of(error: watcher::Error) -> ApiError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ApiError::from(error),
        other => ApiError::Away(with_causes(&other)),
    }
}

impl Watched for Pod {
    const WHAT: &'static str = "pods";
    type Known = HashMap<AttemptId, String>;

    fn known(inner: &Inner) -> Self::Known {
        inner.cache.known_pods()
    }

    fn apply(self, inner: &Inner) -> Option<AttemptId> {
        let attempt_id = attempt_of_labels(self.metadata.labels.as_ref()?)?;
        inner.take_pod(attempt_id, PodView::read(&self));
        inner.reports.changed(attempt_id);
        Some(attempt_id)
    }

    fn delete(self, inner: &Inner) {
        let attempt_id = self.metadata.labels.as_ref().and_then(attempt_of_labels);
        if let Some(attempt_id) = attempt_id.filter(|attempt_id| inner.cache.get(*attempt_id).is_some()) {
            // Its last news may arrive only now.
            let uid = self.metadata.uid.clone().unwrap_or_default();
            self.apply(inner);
            inner.cache.pod_is_gone(attempt_id, &uid);
        }
    }

    fn listed(inner: &Inner, known: &Self::Known, listed: &HashSet<AttemptId>) {
        inner.cache.only_these_pods(known, listed);
        for attempt_id in known.keys() {
            inner.reports.changed(*attempt_id);
        }
    }

    fn set_watched(inner: &Inner, is_watched: bool) {
        inner.cache.set_pods_watched(is_watched);
    }
}

impl Watched for Job {
    const WHAT: &'static str = "jobs";
    type Known = HashSet<AttemptId>;

    fn known(inner: &Inner) -> Self::Known {
        inner.cache.known_jobs()
    }

    fn apply(self, inner: &Inner) -> Option<AttemptId> {
        let attempt_id = attempt_of_labels(self.metadata.labels.as_ref()?)?;
        inner.cache.apply_job(attempt_id, JobView::read(&self));
        inner.reports.changed(attempt_id);
        Some(attempt_id)
    }

    fn delete(self, inner: &Inner) {
        if let Some(attempt_id) = self.metadata.labels.as_ref().and_then(attempt_of_labels) {
            inner.cache.job_is_gone(attempt_id);
            inner.reports.changed(attempt_id);
        }
    }

    fn listed(inner: &Inner, known: &Self::Known, listed: &HashSet<AttemptId>) {
        inner.cache.only_these_jobs(known, listed);
    }

    fn set_watched(inner: &Inner, is_watched: bool) {
        inner.cache.set_jobs_watched(is_watched);
    }
}

/// Events have no labels: those about our objects are recognized by the objects' names.
impl Watched for KubernetesEvent {
    const WHAT: &'static str = "events";
    const IS_NEEDED: bool = false;
    type Known = ();

    fn known(_inner: &Inner) {}

    fn apply(self, inner: &Inner) -> Option<AttemptId> {
        let attempt_id = attempt_of_name(self.involved_object.name.as_deref()?)?;
        if let Some(words) = refusal_in(&self, attempt_id) {
            inner.cache.refuse(attempt_id, words, inner.link.now());
            inner.reports.changed(attempt_id);
        }
        let event = read_event(&self)?;
        inner.note(attempt_id, event);
        Some(attempt_id)
    }

    fn delete(self, _inner: &Inner) {}

    fn listed(_inner: &Inner, _known: &(), _listed: &HashSet<AttemptId>) {}

    fn set_watched(_inner: &Inner, _is_watched: bool) {}

    fn is_labelled() -> bool {
        false
    }
}
