//! An attempt's folder, through which the server and the attempt's supervisor communicate.
//!
//! | name | what |
//! | --- | --- |
//! | `spec.json` | what to run; a supervisor must rename it to `taken.json` before it runs the command, once |
//! | `started.json` | the command runs |
//! | `exit.json` | how it ended; written last, once the log is complete |
//! | `control` | FIFO, read by the supervisor: requests to stop |
//! | `status` | FIFO, written by the supervisor: a byte when the command started; its end is the supervisor's end |
//! | `supervisor.log` | the supervisor's error output; the lock on it shows that the supervisor is alive |
//! | `work/` | the command's working directory and HOME |
//!
//! A folder is created under another name and renamed: a visible folder is complete, and its lock is held.
//!
//! The taking of the spec is on disk before the command starts: after a power loss, a folder without `taken.json`
//! belongs to an attempt that never ran. Anything may happen to a folder while its command runs, so the supervisor
//! can be found without it (`living.rs`), and an end that can't be written into it is written next to it, as
//! `.end-ATTEMPT`.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::record::{End, Record, Spec, Start, stop_request};
use super::tree::remove_tree;
use super::{living, lock};
use crate::model::AttemptId;

const UNFINISHED: &str = ".new-";
const REMOVED: &str = ".gone-";
/// The end of an attempt whose folder could not store it.
const END_BESIDE: &str = ".end-";
/// The task's own user must be able to enter it; others can't list it.
const FOLDER_MODE: u32 = 0o711;
/// More than a spec ever has: a launch with its environment is one request.
const RECORD_BYTES: u64 = 64 << 20;
/// How much of a supervisor's error output is reported.
const COMPLAINT_BYTES: u64 = 2000;
/// Space reserved for each of `started.json` and `exit.json`, so that they can be written even if the disk becomes
/// full.
const RESERVED_BYTES: i64 = 4096;

#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// The open channels of a folder whose lock we hold. The first three become a supervisor's stdin, stdout and stderr.
pub(super) struct Channels {
    pub control: File,
    pub status: File,
    pub log: File,
    pub reports: File,
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

    /// Whether the folder exists, or the end next to it.
    pub fn exists(&self) -> io::Result<bool> {
        Ok(self.0.try_exists()? || self.end_beside().try_exists()?)
    }

