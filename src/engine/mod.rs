//! Engines: the kinds of place where runs are executed, behind one small trait.
//!
//! An engine never sees the store. It is handed a [`LaunchSpec`], makes an object named by run and attempt, and tells
//! what it sees of it. Everything it is asked for can be asked again: a second launch finds the first object, a second
//! stop changes nothing, a second removal succeeds.

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
    /// How long a process may take to end after SIGTERM where the engine itself ends it.
    pub grace: Duration,
    /// How long the attempt may take to start, if that is bounded: an engine's own guard of the deadline comes later.
    pub longest_start: Option<SignedDuration>,
}

/// What a run was launched from: for those who look at the engine's objects without us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub definition_id: DefinitionId,
    pub alias: Option<String>,
    pub group_name: String,
}

/// Whose objects are meant. Two servers may share an engine's machine, and two clusters of one server as well: what does
/// not carry both words is never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Different for every database, and the same for all servers on one.
    pub installation_id: String,
    pub cluster: String,
}

/// Which object of the engine's is meant. The text is the engine's own; it is stored, and comes back after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    pub attempt_id: AttemptId,
    pub text: String,
}

/// What went wrong, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can never work; the text is for the run's owner.
    #[error("{0}")]
    Rejected(String),
    /// The engine or its machine can't say or do it now; it may have happened all the same. Nothing is concluded, and the
    /// same is asked again later.
    #[error("{0}")]
    Unavailable(String),
    /// It was certainly not started. Whose fault that is says whether another attempt may be made later.
    #[error("{reason}")]
    NotStarted { reason: String, fault: StartFault },
    /// The object is not there.
    #[error("{0}")]
    Gone(String),
}

/// How an attempt's output reaches its log.
pub enum Output {
    /// The engine writes [`LaunchSpec::log_path`] itself, also while the server is away.
    InPlace,
    /// The output from the asked place on, until it is complete. An error ends it; asking again from the last place
    /// goes on without a gap or a repeat.
    Stream(BoxStream<'static, Result<Chunk, EngineError>>),
}

/// Some output, and how to go on after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: Bytes,
    /// The engine's own word for the place behind these bytes, for [`LogPosition::marker`]; `None` where the number of
    /// bytes says it.
    pub marker: Option<String>,
}

/// Whether an engine answers, as far as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    Reachable,
    Unreachable { reason: String, since: Timestamp },
}

impl EngineState {
    /// It does not answer, since now or since it was first noticed; the newest reason counts.
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

    /// Whether this could ever run here; [`EngineError::Rejected`] says why not, in words for the client.
    async fn check(&self, task: &TaskSpec) -> Result<(), EngineError>;

    /// Which engine answers, asked now. It stays the same for as long as the engine may have objects of ours: another
    /// engine in the same place has another identity, and what it does not have says nothing about earlier attempts.
    async fn identity(&self) -> Result<EngineIdentity, EngineError>;

    /// The last answer to [`Engine::identity`], while the engine has been there ever since. A call costs nothing.
    fn known_identity(&self) -> Option<EngineIdentity>;

    /// What there is for all runs together, where the engine knows it. A call costs nothing.
    fn capacity(&self) -> Resources {
        Resources::default()
    }

    /// Whether its runs belong to the machine of the server that started them, and no other server can see them.
    fn is_tied_to_server(&self) -> bool {
        false
    }

    /// Whether the engine answers. A call costs nothing.
    fn state(&self) -> EngineState {
        EngineState::Reachable
    }

    /// Starts the attempt, or finds it where it was started before. Returns as soon as the engine has it: what takes
    /// long, such as pulling an image, goes on behind, is told by [`Reports::note`] and seen as [`Observation::Starting`].
    async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError>;

    /// What is to be seen of each, in the order asked. An attempt whose handle was never stored is asked for by its id
    /// with an empty text: [`Observation::Gone`] then means that it was never launched.
    /// An error says that nothing could be seen, and concludes nothing.
    async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError>;

    /// Asks the attempt to end: SIGTERM, and SIGKILL after `grace`, to every process it started. Returns at once.
    /// [`EngineError::Gone`] where there is nothing to stop.
    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), EngineError>;

    /// The attempt's output from a place on that an earlier [`Chunk`] told, or from the beginning.
    async fn output(&self, handle: &Handle, from: &LogPosition) -> Result<Output, EngineError>;

    /// Every object of ours that the engine still has, of whatever run.
    async fn list_ours(&self) -> Result<Vec<Handle>, EngineError>;

    /// Removes what is left of an attempt, and ends what of it still runs. Its log stays.
    async fn remove(&self, handle: &Handle) -> Result<(), EngineError>;

    /// Ends what this object does in the background, and no run. After it returns, nothing more is sent for any launch, so
    /// that another object may take care of the same place.
    async fn close(&self) {}
}
