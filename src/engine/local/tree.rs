//! Deletes what a task left in its folder, and nothing else: mounted files belong to others.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Removes a folder and its contents, even if a task removed its own permissions. Deletes nothing if something is
/// mounted in it: the mounted files are not the task's.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    if let Some(point) = mount_point_in(path) {
        let reason = format!("a file system is mounted on {}; unmount it", point.display());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, reason));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn mount_point_in(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mount_points(&mountinfo).find(|point| point.starts_with(&path))
}

/// The fifth field of each line, see proc(5). Blanks in it are written as octal numbers.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| {
        let plain = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        PathBuf::from(plain)
    })
}

fn open_folders(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The type is the entry's own: a link to a folder is not a folder.
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let mountinfo =
            "36 35 98:0 /a /mnt/two\\040words rw - ext4 /dev/root rw\n37 35 0:5 / /proc rw - proc proc rw\n";
        let points: Vec<PathBuf> = mount_points(mountinfo).collect();
        assert_eq!(points, [PathBuf::from("/mnt/two words"), PathBuf::from("/proc")]);
    }
}
