//! The log of a run: read from a token on, and followed to its end. [`super::log_lines`] tells of it as lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::{Service, ServiceError};
use crate::logs::{Growth, LogPiece, LogToken, Logs, TokenProblem};
use crate::model::{Run, RunId};
use crate::store::Store;

/// How often a follower looks although nothing was told: a notice may get lost, and another server may run the task.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

/// A piece of a log, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    pub text: String,
    pub next: LogToken,
}

impl From<LogPiece> for LogRead {
    fn from(piece: LogPiece) -> Self {
        // A log may hold any bytes; what is no character is shown as U+FFFD.
        let text = String::from_utf8(piece.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Self { text, next: piece.next }
    }
}

impl Service {
    /// A token as a client sends it; none is the beginning.
    pub fn log_token(&self, text: Option<&str>) -> Result<LogToken, ServiceError> {
        let token = text.filter(|text| !text.is_empty()).map(str::parse).transpose();
        let token =
            token.map_err(|error: crate::logs::NotAToken| ServiceError::Invalid(format!("`last_seen` {error}")))?;
        Ok(token.unwrap_or_default())
    }

    /// What came after the token, at most `most` bytes.
    pub async fn log(&self, run_id: &str, from: LogToken, most: usize) -> Result<LogRead, ServiceError> {
        let run = self.run(run_id).await?;
        read(&self.logs, &run, from, most).await.map(LogRead::from)
    }

    /// Follows a log from the token on, until the run has stopped and all is read.
    pub async fn follow(&self, run_id: &str, from: LogToken, most: usize) -> Result<LogFollower, ServiceError> {
        let watched = self.watch_log(run_id).await?;
        // A token that is not ours is refused here, before anything is streamed.
        read(&self.logs, &watched.run, from, most).await?;
        Ok(LogFollower { watched, from, most })
    }

    pub(super) async fn watch_log(&self, run_id: &str) -> Result<WatchedLog, ServiceError> {
        // Listening starts before the first look, so that nothing falls between.
        let changes = self.wake.on_change();
        let run = self.run(run_id).await?;
        let growth = self.logs.growth(run.attempt_id());
        Ok(WatchedLog { store: Arc::clone(&self.store), logs: Arc::clone(&self.logs), changes, growth, run })
    }

    /// The whole log as it is now, in pieces of bytes.
    pub async fn raw_log(&self, run_id: &str, most: usize) -> Result<LogFollower, ServiceError> {
        self.follow(run_id, LogToken::default(), most).await
    }
}

/// Reads a log piece by piece.
pub struct LogFollower {
    watched: WatchedLog,
    from: LogToken,
    most: usize,
}

impl LogFollower {
    /// The next piece that is there already; `None` at the present end.
    pub async fn next_stored(&mut self) -> Result<Option<LogPiece>, ServiceError> {
        let piece = read(&self.watched.logs, &self.watched.run, self.from, self.most).await?;
        self.from = piece.next;
        Ok(Some(piece).filter(|piece| !piece.bytes.is_empty()))
    }

    /// The next piece, waiting until there is one; `None` when the run has stopped and all was read.
    pub async fn next(&mut self) -> Result<Option<LogPiece>, ServiceError> {
        loop {
            if let Some(piece) = self.next_stored().await? {
                return Ok(Some(piece));
            }
            if is_complete(&self.watched.run) {
                return Ok(None);
            }
            self.watched.wait().await;
            self.watched.look_again().await?;
        }
    }
}

/// A log that may grow, and what tells of it.
pub(super) struct WatchedLog {
    store: Arc<Store>,
    pub(super) logs: Arc<Logs>,
    changes: broadcast::Receiver<RunId>,
    growth: Growth,
    pub(super) run: Run,
}

impl WatchedLog {
    /// Waits until there may be something new.
    pub(super) async fn wait(&mut self) {
        let run_id = self.run.run_id;
        let changes = &mut self.changes;
        let changed = async {
            // A listener that fell behind looks; one that is alone left waits for the rest.
            loop {
                match changes.recv().await {
                    Ok(id) if id != run_id => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = changed => {}
            () = self.growth.grown() => {}
            () = tokio::time::sleep(LOOK_ANYWAY) => {}
        }
    }

    /// The run as it is now.
    pub(super) async fn look_again(&mut self) -> Result<(), ServiceError> {
        let run = self.store.run(self.run.run_id).await?;
        let run = run.ok_or_else(|| ServiceError::no_run(self.run.run_id))?;
        if run.attempt_count != self.run.attempt_count {
            self.growth = self.logs.growth(run.attempt_id());
        }
        self.run = run;
        Ok(())
    }
}

/// Whether nothing will be added any more.
pub(super) const fn is_complete(run: &Run) -> bool {
    run.status.is_terminal() && run.is_log_complete
}

async fn read(logs: &Arc<Logs>, run: &Run, from: LogToken, most: usize) -> Result<LogPiece, ServiceError> {
    let logs = Arc::clone(logs);
    let (run_id, attempts) = (run.run_id, run.attempt_count);
    let is_complete = is_complete(run);
    let reading = tokio::task::spawn_blocking(move || logs.read(run_id, attempts, from, most, is_complete));
    match reading.await.map_err(std::io::Error::other)? {
        Ok(piece) => Ok(piece),
        Err(TokenProblem::Foreign(error)) => Err(ServiceError::Invalid(format!("`last_seen` {error}"))),
        Err(TokenProblem::Io(error)) => Err(error.into()),
    }
}
