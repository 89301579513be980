//! The supervisor: a small process per task that continues while the server is away.
//!
//! It is the same program, started as `flotilla supervise FOLDER` with the folder's channels as stdin, stdout and
//! stderr (see `folder.rs`). This file is its start and end; `task_loop.rs` is what it does in between.

pub(super) mod notes;
mod sink;
mod stderr;
pub(super) mod task;
pub(super) mod task_loop;
pub(super) mod usage;
pub(super) mod user;

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{fstat, stat};
use nix::unistd::{Pid, gethostname, write};

use self::notes::notes;
use self::sink::Sink;
use self::stderr::complain;
use self::task::NotStarted;
use self::task_loop::Supervisor;
use self::usage::limits_in_force;
use self::user::Choice;
use super::cgroup::{Groups, Limits};
use super::folder::Folder;
use super::processes;
use super::record::{End, Spec, Start};
use super::run_clock::RunClock;
use crate::model::{Instance, Started, TaskSpec, UsageSample};

/// How often writing the end is tried if the disk refuses it, and the pause in between: for an hour.
const END_TRIES: u32 = 3600;
const END_PAUSE: Duration = Duration::from_secs(1);
/// How long the kernel may take to notice that a group is empty.
const GROUP_TRIES: u32 = 100;
const GROUP_PAUSE: Duration = Duration::from_millis(10);

/// Runs the attempt in this folder, and returns once none of its processes is left and its end is written.
///
/// `open_log` gets the log's path and the number of bytes to keep; `tend_log` repairs external changes to its file;
/// `finish_log` syncs the whole log to disk; `note_usage` stores the attempt's usage next to it. Closes every other
/// open file of the process, so this must be the first thing that the process does.
///
/// # Errors
/// The folder was not prepared by a server for this process, or it can't be read or written. The message belongs on
/// stderr, where the server reads it.
pub fn supervise<L: Write>(
    folder: &Path,
    now: fn() -> Timestamp,
    open_log: impl FnOnce(&Path, u64) -> io::Result<L>,
    tend_log: impl Fn(&mut L) -> io::Result<()>,
    finish_log: impl FnOnce(L) -> io::Result<()>,
    note_usage: impl Fn(&Path, UsageSample) -> io::Result<()>,
) -> io::Result<()> {
    let folder = Folder::at(folder);
    let signals = become_supervisor(&folder)?;
    folder.take_spec()?;
    let spec = match folder.sync_taken() {
        Ok(spec) => spec,
        Err(error) => {
            let reason = format!("can't record on disk that the command is about to start: {error}");
            return write_end(&folder, &End::NeverRan { reason, retry: true });
        }
    };
    if let Some(open_files) = spec.open_files {
        limit_open_files(open_files);
    }
    let asked = limits_of(&spec.task);
    let (groups, limits, unmet) = Groups::make(&spec.places, &spec.attempt_id.to_string(), asked);
    let end = match begin(&folder, &spec, &groups, (limits, unmet), signals, now, open_log) {
        Err(NotStarted { reason, retry }) => End::NeverRan { reason, retry },
        Ok((mut supervisor, start)) => {
            // The command runs, so the supervisor continues whatever happens to the folder.
            if let Err(error) = folder.write_start(&start) {
                complain(format_args!("can't record that the command started: {error}"));
            }
            // It has no reader while the server is away.
            let _ = write(io::stdout().as_fd(), b"s");
            let mut is_told = false;
            let tell_usage = |sample| match note_usage(&spec.log_path, sample) {
                Err(error) if !is_told => {
                    is_told = true;
                    complain(format_args!("can't record what the task uses: {error}"));
                }
                Ok(()) | Err(_) => {}
            };
            if let Err(error) = supervisor.run(tell_usage, tend_log) {
                complain(format_args!("the supervisor can't continue: {error}"));
                supervisor.abandon();
            }
            End::Ended(Box::new(supervisor.finish(start.started, finish_log)))
        }
    };
    remove_groups(&groups);
    write_end(&folder, &end)
}

