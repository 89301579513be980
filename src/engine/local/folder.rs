//! An attempt's folder, by which the server and the attempt's supervisor know of each other.
//!
//! | name | what |
//! | --- | --- |
//! | `spec.json` | what to run; a supervisor that takes it renames it to `taken.json` and may then run the command, once and for all |
//! | `started.json` | the command runs |
//! | `exit.json` | how it ended; written last, when the log is complete |
//! | `control` | FIFO, read by the supervisor: requests to stop |
//! | `status` | FIFO, written by the supervisor: a byte when the command started; its end is the supervisor's end |
//! | `supervisor.log` | the supervisor's complaints; the lock on it says that the supervisor lives |
//! | `work/` | the command's working directory and HOME |
//!
//! A folder is made under another name and renamed: one that is seen is complete, and its lock is held.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::lock;
use super::record::{End, Spec, Start};
use crate::model::AttemptId;

const UNFINISHED: &str = ".new-";
const REMOVED: &str = ".gone-";
/// What a task's own user must be able to enter, and nobody can list.
const FOLDER_MODE: u32 = 0o711;
/// How much of a supervisor's complaints is told.
const COMPLAINT_BYTES: u64 = 2000;
/// Room kept for each of `started.json` and `exit.json`, so that they can be written also on a disk that became full.
const RESERVED_BYTES: i64 = 4096;

#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// The open ends of a folder whose lock we hold. The first three are to become a supervisor's stdin, stdout, stderr.
pub(super) struct Channels {
    pub control: File,
    pub status: File,
    pub log: File,
    pub pokes: File,
}

impl Folder {
    pub fn of(runs_dir: &Path, attempt_id: AttemptId) -> Self {
        Self(runs_dir.join(attempt_id.to_string()))
    }

    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub fn log_path(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    pub fn exists(&self) -> io::Result<bool> {
        self.0.try_exists()
    }

    /// Makes the folder with all that belongs in it; `None` where it is there already.
    pub fn create(&self, spec: &Spec) -> io::Result<Option<Channels>> {
        if self.exists()? {
            return Ok(None);
        }
        // Of two that do this at once each has its own.
        let unfinished = Self(self.sibling(UNFINISHED).with_extension(Uuid::new_v4().simple().to_string()));
        let placed = unfinished.fill(spec).and_then(|channels| match fs::rename(&unfinished.0, &self.0) {
            Ok(()) => Ok(channels),
            Err(_) if self.exists()? => Ok(None),
            Err(error) => Err(error),
        });
        if matches!(placed, Ok(Some(_))) {
            return placed;
        }
        // On a full disk it is tried again and again: nothing of it may stay.
        let removed = remove_tree(&unfinished.0);
        placed.and_then(|none| removed.map(|()| none))
    }

    fn fill(&self, spec: &Spec) -> io::Result<Option<Channels>> {
        make_folder(&self.0)?;
        make_folder(&self.work())?;
        for name in ["control", "status"] {
            mkfifo(&self.0.join(name), Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        self.write("spec.json", spec)?;
        self.reserve("started.json")?;
        self.reserve("exit.json")?;
        self.open()
    }

    /// Takes the lock and opens the ends; `None` where a supervisor has it.
    pub fn open(&self) -> io::Result<Option<Channels>> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log_path())?;
        if !lock::take(&log)? {
            return Ok(None);
        }
        // The reading end comes first: without one a FIFO can't be opened for writing.
        let pokes = self.open_status()?;
        let status = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(self.0.join("status"))?;
        let control =
            OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(self.0.join("control"))?;
        Ok(Some(Channels { control, status, log, pokes }))
    }

    /// The reading end of what the supervisor tells.
    pub fn open_status(&self) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(self.0.join("status"))
    }

    /// Whether a supervisor lives, or is just being started.
    pub fn is_supervised(&self) -> io::Result<bool> {
        lock::is_taken(&self.log_path())
    }

