//! All loops, and a report of each: when its last step began, when it ended, and how.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};

use crate::store::StoreError;

/// A server's loops. Clones share them.
#[derive(Clone, Default)]
pub struct LoopRegistry(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    name: &'static str,
    cluster: Option<String>,
    patience: Duration,
    /// When the oldest unfinished step began, provided that no step has ended since. A step that was cut off counts
    /// as unfinished.
    waits_since: Option<Instant>,
    last_began: Option<Instant>,
    last: Option<LastStep>,
}

#[derive(Clone)]
struct LastStep {
    ended: Instant,
    took: Duration,
    /// The last step's error.
    error: Option<String>,
    has_panicked: bool,
}

/// The known state of a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopReport {
    pub name: &'static str,
    /// `None` for a loop over the whole database.
    pub cluster: Option<String>,
    /// How long ago its last step began; `None` where none has yet.
    pub began: Option<Duration>,
    /// How long ago the last completed step ended.
    pub ended: Option<Duration>,
    /// How long that step took.
    pub took: Option<Duration>,
    /// Why that step failed; `None` if it succeeded.
    pub error: Option<String>,
    pub trouble: Option<LoopTrouble>,
}

/// What is wrong with a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopTrouble {
    /// It has not ended a step within its bound; by how much it is late.
    Late(Duration),
    /// Its last step panicked, which is a bug in the program.
    Panicked,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it had not ended after {} s and was cut off", .0.as_secs())]
    TookTooLong(Duration),
    #[error("it panicked: {0}")]
    Panicked(String),
}

impl LoopRegistry {
    /// Registers a loop, whose steps may take `patience` each, until the returned value is dropped.
    #[must_use]
    pub fn register(&self, name: &'static str, cluster: Option<&str>, patience: Duration) -> RegisteredLoop {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        let cluster = cluster.map(str::to_owned);
        let entry = Entry { name, cluster, patience, waits_since: None, last_began: None, last: None };
        entries.by_number.insert(number, entry);
        RegisteredLoop { registry: self.clone(), number, patience }
    }

    /// All loops: those in trouble first, the latest of them first.
    #[must_use]
    pub fn reports(&self) -> Vec<LoopReport> {
        let mut reports: Vec<_> = self.entries().by_number.values().map(Entry::report).collect();
        reports.sort_by_key(|report| match report.trouble {
            Some(LoopTrouble::Late(since)) => (0, Duration::MAX.saturating_sub(since)),
            Some(LoopTrouble::Panicked) => (1, Duration::ZERO),
            None => (2, Duration::ZERO),
        });
        reports
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock()
    }
}

impl Entry {
    fn report(&self) -> LoopReport {
        let late = self.waits_since.map(|since| since.elapsed()).filter(|since| *since >= self.patience);
        let panicked = self.last.as_ref().is_some_and(|last| last.has_panicked).then_some(LoopTrouble::Panicked);
        LoopReport {
            name: self.name,
            cluster: self.cluster.clone(),
            began: self.last_began.map(|began| began.elapsed()),
            ended: self.last.as_ref().map(|last| last.ended.elapsed()),
            took: self.last.as_ref().map(|last| last.took),
            error: self.last.as_ref().and_then(|last| last.error.clone()),
            trouble: late.map(LoopTrouble::Late).or(panicked),
        }
    }
}

/// A loop's own entry.
pub struct RegisteredLoop {
    registry: LoopRegistry,
    number: u64,
    patience: Duration,
}

impl RegisteredLoop {
    /// Runs a step, and cuts it off if it takes too long: it is then repeated like a step that a crash ended. A step
    /// that panics is treated the same way.
    pub async fn step<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StepError> {
        self.begin();
        // Nothing of a step outlives it except the engine's and the cluster's memory, which its next step reads anew.
        let result = match timeout(self.patience, AssertUnwindSafe(step).catch_unwind()).await {
            Ok(Ok(result)) => result.map_err(StepError::Store),
            Ok(Err(panic)) => Err(StepError::Panicked(message_of(panic.as_ref()))),
            Err(_) => return Err(StepError::TookTooLong(self.patience)),
        };
        self.end(result.as_ref().err());
        result
    }

