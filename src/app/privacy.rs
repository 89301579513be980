//! What other users of the machine, and the server's own tasks, must not see of it.
//!
//! Definitions, variables and logs hold secrets, so nothing that the server writes is for anyone else. A task that runs as
//! the server's own user could still read the server's memory and environment through `/proc`, where the password of the
//! database is: a process that is not dumpable belongs to root there (`proc(5)`, `PR_SET_DUMPABLE` in `prctl(2)`).

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::prctl::set_dumpable;
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::config::Cluster;
use crate::engine::local::RUNS_FOLDER;

/// Only the server's user may enter or read these.
const PRIVATE: u32 = 0o700;
/// Others may pass through but not list these.
const PASSABLE_FOLDER: u32 = 0o711;

/// The access that other users of the machine need to the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Nothing,
    /// Local tasks run as other users, whose folders are below.
    HaveFoldersBelow,
}

impl Others {
    /// Only root can run tasks as other users, and only local ones have folders here.
    pub(super) fn of(clusters: &BTreeMap<String, Cluster>) -> Self {
        let is_local = |cluster: &Cluster| cluster.engine.is_of_one_machine();
        match geteuid().is_root() && clusters.values().any(is_local) {
            true => Self::HaveFoldersBelow,
            false => Self::Nothing,
        }
    }
}

/// Makes files of this process and of its supervisors private from now on, and its memory unreadable. Tasks get the usual
/// umask back. Called once, before the first file is made.
pub fn keep_private() -> io::Result<()> {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    // Programs that it starts, such as supervisors, are unaffected.
    Ok(set_dumpable(false)?)
}

/// Removes other users' permissions in an existing data directory: an older version or a person may have created it.
///
/// A file system without permissions, or a folder owned by another user, does not prevent the start.
pub(super) fn tighten(data_dir: &Path, others: Others) {
    let tightened = match others {
        Others::Nothing => limit(data_dir, PRIVATE),
        Others::HaveFoldersBelow => open_way(data_dir),
    };
    let tightened = tightened.and_then(|()| tighten_entries(data_dir));
    // An unwritable directory is refused elsewhere, with its own error.
    if let Err(error) = tightened
        && error.kind() != io::ErrorKind::ReadOnlyFilesystem
    {
        tracing::warn!(
            data_dir = %data_dir.display(),
            %error,
            "other users of the machine may be able to read the data directory: its permissions can't be changed"
        );
    }
}

/// Only the first level: users who can't enter a folder can't reach anything below. The folder of local runs has its
/// own modes.
fn tighten_entries(data_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let is_of_runs = entry.file_name() == RUNS_FOLDER;
        if (kind.is_file() || kind.is_dir()) && !is_of_runs {
            limit(&entry.path(), PRIVATE)?;
        }
    }
    Ok(())
}

/// Removes other users' permissions on an SQLite database, wherever it is, and on its companion files, including the
/// one that servers lock.
pub(super) fn tighten_database(path: &Path) {
    // The companion files are next to the resolved path. Files created later are private from the start.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match limit(Path::new(&name), PRIVATE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!(
                database = %Path::new(&name).display(),
                %error,
                "other users of the machine may be able to read the database: its permissions can't be changed"
            ),
            _ => {}
        }
    }
}

/// Others may pass through, regardless of the mode the folder was created with.
fn open_way(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    let wanted = (mode & 0o700) | PASSABLE_FOLDER;
    if wanted == mode { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(wanted)) }
}

/// Keeps only these permissions.
fn limit(path: &Path, allowed: u32) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    // The owner's permissions are left alone.
    let wanted = mode & (allowed | 0o700);
    if wanted == mode { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(wanted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let (logs, database, runs) =
            (folder.path().join("logs"), folder.path().join("flotilla.db"), folder.path().join("runs"));
        fs::create_dir(&logs).unwrap();
        fs::create_dir(&runs).unwrap();
        fs::write(&database, b"secret").unwrap();
        for (path, open) in [(folder.path(), 0o755), (&logs, 0o755), (&runs, 0o711), (&database, 0o664)] {
            fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
        }
        for (others, expected) in
            [(Others::HaveFoldersBelow, 0o711), (Others::Nothing, 0o700), (Others::HaveFoldersBelow, 0o711)]
        {
            tighten(folder.path(), others);
            assert_eq!(mode(folder.path()), expected);
            assert_eq!((mode(&logs), mode(&database), mode(&runs)), (0o700, 0o600, 0o711));
        }
    }

    #[test]
    fn a_database_beside_the_data_directory_is_closed_to_others_with_the_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["runs.db", "runs.db-wal", "runs.db.lock", "another.db"] {
            fs::write(path(name), b"secret").unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(0o664)).unwrap();
        }
        std::os::unix::fs::symlink(path("runs.db"), path("link.db")).unwrap();
        tighten_database(&path("link.db"));
        for (name, expected) in
            [("runs.db", 0o600), ("runs.db-wal", 0o600), ("runs.db.lock", 0o600), ("another.db", 0o664)]
        {
            assert_eq!(mode(&path(name)), expected, "{name}");
        }
    }
}
