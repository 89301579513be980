//! The folder of everything that this server stores, locked against a second server.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::handover;
use super::privacy::Others;

pub(super) struct DataDir {
    pub(super) path: PathBuf,
    /// Distinguishes this folder from that of any other server.
    pub(super) server_id: String,
    _lock: File,
}

impl DataDir {
    /// Creates the folder if missing, and holds it until dropped.
    pub(super) async fn open(path: &Path, others: Others) -> anyhow::Result<Self> {
        let shown = path.display();
        if path.exists() && !path.is_dir() {
            bail!("cannot use the data directory {shown}: it is not a directory");
        }
        std::fs::create_dir_all(path).with_context(|| format!("cannot make the data directory {shown}"))?;
        let path = path.canonicalize().with_context(|| format!("cannot use the data directory {shown}"))?;
        // Before the lock: another user who can open its file could hold the lock.
        super::privacy::tighten(&path, others);
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.with_context(|| format!("cannot write to the data directory {shown}"))?;
        let is_held = |result: &Result<(), TryLockError>| matches!(result, Err(TryLockError::WouldBlock));
        match handover::wait_while(is_held, async || lock.try_lock()).await {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another flotilla server uses the data directory {shown}; stop it, or give this one another by --data-dir"
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        let server_id = read_server_id(&path.join("node"))
            .with_context(|| format!("cannot write to the data directory {shown}"))?;
        Ok(Self { path, server_id, _lock: lock })
    }
}

/// Reads the identity in this file, or creates one that survives a crash.
fn read_server_id(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(server_id) if !server_id.trim().is_empty() && !server_id.contains('\0') => Ok(server_id.trim().to_owned()),
        Ok(_) => make_server_id(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_server_id(path),
        Err(error) => Err(error),
    }
}

fn make_server_id(path: &Path) -> io::Result<String> {
    let server_id = uuid::Uuid::new_v4().to_string();
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{server_id}\n"))?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    // Runs are claimed under it from now on: a power loss must not lose it.
    let folder = path.parent().into_iter().flat_map(|folder| [Some(folder), folder.parent()]).flatten();
    folder.into_iter().try_for_each(|folder| File::open(folder)?.sync_all())?;
    Ok(server_id)
}
