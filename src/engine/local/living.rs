//! Finds live supervisors without their folders: removing or moving a running attempt's folder must not make the
//! attempt invisible and unstoppable.
//!
//! A supervisor's command line is `flotilla supervise FOLDER`, which the kernel shows for as long as it lives;
//! processes of other users do not count. Scanning all processes takes milliseconds, so it is only for folders that
//! do not answer.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, geteuid};

use crate::model::AttemptId;

/// The first words of a supervisor's command line.
pub(super) const COMMAND: [&str; 2] = ["flotilla", "supervise"];

/// Every supervisor of our user, with the folder it was started for.
pub(super) fn all() -> Vec<(PathBuf, Pid)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| folder_of(pid).map(|folder| (folder, Pid::from_raw(pid)))).collect()
}

/// The supervisor of this folder, wherever the folder was when it was started.
pub(super) fn find(folder: &Path) -> Option<Pid> {
    all().into_iter().find(|(known, _)| is_same_attempt(known, folder)).map(|(_, pid)| pid)
}

/// A folder has the name of its attempt, which is unique: a folder in a copied or moved data directory belongs to the
/// same attempt.
pub(super) fn is_same_attempt(one: &Path, other: &Path) -> bool {
    one.file_name().is_some() && one.file_name() == other.file_name()
}

/// The attempts of live supervisors whose folders are, or were, in this directory.
pub(super) fn attempts(runs_dir: &Path) -> Vec<AttemptId> {
    let is_here = |folder: &PathBuf| folder.parent() == Some(runs_dir);
    let folders = all().into_iter().map(|(folder, _)| folder).filter(is_here);
    folders.filter_map(|folder| folder.file_name()?.to_str()?.parse().ok()).collect()
}

/// Asks a supervisor to end its task, like a line written to its `control`; `false` if it has just ended.
pub(super) fn ask_to_end(supervisor: Pid, grace: Duration) -> io::Result<bool> {
    let millis = usize::try_from(grace.as_millis()).unwrap_or(usize::MAX);
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(millis) };
    // SAFETY: the value is a number, and is never used as a pointer.
    match Errno::result(unsafe { libc::sigqueue(supervisor.as_raw(), libc::SIGTERM, value) }) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The grace period that [`ask_to_end`] sent with a signal; `None` for a signal from another sender.
pub(super) fn grace_of(signal: &libc::signalfd_siginfo) -> Option<Duration> {
    (signal.ssi_code == libc::SI_QUEUE).then(|| Duration::from_millis(signal.ssi_ptr))
}

fn folder_of(pid: i32) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let command_line = fs::read(process.join("cmdline")).ok()?;
    let folder = parse_command_line(&command_line)?;
    // The owner of an inaccessible process is shown as root.
    let owner = fs::metadata(&process).ok()?.uid();
    (owner == geteuid().as_raw() || owner == 0).then_some(folder)
}

fn parse_command_line(bytes: &[u8]) -> Option<PathBuf> {
    let words: Vec<&[u8]> = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0).collect();
    match words[..] {
        [program, verb, folder] if [program, verb] == COMMAND.map(str::as_bytes) => {
            Some(OsStr::from_bytes(folder).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_known_by_its_whole_command_line() {
        assert_eq!(parse_command_line(b"flotilla\0supervise\0/a b\0"), Some("/a b".into()));
        for other in ["", "\0", "flotilla\0supervise\0", "flotilla\0supervise\0/a\0-x\0", "sh\0supervise\0/a\0"] {
            assert_eq!(parse_command_line(other.as_bytes()), None, "{other:?}");
        }
    }
}
