//! The identity of a folder of runs. A handle carries it, so that a server with another data directory on the same
//! database does not take for lost what it merely can't see.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

use super::folder::make_folder;

const NAME: &str = "node";

/// Makes the folder where it is missing, and its identity; fails where it can't be written to.
pub(super) fn prepare(runs_dir: &Path) -> io::Result<String> {
    if let Some(above) = runs_dir.parent() {
        fs::create_dir_all(above)?;
    }
    match make_folder(runs_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Written under another name and linked: of two servers that do this at once the first wins, and none reads half.
    let unfinished = runs_dir.join(format!(".{NAME}-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&unfinished)?;
    file.write_all(Uuid::new_v4().simple().to_string().as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&unfinished, runs_dir.join(NAME));
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(runs_dir),
    }
}

pub(super) fn read(runs_dir: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(runs_dir.join(NAME))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a/runs"), folder.path().join("b"));
        let node = prepare(&first).unwrap();
        assert_eq!(prepare(&first).unwrap(), node);
        assert_eq!(read(&first).unwrap(), node);
        assert_ne!(prepare(&second).unwrap(), node);
        assert_eq!(fs::read_dir(&first).unwrap().count(), 1);
    }
}
