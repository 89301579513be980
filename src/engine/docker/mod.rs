//! The Docker engine: a run is a container of a Docker daemon.
//!
//! The container carries everything that has to outlive the server: its name is the attempt's, its labels identify
//! its owner, and the daemon keeps its end and its output until they are stored. This process keeps only what would
//! be lost with it anyway (a pull under way) or can be queried again.
//!
//! | file | what it does |
//! | --- | --- |
//! | `settings` | the operator's settings |
//! | `link`, `capacity` | the connection, whether the daemon answers, the machine's resources |
//! | `container`, `launch`, `launches`, `refusal` | the create call, launching once, launches under way, refusals |
//! | `image`, `lookup`, `fetch`, `pull`, `credentials` | image names, checking that they exist, fetching them |
//! | `find`, `observe`, `read` | finding an attempt's container, one listing for many, reading a container |
//! | `cache`, `memory` | what need not be queried again, what the daemon remembers |
//! | `output`, `unpack`, `skips`, `ends` | the output, its messages, what may be missing, when it is complete |
//! | `stop`, `watch`, `usage` | stopping and removing, events and samples, resource usage |

mod cache;
mod capacity;
mod container;
mod credentials;
mod ends;
mod fetch;
mod find;
mod image;
mod inspect;
mod launch;
mod launches;
mod link;
mod lookup;
mod memory;
mod observe;
mod output;
mod pull;
mod read;
mod refusal;
mod settings;
mod skips;
mod stop;
mod unpack;
mod usage;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use super::Identity;
pub use settings::{DockerSettings, Mount};

use super::kind::{Kind, Made, Surroundings};
use super::{Engine, EngineError, EngineState, Handle, LaunchSpec, Output, Reports};
use crate::model::{EngineIdentity, LogPosition, Observation, Resources, TaskSpec};
use cache::Cache;
use ends::Ends;
use launch::{CREATED, PULLING};
use launches::Launches;
use link::Link;
use lookup::Lookups;
use pull::Pulls;
use read::{Stage, stage};
use stop::{Kept, Stops};

/// One Docker daemon as a cluster. Dropping it ends its background work, but no container.
pub struct DockerEngine {
    inner: Arc<Inner>,
    _closing: DropGuard,
}

struct Inner {
    config: Arc<DockerSettings>,
    identity: Identity,
    reports: Reports,
    link: Arc<Link>,
    lookups: Lookups,
    pulls: Arc<Pulls>,
    launches: Launches,
    seen: Cache,
    stops: Stops,
    kept: Kept,
    ends: Ends,
    closing: CancellationToken,
    /// Launches that continue in the background.
    background: TaskTracker,
}

/// The daemon that answers on a socket, for the log line that reports what the server found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub host: String,
    pub machine_name: String,
    pub version: String,
}

impl DockerEngine {
    /// Starts watching the daemon, whether or not it answers yet. Needs a tokio runtime.
    pub fn new(
        config: DockerSettings,
        identity: Identity,
        reports: Reports,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(config);
        let link = Arc::new(Link::new(&config, Box::new(now)));
        let closing = CancellationToken::new();
        let inner = Arc::new(Inner {
            lookups: Lookups::new(Arc::clone(&link), Arc::clone(&config)),
            pulls: Arc::new(Pulls::new(Arc::clone(&link), Arc::clone(&config))),
            launches: Launches::default(),
            seen: Cache::default(),
            stops: Stops::default(),
            kept: Kept::default(),
            ends: Ends::default(),
            closing: closing.clone(),
            background: TaskTracker::new(),
            config,
            identity,
            reports,
            link,
        });
        tokio::spawn(closing.clone().run_until_cancelled_owned(Arc::clone(&inner).watch_events()));
        tokio::spawn(closing.clone().run_until_cancelled_owned(Arc::clone(&inner).watch_usage()));
        Self { inner, _closing: closing.drop_guard() }
    }

    /// Whether a daemon answers at the address in `config`, and which one.
    pub async fn probe(config: &DockerSettings) -> Result<About, EngineError> {
        let link = Link::new(config, Box::new(|| Timestamp::UNIX_EPOCH));
        let machine = link.refresh_machine().await?;
        Ok(About { host: config.host_or_usual(), machine_name: machine.name, version: machine.version })
    }
}

impl Kind for DockerSettings {
    fn endpoint(&self) -> String {
        format!("docker at {}", self.host.as_deref().unwrap_or("the usual place"))
    }

    fn make(&self, surroundings: &Surroundings<'_>, reports: Reports) -> Made {
        let clock = surroundings.clock.clone();
        Ok(Arc::new(DockerEngine::new(self.clone(), surroundings.identity(), reports, move || clock.now())))
    }
}

#[async_trait]
impl Engine for DockerEngine {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn check(&self, task: &TaskSpec) -> Result<(), EngineError> {
        let inner = &self.inner;
        container::check_privileged(task.privileged, &inner.config)?;
        let machine = match inner.link.machine() {
            Some(machine) => machine,
            None => inner.link.refresh_machine().await?,
        };
        capacity::check_resources(task, machine.capacity(inner.config.gpus))?;
        if inner.config.image_check {
            inner.lookups.check(&task.image).await?;
        }
        Ok(())
    }

    async fn identity(&self) -> Result<EngineIdentity, EngineError> {
        Ok(self.inner.link.identity().await?)
    }

    fn known_identity(&self) -> Option<EngineIdentity> {
        self.inner.link.known_identity()
    }

    fn capacity(&self) -> Resources {
        self.inner.link.machine().map(|machine| machine.capacity(self.inner.config.gpus)).unwrap_or_default()
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
        let (inner, attempt_id) = (&self.inner, handle.attempt_id);
        // Taken before looking up the container, so that no end is missed in between.
        let ended = inner.ends.signal(attempt_id);
        let is_launching = inner.launches.get(attempt_id).is_some_and(|launching| launching.is_under_way());
        match inner.find(attempt_id).await? {
            // Lost: it shows as never started but may have run, so there is no more output to wait for.
            Some(container) if stage(&container) == Stage::Created && inner.seen.has_ended(attempt_id) => {
                Ok(Output::Stream(futures_util::stream::empty().boxed()))
            }
            Some(container) => {
                let id = inspect::id_of(&container).to_owned();
                output::read(Arc::clone(&inner.link), id, ended, from).await.map(Output::Stream)
            }
            None if is_launching => Err(EngineError::Unavailable("the container has not started yet".to_owned())),
            None => Err(EngineError::Gone(format!("attempt {attempt_id} has no container"))),
        }
    }

    async fn list_ours(&self) -> Result<Vec<Handle>, EngineError> {
        let launching = self.inner.launches.without_container();
        let listed = self.inner.list().await?;
        let launching = launching.into_iter().filter(|attempt_id| !listed.contains_key(attempt_id));
        let launching = launching.map(|attempt_id| Handle { attempt_id, text: PULLING.to_owned() });
        let made = listed.keys().filter(|attempt_id| !self.inner.kept.is_kept(**attempt_id));
        let made = made.map(|&attempt_id| Handle { attempt_id, text: CREATED.to_owned() });
        Ok(made.chain(launching).collect())
    }

    async fn remove(&self, handle: &Handle) -> Result<(), EngineError> {
        self.inner.remove(handle.attempt_id).await
    }

    async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.background.close();
        self.inner.background.wait().await;
    }
}
