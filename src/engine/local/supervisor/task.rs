//! Starts a task's process: its environment, its session, its output.
//!
//! The program is executed by execve(2) directly: the C library's `execvp` passes a file that is not executable on
//! this machine to `/bin/sh`, and the result would look like a command that ran and failed.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, PipeReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, execve, fchown, setsid};

use super::user::Identity;
use crate::engine::command::argument;
use crate::engine::local::cgroup::Groups;
use crate::engine::local::folder::Folder;
use crate::engine::local::record::Spec;

/// Where programs are searched, unless the run says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(in crate::engine::local) struct Task {
    pub pid: Pid,
    /// What the task and its descendants write, in the order written; never blocks.
    pub output: PipeReader,
    /// Why it is not in its control groups, if so.
    pub left_out: Option<String>,
}

/// Added to the error number of a program that can't be executed, to distinguish it from errors of earlier steps: a
/// forked process can return only a number.
const EXEC_FAILED: i32 = 1 << 16;

/// Why a task did not start.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine::local) struct NotStarted {
    pub reason: String,
    /// Whether it is the machine's fault, so that a retry may succeed.
    pub retry: bool,
}

/// Starts the command in the folder's working directory. When this returns a task, the shell is running.
pub(in crate::engine::local) fn start(
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
        // Otherwise the user could write to the output, but not open `/dev/stdout`.
        fchown(&input, Some(identity.uid), Some(identity.gid)).map_err(give)?;
    }
    let program = Program::new(spec, &folder.work()).map_err(|error| NotStarted {
        reason: format!("the command can't be passed to the shell: {error}"),
        retry: false,
    })?;
    let spawn = |entrances: Vec<File>| -> io::Result<Pid> {
        let mut command = Command::new("/");
        command.current_dir(folder.work()).stdin(Stdio::null());
        command.stdout(input.try_clone()?).stderr(input.try_clone()?);
        let supervisor = Pid::this();
        let (identity, program, no_new_privileges) = (identity.cloned(), program.clone(), spec.no_new_privileges);
        // SAFETY: the process that forks has one thread, so the child may do whatever its parent may.
        unsafe {
            command.pre_exec(move || {
                become_task(supervisor, &entrances, identity.as_ref(), no_new_privileges)?;
                Err(program.execute())
            });
        }
        let child = command.spawn()?;
        Ok(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?))
    };
    let entrances = groups.entrances();
    let (result, left_out) = match entrances.and_then(&spawn) {
        Ok(pid) => (Ok(pid), None),
        // The control groups may be the cause: without them it starts, or fails for another reason.
        Err(error) => (spawn(Vec::new()), Some(error.to_string())),
    };
    match result {
        Ok(pid) => Ok(Task { pid, output, left_out }),
        Err(error) => Err(not_started(spec, &error)),
    }
}

/// The arguments of execve(2).
#[derive(Clone)]
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn new(spec: &Spec, work: &Path) -> Result<Self, NulError> {
        let name = shell_of(spec);
        let command = argument(&spec.shell, &spec.task.command);
        let arguments = [name].into_iter().chain(spec.shell.iter().skip(1).map(String::as_str));
        let arguments = arguments.chain([command.as_str()]).map(CString::new).collect::<Result<_, _>>()?;
        let mut environment = BTreeMap::from([("PATH", PATH.as_bytes()), ("HOME", work.as_os_str().as_bytes())]);
        environment.extend(spec.task.env.iter().map(|var| (var.name.as_str(), var.value.as_bytes())));
        let variable = |(name, value): (&str, &[u8])| CString::new([name.as_bytes(), b"=", value].concat());
        let environment = environment.into_iter().map(variable).collect::<Result<_, _>>()?;
        let path = CString::new(find_shell(name).as_os_str().as_bytes())?;
        Ok(Self { path, arguments, environment })
    }

    /// Returns only on failure.
    fn execute(&self) -> io::Error {
        let Err(error) = execve(&self.path, &self.arguments, &self.environment);
        io::Error::from_raw_os_error(EXEC_FAILED + error as i32)
    }
}

fn shell_of(spec: &Spec) -> &str {
    spec.shell.first().map_or("sh", String::as_str)
}

/// Runs in the child between fork and exec.
fn become_task(
    supervisor: Pid,
    entrances: &[File],
    identity: Option<&Identity>,
    no_new_privileges: bool,
) -> io::Result<()> {
    for mut entrance in entrances {
        entrance.write_all(b"0")?;
    }
    setsid()?;
    umask(Mode::from_bits_truncate(0o022));
    // The supervisor blocks its signals, and a child inherits that (std does not change it).
    SigSet::empty().thread_set_mask()?;
    // Some may have been ignored by what started the server, such as `nohup`.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs none of our code.
        unsafe { sigaction(signal, &default) }?;
    }
    if let Some(identity) = identity {
        identity.assume()?;
    }
    if no_new_privileges {
        set_no_new_privs()?;
    }
    // Without the supervisor its end would not be observed. Set after the change of user, which clears it.
    set_pdeathsig(Signal::SIGKILL)?;
    // The supervisor may have died before that.
    if Pid::parent() == supervisor { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// A program without a slash is searched in the operator's path, not in the run's `PATH`.
fn find_shell(name: &str) -> PathBuf {
    let found = || PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    if name.contains('/') { name.into() } else { found().unwrap_or_else(|| name.into()) }
}

fn not_started(spec: &Spec, error: &io::Error) -> NotStarted {
    let number = error.raw_os_error().unwrap_or(0);
    if number < EXEC_FAILED {
        let (reason, retry) = match Errno::from_raw(number) {
            Errno::EAGAIN => ("the machine allows no more processes".to_owned(), true),
            _ => (format!("can't prepare a process for the command: {error}"), true),
        };
        return NotStarted { reason, retry };
    }
    let errno = Errno::from_raw(number - EXEC_FAILED);
    let shell = shell_of(spec);
    let unusable = |why: &str| (format!("the server's machine has no usable shell: `{shell}` {why}"), false);
    let (reason, retry) = match errno {
        Errno::E2BIG => ("the command and its environment are too large for this machine".to_owned(), false),
        // Resources that the machine is short of at the moment.
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO | Errno::ETXTBSY => {
            (format!("can't start the shell `{shell}`: {}", errno.desc()), true)
        }
        Errno::ENOENT => unusable("is not there, or the program that interprets it is not"),
        Errno::ENOEXEC => unusable("is no program for this machine (Exec format error)"),
        _ => unusable(&format!("can't be executed: {}", errno.desc())),
    };
    NotStarted { reason, retry }
}
