//! A run's log: read from a token on, and followed to its end. [`super::log_lines`] provides it as lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Acting, ServiceError};
use crate::logs::{Growth, LogPiece, LogToken, Logs, TokenProblem};
use crate::model::{LOG_CUT, Run, RunId};
use crate::store::Store;

/// How often a follower polls without a notice: a notice may get lost, and another server may run the task.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);
/// How many bytes short of its size a piece may be that holds as much as it can.
const LONGEST_CHARACTER: usize = 4;

/// How long readers wait for the end of a log, counted from the first request: the engine is asked for the rest
/// during all of this time.
const IN_EARNEST: Duration = Duration::from_mins(10);
/// How long they wait after that.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// For how many runs the start of the wait is remembered.
const MOST_WAITS: usize = 10_000;

/// When waiting for each log's end began. The run's own stop time can't serve, because it may come from another
/// machine's clock.
#[derive(Default)]
pub(super) struct LogWaits(Mutex<HashMap<RunId, Instant>>);

impl LogWaits {
    /// How long a request for the end of a log may wait now.
    fn patience(&self, run_id: RunId, patience: Duration, now: Instant) -> Duration {
        let mut waits = self.0.lock();
        if waits.len() >= MOST_WAITS && !waits.contains_key(&run_id) {
            waits.clear();
        }
        let since = *waits.entry(run_id).or_insert(now);
        if now.duration_since(since) < IN_EARNEST { patience } else { patience.min(SHORT_WAIT) }
    }

    fn forget(&self, run_id: RunId) {
        self.0.lock().remove(&run_id);
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    pub bytes: Vec<u8>,
    pub next: LogToken,
    /// The run has stopped, and the end of its log is not stored yet.
    pub is_end_missing: bool,
}

impl Acting {
    /// A token as a client sends it; none is the beginning.
    pub fn log_token(&self, text: Option<&str>) -> Result<LogToken, ServiceError> {
        let token = text.filter(|text| !text.is_empty()).map(str::parse).transpose();
        let token =
            token.map_err(|error: crate::logs::NotAToken| ServiceError::Invalid(format!("`last_seen` {error}")))?;
        Ok(token.unwrap_or_default())
    }

    /// A run whose log is about to be read: if it has stopped, this waits until the last byte is stored, for at most
    /// `patience`. So clients that have observed the stop read the whole log.
    pub async fn run_with_log(&self, run_id: &str, patience: Duration) -> Result<Run, ServiceError> {
        let run = self.run(run_id).await?;
        if !is_end_missing(&run) {
            return Ok(run);
        }
        let patience = self.log_waits.patience(run.run_id, patience, Instant::now());
        let mut watched = self.watch_log(run_id).await?;
        let waiting = async {
            while is_end_missing(&watched.run) {
                watched.wait_for_change().await;
                watched.look_again().await?;
            }
            Ok(())
        };
        match timeout(patience, waiting).await {
            Ok(waited) => {
                self.log_waits.forget(run.run_id);
                waited.map(|()| watched.run)
            }
            Err(_) => Ok(watched.run),
        }
    }

    /// The log after the token, at most `most` bytes. If the run has stopped, this waits for the end of the log,
    /// unless one answer is already full.
    pub async fn log(
        &self,
        run_id: &str,
        from: LogToken,
        most: usize,
        patience: Duration,
    ) -> Result<LogRead, ServiceError> {
        let mut run = self.run(run_id).await?;
        let mut piece = read(&self.store, &self.logs, &run, from, most).await?;
        let is_full = piece.bytes.len() + LONGEST_CHARACTER > most;
        if is_end_missing(&run) && !is_full {
            run = self.run_with_log(run_id, patience).await?;
            piece = read(&self.store, &self.logs, &run, from, most).await?;
        }
        Ok(LogRead { bytes: piece.bytes, next: piece.next, is_end_missing: is_end_missing(&run) })
    }

    /// Follows a log from the token on, until the run has stopped and everything is read, or nothing has arrived for
    /// `patience` since it stopped.
    pub async fn follow(
        &self,
        run_id: &str,
        from: LogToken,
        most: usize,
        patience: Duration,
    ) -> Result<LogFollower, ServiceError> {
        let watched = self.watch_log(run_id).await?;
        // An invalid token is refused here, before anything is streamed.
        read(&self.store, &self.logs, &watched.run, from, most).await?;
        Ok(LogFollower { watched, from, most, patience, moved_at: Instant::now() })
    }

    /// The current log from the token on, in pieces of bytes. If the run has stopped, this waits for the end of the
    /// log.
    pub async fn stored_log(
        &self,
        run_id: &str,
        from: LogToken,
        most: usize,
        patience: Duration,
    ) -> Result<LogFollower, ServiceError> {
        self.run_with_log(run_id, patience).await?;
        self.follow(run_id, from, most, patience).await
    }

