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
//! They share the folder (see `folder.rs`), so the server may end at any moment and come back, as the same or as
//! another process: nothing is lost, and nothing runs twice, because the spec can be taken only once. If the folder
//! of a running attempt is removed externally, the supervisor is found by its command line (`living.rs`).

mod capacity;
mod cgroup;
mod folder;
mod identity;
mod leftovers;
mod living;
mod lock;
mod processes;
mod read;
mod record;
mod remove;
mod run_clock;
mod settings;
mod supervisor;
mod tree;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

use self::capacity::Machine;
use self::cgroup::{Groups, Places};
use self::folder::{Channels, Folder};
use self::leftovers::Leftovers;
use self::read::Look;
use self::record::{End, Record, Spec};
use self::supervisor::user::Choice;
use self::watch::Watches;
use super::kind::{Kind, Made, Surroundings};
use super::{Engine, EngineError, EngineState, Handle, LaunchSpec, Output, Reports};
use crate::clock::Clock;
use crate::logs::Logs;
use crate::model::{AttemptId, EndCause, EngineId, EngineIdentity, Event, LogPosition, Observation, TaskSpec};

pub use cgroup::release as release_groups;
pub use settings::LocalSettings;
pub use supervisor::supervise;

/// The subfolder of the data directory that holds the folders of local runs.
pub const RUNS_FOLDER: &str = "runs";

/// How long a removal waits for a task that is being killed.
const LONGEST_REMOVAL: Duration = Duration::from_secs(10);

/// The operator's settings for local runs, and what the server provides.
#[derive(Clone)]
pub struct LocalConfig {
    /// The parent of the attempts' folders.
    pub runs_dir: PathBuf,
    pub settings: LocalSettings,
    /// The program that is started as `PROGRAM supervise FOLDER` and calls [`supervise()`].
    pub supervisor: PathBuf,
    /// The logs: they give evidence about an attempt whose folder is damaged or gone.
    pub logs: Option<Arc<Logs>>,
    /// How many files a task may have open, unless it raises its limit itself; `None` means as many as the server.
    pub open_files: Option<u64>,
}

impl LocalConfig {
    /// `sh -ec COMMAND`, supervised by the currently running program, even after it was replaced on disk.
    #[must_use]
    pub fn new(runs_dir: impl Into<PathBuf>) -> Self {
        let supervisor = "/proc/self/exe".into();
        Self { runs_dir: runs_dir.into(), settings: LocalSettings::default(), supervisor, logs: None, open_files: None }
    }
}

impl Kind for LocalSettings {
    fn is_of_one_machine(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        "the server's machine".to_owned()
    }

    fn make(&self, surroundings: &Surroundings<'_>, reports: Reports) -> Made {
        self.check_user().map_err(|reason| {
            let user = self.user.as_deref().unwrap_or_default();
            format!("the commands of cluster {} can't run as user `{user}`: {reason}", surroundings.cluster)
        })?;
        let runs_dir = surroundings.data_dir.join(RUNS_FOLDER);
        let config = LocalConfig {
            settings: self.clone(),
            logs: Some(Arc::clone(surroundings.logs)),
            open_files: surroundings.usual_open_files,
            ..LocalConfig::new(&runs_dir)
        };
        let engine = LocalEngine::new(config, reports);
        Ok(Arc::new(engine.map_err(|error| format!("cannot use the folder {}: {error}", runs_dir.display()))?))
    }
}

/// Runs tasks as processes of the server's machine.
#[derive(Clone)]
pub struct LocalEngine {
    inner: Arc<Inner>,
}

struct Inner {
    config: LocalConfig,
    known: Mutex<Known>,
    boot_id: String,
    machine: Machine,
    places: Places,
    watches: Watches,
    leftovers: Leftovers,
}

/// What distinguishes this folder of runs from another server's, once the folder is usable.
#[derive(Default)]
struct Known {
    id: Option<String>,
    state: Option<EngineState>,
}

