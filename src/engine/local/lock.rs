//! The lock that shows that a supervisor is alive: the kernel releases it with the process, however that ends.
//!
//! It belongs to the open file and not to the process (`F_OFD_SETLK`, see fcntl(2)): the server takes it and the
//! supervisor inherits it as its stderr, so that there is no moment without it. Unlike with flock(2), checking it
//! does not take it.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Takes the lock; `false` if it is held elsewhere.
pub(super) fn take(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the lock on this file is held; never for a file that does not exist.
pub(super) fn is_taken(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn whole_file() -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "both constants are below 3")]
    let (l_type, l_whence) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_open_file_has_the_lock_until_its_last_copy_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_taken(&path).unwrap());
        let first = File::create(&path).unwrap();
        let second = File::options().write(true).open(&path).unwrap();
        assert!(take(&first).unwrap());
        assert!(!take(&second).unwrap());
        let copy = first.try_clone().unwrap();
        drop(first);
        assert!(is_taken(&path).unwrap());
        drop(copy);
        assert!(!is_taken(&path).unwrap());
        assert!(take(&second).unwrap());
    }
}
