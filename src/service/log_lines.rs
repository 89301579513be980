//! A run's log as lines: read by number, searched, and watched for growth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::logs::is_complete;
use super::{Acting, ServiceError};
use crate::logs::{LogToken, LogView, Logs, Pattern};
use crate::model::Run;

pub use crate::logs::{Line, Piece, Pieces, Style, WEIGHTS, whole_length};

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinesFrom {
    /// The last ones.
    End,
    /// From this number on; the first is 1.
    Line(u64),
}

/// How far a log reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// Includes a last line that has no end yet.
    pub lines: u64,
    pub bytes: u64,
    /// Whether nothing will be added any more.
    pub is_complete: bool,
}

/// Some lines that follow one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLines {
    pub found: Vec<Line>,
    pub extent: LogExtent,
}

/// The lines that contain a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogHits {
    pub lines: Vec<u64>,
    /// Where to go on; `None` at the end of the log.
    pub next: Option<LogToken>,
}

/// Where a search begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchFrom {
    Line(u64),
    /// Where an earlier search stopped.
    Token(LogToken),
}

impl Acting {
    /// At most `count` lines, fewer where they are long.
    pub async fn log_lines(&self, run: &Run, from: LinesFrom, count: usize) -> Result<LogLines, ServiceError> {
        let is_complete = is_complete(run);
        look(&self.logs, run, move |view| {
            let extent = LogExtent { lines: view.line_count(), bytes: view.bytes(), is_complete };
            let from = match from {
                LinesFrom::Line(line) => line,
                LinesFrom::End => (extent.lines + 1).saturating_sub(count as u64),
            };
            Ok(LogLines { found: view.lines(from, count)?, extent })
        })
        .await
    }

    /// The lines that contain a text, as many as one bounded search finds. Stops when the caller no longer waits.
    pub async fn find_in_log(
        &self,
        run: &Run,
        text: &str,
        is_case_sensitive: bool,
        from: SearchFrom,
    ) -> Result<LogHits, ServiceError> {
        let pattern = pattern(text, is_case_sensitive)?;
        let waiting = Waiting::default();
        let is_given_up = Arc::clone(&waiting.is_given_up);
        let found = look(&self.logs, run, move |view| {
            let from = match from {
                SearchFrom::Line(line) => view.place_of(line)?,
                SearchFrom::Token(token) => token,
            };
            view.find(&pattern, from, &is_given_up)
        });
        let found = found.await?;
        Ok(LogHits { lines: found.lines, next: found.next })
    }

    /// Those of the lines that contain the text only in a part that is not shown.
    pub async fn hits_left_out(
        &self,
        run: &Run,
        text: &str,
        is_case_sensitive: bool,
        lines: Vec<u64>,
    ) -> Result<Vec<u64>, ServiceError> {
        let pattern = pattern(text, is_case_sensitive)?;
        look(&self.logs, run, move |view| {
            let mut left_out = Vec::new();
            for line in lines {
                if !view.is_shown(&pattern, line)? {
                    left_out.push(line);
                }
            }
            Ok(left_out)
        })
        .await
    }

    /// How far the log reaches now.
    pub async fn log_extent(&self, run_id: &str) -> Result<LogExtent, ServiceError> {
        let run = self.run(run_id).await?;
        extent(&self.logs, &run).await
    }

    /// Waits until the log grows beyond `known`, or is known to be complete. Never returns for a log that is known to
    /// be complete.
    pub async fn log_growth(&self, run_id: &str, known: Option<LogExtent>) -> Result<(), ServiceError> {
        if known.is_some_and(|known| known.is_complete) {
            std::future::pending::<()>().await;
        }
        let mut watched = self.watch_log(run_id).await?;
        while known == Some(extent(&watched.logs, &watched.run).await?) {
            watched.wait().await;
            watched.look_again().await?;
        }
        Ok(())
    }
}

fn pattern(text: &str, is_case_sensitive: bool) -> Result<Pattern, ServiceError> {
    Pattern::new(text, is_case_sensitive).map_err(|error| ServiceError::Invalid(format!("`q`: {error}")))
}

/// Signals a search that its caller is gone.
#[derive(Default)]
struct Waiting {
    is_given_up: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }
}

async fn extent(logs: &Arc<Logs>, run: &Run) -> Result<LogExtent, ServiceError> {
    // The run's state is older than the log that is read: a complete log is read whole.
    let is_complete = is_complete(run);
    look(logs, run, move |view| Ok(LogExtent { lines: view.line_count(), bytes: view.bytes(), is_complete })).await
}

async fn look<T: Send + 'static>(
    logs: &Arc<Logs>,
    run: &Run,
    read: impl FnOnce(LogView) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ServiceError> {
    let logs = Arc::clone(logs);
    let (run_id, attempts) = (run.run_id, run.attempt_count);
    let reading = tokio::task::spawn_blocking(move || read(logs.view(run_id, attempts)?));
    Ok(reading.await.map_err(std::io::Error::other)??)
}
