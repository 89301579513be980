//! Work on single attempts that may take long: a launch, a removal. Each goes on in a task of its own, so that an engine
//! that hangs over one attempt holds up neither the others nor the loops, and at most one task works on an attempt.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::model::AttemptId;

/// How many attempts one kind of engine call may be busy with at once.
const AT_ONCE: usize = 32;
/// How long a step waits for the work it began: most is done within milliseconds, and the next step sees it done.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Work {
    attempts: Arc<Mutex<HashSet<AttemptId>>>,
    pub(super) launches: Arc<Semaphore>,
    pub(super) cleanings: Arc<Semaphore>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            attempts: Arc::default(),
            launches: Arc::new(Semaphore::new(AT_ONCE)),
            cleanings: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Work {
    pub(super) fn is_on(&self, attempt_id: AttemptId) -> bool {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).contains(&attempt_id)
    }

    /// Marks that a task works on an attempt; `None` where one does, or where too many are at work: a later step comes
    /// to it. Dropping the mark ends it.
    pub(super) fn begin(&self, attempt_id: AttemptId, places: &Arc<Semaphore>) -> Option<Mark> {
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let is_new = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt_id);
        is_new.then(|| Mark { attempts: Arc::clone(&self.attempts), attempt_id, _place: place })
    }
}

/// Says that a task works on an attempt.
pub(super) struct Mark {
    attempts: Arc<Mutex<HashSet<AttemptId>>>,
    attempt_id: AttemptId,
    _place: OwnedSemaphorePermit,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.attempt_id);
    }
}

/// Does the work in a task of its own, which goes on whatever becomes of the step that began it.
pub(super) fn behind(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

/// Waits a while for work that was begun. What takes longer goes on behind.
pub(super) async fn wait_a_while(begun: Vec<JoinHandle<()>>) {
    if begun.is_empty() {
        return;
    }
    if let Ok(ended) = tokio::time::timeout(PATIENCE, join_all(begun)).await {
        for error in ended.into_iter().filter_map(Result::err) {
            tracing::error!(%error, "work on an attempt failed");
        }
    }
}
