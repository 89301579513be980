//! The local engine: a run is a process on the server's machine.
//!
//! ```text
//!  server                          supervisor (one for each attempt)        task
//!    │ makes the folder, starts ──────→ │                                     │
//!    │                                  │ starts, limits, reads output ─────→ │
//!    │ ←──────────── a byte: it runs ── │                                     │
//!    │ a line: stop ──────────────────→ │ SIGTERM, SIGKILL ─────────────────→ │
//!    │ ←──────────────── end of FIFO ── │ writes how it ended
//! ```
//!
//! The folder (see `folder.rs`) is all that they share, so the server may go away at any moment and come back, as the
//! same or as another process: nothing is lost, and nothing runs twice, for the spec can be taken only once.

mod cgroup;
mod check;
mod folder;
mod lock;
mod node;
mod notes;
mod observe;
mod processes;
mod record;
mod remove;
mod supervise;
mod supervisor;
mod task;
mod usage;
mod user;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

use self::cgroup::Places;
use self::check::Machine;
use self::folder::{Channels, Folder};
use self::record::Spec;
use self::user::Choice;
use self::watch::Watches;
use super::{Engine, EngineError, Handle, LaunchSpec, Output, Pokes};
use crate::model::{AttemptId, LogPosition, Observation, TaskSpec};

pub use supervise::supervise;

/// How long a removal waits for a task that is being killed.
const LONGEST_REMOVAL: Duration = Duration::from_secs(10);

/// What an operator decides about local runs.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Where each attempt has its folder.
    pub runs_dir: PathBuf,
    /// The program that runs a command, and its arguments before the command.
    pub shell: Vec<String>,
    /// The program that is started as `PROGRAM supervise FOLDER` and calls [`supervise()`].
    pub supervisor: PathBuf,
}

impl LocalConfig {
    /// `sh -ec COMMAND`, supervised by the program that runs now, also after it was replaced on the disk.
    #[must_use]
    pub fn new(runs_dir: impl Into<PathBuf>) -> Self {
        let shell = vec!["sh".to_owned(), "-ec".to_owned()];
        Self { runs_dir: runs_dir.into(), shell, supervisor: "/proc/self/exe".into() }
    }
}

/// Runs tasks as processes of the server's machine.
#[derive(Clone)]
pub struct LocalEngine {
    inner: Arc<Inner>,
}

struct Inner {
    config: LocalConfig,
    /// What tells this folder of runs from another server's.
    node: String,
    boot_id: String,
    machine: Machine,
    places: Places,
    watches: Watches,
}

impl LocalEngine {
    /// Prepares the folder of runs and looks what the machine offers. `pokes` hears of every start and end.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub fn new(config: LocalConfig, pokes: Pokes) -> io::Result<Self> {
        // A supervisor has another working directory.
        let runs_dir = std::path::absolute(&config.runs_dir)?;
        let node = node::prepare(&runs_dir)?;
        folder::sweep(&runs_dir)?;
        Ok(Self {
            inner: Arc::new(Inner {
                config: LocalConfig { runs_dir, ..config },
                node,
                boot_id: processes::boot_id(),
                machine: Machine::of_this_server(),
                places: Places::find(),
                watches: Watches::new(pokes),
            }),
        })
    }

    /// Does what reads and writes files where it does not hold up others.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|error| EngineError::Unavailable(format!("the local engine failed: {error}")))?
    }
}

impl Inner {
    fn folder(&self, attempt_id: AttemptId) -> Folder {
        Folder::of(&self.config.runs_dir, attempt_id)
    }

    fn handle(&self, attempt_id: AttemptId) -> Handle {
        Handle { attempt_id, text: format!("{}/{attempt_id}", self.node) }
    }

