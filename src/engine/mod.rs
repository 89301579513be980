//! Engines: the kinds of place where runs are executed, behind one small trait.
//!
//! An engine never accesses the store. It receives a [`LaunchSpec`], creates an object named by run and attempt, and
//! reports what it observes of it. Every request is idempotent: a second launch finds the first object, a second stop
//! changes nothing, a second removal succeeds.

mod command;
pub mod container;
pub mod docker;
pub mod fake;
pub mod kind;
pub mod kubernetes;
pub mod local;
mod reports;
pub mod settings;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};

use crate::model::{
    AttemptId, DefinitionId, EngineIdentity, Execution, LogPosition, Observation, Resources, StartFault, TaskSpec,
};

pub use reports::Reports;

/// What an engine needs to know to execute one attempt.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    pub attempt_id: AttemptId,
    pub origin: Origin,
    pub task: TaskSpec,
    pub execution: Execution,
    /// Where the attempt's log belongs, for an engine that writes it itself.
    pub log_path: PathBuf,
    /// How many bytes of output are kept.
    pub log_cap_bytes: u64,
    /// How long a process may take to end after SIGTERM, where the engine itself ends it.
    pub grace: Duration,
    /// How long the attempt may take to start, if that is bounded; an engine's own deadline guard fires later than
    /// that.
    pub longest_start: Option<SignedDuration>,
}

/// What a run was launched from, for people who inspect the engine's objects directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub definition_id: DefinitionId,
    pub alias: Option<String>,
    pub group_name: String,
}

/// Whose objects are meant. Two servers may share an engine's machine, as may two clusters of one server: objects
/// without both values are never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Different for every database, and the same for all servers on one.
    pub installation_id: String,
    pub cluster: String,
}

/// Identifies one of the engine's objects. The text is the engine's own; it is stored, and passed back after a
/// restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    pub attempt_id: AttemptId,
    pub text: String,
}

/// Errors, classified by how the caller reacts.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can never work; the text is for the run's owner.
    #[error("{0}")]
    Rejected(String),
    /// The engine or its machine can't answer or do it now; it may have happened all the same. Nothing is concluded,
    /// and the request is repeated later.
    #[error("{0}")]
    Unavailable(String),
    /// It was certainly not started. The fault says whether another attempt may be made later.
    #[error("{reason}")]
    NotStarted { reason: String, fault: StartFault },
    /// The object is not there.
    #[error("{0}")]
    Gone(String),
}

/// How an attempt's output reaches its log.
pub enum Output {
    /// The engine writes [`LaunchSpec::log_path`] itself, even while the server is away.
    InPlace,
    /// The output from the requested position until it is complete. An error ends the stream; requesting it again
    /// from the last position continues without a gap or a repeat.
    Stream(BoxStream<'static, Result<Chunk, EngineError>>),
}

/// Some output, and how to continue after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: Bytes,
    /// The engine's own name for the position after these bytes, for [`LogPosition::marker`]; `None` where the byte
    /// count suffices.
    pub marker: Option<String>,
}

/// Whether an engine answers, according to its last call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    Reachable,
    Unreachable { reason: String, since: Timestamp },
}

impl EngineState {
    /// It does not answer, since `now` or since that was first noticed; the latest reason is kept.
    fn lose(&mut self, reason: String, now: Timestamp) {
        let since = match self {
            Self::Unreachable { since, .. } => *since,
            Self::Reachable => now,
        };
        *self = Self::Unreachable { reason, since };
    }
}

/// A kind of place where runs are executed.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The engine's name on the wire: `local`, `docker`, `kubernetes`.
    fn kind(&self) -> &'static str;

    /// Whether this could ever run here; [`EngineError::Rejected`] gives the reason, worded for the client.
    async fn check(&self, task: &TaskSpec) -> Result<(), EngineError>;

    /// Asks which engine answers. The identity stays the same for as long as the engine may have objects of ours:
    /// another engine in the same place has another identity, and what is missing there says nothing about earlier
    /// attempts.
    async fn identity(&self) -> Result<EngineIdentity, EngineError>;

    /// The last result of [`Engine::identity`], if the engine has been connected ever since. A call costs nothing.
    fn known_identity(&self) -> Option<EngineIdentity>;

    /// The total capacity for all runs, where the engine knows it. A call costs nothing.
    fn capacity(&self) -> Resources {
        Resources::default()
    }

    /// Whether its runs are tied to the machine of the server that started them and invisible to other servers.
    fn is_tied_to_server(&self) -> bool {
        false
    }

    /// Whether the engine answers. A call costs nothing.
    fn state(&self) -> EngineState {
        EngineState::Reachable
    }

    /// Starts the attempt, or finds it if it was started before. Returns as soon as the engine has it: slow steps,
    /// such as pulling an image, continue in the background, are reported by [`Reports::note`] and observed as
    /// [`Observation::Starting`].
    async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError>;

    /// The current observation of each, in the order given. An attempt whose handle was never stored is looked up by
    /// its id with an empty text: [`Observation::Gone`] then means that it was never launched. An error means that
    /// nothing could be observed, and concludes nothing.
    async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError>;

    /// Asks the attempt to end: SIGTERM, and SIGKILL after `grace`, to every process it started. Returns at once.
    /// [`EngineError::Gone`] where there is nothing to stop.
    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), EngineError>;

    /// The attempt's output from the position of an earlier [`Chunk`], or from the beginning.
    async fn output(&self, handle: &Handle, from: &LogPosition) -> Result<Output, EngineError>;

    /// Every object of ours that the engine still has, for any run.
    async fn list_ours(&self) -> Result<Vec<Handle>, EngineError>;

    /// Removes what is left of an attempt, and ends whatever of it still runs. Its log stays.
    async fn remove(&self, handle: &Handle) -> Result<(), EngineError>;

    /// Ends this object's background work, but no run. After it returns, no launch sends anything more, so that
    /// another object may take over the same place.
    async fn close(&self) {}
}
