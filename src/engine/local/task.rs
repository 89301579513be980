//! The start of a task's own process: its environment, its session, its output.

use std::fs::File;
use std::io::{self, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, fchown, setsid};

use super::cgroup::Groups;
use super::folder::Folder;
use super::record::Spec;
use super::user::Identity;

/// Where programs are found, unless the run says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Task {
    pub pid: Pid,
    /// What it and its descendants write, in the order written; never blocks.
    pub output: PipeReader,
    /// Why it is not in its control groups, if it isn't.
    pub left_out: Option<String>,
}

/// Why a task did not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotStarted {
    pub reason: String,
    /// Whether it is the machine's fault, and another time may do.
    pub retry: bool,
}

/// Starts the command in the folder's working directory. When this returns a task, the shell runs.
pub(super) fn start(
    spec: &Spec,
    folder: &Folder,
    groups: &Groups,
    identity: Option<&Identity>,
) -> Result<Task, NotStarted> {
    let machine =
        |what: &'static str| move |error: io::Error| NotStarted { reason: format!("{what}: {error}"), retry: true };
    let (output, input) = io::pipe().map_err(machine("can't make a pipe for the output"))?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|error| machine("can't read the output")(error.into()))?;
    if let Some(identity) = identity {
        let give = |error: Errno| machine("can't give the task's user the working directory")(error.into());
        std::os::unix::fs::chown(folder.work(), Some(identity.uid.as_raw()), Some(identity.gid.as_raw()))
            .map_err(machine("can't give the task's user the working directory"))?;
        // Or the user could write to the output, but not open `/dev/stdout`.
        fchown(&input, Some(identity.uid), Some(identity.gid)).map_err(give)?;
    }
    let shell = find_shell(spec.shell.first().map_or("sh", String::as_str));
    let spawn = |entrances: Vec<File>| -> io::Result<Pid> {
        let mut command = command(spec, &shell, &folder.work());
        command.stdout(input.try_clone()?).stderr(input.try_clone()?);
        let supervisor = Pid::this();
        let identity = identity.cloned();
        // SAFETY: the process that forks has one thread, so the child may do whatever its parent may.
        unsafe {
            command.pre_exec(move || become_task(supervisor, &entrances, identity.as_ref()));
        }
        let child = command.spawn()?;
        Ok(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?))
    };
    let entrances = groups.entrances();
    let (result, left_out) = match entrances.and_then(&spawn) {
        Ok(pid) => (Ok(pid), None),
        // It may be for the control groups: without them it starts, or fails for a reason of its own.
        Err(error) => (spawn(Vec::new()), Some(error.to_string())),
    };
    match result {
        Ok(pid) => Ok(Task { pid, output, left_out }),
        Err(error) => Err(not_started(spec, &error)),
    }
}

fn command(spec: &Spec, shell: &Path, work: &Path) -> Command {
    let mut command = Command::new(shell);
    let name = spec.shell.first().map_or("sh", String::as_str);
    command.arg0(name).args(spec.shell.iter().skip(1)).arg(&spec.task.command);
    command.env_clear().env("PATH", PATH).env("HOME", work);
    command.envs(spec.task.env.iter().map(|var| (&var.name, &var.value)));
    command.current_dir(work).stdin(Stdio::null());
    command
}

/// What the child does between fork and exec.
fn become_task(supervisor: Pid, entrances: &[File], identity: Option<&Identity>) -> io::Result<()> {
    for mut entrance in entrances {
        entrance.write_all(b"0")?;
    }
    setsid()?;
    umask(Mode::from_bits_truncate(0o022));
    // The supervisor blocks its signals, and a child inherits that (std leaves it so).
    SigSet::empty().thread_set_mask()?;
    // Some may be ignored by whoever started the server, as `nohup` does it.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs none of our code.
        unsafe { sigaction(signal, &default) }?;
    }
    if let Some(identity) = identity {
        identity.assume()?;
    }
    // Without its supervisor nobody would see how it ends. After the change of user, which clears this.
    set_pdeathsig(Signal::SIGKILL)?;
    // The supervisor may have died before that.
    if Pid::parent() == supervisor { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// A program without a slash is looked for where the operator's programs are, not where the run's `PATH` points.
fn find_shell(name: &str) -> PathBuf {
    let found = || PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    if name.contains('/') { name.into() } else { found().unwrap_or_else(|| name.into()) }
}

fn not_started(spec: &Spec, error: &io::Error) -> NotStarted {
    let shell = spec.shell.first().map_or("sh", String::as_str);
    let errno = error.raw_os_error().map(Errno::from_raw);
    let (reason, retry) = match errno {
        Some(Errno::E2BIG) => ("the command and its environment are too large for this machine".to_owned(), false),
        Some(Errno::ENOENT) => (format!("the shell `{shell}` is not on the server's machine"), false),
        Some(Errno::EACCES | Errno::ENOEXEC | Errno::EPERM | Errno::EINVAL | Errno::ELIBBAD) => {
            (format!("the shell `{shell}` can't be executed: {error}"), false)
        }
        Some(Errno::EAGAIN) => ("the machine allows no more processes".to_owned(), true),
        // A NUL in the command or its environment: no system call was made.
        None => (format!("the command can't be passed to the shell: {error}"), false),
        Some(_) => (format!("can't start the shell `{shell}`: {error}"), true),
    };
    NotStarted { reason, retry }
}
