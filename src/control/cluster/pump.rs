//! Pump: moves an attempt's output from its engine into our log as it is written, in a task of its own.
//!
//! A pump that fails is restarted at the next observation, from its last position; so is one of a restarted server.
//! Engines that write the log in place need none. `pumps.rs` keeps track of all pumps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, Fuse};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Chunk, Engine, EngineError, Handle, Output, Reports};
use crate::logs::{Logs, PumpedLog, Stored};
use crate::model::Event;

/// An engine may deliver output line by line, and a write takes longer than a line does: the first chunk is written
/// at once, and what comes within this time after a write goes into the next one. Followers of a log don't notice.
const PAUSE: Duration = Duration::from_millis(25);
/// Most bytes written at once, except for a single larger chunk.
const BATCH_BYTES: usize = 1 << 20;
/// How much output, in time, is read from the engine again after a crash: syncing the disk costs more than a write.
const SYNC_PERIOD: Duration = Duration::from_secs(5);
/// How often an idle log is tended.
const TEND_PERIOD: Duration = Duration::from_secs(30);

/// How a pump ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PumpEnd {
    /// The engine has nothing more to give: our log is whole and on the disk. `gap` says why some may be missing.
    Finished { gap: Option<String> },
    /// The engine writes the log itself.
    InPlace,
    /// It was asked to end.
    Stopped,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PumpError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the log can't be written")]
    Log(#[from] io::Error),
}

/// How far an attempt's output has been read, over all its pumps.
pub(super) struct Progress {
    reached_bytes: AtomicU64,
    moved_at: Mutex<Instant>,
    /// Whether the run's events say that the log is delayed.
    is_delay_told: AtomicBool,
}

pub(super) struct Pump {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) logs: Arc<Logs>,
    pub(super) cap_bytes: u64,
    pub(super) handle: Handle,
    pub(super) clock: Clock,
    pub(super) reports: Reports,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: CancellationToken,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            reached_bytes: AtomicU64::new(0),
            moved_at: Mutex::new(Instant::now()),
            is_delay_told: AtomicBool::new(false),
        }
    }

    /// When new output last arrived, not counting output read before.
    pub(super) fn moved_at(&self) -> Instant {
        *self.moved_at.lock()
    }

    fn reach(&self, bytes: u64) {
        if self.reached_bytes.fetch_max(bytes, Ordering::Relaxed) < bytes {
            *self.moved_at.lock() = Instant::now();
        }
    }

    /// `true` for the first of several delays in a row.
    pub(super) fn is_new_delay(&self) -> bool {
        !self.is_delay_told.swap(true, Ordering::Relaxed)
    }

    fn has_delay_ended(&self) -> bool {
        self.is_delay_told.swap(false, Ordering::Relaxed)
    }
}

impl Pump {
    pub(super) async fn run(self) -> Result<PumpEnd, PumpError> {
        // The file is not touched until the engine has said that it does not write it itself.
        let (logs, attempt_id, cap_bytes) = (Arc::clone(&self.logs), self.handle.attempt_id, self.cap_bytes);
        let stored = blocking(move || logs.stored(attempt_id, cap_bytes)).await?;
        let position = match &stored {
            Stored::Whole { gap } => return Ok(PumpEnd::Finished { gap: gap.clone() }),
            Stored::UpTo { position, .. } => position.clone(),
        };
        let output = tokio::select! {
            () = self.stop.cancelled() => return Ok(PumpEnd::Stopped),
            output = self.engine.output(&self.handle, &position) => output?,
        };
        let mut output = match output {
            Output::InPlace => return Ok(PumpEnd::InPlace),
            Output::Stream(output) => output.fuse(),
        };
        let (logs, clock) = (Arc::clone(&self.logs), self.clock.clone());
        let (log, stored) =
            blocking(move || Ok((logs.resume(attempt_id, cap_bytes, &stored, move || clock.now())?, stored))).await?;
        if let Stored::UpTo { distrust: Some(reason), .. } = stored {
            let message =
                format!("its output is read again from the beginning, as far as the cluster still has it: {reason}");
            self.note(Event::warning(self.clock.now(), "LogReadAgain", message));
        }
        let (mut log, result) = self.append_all(log, &mut output).await?;
        match result {
            Ok(PumpEnd::Finished { .. }) => blocking(move || log.finish()).await?,
            // What arrived is kept, since it need not be requested again, or may no longer be available.
            Ok(_) | Err(_) if log.is_ahead_of_disk() => blocking(move || log.sync()).await?,
            Ok(_) | Err(_) => blocking(move || log.tend()).await?,
        }
        if result.is_ok() {
            self.note_end_of_delay();
        }
        Ok(result?)
    }