impl LocalEngine {
    /// Detects what the machine offers. `reports` receives every start and end. A folder of runs that can't be used
    /// makes the engine unreachable until it can.
    ///
    /// # Errors
    /// The folder's path is invalid.
    #[expect(clippy::needless_pass_by_value, reason = "every engine is made of what it keeps")]
    pub fn new(config: LocalConfig, reports: Reports) -> io::Result<Self> {
        // A supervisor has another working directory.
        let runs_dir = std::path::absolute(&config.runs_dir)?;
        let leftovers = Leftovers::new(&runs_dir, reports.clone());
        let engine = Self {
            inner: Arc::new(Inner {
                config: LocalConfig { runs_dir, ..config },
                known: Mutex::default(),
                boot_id: processes::boot_id(),
                machine: Machine::of_this_server(),
                places: Places::find(),
                watches: Watches::new(reports.clone()),
                leftovers,
            }),
        };
        for reason in engine.inner.places.unmet() {
            tracing::warn!(reason, "a limit of local runs can't be enforced");
        }
        match engine.inner.server_id() {
            Ok(_) => {
                engine.inner.leftovers.begin();
                engine.inner.limit_again(&reports);
            }
            Err(error) => tracing::warn!(reason = %error, "local runs can't be started now"),
        }
        Ok(engine)
    }

    /// Runs blocking file work where it does not hold up other tasks.
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

    /// The identity of the folder of runs; prepares the folder if that was not possible before.
    fn server_id(&self) -> Result<String, EngineError> {
        let mut known = self.known.lock();
        if let Some(id) = &known.id {
            return Ok(id.clone());
        }
        let runs_dir = &self.config.runs_dir;
        match identity::prepare(runs_dir) {
            Ok(id) => {
                *known = Known { id: Some(id.clone()), state: None };
                Ok(id)
            }
            Err(error) => {
                let reason = format!("can't use the folder {}: {error}", runs_dir.display());
                known.state.get_or_insert(EngineState::Reachable).lose(reason.clone(), Clock::system().now());
                Err(EngineError::Unavailable(reason))
            }
        }
    }

    /// Sets the limits of running attempts again, if they had no effect while there was no server.
    fn limit_again(&self, reports: &Reports) {
        for attempt_id in folder::list(&self.config.runs_dir).unwrap_or_default() {
            let Ok(Record::Is(spec)) = self.folder(attempt_id).spec() else { continue };
            let groups = Groups::find(&spec.places, &attempt_id.to_string());
            for reason in groups.limit_again(supervisor::limits_of(&spec.task)) {
                let message = format!("since the server was restarted, {reason}");
                let event = Event::warning(Clock::system().now(), "LimitNotEnforced", message);
                reports.note(attempt_id, event.from_source("local"));
            }
        }
    }

    /// The handle also names the boot: an attempt launched before a reboot that left no folder never ran.
    fn handle(&self, attempt_id: AttemptId) -> Result<Handle, EngineError> {
        Ok(Handle { attempt_id, text: format!("{}/{attempt_id}/{}", self.server_id()?, self.boot_id) })
    }

    /// The folder that a handle refers to. A handle without text was never stored, and can only be ours.
    fn folder_of(&self, handle: &Handle) -> Result<Folder, EngineError> {
        let ours = self.server_id()?;
        match handle.text.split_once('/') {
            Some((theirs, _)) if theirs != ours => Err(EngineError::Unavailable(format!(
                "attempt {} belongs to another server: it was started from the data directory {theirs}, this is {ours}",
                handle.attempt_id
            ))),
            _ => Ok(self.folder(handle.attempt_id)),
        }
    }

    fn check(&self, task: &TaskSpec) -> Result<(), EngineError> {
        self.machine.check(task).map_err(EngineError::Rejected)?;
        match supervisor::user::for_task(self.config.settings.user.as_deref(), task.user.as_deref()) {
            Err(reason) => Err(EngineError::Rejected(format!("the cluster cannot support running the job: {reason}"))),
            Ok(Choice::Own | Choice::Other(_) | Choice::Ignored(_)) => Ok(()),
        }
    }