    /// Creates the folder with its contents; `None` if it already exists.
    pub fn create(&self, spec: &Spec) -> io::Result<Option<Channels>> {
        if self.exists()? {
            return Ok(None);
        }
        // Two concurrent callers each use their own.
        let unfinished =
            Self(self.sibling(UNFINISHED).with_extension(format!("{}-{}", process_mark(), Uuid::new_v4().simple())));
        let placed = unfinished.fill(spec).and_then(|channels| match fs::rename(&unfinished.0, &self.0) {
            Ok(()) => Ok(channels),
            Err(_) if self.exists()? => Ok(None),
            Err(error) => Err(error),
        });
        if matches!(placed, Ok(Some(_))) {
            return placed;
        }
        // On a full disk this is retried many times: nothing of it may remain.
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

    /// Takes the lock and opens the channels; `None` if a supervisor holds the lock.
    pub fn open(&self) -> io::Result<Option<Channels>> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log_path())?;
        if !lock::take(&log)? {
            return Ok(None);
        }
        // The reading end comes first: without one a FIFO can't be opened for writing.
        let reports = self.open_status()?;
        let status = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(self.0.join("status"))?;
        let control =
            OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(self.0.join("control"))?;
        Ok(Some(Channels { control, status, log, reports }))
    }

    /// The reading end of the supervisor's status FIFO.
    pub fn open_status(&self) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(self.0.join("status"))
    }

    /// Whether a supervisor is alive or just being started.
    pub fn is_supervised(&self) -> io::Result<bool> {
        lock::is_taken(&self.log_path())
    }

    /// Asks the supervisor to end its task; `false` if there is none. The request reaches it even if the folder is
    /// damaged.
    pub fn send_stop(&self, grace: Duration) -> io::Result<bool> {
        match self.send(&stop_request(grace)) {
            Ok(true) => return Ok(true),
            Err(error) if says_nothing(&error) => return Err(error),
            Ok(false) | Err(_) => {}
        }
        // A supervisor that has written the end is no longer alive.
        if let Record::Is(_) = self.end()? {
            return Ok(false);
        }
        living::find(&self.0).map_or(Ok(false), |supervisor| living::ask_to_end(supervisor, grace))
    }

    /// Sends a line to the supervisor; `false` if there is no reader.
    fn send(&self, line: &str) -> io::Result<bool> {
        // The kernel may close the FIFO of an ended supervisor a moment after it released the lock.
        if !self.is_supervised()? {
            return Ok(false);
        }
        let mut options = OpenOptions::new();
        match options.write(true).custom_flags(O_NONBLOCK).open(self.0.join("control")) {
            Ok(mut control) if control.metadata()?.file_type().is_fifo() => {
                control.write_all(line.as_bytes()).map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) if is_nobody_there(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the spec exists and is untaken, whatever it contains.
    pub fn has_spec(&self) -> io::Result<bool> {
        self.0.join("spec.json").try_exists()
    }

    /// Whether the spec was taken, so that the command may have run.
    pub fn is_taken(&self) -> io::Result<bool> {
        self.0.join("taken.json").try_exists()
    }

    /// The spec, taken or not.
    pub fn spec(&self) -> io::Result<Record<Spec>> {
        match self.read("taken.json")? {
            Record::Missing => self.read("spec.json"),
            spec => Ok(spec),
        }
    }

    /// Takes the spec: only the caller that succeeds may run the command, and only one ever succeeds.
    pub fn take_spec(&self) -> io::Result<()> {
        fs::rename(self.0.join("spec.json"), self.0.join("taken.json"))
    }

    /// Syncs to disk that the spec was taken, so that after a power loss the command is not mistaken for one that
    /// never ran. Returns the spec.
    pub fn sync_taken(&self) -> io::Result<Spec> {
        File::open(self.0.join("taken.json"))?.sync_all()?;
        sync_names(&self.0)?;
        sync_names(self.runs_dir())?;
        match self.read("taken.json")? {
            Record::Is(spec) => Ok(spec),
            Record::Missing => Err(io::Error::new(io::ErrorKind::NotFound, "there is no taken.json")),
            Record::Damaged => Err(io::Error::new(io::ErrorKind::InvalidData, "taken.json is damaged")),
        }
    }

    pub fn start(&self) -> io::Result<Record<Start>> {
        self.read("started.json")
    }

    pub fn write_start(&self, start: &Start) -> io::Result<()> {
        self.write("started.json", start)
    }

    /// How the attempt ended, wherever that was written.
    pub fn end(&self) -> io::Result<Record<End>> {
        match self.read("exit.json")? {
            Record::Is(end) => Ok(Record::Is(end)),
            missing => match read(&self.end_beside())? {
                Record::Is(end) => Ok(Record::Is(end)),
                _ => Ok(missing),
            },
        }
    }

    /// Records how the attempt ended; it is on disk when this returns.
    pub fn write_end(&self, end: &End) -> io::Result<()> {
        let file = self.write_beside("exit.json", end)?;
        file.sync_all()?;
        self.put_in_place("exit.json")?;
        sync_names(&self.0)
    }

    /// Records how the attempt ended if the folder can't store it: it is gone, is not a folder, or can't be changed.
    pub fn write_end_beside(&self, end: &End) -> io::Result<()> {
        let path = self.end_beside();
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(&serde_json::to_vec(end)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_names(self.runs_dir())
    }

    pub fn runs_dir(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("/"))
    }

    /// The supervisor's last error output, if any.
    pub fn complaint(&self) -> Option<String> {
        let mut log = File::open(self.log_path()).ok()?;
        let length = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(COMPLAINT_BYTES))).ok()?;
        let mut bytes = Vec::new();
        log.take(COMPLAINT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Moves the folder out of the way under another name, which is returned: from then on it is no longer listed.
    /// `None` if it does not exist.
    pub fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        // The name may already be taken by another folder that can't be deleted.
        let removed = self.sibling(REMOVED).with_extension(Uuid::new_v4().simple().to_string());
        let aside = match fs::rename(&self.0, &removed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            Ok(()) => Some(removed),
        };
        // Last, so that a folder is never seen without its end. If this fails, the folder set aside is found again.
        match fs::remove_file(self.end_beside()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(aside),
        }
    }

    fn sibling(&self, prefix: &str) -> PathBuf {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.0.with_file_name(format!("{prefix}{name}"))
    }

    fn end_beside(&self) -> PathBuf {
        self.sibling(END_BESIDE)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Record<T>> {
        read(&self.0.join(name))
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.write_beside(name, value)?;
        self.put_in_place(name)
    }

    fn write_beside<T: Serialize>(&self, name: &str, value: &T) -> io::Result<File> {
        let json = serde_json::to_vec(value)?;
        // Not truncated before writing: it may contain reserved space.
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).mode(0o600).open(self.beside(name))?;
        file.write_all(&json)?;
        file.set_len(json.len() as u64)?;
        Ok(file)
    }

    fn put_in_place(&self, name: &str) -> io::Result<()> {
        fs::rename(self.beside(name), self.0.join(name))
    }

    /// Reserves disk space for writes that must not fail later.
    fn reserve(&self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(self.beside(name))?;
        match fallocate(&file, FallocateFlags::empty(), 0, RESERVED_BYTES) {
            // Not every file system supports it.
            Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.new"))
    }
}

/// The attempts with a folder or an end here.
pub(super) fn list(runs_dir: &Path) -> io::Result<BTreeSet<AttemptId>> {
    let mut attempts = BTreeSet::new();
    for entry in fs::read_dir(runs_dir)? {
        let name = entry?.file_name();
        let attempt = name.to_str().map(|name| name.strip_prefix(END_BESIDE).unwrap_or(name));
        attempts.extend(attempt.and_then(|name| name.parse::<AttemptId>().ok()));
    }
    Ok(attempts)
}

/// The common part of the names of this process's unfinished folders.
fn process_mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| Uuid::new_v4().simple().to_string())
}