    /// Appends output until it ends. An engine error is returned beside the log; a log error ends the log.
    async fn append_all(
        &self,
        mut log: PumpedLog,
        output: &mut Fuse<BoxStream<'static, Result<Chunk, EngineError>>>,
    ) -> Result<(PumpedLog, Result<PumpEnd, EngineError>), PumpError> {
        let mut gather_until = Instant::now();
        let mut sync_at = Instant::now() + SYNC_PERIOD;
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok((log, Ok(PumpEnd::Stopped))),
                next = output.next() => next,
                () = sleep_until(sync_at) => {
                    log = self.sync(log).await?;
                    sync_at = Instant::now() + TEND_PERIOD;
                    continue;
                }
            };
            let first = match next {
                None => return Ok((log, Ok(PumpEnd::Finished { gap: None }))),
                Some(Err(error)) => return Ok((log, Err(error))),
                Some(Ok(first)) => first,
            };
            if !log.is_ahead_of_disk() {
                sync_at = Instant::now() + SYNC_PERIOD;
            }
            // What was gathered is kept even if an error ended the gathering.
            let (batch, rest) = gather(first, output, gather_until).await;
            log = blocking(move || log.append(&batch.bytes, batch.marker).map(|()| log)).await?;
            self.progress.reach(log.output_bytes());
            if sync_at <= Instant::now() {
                log = self.sync(log).await?;
                sync_at = Instant::now() + TEND_PERIOD;
            }
            gather_until = Instant::now() + PAUSE;
            if let Err(error) = rest {
                return Ok((log, Err(error)));
            }
        }
    }

    /// Syncs what is not on the disk yet; a log that is fully synced is tended.
    async fn sync(&self, mut log: PumpedLog) -> Result<PumpedLog, PumpError> {
        if !log.is_ahead_of_disk() {
            return blocking(move || log.tend().map(|()| log)).await;
        }
        let log = blocking(move || log.sync().map(|()| log)).await?;
        self.note_end_of_delay();
        Ok(log)
    }

    fn note_end_of_delay(&self) {
        if self.progress.has_delay_ended() {
            self.note(Event::normal(self.clock.now(), "LogResumed", "the output is read and stored again"));
        }
    }

    fn note(&self, event: Event) {
        self.reports.note(self.handle.attempt_id, event);
    }
}

/// Runs file operations on a blocking thread, so that they don't hold up other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, PumpError> {
    Ok(spawn_blocking(work).await.map_err(io::Error::other)??)
}

/// A chunk merged with those that come until `deadline`.
async fn gather(
    first: Chunk,
    output: &mut Fuse<BoxStream<'static, Result<Chunk, EngineError>>>,
    deadline: Instant,
) -> (Chunk, Result<(), EngineError>) {
    let Chunk { bytes, mut marker } = first;
    let mut bytes = BytesMut::from(bytes);
    while bytes.len() < BATCH_BYTES {
        match timeout_at(deadline, output.next()).await {
            Ok(Some(Ok(chunk))) => {
                bytes.extend_from_slice(&chunk.bytes);
                marker = chunk.marker;
            }
            Ok(Some(Err(error))) => return (Chunk { bytes: bytes.freeze(), marker }, Err(error)),
            // A fused stream reports its end again.
            Ok(None) | Err(_) => break,
        }
    }
    (Chunk { bytes: bytes.freeze(), marker }, Ok(()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn chunk(text: &'static str) -> Chunk {
        Chunk { bytes: Bytes::from_static(text.as_bytes()), marker: Some(text.to_owned()) }
    }

    fn gone() -> EngineError {
        EngineError::Gone("it is not there".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_within_a_moment_is_one_and_what_comes_later_another() {
        let later = stream::once(async {
            tokio::time::sleep(PAUSE * 2).await;
            Ok(chunk("c"))
        });
        let mut output = stream::iter([Ok(chunk("b"))]).chain(later).boxed().fuse();
        let (batch, rest) = gather(chunk("a"), &mut output, Instant::now() + PAUSE).await;
        assert_eq!((&batch.bytes[..], batch.marker.as_deref()), (&b"ab"[..], Some("b")));
        assert!(rest.is_ok());
        assert_eq!(output.next().await.unwrap().unwrap(), chunk("c"));
    }

    #[tokio::test]
    async fn an_error_loses_nothing_that_came_before_it() {
        let mut output = stream::iter([Ok(chunk("b")), Err(gone())]).boxed().fuse();
        let (batch, rest) = gather(chunk("a"), &mut output, Instant::now() + PAUSE).await;
        assert_eq!(&batch.bytes[..], b"ab");
        assert!(matches!(rest, Err(EngineError::Gone(_))));
    }

    #[tokio::test]
    async fn the_end_is_told_to_who_asks_after_it_was_seen() {
        let mut output = stream::iter([Ok(chunk("b"))]).boxed().fuse();
        gather(chunk("a"), &mut output, Instant::now() + PAUSE).await.1.unwrap();
        assert!(output.next().await.is_none());
    }
}
