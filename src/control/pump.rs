//! Pump: moves an attempt's output from its engine into our log, as it is written, in a task of its own.
//!
//! A pump that fails is started again at the next look, from where it was; so is one of a restarted server. Engines
//! that write the log in place need none.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, Fuse};
use tokio::time::{Instant, timeout_at};

use super::Control;
use crate::clock::Clock;
use crate::engine::{Chunk, Engine, EngineError, Handle, Output};
use crate::logs::PumpedLog;
use crate::model::{AttemptId, Event};
use crate::store::ActiveAttempt;

/// An engine may tell output line by line, and a write takes longer than a line does: the first is written at once, and
/// what comes within this time after a write with the next. Nobody who follows a log notices.
const PAUSE: Duration = Duration::from_millis(25);
/// How much is written at once at most, but for a single chunk that is larger.
const BATCH_BYTES: usize = 1 << 20;

/// How far this process is with an attempt's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PumpState {
    Running,
    /// The engine has nothing more to give: our log is whole and on the disk.
    Finished,
    /// The engine writes the log itself.
    InPlace,
}

#[derive(Debug, thiserror::Error)]
enum PumpError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The output broke off for good.
    #[error("{0}")]
    Cut(String),
    #[error("the log can't be written")]
    Log(#[from] io::Error),
}

impl Control {
    /// Starts the pump of an attempt where none is at work or done.
    pub(super) fn ensure_pump(&self, attempt_id: AttemptId, handle: &Handle) -> PumpState {
        let mut pumps = self.pumps();
        if let Some(state) = pumps.get(&attempt_id) {
            return *state;
        }
        pumps.insert(attempt_id, PumpState::Running);
        drop(pumps);
        let pump = Pump {
            engine: Arc::clone(&self.engine),
            path: self.logs.path(attempt_id),
            cap_bytes: self.settings.log_cap_bytes,
            handle: handle.clone(),
            clock: self.clock.clone(),
        };
        let (pumps, pokes, clock) = (Arc::clone(&self.state.pumps), self.pokes.clone(), self.clock.clone());
        tokio::spawn(async move {
            let state = match pump.run().await {
                Ok(state) => Some(state),
                // What the engine no longer has can't be pumped; what is stored is all there is.
                Err(PumpError::Engine(EngineError::Gone(_))) => Some(PumpState::Finished),
                Err(PumpError::Cut(reason)) => {
                    let message = format!("the end of the log may be missing: {reason}");
                    pokes.note(attempt_id, Event::warning(clock.now(), "LogCut", message));
                    Some(PumpState::Finished)
                }
                Err(error) => {
                    tracing::warn!(%attempt_id, error = &error as &dyn std::error::Error, "output could not be read and is asked for again");
                    None
                }
            };
            let mut pumps = pumps.lock().unwrap_or_else(PoisonError::into_inner);
            match state {
                Some(state) => pumps.insert(attempt_id, state),
                None => pumps.remove(&attempt_id),
            };
            drop(pumps);
            if state == Some(PumpState::Finished) {
                pokes.poke(attempt_id);
            }
        });
        PumpState::Running
    }

    pub(super) fn forget_pump(&self, attempt_id: AttemptId) {
        self.pumps().remove(&attempt_id);
    }

    pub(super) fn forget_pumps_except(&self, active: &[ActiveAttempt]) {
        let active: HashSet<_> = active.iter().map(|attempt| attempt.attempt_id).collect();
        self.pumps().retain(|attempt_id, state| *state == PumpState::Running || active.contains(attempt_id));
    }

    fn pumps(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<AttemptId, PumpState>> {
        self.state.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pump {
    engine: Arc<dyn Engine>,
    path: PathBuf,
    cap_bytes: u64,
    handle: Handle,
    clock: Clock,
}

impl Pump {
    async fn run(self) -> Result<PumpState, PumpError> {
        // The file is not touched before the engine has said that it does not write it itself.
        let position = PumpedLog::position(&self.path)?;
        let mut output = match self.engine.output(&self.handle, &position).await? {
            Output::InPlace => return Ok(PumpState::InPlace),
            Output::Stream(output) => output.fuse(),
        };
        let (path, cap_bytes) = (self.path, self.cap_bytes);
        let now = move || self.clock.now();
        let opening = tokio::task::spawn_blocking(move || PumpedLog::resume(&path, cap_bytes, &position, now));
        let mut log = opening.await.map_err(io::Error::other)??;
        let mut until = Instant::now();
        while let Some(first) = output.next().await {
            // What was gathered is kept also where an error ended the gathering.
            let (batch, rest) = gather(first.map_err(of_output)?, &mut output, until).await;
            let appending = tokio::task::spawn_blocking(move || log.append(&batch.bytes, batch.marker).map(|()| log));
            log = appending.await.map_err(io::Error::other)??;
            until = Instant::now() + PAUSE;
            rest.map_err(of_output)?;
        }
        let finishing = tokio::task::spawn_blocking(move || log.finish());
        finishing.await.map_err(io::Error::other)??;
        Ok(PumpState::Finished)
    }
}

/// What an error means in the midst of output that began well.
fn of_output(error: EngineError) -> PumpError {
    match error {
        EngineError::Gone(reason) => PumpError::Cut(reason),
        other => PumpError::Engine(other),
    }
}

/// A chunk with those that come until `deadline`, as one.
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
            // A fused stream tells its end again.
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
        assert!(matches!(rest.map_err(of_output), Err(PumpError::Cut(_))));
    }

    #[tokio::test]
    async fn the_end_is_told_to_who_asks_after_it_was_seen() {
        let mut output = stream::iter([Ok(chunk("b"))]).boxed().fuse();
        gather(chunk("a"), &mut output, Instant::now() + PAUSE).await.1.unwrap();
        assert!(output.next().await.is_none());
    }
}