    /// The folder that a handle means. One without a text was never stored, and can only be ours.
    fn folder_of(&self, handle: &Handle) -> Result<Folder, EngineError> {
        match handle.text.split_once('/') {
            Some((node, _)) if node != self.node => Err(EngineError::Unavailable(format!(
                "attempt {} belongs to another server: it was started from the data directory {node}, this is {}",
                handle.attempt_id, self.node
            ))),
            _ => Ok(self.folder(handle.attempt_id)),
        }
    }

    fn check(&self, task: &TaskSpec) -> Result<(), EngineError> {
        self.machine.check(task).map_err(EngineError::Rejected)?;
        match user::choose(task.user.as_deref()) {
            Err(reason) => Err(EngineError::Rejected(format!("the cluster cannot support running the job: {reason}"))),
            Ok(Choice::Own | Choice::Other(_) | Choice::Ignored(_)) => Ok(()),
        }
    }

    fn launch(&self, launch: &LaunchSpec) -> Result<Handle, EngineError> {
        let attempt_id = launch.attempt_id;
        let folder = self.folder(attempt_id);
        let failed = |error: io::Error| unavailable("launch", &error);
        let spec = self.spec(launch).map_err(failed)?;
        let mut channels = folder.create(&spec).map_err(failed)?;
        if channels.is_none() {
            // A server was killed before it started the supervisor; or there is nothing to do, or somebody does it.
            channels = folder.open().map_err(failed)?.filter(|_| folder.has_spec().unwrap_or(false));
        }
        if let Some(channels) = channels {
            self.start_supervisor(attempt_id, &folder, channels)?;
        }
        Ok(self.handle(attempt_id))
    }

    fn spec(&self, launch: &LaunchSpec) -> io::Result<Spec> {
        Ok(Spec {
            attempt_id: launch.attempt_id,
            task: launch.task.clone(),
            deadline_secs: launch.execution.active_deadline_secs,
            log_path: std::path::absolute(&launch.log_path)?,
            log_cap_bytes: launch.log_cap_bytes,
            grace_ms: u64::try_from(launch.grace.as_millis()).unwrap_or(u64::MAX),
            shell: self.config.shell.clone(),
            places: self.places.clone(),
            boot_id: self.boot_id.clone(),
        })
    }

    fn start_supervisor(&self, attempt_id: AttemptId, folder: &Folder, channels: Channels) -> Result<(), EngineError> {
        let Channels { control, status, log, pokes } = channels;
        let mut command = Command::new(&self.config.supervisor);
        command.arg0("flotilla").arg("supervise").arg(folder.path());
        // Nothing of the server's own environment is a task's business. A group of its own keeps a Ctrl-C away that is
        // meant for the server.
        command.env_clear().process_group(0).stdin(control).stdout(status).stderr(log);
        let started = Receiver::from_file(pokes).and_then(|status| Ok((status, command.spawn()?)));
        // It holds the ends as long as it lives, and so the lock.
        drop(command);
        match started {
            Ok((status, supervisor)) => {
                self.watches.watch_own(attempt_id, folder, status, supervisor);
                Ok(())
            }
            Err(error) => {
                let program = self.config.supervisor.display();
                let removed = folder.remove().err().map(|error| format!("; can't remove its folder: {error}"));
                let reason = format!("can't start the supervisor {program}: {error}{}", removed.unwrap_or_default());
                Err(EngineError::Unavailable(reason))
            }
        }
    }

    fn observe(&self, handle: &Handle) -> Result<Observation, EngineError> {
        let attempt_id = handle.attempt_id;
        let folder = self.folder_of(handle)?;
        let failed = |error: io::Error| unavailable("observe", &error);
        let Some(observation) = observe::observe(&folder, &self.boot_id).map_err(failed)? else {
            self.be_sure_of_the_disk()?;
            return Ok(Observation::Gone { reason: gone(attempt_id) });
        };
        if matches!(observation, Observation::Starting | Observation::Running(_)) {
            self.watch(attempt_id, &folder);
        }
        Ok(observation)
    }