    fn launch(&self, launch: &LaunchSpec) -> Result<Handle, EngineError> {
        let attempt_id = launch.attempt_id;
        let folder = self.folder(attempt_id);
        let failed = |error: io::Error| unavailable("launch", &error);
        let handle = self.handle(attempt_id)?;
        if !folder.exists().map_err(failed)? && launch.log_path.exists() {
            // Its command may have started, and the folder was removed externally.
            return Ok(handle);
        }
        if self.config.settings.user.is_some() && !folder.exists().map_err(failed)? {
            // The settings may have changed since the launch was accepted.
            supervisor::user::for_task(self.config.settings.user.as_deref(), launch.task.user.as_deref())
                .map_err(EngineError::Rejected)?;
        }
        let spec = self.spec(launch).map_err(failed)?;
        let channels = match folder.create(&spec).map_err(failed)? {
            // A server was killed before it started the supervisor; or nothing is left to do, or it is already being
            // done.
            None if self.is_startable(&folder).map_err(failed)? => {
                folder.open().map_err(failed)?.filter(|_| folder.has_spec().unwrap_or(false))
            }
            channels => channels,
        };
        if let Some(channels) = channels {
            self.start_supervisor(attempt_id, &folder, channels)?;
        }
        Ok(handle)
    }

    /// Whether an existing folder is of this boot and has an untaken spec: a folder of another boot may have lost
    /// records of what happened.
    fn is_startable(&self, folder: &Folder) -> io::Result<bool> {
        let is_untaken = folder.has_spec()? && !folder.is_taken()?;
        Ok(is_untaken
            && matches!(folder.spec()?, Record::Is(spec) if spec.boot_id == self.boot_id && !spec.log_path.exists()))
    }

    fn spec(&self, launch: &LaunchSpec) -> io::Result<Spec> {
        Ok(Spec {
            attempt_id: launch.attempt_id,
            task: TaskSpec {
                user: self.config.settings.user.clone().or_else(|| launch.task.user.clone()),
                ..launch.task.clone()
            },
            no_new_privileges: self.config.settings.user.is_some(),
            deadline_secs: launch.execution.active_deadline_secs,
            log_path: std::path::absolute(&launch.log_path)?,
            log_cap_bytes: launch.log_cap_bytes,
            grace_ms: u64::try_from(launch.grace.as_millis()).unwrap_or(u64::MAX),
            shell: self.config.settings.shell.clone(),
            places: self.places.clone(),
            boot_id: self.boot_id.clone(),
            open_files: self.config.open_files,
        })
    }

    fn start_supervisor(&self, attempt_id: AttemptId, folder: &Folder, channels: Channels) -> Result<(), EngineError> {
        let Channels { control, status, log, reports } = channels;
        let mut command = Command::new(&self.config.supervisor);
        command.arg0("flotilla").arg("supervise").arg(folder.path());
        // Tasks get none of the server's own environment. A separate process group protects them from a Ctrl-C meant
        // for the server.
        command.env_clear().process_group(0).stdin(control).stdout(status).stderr(log);
        let started = Receiver::from_file(reports).and_then(|status| Ok((status, command.spawn()?)));
        // It holds the channels as long as it lives, and so the lock.
        drop(command);
        match started {
            Ok((status, supervisor)) => {
                self.watches.watch_own(attempt_id, folder, status, supervisor);
                Ok(())
            }
            Err(error) => {
                let program = self.config.supervisor.display();
                match folder.set_aside() {
                    Ok(aside) => aside.iter().for_each(|aside| self.leftovers.delete(aside, Some(attempt_id))),
                    Err(error) => self.leftovers.note(folder.path(), Some(attempt_id), &error.to_string()),
                }
                Err(EngineError::Unavailable(format!("can't start the supervisor {program}: {error}")))
            }
        }
    }

    fn observe(&self, look: &Look<'_>, handle: &Handle) -> Result<Observation, EngineError> {
        let attempt_id = handle.attempt_id;
        let folder = self.folder_of(handle)?;
        let launched_in = handle.text.splitn(3, '/').nth(2);
        let log = self.config.logs.as_ref().map(|logs| logs.path(attempt_id));
        let observation =
            look.observe(&folder, launched_in, log.as_deref()).map_err(|error| unavailable("observe", &error))?;
        match observation {
            Some(Observation::Starting | Observation::Running(_)) => self.watch(attempt_id, &folder),
            Some(Observation::Ended(_)) => {}
            // A folder missing from an unavailable disk proves nothing.
            _ => self.be_sure_of_the_disk()?,
        }
        Ok(observation.unwrap_or_else(|| Observation::Gone { reason: gone(attempt_id) }))
    }

    /// A missing folder proves something only while its disk is there.
    fn be_sure_of_the_disk(&self) -> Result<(), EngineError> {
        let runs_dir = self.config.runs_dir.display();
        let ours = self.server_id()?;
        match identity::read(&self.config.runs_dir) {
            Ok(found) if found == ours => Ok(()),
            Ok(_) => Err(EngineError::Unavailable(format!("{runs_dir} is not the data directory it was"))),
            Err(error) => Err(EngineError::Unavailable(format!("can't read the data directory {runs_dir}: {error}"))),
        }
    }

