//! Requeue: queues runs again when their next attempt is due. The database keeps the due time by the wall clock, for
//! people and for restarts; while this process lives, the pause is measured by a clock that never jumps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::Global;
use crate::clock::Clock;
use crate::control::loops::Loop;
use crate::model::{AttemptId, LONGEST_RETRY_DELAY, requeue};
use crate::store::{DueRun, StoreError};

/// How often the database is read for retries that other processes left.
const READ_PERIOD: SignedDuration = SignedDuration::from_secs(10);

/// When failed attempts are due to be retried, in [`Clock::elapsed`]'s time. Clones share it.
#[derive(Clone, Default)]
pub struct Retries(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    /// One was added.
    added: Notify,
}

/// In [`Clock::elapsed`]'s time.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: SignedDuration,
    /// Since when this process has known of it.
    known_since: SignedDuration,
}

#[derive(Default)]
struct Known {
    due: HashMap<AttemptId, Due>,
    /// When the database was last read.
    read_at: Option<SignedDuration>,
}

impl Retries {
    /// Adds a retry that this process has just decided.
    pub(in crate::control) fn add(&self, attempt_id: AttemptId, due_at: Timestamp, clock: &Clock) {
        let due = Due { at: due_in(due_at, clock), known_since: clock.elapsed() };
        self.lock().due.insert(attempt_id, due);
        self.0.added.notify_one();
    }

    /// Time until the next known retry is due.
    #[must_use]
    pub fn until_next(&self, clock: &Clock) -> Option<Duration> {
        let next = self.lock().due.values().map(|due| due.at).min()?;
        Some(Duration::try_from(next.saturating_sub(clock.elapsed())).unwrap_or(Duration::ZERO))
    }