    pub(super) async fn watch_log(&self, run_id: &str) -> Result<WatchedLog, ServiceError> {
        // Listening starts before the first read, so that no change is missed.
        let changes = self.wake.on_change();
        let run = self.run(run_id).await?;
        let growth = self.logs.growth(run.attempt_id());
        Ok(WatchedLog { store: Arc::clone(&self.store), logs: Arc::clone(&self.logs), changes, growth, run })
    }
}

/// Reads a log piece by piece.
pub struct LogFollower {
    watched: WatchedLog,
    from: LogToken,
    most: usize,
    patience: Duration,
    /// When data last arrived, or the run last changed.
    moved_at: Instant,
}

impl LogFollower {
    /// The next available piece; `None` at the present end.
    pub async fn next_stored(&mut self) -> Result<Option<LogPiece>, ServiceError> {
        let WatchedLog { store, logs, run, .. } = &self.watched;
        let piece = read(store, logs, run, self.from, self.most).await?;
        self.from = piece.next;
        Ok(Some(piece).filter(|piece| !piece.bytes.is_empty()))
    }

    /// The next piece, waiting until there is one. `None` if the run has stopped and everything was read, or nothing
    /// has arrived within the wait: see [`LogFollower::is_end_missing`].
    pub async fn next(&mut self) -> Result<Option<LogPiece>, ServiceError> {
        loop {
            if let Some(piece) = self.next_stored().await? {
                self.moved_at = Instant::now();
                return Ok(Some(piece));
            }
            let until = match self.is_end_missing() {
                false if is_complete(&self.watched.run) => return Ok(None),
                false => None,
                true => Some(self.moved_at + self.patience),
            };
            let was_going_on = !self.watched.run.status.is_terminal();
            match until {
                None => self.watched.wait().await,
                Some(until) if timeout_at(until, self.watched.wait()).await.is_err() => return Ok(None),
                Some(_) => {}
            }
            self.watched.look_again().await?;
            if was_going_on {
                self.moved_at = Instant::now();
            }
        }
    }

    /// Whether the run has stopped, and the end of its log is not stored yet.
    #[must_use]
    pub fn is_end_missing(&self) -> bool {
        is_end_missing(&self.watched.run)
    }
}

/// A log that may grow, and its change notices.
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
        let Self { changes, growth, run, .. } = self;
        tokio::select! {
            () = changed(changes, run.run_id) => {}
            () = growth.grown() => {}
            () = tokio::time::sleep(LOOK_ANYWAY) => {}
        }
    }

    /// Waits until the run may have changed, regardless of log growth.
    async fn wait_for_change(&mut self) {
        let run_id = self.run.run_id;
        // It may take longer if another server made the change.
        let _ = timeout(LOOK_ANYWAY, changed(&mut self.changes, run_id)).await;
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

/// Returns when the run changed, or when the listener lagged and must check. Never returns if no sender is left.
async fn changed(changes: &mut broadcast::Receiver<RunId>, run_id: RunId) {
    loop {
        match changes.recv().await {
            Ok(id) if id != run_id => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Whether nothing will be added any more.
pub(super) const fn is_complete(run: &Run) -> bool {
    run.status.is_terminal() && run.is_log_complete
}

const fn is_end_missing(run: &Run) -> bool {
    run.status.is_terminal() && !run.is_log_complete
}

async fn read(
    store: &Store,
    logs: &Arc<Logs>,
    run: &Run,
    from: LogToken,
    most: usize,
) -> Result<LogPiece, ServiceError> {
    let logs = Arc::clone(logs);
    let (run_id, attempts) = (run.run_id, run.attempt_count);
    let is_complete = is_complete(run);
    let reading = tokio::task::spawn_blocking(move || logs.read(run_id, attempts, from, most, is_complete));
    match reading.await.map_err(std::io::Error::other)? {
        Ok(piece) => Ok(piece),
        // The client may have read data that a later power loss removed here.
        Err(TokenProblem::Foreign(_)) if from.attempt <= attempts && is_cut(store, run_id).await? => {
            Ok(LogPiece { bytes: Vec::new(), next: from })
        }
        Err(TokenProblem::Foreign(error)) => Err(ServiceError::Invalid(format!("`last_seen` {error}"))),
        Err(TokenProblem::Io(error)) => Err(error.into()),
    }
}

/// Whether the run's events say that the end of its log may be missing.
async fn is_cut(store: &Store, run_id: RunId) -> Result<bool, ServiceError> {
    Ok(store.has_event(run_id, LOG_CUT).await?)
}
