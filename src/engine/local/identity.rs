//! The identity of a folder of runs. Handles carry it, so that a server with another data directory on the same
//! database does not consider runs lost that it merely can't see.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

use super::folder::{make_folder, sync_names};

const NAME: &str = "node";

/// Creates the folder if it is missing, and its identity; both are on disk when this returns. Fails if the folder is
/// not writable.
pub(super) fn prepare(runs_dir: &Path) -> io::Result<String> {
    let above = runs_dir.parent();
    if let Some(above) = above {
        fs::create_dir_all(above)?;
    }
    match make_folder(runs_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if let Ok(identity) = read(runs_dir) {
        return Ok(identity);
    }
    // Written under another name and linked: of two concurrent servers the first wins, and neither reads a partial
    // file.
    let unfinished = runs_dir.join(format!(".{NAME}-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&unfinished)?;
    file.write_all(Uuid::new_v4().simple().to_string().as_bytes())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&unfinished, runs_dir.join(NAME)) {
        // An identity emptied by a power loss is useless.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && read(runs_dir).is_err() => {
            fs::rename(&unfinished, runs_dir.join(NAME))
        }
        linked => linked.or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        }),
    };
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => linked?,
    }
    sync_names(runs_dir)?;
    above.map_or(Ok(()), sync_names)?;
    read(runs_dir)
}

/// The identity of a folder; an error if it has none or it can't be read.
pub(super) fn read(runs_dir: &Path) -> io::Result<String> {
    let text = fs::read_to_string(runs_dir.join(NAME))?;
    let identity = text.trim();
    let is_valid = Uuid::try_parse(identity).is_ok();
    is_valid.then(|| identity.to_owned()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "`node` is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a/runs"), folder.path().join("b"));
        let identity = prepare(&first).unwrap();
        assert_eq!(prepare(&first).unwrap(), identity);
        assert_eq!(read(&first).unwrap(), identity);
        assert_ne!(prepare(&second).unwrap(), identity);
        assert_eq!(fs::read_dir(&first).unwrap().count(), 1);
    }

    #[test]
    fn an_identity_that_a_loss_of_power_emptied_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let identity = prepare(folder.path()).unwrap();
        for damaged in [vec![], vec![0; 32]] {
            fs::write(folder.path().join(NAME), damaged).unwrap();
            assert!(read(folder.path()).is_err());
            let renewed = prepare(folder.path()).unwrap();
            assert_ne!(renewed, identity);
            assert_eq!(read(folder.path()).unwrap(), renewed);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
