//! One writer per log: a writer holds the file's lock (flock(2)), within one process and across processes.
//!
//! The kernel releases the lock when its holder closes the file or ends, so a killed writer needs no cleanup. A
//! frozen writer keeps the lock: no other writer takes over, so it can't write after one has.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ignore_missing;

/// How long a lock may take to be free after its holder has let it go: a process that was started at that moment holds
/// a copy of the file until it runs its program.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// Opens a log for writing, creating it and its folder where they are missing, and takes its lock.
///
/// # Errors
/// [`is_busy`] where another writer holds the lock.
pub(super) fn open_for_writing(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    loop {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        take(&file, path)?;
        // The log may have been removed and recreated by another process before it was locked.
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// Opens a log that is there for writing, and takes its lock. `None` where there is no log.
pub(super) fn open_existing(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().append(true).read(true).open(path) {
        Ok(file) => take(&file, path).map(|()| Some(file)),
        Err(error) => ignore_missing(Err(error)).map(|()| None),
    }
}

/// Whether an error says that another writer has the log.
#[must_use]
pub fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

fn take(file: &File, path: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                let reason = format!("another process or task writes the log {}", path.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, reason));
            }
            // Some network file systems have no locks; a log there is written anyway.
            Err(TryLockError::Error(error)) if has_no_locks(&error) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(there) => {
            let ours = file.metadata()?;
            Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        }
        Err(error) => ignore_missing(Err(error)).map(|()| false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_one_writer_until_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x/x.log");
        assert!(open_existing(&path).unwrap().is_none());
        let first = open_for_writing(&path).unwrap();
        for second in [open_for_writing(&path).unwrap_err(), open_existing(&path).unwrap_err()] {
            assert!(is_busy(&second), "{second}");
            assert!(second.to_string().contains("x.log"), "{second}");
        }
        drop(first);
        assert!(open_existing(&path).unwrap().is_some());
    }

    #[test]
    fn a_log_that_was_removed_and_created_anew_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let old = open_for_writing(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = open_for_writing(&path).unwrap();
        assert!(!is_at(&old, &path).unwrap() && is_at(&new, &path).unwrap());
    }
}