    /// Like `step`, for a step that must not be cut off, and whose panic ends the loop.
    pub async fn observe<T>(&self, step: impl Future<Output = T>) -> T {
        self.begin();
        let result = step.await;
        self.end(None);
        result
    }

    fn begin(&self) {
        if let Some(entry) = self.registry.entries().by_number.get_mut(&self.number) {
            let now = Instant::now();
            entry.last_began = Some(now);
            entry.waits_since.get_or_insert(now);
        }
    }

    fn end(&self, error: Option<&StepError>) {
        if let Some(entry) = self.registry.entries().by_number.get_mut(&self.number) {
            entry.waits_since = None;
            entry.last = Some(LastStep {
                ended: Instant::now(),
                took: entry.last_began.map(|began| began.elapsed()).unwrap_or_default(),
                error: error.map(ToString::to_string),
                has_panicked: matches!(error, Some(StepError::Panicked(_))),
            });
        }
    }
}

/// The message of a panic.
fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

impl Drop for RegisteredLoop {
    fn drop(&mut self) {
        self.registry.entries().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn troubles(registry: &LoopRegistry) -> Vec<(&'static str, Option<LoopTrouble>)> {
        registry.reports().into_iter().map(|report| (report.name, report.trouble)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_cut_off_and_its_loop_is_late_until_one_ends() {
        let registry = LoopRegistry::default();
        let watch = registry.register("watch", Some("local"), PATIENCE);
        let other = registry.register("kept_time", None, PATIENCE);
        other.step(async { Ok(()) }).await.unwrap();
        assert_eq!(troubles(&registry), [("watch", None), ("kept_time", None)]);

        for steps in 1..=2 {
            let cut = watch.step(std::future::pending::<Result<(), StoreError>>()).await;
            assert!(matches!(cut, Err(StepError::TookTooLong(PATIENCE))), "{cut:?}");
            let late = Some(LoopTrouble::Late(PATIENCE * steps));
            assert_eq!(troubles(&registry)[0], ("watch", late), "while it waits, and while the next one does");
        }
        watch
            .step(async { Err::<(), _>(StoreError::Unusable("a failed step has ended".to_owned())) })
            .await
            .unwrap_err();
        let report = &registry.reports()[0];
        assert_eq!((report.trouble, report.ended, report.took), (None, Some(Duration::ZERO), Some(Duration::ZERO)));
        assert!(report.error.as_ref().is_some_and(|error| error.contains("a failed step has ended")), "{report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_panics_is_reported_and_repeated() {
        let registry = LoopRegistry::default();
        let watch = registry.register("watch", Some("local"), PATIENCE);
        let other = registry.register("kept_time", None, PATIENCE);
        other.step(async { Ok(()) }).await.unwrap();
        let faulty = async |number: u32| if number == 7 { panic!("no number {number}") } else { Ok(number) };
        let failed = watch.step(faulty(7)).await.unwrap_err();
        assert_eq!(failed.to_string(), "it panicked: no number 7");
        assert_eq!(troubles(&registry), [("watch", Some(LoopTrouble::Panicked)), ("kept_time", None)]);
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(watch.step(faulty(8)).await.unwrap(), 8);
        assert_eq!(troubles(&registry), [("watch", None), ("kept_time", None)]);
        let report = &registry.reports()[1];
        assert_eq!((report.began, report.ended, &report.error), (Some(PATIENCE * 2), Some(PATIENCE * 2), &None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_was_ended_is_not_late() {
        let registry = LoopRegistry::default();
        let ended = registry.register("watch", Some("removed"), PATIENCE);
        let going_on = ended.observe(std::future::pending::<()>());
        assert!(timeout(PATIENCE * 2, going_on).await.is_err());
        assert_eq!(troubles(&registry), [("watch", Some(LoopTrouble::Late(PATIENCE * 2)))]);
        drop(ended);
        assert!(registry.reports().is_empty());
    }
}
