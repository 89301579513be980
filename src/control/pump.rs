//! Pump: moves an attempt's output from its engine into our log, as it is written, in a task of its own.
//!
//! A pump that fails is started again at the next look, from where it was; so is one of a restarted server. Engines
//! that write the log in place need none.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use futures_util::StreamExt;

use super::Control;
use crate::clock::Clock;
use crate::engine::{Engine, EngineError, Handle, Output};
use crate::logs::PumpedLog;
use crate::model::AttemptId;
use crate::store::ActiveAttempt;

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
        let (pumps, pokes) = (Arc::clone(&self.state.pumps), self.pokes.clone());
        tokio::spawn(async move {
            let state = match pump.run().await {
                Ok(state) => Some(state),
                // What the engine no longer has can't be pumped; what is stored is all there is.
                Err(PumpError::Engine(EngineError::Gone(_))) => Some(PumpState::Finished),
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
            Output::Stream(output) => output,
        };
        let (path, cap_bytes) = (self.path, self.cap_bytes);
        let now = move || self.clock.now();
        let opening = tokio::task::spawn_blocking(move || PumpedLog::resume(&path, cap_bytes, &position, now));
        let mut log = opening.await.map_err(io::Error::other)??;
        while let Some(chunk) = output.next().await {
            let chunk = chunk?;
            let appending = tokio::task::spawn_blocking(move || log.append(&chunk.bytes, chunk.marker).map(|()| log));
            log = appending.await.map_err(io::Error::other)??;
        }
        let finishing = tokio::task::spawn_blocking(move || log.finish());
        finishing.await.map_err(io::Error::other)??;
        Ok(PumpState::Finished)
    }
}
