//! Work on single attempts that may take long: a launch, a removal. Each runs in a task of its own, and no loop waits
//! for it: an engine that is slow with one attempt holds up neither the others nor the loops. At most one task works
//! on an attempt.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::AttemptId;

/// How long running work may take to finish when the cluster changes or the server stops.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many attempts one kind of engine call may be busy with at once.
const AT_ONCE: usize = 32;

pub(super) struct Work {
    under_way: Arc<UnderWay>,
    pub(super) launches: Arc<Semaphore>,
    pub(super) cleanings: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Interrupts work that has not ended in time.
    cut: CancellationToken,
}

/// The attempts being worked on, and whether an observation of each was requested meanwhile.
#[derive(Default)]
struct UnderWay {
    attempts: Mutex<HashMap<AttemptId, bool>>,
    ended: Notify,
}

impl UnderWay {
    fn attempts(&self) -> MutexGuard<'_, HashMap<AttemptId, bool>> {
        self.attempts.lock()
    }
}

impl Default for Work {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
            launches: Arc::new(Semaphore::new(AT_ONCE)),
            cleanings: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }
}

impl Work {
    /// Whether a task works on an attempt. If so, records that the caller skipped it: see [`Mark::end`].
    pub(super) fn is_on(&self, attempt_id: AttemptId) -> bool {
        self.under_way.attempts().get_mut(&attempt_id).map(|was_passed_over| *was_passed_over = true).is_some()
    }

    /// Marks an attempt as being worked on; `None` if it already is, or if too many tasks are at work: a later step
    /// gets to it. Dropping the mark ends it.
    pub(super) fn begin(&self, attempt_id: AttemptId, places: &Arc<Semaphore>) -> Option<Mark> {
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let mut attempts = self.under_way.attempts();
        if attempts.contains_key(&attempt_id) {
            return None;
        }
        attempts.insert(attempt_id, false);
        drop(attempts);
        Some(Mark { under_way: Arc::clone(&self.under_way), attempt_id, has_ended: false, _place: place })
    }

    /// Does the work in a task of its own. The work handles its own errors; panics are logged.
    pub(super) fn spawn_logged(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.cut.clone().run_until_cancelled_owned(work);
        let task = self.tasks.spawn(async move {
            work.await;
        });
        tokio::spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "work on an attempt failed");
            }
        });
    }

    /// Waits until all work has ended. Work that takes too long, such as a call that the engine does not answer, is
    /// interrupted: that is the same as a crash at this point, after which the attempt is asked for by its name.
    pub(super) async fn end(&self) {
        self.tasks.close();
        if tokio::time::timeout(PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!(number = self.tasks.len(), "work on attempts is taking too long and is cancelled");
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }

    /// Waits until no work is under way.
    pub(super) async fn until_done(&self) {
        loop {
            let ended = self.under_way.ended.notified();
            tokio::pin!(ended);
            // Before the check, so that no end is missed in between.
            ended.as_mut().enable();
            if self.under_way.attempts().is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Marks an attempt as being worked on by a task.
pub(super) struct Mark {
    under_way: Arc<UnderWay>,
    attempt_id: AttemptId,
    has_ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Mark {
    /// Returns whether an observation of the attempt was requested meanwhile and has to be repeated.
    #[must_use]
    pub(super) fn end(mut self) -> bool {
        self.remove()
    }

    fn remove(&mut self) -> bool {
        // Only once: another task may work on the attempt right after.
        if std::mem::replace(&mut self.has_ended, true) {
            return false;
        }
        let was_passed_over = self.under_way.attempts().remove(&self.attempt_id).unwrap_or(false);
        self.under_way.ended.notify_waiters();
        was_passed_over
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[tokio::test]
    async fn one_works_on_an_attempt_and_learns_that_it_was_passed_over() {
        let (work, attempt_id) = (Work::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        assert!(!work.is_on(attempt_id));
        let mark = work.begin(attempt_id, &work.launches).unwrap();
        assert!(work.begin(attempt_id, &work.cleanings).is_none());
        assert!(!mark.end());
        let mark = work.begin(attempt_id, &work.cleanings).unwrap();
        assert!(work.is_on(attempt_id));
        assert!(mark.end());
        assert!(!work.is_on(attempt_id));
    }

    #[tokio::test]
    async fn no_more_is_begun_than_there_are_places() {
        let work = Work::default();
        let begin = || work.begin(AttemptId { run_id: RunId::generate(), attempt: 1 }, &work.launches);
        let mut marks: Vec<_> = (0..AT_ONCE).map(|_| begin().unwrap()).collect();
        assert!(begin().is_none());
        marks.pop();
        assert!(begin().is_some());
        let (done, ()) = tokio::join!(work.until_done(), async { marks.clear() });
        assert_eq!(done, ());
    }
}