    /// Failure costs only promptness: an unwatched attempt is still observed periodically.
    fn watch(&self, attempt_id: AttemptId, folder: &Folder) {
        if let Err(error) = self.watches.watch(attempt_id, folder) {
            tracing::debug!(run_id = %attempt_id.run_id, attempt = attempt_id.attempt, %error, "can't watch a supervisor");
        }
    }

    fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), EngineError> {
        let attempt_id = handle.attempt_id;
        let folder = self.folder_of(handle)?;
        match folder.send_stop(grace) {
            // A supervisor lives on for a moment after it has written the end.
            Ok(true) if has_ended_by_itself(&folder) => {
                Err(EngineError::Gone(format!("attempt {attempt_id} has ended")))
            }
            Ok(true) => Ok(()),
            Ok(false) => {
                self.be_sure_of_the_disk()?;
                Err(EngineError::Gone(format!("nothing of attempt {attempt_id} runs here")))
            }
            Err(error) => Err(unavailable("stop", &error)),
        }
    }

    fn list_ours(&self) -> Result<Vec<Handle>, EngineError> {
        let mut attempts = folder::list(&self.config.runs_dir)
            .map_err(|error| EngineError::Unavailable(format!("can't list the local runs: {error}")))?;
        attempts.extend(living::attempts(&self.config.runs_dir));
        self.leftovers.begin();
        attempts.into_iter().map(|attempt_id| self.handle(attempt_id)).collect()
    }
}

/// Without the attempt's id, which every caller knows: the same problem with many attempts is reported once.
fn unavailable(what: &str, error: &io::Error) -> EngineError {
    EngineError::Unavailable(format!("can't {what} it: {error}"))
}

/// Whether the end is on disk, and was not caused by a stop. An unreadable end does not count as one.
fn has_ended_by_itself(folder: &Folder) -> bool {
    match folder.end() {
        Ok(Record::Is(End::Ended(ended))) => ended.cause != EndCause::Stopped,
        Ok(Record::Is(End::NeverRan { .. })) => true,
        Ok(_) | Err(_) => false,
    }
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

    /// The identity of the folder of runs: another folder in its place that never held them says nothing about them.
    async fn identity(&self) -> Result<EngineIdentity, EngineError> {
        self.blocking(|inner| {
            inner.server_id()?;
            let server_id = identity::read(&inner.config.runs_dir).map_err(|error| {
                let runs_dir = inner.config.runs_dir.display();
                EngineError::Unavailable(format!("can't read the data directory {runs_dir}: {error}"))
            })?;
            Ok(EngineIdentity::Known(EngineId::from_text(server_id)))
        })
        .await
    }

    fn known_identity(&self) -> Option<EngineIdentity> {
        let known = self.inner.known.lock();
        known.id.clone().map(|id| EngineIdentity::Known(EngineId::from_text(id)))
    }

    fn state(&self) -> EngineState {
        let known = self.inner.known.lock();
        known.state.clone().unwrap_or(EngineState::Reachable)
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
        // One unreadable folder says nothing about the others.
        let observe = |inner: &Inner, look: &Look<'_>, handle: &Handle| {
            inner.observe(look, handle).unwrap_or_else(|error| Observation::Unknown { reason: error.to_string() })
        };
        self.blocking(move |inner| {
            let look = Look::new(&inner.boot_id);
            Ok(handles.iter().map(|handle| observe(inner, &look, handle)).collect())
        })
        .await
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
        // A supervisor asked to stop without a grace period kills everything and ends.
        if folder.send_stop(Duration::ZERO).map_err(failed)? {
            let has_ended = watch::wait_for_end(&folder, LONGEST_REMOVAL).await.map_err(failed)?;
            if !has_ended {
                return Err(EngineError::Unavailable(format!("attempt {attempt_id} is still being ended")));
            }
        }
        self.blocking(move |inner| {
            inner.be_sure_of_the_disk()?;
            remove::remove(&folder, attempt_id, &inner.places, &inner.leftovers)
                .map_err(|error| unavailable("remove", &error))
        })
        .await
    }
}