/// What earlier servers left half created, and anything half removed, with the attempt if the name contains it.
pub(super) fn leftovers(runs_dir: &Path) -> io::Result<Vec<(PathBuf, Option<AttemptId>)>> {
    let mut leftovers = Vec::new();
    for entry in fs::read_dir(runs_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(REMOVED).or_else(|| n.strip_prefix(UNFINISHED)))
        else {
            continue;
        };
        if !rest.contains(process_mark()) {
            let attempt = rest.split('.').next().unwrap_or(rest);
            leftovers.push((entry.path(), attempt.parse().ok()));
        }
    }
    Ok(leftovers)
}

pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)?;
    // The process's umask removes more permissions.
    fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))
}

/// The FIFO has no reader, or does not exist.
fn is_nobody_there(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENXIO as i32)
}

/// Syncs a folder's entries to disk.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads a record without blocking on whatever may be in its place. An error means that nothing is known about it.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Record<T>> {
    let bytes = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).and_then(|file| {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > RECORD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        file.take(RECORD_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    });
    match bytes {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or(Record::Damaged, Record::Is)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Record::Missing)
        }
        Err(error) if says_nothing(&error) => Err(error),
        Err(_) => Ok(Record::Damaged),
    }
}

/// Whether an error concerns this process or the moment, and not the file.
pub(super) fn says_nothing(error: &io::Error) -> bool {
    use Errno::{EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(EMFILE | ENFILE | ENOMEM | ENOBUFS | EAGAIN | EINTR))
}