    /// That a folder is not there says something only while the disk it was on is there.
    fn be_sure_of_the_disk(&self) -> Result<(), EngineError> {
        let runs_dir = self.config.runs_dir.display();
        match node::read(&self.config.runs_dir) {
            Ok(node) if node == self.node => Ok(()),
            Ok(_) => Err(EngineError::Unavailable(format!("{runs_dir} is not the data directory it was"))),
            Err(error) => Err(EngineError::Unavailable(format!("can't read the data directory {runs_dir}: {error}"))),
        }
    }

    /// Failing costs only promptness: what isn't watched is looked at from time to time.
    fn watch(&self, attempt_id: AttemptId, folder: &Folder) {
        if let Err(error) = self.watches.watch(attempt_id, folder) {
            tracing::warn!(run_id = %attempt_id.run_id, attempt = attempt_id.attempt, %error, "can't watch a supervisor");
        }
    }

    fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), EngineError> {
        let attempt_id = handle.attempt_id;
        let folder = self.folder_of(handle)?;
        match folder.send(&supervisor::stop_request(grace)) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.be_sure_of_the_disk()?;
                Err(EngineError::Gone(format!("nothing of attempt {attempt_id} runs here")))
            }
            Err(error) => Err(unavailable("stop", &error)),
        }
    }

    fn list_ours(&self) -> Result<Vec<Handle>, EngineError> {
        let attempts = folder::list(&self.config.runs_dir)
            .map_err(|error| EngineError::Unavailable(format!("can't list the local runs: {error}")))?;
        Ok(attempts.into_iter().map(|attempt_id| self.handle(attempt_id)).collect())
    }
}

/// Without the attempt's id, which every caller knows: the same trouble with many is told of once.
fn unavailable(what: &str, error: &io::Error) -> EngineError {
    EngineError::Unavailable(format!("can't {what} it: {error}"))
}

fn gone(attempt_id: AttemptId) -> String {
    format!("no attempt {attempt_id} was started here, or it was removed")
}

#[async_trait]
impl Engine for LocalEngine {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn is_tied_to_server(&self) -> bool {
        true
    }

    async fn check(&self, task: &TaskSpec) -> Result<(), EngineError> {
        let task = task.clone();
        self.blocking(move |inner| inner.check(&task)).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        let spec = spec.clone();
        self.blocking(move |inner| inner.launch(&spec)).await
    }

    async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        let handles = handles.to_vec();
        // One folder that can't be read says nothing about the others.
        let observe = |inner: &Inner, handle: &Handle| {
            inner.observe(handle).unwrap_or_else(|error| Observation::Unknown { reason: error.to_string() })
        };
        self.blocking(move |inner| Ok(handles.iter().map(|handle| observe(inner, handle)).collect())).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), EngineError> {
        let handle = handle.clone();
        self.blocking(move |inner| inner.stop(&handle, grace)).await
    }

    async fn output(&self, handle: &Handle, _from: &LogPosition) -> Result<Output, EngineError> {
        let handle = handle.clone();
        self.blocking(move |inner| inner.folder_of(&handle).map(|_| Output::InPlace)).await
    }

    async fn list_ours(&self) -> Result<Vec<Handle>, EngineError> {
        self.blocking(Inner::list_ours).await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), EngineError> {
        let attempt_id = handle.attempt_id;
        let folder = self.inner.folder_of(handle)?;
        let failed = |error: io::Error| unavailable("remove", &error);
        // A supervisor that is told to stop without a grace kills everything, and ends.
        if folder.send(&supervisor::stop_request(Duration::ZERO)).map_err(failed)? {
            let has_ended = watch::wait_for_end(&folder, LONGEST_REMOVAL).await.map_err(failed)?;
            if !has_ended {
                return Err(EngineError::Unavailable(format!("attempt {attempt_id} is still being ended")));
            }
        }
        self.blocking(move |_| remove::remove(&folder).map_err(|error| unavailable("remove", &error))).await
    }
}