    /// Waits until the next retry is due, or another one is added.
    async fn until_due(&self, clock: &Clock) {
        let next = self.until_next(clock);
        let sleep = async {
            match next {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.0.added.notified() => {}
            () = sleep => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock()
    }

    fn is_outdated(&self, clock: &Clock) -> bool {
        let known = self.lock();
        let is_old = |read_at: SignedDuration| clock.elapsed().saturating_sub(read_at) >= READ_PERIOD;
        known.read_at.is_none_or(is_old)
    }

    /// Merges the retries that were read from the database at `read_at`. One that became known since may be missing from
    /// what was read, and stays.
    fn update(&self, found: &[DueRun], read_at: SignedDuration, clock: &Clock) {
        let mut known = self.lock();
        let since = |due: &Due| due.known_since >= read_at;
        let mut due: HashMap<_, _> =
            known.due.iter().filter(|(_, due)| since(due)).map(|(id, due)| (*id, *due)).collect();
        for run in found {
            let new = || Due { at: due_in(run.due_at, clock), known_since: read_at };
            due.entry(run.attempt_id).or_insert_with(|| known.due.get(&run.attempt_id).copied().unwrap_or_else(new));
        }
        *known = Known { due, read_at: Some(read_at) };
    }

    /// The database is read at the next step: another server may have changed everything.
    pub(in crate::control) fn read_again(&self) {
        self.lock().read_at = None;
    }

    fn due_now(&self, clock: &Clock) -> Vec<AttemptId> {
        let elapsed = clock.elapsed();
        let known = self.lock();
        known.due.iter().filter(|(_, due)| due.at <= elapsed).map(|(attempt_id, _)| *attempt_id).collect()
    }

    fn forget(&self, attempt_id: AttemptId) {
        self.lock().due.remove(&attempt_id);
    }
}

/// When the retry is due, in [`Clock::elapsed`]'s time. No pause is longer than the longest, whatever the clock was
/// set to since.
fn due_in(due_at: Timestamp, clock: &Clock) -> SignedDuration {
    let left = due_at.duration_since(clock.now()).clamp(SignedDuration::ZERO, LONGEST_RETRY_DELAY);
    clock.elapsed().saturating_add(left)
}

/// Queues runs of all clusters again once their retry is due.
pub(super) struct Requeue(pub(super) Arc<Global>);

impl Loop for Requeue {
    const NAME: &'static str = "requeue";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn step(&mut self) -> Result<(), StoreError> {
        self.0.requeue_due().await
    }

    async fn is_due(&mut self) {
        self.0.retries.until_due(&self.0.clock).await;
    }
}

impl Global {
    /// Queues runs again whose retry is due.
    pub async fn requeue_due(&self) -> Result<(), StoreError> {
        let retries = &self.retries;
        if retries.is_outdated(&self.clock) {
            let read_at = self.clock.elapsed();
            let found = self.store.runs_to_retry().await?;
            retries.update(&found, read_at, &self.clock);
        }
        let mut result = Ok(());
        for attempt_id in retries.due_now(&self.clock) {
            if !self.tenure.is_held() {
                break;
            }
            // One that can't be queued now does not keep the others from it.
            match self.requeue(attempt_id).await {
                Ok(()) => retries.forget(attempt_id),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn requeue(&self, attempt_id: AttemptId) -> Result<(), StoreError> {
        // A run that has changed in the meantime is not due any more, or due again later.
        let run = self.store.run(attempt_id.run_id).await?.filter(|run| run.attempt_id() == attempt_id);
        if let Some((run, change)) = run.and_then(|run| requeue(&run, self.clock.now()).map(|change| (run, change))) {
            if self.store.apply(run.run_id, &change).await? {
                self.wake.queue();
            }
            self.wake.changed(run.run_id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    const SECOND: SignedDuration = SignedDuration::from_secs(1);

    fn found(due_at: &str) -> DueRun {
        DueRun { attempt_id: AttemptId { run_id: RunId::generate(), attempt: 1 }, due_at: due_at.parse().unwrap() }
    }

    #[test]
    fn a_pause_is_not_shortened_and_not_lengthened_by_setting_the_clock() {
        for jump in ["2036-01-01T00:00:00Z", "1996-01-01T00:00:00Z"] {
            let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
            let (retries, run) = (Retries::default(), found("2026-01-01T00:00:04Z"));
            retries.update(&[run], clock.elapsed(), &clock);
            hand.set(jump.parse().unwrap());
            hand.advance(SECOND * 3);
            retries.update(&[run], clock.elapsed(), &clock);
            assert_eq!(retries.due_now(&clock), []);
            hand.advance(SECOND);
            assert_eq!(retries.due_now(&clock), [run.attempt_id], "{jump}");
        }
    }

    #[test]
    fn what_is_due_far_in_the_future_is_due_after_the_longest_pause() {
        let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let (retries, run) = (Retries::default(), found("2036-01-01T00:00:00Z"));
        retries.update(&[run], clock.elapsed(), &clock);
        assert_eq!(retries.due_now(&clock), []);
        hand.advance(LONGEST_RETRY_DELAY);
        assert_eq!(retries.due_now(&clock), [run.attempt_id]);
    }

    #[test]
    fn one_that_was_added_while_the_database_was_read_is_kept() {
        let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let (retries, old, new) = (Retries::default(), found("2026-01-01T00:00:00Z"), found("2026-01-01T00:00:00Z"));
        retries.add(old.attempt_id, old.due_at, &clock);
        hand.advance(SECOND);
        let read_at = clock.elapsed();
        retries.add(new.attempt_id, new.due_at, &clock);
        retries.update(&[], read_at, &clock);
        assert_eq!(retries.due_now(&clock), [new.attempt_id]);
    }

    #[test]
    fn what_needs_no_retry_any_more_is_forgotten() {
        let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let (retries, run) = (Retries::default(), found("2026-01-01T00:00:00Z"));
        retries.update(&[run], clock.elapsed(), &clock);
        hand.advance(SECOND);
        retries.update(&[], clock.elapsed(), &clock);
        assert_eq!(retries.due_now(&clock), []);
    }
}