    /// Sends a line to the supervisor; `false` where there is none.
    pub fn send(&self, line: &str) -> io::Result<bool> {
        // The kernel may close the FIFO of one that ended a moment after it released the lock.
        if !self.is_supervised()? {
            return Ok(false);
        }
        match OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(self.0.join("control")) {
            Ok(mut control) => control.write_all(line.as_bytes()).map(|()| true),
            Err(error) if is_nobody_there(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn has_spec(&self) -> io::Result<bool> {
        self.0.join("spec.json").try_exists()
    }

    /// The spec, whether it is taken or not.
    pub fn spec(&self) -> io::Result<Option<Spec>> {
        match self.read("taken.json")? {
            None => self.read("spec.json"),
            spec => Ok(spec),
        }
    }

    /// Takes the spec: whoever gets it may run the command, and nobody gets it again.
    pub fn take_spec(&self) -> io::Result<Spec> {
        fs::rename(self.0.join("spec.json"), self.0.join("taken.json"))?;
        self.read("taken.json")?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn start(&self) -> io::Result<Option<Start>> {
        self.read("started.json")
    }

    pub fn write_start(&self, start: &Start) -> io::Result<()> {
        self.write("started.json", start)
    }

    pub fn end(&self) -> io::Result<Option<End>> {
        self.read("exit.json")
    }

    /// Tells how it ended; it is on the disk when this returns.
    pub fn write_end(&self, end: &End) -> io::Result<()> {
        let file = self.write_beside("exit.json", end)?;
        file.sync_all()?;
        self.put_in_place("exit.json")?;
        File::open(&self.0)?.sync_all()
    }

    /// What the supervisor complained of last, if of anything.
    pub fn complaint(&self) -> Option<String> {
        let mut log = File::open(self.log_path()).ok()?;
        let length = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(COMPLAINT_BYTES))).ok()?;
        let mut bytes = Vec::new();
        log.take(COMPLAINT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Removes the folder; from its first step on it is not seen any more.
    pub fn remove(&self) -> io::Result<()> {
        let removed = self.sibling(REMOVED);
        remove_tree(&removed)?;
        match fs::rename(&self.0, &removed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => remove_tree(&removed),
        }
    }

    fn sibling(&self, prefix: &str) -> PathBuf {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.0.with_file_name(format!("{prefix}{name}"))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.write_beside(name, value)?;
        self.put_in_place(name)
    }

    fn write_beside<T: Serialize>(&self, name: &str, value: &T) -> io::Result<File> {
        let json = serde_json::to_vec(value)?;
        // Not truncated before it is written: it may hold room that was reserved.
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).mode(0o600).open(self.beside(name))?;
        file.write_all(&json)?;
        file.set_len(json.len() as u64)?;
        Ok(file)
    }

    fn put_in_place(&self, name: &str) -> io::Result<()> {
        fs::rename(self.beside(name), self.0.join(name))
    }

    /// Keeps room on the disk for what is written when nothing must go wrong any more.
    fn reserve(&self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(self.beside(name))?;
        match fallocate(&file, FallocateFlags::empty(), 0, RESERVED_BYTES) {
            // Not every file system can.
            Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.new"))
    }
}

/// The attempts that have a folder.
pub(super) fn list(runs_dir: &Path) -> io::Result<Vec<AttemptId>> {
    let mut attempts = Vec::new();
    for entry in fs::read_dir(runs_dir)? {
        attempts.extend(entry?.file_name().to_str().and_then(|name| name.parse::<AttemptId>().ok()));
    }
    Ok(attempts)
}

/// Removes what a killed server left half made or half removed.
pub(super) fn sweep(runs_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(runs_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_rubbish = name.to_str().is_some_and(|name| name.starts_with(REMOVED) || name.starts_with(UNFINISHED));
        // A locked one is being made by another server at this moment.
        if is_rubbish && !Folder(entry.path()).is_supervised()? {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Nobody reads the FIFO, or there is none.
fn is_nobody_there(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENXIO as i32)
}

/// Removes a folder and all in it, also where a task took its own rights away.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_folders(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The type is the entry's own: a link to a folder is no folder.
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}