/// Detaches this process from the one that started it.
fn become_supervisor(folder: &Folder) -> io::Result<SignalFd> {
    let (own, expected) = (fstat(io::stderr().as_fd())?, stat(&folder.log_path())?);
    if (own.st_dev, own.st_ino) != (expected.st_dev, expected.st_ino) {
        return Err(io::Error::other(
            "only a server starts a supervisor: the folder's lock is not passed on to this process",
        ));
    }
    close_other_files();
    std::env::set_current_dir("/")?;
    set_name(c"flotilla")?;
    set_child_subreaper(true)?;
    // If SIGCHLD were inherited as ignored, it would hide how children end.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs none of our code.
    unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    // Only SIGKILL ends it: signals it doesn't read stay pending.
    SigSet::all().thread_block()?;
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Files left open by whatever started the server must stay open neither here nor in the task.
fn close_other_files() {
    // SAFETY: the process has just begun, and nothing in it owns a file beyond the first three.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result != 0 {
        // Before Linux 5.9.
        let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        for number in numbers.into_iter().filter(|number| *number > 2) {
            // SAFETY: as above.
            unsafe { libc::close(number) };
        }
    }
}

/// The server raised its own limit. Tasks get the original one.
fn limit_open_files(usual: u64) {
    let limited = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, usual.min(most), most));
    if let Err(error) = limited {
        complain(format_args!("can't set the limit of open files: {error}"));
    }
}

/// Starts the command, and its monitoring.
fn begin<'a, L: Write>(
    folder: &Folder,
    spec: &'a Spec,
    groups: &'a Groups,
    (limits, unmet): (Limits, Vec<String>),
    signals: SignalFd,
    now: fn() -> Timestamp,
    open_log: impl FnOnce(&Path, u64) -> io::Result<L>,
) -> Result<(Supervisor<'a, L>, Start), NotStarted> {
    let (identity, ignored_user) = match user::choose(spec.task.user.as_deref()) {
        Err(reason) => return Err(NotStarted { reason, retry: false }),
        Ok(Choice::Own) => (None, None),
        Ok(Choice::Other(identity)) => (Some(identity), None),
        Ok(Choice::Ignored(reason)) => (None, Some(reason)),
    };
    let log = open_log(&spec.log_path, spec.log_cap_bytes).map_err(|error| NotStarted {
        reason: format!("can't open the log {}: {error}", spec.log_path.display()),
        retry: true,
    })?;
    let clock = RunClock::start(now());
    let at = clock.started_at();
    let mut task = task::start(spec, folder, groups, identity.as_ref())?;
    let (limits, unmet) = match task.left_out.take() {
        None => (limits, unmet),
        Some(reason) => (Limits::default(), vec![format!("the command is not in its control groups: {reason}")]),
    };
    let start = Start {
        supervisor_pid: Pid::this().as_raw(),
        pid: task.pid.as_raw(),
        since_ticks: processes::find(task.pid).map_or(0, |process| process.start_ticks),
        started: Started {
            at,
            instance: Instance { instance_id: format!("pid-{}", task.pid), dns_name: host_name() },
            usage: limits_in_force(limits),
            image_digest: None,
            notes: notes(&spec.task, &unmet, ignored_user, at),
        },
    };
    let supervisor = Supervisor::new(spec, groups, limits, task, Sink::new(log), signals, clock);
    Ok((supervisor, start))
}

pub(super) fn limits_of(task: &TaskSpec) -> Limits {
    const MB: i64 = 1024 * 1024;
    Limits { memory_bytes: task.memory_mb.map(|mb| mb.saturating_mul(MB)), cpu_millis: task.cpu_millis }
}

fn host_name() -> String {
    gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

fn remove_groups(groups: &Groups) {
    for _ in 0..GROUP_TRIES {
        match groups.remove() {
            Ok(()) => return,
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => std::thread::sleep(GROUP_PAUSE),
            Err(_) => break,
        }
    }
    complain("can't remove the task's control groups");
}

/// Writes the end wherever that is possible, retrying because the disk may come back.
fn write_end(folder: &Folder, end: &End) -> io::Result<()> {
    for _ in 1..END_TRIES {
        let Err(error) = try_to_write_end(folder, end) else { return Ok(()) };
        // All of the server's data was removed, so the end has no reader.
        if error.kind() == io::ErrorKind::NotFound && !folder.runs_dir().parent().is_some_and(Path::exists) {
            return Ok(());
        }
        std::thread::sleep(END_PAUSE);
    }
    try_to_write_end(folder, end)
}

fn try_to_write_end(folder: &Folder, end: &End) -> io::Result<()> {
    match folder.write_end(end) {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Err(error),
        Err(_) => folder.write_end_beside(end),
        Ok(()) => Ok(()),
    }
}
