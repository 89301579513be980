//! A run's log: one file an attempt, append-only, read by byte offset or by line, searched, followed as it grows,
//! kept after the engine's own copy is gone. What the attempt used over time lies beside it. The only user of these files.

mod capped;
mod find;
mod lines;
mod lock;
mod mend;
mod position;
mod pumped;
mod read;
mod style;
mod tail;
mod times;
mod usage;
mod view;

use std::io;
use std::path::{Path, PathBuf};

pub use crate::escapes::{Piece, Pieces, whole_length};
pub use capped::CappedLog;
pub use find::{Found, MOST_HITS, NotAPattern, PATTERN_CHARS, Pattern};
pub use lock::is_busy;
pub use mend::{last_written, mend_after_power_loss};
pub use position::Stored;
pub use pumped::{PumpedLog, Sealed};
pub use read::{LogPiece, LogToken, NotAToken, TokenProblem};
pub use style::{Style, WEIGHTS};
pub use tail::Growth;
pub use usage::note_usage;
pub use view::{LINE_BYTES, Line, LogView};

use crate::model::{AttemptId, RunId};
use lines::Indexes;
use tail::Tail;

/// The folder that holds all logs.
pub struct Logs {
    folder: PathBuf,
    tail: Tail,
    indexes: Indexes,
}

impl Logs {
    /// Uses this folder, making it where it is missing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.canonicalize()?, tail: Tail::new(), indexes: Indexes::default() })
    }

    /// Where the log of an attempt is. The end of a run's id is random, so the files spread over 256 folders.
    #[must_use]
    pub fn path(&self, attempt_id: AttemptId) -> PathBuf {
        let run_id = attempt_id.run_id.to_string();
        let shard = &run_id[run_id.len() - 2..];
        self.folder.join(shard).join(format!("{attempt_id}.log"))
    }

    /// Notifies when the log of an attempt grows, also before it exists.
    pub fn growth(&self, attempt_id: AttemptId) -> Growth {
        self.tail.growth(&self.path(attempt_id))
    }

    /// Removes a run's stored output. Returns how many bytes that frees.
    pub fn remove(&self, run_id: RunId, attempts: u32) -> io::Result<u64> {
        let mut freed = 0;
        for attempt in 1..=attempts {
            let path = self.path(AttemptId { run_id, attempt });
            match std::fs::metadata(&path) {
                Ok(metadata) => {
                    std::fs::remove_file(&path)?;
                    freed += metadata.len();
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            for beside in beside(&path) {
                ignore_missing(std::fs::remove_file(beside))?;
            }
        }
        Ok(freed)
    }
}

/// What lies beside the log at this path.
fn beside(log_path: &Path) -> [PathBuf; 8] {
    [
        position::position_path(log_path),
        lines::index_path(log_path),
        times::times_path(log_path),
        usage::usage_path(log_path),
        // A crash left this file, which was about to replace another.
        log_path.with_extension("position-new"),
        log_path.with_extension("lines-new"),
        log_path.with_extension("usage-new"),
        log_path.with_extension("again"),
    ]
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What the tests of this folder begin with.
#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    pub(super) fn logs() -> (tempfile::TempDir, Logs, RunId) {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        (folder, logs, RunId::generate())
    }

    pub(super) fn write(logs: &Logs, run_id: RunId, attempt: u32, bytes: &[u8]) {
        let path = logs.path(AttemptId { run_id, attempt });
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn a_log_is_removed_with_all_that_lies_beside_it() {
        let (folder, logs, run_id) = logs();
        write(&logs, run_id, 2, b"one\n");
        let path = logs.path(AttemptId { run_id, attempt: 2 });
        for beside in beside(&path) {
            std::fs::write(beside, b"x").unwrap();
        }
        assert_eq!(logs.remove(run_id, 3).unwrap(), 4);
        let shard = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(std::fs::read_dir(shard.path()).unwrap().count(), 0);
    }
}
