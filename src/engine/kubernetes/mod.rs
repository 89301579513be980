//! The Kubernetes engine: a run is a Job in a cluster, with its one pod.
//!
//! The cluster stores everything that must outlive the server: the job's name is the attempt's, labels identify its
//! owner, and a finalizer of ours on the pod preserves how it ended until we have read it, whoever deletes the pod
//! meanwhile. This process stores only what the watches will report again.
//!
//! **A run runs once.** There is never more than one pod for an attempt: from 1.26 on the job's own controller
//! ensures that; before that this engine creates the pod itself, under the attempt's name (see `job`). And because of
//! the finalizer, a missing pod was never created.
//!
//! **A stop deletes the pod**, with its grace; the finalizer preserves the exit code. (Setting a deadline on the pod
//! would preserve the output too, but nodes before 1.22 then never report how it ended.) An attempt that can't start
//! is deleted the same way, and reported as such only once its node has released it.
//!
//! | file | what it does |
//! | --- | --- |
//! | `settings` | the operator's settings |
//! | `link`, `identity`, `refusal` | the connection, which cluster answers, what its refusals mean |
//! | `names`, `job`, `template`, `launch` | names and labels, the objects sent to Kubernetes, creating them once |
//! | `view`, `words`, `cache`, `watch` | extracts of objects, their cache, the three watches that fill it |
//! | `facts`, `reading`, `read`, `unstarted`, `shell` | what a pod says about its attempt |
//! | `evidence` | what a pod's events prove |
//! | `judge`, `observe` | what to conclude about an attempt, and what to query or do first; for many attempts |
//! | `lines`, `place`, `logs` | the output |
//! | `keep`, `stop` | recovering changed objects; stopping and removing |
//! | `capacity`, `quantity`, `usage` | the cluster's capacity, quantities, resource usage |

mod cache;
mod capacity;
mod evidence;
mod facts;
mod identity;
mod job;
mod judge;
mod keep;
mod launch;
mod lines;
mod link;
mod names;
mod observe;
mod output;
mod place;
mod quantity;
mod read;
mod reading;
#[cfg(test)]
mod recorded;
mod refusal;
mod settings;
mod shell;
mod stop;
mod template;
mod unstarted;
mod usage;
mod view;
mod watch;
mod words;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use job::PodMaker;
pub use settings::{KubernetesSettings, Toleration, Volume, VolumeSource};
pub use template::{TemplateError, read_template};

use super::kind::{Kind, Made, Surroundings};
use super::{Engine, EngineError, EngineState, Handle, Identity, LaunchSpec, Output, Reports};
use crate::model::{EngineIdentity, LogPosition, Observation, Resources, TaskSpec};
use cache::Cache;
use capacity::Rooms;
use launch::MADE;
use link::Link;
use output::Outputs;

/// One Kubernetes cluster. Dropping it ends its background work, and no run.
pub struct KubernetesEngine {
    inner: Arc<Inner>,
    _closing: DropGuard,
}

struct Inner {
    config: KubernetesSettings,
    /// The operator's own pod template, over which ours is merged.
    pod_template: Option<Value>,
    identity: Identity,
    reports: Reports,
    link: Link,
    cache: Cache,
    rooms: Rooms,
    outputs: Outputs,
    /// Signals that the API does not answer, so that waits on a connection end.
    outage: Notify,
    /// The fields of the pod template that the cluster drops, as reported by a release.
    left_out: Mutex<Option<(String, Vec<String>)>>,
    /// Set if it should not follow from the cluster's release.
    pod_maker: Option<PodMaker>,
    closing: CancellationToken,
}

impl KubernetesEngine {
    /// Watches the cluster from now on, whether or not it answers yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// The pod template of the settings can't be read.
    pub fn new(
        config: KubernetesSettings,
        identity: Identity,
        reports: Reports,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, TemplateError> {
        Self::with_pod_maker(config, identity, reports, now, None)
    }

    /// The same, with the pod maker given instead of derived from the cluster's release.
    pub fn with_pod_maker(
        config: KubernetesSettings,
        identity: Identity,
        reports: Reports,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        pod_maker: Option<PodMaker>,
    ) -> Result<Self, TemplateError> {
        let pod_template = config.pod_template.as_deref().map(read_template).transpose()?;
        let closing = CancellationToken::new();
        let inner = Arc::new(Inner {
            link: Link::new(config.clone(), Box::new(now)),
            cache: Cache::default(),
            rooms: Rooms::default(),
            outputs: Outputs::default(),
            outage: Notify::new(),
            left_out: Mutex::default(),
            pod_maker,
            closing: closing.clone(),
            config,
            pod_template,
            identity,
            reports,
        });
        tokio::spawn(closing.clone().run_until_cancelled_owned(Arc::clone(&inner).watch()));
        tokio::spawn(closing.clone().run_until_cancelled_owned(Arc::clone(&inner).watch_usage()));
        Ok(Self { inner, _closing: closing.drop_guard() })
    }
}

impl Kind for KubernetesSettings {
    fn endpoint(&self) -> String {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        format!(
            "kubernetes by {}, context {}, namespace {}",
            kubeconfig.as_deref().unwrap_or("the usual place"),
            self.context.as_deref().unwrap_or("as it says"),
            self.namespace
        )
    }

    fn make(&self, surroundings: &Surroundings<'_>, reports: Reports) -> Made {
        let clock = surroundings.clock.clone();
        Ok(Arc::new(KubernetesEngine::new(self.clone(), surroundings.identity(), reports, move || clock.now())?))
    }
}

#[async_trait]
impl Engine for KubernetesEngine {
    fn kind(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self, task: &TaskSpec) -> Result<(), EngineError> {
        let inner = &self.inner;
        job::check(task, &inner.config)?;
        inner.check_template().await?;
        let room = match inner.rooms.get() {
            Some(room) => room,
            None => inner.refresh_room().await?,
        };
        room.check(task, &inner.config.namespace)
    }

    async fn identity(&self) -> Result<EngineIdentity, EngineError> {
        self.inner.identity().await
    }

    fn known_identity(&self) -> Option<EngineIdentity> {
        self.inner.link.known_identity()
    }

    fn capacity(&self) -> Resources {
        self.inner.rooms.get().map(|room| room.capacity()).unwrap_or_default()
    }

    fn state(&self) -> EngineState {
        self.inner.link.state()
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        self.inner.launch(spec).await
    }

    async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        self.inner.observe(handles).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), EngineError> {
        self.inner.stop(handle.attempt_id, grace).await
    }

    async fn output(&self, handle: &Handle, from: &LogPosition) -> Result<Output, EngineError> {
        self.inner.output(handle.attempt_id, from).await.map(Output::Stream)
    }

    async fn list_ours(&self) -> Result<Vec<Handle>, EngineError> {
        if !self.inner.cache.is_fresh() {
            self.inner.list_all().await?;
        }
        let attempts = self.inner.cache.attempts().into_iter();
        Ok(attempts.map(|attempt_id| Handle { attempt_id, text: MADE.to_owned() }).collect())
    }

    async fn remove(&self, handle: &Handle) -> Result<(), EngineError> {
        self.inner.remove(handle.attempt_id).await
    }

    async fn close(&self) {
        self.inner.closing.cancel();
    }
}
