//! A run's log: one file an attempt, append-only, read by byte offset, followed as it grows, kept after the engine's
//! own copy is gone. The only user of log files.

mod capped;
mod end;
mod pumped;
mod read;
mod tail;

use std::io;
use std::path::{Path, PathBuf};

pub use capped::CappedLog;
pub use pumped::PumpedLog;
pub use read::{LogPiece, LogToken, NotAToken, TokenProblem};
pub use tail::Growth;

use crate::model::{AttemptId, RunId};
use tail::Tail;

/// The folder that holds all logs.
pub struct Logs {
    folder: PathBuf,
    tail: Tail,
}

impl Logs {
    /// Uses this folder, making it where it is missing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.canonicalize()?, tail: Tail::new() })
    }

    /// Where the log of an attempt is. The end of a run's id is random, so the files spread over 256 folders.
    #[must_use]
    pub fn path(&self, attempt_id: AttemptId) -> PathBuf {
        let run_id = attempt_id.run_id.to_string();
        let shard = &run_id[run_id.len() - 2..];
        self.folder.join(shard).join(format!("{attempt_id}.log"))
    }

    /// Tells when the log of an attempt grows, also before it exists.
    pub fn growth(&self, attempt_id: AttemptId) -> Growth {
        self.tail.growth(&self.path(attempt_id))
    }

    /// Removes what is stored of a run's output. Says how many bytes that frees.
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
            pumped::remove_position(&path)?;
        }
        Ok(freed)
    }
}
